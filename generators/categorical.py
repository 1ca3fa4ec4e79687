"""Categories drawn independently: the Wright-Fisher model of lost words (simulator/theory/counts.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp

from simulator.checks.fields import Count, NonNegative, Positive, check
from simulator.numerics.chance import multinomial, uniform
from simulator.numerics.selection import cdf, draw
from simulator.pool import NONE, Pool
from simulator.types import Array, Key


class CategoricalParams(NamedTuple):
    probs: Array  # [size], sums to 1


@dataclass(frozen=True)
class Categorical:
    """Fits the shares of categories in weighted rows [n], int32 in 0..size-1; samples categories independently.

    p_i = (Σ w [x = i] + β) / (W + size·β), W = Σ w; samples come from p_i^(1/τ) / Σ_j p_j^(1/τ).  Without smoothing a
    category that a generation did not say is lost for good (Shumailov et al. 2024, doi:10.1038/s41586-024-07566-y).
    """

    size: Count  # number of categories
    smoothing: NonNegative | Array = 0.0  # β >= 0: Laplace's pseudo-count of every category, in rows
    zipf: float | Array = 0.0  # s: `init` is p_i ∝ i^-s, i = 1..size; 0 is uniform
    temperature: Positive | Array = 1.0  # τ > 0 of samples; below 1 sharpens

    __post_init__ = check

    def init(self, key: Key) -> CategoricalParams:
        """Uniform, or Zipf's law with exponent `zipf`."""
        mass = jnp.arange(1, self.size + 1, dtype=jnp.float32) ** -self.zipf  # [size]
        return CategoricalParams(mass / mass.sum())

    def fit(self, key: Key, params: CategoricalParams, pool: Pool) -> tuple[CategoricalParams, dict[str, Array]]:
        counts = jnp.zeros(self.size).at[pool.rows].add(pool.weight) + self.smoothing  # [size]
        return CategoricalParams(counts / counts.sum()), {}  # one category left: c / c is 1 exactly, and stays so

    def sample(self, key: Key, params: CategoricalParams, n: int) -> Array:
        """[n] int32; a category of probability 0 is never drawn, whatever the rounding."""
        return draw(key, self.mass(params), (n,))

    def mass(self, params: CategoricalParams) -> Array:
        """What samples are drawn in proportion to, [size]; the largest is 1, so that none underflows."""
        return (params.probs / params.probs.max()) ** (1 / self.temperature)

    @property
    def summary(self) -> CategoricalSummary:
        """For `Cohort`."""
        return CategoricalSummary(self)

    def parents(self, key: Key, params: CategoricalParams, pool: Pool, rows: Array, fit: Key, sample: Key) -> Array:
        """[n] int32: drawing a category is drawing one of its rows, in proportion to weight; -1 if smoothing's."""
        order = jnp.argsort(pool.rows)  # [capacity]: category by category
        running, sorted_rows = cdf(pool.weight[order]), pool.rows[order]  # [capacity]

        def below(side: str) -> Array:
            """[n]: the mass of the categories before (or up to) that of each row."""
            i = jnp.searchsorted(sorted_rows, rows, side=side)
            return jnp.where(i > 0, jnp.maximum(running[i - 1], 0), 0)

        start, end = below("left"), below("right")
        aim = uniform(key, rows.shape) * (end - start + self.smoothing)  # [n]
        row = jnp.searchsorted(running, jnp.minimum(start + aim, jnp.nextafter(end, 0 * end)), side="right")
        return jnp.where(aim < end - start, order[row], NONE)

    def log_prob(self, params: CategoricalParams, rows: Array) -> Array:
        """[n], in nats, at temperature 1; -inf for a lost category."""
        return jnp.log(params.probs)[rows]


@dataclass(frozen=True)
class CategoricalSummary:
    """Cohorts of categories: multinomial counts [size], float32."""

    model: Categorical

    def init(self, key: Key) -> CategoricalParams:
        return self.model.init(key)

    def draw(self, key: Key, params: CategoricalParams, n: Array) -> Array:
        mass = self.model.mass(params)
        return multinomial(key, n, mass / mass.sum())

    def merge(self, old: Array, new: Array, share: Array) -> Array:
        return old + share * (new - old)

    def fit(self, params: CategoricalParams, pool: Pool) -> CategoricalParams:
        counts = pool.weight @ pool.rows + self.model.smoothing  # [size]
        return CategoricalParams(counts / counts.sum())
