"""The pool: a fixed-capacity table of rows with provenance.  A mitigation is a reweighting of it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
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
NOWHERE = 2**31 - 1  # the place of an empty slot, whose row is of zeros


class Shared(struct.PyTreeNode):
    """Rows of two tables: a source's, of which there is one for all chains, and what this chain wrote itself."""

    table: Rows  # leaves [size, ...]: all real rows there are; None outside of a program's pieces, which are given it
    own: Rows  # leaves [slots, ...]; None, or no slot, where all rows are real
    place: Array  # [n] int32: row i is table[place[i]] or, where that is negative, own[~place[i]]

    def take(self, index: Array) -> Rows:
        """The rows at `index`; leaves [*index.shape, ...]."""
        place = self.place[index]  # [*index.shape]
        real = jax.tree.map(lambda leaf: leaf.at[place].get(mode="fill", fill_value=0), self.table)
        if self.own is None or not count(self.own):
            return real

        def either(real: Array, own: Array) -> Array:
            written = own.at[~place].get(mode="clip")
            return jnp.where((place < 0).reshape(*place.shape, *[1] * (own.ndim - 1)), written, real)

        return jax.tree.map(either, real, self.own)


def with_table(tree: Any, table: Rows) -> Any:
    """The same with this table wherever rows are `Shared`; None takes it away."""
    shared = lambda node: isinstance(node, Shared)  # noqa: E731
    return jax.tree.map(lambda node: node.replace(table=table) if shared(node) else node, tree, is_leaf=shared)


def table_in(tree: Any) -> Rows:
    """The table of rows that are `Shared`; None where none are."""
    shared = lambda node: isinstance(node, Shared)  # noqa: E731
    return next((node.table for node in jax.tree.leaves(tree, is_leaf=shared) if shared(node)), None)


def without(tree: Any, other: Any) -> Any:
    """The same without the arrays that are also `other`'s: no program gives them back twice (see `with_those`)."""
    there = {id(leaf) for leaf in jax.tree.leaves(other)}
    return jax.tree.map(lambda leaf: None if id(leaf) in there else leaf, tree)


def with_those(tree: Any, other: Any) -> Any:
    """What `without` left, with what it took away, which is at the same places in `other`."""
    return jax.tree.map(lambda leaf, at: at if leaf is None else leaf, tree, other, is_leaf=lambda leaf: leaf is None)


def count(rows: Rows | Shared) -> int:
    """Number of rows: the length of the leading axis."""
    return jax.tree.leaves(rows.place if isinstance(rows, Shared) else rows)[0].shape[0]


def take(rows: Rows | Shared, index: Array) -> Rows:
    """The rows at `index`; leaves [*index.shape, ...]."""
    return rows.take(index) if isinstance(rows, Shared) else jax.tree.map(lambda leaf: leaf[index], rows)


def part(rows: Rows | Shared, index: Array) -> Rows | Shared:
    """The rows at `index` [n], held as they were."""
    return rows.replace(place=rows.place[index]) if isinstance(rows, Shared) else take(rows, index)


def joined(rows: Rows | Shared, more: Rows) -> Rows | Shared:
    """All of both, held as the first are; leaves of `more` are [m, ...]."""
    if not isinstance(rows, Shared):
        return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), rows, more)
    own = joined(rows.own, more)
    place = count(rows.own) + jnp.arange(count(more))  # [m]
    return rows.replace(own=own, place=jnp.concatenate([rows.place, ~place]))


def gathered(rows: Rows | Shared) -> Rows:
    """All rows, leaves [n, ...]; of shapes alone, theirs."""
    if not isinstance(rows, Shared):
        return rows
    whole = lambda rows: rows.take(jnp.arange(count(rows)))  # noqa: E731
    return jax.eval_shape(whole, rows) if isinstance(rows.place, jax.ShapeDtypeStruct) else whole(rows)


