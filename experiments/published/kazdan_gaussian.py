"""How much variance is left of a Gaussian under three regimes, whatever its dimension and the rows it eats?  (Kazdan et
al., arXiv:2410.16713)

    genloss run kazdan_gaussian

Three dimensions and 100 rows a fit, 100 fits, 100 seeds of each regime.  Result: the variance
left is 0.38 ± 0.05, 0.994 ± 0.009 and 0.990 ± 0.012 for replace, accumulate and subsample (the laws: 0.366, 0.984 and
0.971).

    genloss reproduce kazdan_gaussian

The published grid: d in 1, 3, 10, 31, 100 times n in 10, 32, 100, 316, 1,000 (n > d), 100 iterations; replace and
accumulate by cohorts, 1,000 seeds; subsample row by row, 100 seeds.  Result: of all 20 cells and 100 iterations the
largest difference from the law is 2.6 standard errors for log determinants under replace (2.7 ± 0.5 where all laws are
right), 2.1 and 3.6 for traces under accumulate and subsample (2.3 ± 0.5, 4.1 ± 0.6); traces under replace, which are
products, 2.7 in the 10 cells of n >= 316 (2.6 ± 0.4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from generators.cohort import Cohort
from generators.gaussian import Gaussian
from simulator import Chain, Sweep, Truth, ensemble, simulate, theory
from simulator.probes import LogDet, Moments
from simulator.recipe import Accumulate, Replace, Select, Subsample, Then
from simulator.types import Key, Recipe, Record

if TYPE_CHECKING:
    from experiments.command.reproductions import Reproduction

measured = {
    "run": {"cpu_seconds": 27, "on": "two busy CPU cores", "date": "2026-11-27"},
    "reproduce": {"cpu_seconds": 548, "on": "two busy CPU cores", "date": "2026-11-27"},
}

chain = Chain(
    source=Truth(Gaussian(3)),
    generator=Gaussian(3),
    recipe=Select((Replace(), Accumulate(), Then(Accumulate(), Subsample(100))), 0),
    probes={"moments": Moments()},
    real=100,
    rows=100,
    held_out=0,
)
sweep = Sweep(chain, "recipe.index", {"replace": 0, "accumulate": 1, "accumulate, subsample": 2})
generations = 100
replicates = 100
every = 100

DIMS, ROWS, ITERATIONS = (1, 3, 10, 31, 100), (10, 32, 100, 316, 1000), 100
# Under replace the variance is a product: its relative variance, (1 + 2/(n-1))^t - 1 for d = 1, is 0.9 at n = 316 but 6
# at n = 100 and 5e8 at 10, where the mean of a thousand chains is that of a few. Log determinants serve all n.
LIGHT = 316
PROBES = {"moments": Moments(), "log_det": LogDet()}


def by_cohorts(recipe: Recipe, dim: int, rows: tuple[int, ...], keys: Key) -> Record:
    """All sizes of cohort as one program, leaves [rows, keys, iterations]."""

    def make(n: int) -> Chain:
        cohort = Cohort(Gaussian(dim), n)
        return Chain(source=Truth(cohort), generator=cohort, recipe=recipe, probes=PROBES, real=1, rows=1, held_out=0)

    return ensemble(make, jnp.array(rows), keys, ITERATIONS)


def row_by_row(
    recipe: Recipe, dim: int, rows: int, keys: Key, iterations: int = ITERATIONS, at_once: int = 10
) -> Record:
    """The same from raw rows, leaves [keys, iterations]; `at_once` chains side by side."""
    chain = Chain(
        source=Truth(Gaussian(dim)),
        generator=Gaussian(dim),
        recipe=recipe,
        probes={"moments": Moments()},
        real=rows,
        rows=rows,
        held_out=0,
    )
    one = jax.jit(lambda keys: jax.lax.map(lambda key: simulate(chain, key, iterations), keys, batch_size=at_once))
    return one(keys)


def reproduce(dims: tuple[int, ...] = DIMS, rows: tuple[int, ...] = ROWS, seeds: int = 1000) -> Reproduction:
    from matplotlib.figure import Figure

    from experiments.command.reproductions import Cell, Finding, Reproduction, largest_z
    from simulator.report.figures import COLOURS

    figure = Figure(figsize=(3.0 * len(rows), 9.6), layout="constrained")
    panels = figure.subplots(4, len(rows), squeeze=False, sharex=True)
    t = np.arange(1, ITERATIONS + 1)
    laws = (theory.replace_variance, theory.accumulate_variance, theory.subsample_variance)
    names = ("replace", "accumulate", "accumulate, subsample")
    findings: list[Finding] = []
    cells: dict[str, dict[int, list[Cell]]] = {name: {} for name in (*names, "log det, replace")}  # by dimension

    def draw(row: int, name: str, dim: int, n: int, samples: np.ndarray, law: np.ndarray) -> None:
        samples = samples.astype(np.float64)
        mean, error = samples.mean(0), samples.std(0, ddof=1) / np.sqrt(len(samples))
        panel, colour = panels[row, rows.index(n)], COLOURS[DIMS.index(dim) % len(COLOURS)]
        panel.plot(t, mean, color=colour, lw=1.5, label=f"d = {dim}")
        panel.fill_between(t, mean - 2 * error, mean + 2 * error, color=colour, alpha=0.2, lw=0)
        panel.plot(t, law, color="0.1", ls="--", lw=1.1, label="theory" if dim == dims[-1] else None)
        if row != 0 or n >= LIGHT:
            cells[name].setdefault(dim, []).append((samples, law))
        if (dim, n) == (min(10, dims[-1]), rows[-1]) or (row == 3 and (dim, n) == (dims[-1], rows[-1])):
            what = f"{name}, d = {dim}, n = {n}, t = {ITERATIONS}"
            findings.append(Finding.of_mean(what, samples[:, -1], theory=float(law[-1])))

    for dim in dims:
        sizes = tuple(n for n in rows if n > dim)
        keys = jax.random.split(jax.random.key(dim), seeds)
        for row, recipe in enumerate((Replace(), Accumulate())):
            found = by_cohorts(recipe, dim, sizes, keys)
            for i, n in enumerate(sizes):
                draw(row, names[row], dim, n, np.asarray(found["moments.variance"][i]), laws[row](n, ITERATIONS))
                if row == 0:
                    law = theory.replace_log_determinant(n, dim, ITERATIONS)
                    draw(3, "log det, replace", dim, n, np.asarray(found["log_det"][i]), law)
        for n in sizes:
            found = row_by_row(Then(Accumulate(), Subsample(n)), dim, n, keys[: seeds // 10])
            draw(2, names[2], dim, n, np.asarray(found["moments.variance"]), laws[2](n, ITERATIONS))
    for i, n in enumerate(rows):
        panels[0, i].set_title(f"n = {n}", fontsize=10)
        panels[-1, i].set_xlabel("iteration", fontsize=9)
        panels[0, i].set_yscale("log")
    for row, name in enumerate((*[f"tr Σ / tr Σ₀, {name}" for name in names], "log det Σ, replace")):
        panels[row, 0].set_ylabel(name, fontsize=9)
    for panel in panels.ravel():
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8)
    handles, labels = panels[0, -1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
    for name, of in cells.items():
        which = f"n >= {LIGHT} alone" if name == "replace" else "all"
        findings.append(largest_z(f"{name}, {which}", list(of.values())))
    return Reproduction(findings, figure)
