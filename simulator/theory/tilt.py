"""Curation of Gaussians by the best of many: each generation's law tilted by exp(strength·reward)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from simulator.numerics.schedule import at
from simulator.theory.facts import Facts
from simulator.theory.gaussian import Values
from simulator.theory.table import TRUTH
from simulator.types import GenlossError

FEW = 0.02  # what 1/(effective rows), added over fits, may come to


def curated(facts: Facts, mean: Values, cov: Values) -> Values:
    """E of the fitted variance, mean over coordinates, [T], as the number of rows goes to infinity.

    A Gaussian N(m, Σ) tilted by exp(γ r), r(x) = b·x - xᵀΓx/2 + const, is Gaussian with precision Σ⁻¹ + γΓ and mean
    (Σ⁻¹ + γΓ)⁻¹(Σ⁻¹m + γb) (arXiv:2407.09499); a fit takes the moments of it and of the real rows beside it.  Of n rows
    the tilt leaves n Z(γ)²/Z(2γ) effective ones, Z(γ) = E exp(γ r), and the law is refused where they are too few.
    Raises `GenlossError` where r is not quadratic.
    """
    assert facts.curates is not None
    before, curate = facts.curates
    slope, curve = _quadratic(curate.reward, len(mean))  # b [d], Γ [d, d]
    real = (before.share[0] * (before.parents == TRUTH)).sum(-1)  # [T]
    latest = before.share[0] * ((before.parents != TRUTH) & (before.data_set == np.arange(facts.generations)[:, None]))
    rows = (before.eaten[0] * (latest > 0)).sum(-1)  # [T]
    share = real / (real + latest.sum(-1))  # [T]: of the diet's mass
    m, s, found, lost = mean, cov, [], 0.0
    for t in range(facts.generations):
        now_mean, now_cov = mean, cov
        if share[t] < 1:
            strength = float(at(curate.strength, t))
            wide = s * float(facts.model.bias)  # [d, d]: what the last model speaks
            tilted_mean, tilted_cov, log_z = _tilt(m, wide, strength * slope, strength * curve)
            log_z2 = _tilt(m, wide, 2 * strength * slope, 2 * strength * curve)[2]
            lost += np.exp(log_z2 - 2 * log_z) / rows[t]
            a = share[t]
            now_mean = a * mean + (1 - a) * tilted_mean
            now_cov = a * (cov + _square(mean - now_mean)) + (1 - a) * (tilted_cov + _square(tilted_mean - now_mean))
        m, s = now_mean, now_cov
        found.append(np.diag(s).mean())
    if lost > FEW:
        raise GenlossError(
            f"curation is known in the limit of many rows, from which these may be {lost:.0%} off; raise `rows`."
        )
    return np.array(found)


def _square(x: Values) -> Values:
    return np.outer(x, x)


def _tilt(mean: Values, cov: Values, slope: Values, curve: Values) -> tuple[Values, Values, float]:
    """(mean, covariance, log E exp(slope·x - xᵀ curve x/2)) of N(mean, cov) tilted."""
    precision = np.linalg.inv(cov)
    after = precision + curve
    if np.linalg.eigvalsh(after).min() <= 0:
        raise GenlossError("the reward grows faster than the rows' density falls, and curation has no limit.")
    tilted_cov = np.linalg.inv(after)
    tilted = tilted_cov @ (precision @ mean + slope)
    log_z = 0.5 * (np.linalg.slogdet(precision)[1] - np.linalg.slogdet(after)[1])
    return tilted, tilted_cov, float(log_z + 0.5 * (tilted @ after @ tilted - mean @ precision @ mean))


def _quadratic(reward: Any, dim: int) -> tuple[Values, Values]:
    """(b, Γ) of a reward b·x - xᵀΓx/2 + const; raises `GenlossError` for another."""
    points = np.random.default_rng(0).normal(size=(64, dim)) * 2

    def one(x: Any) -> Any:
        return reward(x[None])[0]

    curve = -np.asarray(jax.hessian(one)(jnp.zeros(dim)), np.float64)  # [d, d]
    slope = np.asarray(jax.grad(one)(jnp.zeros(dim)), np.float64)  # [d]
    expected = points @ slope - 0.5 * np.einsum("ni,ij,nj->n", points, curve, points)
    said = np.asarray(reward(jnp.asarray(points, jnp.float32)), np.float64) - float(one(jnp.zeros(dim)))
    if not np.allclose(said, expected, atol=1e-4 * max(1.0, np.abs(expected).max())):
        raise GenlossError("curation has a law for a Gaussian only where its reward is quadratic.")
    return slope, curve
