"""The kernel density estimate: an ideal diffusion model stopped early, which only smooths what it was given."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from simulator.pool import Pool, Rows, cdf, count
from simulator.types import Array, GenlossError, Key


class KDEParams(NamedTuple):
    rows: Array  # [size, d]: the centres of the kernels, each of weight 1 / size


@dataclass(frozen=True)
class KDE:
    """Keeps weighted rows [n, d] and samples p(x) = Σ_i w_i N(x; x_i, h² I) / Σ_i w_i.

    A pool has more slots than rows that weigh something, and how many is not known to `init`; so the estimate keeps
    `size` centres of equal weight.  Row i is kept size·w_i/W times, W = Σ w, rounded up or down at random with that
    mean (systematic resampling): no approximation where these are whole numbers, as for `size` rows of equal weight,
    and unbiased otherwise.  Set `size` to the rows in the diet, or to a multiple of them.
    """

    dim: int = 1  # d
    bandwidth: float | Array = 0.1  # h, the standard deviation of the kernel, in the units of the rows; 0 copies rows
    size: int = 1000  # centres kept

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise GenlossError(f"KDE(dim={self.dim}) must have at least 1 dimension.")
        if isinstance(self.bandwidth, int | float) and self.bandwidth < 0:
            raise GenlossError(f"KDE(bandwidth={self.bandwidth}) is a standard deviation; give 0 or more.")
        if self.size < 1:
            raise GenlossError(f"KDE(size={self.size}) keeps no rows; give as many as the diet has.")

    def init(self, key: Key) -> KDEParams:
        """Every centre at the origin: N(0, h² I)."""
        return KDEParams(jnp.zeros((self.size, self.dim)))

    def fit(self, key: Key, params: KDEParams, pool: Pool) -> tuple[KDEParams, dict[str, Array]]:
        return KDEParams(pool.rows[self._kept(key, pool.weight)]), {}

    def _kept(self, key: Key, weight: Array) -> Array:
        """[size]: which of the rows are centres."""
        running = cdf(weight)  # [n]
        total = running[-1]
        aim = (jnp.arange(self.size) + jax.random.uniform(key)) * (total / self.size)  # [size]: evenly spaced
        aim = jnp.minimum(aim, jnp.nextafter(total, jnp.zeros_like(total)))
        return jnp.searchsorted(running, aim, side="right")

    def sample(self, key: Key, params: KDEParams, n: int) -> Array:
        """[n, d]."""
        first, second = jax.random.split(key)
        centre = params.rows[self._drawn(first, n)]  # [n, d]
        return centre + self.bandwidth * jax.random.normal(second, (n, self.dim))

    def _drawn(self, key: Key, n: int) -> Array:
        """[n]: which of the centres each row is drawn about."""
        return jax.random.randint(key, (n,), 0, self.size)

    def parents(self, key: Key, params: KDEParams, pool: Pool, rows: Rows, fit: Key, sample: Key) -> Array:
        """[n] int32: the slot whose row became the centre that each row was drawn about."""
        centre = self._drawn(jax.random.split(sample)[0], count(rows))  # [n]
        return self._kept(fit, pool.weight)[centre]

    def log_prob(self, params: KDEParams, rows: Array) -> Array:
        """[n], in nats; needs a bandwidth above 0."""
        scale = jnp.log(self.size) + self.dim * (0.5 * math.log(2 * math.pi) + jnp.log(self.bandwidth))  # []

        def one(row: Array) -> Array:  # [d] -> []
            square = ((row - params.rows) ** 2).sum(-1)  # [size]
            return jax.nn.logsumexp(-square / (2 * jnp.square(self.bandwidth))) - scale

        return jax.lax.map(one, rows, batch_size=256)  # in blocks: never [n, size, d] at once
