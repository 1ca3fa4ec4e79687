"""The pool: a fixed-capacity table of rows with provenance.  A mitigation is a reweighting of it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from simulator.numerics.selection import nth

Array = jax.Array
Rows = Any  # a pytree whose leaves share their leading axis: images, points, tokens, {"image", "label"} pairs

REAL, SYNTHETIC = 0, 1
EMPTY = -1
NONE = -1  # no ancestor, no parent


def count(rows: Rows) -> int:
    """Number of rows: the length of the leading axis."""
    return jax.tree.leaves(rows)[0].shape[0]


def take(rows: Rows, index: Array) -> Rows:
    """The rows at `index`; leaves [*index.shape, ...]."""
    return jax.tree.map(lambda leaf: leaf[index], rows)


class Pool(struct.PyTreeNode):
    """Rows with provenance and weight.  Empty slots have birth -1 and weight 0."""

    rows: Rows  # leaves [capacity, ...]
    origin: Array  # [capacity] int32: 0 real, 1 this chain's generator, 2.. other sources
    birth: Array  # [capacity] int32: the generation that wrote the row; -1 is an empty slot
    weight: Array  # [capacity] float32 >= 0: how much the row counts in the diet
    ancestors: Array | None = None  # [capacity, 1 + follows] int32 lines of descent (`roots`), where they are followed
    scores: Array | None = None  # [capacity] float32: what the last model thinks of the row, where a recipe asks

    @classmethod
    def of(cls, rows: Rows, capacity: int | None = None, follows: int | None = None) -> Pool:
        """A pool of real rows born at generation 0, in the first slots, with room for `capacity` rows in all.

        With `follows` each row's ancestors are kept, and those of its descendants will be.
        """
        n = count(rows)
        capacity = n if capacity is None else capacity
        filled = jnp.arange(capacity) < n  # [capacity]
        padded = jax.tree.map(lambda a: jnp.pad(a, [(0, capacity - n), *[(0, 0)] * (a.ndim - 1)]), rows)
        birth = jnp.where(filled, 0, EMPTY).astype(jnp.int32)
        ancestors = None
        if follows is not None:
            slot = jnp.arange(capacity)
            ancestors = roots(jnp.where(filled, slot, NONE), slot, follows)
        return cls(padded, jnp.zeros(capacity, jnp.int32), birth, filled.astype(jnp.float32), ancestors)

    @property
    def capacity(self) -> int:
        return self.weight.shape[0]

    @property
    def filled(self) -> Array:
        """[capacity] bool."""
        return self.birth != EMPTY

    @property
    def real(self) -> Array:
        """[capacity] bool: filled slots of real rows."""
        return self.filled & (self.origin == REAL)

    @property
    def synthetic(self) -> Array:
        """[capacity] bool: filled slots of rows that some generator wrote."""
        return self.filled & (self.origin != REAL)

    def age(self, t: Array | int) -> Array:
        """How many fits ago a row could first be eaten, [capacity]; 0 is new at fit t.

        Real rows born at t are there for fit t, synthetic ones of generation t only for fit t + 1.
        """
        return t - self.birth - (self.origin != REAL)

    def place(
        self, start: Array | int, rows: Rows, origin: int, birth: Array | int, ancestors: Array | None = None
    ) -> Pool:
        """The pool with `rows` written from slot `start` on, with weight 1 and, where followed, their `ancestors`."""
        n = count(rows)

        def put(table: Array, values: Array) -> Array:
            return jax.lax.dynamic_update_slice_in_dim(table, values.astype(table.dtype), start, axis=0)

        return Pool(
            jax.tree.map(put, self.rows, rows),
            put(self.origin, jnp.full(n, origin)),
            put(self.birth, jnp.full(n, birth)),
            put(self.weight, jnp.ones(n)),
            jax.tree.map(put, self.ancestors, ancestors),
        )

    def compact(self, most: int) -> Pool:
        """The rows that weigh something and no others, in `most` slots, which must be enough for them."""
        index = nth(self.weight != 0, jnp.arange(most))  # [most]; NaN is something
        there = index < self.capacity
        pool: Pool = jax.tree.map(lambda leaf: leaf[jnp.where(there, index, 0)], self)
        return pool.replace(weight=jnp.where(there, pool.weight, 0.0), birth=jnp.where(there, pool.birth, EMPTY))

    def weighed(self, weight: Array) -> Pool:
        """The pool under new weights [capacity]; empty slots weigh nothing whatever the recipe says.

        A negative or infinite weight is no weight: it becomes NaN, and so does the mass of the diet.
        """
        sound = jnp.where((weight >= 0) & (weight < jnp.inf), weight, jnp.nan)  # [capacity]
        return self.replace(weight=jnp.where(self.filled, sound, 0.0).astype(jnp.float32))


def roots(real: Array, index: Array, follows: int) -> Array:
    """Lines of descent of rows without parents, [n, 1 + follows] int32.

    Column 0 is the real row that a row comes from: `real` [n], numbered as the source served them, -1 where there is
    none.  Column 1 + a is its ancestor in the data set a before its own, as that row's `index` [n] in the data set, -1
    where it has none there; so column 1 is the row itself.
    """
    before = jnp.full((real.shape[0], follows - 1), NONE)
    return jnp.concatenate([real[:, None], index[:, None], before], 1).astype(jnp.int32)


def aged(lines: Array, age: Array) -> Array:
    """Lines of descent [n, 1 + follows] of rows of age [n], with column 1 + a for the ancestor that has age a."""
    real, line = lines[:, :1], lines[:, 1:]  # [n, 1], [n, follows]
    back = jnp.arange(line.shape[1]) - age[:, None]  # [n, follows]: columns before the row's own data set
    moved = jnp.where(back >= 0, jnp.take_along_axis(line, jnp.maximum(back, 0), axis=1), NONE)
    return jnp.concatenate([real, moved], 1)
