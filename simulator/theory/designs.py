"""The risk of regressions whose rows are few: exact given the covariates, averaged over draws of these."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simulator.theory.gaussian import Values
from simulator.theory.table import Table, plain

if TYPE_CHECKING:
    from simulator.chain import Chain

WORK = 4_000_000_000  # multiplications; draws are as many as that allows
DRAWS = 100, 1000  # least, below which nothing is computed, and most


def averaged_risk(
    chain: Chain,
    generations: int,
    truth: Values,
    origin: Values,
    noise: float,
    real_noise: float,
    ridge: float = 0.0,
) -> tuple[Values, Values, int] | None:
    """(E‖coef_t - origin‖² [T], its standard error [T], draws) of any workflow of linear or ridge regressions, for
    covariates x ~ N(0, I); None where it would take too long (derived).

    coef_t = M_t y, M_t = (XᵀWX + ridge·I)⁺XᵀW, and y_j = x_j·coef_writer(j) + σ_j z_j, so given covariates and weights
    coef_t is linear in the noise of all rows: coef_t = b_t + A_t z, with b_t = M_t X b_writer and A_t = M_t (σ + X
    A_writer), and E‖coef_t - origin‖² = ‖b_t - origin‖² + ‖A_t‖².  Rows that always weigh the same, n >= d of them, are
    drawn as d rows with the same XᵀX ~ Wishart(I, n) (Bartlett), for which Xᵀz has the same law.
    """
    recipe, table, d = plain(chain.recipe), Table(chain, generations), len(truth)
    chance = table.reads(recipe)[0]
    member = np.arange(len(table)) if chance else table.alike(recipe)
    some, held = np.unique(member, return_index=True, return_counts=True)[1:]  # [units]: a row of each; how many
    order = np.argsort(table.first[some], kind="stable")  # by time
    some, held = some[order], (held * table.each[some])[order]
    unit = np.repeat(np.arange(len(some)), np.minimum(held, d))  # [r]: of each row that is drawn
    parent, first = table.parent[some][unit], table.first[some][unit]  # [r]
    draws = int(min(WORK // (generations**2 * d**2 * len(unit)), DRAWS[1]))
    if draws < DRAWS[0] or generations * len(table) > 10_000_000:
        return None
    fits, rng = np.arange(generations), np.random.default_rng(0)
    there = np.searchsorted(first, fits, side="right")  # [T]: rows that there are at each fit
    wrote = np.append(fits, -1)[:, None] == parent  # [T + 1, r]
    sigma = np.where(parent < 0, real_noise, noise)  # [r]
    size = max(1, min(draws, 4_000_000 // (generations * d * len(unit))))  # draws at a time
    risk = []
    weights = iter(table.several(recipe, draws, seed=1)) if chance else None
    left = np.zeros((0, generations, len(table)))
    fixed = None if chance else np.asarray(next(table.several(recipe, 1)), np.float64)[..., some][..., unit]
    for start in range(0, draws, size):
        n_draws = min(size, draws - start)
        w = fixed
        if weights is not None:
            while len(left) < n_draws:
                left = np.concatenate([left, np.asarray(next(weights), np.float64)])
            w, left = left[:n_draws][..., some][..., unit], left[n_draws:]  # [draws, T, r]
        assert w is not None
        x = np.concatenate([_covariates(rng, n_draws, int(n), d) for n in held], 1)  # [draws, r, d]
        risk.append(_risk(w, x, wrote, there, sigma, truth, origin, ridge))
    found = np.concatenate(risk)  # [draws, T]
    return found.mean(0), found.std(0, ddof=1) / np.sqrt(draws), draws


def _risk(
    weight: Values,  # [draws or 1, T, r]
    x: Values,  # [draws, r, d]
    wrote: Values,  # [T + 1, r]: whether a fit wrote the row; the last is the truth
    there: Values,  # [T]: how many of the rows there are
    sigma: Values,  # [r]
    truth: Values,  # [d]
    origin: Values,  # [d]
    ridge: float,
) -> Values:
    """E over the noise of ‖coef_t - origin‖², given covariates and weights, [draws, T]."""
    (draws, r, d), fits = x.shape, len(there)
    mean, influence = np.zeros((draws, fits + 1, d)), np.zeros((draws, fits, d, r))  # b, A
    mean[:, -1] = truth
    for t, n in enumerate(there):
        seen = x[:, :n]
        weighed = (weight[:, t, :n, None] * seen).transpose(0, 2, 1)  # [draws, d, n]
        gram = weighed @ seen + ridge * np.eye(d)  # [draws, d, d]
        fit = np.linalg.pinv(gram, hermitian=True) @ weighed  # M [draws, d, n]
        by = (fit[:, None] * wrote[:, None, :n]) @ seen[:, None]  # M X by writer [draws, T + 1, d, d]
        mean[:, t] = np.einsum("bsij,bsj->bi", by, mean)
        influence[:, t, :, :n] = fit * sigma[:n]
        if t:
            beside = by[:, :t].transpose(0, 2, 1, 3).reshape(draws, d, t * d)
            influence[:, t] += beside @ influence[:, :t].reshape(draws, t * d, r)
    return ((mean[:, :-1] - origin) ** 2).sum(-1) + (influence**2).sum((-2, -1))


def _covariates(rng: np.random.Generator, draws: int, n: int, d: int) -> Values:
    """n rows x ~ N(0, I), or, where n > d, d rows with a triangular factor of their XᵀX, [draws, min(n, d), d]."""
    z = rng.normal(size=(draws, min(n, d), d))
    if n <= d:
        return z
    root = np.sqrt(rng.chisquare(n - np.arange(d), (draws, d)))  # [draws, d]
    return np.triu(z, 1) + root[:, :, None] * np.eye(d)
