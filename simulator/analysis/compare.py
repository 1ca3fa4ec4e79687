"""Runs beside each other: differences to the first, generation by generation, with intervals over replicates.

Runs of one root key share chance: replicate r of each draws the same real rows and the same random numbers, so that
differences are taken replicate by replicate (`harm.interval`), and what a seed does to both is in none of them.  Runs
of other keys are independent, and Welch's interval compares their means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from simulator.analysis.harm import Interval, interval
from simulator.running.checkpoints import maker
from simulator.types import GenlossError


@dataclass(frozen=True, eq=False)
class Run:
    """What is read of a run: `Store.about`, `Store.records`, and what it is called."""

    name: str
    about: Mapping[str, Any]  # chain.json
    records: Any  # data frame of setting, replicate, generation, metric, value

    @property
    def settings(self) -> list[str]:
        return list(dict.fromkeys(self.records["setting"]))

    def values(self, setting: str, metric: str) -> Any:
        """A data frame [replicates, generations] of a metric."""
        rows = self.records[(self.records["setting"] == setting) & (self.records["metric"] == metric)]
        if rows.duplicated(["replicate", "generation"]).any():
            raise GenlossError(f"The records of {self.name} hold a value twice; run it again into a new folder.")
        return rows.pivot(index="replicate", columns="generation", values="value")


class Pair(NamedTuple):
    """A run in one of its settings, against the first run in one of its own."""

    run: Run
    setting: str
    reference: Run
    reference_setting: str

    @property
    def paired(self) -> bool:
        """Whether replicates share their keys."""
        return _keys(self.run.about) == _keys(self.reference.about)

    @property
    def called(self) -> str:
        """The setting, by the run that has several; "" where neither has."""
        if len(self.run.settings) > 1:
            return self.setting
        return self.reference_setting if len(self.reference.settings) > 1 else ""

    def together(self, generations: Sequence[int]) -> int | None:
        """The last generation up to which one is a fork of the other, or both of one run; None where neither is."""
        same = [maker(self.run.about, t) == maker(self.reference.about, t) for t in generations]
        n = same.index(False) if False in same else len(same)
        return generations[n - 1] if n else None


def _keys(about: Mapping[str, Any]) -> Any:
    """What the keys of replicates are made of: the root key, and whether their numbers are folded into it."""
    run = about["run"]
    return run["key"], run["sweep"] is not None or run["replicates"] is not None


def pairs(runs: Sequence[Run]) -> list[Pair]:
    """Every run but the first against it: settings of one name or, where one of the two has a single one, each."""
    if len(runs) < 2:
        raise GenlossError("A comparison takes two runs or more; name another one.")
    reference, found = runs[0], []
    for run in runs[1:]:
        ours, theirs = run.settings, reference.settings
        both = [(name, name) for name in ours if name in theirs]
        if not both and min(len(ours), len(theirs)) == 1:
            both = [(a, b) for a in ours for b in theirs]
        if not both:
            raise GenlossError(
                f"{run.name} and {reference.name} share no settings: {', '.join(ours)}; {', '.join(theirs)}."
            )
        found += [Pair(run, a, reference, b) for a, b in both]
    return found


def generations(runs: Sequence[Run]) -> list[int]:
    """Those that all runs have."""
    found = set.intersection(*(set(map(int, run.records["generation"])) for run in runs))
    if not found:
        raise GenlossError(f"{', '.join(run.name for run in runs)} share no generations; compare runs that went on.")
    return sorted(found)


def measures(runs: Sequence[Run]) -> list[str]:
    """Metrics that all runs have, in the order of the first."""
    others = [set(run.records["metric"]) for run in runs[1:]]
    found = [m for m in dict.fromkeys(runs[0].records["metric"]) if all(m in other for other in others)]
    if not found:
        raise GenlossError(f"{', '.join(run.name for run in runs)} share no measures; give them a probe of one name.")
    return found


def differences(pairs: Sequence[Pair], metrics: Sequence[str], generations: Sequence[int], level: float = 0.95) -> Any:
    """Of each metric, pair and generation a line of a data frame: means of both, and difference, low and high.

    `low` and `high` end the confidence interval of run - reference, each by itself: by Student's t over the replicates
    that both have where `paired`, by Welch's over all of each where not; NaN for a single replicate.
    """
    import pandas

    if not 0 < level < 1:
        raise GenlossError(f"The confidence level is {level:g} and must lie between 0 and 1.")
    found = []
    for metric in metrics:
        for pair in pairs:
            ours, theirs = pair.run.values(pair.setting, metric), pair.reference.values(pair.reference_setting, metric)
            if pair.paired:
                both = ours.index.intersection(theirs.index)
                ours, theirs = ours.loc[both], theirs.loc[both]
            if ours.empty or theirs.empty:
                raise GenlossError(f"{pair.run.name} and {pair.reference.name} share no replicates of '{metric}'.")
            a, b = (side.reindex(columns=generations).to_numpy().T for side in (ours, theirs))  # [generations, n]
            with np.errstate(invalid="ignore"):  # what is not finite has no difference
                between = difference(a, b, pair.paired, level)
            found.append(
                pandas.DataFrame(
                    {
                        "metric": metric,
                        "run": pair.run.name,
                        "setting": pair.called,
                        "reference": pair.reference.name,
                        "generation": generations,
                        "value": a.mean(-1),
                        "reference_value": b.mean(-1),
                        "difference": between.mean,
                        "low": between.low,
                        "high": between.high,
                        "paired": pair.paired,
                        "replicates": a.shape[-1],
                        "reference_replicates": b.shape[-1],
                    }
                )
            )
    return pandas.concat(found, ignore_index=True)


def difference(values: np.ndarray, reference: np.ndarray, paired: bool, level: float = 0.95) -> Interval:
    """The mean of values [..., n] less that of reference [..., m], and its interval; n = m where they are paired."""
    if paired:
        return mean(values - reference, level)
    if min(values.shape[-1], reference.shape[-1]) > 1:
        return welch(values, reference, level)
    return _alone(values.mean(-1) - reference.mean(-1))


def mean(values: np.ndarray, level: float = 0.95) -> Interval:
    """The mean of values [..., n], and its interval by Student's t; of a single one, NaN."""
    return interval(values, level) if values.shape[-1] > 1 else _alone(values.mean(-1))


def _alone(mean: np.ndarray) -> Interval:
    return Interval(mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan))


def welch(values: np.ndarray, reference: np.ndarray, level: float = 0.95) -> Interval:
    """a - b ± t·(u + v)^½ for means a, b of independent values [..., n] and [..., m], u = s²/n and v = s²/m of each.

    t is the quantile (1 + level)/2 of Student's law with 1 / (w²/(n - 1) + (1 - w)²/(m - 1)) degrees of freedom, where
    w = u/(u + v) (Welch 1947, Biometrika 34).
    """
    from scipy.special import stdtrit

    n, m = values.shape[-1], reference.shape[-1]
    u, v = values.var(-1, ddof=1) / n, reference.var(-1, ddof=1) / m  # [...]
    share = np.where(u + v > 0, u / np.where(u + v > 0, u + v, 1), 0.5)  # [...]
    freedom = 1 / (share**2 / (n - 1) + (1 - share) ** 2 / (m - 1))  # [...]
    mean, reach = values.mean(-1) - reference.mean(-1), stdtrit(freedom, (1 + level) / 2) * np.sqrt(u + v)  # [...]
    return Interval(mean, mean - reach, mean + reach)
