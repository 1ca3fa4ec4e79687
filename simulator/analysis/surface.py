"""The surface of a scaling law of mixing, fitted to replicates at several sizes, with what is not known of it.

    E(n, w, t) = c(w, t) + A(w, t) n^-α,    c >= 0, A >= 0,

for n rows, a share w of real ones and a generation t: one exponent, which belongs to the family and the measure, while
mixing and iterating move the amplitude and the floor.  So it is where it is known:

α = 1, c = 0 where n fresh real rows are weighed against as many of the last model (He et al. 2025, arXiv:2502.18049,
    A = (w² + (1-w)²)/(w(2-w)) for t -> infinity) and in regressions with n >> d (Gerstgrasser et al. 2024,
    arXiv:2404.01413);
α = 1 - 1/β, c = 0 for what a corpus of n words of Zipf's law leaves out, and c > 0 where the real words stay as many as
    they are while those of a model grow (Dohmatob et al. 2024, arXiv:2402.07043);
c > 0 where a constant share is what a model of fixed quality said (Dohmatob et al. 2025, arXiv:2410.04840).

Where two powers cross, or n is not yet large, it is another curve, and a test says so: the form taken is the first of
c = 0 and c >= 0 that the replicates do not refute, and none where both are refuted.

The fit is by least squares on the means over R chains, whose variances are E²v²/R with E that of the fit and v the
relative spread of chains (`spread`).  Given α the rest is linear, so only α is searched.  Intervals are those of the
bootstrap over chains: a chain's row of shares and generations stays whole, whose errors therefore may depend on each
other in any way, and chains of one size are drawn apart from those of another, whose keys are others.  The misfit has
the same draws about the fitted surface for its law.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

ALARM, STRICT = 0.01, 0.05  # rates at which a form that is right is refuted: c = 0; floors, which bend to much else
DRAWS = 1000  # of the bootstrap
EXPONENTS = (0.01, 4.0)  # between which α is searched
ZOOMS, PLACES = 7, 13  # the range of α falls to a sixth with each: to 1e-5
ROUNDS = 4  # of weights that are those of the fit before


class Fit(NamedTuple):
    """Surfaces that fit draws of the means best."""

    exponent: np.ndarray  # α [draws]
    floor: np.ndarray  # c [draws, curves]
    amplitude: np.ndarray  # [draws, curves]: E - c at `middle`
    misfit: np.ndarray  # [draws]: Σ weight·(mean - E)²
    middle: float  # the geometric mean of the sizes

    def at(self, size: float) -> np.ndarray:
        """E at a size, [draws, curves]."""
        return self.floor + self.amplitude * (size / self.middle) ** -self.exponent[:, None]


class Estimate(NamedTuple):
    """A number, or an array of them, and how sure it is."""

    value: np.ndarray
    error: np.ndarray  # the bootstrap's standard error
    low: np.ndarray  # of the interval
    high: np.ndarray

    @classmethod
    def of(cls, value: np.ndarray, draws: np.ndarray, confidence: float) -> Estimate:
        """From draws [draws, ...] of a value [...]: quantiles (1 ± confidence)/2 of them."""
        low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
        return cls(np.asarray(value), draws.std(0), low, high)


@dataclass(frozen=True, eq=False)
class Surface:
    """A form fitted to replicates."""

    has_floor: bool
    fit: Fit  # of the means, one draw
    draws: Fit  # of means of chains drawn again
    means: np.ndarray  # [draws, sizes, curves]: those
    p: float  # the chance of such a misfit where the form is right
    refuted: float | None = None  # that of the form without a floor, where this one has it

    @property
    def tells(self) -> bool:
        """Whether the exponent is known at all: chains drawn again hardly ever send it to an end of EXPONENTS."""
        low, high = EXPONENTS
        alpha = self.draws.exponent
        return bool(np.mean((alpha < low + 1e-3) | (alpha > high - 1e-3)) <= ALARM)

    @property
    def holds(self) -> bool:
        """Whether the form is not refuted."""
        return self.p >= (STRICT if self.has_floor else ALARM)

    @property
    def fits(self) -> bool:
        """Whether the form is not refuted, and has an exponent."""
        return self.holds and self.tells

    def at(self, size: float, confidence: float) -> Estimate:
        """E at a size, [curves]."""
        return Estimate.of(self.fit.at(size)[0], self.draws.at(size), confidence)


def surface(sizes: np.ndarray, values: np.ndarray, random: np.random.Generator, draws: int = DRAWS) -> Surface:
    """The first form that fits values [sizes, curves, chains], which are above 0 in the mean; or the last, refuted."""
    means = values.mean(-1)  # [sizes, curves]
    again = resampled(values, random, draws)  # [draws, sizes, curves]
    first = _form(sizes, values, means, again, floor=False)
    spare = (len(sizes) - 2) * means.shape[1] - 1  # points beyond the numbers that the second form has
    if first.holds or spare < 1:
        return first
    second = _form(sizes, values, means, again, floor=True)
    return Surface(True, second.fit, second.draws, again, second.p, first.p)


def _form(sizes: np.ndarray, values: np.ndarray, means: np.ndarray, again: np.ndarray, floor: bool) -> Surface:
    precision = values.shape[-1] / spread(values)  # [sizes, curves]
    level, found = means, None
    for _ in range(ROUNDS):  # by the fit's own errors: those of the means would count low ones for more
        found = fitted(sizes, means[None], precision / level**2, floor)
        level = np.stack([found.at(size)[0] for size in sizes])  # [sizes, curves]
    assert found is not None
    weight = precision / level**2
    drawn = fitted(sizes, again, weight, floor)
    null = fitted(sizes, level + again - means, weight, floor).misfit  # [draws]
    p = (1 + np.count_nonzero(null >= found.misfit[0])) / (1 + len(null))
    return Surface(floor, found, drawn, again, float(p))


def spread(values: np.ndarray) -> np.ndarray:
    """Relative variance of one chain, [sizes, curves], of values [sizes, curves, chains].

    A product of one factor for the size and one for the curve, so that few chains tell it well enough.
    """
    square = values.var(-1, ddof=1) / values.mean(-1) ** 2  # [sizes, curves]
    square = np.maximum(square, 1e-6 * square.mean())
    return square.mean(1, keepdims=True) * square.mean(0) / square.mean()


def resampled(values: np.ndarray, random: np.random.Generator, draws: int) -> np.ndarray:
    """Means over chains drawn again, [draws, sizes, curves], of values [sizes, curves, chains].

    Their distance from the mean is made (R/(R-1))^½ as large: the spread of R chains falls short of the law's by that.
    """
    chains = values.shape[-1]
    found = []
    for of_size in values:  # [curves, chains]
        share = random.multinomial(chains, np.full(chains, 1 / chains), draws) / chains  # [draws, chains]
        found.append(share @ of_size.T)  # [draws, curves]
    means = values.mean(-1)  # [sizes, curves]
    return means + np.sqrt(chains / (chains - 1)) * (np.stack(found, 1) - means)


def fitted(sizes: np.ndarray, means: np.ndarray, weight: np.ndarray, floor: bool) -> Fit:
    """Least squares of means [draws, sizes, curves], weighed by [sizes, curves], with a floor or with c = 0."""
    middle = float(np.exp(np.log(sizes).mean()))
    x = np.log(np.asarray(sizes, np.float64) / middle)  # [sizes]
    low, high = (np.full(len(means), end) for end in EXPONENTS)  # [draws]
    places = np.linspace(0, 1, PLACES)[:, None]
    each = np.arange(len(means))
    for _ in range(ZOOMS):
        tried = low + (high - low) * places  # [places, draws]
        best = _given(tried, x, means, weight, floor)[2].argmin(0)  # [draws]
        low, high = tried[np.maximum(best - 1, 0), each], tried[np.minimum(best + 1, PLACES - 1), each]
    exponent = (low + high) / 2
    base, amplitude, misfit = (found[0] for found in _given(exponent[None], x, means, weight, floor))
    return Fit(exponent, base, amplitude, misfit, middle)


def _given(
    alpha: np.ndarray, x: np.ndarray, means: np.ndarray, weight: np.ndarray, floor: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """c, A [places, draws, curves] and the misfit [places, draws] of least squares, exponents [places, draws] given."""
    power = np.exp(-alpha[..., None] * x)  # [places, draws, sizes]
    weighed = weight * means  # [draws, sizes, curves]
    with_power = np.einsum("pds,dsc->pdc", power, weighed)  # [places, draws, curves]
    square = power**2 @ weight  # [places, draws, curves]
    amplitude = with_power / square  # [places, draws, curves]: through 0
    base = np.zeros_like(amplitude)
    if floor:
        total, one, plain = weight.sum(0), power @ weight, weighed.sum(1)  # [curves], [.., curves], [draws, curves]
        det = total * square - one**2
        free = (square * plain - one * with_power) / det, (total * with_power - one * plain) / det
        flat = (free[0] >= 0) & (free[1] < 0)  # it rises: a constant is the best that falls
        both = (free[0] >= 0) & ~flat
        base = np.where(both, free[0], np.where(flat, plain / total, 0.0))
        amplitude = np.where(both, free[1], np.where(flat, 0.0, amplitude))
    # Σ weight y (y - c - A p) is Σ weight (y - c - A p)²: what is left is orthogonal to what is not held at 0.
    left = (weighed * means).sum(1) - base * weighed.sum(1) - amplitude * with_power  # [places, draws, curves]
    return base, amplitude, left.sum(-1)
