"""Waiting times: one number that is both mean and spread, so its collapse is a product of means (theory/counts.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from simulator.pool import Pool
from simulator.types import Array, Key


class ExponentialParams(NamedTuple):
    mean: Array  # [], in the units of the rows; 1 / rate


@dataclass(frozen=True)
class Exponential:
    """Fits the mean of weighted rows [n] >= 0, m = Σ w x / Σ w; samples independent exponentials of that mean.

    Under replace m_t is a product of t independent means of n standard exponentials: it keeps E[m_t] = 1 and yet
    goes to 0 almost surely, since E[log m_t] = t (ψ(n) - log n) < 0 (derived).
    """

    def init(self, key: Key) -> ExponentialParams:
        """Mean 1."""
        return ExponentialParams(jnp.float32(1.0))

    def fit(self, key: Key, params: ExponentialParams, pool: Pool) -> tuple[ExponentialParams, dict[str, Array]]:
        w, x = pool.weight, pool.rows  # [n], [n]
        return ExponentialParams((w * x).sum() / w.sum()), {}

    def sample(self, key: Key, params: ExponentialParams, n: int) -> Array:
        """[n] float32."""
        return params.mean * jax.random.exponential(key, (n,))

    def log_prob(self, params: ExponentialParams, rows: Array) -> Array:
        """[n], in nats; -inf below 0."""
        return jnp.where(rows < 0, -jnp.inf, -rows / params.mean - jnp.log(params.mean))
