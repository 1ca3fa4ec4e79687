"""GARCH(1,1): a series whose variance follows its own squares (Bollerslev 1986, doi:10.1016/0304-4076(86)90063-1)."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from generators.rows import length
from simulator.checks.fields import Count, NonNegative, check
from simulator.numerics.chance import normal
from simulator.numerics.linalg import solve
from simulator.pool import Pool, Rows
from simulator.types import Array, GenlossError, Key


class GarchParams(NamedTuple):
    mean: Array  # [] μ
    variance: Array  # [] σ̄², to which h returns
    alpha: Array  # [] α > 0: how much of the last squared residual h takes
    beta: Array  # [] β > 0: how much of the last h; α + β < 1


class _Fit(NamedTuple):
    """A fit in flight, at θ = (μ / s, log σ̄² / s², log α/γ, log β/γ), γ = 1 - α - β, s² the variance of the diet."""

    theta: Array  # [4]
    loss: Array  # [] nats per value
    slope: Array  # [4] its derivative
    information: Array  # [4, 4] its expected curvature
    damping: Array  # []


@dataclass(frozen=True, kw_only=True)
class Garch:
    """Rows are windows [n, length] of returns: r_t = μ + √h_t ε_t, ε normal, h_t = σ̄²(1 - α - β) + α(r_{t-1} - μ)² +
    β h_{t-1}, h_1 = σ̄².

    Weighted maximum likelihood by scoring: Newton's method with the information I = E ∂²(-log p), which takes first
    derivatives of h alone (Fiorentini, Calzolari & Panattoni 1996, J. Applied Econometrics 11, 399-417), damped as by
    Levenberg and Marquardt, so that no step raises the loss.  Of N values the errors of a fit have covariance (N I)⁻¹.
    """

    length: Count | None = None  # of a window; None takes the source's
    steps: Count = 15  # of scoring
    temperature: NonNegative | Array = 1.0  # standard deviation of ε when sampling

    __post_init__ = check

    def shaped(self, rows: Rows) -> Garch:
        """The same for windows like these."""
        return dataclasses.replace(self, length=length(self, rows))

    def init(self, key: Key) -> GarchParams:
        """Mean 0, variance 1, α = 0.05, β = 0.9: common values of daily returns."""
        return GarchParams(*(jnp.float32(x) for x in (0.0, 1.0, 0.05, 0.9)))

    def fit(self, key: Key, params: GarchParams, pool: Pool) -> tuple[GarchParams, dict[str, Array]]:
        share = pool.weight / (pool.weight.sum() * self._length)  # [n]
        mean = (share @ pool.rows).sum()  # []
        scale = jnp.maximum(jnp.sqrt((share @ (pool.rows - mean) ** 2).sum()), jnp.finfo(jnp.float32).tiny)  # []
        x = (pool.rows - mean) / scale  # [n, length]

        def at(theta: Array, damping: Array) -> _Fit:
            (h, e), push = jax.linearize(lambda theta: _path(_natural(theta), x), theta)  # [n, length] each
            dh, de = jax.vmap(push, out_axes=-1)(jnp.eye(4))  # [n, length, 4] each
            z = e / jnp.sqrt(h)  # [n, length]
            dh, de = dh / h[..., None], de / jnp.sqrt(h)[..., None]  # [n, length, 4]: of log h, and in deviations
            slope = 0.5 * (1 - z**2)[..., None] * dh + z[..., None] * de
            both = jnp.concatenate([dh / math.sqrt(2), de], 1) * jnp.sqrt(share)[:, None, None]  # [n, 2 length, 4]
            information = jnp.tensordot(both, both, ((0, 1), (0, 1)))  # [4, 4]
            return _Fit(theta, share @ (jnp.log(h) + z**2).sum(1) / 2, share @ slope.sum(1), information, damping)

        def step(now: _Fit, _: None) -> tuple[_Fit, None]:
            # Where h hardly moves (α near 0) nothing tells β: what is left of its row is damping.
            ridge = now.damping * jnp.diagonal(now.information) + 1e-6
            new = at(now.theta - solve(now.information + jnp.diag(ridge), now.slope), now.damping / 4)
            worse = now._replace(damping=4 * now.damping)
            return jax.tree.map(lambda a, b: jnp.where(new.loss <= now.loss, a, b), new, worse), None

        theta = jnp.array([0.0, 0.0, 0.0, math.log(0.9 / 0.05)])  # α = γ = 0.05
        found = jax.lax.scan(step, at(theta, jnp.float32(0.1)), None, self.steps)[0]
        fitted = _natural(found.theta)
        params = fitted._replace(mean=mean + scale * fitted.mean, variance=scale**2 * fitted.variance)
        return params, {"persistence": fitted.alpha + fitted.beta}

    def sample(self, key: Key, params: GarchParams, n: int) -> Array:
        """[n, length]."""

        def value(h: Array, z: Array) -> tuple[Array, Array]:
            e = jnp.sqrt(h) * z  # [n]
            return _next(params, h, e), params.mean + e

        z = self.temperature * normal(key, (self._length, n))
        return jax.lax.scan(value, jnp.full(n, params.variance), z)[1].T

    def log_prob(self, params: GarchParams, rows: Array) -> Array:
        """[n], in nats per window."""
        h, e = _path(params, rows)  # [n, length] each
        return -0.5 * (jnp.log(2 * math.pi * h) + e**2 / h).sum(1)

    @property
    def _length(self) -> int:
        if self.length is None:
            raise GenlossError(
                "This Garch has no length of windows; give `length`, or let a chain take it from its source."
            )
        return self.length


def _natural(theta: Array) -> GarchParams:
    alpha, beta, _ = jax.nn.softmax(jnp.append(theta[2:], 0.0))
    return GarchParams(theta[0], jnp.exp(theta[1]), alpha, beta)


def _next(params: GarchParams, h: Array, e: Array) -> Array:
    """h of the next value, from this one's and its residual, [n] each."""
    _, variance, alpha, beta = params
    return (1 - alpha - beta) * variance + alpha * e**2 + beta * h


def _path(params: GarchParams, rows: Array) -> tuple[Array, Array]:
    """(h, residuals) of windows, [n, length] each."""
    e = rows - params.mean  # [n, length]
    value = lambda h, e: (_next(params, h, e), h)  # noqa: E731
    return jax.lax.scan(value, jnp.full(len(rows), params.variance), e.T)[1].T, e
