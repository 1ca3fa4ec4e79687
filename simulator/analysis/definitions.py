"""Has it collapsed?  The eight definitions in use (Schaeffer et al. 2025, arXiv:2503.03150), each asked of a run.

A definition compares chains that eat what models said with a *reference*: the setting that ate real rows alone, or,
without one, generation 0 of the same chains, which did.  Each speaks of the last generation, from an *onset* on; what
came back has not collapsed.  It holds where the mean over chains is surely beyond a bound, does not where it is surely
short of it, and cannot be told where neither is sure.  Surely: by Student's t of the difference (`gap`), one-sided, at
the rate of false alarms divided by the number of definitions and settings that are looked at (Bonferroni).  Since a
definition is true or not, that bounds the chance that *any* verdict of the table is wrong, for normal chains.

x is the measure and c that of the reference; T is the last generation.  The thresholds are those of `Bounds`.

catastrophic increase of population risk: x_T > factor · c_T, or > the risk of a model that knows nothing.
any increase: x_T > c_T; not where x_T < (1 + margin) · c_T.
asymptotic divergence: see `divergence`.
change of scaling law: see `slopes`.
collapsing variance: see `collapsing`.
disappearance of real tails, entanglement of real modes, appearance of hallucinated data: less than (1 - margin) of c_T
is left of what is measured: of real rows that samples reach, of samples in the mode that they belong to, of samples
where real rows are.

A measure in nats has no zero: there "factor ·" is "log factor +".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


@dataclass(frozen=True)
class Bounds:
    """What is called a collapse.  The paper names no numbers: these are conventions of this project."""

    factor: float = 10.0  # catastrophic: the risk is of another order of magnitude than the reference's
    ignorant: float | None = None  # in place of that, the risk of a model that knows nothing, where it is known
    margin: float = 0.05  # a change by this share of the reference is none that matters
    share: float = 0.1  # of the reference's variance: what is below has collapsed
    slope: float = 0.1  # by how much exponents of two scaling laws differ that are two


class Arm(NamedTuple):
    """A measure of one setting, and the reference; higher is worse."""

    values: np.ndarray  # [replicates, generations]
    against: np.ndarray  # [replicates, generations]
    paired: bool  # the reference is of the same chains
    logarithmic: bool = False  # a factor adds its logarithm

    def times(self, factor: float) -> np.ndarray:
        """The reference, worse by a factor, [replicates, generations]."""
        return self.against + math.log(factor) if self.logarithmic else self.against * factor

    def at(self, weights: Mapping[int, float]) -> Arm:
        """A sum over generations, as an arm of one."""
        chosen, weight = list(weights), np.array(list(weights.values()))
        values, against = ((a[:, chosen] @ weight)[:, None] for a in (self.values, self.against))
        return self._replace(values=values, against=against)


class Finding(NamedTuple):
    """An answer, with a sentence on how sure it is or what is missing."""

    holds: bool | None  # None: it cannot be told from this data
    why: str
    bound: np.ndarray | None = None  # [replicates, generations]: what the onset is the crossing of


def gap(values: np.ndarray, against: np.ndarray, alarm: float, paired: bool) -> tuple[np.ndarray, np.ndarray]:
    """Mean of values - against over chains, [generations], of [replicates, generations] each, and the reach of it:
    it is below mean - reach with probability `alarm`, and as often above mean + reach.

    reach = t s with t the quantile 1 - alarm of Student's law.  Of the same chains (paired) s² is the variance of the
    differences over R, with R - 1 degrees of freedom.  Of others it is the sum of both variances over R, with Welch's
    degrees of freedom, (a + b)² (R - 1) / (a² + b²); chains that are driven by the same keys make it too large, if
    anything.  The reference's variance is at least its mean over generations, and where no chain differs from another
    both are theirs: chains that happen to be alike say nothing of chance.  Infinite where none ever differ.
    """
    from scipy.special import stdtrit

    replicates = len(values)
    mean = values.mean(0) - against.mean(0)
    if paired:
        square = (values - against).var(0, ddof=1)  # [generations]
        free = np.full_like(square, replicates - 1)
    else:
        a, b = values.var(0, ddof=1), against.var(0, ddof=1)
        b = np.maximum(b, b.mean())
        a = np.where(a + b > 0, a, a.mean())
        square = a + b
        free = (replicates - 1) * square**2 / np.where(square > 0, a**2 + b**2, 1)
    with np.errstate(invalid="ignore"):
        reach = stdtrit(np.maximum(free, 1), 1 - alarm) * np.sqrt(square / replicates)
    return mean, np.where(square > 0, reach, np.inf)


def decided(arm: Arm, bound: np.ndarray, alarm: float, harmless: np.ndarray | None = None) -> Finding:
    """Whether the last generation is surely above a bound, or surely below it, or below what is `harmless`."""
    mean, reach = (float(a[-1]) for a in gap(arm.values, bound, alarm, arm.paired))
    below, far = (float(a[-1]) for a in gap(arm.values, bound if harmless is None else harmless, alarm, arm.paired))
    if mean > reach:
        return Finding(True, f"It ends {mean:.2g} ± {reach:.2g} beyond the bound.", bound)
    if below < -far:
        return Finding(False, f"It ends {-below:.2g} ± {far:.2g} short of the bound.", bound)
    return Finding(None, _unsure(mean, reach, len(arm.values)), bound)


def _unsure(mean: float, reach: float, replicates: int) -> str:
    if not math.isfinite(reach):
        return "No chain differs from another, so that nothing is known of chance."
    more = replicates * (reach / mean) ** 2 if mean else math.inf
    wants = f"some {math.ceil(more)} may tell" if more < 10_000 else "more will hardly tell"
    return f"It ends {mean:.2g} ± {reach:.2g} from the bound with {replicates} replicates; {wants}."


def catastrophe(arm: Arm, bounds: Bounds, alarm: float) -> Finding:
    """Whether the risk is above `factor` times the reference's, or above `ignorant`."""
    known = bounds.ignorant is not None
    return decided(arm, np.full_like(arm.against, bounds.ignorant) if known else arm.times(bounds.factor), alarm)


def increase(arm: Arm, bounds: Bounds, alarm: float) -> Finding:
    """Whether the risk is above the reference's; not where it is below (1 + margin) times that."""
    return decided(arm, arm.against, alarm, harmless=arm.times(1 + bounds.margin))


def loss(arm: Arm, bounds: Bounds, alarm: float) -> Finding:
    """Whether less is left than (1 - margin) of the reference's."""
    return decided(arm, arm.times(1 - bounds.margin), alarm)


def divergence(arm: Arm, bounds: Bounds, alarm: float) -> Finding:
    """Whether what is worse at the end goes on to grow without bound.

    With h a quarter of the generations, the last doubling of time adds x_4h - x_2h to the risk and the one before it
    x_2h - x_h.  A rise that is smooth in log t is bounded if these fall geometrically and is not if they do not
    (Cauchy's condensation): c (1 - t^-a) adds 2^-a times as much in each doubling, log t as much, t^a 2^a times as
    much.  So it holds where x_4h > c_4h, the last doubling adds, and adds more than the one before it (each surely, so
    all three); it does not where that adds surely less, or less than the margin.  On the edge, log t, it cannot be
    told.  c (1 - e^(-t/τ)) has bent by then if τ < 0.52 T: what levels off later than that looks like what never does.
    """
    last = arm.values.shape[1] - 1
    h = last // 4
    if h < 1:
        return Finding(None, f"The trend wants 5 or more generations, and there are {last + 1}.", arm.against)
    added, bend = arm.at({4 * h: 1.0, 2 * h: -1.0}), arm.at({4 * h: 1.0, 2 * h: -2.0, h: 1.0})
    rises = [decided(one, one.against, alarm) for one in (arm, added, bend)]
    if all(one.holds for one in rises):
        return Finding(True, f"It rises without bending to generation {4 * h}.", arm.against)
    little = added.against + (arm.times(1 + bounds.margin) - arm.against)[:, [4 * h]]
    if decided(bend, bend.against, alarm / 2).holds is False:
        return Finding(False, f"Its rise slows down: less from generation {2 * h} to {4 * h} than from {h} to {2 * h}.")
    if decided(added, little, alarm / 2).holds is False:
        return Finding(False, f"From generation {2 * h} to {4 * h} it does not rise by the margin.")
    unsure = next(one.why for one in rises if not one.holds)
    return Finding(None, f"Whether its rise slows down is not sure. {unsure}", arm.against)


def collapsing(arm: Arm, bounds: Bounds, alarm: float) -> Finding:
    """Whether variance tends to 0: it is below `share` of the reference's, or -log of it grows without bound
    (`divergence`), each at half of the rate.  The second wants variances above 0 in every chain.
    """
    level = decided(arm, arm.times(bounds.share), alarm / 2)
    if level.holds:
        return level
    if (arm.values >= 0).any() or (arm.against >= 0).any():
        return Finding(None, f"Some chains have no variance left, and no logarithm of it. {level.why}")
    logs = Arm(-np.log(-arm.values), -np.log(-arm.against), arm.paired, logarithmic=True)
    trend = divergence(logs, bounds, alarm / 2)
    return trend._replace(bound=arm.against) if trend.holds or level.holds is False else level


def slower(arm: Arm, bounds: Bounds, alarm: float) -> Finding:
    """Whether an exponent (`slopes`) is above the reference's by more than `slope`."""
    return decided(arm, arm.against + bounds.slope, alarm)


def slopes(sizes: Mapping[int, np.ndarray]) -> np.ndarray:
    """The exponent of a scaling law, [replicates, generations]: the least-squares slope of log risk over log rows, of
    risks [replicates, generations] at several numbers of rows.  Below 0; the scaling law has changed where that of
    chains that eat what models said is above the reference's by more than `slope`: risk falls more slowly with rows.
    """
    rows = np.log(list(sizes))
    weight = (rows - rows.mean()) / ((rows - rows.mean()) ** 2).sum()  # [sizes]
    return np.einsum("s,srt->rt", weight, np.log(list(sizes.values())))


DEFINITIONS: dict[str, tuple[str, Callable[[Arm, Bounds, float], Finding]]] = {
    "catastrophic increase of population risk": ("risk", catastrophe),
    "any increase of population risk": ("risk", increase),
    "asymptotic divergence of population risk": ("risk", divergence),
    "change of scaling law": ("risk", slower),
    "collapsing variance": ("variance", collapsing),
    "disappearance of real tails": ("tails", loss),
    "entanglement of real modes": ("modes", loss),
    "appearance of hallucinated data": ("hallucinations", loss),
}


def when(arm: Arm, bound: np.ndarray, confidence: float = 0.95) -> tuple[int, int, int]:
    """(onset, low, high) of a bound that is passed to stay: the onset is the first generation from which on the mean
    over chains is above it.

    The interval inverts the tests of single generations: it begins where they first cease to be surely below, and ends
    where from then on they are surely above.  With onset k it begins after k only if k is called below, and ends
    before only if k - 1 is called above; so it holds k with the confidence stated whatever generations have to do with
    each other, and however few chains there are.  (A bootstrap of four chains knows 35 samples.)  Generation 0, which
    ate real rows alone, is never in it, and it ends at the last generation.
    """
    mean, reach = gap(arm.values, bound, (1 - confidence) / 2, arm.paired)
    below, above = mean + reach <= 0, mean - reach > 0  # [generations]
    low = max(1, int(np.argmin(below)))  # the length of the first run of them
    high = min(max(low, _after_last(~above)), len(mean) - 1)
    return min(max(_after_last(mean <= 0), low), high), low, high


def _after_last(flags: np.ndarray) -> int:
    found = np.flatnonzero(flags)
    return int(found[-1]) + 1 if found.size else 0