@dataclass(frozen=True)
class Pool:
    """Rows with provenance and weight.  Empty slots have birth -1 and weight 0.

    `held` is how the rows are held: as they are, or `Shared`.  Who needs a few of them reads `take(index)`.
    """

    rows: Rows  # leaves [capacity, ...]
    origin: Array  # [capacity] int32: 0 real, 1 this chain's generator, 2.. other sources
    birth: Array  # [capacity] int32: the generation that wrote the row; -1 is an empty slot
    weight: Array  # [capacity] float32 >= 0: how much the row counts in the diet
    ancestors: Array | None = None  # [capacity, 1 + follows] int32 lines of descent (`roots`), where they are followed
    scores: Array | None = None  # [capacity] float32: what the last model thinks of the row, where a recipe asks

    def __init_subclass__(cls) -> None:
        """A pool that knows more of a row is such a dataclass, too, with a field more."""
        _as_tree(cls)

    @classmethod
    def of(cls, rows: Rows | Shared, capacity: int | None = None, follows: int | None = None) -> Pool:
        """A pool of real rows born at generation 0, in the first slots, with room for `capacity` rows in all.

        With `follows` each row's ancestors are kept, and those of its descendants will be.
        """
        n = count(rows)
        capacity = n if capacity is None else capacity
        filled = jnp.arange(capacity) < n  # [capacity]

        def pad(a: Array, empty: int = 0) -> Array:
            return jnp.pad(a, [(0, capacity - n), *[(0, 0)] * (a.ndim - 1)], constant_values=empty)

        shared = isinstance(rows, Shared)
        padded = rows.replace(place=pad(rows.place, NOWHERE)) if shared else jax.tree.map(pad, rows)
        birth = jnp.where(filled, 0, EMPTY).astype(jnp.int32)
        ancestors = None
        if follows is not None:
            slot = jnp.arange(capacity)
            ancestors = roots(jnp.where(filled, slot, NONE), slot, follows)
        return cls(padded, jnp.zeros(capacity, jnp.int32), birth, filled.astype(jnp.float32), ancestors)

    def __eq__(self, other: object) -> bool:
        """Whether all fields are equal, rows as they are held."""
        if type(other) is not type(self):
            return NotImplemented
        fields = lambda pool: tuple(getattr(pool, name) for name in ("held", *_beside(pool)))  # noqa: E731
        return fields(self) == fields(other)

    @property
    def held(self) -> Rows | Shared:
        """How the rows are held."""
        return self.__dict__["rows"]

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

    def take(self, index: Array) -> Rows:
        """The rows at `index`; leaves [*index.shape, ...]."""
        return take(self.held, index)

    def replace(self, **changes: Any) -> Pool:
        """The pool with other fields, its rows held as they were or as they are given."""
        return type(self)(**{"rows": self.held, **{name: getattr(self, name) for name in _beside(self)}, **changes})

    def place(
        self,
        start: Array | int,
        rows: Rows | Shared,
        origin: int,
        birth: Array | int,
        ancestors: Array | None = None,
        slot: Array | int = 0,
    ) -> Pool:
        """The pool with `rows` written from slot `start` on, with weight 1 and, where followed, their `ancestors`.

        In a pool whose rows are `Shared`, those that are not go to `slot` and on of the chain's own.
        """
        n = count(rows)

        def put(table: Array, values: Array, start: Array | int = start) -> Array:
            return jax.lax.dynamic_update_slice_in_dim(table, values.astype(table.dtype), start, axis=0)

        held = self.held
        if not isinstance(held, Shared):
            held = jax.tree.map(put, held, gathered(rows))
        elif isinstance(rows, Shared):
            held = held.replace(place=put(held.place, rows.place))
        else:
            own = jax.tree.map(lambda table, values: put(table, values, slot), held.own, rows)
            held = held.replace(own=own, place=put(held.place, ~(slot + jnp.arange(n))))
        return Pool(
            held,
            put(self.origin, jnp.full(n, origin)),
            put(self.birth, jnp.full(n, birth)),
            put(self.weight, jnp.ones(n)),
            jax.tree.map(put, self.ancestors, ancestors),
        )

    def compact(self, most: int) -> Pool:
        """The rows that weigh something and no others, in `most` slots, which must be enough for them."""
        index = nth(self.weight != 0, jnp.arange(most))  # [most]; NaN is something
        there = index < self.capacity
        index = jnp.where(there, index, 0)
        beside = {name: jax.tree.map(lambda a: a[index], getattr(self, name)) for name in _beside(self)}
        pool = self.replace(rows=part(self.held, index), **beside)
        return pool.replace(weight=jnp.where(there, pool.weight, 0.0), birth=jnp.where(there, pool.birth, EMPTY))

    def weighed(self, weight: Array) -> Pool:
        """The pool under new weights [capacity]; empty slots weigh nothing whatever the recipe says.

        A negative or infinite weight is no weight: it becomes NaN, and so does the mass of the diet.
        """
        sound = jnp.where((weight >= 0) & (weight < jnp.inf), weight, jnp.nan)  # [capacity]
        return self.replace(weight=jnp.where(self.filled, sound, 0.0).astype(jnp.float32))


# Rows that are `Shared` are gathered where they are read, so that who reads none, or a few, has no copy of all.
_rows = property(lambda pool: gathered(pool.held), lambda pool, rows: pool.__dict__.update(rows=rows))
Pool.rows = _rows  # pyright: ignore[reportAttributeAccessIssue]


def _beside(pool: Pool | type[Pool]) -> tuple[str, ...]:
    """The names of what is known of rows."""
    return tuple(field.name for field in dataclasses.fields(pool))[1:]


def _as_tree(kind: type[Pool]) -> None:
    """Pools of this kind are trees of arrays."""
    names = lambda: ("held", *_beside(kind))  # noqa: E731  (a subclass has its fields later)
    jax.tree_util.register_pytree_with_keys(
        kind,
        lambda pool: ([(jax.tree_util.GetAttrKey(name), getattr(pool, name)) for name in names()], None),
        lambda _, leaves: kind(*leaves),
    )


_as_tree(Pool)


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
