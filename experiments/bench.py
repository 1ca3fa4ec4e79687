"""How fast it is, against a plain reference in the same run.

    python -m experiments.bench [core] [digits]

core: compile seconds, and chains x generations per second of a Gaussian with n = 100 under replace at 1, 64 and 4,096
chains, against the loop a paper's notebook has: one seed at a time, `numpy` draws and refits.
digits: seconds per generation of `genloss run digits`, split into train, sample, measure and save.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from generators.gaussian import Gaussian
from simulator import Chain, Progress, Truth, run, simulate
from simulator.recipe import Replace

N, GENERATIONS = 100, 100
console = Console()


def seconds(work: Callable[[], Any], repeats: int = 3) -> float:
    """The least of a few timings."""
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        jax.block_until_ready(work())
        best = min(best, time.perf_counter() - started)
    return best


def plain(seeds: int) -> np.ndarray:
    """The same job as notebooks write it: final standard deviations of `seeds` chains."""
    found = []
    for seed in range(seeds):
        chance = np.random.default_rng(seed)
        mean, std = 0.0, 1.0
        for _ in range(GENERATIONS):
            rows = chance.normal(mean, std, N)
            mean, std = rows.mean(), rows.std()
        found.append(std)
    return np.array(found)


def spread(key: jax.Array, view: Any) -> jax.Array:
    return view.params.cov[0, 0]


def core() -> None:
    """Gaussian chains per second."""
    chain = Chain(
        source=Truth(Gaussian(1)), generator=Gaussian(1), recipe=Replace(), probes={"s": spread}, real=N, rows=N
    )
    reference = seconds(lambda: plain(20)) / 20
    table = Table(title=f"Gaussian, n = {N}, replace, {GENERATIONS} generations", box=None, title_justify="left")
    for column in ("chains", "compile s", "run s", "chains x generations / s", "against NumPy", "with compiling"):
        table.add_column(column, justify="right")
    table.add_row("NumPy, 1", "", f"{reference:.4f}", f"{GENERATIONS / reference:,.0f}", "1.0", "")
    for chains in (1, 64, 4096):
        keys = jax.random.split(jax.random.key(0), chains)
        mapped = jax.jit(jax.vmap(lambda key: simulate(chain, key, GENERATIONS)["s"]))
        started = time.perf_counter()
        compiled = mapped.lower(keys).compile()
        compiling = time.perf_counter() - started
        took = seconds(lambda compiled=compiled, keys=keys: compiled(keys))
        rate, ratio = chains * GENERATIONS / took, reference * chains / took
        both = reference * chains / (took + compiling)
        table.add_row(f"{chains:,}", f"{compiling:.2f}", f"{took:.4f}", f"{rate:,.0f}", f"{ratio:.1f}", f"{both:.2f}")
    console.print(table)


def digits() -> None:
    """A digits generation, by part."""
    from experiments import digits as experiment

    parts: list[dict[str, float]] = []

    def note(progress: Progress) -> None:
        if progress.seconds:
            parts.append(progress.seconds)

    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run(experiment.sweep, jax.random.key(0), 4, f"{folder}/run", replicates=experiment.replicates, report=note)
    total = time.perf_counter() - started
    later = {name: float(np.mean([p[name] for p in parts[1:]])) for name in parts[0]}
    chains = len(experiment.sweep.values) * experiment.replicates
    table = Table(title=f"digits, {chains} chains: seconds per generation", box=None, title_justify="left")
    for column in ("part", "seconds", "share"):
        table.add_column(column, justify="right")
    for name, value in later.items():
        table.add_row(name, f"{value:.3f}", f"{value / sum(later.values()):.1%}")
    console.print(table)
    compiling = total - sum(sum(p.values()) for p in parts[1:]) - sum(later.values())
    console.print(f"compiling and starting: {compiling:.1f} s")


def main() -> None:
    jobs = {"core": core, "digits": digits}
    chosen = sys.argv[1:] or list(jobs)
    if unknown := [name for name in chosen if name not in jobs]:
        sys.exit(f"There is no benchmark '{unknown[0]}'; there are: {', '.join(jobs)}.")
    console.print(f"jax {jax.__version__} on {jax.devices()[0].device_kind}, compilation cache off")
    for name in chosen:
        jobs[name]()


if __name__ == "__main__":
    main()
