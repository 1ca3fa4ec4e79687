"""Several models that feed one pool."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from simulator.abilities import completes, shaped
from simulator.checks.fields import Count, check
from simulator.pool import Pool, Rows, take
from simulator.sources.given import said
from simulator.types import Array, Generator, Key, Params


@dataclass(frozen=True)
class Society:
    """`members` models of one kind, fitted on the same pool, which write its next rows together.

    Every member eats the whole diet with a key of its own, or, with `share`, its own part: the rows are dealt out one
    by one in the order of their slots, and a row of weight w counts as w of them (a part of a row where w is not
    whole), so that parts are disjoint, add up to the diet and weigh the same to within one row.  A member whose part
    is empty keeps the parameters the fit began at.
    """

    generator: Generator
    members: Count = 2
    share: bool = False  # each member eats a part of the diet instead of all of it

    __post_init__ = check

    def shaped(self, rows: Rows) -> Society:
        """The same for rows like these."""
        return dataclasses.replace(self, generator=shaped(self.generator, rows))

    def init(self, key: Key) -> Params:
        """The inner generator's parameters, leaves [members, ...]."""
        return jax.vmap(self.generator.init)(jax.random.split(key, self.members))

    def fit(self, key: Key, params: Params, pool: Pool) -> tuple[Params, dict[str, Array]]:
        """What the inner fits report has a leading axis [members]."""

        def one(key: Key, before: Params, weight: Array) -> tuple[Params, dict[str, Array]]:
            after, info = self.generator.fit(key, before, pool.replace(weight=weight))
            return jax.tree.map(lambda new, old: jnp.where(weight.sum() > 0, new, old), after, before), info

        keys = jax.random.split(key, self.members)
        if not self.share:
            return jax.vmap(one, (0, 0, None))(keys, params, pool.weight)
        return jax.vmap(one)(keys, params, self.parts(pool.weight))

    def parts(self, weight: Array) -> Array:
        """The weight of each row in the part of each member, [members, n]; sums to `weight` over members.

        Along the running sum of weights member i owns [i, i + 1) of every stretch of length `members`.
        """
        start = (jnp.cumsum(weight) - weight) % self.members  # [n]: where each row begins in its stretch

        def owned(end: Array) -> Array:  # [n] -> [members, n]: how much of [0, end) is each member's
            whole = jnp.floor(end / self.members)  # [n]
            return whole + jnp.clip(end - whole * self.members - jnp.arange(self.members)[:, None], 0, 1)

        return owned(start + weight) - owned(start)

    @property
    def completes(self) -> bool:
        return completes(self.generator)

    def sample(self, key: Key, params: Params, n: int, given: Rows | None = None) -> Rows:
        """Leaves [n, ...]: each member's rows in turn, as many of each; the first write one more where n has a rest.

        Dealt out again in the order of slots, they give each member as many rows of every writer.  With `given`, a
        member completes those rows of it that are in its places.
        """
        writer = np.sort(np.arange(n) % self.members)  # [n]
        place = np.arange(n) - np.searchsorted(writer, writer)  # [n]: row within its writer's
        most = -(-n // self.members)
        keys = jax.random.split(key, self.members)
        slot = np.zeros((self.members, most), int)
        slot[writer, place] = np.arange(n)  # [members, most]: where a member's row goes
        parts = None if given is None else take(given, jnp.asarray(slot))  # leaves [members, most, ...]
        rows = jax.vmap(lambda k, p, part: said(self.generator, k, p, most, part))(keys, params, parts)
        return jax.tree.map(lambda a: a[writer, place], rows)

    def log_prob(self, params: Params, rows: Rows) -> Array:
        """Of the members' equal mixture, [n], in nats, where the inner generator has a density."""
        inner: Any = self.generator
        each = jax.vmap(inner.log_prob, (0, None))(params, rows)  # [members, n]
        return jax.nn.logsumexp(each, axis=0) - jnp.log(self.members)
