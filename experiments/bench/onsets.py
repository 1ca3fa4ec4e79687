"""Onsets: how often a false alarm, what shift is seen, what intervals hold: `python -m experiments.bench onsets`.

Measures and settings that are all the control's own law, by how much of one generation is in the next.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.bench import say, table
from simulator.analysis.collapse import apart
from simulator.analysis.definitions import Arm, when

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
    intervals()


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


def intervals() -> None:
    """Each fit adds as much risk, so that it is above five times the reference's from generation 5 on: its intervals by
    the tests turned round, and between quantiles of 500 bootstraps over chains."""
    runs, generations, dim, onset = 400, 12, 8, 5
    found = table("90 % intervals of an onset", "", "hold it", "generations wide", "bootstrap", "generations wide")
    chance = np.random.default_rng(0)
    for replicates in REPLICATES:
        walks = chance.normal(size=(2, runs, replicates, generations, dim))
        values, against = (
            (walks.cumsum(-2) ** 2).mean(-1),
            (walks[:, :, :, :1] ** 2).mean(-1),
        )  # [2, runs, r, t], [.., 1]
        bound = np.broadcast_to(onset * against[1], values[0].shape)
        turned = np.array(
            [when(Arm(*arm, paired=False), arm[1], 0.9)[1:] for arm in zip(values[0], bound, strict=True)]
        )
        drawn = []
        for of, at in zip(values[0], bound, strict=True):
            means = (a[chance.integers(0, replicates, (500, replicates))].mean(1) for a in (of, at))
            short = np.subtract(*means) <= 0  # [500, generations]
            last = np.where(short.any(-1), generations - short[:, ::-1].argmax(-1), 0).clip(1, generations - 1)
            drawn.append(np.quantile(last, [0.05, 0.95], method="nearest"))
        cells = [
            number
            for low, high in (turned.T, np.array(drawn).T)
            for number in (((low <= onset) & (high >= onset)).mean(), (high - low).mean())
        ]
        found.add_row(f"{replicates} replicates", *(f"{number:.2f}" for number in cells))
    say(found)
