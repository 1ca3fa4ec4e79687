"""Choosing and drawing in proportion to weight, and sums over weighted rows: exact for tables of any size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from simulator.numerics.chance import exponentials, fold_in, pairs, uniform

Array = jax.Array
Rows = Any  # leaves [n, ...]


def _plus(total: Any, part: Any) -> Any:
    return jax.tree.map(jnp.add, total, part)


def summed(
    each: Callable[[Array, Rows], Any],
    weight: Array,
    rows: Rows,
    add: Callable[[Any, Any], Any] = _plus,
    block: int = 2048,
) -> Any:
    """`each(weight, rows)`, which must be a sum over rows, taken in blocks that stay in the processor's cache.

    Blocks after the last row that weighs something are left out: of a pool with room for T data sets, fit t reads t.
    Another `add` makes it another reduction; a block may have no rows.
    """
    size = weight.shape[0]
    whole = size // block
    if whole < 2:
        return each(weight, rows)
    last = jnp.minimum(-(-until(weight) // block), whole)  # []: blocks up to the last with a row that weighs

    def more(i: Array, total: Any) -> Any:
        part = jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, i * block, block), (weight, rows))
        return add(total, each(*part))

    rest = jax.tree.map(lambda a: a[whole * block :], (weight, rows))
    return jax.lax.fori_loop(0, last, more, each(*rest))


def until(weight: Array) -> Array:
    """Slots up to the last that weighs something, [] int32; many are read from the end on, a window at a time."""
    weight, size = jax.lax.stop_gradient(weight), weight.shape[0]
    wide, narrow = 1 << 15, 1 << 10  # sums over so many slots are what CPUs are fast at

    def window(start: Array, width: int) -> Array:
        return jax.lax.dynamic_slice_in_dim(weight, start, width)  # [width]

    def last(start: Array, width: int) -> Array:
        """Up to the last of a window, seen first by sums of parts of it that end where it does."""
        if (parts := width // narrow) > 1:
            begin = start + width % narrow
            there = window(begin, parts * narrow).reshape(parts, narrow).sum(1) != 0  # [parts]
            part = jnp.where(there, jnp.arange(1, parts + 1), 0).max()
            start, width = jnp.where(part > 0, begin + (part - 1) * narrow, start), narrow
        return start + jnp.where(window(start, width) > 0, jnp.arange(1, width + 1), 0).max()

    if size <= wide:
        return last(jnp.int32(0), size)
    begin = lambda k: jnp.clip((k - 1) * wide, 0, size - wide)  # noqa: E731
    empty = lambda k: (k > 1) & (window(begin(k), wide).sum() == 0)  # noqa: E731
    return last(begin(jax.lax.while_loop(empty, lambda k: k - 1, jnp.int32(-(-size // wide)))), wide)


def choose(key: Array, weight: Array, n: Array | int) -> Array:
    """Exactly n rows drawn without replacement, in proportion to weight; [capacity] bool.

    Rows of weight 0 are never drawn; where fewer than n have weight, all of them are.  `n` may be traced.  Slots of
    weight 0 at the end change nothing.  They are the n smallest of independent exponentials with rate `weight`
    (Efraimidis & Spirakis, Information Processing Letters 97 (2006) 181-185).
    """
    weight, info = jax.lax.stop_gradient(weight), jnp.finfo(jnp.float32)
    rate = jnp.maximum(weight / jnp.maximum(weight.max(), info.tiny), info.tiny)  # [capacity]
    size = weight.shape[0]
    most = until(weight)
    wait = jnp.minimum(exponentials(fold_in(key, 0), size, most=most) / rate, info.max)  # [capacity], above 0 up to it
    order = jax.lax.bitcast_convert_type(jnp.where(weight > 0, wait, jnp.inf), jnp.int32)  # as floats >= 0 are ordered
    n = jnp.asarray(n, jnp.int32)

    def number(mask: Array) -> Array:
        """How many are set; as floats, which are exact below 2^24, in half the time."""
        return mask.astype(jnp.float32 if size < 2**24 else jnp.int32).sum().astype(jnp.int32)

    def halve(bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = low + (high - low) // 2
        there = number(order <= middle)
        return jnp.where(there < n, middle + 1, jnp.where(there == n, middle, low)), jnp.where(there < n, high, middle)

    # A bound of the n smallest by bisection of 31 bits, until it holds just n or is the n-th smallest itself: sorting a
    # table is a hundred times slower on CPU.
    last = jax.lax.while_loop(lambda bounds: bounds[0] < bounds[1], halve, (jnp.int32(0), jnp.int32(2**31 - 1)))[0]
    # Of those equal to it are taken that follow one of them drawn at random, the first after the last.
    tied, left = (order == last) & (weight > 0), n - number(order < last)
    equals = number(tied)
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
    running = _running(jax.lax.population_count(word).astype(jnp.int32))  # [words]
    at = jnp.minimum(jnp.searchsorted(running, rank, side="right"), word.shape[0] - 1)  # whose word
    left = rank - jnp.where(at > 0, running[at - 1], 0)  # set bits before it in the word
    place = jnp.zeros(rank.shape, jnp.uint32)
    for step in (16, 8, 4, 2, 1):
        below = word[at] & ((jnp.uint32(1) << (place + step)) - 1)
        place = jnp.where(jax.lax.population_count(below).astype(jnp.int32) <= left, place + step, place)
    return jnp.where(rank < running[-1], at * 32 + place.astype(jnp.int32), mask.shape[0]).astype(jnp.int32)


def _running(counts: Array) -> Array:
    """Running sum of whole numbers [n], int32: a loop over log2(n) rounds, which `jnp.cumsum` writes out."""
    n = counts.shape[0]

    def add(i: Array, total: Array) -> Array:
        before = jnp.concatenate([jnp.zeros_like(total), total])  # [2 n]
        return total + jax.lax.dynamic_slice_in_dim(before, n - (1 << i), n)  # what ends 2^i places before

    return jax.lax.fori_loop(0, (n - 1).bit_length(), add, counts)


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
    depth = max((weight.shape[-1] - 1).bit_length(), 1)
    high = jnp.pad(weight, [(0, 0)] * (weight.ndim - 1) + [(0, 2**depth - weight.shape[-1])])
    rows, levels = (high, jnp.zeros_like(high)), []
    while rows[0].shape[-1] > _LOOPED:
        nodes, rows = _halved(rows)
        levels.append(nodes)
    levels.append(_top(rows))
    return jax.tree.map(lambda *parts: jnp.concatenate(parts, -1), *reversed(levels))


_LOOPED = 4096  # rows from which on the levels of a tree are a loop: each level written out compiles for 0.2 s


def _halved(rows: Pair) -> tuple[Pair, Pair]:
    """(nodes above, their masses) of pairs of neighbours [..., n]: [..., n / 2] each."""
    (left, left_low), (right, right_low) = ([part[..., i::2] for part in rows] for i in (0, 1))
    return (jnp.where(right > 0, left, -left), left_low), _plus_exactly((left, left_low), right, right_low)


def _top(rows: Pair) -> Pair:
    """`tree` of n = 2, 4, 8, ... rows [..., n], level by level in a loop that keeps what is left of them at the right.

    Each level is written over the end of what the loop left before the last one.
    """
    n = rows[0].shape[-1]
    before = [(0, 0)] * (rows[0].ndim - 1) + [(n // 2, 0)]

    def level(i: Array, carry: tuple[Pair, Pair]) -> tuple[Pair, Pair]:
        found, rows = carry
        nodes, rows = _halved(rows)  # [..., n / 2], of which the last n / 2^(i + 1) are nodes
        put = lambda a, b: jax.lax.dynamic_update_slice_in_dim(a, b, n >> i, -1)  # noqa: E731
        return jax.tree.map(put, found, nodes), jax.tree.map(lambda a: jnp.pad(a, before), rows)

    found = jax.tree.map(lambda a: jnp.pad(a, before), rows)  # [..., 3 n / 2]
    found, rows = jax.lax.fori_loop(0, n.bit_length() - 1, level, (found, rows))
    return jax.tree.map(lambda a, b: jnp.concatenate([b[..., -1:], a[..., n // 2 + 1 :]], -1), found, rows)


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
