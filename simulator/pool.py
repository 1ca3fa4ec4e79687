"""The pool: a fixed-capacity table of rows with provenance.  A mitigation is a reweighting of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from simulator.chance import exponential, fold_in, pairs, uniform

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


def _plus(total: Any, part: Any) -> Any:
    return jax.tree.map(jnp.add, total, part)


def summed(
    each: Callable[[Array, Rows], Any], weight: Array, rows: Rows, add: Callable[[Any, Any], Any] = _plus
) -> Any:
    """`each(weight, rows)`, which must be a sum over rows, taken in blocks that stay in the processor's cache.

    Blocks after the last row that weighs something are left out: of a pool with room for T data sets, fit t reads t.
    Another `add` makes it another reduction; a block may have no rows.
    """
    size, block = weight.shape[0], 2048
    whole = size // block
    if whole < 2:
        return each(weight, rows)
    last = jnp.where(weight > 0, jnp.arange(1, size + 1), 0).max()  # []: rows up to the last that weighs something

    def more(i: Array, total: Any) -> Any:
        part = jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, i * block, block), (weight, rows))
        return add(total, each(*part))

    rest = jax.tree.map(lambda a: a[whole * block :], (weight, rows))
    return jax.lax.fori_loop(0, jnp.minimum(-(-last // block), whole), more, each(*rest))


def choose(key: Array, weight: Array, n: Array | int) -> Array:
    """Exactly n rows drawn without replacement, in proportion to weight; [capacity] bool.

    Rows of weight 0 are never drawn; where fewer than n have weight, all of them are.  `n` may be traced.  Slots of
    weight 0 at the end change nothing.  They are the n smallest of independent exponentials with rate `weight`
    (Efraimidis & Spirakis, Information Processing Letters 97 (2006) 181-185).
    """
    weight, info = jax.lax.stop_gradient(weight), jnp.finfo(jnp.float32)
    rate = jnp.maximum(weight / jnp.maximum(weight.max(), info.tiny), info.tiny)  # [capacity]
    wait = jnp.minimum(exponential(fold_in(key, 0), weight.shape) / rate, info.max)  # [capacity], above 0
    order = jax.lax.bitcast_convert_type(jnp.where(weight > 0, wait, jnp.inf), jnp.int32)  # as floats >= 0 are ordered
    n = jnp.asarray(n, jnp.int32)

    def halve(_: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = low + (high - low) // 2
        enough = (order <= middle).sum() >= n
        return jnp.where(enough, low, middle + 1), jnp.where(enough, middle, high)

    # The n-th smallest by bisection of its 31 bits: sorting a table is a hundred times slower on CPU.
    last = jax.lax.fori_loop(0, 31, halve, (jnp.int32(0), jnp.int32(2**31 - 1)))[0]
    # Of equals those are taken that follow one of them drawn at random, the first after the last.
    tied, left = (order == last) & (weight > 0), n - (order < last).sum()
    equals = tied.sum()
    start = (uniform(fold_in(key, 1), ()) * equals).astype(jnp.int32)
    begin, end, wrapped = nth(tied, jnp.stack([start, start + left, jnp.maximum(start + left - equals, 0)]))
    slot = jnp.arange(order.shape[0])
    taken = (order < last) | (tied & (((slot >= begin) & (slot < end)) | (slot < wrapped)))
    return taken & (weight > 0)


def nth(mask: Array, rank: Array) -> Array:
    """The position in `mask` [n] before which `rank` are set, int32; past the end where there are not so many.

    Words of 32 bits are counted, then one is searched: a running sum over all would take several times as long.
    """
    bits = jnp.pad(mask, (0, -mask.shape[0] % 32)).reshape(-1, 32).astype(jnp.uint32)  # [words, 32]
    word = (bits << jnp.arange(32, dtype=jnp.uint32)).sum(1, dtype=jnp.uint32)  # [words]
    running = jnp.cumsum(jax.lax.population_count(word).astype(jnp.int32))  # [words]
    at = jnp.minimum(jnp.searchsorted(running, rank, side="right"), word.shape[0] - 1)  # whose word
    left = rank - jnp.where(at > 0, running[at - 1], 0)  # set bits before it in the word
    place = jnp.zeros(rank.shape, jnp.uint32)
    for step in (16, 8, 4, 2, 1):
        below = word[at] & ((jnp.uint32(1) << (place + step)) - 1)
        place = jnp.where(jax.lax.population_count(below).astype(jnp.int32) <= left, place + step, place)
    return jnp.where(rank < running[-1], at * 32 + place.astype(jnp.int32), mask.shape[0]).astype(jnp.int32)


Pair = tuple[Array, Array]  # the unevaluated sum of a float and a much smaller one: 48 bits


def draw(key: Array, weight: Array, shape: tuple[int, ...]) -> Array:
    """Indices of rows drawn with replacement, in proportion to weight; int32 of the given shape.

    Shares are right to a few parts in 10^6 down to 10^-12 of the mass, in tables of any size.  Rows of weight 0 are
    never drawn, and slots of weight 0 at the end change nothing; nor does a row written twice instead of weighing 2.
    """
    high, low = tree(weight)
    node = lambda i: (high[i], low[i])  # noqa: E731
    return locate(node, weight.shape[0], times(fraction(key, shape), node(0)))


def tree(weight: Array) -> Pair:
    """A binary tree over rows, for `locate`: the mass of each node's left child [..., nodes]; of all rows at node 0.

    The root is node 1, and the children of i are 2 i and 2 i + 1, as in a heap.  Where the right child is empty the
    mass of the left one is negative.
    """
    weight = jax.lax.stop_gradient(weight)
    depth = (weight.shape[-1] - 1).bit_length()
    high = jnp.pad(weight, [(0, 0)] * (weight.ndim - 1) + [(0, 2**depth - weight.shape[-1])])
    low, levels = jnp.zeros_like(high), []
    while high.shape[-1] > 1:
        left, right = high[..., ::2], high[..., 1::2]
        levels.append((jnp.where(right > 0, left, -left), low[..., ::2]))
        high, low = _plus_exactly((left, low[..., ::2]), right, low[..., 1::2])
    levels.append((high, low))
    return jax.tree.map(lambda *parts: jnp.concatenate(parts, -1), *reversed(levels))


def locate(node: Callable[[Array], Pair], size: int, aim: Pair) -> Array:
    """The row where the running sum of weights first exceeds each aim, int32; `node` reads a tree of `size` rows."""

    def descend(_: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        i, high, low = carry
        left, left_low = node(i)
        beyond, rest = _plus_exactly((high, low), -jnp.abs(left), -left_low)
        right = (beyond >= 0) & ~jnp.signbit(left)
        return 2 * i + right, jnp.where(right, beyond, high), jnp.where(right, rest, low)

    depth = (size - 1).bit_length()
    i = jax.lax.fori_loop(0, depth, descend, (jnp.ones(aim[0].shape, jnp.int32), *aim))[0]
    return jnp.minimum(i - 2**depth, size - 1)


def _plus_exactly(a: Pair, high: Array, low: Array | float = 0.0) -> Pair:
    """a + (high + low), with what rounding takes of the high parts (Knuth, TAOCP 2, 4.2.2) in the low one."""
    total = a[0] + high
    added = total - a[0]
    rest = (a[0] - (total - added)) + (high - added) + (a[1] + low)
    both = total + rest
    return both, rest - (both - total)


def fraction(key: Array, shape: tuple[int, ...]) -> Pair:
    """Uniform on [0, 1) with 48 bits, of the given shape."""
    x, y = pairs(key, shape)
    high = (x >> 8).astype(jnp.int32).astype(jnp.float32) * 2.0**-24
    low = ((x & 255) << 16 | y >> 16).astype(jnp.int32).astype(jnp.float32) * 2.0**-48
    return high, low


def times(part: Pair, mass: Pair) -> Pair:
    """A `fraction` of a mass.  Halves of 12 bits have products that are exact, fused with a sum or not."""
    upper = jnp.floor(part[0] * 4096) / 4096
    lower = part[0] - upper
    word = jax.lax.bitcast_convert_type(mass[0], jnp.uint32) & jnp.uint32(0xFFFFF000)
    coarse = jax.lax.bitcast_convert_type(word, jnp.float32)
    fine = mass[0] - coarse
    found = _plus_exactly((upper * coarse, jnp.zeros_like(upper)), upper * fine)
    return _plus_exactly(found, lower * coarse, lower * fine + part[0] * mass[1] + part[1] * mass[0])


def cdf(weight: Array) -> Array:
    """Running sum along the last axis, made to rise only at rows that weigh something, whatever the rounding."""
    return jax.lax.cummax(jnp.where(weight > 0, jnp.cumsum(weight, -1), -jnp.inf), axis=weight.ndim - 1)


def effective_size(weight: Array) -> Array:
    """(Σw)² / Σw²: the number of equally weighted rows that would be as informative (Kish 1965)."""
    return weight.sum() ** 2 / jnp.maximum((weight**2).sum(), jnp.finfo(jnp.float32).tiny)
