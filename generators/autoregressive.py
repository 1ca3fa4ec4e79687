"""Autoregression with normal innovations, fitted by weighted least squares; of order 0, independent normal returns."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from generators.rows import length
from simulator.checks.fields import Count, NonNegative, Whole, check
from simulator.numerics.chance import normal
from simulator.numerics.linalg import cholesky, solve, solve_lower
from simulator.numerics.selection import summed
from simulator.pool import Pool, Rows
from simulator.types import Array, GenlossError, Key

_LOG_2PI = math.log(2 * math.pi)


class AutoregressiveParams(NamedTuple):
    coef: Array  # [1 + p]: the intercept c, then φ_1..φ_p of the last value, the one before, ...
    variance: Array  # [] σ², of innovations
    mean: Array  # [p] of the first p values of a window
    cov: Array  # [p, p] of these


@dataclass(frozen=True, kw_only=True)
class Autoregressive:
    """Rows are windows [n, length] of a series: x_t = c + Σ φ_i x_{t-i} + σ ε_t, ε normal, after p = `order` values
    that are normal with a mean and covariance of their own.

    So the density of a window is known in whole, and its maximum likelihood is closed: (c, φ) by least squares of all
    values after the first p, weighted by row, σ² the mean of squared residuals, and mean and covariance of the first.
    Nothing asks φ to be stationary: windows are short.
    """

    order: Whole = 1  # p
    length: Count | None = None  # of a window; None takes the source's
    temperature: NonNegative | Array = 1.0  # standard deviation of ε when sampling

    __post_init__ = check

    def shaped(self, rows: Rows) -> Autoregressive:
        """The same for windows like these."""
        found = length(self, rows)
        if found <= self.order:
            raise GenlossError(f"Windows of {found} values have none after the first {self.order}; lower `order`.")
        return dataclasses.replace(self, length=found)

    def init(self, key: Key) -> AutoregressiveParams:
        """Independent standard normal values."""
        p = self.order
        return AutoregressiveParams(jnp.zeros(1 + p), jnp.ones(()), jnp.zeros(p), jnp.eye(p))

    def fit(self, key: Key, params: AutoregressiveParams, pool: Pool) -> tuple[AutoregressiveParams, dict[str, Array]]:
        p, w, x = self.order, pool.weight, pool.rows  # [n], [n, length]
        total = w.sum()
        mean = summed(lambda w, x: w @ x[:, :p], w, x) / total  # [p]
        with jax.default_matmul_precision("highest"):  # normal equations square the condition number
            cov = summed(lambda w, x: (w[:, None] * (x[:, :p] - mean)).T @ (x[:, :p] - mean), w, x) / total  # [p, p]

            def sums(w: Array, x: Array) -> tuple[Array, Array]:
                past, now = self._pairs(x)
                each = jnp.repeat(w, now.shape[1])  # [n (length - p)]
                past, now = past.reshape(-1, 1 + p), now.ravel()
                return (each[:, None] * past).T @ past, (each * now) @ past  # [1 + p, 1 + p], [1 + p]

            gram, moment = summed(sums, w, x)
            # Raised by what rounding leaves uncertain, so that a series that has died out has coefficients too.
            coef = solve(gram + 4 * jnp.finfo(gram.dtype).eps * jnp.diag(jnp.diagonal(gram) + total), moment)
            square = summed(lambda w, x: w @ (self._residual(coef, x) ** 2).sum(1), w, x)  # []
        return AutoregressiveParams(coef, square / (total * (self._length - p)), mean, cov), {}

    def sample(self, key: Key, params: AutoregressiveParams, n: int) -> Array:
        """[n, length]."""
        p = self.order
        z = self.temperature * normal(key, (n, self._length))  # [n, length]
        first = params.mean + z[:, :p] @ self._lower(params).T  # [n, p]

        def value(past: Array, z: Array) -> tuple[Array, Array]:
            """(the last p values, latest first [n, p], the next one [n])."""
            now = params.coef[0] + past @ params.coef[1:] + jnp.sqrt(params.variance) * z  # [n]
            return jnp.concatenate([now[:, None], past], 1)[:, :p], now

        rest = jax.lax.scan(value, first[:, ::-1], z[:, p:].T)[1]  # [length - p, n]
        return jnp.concatenate([first, rest.T], 1)

    def log_prob(self, params: AutoregressiveParams, rows: Array) -> Array:
        """[n], in nats per window."""
        p, lower = self.order, self._lower(params)
        z = solve_lower(lower, (rows[:, :p] - params.mean).T) if p else jnp.zeros((0, len(rows)))  # [p, n]
        first = -0.5 * (z**2).sum(0) - jnp.log(jnp.diagonal(lower)).sum()  # [n]
        residual = self._residual(params.coef, rows)  # [n, length - p]
        rest = -0.5 * (residual**2 / params.variance + jnp.log(params.variance)).sum(1)  # [n]
        return first + rest - 0.5 * _LOG_2PI * self._length

    def _pairs(self, x: Array) -> tuple[Array, Array]:
        """(what each value is told by [n, length - p, 1 + p], the values [n, length - p]) of windows [n, length]."""
        p, after = self.order, self._length - self.order
        lags = [x[:, p - i : p - i + after] for i in range(1, p + 1)]  # p of [n, length - p]
        return jnp.stack([jnp.ones_like(x[:, p:]), *lags], -1), x[:, p:]

    def _residual(self, coef: Array, x: Array) -> Array:
        past, now = self._pairs(x)
        return now - past @ coef  # [n, length - p]

    def _lower(self, params: AutoregressiveParams) -> Array:
        """The triangular root of the first values' covariance, [p, p]."""
        if self.order < 2:
            return jnp.sqrt(params.cov)
        variances = jnp.diagonal(params.cov) * (self.order * jnp.finfo(jnp.float32).eps)  # [p]
        return cholesky(params.cov + jnp.diag(variances))

    @property
    def _length(self) -> int:
        if self.length is None:
            raise GenlossError(
                "This Autoregressive has no length of windows; give `length`, or let a chain take it from its source."
            )
        return self.length
