"""Whole cohorts as single rows: the exact chain at a price that does not depend on how many rows it eats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.core import Tracer

from simulator.abilities import Checked
from simulator.checks.fields import Count, check
from simulator.pool import Pool, Rows
from simulator.types import Array, GenlossError, Key, Params


class Summary(Protocol):
    """What a generator says of its sufficient statistic, as its `summary`: how cohorts are drawn, merged and fitted."""

    def init(self, key: Key) -> Params: ...

    def draw(self, key: Key, params: Params, n: Array) -> Rows:
        """The statistic of n rows, drawn from its exact law: one row, without a leading axis."""
        ...

    def merge(self, old: Rows, new: Rows, share: Array) -> Rows:
        """One cohort for two of the same count, (1 - share) of the old and share of the new."""
        ...

    def fit(self, params: Params, pool: Pool) -> Params:
        """What the generator's own fit gives on the rows of all cohorts, each with its cohort's weight."""
        ...


@runtime_checkable
class Summarised(Protocol):
    """A generator with a sufficient statistic."""

    @property
    def summary(self) -> Summary: ...


@dataclass(frozen=True)
class Cohort:
    """A pool row is the sufficient statistic of a cohort of n rows, drawn from its exact law.

    Its law is that of the inner generator's chain with n rows in place of each, at a cost that does not depend on n,
    under every recipe that weighs whole cohorts (replace, accumulate, windows, decay, fresh cohorts, reweighting;
    not drawing rows out of one).  Usually `Chain(source=Truth(Cohort(g, n)), generator=Cohort(g, n), real=1, rows=1)`.
    n may be swept.  Under a recipe that weighs the past alike (`Accumulate`) the synthetic cohorts are kept as one, so
    that memory does not grow either; their provenance is then one row's.  `merge=False` keeps them apart.
    """

    generator: Any  # with a `summary`: Gaussian, Categorical, Poisson, Linear
    n: Count | Array = 100  # rows in a cohort
    merge: bool = True  # keep cohorts that always weigh the same as one

    def __post_init__(self) -> None:
        check(self)
        if not isinstance(self.generator, Summarised):
            raise GenlossError(
                f"{type(self.generator).__name__} has no sufficient statistic here; run it row by row, without Cohort."
            )
        if not isinstance(self.n, Tracer) and isinstance(self.generator.summary, Checked):
            self.generator.summary.check(int(self.n))

    def init(self, key: Key) -> Params:
        """The inner generator's own start."""
        return self.generator.summary.init(key)

    def fit(self, key: Key, params: Params, pool: Pool) -> tuple[Params, dict[str, Array]]:
        return self.generator.summary.fit(params, pool), {}

    def sample(self, key: Key, params: Params, n: int) -> Rows:
        """n cohorts, leaves [n, ...]."""
        draw = self.generator.summary.draw
        keys = key[None] if n == 1 else jax.random.split(key, n)
        return jax.vmap(lambda k: draw(k, params, jnp.asarray(self.n, jnp.float32)))(keys)

    def merged(self, old: Rows, new: Rows, share: Array) -> Rows:
        """Leaves [n, ...]: each old cohort with one new one, which carries `share` of what they say."""
        return jax.vmap(lambda a, b: self.generator.summary.merge(a, b, share))(old, new)
