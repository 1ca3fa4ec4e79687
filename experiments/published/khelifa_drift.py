"""How far does a model that only smooths drift, for each share of fresh real data?  (Khelifa 2026)

    genloss run khelifa_drift

Kernel estimates of bandwidth h = 1, an ideal diffusion stopped early: 100 rows in 16 dimensions a fit, 20 fits, 200
chains a setting.
Result: the second moment beyond the truth's, in units of h², is 20.1 ± 0.1, 8.91 ± 0.10, 1.988 ± 0.010 and
1.110 ± 0.003 at fit 20 for 0, 10, 50 and 90 % fresh rows (the law (1 - (1-α)^t)/α: 20, 8.78, 2.00 and 1.11).

    genloss reproduce khelifa_drift

The same with 4,000 chains.
Result: 19.97 ± 0.03, 8.80 ± 0.02, 1.998 ± 0.002 and 1.1087 ± 0.0007; the last is 3.4 standard errors low by
chance (20,000 other chains: 1.1110).
"""

from __future__ import annotations

import jax
import numpy as np

from experiments.command.reproductions import Finding, Reproduction
from generators.gaussian import Gaussian
from generators.kde import KDE
from simulator import Chain, Sweep, Truth, ensemble, theory
from simulator.recipe import Mix
from simulator.types import Array, Key, View

measured = {
    "run": {"cpu_seconds": 14, "on": "two busy CPU cores", "date": "2026-11-27"},
    "reproduce": {"cpu_seconds": 31, "on": "two busy CPU cores", "date": "2026-11-27"},
}

DIM, SIZE = 16, 100  # coordinates are as good as chains here, and one choice of rows serves them all
SHARES = (0.0, 0.1, 0.5, 0.9)  # of fresh real rows


def drift(key: Key, view: View) -> Array:
    """What the estimate's second moment has beyond the truth's, in units of h², which one generation alone adds."""
    bandwidth = view.generator.bandwidth  # pyright: ignore[reportAttributeAccessIssue]
    return ((view.params.rows**2).mean() - 1) / bandwidth**2 + 1  # [size, d] -> []


chain = Chain(
    source=Truth(Gaussian(DIM)),
    generator=KDE(DIM, 1.0, size=SIZE),
    recipe=Mix(real=0.1, size=SIZE, fresh=True),
    probes={"drift": drift},
    real=SIZE,
    rows=SIZE,
    fresh=90,
    held_out=0,
)
sweep = Sweep(chain, "recipe.real", {f"{share:.0%} fresh": share for share in SHARES})
generations = 20
replicates = 200
every = 20


def drifts(replicates: int, generations: int) -> np.ndarray:
    """Drift at each share of the sweep, [shares, replicates, generations]."""
    keys = jax.random.split(jax.random.key(0), replicates)
    return np.asarray(ensemble(sweep.make, sweep.grid, keys, generations)["drift"])


def reproduce() -> Reproduction:
    """All shares, 20 generations, 4,000 chains of 100 rows and 16 coordinates."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    from simulator.report.figures import COLOURS

    found = drifts(4000, generations)
    t = np.arange(1, generations + 1)
    figure = Figure(figsize=(5.6, 3.9), layout="constrained")
    panel = figure.subplots()
    findings = []
    for colour, (name, share), values in zip(COLOURS, sweep.values.items(), found, strict=False):
        law = theory.smoothed_second_moment(1.0, generations, share) - 1  # [generations]
        what = f"drift at generation {generations}, {name}"
        findings.append(Finding.of_mean(what, values[:, -1], theory=float(law[-1])))
        mean, error = values.mean(0), 2 * values.std(0, ddof=1) / np.sqrt(len(values))
        panel.plot(t, mean, color=colour, lw=1.8, label=name)
        panel.fill_between(t, mean - error, mean + error, color=colour, alpha=0.2, lw=0)
        panel.plot(t, law, color="black", ls="--", lw=1, label="law" if share == 0.9 else None)
    panel.spines[["top", "right"]].set_visible(False)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.set_title("excess second moment, in units of h²", fontsize=10)
    panel.set_xlabel("generation", fontsize=9)
    panel.tick_params(labelsize=8)
    figure.legend(loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    return Reproduction(findings, figure)
