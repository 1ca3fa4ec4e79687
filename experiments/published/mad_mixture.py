"""Are modes lost where no variance is?  (MAD, arXiv:2307.01850, its mixture of 25 modes over 2,000 generations)

    genloss run mad_mixture

Kernel estimates in place of the paper's diffusion: 2,000 rows a fit under replace, 2,000 fits, 32 chains a setting.
"copies" has bandwidth 0; "balanced" has the one at which smoothing adds to the variance, a fit, what drawing takes from
it: 2h² = tr Σ/n, h = 0.0633, against modes of standard deviation 0.05 that are 2 apart.
Result: recall falls from 0.96 to 0.02 (copies) and from 1.00 to 0.34 ± 0.02 (balanced), modes with a centre within
three standard deviations from 25 to 2.5 ± 0.1 and to 3.9 ± 0.3.  The variance stays only where it is balanced: 1.09 ±
0.13 of the truth's there, 0.39 ± 0.06 for copies, whose law is (1 - 1/n)^t = 0.37.  Any model that keeps the moments of
its rows loses variance so; that recall and modes fall and variance does not is no law of recursion, but of one amount
of smoothing.  And smoothing moves modes: 1 % of the balanced centres are still near one.

    genloss reproduce mad_mixture

The same chains; rank tests, and what is left of modes against the exact law of counts.  Result:
copies hold 2.56 ± 0.12 modes (the law: 2.29); recall and modes fall in both (p < 1e-6), the variance of balanced ones
does not (p = 0.4).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.command.reproductions import Claim, Finding, Reproduction
from generators.kde import KDE
from generators.mixture import Mixture, grid_modes
from simulator import Chain, Sweep, Truth, ensemble, simulate, theory
from simulator.probes import Fidelity
from simulator.probes.features import squared_distances
from simulator.recipe import Replace
from simulator.types import Array, Key, Probe, View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

measured = {
    "run": {"cpu_seconds": 119, "on": "two busy CPU cores", "date": "2026-11-27"},
    "reproduce": {"cpu_seconds": 56, "on": "two busy CPU cores", "date": "2026-11-27"},
}

ROWS = 2000
STD = 0.05  # of a mode
TRUTH = grid_modes(5, spacing=2.0, std=STD)
VARIANCE = 16 + 2 * STD**2  # tr Σ of the truth


@dataclass(frozen=True)
class MixtureModes:
    """Which modes of the truth the estimate still holds, and how far it spreads.

    held: modes that are the nearest to some centre; captured: modes with a centre within three of their standard
    deviations; close: share of centres that are so close to one; variance: tr Σ of the estimate, in the truth's.
    """

    def __call__(self, key: Key, view: View) -> dict[str, Array]:
        rows = view.params.rows  # [size, 2]
        square = squared_distances(rows, TRUTH.means)  # [size, 25]
        close = square < (3 * STD) ** 2  # [size, 25]: at most one each
        nearest = jnp.argmin(square, 1)  # [size]
        bandwidth = view.generator.bandwidth  # pyright: ignore[reportAttributeAccessIssue]
        return {
            "held": jnp.zeros(square.shape[1]).at[nearest].set(1.0).sum(),
            "captured": close.any(0).sum(),
            "close": close.any(1).mean(),
            "variance": (rows.var(0).sum() + rows.shape[1] * bandwidth**2) / VARIANCE,
        }


@dataclass(frozen=True)
class Every:
    """Another probe at generations 1, k, 2k, ...; NaN between them, at no cost."""

    probe: Probe
    generations: int = 50  # k

    def __call__(self, key: Key, view: View) -> Any:
        def measured() -> Any:
            return jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), self.probe(key, view))

        def skipped() -> Any:
            return jax.tree.map(lambda a: jnp.full(a.shape, jnp.nan, jnp.float32), jax.eval_shape(measured))

        due = (view.t == 0) | ((view.t + 1) % self.generations == 0)
        return jax.lax.cond(due, measured, skipped)


chain = Chain(
    source=Truth(Mixture(2, 25), TRUTH),
    generator=KDE(2, 0.0, size=ROWS),
    recipe=Replace(),
    probes={"modes": Every(MixtureModes()), "fidelity": Every(Fidelity())},
    real=ROWS,
    rows=ROWS,
    held_out=500,
)
sweep = Sweep(chain, "generator.bandwidth", {"copies": 0.0, "balanced": round(math.sqrt(VARIANCE / (2 * ROWS)), 4)})
generations = 2000
replicates = 32
every = 2000


def reproduce() -> Reproduction:
    """Both bandwidths, 2,000 generations of 2,000 rows, 32 chains each."""
    from scipy.stats import wilcoxon

    keys = jax.random.split(jax.random.key(0), replicates)
    record = ensemble(sweep.make, sweep.grid, keys, generations)
    found = {name: np.asarray(values, np.float64) for name, values in record.flat().items()}
    held = theory.expected_support(np.full(25, 1 / 25), ROWS, generations)
    variance = [_variance(bandwidth) for bandwidth in sweep.values.values()]
    findings: list[Finding | Claim] = [
        Finding.of_mean("modes held, copies", found["modes.held"][0, :, -1], theory=float(held[-1]))
    ]
    for i, name in enumerate(sweep.values):
        ours = found["modes.variance"][i, :, -1]
        findings.append(Finding.of_mean(f"variance, {name}", ours, theory=float(variance[i][-1])))
    for metric, falls in (("fidelity.recall", True), ("modes.captured", True), ("modes.variance", False)):
        for i, name in enumerate(sweep.values):
            change = found[metric][i, :, -1] - found[metric][i, :, 0]  # [replicates]
            test: Any = wilcoxon(change, alternative="less")
            what = f"{metric.partition('.')[2]} falls by a rank test at 1 %, {name} (p = {test.pvalue:.1g})"
            law = bool(variance[i][-1] < 0.9) if metric == "modes.variance" else None
            findings.append(Claim(what, bool(test.pvalue < 0.01), law, falls if name == "balanced" else None))
    return Reproduction(findings, _figure(found, held, variance, keys[0]))


def _variance(bandwidth: float) -> np.ndarray:
    """The law of `variance`, [generations]."""
    return theory.smoothed_variance(ROWS, bandwidth * math.sqrt(2 / VARIANCE), generations)


def centres(key: Key, view: View) -> Array:
    return view.params.rows


def _figure(found: dict[str, np.ndarray], held: np.ndarray, variance: list[np.ndarray], key: Key) -> Figure:
    """Above, one balanced chain; below, means of all."""
    from matplotlib.figure import Figure

    from simulator.report.figures import COLOURS

    balanced = sweep.make(sweep.values["balanced"])
    rows = simulate(replace(balanced, probes={"rows": Every(centres, 500)}), key, generations)["rows"]
    figure = Figure(figsize=(9, 5.6), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=(1, 1.15))
    above, below = parts
    for panel, t in zip(above.subplots(1, 4, sharex=True, sharey=True), (1, 500, 1000, 2000), strict=True):
        panel.scatter(*np.asarray(rows[t - 1]).T, s=1, color=COLOURS[1], lw=0)
        panel.scatter(*np.asarray(TRUTH.means).T, s=14, marker="+", color="black", lw=0.6)
        panel.set(aspect="equal", xticks=[], yticks=[], xlim=(-10, 10), ylim=(-10, 10))
        panel.set_title(f"generation {t}", fontsize=10)
    titles = {
        "fidelity.recall": "recall",
        "modes.captured": "modes captured",
        "modes.variance": "variance, of the truth's",
    }
    t = np.arange(1, generations + 1)
    panels = below.subplots(1, 3)
    for panel, (metric, title) in zip(panels, titles.items(), strict=True):
        for i, name in enumerate(sweep.values):
            seen = np.isfinite(found[metric][i, 0])  # [generations]
            values = found[metric][i][:, seen]
            mean, error = values.mean(0), 2 * values.std(0, ddof=1) / np.sqrt(len(values))
            panel.plot(t[seen], mean, color=COLOURS[i], lw=1.8, label=name)
            panel.fill_between(t[seen], mean - error, mean + error, color=COLOURS[i], alpha=0.2, lw=0)
            # The law of modes held; copies capture those too, but for rows beyond three standard deviations.
            law = {"modes.captured": held if name == "copies" else None, "modes.variance": variance[i]}.get(metric)
            if law is not None:
                panel.plot(t, law, color="black", ls="--", lw=1, label="law" if name == "copies" else None)
        panel.set_ylim(0)
        panel.set_title(title, fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
        panel.set_xlabel("generation", fontsize=9)
        panel.tick_params(labelsize=8)
    handles, labels = panels[-1].get_legend_handles_labels()
    below.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure
