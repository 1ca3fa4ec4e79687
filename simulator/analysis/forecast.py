"""When will a measure cross a bound?  From the first generations of a run, and of no more than its records.

What is forecast is the mean over the replicates of the records, as later generations would be recorded: of one
replicate the chain itself.  `simulator.analysis.trends` says what curves are believed.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from simulator.analysis.bounds import Keep
from simulator.analysis.trends import Outlook, outlook
from simulator.types import GenlossError

FEWEST, MOST = 3, 2000  # generations that a forecast is made from, and of
DRAWS = 4000
CHECKED = 6  # generations from which on the first two thirds are asked for the last third
SURPRISE = 0.005  # what is less likely than that says that no law here is the run's
LITTLE = 0.05


@dataclasses.dataclass(frozen=True)
class Forecast:
    """Later generations of a measure, and the first of them that misses a bound."""

    metric: str
    keep: str | None
    confidence: float
    begin: int  # the number of the first generation
    past: np.ndarray  # [known]: the mean over replicates
    low: np.ndarray  # [later]: the quantiles (1 ± confidence)/2 and the median of each later generation
    median: np.ndarray
    high: np.ndarray
    level: np.ndarray | None  # of the bound at each later generation; of one relative to a control the median
    weights: dict[str, float]  # law -> how likely it is, the likeliest first
    crosses: bool | None  # None: it cannot be told; nor is it asked where there is no bound
    probability: float | None  # that the bound is missed by the last generation
    crossing: tuple[float, float, float] | None  # low, median, high generation; infinite: not by the last one
    why: str  # a sentence
    draws: np.ndarray = dataclasses.field(repr=False)  # [draws, later]: what is believed of the curve
    first_missed: np.ndarray | None = dataclasses.field(repr=False)  # [draws]: generation, infinite where none is

    def data(self) -> dict[str, Any]:
        """For JSON, which has no infinity."""
        found = {name: value for name, value in vars(self).items() if name not in ("draws", "first_missed")}
        if self.crossing is not None:
            found["crossing"] = [int(t) if math.isfinite(t) else None for t in self.crossing]
        return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in found.items()}


def forecast(
    values: np.ndarray,
    generations: int,
    keep: Keep | None = None,
    control: np.ndarray | None = None,
    *,
    metric: str = "the measure",
    begin: int = 0,
    confidence: float = 0.8,
    draws: int = DRAWS,
    seed: int = 0,
) -> Forecast:
    """The generations known..generations - 1 of a measure, from values [replicates, known] of the first ones.

    `crosses` is true where the bound is missed by the last generation with probability (1 + confidence)/2 or more,
    false where it is with (1 - confidence)/2 or less.  A bound of control is asked of `control` [replicates, known],
    whose future is drawn by itself: chance that both share widens the interval.  Raises `GenlossError` where the bound
    is missed already, and where there are too few generations.
    """
    metric = metric if keep is None else keep.metric
    _checked(values, generations, metric, confidence, draws)
    if keep is not None:
        if keep.of_control and control is None:
            raise GenlossError(f"'{keep}' is asked of the control, whose records are not here; give an absolute bound.")
        if not keep.at_end:
            _not_yet(keep, values, control, begin)
    random = np.random.default_rng(seed)
    past = values.mean(0)
    found, doubt = _believed(values, generations, draws, random, begin)
    missed = level = None
    if keep is not None:
        beside, level = None, np.full(found.draws.shape[1], keep.bound)
        if keep.of_control:
            assert control is not None
            beside = random.permutation(_believed(control, generations, draws, random, begin)[0].draws)
            level = keep.bound * np.median(beside, 0)  # [later]
        short = keep.margins(found.draws, beside) < 0  # [draws, later or 1]
        when = begin + generations - short.shape[1] + short.argmax(1)  # [draws]
        missed = np.where(short.any(1), when, np.inf)
    crosses, probability, crossing, why = _verdict(found, missed, doubt, begin + generations - 1, confidence)
    ends = np.array([(1 - confidence) / 2, 0.5, (1 + confidence) / 2])
    low, median, high = np.quantile(found.draws, ends, axis=0)
    return Forecast(
        metric, None if keep is None else str(keep), confidence, begin, past, low, median, high, level, found.weights,
        crosses, probability, crossing, why, found.draws, missed,
    )  # fmt: skip


def _checked(values: np.ndarray, generations: int, metric: str, confidence: float, draws: int) -> None:
    known = values.shape[1]
    if not 0 < confidence < 1:
        raise GenlossError(f"The confidence is {confidence} and must lie between 0 and 1.")
    if draws < 100:
        raise GenlossError(f"Quantiles want 100 draws or more; it was given {draws}.")
    if known < FEWEST:
        raise GenlossError(f"A forecast wants {FEWEST} generations or more of '{metric}', and there are {known}.")
    if not known < generations <= MOST:
        raise GenlossError(
            f"There are {known} generations of '{metric}', so a forecast goes on to {known + 1} or more in all, up to "
            f"{MOST:,}; it was asked for {generations:,}."
        )
    if not np.isfinite(values).all():
        raise GenlossError(f"'{metric}' is not finite in every chain; leave such chains or generations out.")


def _not_yet(keep: Keep, values: np.ndarray, control: np.ndarray | None, begin: int) -> None:
    mean = values.mean(0)
    margins = keep.margins(mean, None if control is None else control.mean(0))  # [known]
    if (margins < 0).any():
        at = int(np.argmax(margins < 0))
        raise GenlossError(
            f"'{keep}' is missed already at generation {begin + at} ({mean[at]:.3g}); give a bound that is still kept."
        )


def _believed(
    values: np.ndarray, generations: int, draws: int, random: np.random.Generator, begin: int
) -> tuple[Outlook, str]:
    """(what is believed, why it should not be: a sentence, or nothing)."""
    known, level = values.shape[1], float(values[0, 0])
    if (values == level).all():
        same = np.full((draws, generations - known), level)
        said = f"It has been {level:.3g} throughout, which says nothing of what comes."
        return Outlook(same, np.zeros(draws, int), {}), said
    found = outlook(values, generations, draws, random)
    if known < CHECKED:
        return found, ""
    first = known * 2 // 3
    until = begin + first - 1
    if (values[:, :first] == level).all():
        return found, f"It was {level:.3g} up to generation {until} and has changed since: too late to tell how."
    then = outlook(values[:, :first], known, 1000, random)
    if (likely := _likely(then.draws, values.mean(0), first)) < SURPRISE:
        return found, (
            f"What came after generation {until} was not to be expected from those before (probability {likely:.1g}): "
            "no law known here is that of this run."
        )
    return found, ""


def _likely(draws: np.ndarray, mean: np.ndarray, first: int) -> float:
    """How likely something as far out as mean [known] from `first` on is under draws [n, known - first], by the
    generation farthest from the median in widths of the 80 % interval to that side; 1 where nothing is off by `LITTLE`
    of all that the measure has moved."""
    low, middle, high = np.quantile(draws, [0.1, 0.5, 0.9], axis=0)  # [known - first]
    if (np.abs(mean[first:] - middle) <= LITTLE * np.ptp(mean)).all():
        return 1.0

    def far(curve: np.ndarray) -> np.ndarray:
        off = curve - middle
        return np.abs(off / np.maximum(np.where(off < 0, middle - low, high - middle), 1e-300)).max(-1)

    return float((1 + (far(draws) >= far(mean[first:])).sum()) / (1 + len(draws)))


def _verdict(
    found: Outlook, missed: np.ndarray | None, doubt: str, last: int, confidence: float
) -> tuple[bool | None, float | None, tuple[float, float, float] | None, str]:
    """(whether it crosses, how likely that is, the interval of when, why)."""
    if missed is None:
        return None, None, None, doubt or "No bound was given."
    probability = float(np.isfinite(missed).mean())
    ends = [(1 - confidence) / 2, 0.5, (1 + confidence) / 2]
    low, middle, high = (float(t) for t in np.quantile(missed, ends, method="inverted_cdf"))
    crossing, said = (low, middle, high), f"Missed by generation {last} with probability {probability:.2f}"
    if doubt:
        return None, probability, crossing, doubt
    if probability >= ends[2]:
        return True, probability, crossing, f"{said}."
    if probability <= ends[0]:
        return False, probability, crossing, f"{said}."
    return None, probability, crossing, f"{said}: {_split(found, missed)}."


def _split(found: Outlook, missed: np.ndarray) -> str:
    """Why it is on the edge: laws that disagree, or chance."""
    names = list(found.weights)
    by_law = {
        names[i]: float(np.isfinite(missed[found.of == i]).mean())
        for i in range(len(names))
        if (found.of == i).mean() >= 0.1
    }
    if by_law and max(by_law.values()) - min(by_law.values()) > 0.4:
        most, least = max(by_law, key=by_law.__getitem__), min(by_law, key=by_law.__getitem__)
        return f"'{most}' says {by_law[most]:.2f}, '{least}' {by_law[least]:.2f}, and the past fits both"
    return "chains as these end on either side"
