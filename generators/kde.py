"""The kernel density estimate: an ideal diffusion model stopped early, which only smooths what it was given."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from simulator.checks.fields import Count, NonNegative, check
from simulator.numerics.chance import normal, split, uniform
from simulator.numerics.selection import draw, locate, nth, summed, tree
from simulator.pool import Pool, Rows, count
from simulator.types import Array, Key


class KDEParams(NamedTuple):
    rows: Array  # [size, d]: the centres of the kernels
    weight: Array  # [size]: how much each counts


@dataclass(frozen=True)
class KDE:
    """Keeps weighted rows [n, d] and samples p(x) = Σ_i w_i N(x; x_i, h² I) / Σ_i w_i.

    At most `size` rows that weigh something are kept as they are, with their weights.  Of more, `size` centres of equal
    weight are kept: row i size·w_i/W times, W = Σ w, rounded up or down at random with that mean (systematic
    resampling), which is unbiased: set `size` to the rows in the diet and nothing is left to chance.
    """

    dim: Count = 1  # d
    bandwidth: NonNegative | Array = 0.1  # h, the kernel's standard deviation, in the units of the rows; 0 copies rows
    size: Count = 1000  # centres kept

    __post_init__ = check

    def init(self, key: Key) -> KDEParams:
        """Every centre at the origin: N(0, h² I)."""
        return KDEParams(jnp.zeros((self.size, self.dim)), jnp.ones(self.size))

    def fit(self, key: Key, params: KDEParams, pool: Pool) -> tuple[KDEParams, dict[str, Array]]:
        index, weight = self._centres(key, pool.weight)  # [size] each
        return KDEParams(jnp.where(weight[:, None] > 0, pool.take(index), 0.0), weight), {}

    def _centres(self, key: Key, weight: Array) -> tuple[Array, Array]:
        """(which of the rows are centres, how much each counts), [size] each."""
        there = weight > 0  # [n]
        index = nth(there, jnp.arange(self.size))  # [size]: those there are, if they are not too many
        index, filled = jnp.minimum(index, len(weight) - 1), index < len(weight)
        kept = jnp.where(filled, weight[index], 0.0)  # [size]
        if len(weight) <= self.size:
            return index, kept

        def resampled() -> tuple[Array, Array]:
            high, low = tree(weight)
            total = high[0]
            start, step = jnp.arange(self.size) * (total / self.size), uniform(key, ()) * (total / self.size)
            aim = start + step  # [size]: evenly spaced
            drawn = locate(lambda i: (high[i], low[i]), len(weight), (aim, (start - aim) + step))  # [size]
            return drawn, jnp.ones(self.size)

        return jax.lax.cond(there.sum() <= self.size, lambda: (index, kept), resampled)

    def sample(self, key: Key, params: KDEParams, n: int) -> Array:
        """[n, d]."""
        first, second = split(key)
        centre = params.rows[draw(first, params.weight, (n,))]  # [n, d]
        return centre + self.bandwidth * normal(second, (n, self.dim))

    def parents(self, key: Key, params: KDEParams, pool: Pool, rows: Rows, fit: Key, sample: Key) -> Array:
        """[n] int32: the slot whose row is the centre that each row was drawn about."""
        centre = draw(split(sample)[0], params.weight, (count(rows),))  # [n]
        return self._centres(fit, pool.weight)[0][centre]

    def log_prob(self, params: KDEParams, rows: Array) -> Array:
        """[n], in nats; needs a bandwidth above 0."""
        scale = self.dim * (0.5 * math.log(2 * math.pi) + jnp.log(self.bandwidth))  # []

        def one(weight: Array, centres: Array) -> tuple[Array, Array]:
            """(greatest exponent, sum of exponentials relative to it) over some centres, [n] each."""
            # Centres come first: sums over the first axis are the fast ones.
            square = ((centres[:, None] - rows) ** 2).sum(-1)  # [centres, n]
            exponent = jnp.log(weight)[:, None] - square / (2 * jnp.square(self.bandwidth))  # [centres, n]
            top = jnp.maximum(exponent.max(0, initial=-jnp.inf), jnp.finfo(jnp.float32).min)  # [n]
            return top, jnp.exp(exponent - top).sum(0)

        def add(a: tuple[Array, Array], b: tuple[Array, Array]) -> tuple[Array, Array]:
            top = jnp.maximum(a[0], b[0])  # [n]
            return top, a[1] * jnp.exp(a[0] - top) + b[1] * jnp.exp(b[0] - top)

        top, total = summed(one, params.weight, params.rows, add)
        return top + jnp.log(total) - jnp.log(params.weight.sum()) - scale
