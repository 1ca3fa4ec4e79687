"""Does the error of linear regressions on their own labels grow without bound?  (Gerstgrasser et al.,
arXiv:2404.01413; Kazdan et al. 2024, arXiv:2410.16713)

    genloss run kazdan_regression

100 rows and 10 features a generation, 100 generations, 100 replicates of each regime.  Result:
the excess risk is 11.1 ± 0.5, 0.179 ± 0.009 and 0.314 ± 0.014 for replace, accumulate and subsample (the laws: 11.2,
0.178 and, for n >> d, 0.326): it grows with every fit, or settles.

    genloss reproduce kazdan_regression

The published grid: d in 1, 3, 10, 31, 100 times n in 10, 32, 100, 316, 1,000 (n > d), three noises; replace and
accumulate by cohorts, 1,000 seeds at each noise; subsample row by row, 100 seeds at σ = 1, since any other risk is σ²
times as large.  Result: at d = 10, n = 1,000 and σ = 1 it is 1.02 ± 0.01, 0.0165 ± 0.0002 and
0.028 ± 0.001 after 100 (the laws: 1.011, 0.0165 and 0.0294).  Where n = d + 1 no mean is finite, and under subsampling
the mean of 100 seeds reaches 1e29.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from generators.cohort import Cohort
from generators.linear import Linear
from simulator import Chain, Sweep, Truth, ensemble, simulate, theory
from simulator.probes import Risk
from simulator.recipe import Accumulate, Replace, Select, Subsample, Then
from simulator.types import Array, Key, Recipe, Record

if TYPE_CHECKING:
    from experiments.command.reproductions import Reproduction

measured = {
    "run": {"cpu_seconds": 38, "on": "two busy CPU cores", "date": "2026-11-27"},
    "reproduce": {"cpu_seconds": 894, "on": "two busy CPU cores", "date": "2026-11-27"},
}

chain = Chain(
    source=Truth(Linear(10)),
    generator=Linear(10),
    recipe=Select((Replace(), Accumulate(), Then(Accumulate(), Subsample(100))), 0),
    probes={"excess_risk": Risk()},
    real=100,
    rows=100,
    held_out=0,
)
sweep = Sweep(chain, "recipe.index", {"replace": 0, "accumulate": 1, "accumulate, subsample": 2})
generations = 100
replicates = 100
every = 100

DIMS, ROWS, NOISES, ITERATIONS = (1, 3, 10, 31, 100), (10, 32, 100, 316, 1000), (0.1, 1.0, 10.0), 100


def by_cohorts(recipe: Recipe, dim: int, rows: tuple[int, ...], keys: Key, iterations: int = ITERATIONS) -> Record:
    """All noises and sizes of cohort as one program, leaves [noises, rows, keys, iterations].

    Each noise has draws of its own: with those of another, its risk would be that of the other in proportion to σ².
    """

    def make(noise: Array, n: Array) -> Chain:
        cohort = Cohort(Linear(dim, noise=noise), n)
        return Chain(
            source=Truth(cohort), generator=cohort, recipe=recipe, probes={"risk": Risk()}, real=1, rows=1, held_out=0
        )

    def at(noise: Array, index: Array) -> Record:
        own = jax.vmap(jax.random.fold_in, (0, None))(keys, index)  # [keys]
        return ensemble(partial(make, noise), jnp.array(rows), own, iterations)

    return jax.vmap(at)(jnp.array(NOISES), jnp.arange(len(NOISES)))


def row_by_row(
    recipe: Recipe, dim: int, rows: int, keys: Key, noise: float = 1.0, iterations: int = ITERATIONS, at_once: int = 10
) -> Record:
    """The same from raw rows at one noise, leaves [keys, iterations]; `at_once` chains side by side."""
    model = Linear(dim, noise=noise)
    chain = Chain(
        source=Truth(model), generator=model, recipe=recipe, probes={"risk": Risk()}, real=rows, rows=rows, held_out=0
    )
    one = jax.jit(lambda keys: jax.lax.map(lambda key: simulate(chain, key, iterations), keys, batch_size=at_once))
    return one(keys)


def reproduce(dims: tuple[int, ...] = DIMS, rows: tuple[int, ...] = ROWS, seeds: int = 1000) -> Reproduction:
    """Excess risk of three regimes over the published grid; of subsampling at σ = 1 alone, of which any is σ² times."""
    from matplotlib.figure import Figure

    from experiments.command.reproductions import Cell, Finding, Reproduction, largest_z
    from simulator.report.figures import COLOURS

    figure = Figure(figsize=(3.0 * len(rows), 7.4), layout="constrained")
    panels = figure.subplots(3, len(rows), squeeze=False, sharex=True)
    t = np.arange(1, ITERATIONS + 1)
    laws = (theory.replace_risk, theory.accumulate_risk, theory.subsample_risk)
    names = ("replace", "accumulate", "accumulate, subsample")
    findings: list[Finding] = []
    groups: dict[str, dict[tuple[int, float], list[Cell]]] = {name: {} for name in names[:2]}  # by dimension and noise

    def draw(row: int, dim: int, n: int, noise: float, samples: np.ndarray) -> None:
        samples = samples.astype(np.float64)  # where n = d + 1 some chains are beyond the square root of float32
        mean, error = samples.mean(0), samples.std(0, ddof=1) / np.sqrt(len(samples))
        panel, colour = panels[row, rows.index(n)], COLOURS[DIMS.index(dim) % len(COLOURS)]
        panel.plot(t, mean, color=colour, lw=1.5, label=f"d = {dim}" if noise == 1 else None)
        panel.fill_between(t, mean - 2 * error, mean + 2 * error, color=colour, alpha=0.2, lw=0)
        if n < dim + 2:  # the mean is not finite
            return
        law = laws[row](n, dim, ITERATIONS, noise)
        panel.plot(t, law, color="0.1", ls="--", lw=1.1, label="theory" if (dim, noise) == (dims[0], 1) else None)
        if (
            row < 2 and n > dim + 7
        ):  # below, fourth moments are infinite; the law of subsampling is exact only for n >> d
            groups[names[row]].setdefault((dim, noise), []).append((samples, law))
        if dim == min(10, dims[-1]) and n == rows[-1]:
            what = f"{names[row]}, d = {dim}, n = {n}, σ = {noise:g}, t = {ITERATIONS}"
            within = dim / n if row == 2 else 0.0
            findings.append(Finding.of_mean(what, samples[:, -1], theory=float(law[-1]), within=within))

    for dim in dims:
        sizes = tuple(n for n in rows if n > dim)
        keys = jax.random.split(jax.random.key(dim), seeds)
        for row, recipe in enumerate((Replace(), Accumulate())):
            found = np.asarray(by_cohorts(recipe, dim, sizes, keys)["risk"])  # [noises, rows, keys, iterations]
            for j, noise in enumerate(NOISES):
                for i, n in enumerate(sizes):
                    draw(row, dim, n, noise, found[j, i])
        for n in sizes:
            found = np.asarray(row_by_row(Then(Accumulate(), Subsample(n)), dim, n, keys[: seeds // 10])["risk"])
            draw(2, dim, n, 1.0, found)
    for i, n in enumerate(rows):
        panels[0, i].set_title(f"n = {n}", fontsize=10)
        panels[-1, i].set_xlabel("iteration", fontsize=9)
    for row, name in enumerate(names):
        panels[row, 0].set_ylabel(f"excess risk, {name}", fontsize=9)
    for panel in panels.ravel():
        panel.set_yscale("log")
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8)
    handles, labels = panels[0, -1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
    for name, of in groups.items():
        findings.append(largest_z(f"{name}, all n > d + 7, where fourth moments are finite", list(of.values())))
    return Reproduction(findings, figure)
