"""What contamination costs: scores of a control less those of the contaminated, paired by seed.

Scores are arrays whose last axis is the seeds, which the two share: chains of one key draw the same rows, masks and
first weights, so that the spread of differences is far below that of scores.  Intervals are Student's t on the
differences, two-sided; seeds whose score is NaN make them NaN.  Everything is NumPy on the host.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from simulator.types import GenlossError


class Interval(NamedTuple):
    """A mean over seeds and its confidence interval, each [...], in the units of the scores."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def excess(control: Any, generated: Any, level: float = 0.95) -> Interval:
    """Excess harm: control - generated, [..., seeds] -> [...]; above 0 where generated rows do worse than the control.

    With accuracies of `Contaminate(by="real")` and of `by="generated"` at the same ratios it is the excess harm of
    Hataya et al. 2023 (arXiv:2211.08095); with those at ratio 0 as control it is the whole harm.
    """
    control, generated = (np.asarray(a, np.float64) for a in (control, generated))
    if control.shape[-1:] != generated.shape[-1:]:
        raise GenlossError(
            f"Scores of {control.shape[-1:]} and {generated.shape[-1:]} seeds cannot be paired; give both the same "
            "seeds, in one order."
        )
    return interval(control - generated, level)


def interval(samples: Any, level: float = 0.95) -> Interval:
    """Mean ± t·s/√n over the last axis of samples [..., n], t the quantile (1 + level)/2 of Student's law, n - 1."""
    from scipy.special import stdtrit

    samples = np.asarray(samples, np.float64)
    n = samples.shape[-1] if samples.ndim else 0
    if n < 2:
        raise GenlossError(f"An interval over seeds needs at least 2 of them; it was given {n}.")
    if not 0 < level < 1:
        raise GenlossError(f"The confidence level is {level} and must lie between 0 and 1.")
    mean, reach = samples.mean(-1), stdtrit(n - 1, (1 + level) / 2) * samples.std(-1, ddof=1) / np.sqrt(n)  # [...]
    return Interval(mean, mean - reach, mean + reach)


def worst(control: Any, generated: Any, level: float = 0.95) -> tuple[int, Interval]:
    """The class of most damage, and its interval, of accuracies by class [seeds, classes]; NaN classes are left out.

    The interval holds for that class at the level divided among all of them (Bonferroni), since it was picked by what
    it shows.
    """
    control, generated = (np.asarray(a, np.float64).T for a in (control, generated))  # [classes, seeds]
    damage = excess(control, generated, level).mean  # [classes]
    if np.isnan(damage).all():
        raise GenlossError("No class has a score for every seed; hold out rows of each class.")
    picked = int(np.nanargmax(damage))
    return picked, excess(control[picked], generated[picked], 1 - (1 - level) / np.count_nonzero(~np.isnan(damage)))


def marginal(ratios: Any, scores: Any, level: float = 0.95) -> Interval:
    """What each percent of real rows is worth between neighbouring ratios: the interval of `worths`, [ratios - 1]."""
    return interval(worths(ratios, scores), level)


def worths(ratios: Any, scores: Any) -> np.ndarray:
    """What each percent of real rows is worth to each seed, [ratios - 1, seeds], of scores [ratios, seeds].

    (score at the lower ratio - score at the higher) / (100·their difference) for neighbouring ratios, which rise.
    """
    ratios, scores = np.asarray(ratios, np.float64), np.asarray(scores, np.float64)
    if len(ratios) != len(scores) or not (np.diff(ratios) > 0).all():
        raise GenlossError("Ratios must rise, and there must be a row of scores for each.")
    return -np.diff(scores, axis=0) / (100 * np.diff(ratios)[:, None])
