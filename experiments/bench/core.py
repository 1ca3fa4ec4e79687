"""Gaussian chains per second: n = 100 under replace at 1, 64 and 4,096 chains, against the loop a notebook has."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from experiments.bench import compiled, say, seconds, table
from generators.gaussian import Gaussian
from simulator import Chain, Truth, simulate
from simulator.recipe import Replace

N, GENERATIONS = 100, 100


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


def main() -> None:
    chain = Chain(
        source=Truth(Gaussian(1)), generator=Gaussian(1), recipe=Replace(), probes={"s": spread}, real=N, rows=N
    )
    reference = seconds(lambda: plain(20)) / 20
    found = table(
        f"Gaussian, n = {N}, replace, {GENERATIONS} generations",
        "chains", "compile s", "run s", "chains x generations / s", "against NumPy", "with compiling",
    )  # fmt: skip
    found.add_row("NumPy, 1", "", f"{reference:.4f}", f"{GENERATIONS / reference:,.0f}", "1.0", "")
    for chains in (1, 64, 4096):
        keys = jax.random.split(jax.random.key(0), chains)
        (work,), compiling = compiled((jax.vmap(lambda key: simulate(chain, key, GENERATIONS)["s"]), keys))
        took = seconds(work)
        rate, ratio = chains * GENERATIONS / took, reference * chains / took
        both = reference * chains / (took + compiling)
        found.add_row(f"{chains:,}", f"{compiling:.2f}", f"{took:.4f}", f"{rate:,.0f}", f"{ratio:.1f}", f"{both:.2f}")
    say(found)
