"""A coin: two categories, of which one is lost for good sooner or later (simulator/theory/counts.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp

from simulator.checks.fields import Share, check
from simulator.numerics.chance import bernoulli
from simulator.pool import Pool
from simulator.types import Array, Key


class BernoulliParams(NamedTuple):
    prob: Array  # [], probability of a 1


@dataclass(frozen=True)
class Bernoulli:
    """Fits the share of ones in weighted rows [n], int32 0 or 1, p = Σ w x / Σ w; samples independent tosses.

    The fitted p is a martingale that ends at 0 or 1 (Suresh et al. 2024, arXiv:2412.17646).
    """

    p: Share | Array = 0.5  # probability of a 1 in `init`, in [0, 1]

    __post_init__ = check

    def init(self, key: Key) -> BernoulliParams:
        return BernoulliParams(jnp.asarray(self.p, jnp.float32))

    def fit(self, key: Key, params: BernoulliParams, pool: Pool) -> tuple[BernoulliParams, dict[str, Array]]:
        w, x = pool.weight, pool.rows  # [n], [n]
        ones, zeros = (w * x).sum(), (w * (1 - x)).sum()  # [], []
        return BernoulliParams(ones / (ones + zeros)), {}  # of one kind only: exactly 0 or 1, also after rounding

    def sample(self, key: Key, params: BernoulliParams, n: int) -> Array:
        """[n] int32."""
        return bernoulli(key, params.prob, (n,))

    def log_prob(self, params: BernoulliParams, rows: Array) -> Array:
        """[n], in nats."""
        return jnp.log(jnp.where(rows == 1, params.prob, 1 - params.prob))
