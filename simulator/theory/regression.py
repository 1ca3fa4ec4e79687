"""Closed forms of chains of linear regressions: excess test risk E‖coef - truth‖² for x ~ N(0, I), noise σ.

Fit number t = 1 is the least-squares fit to n = `rows` real rows of d = `dim` features (record index t - 1); every
generation writes n rows.  Every function returns values for t = 1..generations, in units of y².
"""

from __future__ import annotations

import numpy as np

from simulator.theory.gaussian import Values, fits
from simulator.types import GenlossError


def replace_risk(rows: int, dim: int, generations: int, noise: float = 1.0) -> Values:
    """Under replace, t·σ²d/(n-d-1) (Gerstgrasser et al. 2024, arXiv:2404.01413).

    >>> np.round(replace_risk(12, 1, 3), 4).tolist()
    [0.1, 0.2, 0.3]
    """
    return fits(generations) * _determined(rows, dim, noise)


def line_risk(writers: Values, rows: Values, dim: int, noise: float, real_noise: float) -> Values:
    """Where fit t eats rows[t-1] rows of one writer, the fit numbered writers[t-1] from 0 or the truth (-1) (derived).

    R_t = R_writer + σ²d/(n-d-1), σ the noise of the writer's rows: their covariates owe nothing to their writer.
    """
    found = np.zeros(len(rows))
    for t, (writer, n) in enumerate(zip(writers, rows, strict=True)):
        before = found[writer] if writer >= 0 else 0.0
        found[t] = before + _determined(int(n), dim, noise if writer >= 0 else real_noise)
    return found


def accumulate_risk(rows: int, dim: int, generations: int, noise: float = 1.0, shared: bool = False) -> Values:
    """When all t·n rows are kept.

    `shared=True`: each generation labels the same covariates, σ²d/(n-d-1)·Σ_{i=1..t} 1/i² (Gerstgrasser et al. 2024,
    arXiv:2404.01413).  Otherwise, as in a chain, each generation draws its own: σ²d·Σ_{i=1..t} 1/(i(in-d-1)), exact
    (derived: coef_t - coef_{t-1} = (X_1ᵀX_1 + .. + X_tᵀX_t)⁻¹ X_tᵀε_t, and rows are exchangeable).  They agree for
    n >> d.

    >>> np.round(accumulate_risk(12, 1, 3), 4).tolist()
    [0.1, 0.1227, 0.1325]
    """
    scale, t = _determined(rows, dim, noise), fits(generations)
    terms = scale / t**2 if shared else noise**2 * dim / (t * (t * rows - dim - 1))
    return np.cumsum(terms)


def subsample_risk(rows: int, dim: int, generations: int, noise: float = 1.0) -> Values:
    """When n of all rows kept are drawn without replacement, for n >> d: σ²d/(n-d-1)·ρ_t (derived).

    ρ_t = β_t + 1 - 1/t, β_1 = 1, β_{t+1} = β_t + (2 - 1/t)/(t + 1)², which tends to π²/2 - 2.  The first fit is exact;
    later ones are to relative order d/n.

    >>> np.round(subsample_risk(12, 1, 3), 4).tolist()
    [0.1, 0.175, 0.2083]
    """
    t = fits(generations)
    beta = np.cumsum(np.concatenate([[1.0], ((2 - 1 / t) / (t + 1) ** 2)[:-1]]))
    return _determined(rows, dim, noise) * (beta + 1 - 1 / t)


def interpolate_risk(rows: int, dim: int, generations: int, noise: float = 0.0, norm: float = 1.0) -> Values:
    """Under replace with fewer rows than features, fits of least norm: ‖truth‖²(1 - ρ^t) + σ²n/(d-n-1)·Σ_{k<t} ρ^k.

    ρ = n/d: each generation keeps the part of the coefficients that its rows span.  `norm` is ‖truth‖.

    >>> np.round(interpolate_risk(2, 4, 3), 4).tolist()
    [0.5, 0.75, 0.875]
    """
    if dim < rows + 2:
        raise GenlossError(
            f"The risk of {rows} rows and {dim} features is not finite; give at least {rows + 2} features."
        )
    kept = (rows / dim) ** fits(generations)  # ρ^t
    from_noise = noise**2 * rows / (dim - rows - 1) * np.cumsum(kept) / (rows / dim)
    return norm**2 * (1 - kept) + from_noise


def _determined(rows: int, dim: int, noise: float) -> float:
    """The risk of one fit to n > d + 1 rows: σ²d/(n-d-1)."""
    if rows < dim + 2:
        raise GenlossError(f"The risk of {rows} rows and {dim} features is not finite; give at least {dim + 2} rows.")
    return noise**2 * dim / (rows - dim - 1)
