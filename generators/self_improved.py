"""A diffusion that is led away from what it would say of itself: negative guidance by a model of its own samples."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import jax.numpy as jnp

from simulator.abilities import Repelled, completes, shaped
from simulator.checks.fields import Count, NonNegative, check
from simulator.numerics.chance import fold_in
from simulator.pool import Pool, Rows
from simulator.sources.given import said
from simulator.types import Array, Generator, GenlossError, Key, Params


@dataclass(frozen=True)
class SelfImproved:
    """SIMS (Alemohammad et al. 2024, arXiv:2408.16333): sampling by the score (1 + w)·s - w·s', s the generator's own.

    s' is that of the same generator trained on from there, by another fit, on `rows` rows that it said; with w = 0 it
    says what it would have.  A fit takes twice the steps and a sample, and its sample twice the calls of a network.
    """

    generator: Generator  # that can be repelled: a Diffusion
    strength: NonNegative | Array = 0.5  # w
    rows: Count = 1000  # of its own, which s' learns

    def __post_init__(self) -> None:
        check(self)
        if not isinstance(self.generator, Repelled):
            raise GenlossError(
                f"{type(self.generator).__name__} has no score that sampling could be led away from; give SelfImproved "
                "a Diffusion."
            )

    def shaped(self, rows: Rows) -> SelfImproved:
        """The same for rows like these."""
        return dataclasses.replace(self, generator=shaped(self.generator, rows))

    def init(self, key: Key) -> dict[str, Params]:
        """{"own": the generator's start, "said": the same}."""
        own = self.generator.init(key)
        return {"own": own, "said": own}

    def fit(self, key: Key, params: Params, pool: Pool) -> tuple[dict[str, Params], dict[str, Array]]:
        own, info = self.generator.fit(key, params["own"], pool)
        rows = self.generator.sample(fold_in(key, 1), own, self.rows)
        return {"own": own, "said": self.generator.fit(fold_in(key, 2), own, Pool.of(rows))[0]}, info

    @property
    def completes(self) -> bool:
        return completes(self.generator)

    def sample(self, key: Key, params: Params, n: int, given: Rows | None = None) -> Rows:
        """Rows as the generator says them, leaves [n, ...]."""
        assert isinstance(self.generator, Repelled)
        led = self.generator.repelled(params["own"], params["said"], jnp.asarray(self.strength))
        return said(self.generator, key, led, n, given)
