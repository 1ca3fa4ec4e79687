"""Where a noisy rising function crosses 0: its root, with draws from what is not known of it.

Margins h_i at places u_i in [0, 1] are a rising function of the place plus noise.  Two fits, one upon the other:

1. *Shape, from all points.*  A rising quadratic spline (non-negative least squares on integrated B-splines) of a bent
   coordinate, log(1 + u/c): what real data do is steep near none and flat near plenty.  The bend c and the number of
   knots are those of the least information criterion; the noise's variance is a quadratic of the place.
2. *Level, from the points near.*  With f the shape, h = a + b·s + c·s² + d·s³, s = (f(u) - centre)/W, within a window
   of W around the root, where a is free and b, c, d are normal about (W, 0, 0) with a spread of TRUST·W: the shape is
   believed to half its slope.  The noise is that of the residuals (the "sandwich"), whatever its law.

Places are chosen where earlier ones showed the root to be, so that nearly all points bear on it and the estimate is as
narrow as one that had been told where to look; and since the shape has seen the same points, it is fitted again on
exponential weights (the Bayesian bootstrap: Rubin 1981, doi:10.1214/aos/1176345338) for each part of the draws.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

GRID = np.linspace(0, 1, 1001)  # places at which a shape is kept
BENDS = (np.inf, 1.0, 0.3, 0.1, 0.03, 0.01, -1.0, -0.3, -0.1)  # c; below 0 the steep end is the upper one
KNOTS = (1, 2, 3, 4)
WINDOW = 20.0  # half its width, in standard errors of the mean of all points
LEAST = 0.3  # share of the points that lie in it at least
TRUST = 0.4  # spread of the shape's slope and bends, as a share of its slope
ORDER = 3  # of the polynomial in the shape
FLAT = 0.02  # share of a straight line in the shape, so that it rises everywhere


class Shape(NamedTuple):
    """A rising function, and how exact each point is."""

    values: np.ndarray  # [GRID]
    precision: np.ndarray  # [n], 1/variance of the noise


def bent(u: np.ndarray, c: float) -> np.ndarray:
    """The coordinate log(1 + u/c)/log(1 + 1/c), from 0 to 1; for c < 0 seen from the other end."""
    if np.isinf(c):
        return u
    return 1 - bent(1 - u, -c) if c < 0 else np.log1p(u / c) / np.log1p(1 / c)


def rising(u: np.ndarray, knots: int, degree: int = 2) -> np.ndarray:
    """[n, 2 + knots + degree - 1]: 1, -1 and splines that rise from 0 to 1; with non-negative coefficients every sum
    of them rises.
    """
    from scipy.interpolate import BSpline

    places = np.r_[[0.0] * (degree + 1), np.arange(1, knots) / knots, [1.0] * (degree + 1)]
    each = BSpline.design_matrix(np.clip(u, 0, 1), places, degree).toarray()  # [n, knots + degree]
    return np.c_[np.ones(len(u)), -np.ones(len(u)), each[:, ::-1].cumsum(1)[:, ::-1][:, 1:]]


def shape(u: np.ndarray, h: np.ndarray, weight: np.ndarray) -> Shape:
    """The rising function of the least information criterion, points [n] counting `weight` [n]."""
    from scipy.optimize import nnls

    best, found = np.inf, None
    for c in BENDS:
        at = bent(u, c)  # [n]
        variance = np.ones(len(u))  # [n]
        for knots in (KNOTS[0], *KNOTS):  # the variance of the last fit is the next one's
            basis = rising(at, knots)  # [n, k]
            root = np.sqrt(weight / variance)  # [n]
            coefficients = nnls(basis * root[:, None], h * root)[0]  # [k]
            square = (h - basis @ coefficients) ** 2  # [n]
            variance = _smooth(at, square)  # [n]
            criterion = (weight * (square / variance + np.log(variance))).sum() + 2 * (knots + 1)
            if criterion < best:
                best, found = criterion, (c, knots, coefficients, variance)
    assert found is not None
    c, knots, coefficients, variance = found
    values = rising(bent(GRID, c), knots) @ coefficients  # [GRID]
    line = values[0] + max(values[-1] - values[0], 1e-12) * GRID
    return Shape((1 - FLAT) * values + FLAT * line, 1 / variance)


def _smooth(u: np.ndarray, square: np.ndarray) -> np.ndarray:
    """The variance at each place, [n]: a quadratic through squared residuals, at least a quarter of their mean."""
    basis = np.vander(u, 3)  # [n, 3]
    smooth = basis @ np.linalg.lstsq(basis, square, rcond=None)[0]  # [n]
    return np.maximum(smooth, square.mean() / 4 + 1e-300)


def crossing(u: np.ndarray, h: np.ndarray, known: Shape, draws: int, random: np.random.Generator) -> np.ndarray:
    """Draws [draws] of the root in [0, 1] given points [n] and the shape; those beyond an end are that end."""
    n, g = len(u), known.values
    f = np.interp(u, GRID, g)  # [n]
    s = np.linspace(-1, 1, 401)  # places in the window
    powers = np.vander(s, ORDER + 1, increasing=True)  # [401, order + 1]
    centre, left = 0.0, 4
    while True:
        far = np.abs(f - centre)  # [n]
        noise = 1 / np.median(known.precision[np.argsort(far)[: max(10, n // 8)]])  # variance near the root
        width = max(WINDOW * np.sqrt(noise / n), np.partition(far, k := min(n - 1, int(LEAST * n)))[k], 1e-300)
        weight = known.precision * np.maximum(1 - (far / width) ** 2, 0) ** 2  # [n]
        design = np.vander((f - centre) / width, ORDER + 1, increasing=True)  # [n, order + 1]
        belief = np.r_[1e-12, np.full(ORDER, 1 / (TRUST * width) ** 2)]  # [order + 1], precisions
        inverse = np.linalg.inv((design * weight[:, None]).T @ design + np.diag(belief))
        expected = np.r_[0.0, width, np.zeros(ORDER - 1)]
        mean = inverse @ ((design * weight[:, None]).T @ h + belief * expected)  # [order + 1]
        scores = design * (weight * (h - design @ mean))[:, None]  # [n, order + 1]
        spread = inverse @ (scores.T @ scores + np.diag(belief)) @ inverse
        step = width * np.interp(0, np.maximum.accumulate(powers @ mean) + 1e-12 * s, s)
        left -= 1
        if abs(step) < 1e-3 * width or not left:
            break
        centre = float(np.clip(centre + step, g[0], g[-1]))
    values, vectors = np.linalg.eigh(spread)
    half = vectors * np.sqrt(np.maximum(values, 0))  # [order + 1, order + 1]
    curves = (mean + random.normal(size=(draws, ORDER + 1)) @ half.T) @ powers.T  # [draws, 401]
    rises = (curves[:, :-1] < 0) & (curves[:, 1:] >= 0)  # [draws, 400]
    away = np.where(rises, np.abs((s[:-1] + s[1:]) / 2 - step / width), np.inf)
    which, each = away.argmin(1), np.arange(draws)  # of several crossings the one next to the estimate
    low, high = curves[each, which], curves[each, which + 1]
    place = s[which] + (s[1] - s[0]) * -low / np.where(rises[each, which], high - low, 1.0)  # [draws]
    place = np.where(rises.any(1), place, np.where(curves[:, 200] < 0, 1.0, -1.0))
    return np.interp(np.clip(centre + place * width, g[0], g[-1]), g, GRID)


def roots(u: np.ndarray, h: np.ndarray, shapes: int, draws: int, random: np.random.Generator) -> np.ndarray:
    """Draws [shapes · draws] of the root: `draws` of them under each of `shapes` shapes."""
    found = [crossing(u, h, shape(u, h, random.exponential(size=len(u))), draws, random) for _ in range(shapes)]
    return np.concatenate(found)
