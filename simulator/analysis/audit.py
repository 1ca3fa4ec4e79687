"""The share of a set that looks generated, from scores of its rows and of real ones: no generator is needed.

Rows of the set follow f = (1 - π) p + π g, real ones p.  On any set A of rows f(A)/p(A) = 1 - π + π g(A)/p(A), so the
least of these ratios bounds the real share from above, and the generated share from below.  It is the real share where
some real rows look like no generated one (g irreducible with respect to p: Blanchard, Lee & Scott 2010, JMLR 11:2973;
Ramaswamy, Scott & Tewari 2016, arXiv:1603.02501).  Sets looked at are the rows that score at most c, the score being
that of a classifier of the set against real rows; c is where an upper confidence bound of the ratio is least (best-bin
estimation, Garg et al. 2021, arXiv:2111.00980), and chosen in other folds than those in which the ratio is read, so
that having been picked costs nothing.  Everything is NumPy on the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from simulator.types import GenlossError

PARTS = np.array([0.02, 0.05, *np.linspace(0.1, 0.95, 18), 0.98])  # of real rows, those of least score
PICK = 3.0  # standard errors of the upper bound whose least chooses them: many, so that folds choose alike
INNER = 0.75  # of the chosen rows, those on which the ratio is read once more, since it may still fall
FLAT = 0.25  # the part of real rows on which the ratio must have stopped falling
TOP, SURE = 0.95, 0.8  # of what counts as generated so many must score above so many real rows, not be told by degrees
REACH = 0.05  # half of the widest interval that is an answer


@dataclass(frozen=True)
class Share:
    """The share of generated rows, or why it cannot be told.

    `low` holds at the level (1 + confidence)/2 if real rows are drawn from the law of what is real in the set.  `high`
    holds at it if some real rows look like no generated one; it is 1 where there is no sign of that.
    """

    value: float | None  # None where it cannot be told
    low: float
    high: float
    confidence: float
    auroc: float  # chance that a row of the set scores above a real one
    error: float  # its standard error where there is nothing to find
    part: float  # of real rows, those on which the ratio was read
    why: str = ""  # where it cannot be told


def share(real: Sequence[Any], given: Sequence[Any], confidence: float = 0.9) -> Share:
    """The share of rows of a set that look generated, by scores of real rows and of the set's, higher for less real.

    `real` and `given` hold an array of scores for each fold, those of one classifier that saw no row of the fold; only
    their order matters.  `high` is read where fewer real rows are left, `INNER` of them.
    """
    from scipy.special import ndtri

    real, given = ([np.asarray(fold, np.float64) for fold in folds] for folds in (real, given))
    _check(real, given, confidence)
    z = float(ndtri((1 + confidence) / 2))
    whole, inner, top = (np.zeros(2, int) for _ in range(3))  # rows that score at most c: (real, given)
    for k, (a, b) in enumerate(zip(real, given, strict=True)):
        c, d = (np.concatenate([x for i, x in enumerate(folds) if i != k]) for folds in (real, given))
        best = PARTS[_best(c, d, PICK)]
        for rows, part in ((whole, best), (inner, INNER * best), (top, TOP)):
            most = np.quantile(c, part, method="inverted_cdf")
            rows += (a <= most).sum(), (b <= most).sum()
    m, n = (sum(map(len, folds)) for folds in (real, given))
    (log, error), (log_inner, error_inner) = (_ratio(rows[0], rows[1], m, n) for rows in (whole, inner))
    low = max(0.0, 1 - float(np.exp(log + z * error)))
    high = 1 - float(np.exp(min(log_inner - z * error_inner, log - z * error)))
    area, by_chance = auroc(real, given)
    part, value, why = whole[0] / m, min(max(1 - float(np.exp(log)), low), high), ""
    least = 1 - float(np.exp(_ratio(top[0], top[1], m, n)[0]))  # read beside nearly all real rows
    sure = least / value if value > 0 else 1.0  # share of generated rows that score above nearly all real ones
    if low == 0:
        why, high = "it cannot be told apart from real rows: nothing is generated, or what is looks real", 1.0
    elif part < FLAT:
        why, high = f"the ratio to real rows still falls where only {part:.0%} of them are left", 1.0
    elif sure < SURE:
        why = f"of what looks generated only {sure:.0%} scores above {TOP:.0%} of real rows, so that more may look real"
        high = 1.0
    elif high - low > 2 * REACH:
        why = f"the interval is wider than ± {100 * REACH:g} points; more rows make it narrower"
    return Share(None if why else value, low, high, confidence, area, by_chance, float(part), why)


def ratios(real: Sequence[Any], given: Sequence[Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(parts of real rows, share of the set over them, standard error of its logarithm), each [parts], of all folds."""
    a, b = (np.concatenate([np.asarray(fold, np.float64) for fold in folds]) for folds in (real, given))
    below = _below(a, b)
    log, error = _ratio(*below, len(a), len(b))
    return below[0] / len(a), np.exp(log), error


def auroc(real: Sequence[Any], given: Sequence[Any]) -> tuple[float, float]:
    """P(given > real) + P(given = real)/2 within folds, and its standard error where both follow one law: the mean over
    folds k, weighted by pairs, each of variance (m_k + n_k + 1)/(12 m_k n_k)."""
    from scipy.stats import rankdata

    areas, pairs, variances = [], [], []
    for a, b in zip(real, given, strict=True):
        m, n = len(a), len(b)
        ranks = rankdata(np.concatenate([a, b]))[m:].sum()
        areas.append((ranks - n * (n + 1) / 2) / (m * n))
        pairs.append(m * n)
        variances.append((m + n + 1) / (12 * m * n))
    weight = np.array(pairs) / sum(pairs)  # [folds]
    return float(weight @ areas), float(np.sqrt(weight**2 @ variances))


def _best(real: np.ndarray, given: np.ndarray, z: float) -> int:
    """The part of real rows where the upper confidence bound of the ratio is least."""
    log, error = _ratio(*_below(real, given), len(real), len(given))
    return int(np.argmin(log + z * error))


def _below(real: np.ndarray, given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows that score at most the score of each part of real rows, (real, given), [parts] each."""
    cuts = np.quantile(real, PARTS, method="inverted_cdf")  # [parts]
    real, given = (np.searchsorted(np.sort(scores), cuts, side="right") for scores in (real, given))
    return real, given


def _ratio(real: Any, given: Any, m: int, n: int) -> tuple[Any, Any]:
    """log of (given/n)/(real/m) and its standard error (Katz et al. 1978, doi:10.2307/2530610), with half a row more of
    each (Walter 1975, doi:10.1093/biomet/62.2.371), so that neither is infinite."""
    a, b = np.asarray(real) + 0.5, np.asarray(given) + 0.5
    return np.log(b / (n + 0.5)) - np.log(a / (m + 0.5)), np.sqrt(1 / b - 1 / (n + 0.5) + 1 / a - 1 / (m + 0.5))


def _check(real: Sequence[np.ndarray], given: Sequence[np.ndarray], confidence: float) -> None:
    if len(real) != len(given) or len(real) < 2 or min(map(len, [*real, *given])) == 0:
        raise GenlossError("Scores come in two folds or more, with rows of both kinds in each.")
    if not all(np.isfinite(scores).all() for scores in (*real, *given)):
        raise GenlossError("Scores must be finite; mend the classifier that gave them.")
    if not 0.5 <= confidence < 1:
        raise GenlossError(f"The confidence is {confidence:g} and must be at least 0.5 and below 1, such as 0.9.")
