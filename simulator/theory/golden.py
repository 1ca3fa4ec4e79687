"""Closed forms of Gaussian chains that weigh fresh real rows against samples, grow, or have several dimensions.

Every generation draws n fresh real rows, which carry the share w of the mass, and m rows of the last model, which
carry 1 - w (the golden ratio, arXiv:2502.18049).  Fit number t = 1 is the model fitted on real rows; truth N(0, I).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import digamma

from simulator.theory.gaussian import Values, fits


def golden_share(k: float) -> float:
    """The best share of mass on real rows: (√(k² + 4k) - k)/2, k = n/m; 0.618.. for k = 1 (arXiv:2502.18049).

    >>> round(float(golden_share(1.0)), 4)
    0.618
    """
    return (np.sqrt(k * k + 4 * k) - k) / 2


def weighted_mean_error(
    n: int, m: int, share: float, generations: int, *, real: int | None = None, pooled: bool = False
) -> Values:
    """V_t, the mean's squared error per coordinate: V_1 = 1/real, V' = w²/n + (1-w)²(V + S/m) (arXiv:2502.18049).

    S = 1 where the fitted variance is unbiased (or known).  `pooled=True` is the ML variance of the weighted pool, as
    `Gaussian` fits it: S = 1 - V (derived).  `real` rows are eaten by the first fit; n if not given.

    >>> np.round(weighted_mean_error(4, 4, 0.5, 3), 4).tolist()
    [0.25, 0.1875, 0.1719]
    """
    found = [1 / (n if real is None else real)]
    for _ in range(generations - 1):
        variance = 1 - found[-1] if pooled else 1.0
        found.append(share**2 / n + (1 - share) ** 2 * (found[-1] + variance / m))
    return np.array(found)


def weighted_mean_error_limit(n: int, m: int, share: float, *, pooled: bool = False) -> float:
    """V_t for t -> infinity: [w²/n + (1-w)²/m] / (w(2-w)); at the golden share nV = w (arXiv:2502.18049).

    With `pooled=True` the denominator is 1 - (1-w)²(1 - 1/m) (derived).

    >>> round(weighted_mean_error_limit(4, 4, 0.5), 4)
    0.1667
    """
    rest = (1 - share) ** 2
    return (share**2 / n + rest / m) / (1 - rest * (1 - 1 / m) if pooled else share * (2 - share))


def weighted_covariance_loss(n: int, m: int, share: float, generations: int, dim: int = 1) -> Values:
    """E‖Σ_t - I‖² (Frobenius) where Σ' = w·S_real + (1-w)·S_samples, both unbiased; fit 1 eats n rows (derived).

    With U that loss, C = Var tr Σ, A = U + p, B = p² + C:  U' = w²(p + p²)/(n-1) + (1-w)²[(A + B)/(m-1) + U] and
    C' = 2pw²/(n-1) + (1-w)²[2A/(m-1) + C].

    >>> np.round(weighted_covariance_loss(4, 4, 0.5, 3), 4).tolist()
    [0.6667, 0.6111, 0.588]
    """
    p, rest = dim, (1 - share) ** 2
    loss, spread = [(p + p * p) / (n - 1)], 2 * p / (n - 1)
    for _ in range(generations - 1):
        u, a = loss[-1], loss[-1] + p
        loss.append(share**2 * (p + p * p) / (n - 1) + rest * ((a + p * p + spread) / (m - 1) + u))
        spread = 2 * p * share**2 / (n - 1) + rest * (2 * a / (m - 1) + spread)
    return np.array(loss)


def growing_variance(sizes: Sequence[int]) -> Values:
    """E[S_t] under replace where fit t eats sizes[t-1] rows, ML: Π (1 - 1/n_t).

    No collapse where Σ 1/n_t is finite.

    >>> np.round(growing_variance([2, 4, 8]), 4).tolist()
    [0.5, 0.375, 0.3281]
    """
    return np.cumprod(1 - 1 / np.asarray(sizes, np.float64))


def replace_log_determinant(n: int, dim: int, generations: int) -> Values:
    """E log det Σ_t under replace, ML, in d dimensions: t [Σ_{i=1..d} ψ((n-i)/2) + d log(2/n)].

    >>> np.round(replace_log_determinant(4, 1, 3), 4).tolist()
    [-0.6567, -1.3133, -1.97]
    """
    i = np.arange(1, dim + 1)
    return fits(generations) * (digamma((n - i) / 2).sum() + dim * np.log(2 / n))


def replace_determinant(n: int, dim: int, generations: int) -> Values:
    """E det Σ_t under replace, ML, in d dimensions: (Π_{i=1..d} (1 - i/n))^t (Kazdan et al. 2024, arXiv:2410.16713).

    >>> np.round(replace_determinant(4, 2, 3), 4).tolist()
    [0.375, 0.1406, 0.0527]
    """
    return np.prod(1 - np.arange(1, dim + 1) / n) ** fits(generations)
