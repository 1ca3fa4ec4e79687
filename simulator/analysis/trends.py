"""What the first generations of chains say of the next ones: laws and noises, each by its evidence.

On a scale y of a measure, replicate r is

    y_r(t) = a_r + b·φ(t) + e_r(t),  e_r ~ N(0, σ²K), independent over replicates:

a *law* φ that all replicates share, and *noise* K of each by itself.  Generations are fitted on what earlier ones said,
so noise is a walk, of equal steps where they replace each other and of steps that fall as 1/t where they accumulate;
or it returns, where real rows hold the chain; or it is white.  Where no law fits, the trend is itself a walk.  With
flat priors of a_r, b and log σ² the next generations are Student's t in closed form.  φ, K and the scale lie on a grid,
and each has the weight of its fractional Bayes factor (O'Hagan 1995, JRSS B 57), which is defined for flat priors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.special import expit, gammaln, logit

PRECISION = 1e-7  # of records, in the measure's own size
MOST, TREND = np.log(3.0), 1.5  # a logarithm goes no farther beyond the past than that, and that many times its trend
# How likely each is taken to be beforehand.  Chance that compounds is the rule; where few generations cannot tell, a
# walk is also the cautious answer.
LEVEL, SMOOTH = 2 / 3, 0.02  # that there is no trend, that there is one and no law; the other laws share the rest
WALK, FALLING, RETURNING, WHITE = 0.85, 0.12, 0.02, 0.01
SHARES = {0.5: 0.05, 0.9: 0.15, 1.0: 0.8}  # of a walk beside white noise


class Law(NamedTuple):
    """φ at every generation, [generations]; 0 where there is none."""

    name: str
    phi: np.ndarray
    prior: float

    @property
    def slopes(self) -> int:
        return int(self.phi.any())


class Noise(NamedTuple):
    """K, [generations, generations]."""

    cov: np.ndarray
    prior: float


class Outlook(NamedTuple):
    """What is believed of the mean over replicates."""

    draws: np.ndarray  # [draws, later generations]
    of: np.ndarray  # [draws]: which law each is of, by its place in `weights`
    weights: dict[str, float]  # law -> how likely it is, the likeliest first


class _Scale(NamedTuple):
    name: str
    y: np.ndarray  # [replicates, known]
    jacobian: float  # Σ log dy/dx
    back: Callable[[np.ndarray], np.ndarray]


class _Fit(NamedTuple):
    """One law with one noise on one scale."""

    scale: _Scale
    law: Law
    noise: Noise
    log_weight: float
    drift: float = 0.0  # σ² of a logarithm, whose mean is below the law by half of σ²K

    @property
    def name(self) -> str:
        return self.law.name.format(y=self.scale.name)


def laws(known: int, generations: int) -> list[Law]:
    """φ(t) at t = 0..generations - 1: none, a line, a geometric approach, Σ 1/j² (the products and sums of chains that
    accumulate, Kazdan et al. 2024, arXiv:2410.16713), and log(1 + ct).

    On a logarithmic scale a line is a geometric decay, and log(1 + ct) a power of 1 + ct.
    """
    t = np.arange(generations)
    curves = {
        "{y} = a + b t": [t],
        "{y} = a + b ρ^t": [np.exp(-t / time) for time in np.geomspace(1, 2 * known, 16)],
        "{y} = a + b Σ 1/j²": [np.cumsum(1 / (t + 1.0) ** 2)],
        "{y} = a + b log(1 + c t)": [np.log1p(c * t) for c in np.geomspace(1 / known, 2, 8)],
    }
    share = (1 - LEVEL - SMOOTH) / len(curves)
    found = [Law(name, phi, share / len(of)) for name, of in curves.items() for phi in of]
    return [Law("{y} = a", np.zeros(generations), LEVEL), *found]


def noises(known: int, generations: int) -> tuple[list[Noise], list[Noise]]:
    """(noise about a law, noise that is a trend of its own: a walk of slopes).

    A walk has a `share` of what deviates from a line over the `known` generations; white noise has the rest.
    """
    t, sums = np.arange(generations), np.tril(np.ones((generations, generations)))
    basis = np.linalg.qr(np.stack([np.ones(known), t[:known]], -1))[0]  # [known, 2]

    def walks(steps: np.ndarray, prior: float, shares: dict[float, float] = SHARES) -> list[Noise]:
        walk = steps @ steps.T
        part = walk[:known, :known]
        deviation = (np.trace(part) - np.trace(basis.T @ part @ basis)) / max(known - 2, 1)
        return [
            Noise(share * walk / deviation + (1 - share) * np.eye(generations), prior * each)
            for share, each in shares.items()
        ]

    about = [
        Noise(np.eye(generations), WHITE),
        *walks(sums, WALK),
        *walks(sums / (t + 1.0), FALLING),
        *(Noise(kept ** np.abs(t[:, None] - t), RETURNING / 2) for kept in (0.7, 0.9)),
    ]
    return about, walks(sums @ sums, 1.0, dict.fromkeys((0.1, 0.5, 0.9, 0.99), 1 / 4))


def outlook(values: np.ndarray, generations: int, draws: int, random: np.random.Generator) -> Outlook:
    """Draws of the mean over replicates at the generations after the first `known`, from values [replicates, known].

    A measure whose values all have one sign is taken for one that keeps it.  Wants three generations that are not all
    alike.
    """
    sign = -1.0 if (values <= 0).all() else 1.0
    fits = list(_fits(sign * values, generations))
    logs = np.array([fit.log_weight for fit in fits])
    weights = np.exp(logs - logs.max())
    weights /= weights.sum()
    by_law: dict[str, float] = {}
    for fit, weight in zip(fits, weights, strict=True):
        by_law[fit.name] = by_law.get(fit.name, 0.0) + float(weight)
    by_law = dict(sorted(by_law.items(), key=lambda item: -item[1]))
    counts = random.multinomial(draws, weights)
    chosen = [(fit, int(count)) for fit, count in zip(fits, counts, strict=True) if count]
    later = np.concatenate([_drawn(fit, count, random) for fit, count in chosen])  # [draws, later]
    of = np.concatenate([np.full(count, list(by_law).index(fit.name)) for fit, count in chosen])
    if (sign * values >= 0).all():
        later = np.maximum(later, 0)
    return Outlook(sign * later, of, by_law)


def _scales(x: np.ndarray) -> list[_Scale]:
    unit, n = float(np.abs(x).mean()), x.size
    found = [_Scale("m", x / unit, -n * np.log(unit), lambda y: unit * y)]
    if (x > 0).all():
        root = np.sqrt(x / unit)
        slope = -n * np.log(2 * unit) - float(np.log(root).sum())
        found.append(_Scale("√m", root, slope, lambda y: unit * np.maximum(y, 0) ** 2))
        found.append(_Scale("log m", np.log(x), -float(np.log(x).sum()), np.exp))
    if ((x > 0) & (x < 1)).all():
        slope = -float((np.log(x) + np.log1p(-x)).sum())
        found.append(_Scale("logit m", logit(x), slope, expit))
    return found


def _fits(x: np.ndarray, generations: int) -> Iterator[_Fit]:
    """Each law with each noise on each scale, with the logarithm of prior times fractional Bayes factor:

    (1 - f)(J - (R log|K| + N log S)/2) + log Γ((N - d)/2) - log Γ((fN - d)/2) for N values of R replicates, d numbers
    a_r and b, J the log-Jacobian of the scale, S the sum of squares that is left, weighted by K^-1, and fN = R + 2.
    """
    replicates, known = x.shape
    every, (about, trending) = laws(known, generations), noises(known, generations)
    smooth = [Law("none, a smooth trend of {y}", law.phi, SMOOTH) for law in every if law.name == "{y} = a + b t"]
    least, scales = replicates + 2, _scales(x)
    for noise, of in [*((noise, every) for noise in about), *((noise, smooth) for noise in trending)]:
        half = cholesky(noise.cov[:known, :known], lower=True)
        determinant = 2 * np.log(np.diag(half)).sum()
        one = solve_triangular(half, np.ones(known), lower=True)
        one /= np.linalg.norm(one)
        phi = solve_triangular(half, np.stack([law.phi[:known] for law in of], -1), lower=True)  # [known, laws]
        phi -= np.outer(one, one @ phi)
        below = solve_triangular(half, np.diag(noise.cov)[:known] / 2, lower=True)
        below -= one * (one @ below)
        for scale in scales:
            white = solve_triangular(half, scale.y.T, lower=True)  # [known, replicates]
            white -= np.outer(one, one @ white)
            for law, curve in zip(of, phi.T, strict=True):
                d, drift = replicates + law.slopes, 0.0
                squares = _left(white, curve) + x.size * PRECISION**2
                if scale.name == "log m":
                    drift = squares / (x.size - d)
                    squares = _left(white + drift * below[:, None], curve) + x.size * PRECISION**2
                weight = scale.jacobian - (replicates * determinant + x.size * np.log(squares)) / 2
                weight *= 1 - least / x.size
                weight += gammaln((x.size - d) / 2) - gammaln((least - d) / 2)
                yield _Fit(scale, law, noise, float(weight + np.log(law.prior * noise.prior)), drift)


def _left(white: np.ndarray, curve: np.ndarray) -> float:
    """The sum of squares of white [known, replicates] that a multiple of curve [known] leaves."""
    slope = curve @ white.mean(1) / (curve @ curve) if curve.any() else 0.0
    return float(((white - (slope * curve)[:, None]) ** 2).sum())


def _drawn(fit: _Fit, draws: int, random: np.random.Generator) -> np.ndarray:
    """Draws of the mean over replicates, [draws, later]: of σ², of b given that, of each replicate given both."""
    phi, cov = fit.law.phi, fit.noise.cov
    below = fit.drift * np.diag(cov) / 2  # [generations]
    y = fit.scale.y + below[: fit.scale.y.shape[1]]
    replicates, known = y.shape
    half = cholesky(cov[:known, :known], lower=True)
    ones, curve, *each = solve_triangular(half, np.stack([np.ones(known), phi[:known], *y], -1), lower=True).T
    white = np.array(each)  # [replicates, known]
    gain = solve_triangular(half, cov[:known, known:], lower=True)  # [known, later]
    after = cov[known:, known:] - gain.T @ gain  # [later, later]
    later = cholesky(after + 1e-10 * np.trace(after) / len(after) * np.eye(len(after)), lower=True)

    size = np.linalg.norm(ones)
    unit = ones / size
    rest = curve - unit * (unit @ curve)  # [known]
    length = np.linalg.norm(rest) if fit.law.slopes else np.inf
    best = rest @ white.mean(0) / length**2
    left = white - np.outer(white @ unit, unit) - best * rest  # [replicates, known]
    squares = (left**2).sum() + y.size * PRECISION**2
    free = y.size - replicates - fit.law.slopes
    sigma = np.sqrt(squares / random.chisquare(free, draws))[:, None]  # [draws, 1]
    slope = best + sigma * random.normal(size=(draws, 1)) / (length * np.sqrt(replicates))  # [draws, 1]

    low, high, bounded = fit.scale.y.min(), fit.scale.y.max(), fit.scale.name == "log m"
    early, late = (part.mean() for part in np.array_split(y, 2, axis=1))
    far = MOST + TREND * abs(late - early) * (len(phi) - known) / known
    total = np.zeros((draws, len(phi) - known))
    for own in white:
        start = ((own - slope * curve) @ unit)[:, None] + sigma * random.normal(size=(draws, 1))
        start /= size  # [draws, 1]
        noise = (own - start * ones - slope * curve) @ gain + sigma * (random.normal(size=total.shape) @ later.T)
        found = start + slope * phi[known:] + noise - below[known:]  # [draws, later]
        total += fit.scale.back(np.clip(found, low - far, high + far) if bounded else found)
    return total / replicates
