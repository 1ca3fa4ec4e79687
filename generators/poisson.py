"""Counts of rare events, whose rate dies out exactly (simulator/theory/counts.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from simulator.checks.fields import NonNegative, check
from simulator.pool import Pool
from simulator.types import Array, Key


class PoissonParams(NamedTuple):
    rate: Array  # [], mean count of a row


@dataclass(frozen=True)
class Poisson:
    """Fits the rate of weighted rows [n], int32 counts, λ = Σ w x / Σ w; samples independent Poisson counts.

    Under replace the total count of a generation is a critical branching process: its rate is a martingale, and is 0
    sooner or later (Suresh et al. 2024, arXiv:2412.17646).
    """

    rate: NonNegative | Array = 1.0  # λ >= 0 of `init`

    __post_init__ = check

    def init(self, key: Key) -> PoissonParams:
        return PoissonParams(jnp.asarray(self.rate, jnp.float32))

    def fit(self, key: Key, params: PoissonParams, pool: Pool) -> tuple[PoissonParams, dict[str, Array]]:
        w, x = pool.weight, pool.rows  # [n], [n]
        return PoissonParams((w * x).sum() / w.sum()), {}

    def sample(self, key: Key, params: PoissonParams, n: int) -> Array:
        """[n] int32."""
        return jax.random.poisson(key, params.rate, (n,), jnp.int32)

    @property
    def summary(self) -> PoissonSummary:
        """For `Cohort`."""
        return PoissonSummary(self)

    def log_prob(self, params: PoissonParams, rows: Array) -> Array:
        """[n], in nats."""
        return jax.scipy.stats.poisson.logpmf(rows, params.rate)


class PoissonCohort(NamedTuple):
    """The sufficient statistic of a cohort."""

    n: Array  # [] rows in the cohort
    total: Array  # [] their sum


@dataclass(frozen=True)
class PoissonSummary:
    """Cohorts of counts: their total is Poisson(nλ)."""

    model: Poisson

    def init(self, key: Key) -> PoissonParams:
        return self.model.init(key)

    def draw(self, key: Key, params: PoissonParams, n: Array) -> PoissonCohort:
        total = jax.random.poisson(key, n * params.rate).astype(jnp.float32)  # []
        return PoissonCohort(jnp.asarray(n, jnp.float32), total)

    def merge(self, old: PoissonCohort, new: PoissonCohort, share: Array) -> PoissonCohort:
        return PoissonCohort(new.n, old.total + share * (new.total - old.total))

    def fit(self, params: PoissonParams, pool: Pool) -> PoissonParams:
        return PoissonParams(pool.weight @ pool.rows.total / (pool.weight @ pool.rows.n))
