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
    """
    return ((n - 1) / (n - ddof)) ** fits(generations)


def replace_mean_error(n: int, generations: int, ddof: int = 0) -> Values:
    """V_t under replace: Σ_{k=0..t-1} r^k/n, r = (n-1)/(n-ddof): 1 - (1 - 1/n)^t for ML, t/n for U."""
    return biased_variance(n, 1.0, generations, ddof)[1]


def replace_std(n: int, generations: int, ddof: int = 0) -> Values:
    """E[σ_t] under replace: c^t with c = sqrt(2/ν)·Γ(n/2)/Γ((n-1)/2), ν = n - 1 for U and n for ML."""
    log_c = 0.5 * np.log(2 / (n - ddof)) + gammaln(n / 2) - gammaln((n - 1) / 2)
    return np.exp(fits(generations) * log_c)


def replace_log_variance(n: int, generations: int, ddof: int = 0) -> tuple[Values, Values]:
    """Mean and variance of log S_t under replace: a random walk, drift ψ((n-1)/2) - log(ν/2), variance ψ1((n-1)/2)."""
    t = fits(generations)
    return t * (digamma((n - 1) / 2) - np.log((n - ddof) / 2)), t * float(polygamma(1, (n - 1) / 2))


def replace_median_std(n: int, generations: int, ddof: int = 0) -> Values:
    """Median of σ_t under replace, from the random walk of log S_t (derived; Shumailov et al., arXiv:2305.17493).

    exp(median of log S_t / 2), where log S_t is a sum of t independent log χ²_{n-1} with cumulants κ: its median is its
    mean less κ3/(6κ2) (Cornish & Fisher), a shift of -ψ2(a)/(6 ψ1(a)), a = (n-1)/2, that is the same for every t.
    """
    a = (n - 1) / 2
    shift = -float(polygamma(2, a)) / (6 * float(polygamma(1, a)))
    return np.exp((replace_log_variance(n, generations, ddof)[0] + shift) / 2)


def biased_variance(n: int, bias: float, generations: int, ddof: int = 1) -> tuple[Values, Values]:
    """(E[S_t], V_t) under replace where samples come from N(m, λS) (MAD, arXiv:2307.01850): for U λ^(t-1), and
    Σ_{k=0..t-1} λ^k/n.

    In general r^t λ^(t-1) and Σ_{k=0..t-1} (rλ)^k/n, r = (n-1)/(n-ddof) (derived).  The first fit eats real rows,
    which carry no bias, so exponents count the fits on samples.
    """
    t, r = fits(generations), (n - 1) / (n - ddof)
    return r**t * bias ** (t - 1), np.cumsum((r * bias) ** (t - 1)) / n


def accumulate_variance(n: int, generations: int) -> Values:
    """E[S_t] when all t·n rows are kept, ML: Π_{k=1..t} (1 - 1/(n k²)) (Kazdan et al. 2024, arXiv:2410.16713)."""
    return np.cumprod(1 - 1 / (n * fits(generations) ** 2))


def subsample_variance(n: int, generations: int) -> Values:
    """E[S_t] when n of all rows kept are drawn without replacement, ML (derived)."""
    t = fits(generations)
    factors = 1 - ((2 * n - 1) * t - n) / (n * (n * t - 1) * (t + 1) ** 2)  # the factor of j = t
    product = np.concatenate([[1.0], np.cumprod(factors)[:-1]])  # Π_{j=1..t-1}
    return (n - 1) * t / (n * t - 1) * (1 - 1 / n) * product


def fresh_share(n: int, share: float, generations: int, bias: float = 1.0, ddof: int = 0) -> tuple[Values, Values]:
    """(E[S_t], V_t) with a share α of fresh real rows each generation, the rest from the last model (derived).

    V' = (1-α)²V + α/n + (1-α)λS/n;  T = α + (1-α)(V + λS);  S' = (T - V')·n/(n - ddof).
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
    """(E[S], V) of `fresh_share` for t -> infinity, ML: V = 1/D and E[S] = 1 - 1/D, D = 1 - α + αn(2-α) (derived)."""
    d = 1 - share + share * n * (2 - share)
    return 1 - 1 / d, 1 / d


def fixed_real_limit(n: int, share: float) -> float:
    """E[S] for t -> infinity when the same αn real rows are eaten by every fit, ML (derived).

    c = ((1-α)/n) / (1 - (1-α)² + (1-α)/n);  E[S] = (1 - c)(1 - 1/(αn)).
    """
    c = ((1 - share) / n) / (1 - (1 - share) ** 2 + (1 - share) / n)
    return (1 - c) * (1 - 1 / (share * n))
