"""Which entry of a league is best, and how sure that is: differences to a baseline, and the chance of every rank.

Replicate r of each entry has one key, so that all are compared replicate by replicate (`harm.interval`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np

from simulator.analysis.compare import mean
from simulator.types import GenlossError

Better = Literal["higher", "lower"]

DRAWS = 10_000  # of the ranks


class Standing(NamedTuple):
    """What is known of one entry."""

    entry: str
    value: float  # mean of its scores over replicates
    difference: float  # to the baseline, paired by replicate
    low: float  # the confidence interval of that, by Student's t
    high: float
    ranks: np.ndarray  # [entries]: the chance of rank 1, 2, ...; they sum to 1 over ranks and over entries

    def between(self, level: float = 0.9) -> tuple[int, int]:
        """The first and the last rank of the narrowest run of ranks that together have at least this chance."""
        sums = np.r_[0, np.cumsum(self.ranks)]  # [entries + 1]
        n = len(self.ranks)
        runs = [(b - a, a, b) for a in range(n) for b in range(a + 1, n + 1) if sums[b] - sums[a] >= level - 1e-9]
        _, a, b = min(runs, key=lambda run: (run[0], sums[run[1]] - sums[run[2]]))
        return a + 1, b


def standings(
    scores: Mapping[str, np.ndarray], baseline: str, better: Better, level: float = 0.95, draws: int = DRAWS
) -> list[Standing]:
    """Each entry's standing, from its scores [replicates] at the end of its runs, the best mean first.

    An entry with a score that is not finite ranks behind all others, and has no interval.  Raises `GenlossError` where
    there are fewer than two entries or replicates, or entries have different numbers of them.
    """
    names = list(scores)
    if baseline not in scores or len(names) < 2:
        raise GenlossError("A league takes two entries or more, one of them the baseline; add another one.")
    table = np.array([np.asarray(scores[name], np.float64) for name in names])  # [entries, replicates]
    if table.ndim != 2 or table.shape[1] < 2:
        raise GenlossError("The ranks of a league take two replicates or more of every entry, the same number of each.")
    ranks = chances(table if better == "higher" else -table, draws)  # [entries, ranks]
    found = []
    for name, own, each in zip(names, table, ranks, strict=True):
        with np.errstate(invalid="ignore"):  # what is not finite has no difference
            gap = mean(own - scores[baseline], level)
            found.append(Standing(name, float(own.mean()), float(gap.mean), float(gap.low), float(gap.high), each))
    sign = -1 if better == "higher" else 1
    return sorted(found, key=lambda s: sign * s.value if np.isfinite(s.value) else np.inf)


def chances(table: np.ndarray, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """The chance of each rank of each entry, [entries, ranks], from scores [entries, replicates], higher the better.

    A multiplier bootstrap over replicates (Chernozhukov, Chetverikov & Kato 2013, doi:10.1214/13-AOS1161): a draw ranks
    x̄ + Σ_r z_r (x_r - x̄)/(n χ²)^½, z_r ~ N(0, 1) of each of the n replicates, the same for all entries, and χ² with
    n - 1 degrees of freedom, one a draw.  So a difference of two entries has Student's law about its mean, and the
    chance that one is better than another agrees with the interval of their difference; rows drawn again from few
    replicates would be too sure.  Entries whose means are equal in a draw share the ranks that they take.  One with a
    score that is not finite is worse than any that has none.
    """
    entries, n = table.shape
    sound = np.asarray(np.isfinite(table).all(1))  # [entries]
    table = np.where(sound[:, None], table, 0.0)
    random = np.random.default_rng(seed)
    middle = table.mean(1)  # [entries]
    noise = random.normal(size=(draws, n)) / np.sqrt(n * random.chisquare(n - 1, draws))[:, None]  # [draws, replicates]
    means = middle + noise @ (table - middle[:, None]).T  # [draws, entries]
    means[:, ~sound] = -np.inf
    found = np.zeros((entries, entries))
    for i in range(entries):
        before = (means > means[:, [i]]).sum(1)  # [draws]
        alike = (means == means[:, [i]]).sum(1)  # [draws], itself among them
        for ahead, tied in {*zip(before.tolist(), alike.tolist(), strict=True)}:
            share = ((before == ahead) & (alike == tied)).mean() / tied
            found[i, ahead : ahead + tied] += share
    return found
