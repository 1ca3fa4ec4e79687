"""How often an onset is a false alarm, and what shift is seen: `python -m experiments.bench onsets`.

Measures and settings that are all the control's own law, by how much of one generation is in the next.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.bench import say, table
from simulator.analysis.collapse import apart

RUNS, MEASURES, SETTINGS, GENERATIONS, REPLICATES = 4000, 20, 3, 8, (2, 3, 4, 8)
KEPT = {"nothing": 0.0, "half": 0.5, "nine tenths": 0.9, "all": 1.0, "sums": None}  # correlation of neighbours
LAWS: dict[str, Any] = {
    "normal": lambda x: x,
    "its exponential": np.exp,
    "three values": lambda x: np.round(np.clip(x, -1, 1)),
}


def main() -> None:
    false_alarms()
    power()


def chains(chance: np.random.Generator, shape: tuple[int, ...], kept: float | None) -> np.ndarray:
    """Normal chains [..., generations], of standard deviation 1 but for sums."""
    noise = chance.normal(size=shape)
    if kept is None:
        return noise.cumsum(-1)
    for t in range(1, shape[-1]):
        noise[..., t] = kept * noise[..., t - 1] + np.sqrt(1 - kept**2) * noise[..., t]
    return noise


def false_alarms() -> None:
    """The share of runs with a false alarm among all measures and settings, at a stated rate of 0.05."""
    title = f"false alarms among {MEASURES} measures of {SETTINGS} settings, {GENERATIONS} generations, {RUNS:,} runs"
    found = table(title, "law, kept of a generation", *(f"{r} replicates" for r in REPLICATES))
    chance, alarm = np.random.default_rng(0), 0.05 / (MEASURES * SETTINGS)
    for law, of in LAWS.items():
        for name, kept in KEPT.items():
            shares = []
            for replicates in REPLICATES:
                false = np.zeros(RUNS, bool)
                for part in np.array_split(false, 16):
                    shape = (len(part), 1 + SETTINGS, MEASURES, replicates, GENERATIONS)
                    made = of(chains(chance, shape, kept))
                    control = np.broadcast_to(made[:, :1], made[:, 1:].shape)
                    part |= apart(made[:, 1:], control, alarm)[..., -1].any((1, 2))
                shares.append(f"{false.mean():.3f}")
            found.add_row(f"{law}, {name}", *shares)
    say(found)


def power() -> None:
    """The shift, in standard deviations of a chain, that is seen with 80 %."""
    found = table("shift that is seen with 80 %, in deviations of a chain", "comparisons", *map(str, REPLICATES))
    chance = np.random.default_rng(0)
    for comparisons in (1, 20, 60, 188):
        shifts = []
        for replicates in REPLICATES:
            values, control = chains(chance, (2, RUNS, replicates, GENERATIONS), 0.5)
            low, high = 0.0, 1000.0
            while high - low > 0.01:
                middle = (low + high) / 2
                seen = apart(values + middle, control, 0.05 / comparisons)[:, -1].mean() >= 0.8
                low, high = (low, middle) if seen else (middle, high)
            shifts.append(f"{high:.1f}")
        found.add_row(str(comparisons), *shifts)
    say(found)
