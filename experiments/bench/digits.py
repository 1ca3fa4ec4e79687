"""Seconds per generation of `genloss run digits`, split into train, sample, measure and save."""

from __future__ import annotations

import tempfile
import time

import jax
import numpy as np

from experiments.bench import say, table
from experiments.images import digits as experiment
from simulator import Progress, run


def main() -> None:
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
    found = table(f"digits, {chains} chains: seconds per generation", "part", "seconds", "share")
    for name, value in later.items():
        found.add_row(name, f"{value:.3f}", f"{value / sum(later.values()):.1%}")
    say(found)
    compiling = total - sum(sum(p.values()) for p in parts[1:]) - sum(later.values())
    say(f"compiling and starting: {compiling:.1f} s")
