"""Closed forms of the one-dimensional Gaussian chain.

Fit number t = 1 is the model fitted on n real rows (record index t - 1); the truth is N(μ0, σ0² = 1); m_t and S_t are
the fitted mean and variance, V_t = E[(m_t - μ0)²].  ML divides by n (ddof 0), U by n - 1 (ddof 1).  Every function
returns values for t = 1..generations.
"""

from __future__ import annotations

import numpy as np
from scipy.special import digamma, gammaln, polygamma

Values = np.ndarray


def fits(generations: int) -> Values:
    return np.arange(1, generations + 1, dtype=np.float64)


def replace_variance(n: int, generations: int, ddof: int = 0) -> Values:
    """E[S_t] under replace: ((n-1)/(n-ddof))^t, which is (1 - 1/n)^t for ML and 1 for U (Shumailov et al. 2024; Kazdan
    et al. 2024).

    >>> np.round(replace_variance(2, 3), 4).tolist()
    [0.5, 0.25, 0.125]
    """
    return ((n - 1) / (n - ddof)) ** fits(generations)


def replace_mean_error(n: int, generations: int, ddof: int = 0) -> Values:
    """V_t under replace: Σ_{k=0..t-1} r^k/n, r = (n-1)/(n-ddof): 1 - (1 - 1/n)^t for ML, t/n for U.

    >>> np.round(replace_mean_error(2, 3), 4).tolist()
    [0.5, 0.75, 0.875]
    """
    return biased_variance(n, 1.0, generations, ddof)[1]


def replace_std(n: int, generations: int, ddof: int = 0) -> Values:
    """E[σ_t] under replace: c^t with c = sqrt(2/ν)·Γ(n/2)/Γ((n-1)/2), ν = n - 1 for U and n for ML.

    >>> np.round(replace_std(4, 3), 4).tolist()
    [0.7979, 0.6366, 0.5079]
    """
    log_c = 0.5 * np.log(2 / (n - ddof)) + gammaln(n / 2) - gammaln((n - 1) / 2)
    return np.exp(fits(generations) * log_c)


def replace_log_variance(n: int, generations: int, ddof: int = 0) -> tuple[Values, Values]:
    """Mean and variance of log S_t under replace: a random walk, drift ψ((n-1)/2) - log(ν/2), variance ψ1((n-1)/2).

    >>> [np.round(part, 4).tolist() for part in replace_log_variance(4, 3)]
    [[-0.6567, -1.3133, -1.97], [0.9348, 1.8696, 2.8044]]
    """
    t = fits(generations)
    return t * (digamma((n - 1) / 2) - np.log((n - ddof) / 2)), t * float(polygamma(1, (n - 1) / 2))


def replace_median_std(n: int, generations: int, ddof: int = 0) -> Values:
    """Median of σ_t under replace, from the random walk of log S_t (derived; Shumailov et al., arXiv:2305.17493).

    exp(median of log S_t / 2), where log S_t is a sum of t independent log χ²_{n-1} with cumulants κ: its median is its
    mean less κ3/(6κ2) (Cornish & Fisher), a shift of -ψ2(a)/(6 ψ1(a)), a = (n-1)/2, that is the same for every t.

    >>> np.round(replace_median_std(4, 3), 4).tolist()
    [0.7753, 0.5583, 0.4021]
    """
    a = (n - 1) / 2
    shift = -float(polygamma(2, a)) / (6 * float(polygamma(1, a)))
    return np.exp((replace_log_variance(n, generations, ddof)[0] + shift) / 2)


def biased_variance(n: int, bias: float, generations: int, ddof: int = 1) -> tuple[Values, Values]:
    """(E[S_t], V_t) under replace where samples come from N(m, λS) (MAD, arXiv:2307.01850): for U λ^(t-1), and
    Σ_{k=0..t-1} λ^k/n.

    In general r^t λ^(t-1) and Σ_{k=0..t-1} (rλ)^k/n, r = (n-1)/(n-ddof) (derived).  The first fit eats real rows,
    which carry no bias, so exponents count the fits on samples.

    >>> [np.round(part, 4).tolist() for part in biased_variance(4, 0.9, 3)]
    [[1.0, 0.9, 0.81], [0.25, 0.475, 0.6775]]
    """
    t, r = fits(generations), (n - 1) / (n - ddof)
    return r**t * bias ** (t - 1), np.cumsum((r * bias) ** (t - 1)) / n


def accumulate_variance(n: int, generations: int) -> Values:
    """E[S_t] when all t·n rows are kept, ML: Π_{k=1..t} (1 - 1/(n k²)) (Kazdan et al. 2024, arXiv:2410.16713).

    >>> np.round(accumulate_variance(2, 3), 4).tolist()
    [0.5, 0.4375, 0.4132]
    """
    return np.cumprod(1 - 1 / (n * fits(generations) ** 2))


def subsample_variance(n: int, generations: int) -> Values:
    """E[S_t] when n of all rows kept are drawn without replacement, ML (derived).

    >>> np.round(subsample_variance(2, 3), 4).tolist()
    [0.5, 0.2917, 0.2431]
    """
    t = fits(generations)
    factors = 1 - ((2 * n - 1) * t - n) / (n * (n * t - 1) * (t + 1) ** 2)  # the factor of j = t
    product = np.concatenate([[1.0], np.cumprod(factors)[:-1]])  # Π_{j=1..t-1}
    return (n - 1) * t / (n * t - 1) * (1 - 1 / n) * product


def fresh_share(n: int, share: float, generations: int, bias: float = 1.0, ddof: int = 0) -> tuple[Values, Values]:
    """(E[S_t], V_t) with a share α of fresh real rows each generation, the rest from the last model (derived).

    V' = (1-α)²V + α/n + (1-α)λS/n;  T = α + (1-α)(V + λS);  S' = (T - V')·n/(n - ddof).

    >>> [np.round(part, 4).tolist() for part in fresh_share(4, 0.5, 3)]
    [[0.75, 0.7188, 0.7148], [0.25, 0.2812, 0.2852]]
    """
    scale = n / (n - ddof)
    mean_error, variance = [1 / n], [(1 - 1 / n) * scale]
    for _ in range(generations - 1):
        v, s = mean_error[-1], bias * variance[-1]
        after = (1 - share) ** 2 * v + share / n + (1 - share) * s / n
        variance.append((share + (1 - share) * (v + s) - after) * scale)
        mean_error.append(after)
    return np.array(variance), np.array(mean_error)


def fresh_share_limit(n: int, share: float) -> tuple[float, float]:
    """(E[S], V) of `fresh_share` for t -> infinity, ML: V = 1/D and E[S] = 1 - 1/D, D = 1 - α + αn(2-α) (derived).

    >>> [np.round(part, 4).tolist() for part in fresh_share_limit(4, 0.5)]
    [0.7143, 0.2857]
    """
    d = 1 - share + share * n * (2 - share)
    return 1 - 1 / d, 1 / d


def fixed_real_limit(n: int, share: float) -> float:
    """E[S] for t -> infinity when the same αn real rows are eaten by every fit, ML (derived).

    c = ((1-α)/n) / (1 - (1-α)² + (1-α)/n);  E[S] = (1 - c)(1 - 1/(αn)).

    >>> round(fixed_real_limit(4, 0.5), 4)
    0.4286
    """
    c = ((1 - share) / n) / (1 - (1 - share) ** 2 + (1 - share) / n)
    return (1 - c) * (1 - 1 / (share * n))
