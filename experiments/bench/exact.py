"""Chains with a closed form, against the loop of a notebook: NumPy, one seed at a time, refitted from raw rows.

Both sides do the same job at the same parameters.  "with compiling" counts tracing and compiling of every program.
`python -m experiments.bench exact` has all jobs in one table, `exact.regression` and the like one of them.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.bench import compiled, say, seconds, spent, table
from experiments.published import he_golden, kazdan_discrete, kazdan_gaussian, kazdan_regression
from generators.gaussian import Gaussian
from generators.kde import KDE
from generators.linear import Linear
from simulator import Chain, Truth, simulate
from simulator.numerics import chance
from simulator.probes import Moments, Risk
from simulator.recipe import Accumulate, Replace, Subsample, Then
from simulator.types import Key, Recipe

ITERATIONS, SEEDS = 100, 100
DIMS, ROWS = (1, 3, 10, 31), (10, 32, 100, 316, 1000)
REGIMES: dict[str, Recipe] = {"replace": Replace(), "accumulate": Accumulate()}


def cells() -> list[tuple[int, int]]:
    """(d, n) of the Kazdan grid."""
    return [(d, n) for d in DIMS for n in ROWS if n > d]


# The references.


def eaten(regime: str, kept: list[np.ndarray], n: int, chance: np.random.Generator) -> list[np.ndarray]:
    """What the next fit eats of the data sets kept, an array for each column of rows."""
    if regime == "replace":
        return kept
    index = chance.choice(len(kept[0]), n, replace=False) if regime == "subsample" else slice(None)
    return [column[index] for column in kept]


def plain_gaussian(regime: str, d: int, n: int, seed: int) -> np.ndarray:
    """tr Σ_t of one chain, [iterations]."""
    chance = np.random.default_rng(seed)
    rows, found = chance.multivariate_normal(np.zeros(d), np.eye(d), n), []
    for _ in range(ITERATIONS):
        (diet,) = eaten(regime, [rows], n, chance)
        mean, cov = diet.mean(0), np.cov(diet.T, bias=True).reshape(d, d)
        found.append(np.trace(cov))
        new = chance.multivariate_normal(mean, cov, n)
        rows = new if regime == "replace" else np.concatenate([rows, new])
    return np.array(found)


def plain_regression(regime: str, d: int, n: int, seed: int, noise: float = 1.0) -> np.ndarray:
    """Excess risk of one chain, [iterations]."""
    chance, truth, found = np.random.default_rng(seed), np.full(d, d**-0.5), []
    x = chance.normal(size=(n, d))
    y = x @ truth + noise * chance.normal(size=n)
    for _ in range(ITERATIONS):
        diet = eaten(regime, [x, y], n, chance)
        coef = np.linalg.lstsq(*diet, rcond=None)[0]
        found.append(((coef - truth) ** 2).sum())
        new_x = chance.normal(size=(n, d))
        new_y = new_x @ coef + noise * chance.normal(size=n)
        x, y = (new_x, new_y) if regime == "replace" else (np.concatenate([x, new_x]), np.concatenate([y, new_y]))
    return np.array(found)


def plain_density(n: int, bandwidth: float, seed: int) -> np.ndarray:
    """Mean log-likelihood of n test rows under kernel densities of all rows kept, [iterations]; one dimension."""
    chance = np.random.default_rng(seed)
    rows, test, found = chance.normal(size=n), chance.normal(size=n), []
    for _ in range(ITERATIONS):
        total = np.zeros(n)
        for part in np.array_split(rows, max(1, len(rows) // 1000)):
            total += np.exp(-((test[:, None] - part) ** 2) / (2 * bandwidth**2)).sum(1)
        found.append(np.log(total / (len(rows) * bandwidth * np.sqrt(2 * np.pi))).mean())
        new = chance.choice(rows, n) + bandwidth * chance.normal(size=n)
        rows = np.concatenate([rows, new])
    return np.array(found)


def plain_kernels(n: int, bandwidth: float, seed: int) -> np.ndarray:
    """Spread of what kernel densities of all rows kept say, [iterations], by scikit-learn; one dimension."""
    from sklearn.neighbors import KernelDensity

    chance, found = np.random.default_rng(seed), []
    rows = chance.normal(size=(n, 1))
    for _ in range(ITERATIONS):
        model = KernelDensity(bandwidth=bandwidth).fit(rows)
        new = np.asarray(model.sample(n, random_state=int(chance.integers(2**31))))
        found.append(new.std())
        rows = np.concatenate([rows, new])
    return np.array(found)


def plain_line(n: int, fits: int, seed: int) -> np.ndarray:
    """Variance of one chain that accumulates numbers, [fits]: the mean and spread of an array, and nothing else."""
    chance, found = np.random.default_rng(seed), []
    rows = chance.normal(size=n)
    for _ in range(fits):
        mean, spread = rows.mean(), rows.std()
        found.append(spread**2)
        rows = np.concatenate([rows, chance.normal(mean, spread, n)])
    return np.array(found)


def plain_fixation(size: int, n: int, seed: int) -> int:
    """Fits until one category is left."""
    chance, probs, fits = np.random.default_rng(seed), np.full(size, 1 / size), 0
    while True:
        rows = chance.choice(size, n, p=probs)
        probs, fits = np.bincount(rows, minlength=size) / n, fits + 1
        if probs.max() == 1:
            return fits


def reference(job: Callable[[int], Any]) -> float:
    """Seconds of one seed: as many as fit in a second, one at least."""
    started, done = time.perf_counter(), 0
    while done == 0 or (time.perf_counter() - started < 1 and done < 20):
        job(done)
        done += 1
    return (time.perf_counter() - started) / done


# The parts.


class Row(NamedTuple):
    """A job at some seeds: seconds of one of them in NumPy, and of all of them here."""

    job: str
    plain: float
    seeds: int
    running: float
    compiling: float


def report(*parts: Callable[[], list[Row]]) -> None:
    """The table of README."""
    found = table(
        "chains with a closed form, against a NumPy loop",
        "job", "NumPy, s a seed", "seeds", "compile s", "run s", "times faster once compiled", "with compiling",
    )  # fmt: skip
    for row in (row for part in parts for row in part()):
        slow = row.plain * row.seeds
        ratios = (slow / row.running, slow / (row.running + row.compiling))
        shown = [f"{row.plain:.3g}", f"{row.seeds:,}", f"{row.compiling:.1f}", f"{row.running:.2f}"]
        found.add_row(row.job, *shown, *(f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.2f}" for ratio in ratios))
    say(found)


def sweep_of_cohorts(
    title: str, plain: Callable[..., Any], by_cohorts: Callable[..., Any], noises: int, *many: int
) -> list[Row]:
    """Replace and accumulate of a whole grid by cohorts, at 100 seeds and more."""
    slow = noises * sum(reference(functools.partial(plain, r, *c)) for r in REGIMES for c in cells())
    rows = []
    for seeds in (SEEDS, *many):
        jobs = []
        for dim in DIMS:
            sizes, keys = tuple(n for n in ROWS if n > dim), jax.random.split(jax.random.key(dim), seeds)
            for recipe in REGIMES.values():
                work = functools.partial(by_cohorts, recipe, dim, sizes)
                if seeds > SEEDS:  # a hundred chains at a time, whose cohorts stay in the processor's cache
                    work = functools.partial(jax.lax.map, work)
                jobs.append((work, keys if seeds == SEEDS else keys.reshape(-1, SEEDS)))
        programs, compiling = compiled(*jobs)
        running = sum(seconds(program, 3 if seeds == SEEDS else 1) for program in programs)
        rows.append(Row(title, slow, seeds, running, compiling))
    return rows


def gaussian() -> list[Row]:
    """The Kazdan Gaussian sweep by cohorts."""
    title = f"Kazdan's Gaussian grid, {ITERATIONS} fits, replace and accumulate, by cohorts"
    return sweep_of_cohorts(title, plain_gaussian, kazdan_gaussian.by_cohorts, 1, 1000, 10_000)


def regression() -> list[Row]:
    """The regression sweep by cohorts."""
    noises = len(kazdan_regression.NOISES)
    title = f"the regression grid, {noises} noises, by cohorts"
    return sweep_of_cohorts(title, plain_regression, kazdan_regression.by_cohorts, noises, 1000)


def rows() -> list[Row]:
    """The Kazdan Gaussian sweep row by row, in three regimes."""
    found = []
    for regime in ("replace", "accumulate", "subsample"):
        slow, jobs = 0.0, []
        for dim, n in cells():
            recipe = REGIMES.get(regime, Then(Accumulate(), Subsample(n)))
            slow += reference(functools.partial(plain_gaussian, regime, dim, n))
            keys = jax.random.split(jax.random.key(dim), SEEDS)
            work = functools.partial(kazdan_gaussian.row_by_row, recipe, dim, n, iterations=ITERATIONS)
            jobs.append((work, keys))
        programs, compiling = compiled(*jobs)
        running = sum(seconds(program, 1) for program in programs)
        found.append(Row(f"the Gaussian grid row by row: {regime}", slow, SEEDS, running, compiling))
    return found


def few() -> None:
    """Twenty seeds of small chains, compiling and all, in CPU seconds."""
    seeds, rows = 20, (100, 1000)
    found = table(
        f"{seeds} seeds, {ITERATIONS} fits: CPU seconds",
        "chain", "n", "NumPy", "compile", "run", "times faster once compiled", "with compiling",
    )  # fmt: skip
    wins = 0
    for chain, n, plain in small_chains(rows):
        slow = seeds * min(spent(functools.partial(plain, seed))[1] for seed in range(2))
        keys, programs = jax.random.split(jax.random.key(0), seeds), []
        work = jax.jit(lambda keys, c=chain: jax.lax.map(lambda key: simulate(c, key, ITERATIONS), keys))
        compiling = spent(lambda k=keys, w=work, p=programs: p.append(w.lower(k).compile()))[1]
        running = spent(functools.partial(programs[0], keys))[1]
        if running < 1:
            running = min(running, spent(functools.partial(programs[0], keys))[1])
        wins += slow > running + compiling
        name = f"{type(chain.generator).__name__}, {_regime(chain.recipe)}"
        times = (f"{slow / running:.2f}", f"{slow / (running + compiling):.2f}")
        found.add_row(name, f"{n:,}", f"{slow:.2f}", f"{compiling:.2f}", f"{running:.2f}", *times)
    say(found)
    say(f"faster with compiling in {wins} of {len(found.rows)}")


def small_chains(rows: tuple[int, ...]) -> list[tuple[Chain, int, Callable[[int], Any]]]:
    """Chains, their rows a generation, and a seed of each in NumPy."""
    found: list[tuple[Chain, int, Callable[[int], Any]]] = []
    for n in rows:
        sizes: dict[str, Any] = {"real": n, "rows": n, "held_out": 0}
        for regime in ("replace", "accumulate", "subsample"):
            recipe = REGIMES.get(regime, Then(Accumulate(), Subsample(n)))
            for model, probe, plain in (
                (Gaussian(3), Moments(), plain_gaussian),
                (Linear(10), Risk(), plain_regression),
            ):
                chain = Chain(source=Truth(model), generator=model, recipe=recipe, probes={"left": probe}, **sizes)
                found.append((chain, n, functools.partial(plain, regime, model.dim, n)))
        model = KDE(1, 0.1, size=n * ITERATIONS)
        probes = {"spread": lambda key, view: view.synthetic.std()}
        chain = Chain(source=Truth(KDE(1, 1.0, size=1)), generator=model, probes=probes, **sizes)
        found.append((chain, n, functools.partial(plain_kernels, n, 0.1)))
    return found


def _regime(recipe: Recipe) -> str:
    return "subsample" if isinstance(recipe, Then) else type(recipe).__name__.lower()


def one() -> None:
    """One chain of numbers that accumulates, at many sizes, in CPU seconds."""
    model, most = Gaussian(1), 10_000_000
    found = table("one chain that accumulates, d = 1: CPU seconds", "n", "fits", "NumPy", "here", "times faster")
    for n in (100, 1000, 10_000, 100_000, 1_000_000):
        for fits in (10, 100, 200, 400):
            if n * fits > most:
                continue
            sizes: dict[str, Any] = {"real": n, "rows": n, "held_out": 0}
            chain = Chain(source=Truth(model), generator=model, probes={"left": Moments()}, **sizes)
            work = functools.partial(simulate, chain, jax.random.key(0), fits)
            jax.block_until_ready(work())
            repeats = 3 if n * fits < most / 10 else 1
            running = min(spent(work)[1] for _ in range(repeats))
            slow = min(spent(functools.partial(plain_line, n, fits, seed))[1] for seed in range(repeats))
            found.add_row(f"{n:,}", str(fits), f"{slow:.4f}", f"{running:.4f}", f"{slow / running:.2f}")
    say(found)


def numbers() -> None:
    """What one random number costs."""
    size, key = 1 << 22, jax.random.key(0)
    found = table("Nanoseconds a random number, 4 million at once", "", "ns")
    kinds: dict[str, Callable[[Key], Any]] = {
        "bits, jax.random": lambda k: jax.random.bits(k, (size,)),
        "bits, chance": lambda k: chance.words(k, (size,)),
        "normal, jax.random": lambda k: jax.random.normal(k, (size,)),
        "normal, chance": lambda k: chance.normal(k, (size,)),
    }
    for name, kind in kinds.items():
        found.add_row(name, f"{1e9 * seconds(compiled((kind, key))[0][0]) / size:.1f}")
    plain = np.random.default_rng(0)
    found.add_row("normal, NumPy (one core)", f"{1e9 * seconds(lambda: plain.standard_normal(size)) / size:.1f}")
    say(found)


def golden() -> None:
    """The golden-ratio figure: 30 weights x 2,000 replicates x 200 generations."""
    started = time.perf_counter()
    jax.block_until_ready(he_golden.losses(np.linspace(0.05, 0.95, 30), 2000, 200))
    say(f"golden-ratio figure, 30 weights x 2,000 replicates x 200: {time.perf_counter() - started:.1f} s")


def density() -> list[Row]:
    """The KDE cell: n = 1,000, accumulate, test log-likelihood each generation."""
    n, bandwidth, seeds = 1000, 0.1, 4
    model = KDE(1, bandwidth, size=n * ITERATIONS)

    def likelihood(key: Key, view: Any) -> Any:
        return view.generator.log_prob(view.params, view.reference).mean()

    chain = Chain(
        source=Truth(KDE(1, 1.0, size=1)),
        generator=model,
        recipe=Accumulate(),
        probes={"likelihood": likelihood},
        real=n,
        rows=n,
        held_out=n,
    )
    slow = reference(lambda seed: plain_density(n, bandwidth, seed))
    keys = jax.random.split(jax.random.key(0), seeds)
    (work,), compiling = compiled((lambda k: jax.lax.map(lambda key: simulate(chain, key, ITERATIONS), k), keys))
    title = f"kernel densities, n = {n:,}, accumulate, {ITERATIONS} fits, test likelihood"
    return [Row(title, slow, seeds, seconds(work, 1), compiling)]


def fixation() -> list[Row]:
    """1,000 categories until one is left, M = 1,000, 100 replicates."""
    size, seeds = 1000, 100
    slow = reference(functools.partial(plain_fixation, size, size))
    (work,), compiling = compiled(
        (functools.partial(kazdan_discrete.fixation_times, size, size), jax.random.split(jax.random.key(0), seeds))
    )
    return [Row(f"fixation of {size:,} categories, M = {size:,}", slow, seeds, seconds(work, 1), compiling)]


def start() -> None:
    """A second start of an experiment, for the compilation cache."""
    with tempfile.TemporaryDirectory() as folder:
        took = []
        for attempt in range(2):
            command = [
                sys.executable,
                "-m",
                "experiments.cli",
                "run",
                "kazdan_gaussian",
                "--out",
                f"{folder}/{attempt}",
            ]
            started = time.perf_counter()
            subprocess.run(
                command, check=True, capture_output=True, env={**os.environ, "GENLOSS_CACHE": f"{folder}/cache"}
            )
            took.append(time.perf_counter() - started)
    say(f"genloss run kazdan_gaussian: first start {took[0]:.1f} s, second {took[1]:.1f} s")


TABLE = {"gaussian": gaussian, "regression": regression, "rows": rows, "density": density, "fixation": fixation}
SENTENCES = {"few": few, "one": one, "numbers": numbers, "golden": golden, "start": start}
PARTS: dict[str, Callable[[], None]] = {
    name: functools.partial(report, part) for name, part in TABLE.items()
} | SENTENCES


def main() -> None:
    report(*TABLE.values())
    for part in SENTENCES.values():
        part()
