"""Closed forms of chains that smooth, select or cut: what a model adds or drops every time it speaks.

Fit number t = 1 is the model fitted on real rows (record index t - 1), so that t - 1 fits on samples have passed; the
truth is N(0, 1) unless said.  Every function of `generations` returns values for t = 1..generations.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

from simulator.theory.gaussian import Values, fits


def smoothed_second_moment(bandwidth: float, generations: int, share: float = 0.0) -> Values:
    """E[x²] under a kernel density estimate of bandwidth h that eats a share α of fresh real rows, the rest its own.

    1 + h² (1 - (1-α)^t)/α; 1 + t h² for α = 0.  Exact for any number of rows, about the mean of the truth.

    >>> np.round(smoothed_second_moment(0.5, 3), 4).tolist()
    [1.25, 1.5, 1.75]
    """
    t = fits(generations)
    return 1 + bandwidth**2 * (t if share == 0 else (1 - (1 - share) ** t) / share)


def smoothed_variance(n: int, bandwidth: float, generations: int) -> Values:
    """E of the estimate's variance under replace with n rows (derived): f^t + n h² (1 - f^t), f = 1 - 1/n.

    Of the smoothed second moment 1 + t h² the rest is the drift of the mean.  The same holds for any fit whose mean is
    that of its rows and whose variance is theirs (ML) plus h², such as a Gaussian mixture with its floor.

    >>> np.round(smoothed_variance(2, 0.5, 3), 4).tolist()
    [0.75, 0.625, 0.5625]
    """
    kept = (1 - 1 / n) ** fits(generations)
    return kept + n * bandwidth**2 * (1 - kept)


def smoothed_density(x: Values, bandwidth: float, generations: int, share: float = 0.0) -> Values:
    """E of the estimate's density at x, [generations, *x.shape], with a share α of fresh real rows.

    Σ_{k < t-1} α(1-α)^k N(0, 1 + (k+1)h²) + (1-α)^(t-1) N(0, 1 + t h²); for t -> infinity the whole series.

    >>> np.round(smoothed_density(np.zeros(1), 0.5, 3), 4).tolist()
    [[0.3568], [0.3257], [0.3016]]
    """
    k = np.arange(generations).reshape(-1, *[1] * np.ndim(x))  # [generations, 1..]
    smoothed = norm.pdf(x, scale=np.sqrt(1 + (k + 1) * bandwidth**2))  # [generations, *x.shape]
    series = np.cumsum(share * (1 - share) ** k * smoothed, axis=0)
    return np.concatenate([np.zeros_like(smoothed[:1]), series[:-1]]) + (1 - share) ** k * smoothed


def tilted(probability: Values, reward: Values, generations: int) -> Values:
    """Probabilities [generations, categories] under curation by the best of K -> infinity (arXiv:2407.09499).

    p_t ∝ p_1 exp((t-1) r): each generation is curated before it is eaten.

    >>> np.round(tilted(np.array([0.5, 0.5]), np.array([0.0, 1.0]), 2), 4).tolist()
    [[0.5, 0.5], [0.2689, 0.7311]]
    """
    exponent = (fits(generations) - 1)[:, None] * (reward - np.max(reward))  # [generations, categories]
    weight = probability * np.exp(exponent)
    return weight / weight.sum(1, keepdims=True)


def preferred(probability: Values, reward: Values, generations: int) -> Values:
    """Probabilities [generations, categories] under curation by a choice of two (Bradley-Terry, arXiv:2407.09499).

    p'(x) = p(x) Σ_y p(y) 2 e^r(x) / (e^r(x) + e^r(y)).

    >>> np.round(preferred(np.array([0.5, 0.5]), np.array([0.0, 1.0]), 2), 4).tolist()
    [[0.5, 0.5], [0.3845, 0.6155]]
    """
    wins = 2 / (1 + np.exp(reward[None, :] - reward[:, None]))  # [x, y]
    found = [np.asarray(probability, np.float64)]
    for _ in range(generations - 1):
        found.append(found[-1] * (wins @ found[-1]))
    return np.stack(found)


def tilted_gaussian(strength: float, centre: float, generations: int) -> tuple[Values, Values]:
    """(variance, mean) under `tilted` with the reward -γ(x-c)²/2 (arXiv:2407.09499), infinitely many rows.

    1/(1 + (t-1)γ) and (t-1)γc/(1 + (t-1)γ): collapse onto what is preferred, as 1/t.

    >>> [np.round(part, 4).tolist() for part in tilted_gaussian(0.5, 2.0, 3)]
    [[1.0, 0.6667, 0.5], [0.0, 0.6667, 1.0]]
    """
    pull = (fits(generations) - 1) * strength
    return 1 / (1 + pull), pull * centre / (1 + pull)


def truncation_factor(cut: float) -> float:
    """Variance left of a Gaussian of which only |z| < c is kept: 1 - 2cφ(c)/(2Φ(c) - 1).

    A model that speaks only so has this as its sampling bias: `biased_variance(n, truncation_factor(c), ...)`.

    >>> round(truncation_factor(2.0), 4)
    0.7737
    """
    return float(1 - 2 * cut * norm.pdf(cut) / (2 * norm.cdf(cut) - 1))
