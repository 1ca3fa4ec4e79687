"""Logistic regression: labels of two classes, written by the last model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from simulator.checks.fields import Count, Positive, check
from simulator.numerics.chance import bernoulli
from simulator.numerics.linalg import solve
from simulator.pool import Pool
from simulator.types import Array, Key


class LogisticParams(NamedTuple):
    coef: Array  # [d]


@dataclass(frozen=True)
class Logistic:
    """Fits weighted maximum likelihood to rows {"x": [n, d], "y": [n]}; samples x ~ N(0, I), P(y = 1) = s(x·coef).

    Labels y are 0 or 1, and s(z) = 1/(1 + exp(-z)).  Newton's method minimises -Σ w log p(y | x) + ridge·‖coef‖²/2;
    the ridge keeps coef finite where the two classes can be separated.
    """

    dim: Count = 1  # d
    ridge: Positive | Array = 1e-3  # the larger, the smaller the coefficients of separable rows
    steps: Count = 20  # of Newton's method

    __post_init__ = check

    def init(self, key: Key) -> LogisticParams:
        """A coefficient vector of norm 1, all features alike."""
        return LogisticParams(jnp.full(self.dim, self.dim**-0.5, jnp.float32))

    def fit(self, key: Key, params: LogisticParams, pool: Pool) -> tuple[LogisticParams, dict[str, Array]]:
        w, x, y = pool.weight, pool.rows["x"], pool.rows["y"]  # [n], [n, d], [n]

        def loss(coef: Array) -> Array:
            z = x @ coef  # [n]
            return w @ (jax.nn.softplus(z) - y * z) + self.ridge * (coef @ coef) / 2  # []

        def newton(_: Array, coef: Array) -> Array:
            p = jax.nn.sigmoid(x @ coef)  # [n]
            slope = x.T @ (w * (y - p)) - self.ridge * coef  # [d]
            curvature = (x * (w * p * (1 - p))[:, None]).T @ x + self.ridge * jnp.eye(self.dim)  # [d, d]
            step = solve(curvature, slope)  # [d]
            # A full step can overshoot where classes are nearly separable; one of log(1 + m)/m of it cannot, where m
            # is the largest change of a row's log-odds (generalised self-concordance: Bach 2010).
            m = jnp.max(jnp.abs(x @ step) * (w > 0))  # []
            careful = step * jnp.where(m > 0, jnp.log1p(m) / jnp.where(m > 0, m, 1.0), 1.0)  # [d]
            return coef + jnp.where(loss(coef + step) <= loss(coef + careful), step, careful)

        return LogisticParams(jax.lax.fori_loop(0, self.steps, newton, jnp.zeros(self.dim))), {}

    def sample(self, key: Key, params: LogisticParams, n: int) -> dict[str, Array]:
        """{"x": [n, d], "y": int32 [n]}."""
        on_x, on_y = jax.random.split(key)
        x = jax.random.normal(on_x, (n, self.dim))
        return {"x": x, "y": bernoulli(on_y, jax.nn.sigmoid(x @ params.coef), (n,))}

    def log_prob(self, params: LogisticParams, rows: dict[str, Array]) -> Array:
        """[n], in nats: log p(x) + log p(y | x)."""
        sign = 2 * rows["y"] - 1  # [n]: -1 or 1
        on_x = jax.scipy.stats.norm.logpdf(rows["x"]).sum(-1)  # [n]
        return on_x + jax.nn.log_sigmoid(sign * (rows["x"] @ params.coef))
