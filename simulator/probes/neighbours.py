"""Nearest neighbours among many rows, exactly and in blocks, and the measures of two sets that are made of them.

A block is some rows against all candidates: one matmul, ‖a‖² + ‖b‖² - 2ab of centred rows, of which only the smallest
are kept; the table of all distances is never held.  Inside a trace the blocks are a `lax.scan`; outside of one they are
driven from the host by the same compiled function, and progress is shown where they take long.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from simulator.numerics.watched import watched
from simulator.probes.finite import where_finite
from simulator.types import Array, GenlossError

_SPARE = 4  # candidates beyond k whose distance is taken again, without cancellation


def nearest(
    a: Array, b: Array, k: int, there: Array | None = None, same: bool = False, block: int | None = None
) -> tuple[Array, Array]:
    """The k nearest rows of b [m, d] to each row of a [n, d]: squared distances [n, k], ascending, and indices [n, k].

    `there` [m] bool says which rows of b count; of `same` sets (b is a) no row is its own neighbour.  Where there are
    fewer than k the distance is inf; that of a row that is not finite is NaN, and so are all where such a row of b
    counts.  Found are the k + 4 that are nearest by the matmul, of which the k nearest by Σ(a - b)² are kept, so a copy
    is at 0 exactly; which are found is uncertain by some 1e-6 of the rows' squared distance from the mean of b.
    `block` is the number of rows of a at a time.  Raises `GenlossError` where k < 1 or b has not so many rows.
    """
    most = b.shape[0] - same
    if not 1 <= k <= most:
        raise GenlossError(f"nearest(k={k}) must lie between 1 and {most}, the number of rows to be found among.")
    # A NaN would be the nearest of all to whatever sorts it.
    a, b = jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32)
    known, whole = (jnp.isfinite(x).all(1) for x in (a, b))  # [n], [m]
    known = known & (whole if there is None else whole | ~there).all()  # [n]
    a, b = jnp.where(jnp.isfinite(a).all(1)[:, None], a, 0.0), jnp.where(whole[:, None], b, 0.0)
    centre = b.mean(0)  # [d]
    found, index = _select(a - centre, b - centre, min(k + _SPARE, most), there, same, block)  # [n, k + 4]
    size = _block(a.shape[0], index.shape[1] * a.shape[1])
    step = functools.partial(_again, a, b, found, index, size=size, k=k)
    _, (squared, index) = _over(
        -(-a.shape[0] // size), step, None, a.shape[0], "their distances", isinstance(found, Tracer)
    )
    return jnp.where(known[:, None], squared, jnp.nan), index


def radii(x: Array, k: int, block: int | None = None) -> Array:
    """Squared distance of each row of x [n, d] to its k-th nearest other row, [n]; as `nearest`."""
    return nearest(x, x, k, same=True, block=block)[0][:, -1]


def manifold(real: Array, fake: Array, k: int, block: int | None = None) -> dict[str, Array]:
    """precision, recall, density and coverage of fake rows [m, d] by the k-NN balls of real [n, d] and fake rows.

    With r_k(x) the distance of x to its k-th nearest neighbour in its own set, x itself not counted, and B(x) the open
    ball of that radius:
      precision: share of fake rows in some B(real), recall: share of real rows in some B(fake), in [0, 1]
      (Kynkäänniemi et al. 2019, arXiv:1904.06991);
      density: mean number of B(real) that a fake row is in, over k, >= 0; coverage: share of real rows whose ball
      holds a fake row, in [0, 1] (Naeem et al. 2020, arXiv:2002.09797).
    O((n² + m² + nm) d) time, memory of one block.  Pairs whose distance rounding cannot tell from the radius are taken
    for ties, which are outside.  NaN where a row is not finite.  Raises `GenlossError` where k < 1 or a set has no
    k + 1 rows.
    """
    real, fake = given = jnp.asarray(real, jnp.float32), jnp.asarray(fake, jnp.float32)
    (n, d), m = real.shape, fake.shape[0]
    if not 1 <= k < min(n, m):
        raise GenlossError(f"manifold(k={k}) needs k >= 1 and more than k rows in each set; it was given {n} and {m}.")
    real_radius, fake_radius = radii(real, k, block), radii(fake, k, block)  # [n], [m]
    centre = real.mean(0)  # [d]
    real, fake = real - centre, fake - centre
    size = block or _block(n, m)
    blocks = -(-n // size)
    longer = 1 + 2.0**-24 * (4 + math.sqrt(d))  # of the norms: distances are never rounded to less than they are
    aa, bb = longer * _norms(real), longer * _norms(fake)  # [n], [m]
    table = [_padded(x, blocks * size, filler) for x, filler in ((real, 0), (aa, 0), (real_radius, -jnp.inf))]
    step = functools.partial(_inside, *table, fake, bb, fake_radius, size=size)
    none = jnp.zeros(m, bool)
    hit, (count, covered, recalled) = _over(blocks, step, none, n, "real against fake rows", isinstance(real, Tracer))
    found = {
        "precision": hit.mean(),
        "recall": recalled.mean(),
        # The counts of blocks are whole numbers, and few: a sum over all pairs in float32 would lose some.
        "density": (count.astype(jnp.float32) / (k * m)).sum(),
        "coverage": covered.mean(),
    }
    return where_finite(found, given)


# The blocks.


def _block(n: int, wide: int) -> int:
    """Rows of a block whose table has `wide` columns: as many as the cache holds, or some of an accelerator."""
    pairs = 2**20 if jax.default_backend() == "cpu" else 2**26
    blocks = -(-n // max(min(pairs // wide, 4096), 8))
    return -(-n // blocks)


def _over(
    blocks: int, step: Callable[[Any, Array], tuple[Any, Any]], carry: Any, n: int, what: str, traced: bool
) -> tuple[Any, Any]:
    """`step(carry, i) -> (carry, out)` over blocks; outs that have rows are joined, of which there are n."""
    if blocks == 1:
        carry, out = step(carry, jnp.int32(0))
        outs = jax.tree.map(lambda leaf: leaf[None], out)
    elif traced:
        carry, outs = jax.lax.scan(step, carry, jnp.arange(blocks))
    else:
        carry, outs = _watched(blocks, step, carry, what)
    return carry, jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[:n] if a.ndim > 1 else a, outs)


def _watched(blocks: int, step: Callable[..., Any], carry: Any, what: str) -> tuple[Any, Any]:
    """The same from the host, with a bar where it will take more than two seconds."""
    outs = []
    with watched(what, blocks) as tell:
        for i in range(blocks):
            carry, out = step(carry, jnp.int32(i))
            outs.append(jax.block_until_ready(out))
            tell(1)
    return carry, jax.tree.map(lambda *parts: jnp.stack(parts), *outs)


def _select(a: Array, b: Array, k: int, there: Array | None, same: bool, block: int | None) -> tuple[Array, Array]:
    """The k nearest of centred rows by the matmul: squared distances (that may be below 0) and indices, [n, k]."""
    n, m = a.shape[0], b.shape[0]
    norms = _norms(b) if there is None else jnp.where(there, _norms(b), jnp.inf)  # [m]
    groups = _groups(m, k)
    wide = -(-m // groups) * groups
    size = block or _block(n, wide)
    blocks = -(-n // size)
    table = [_padded(x, blocks * size) for x in (a, _norms(a))] + [_padded(b, wide), _padded(norms, wide, jnp.inf)]
    step = functools.partial(_closest, *table, size=size, k=k, groups=groups, same=same)
    _, (squared, index) = _over(blocks, step, None, n, "nearest rows", isinstance(a, Tracer))
    return squared, index


def _groups(m: int, k: int) -> int:
    """Groups that candidates are dealt into: what is looked through twice is least at √(km)."""
    groups = max(8 * round(math.sqrt(k * m) / 8), 8)
    return groups if k < groups < m // 2 else m


@functools.partial(jax.jit, static_argnames=("size", "k", "groups", "same"))
def _closest(
    a: Array, aa: Array, b: Array, bb: Array, carry: None, i: Array, *, size: int, k: int, groups: int, same: bool
) -> tuple[None, tuple[Array, Array]]:
    squared = _squared(_block_of(a, i, size), _block_of(aa, i, size), b, bb)  # [size, wide]
    if same:
        itself = jnp.arange(size)[:, None] + i * size == jnp.arange(b.shape[0])  # [size, wide]
        squared = jnp.where(itself, jnp.inf, squared)
    return None, smallest(squared, k, groups)


@functools.partial(jax.jit, static_argnames=("size", "k"))
def _again(
    a: Array, b: Array, found: Array, index: Array, carry: None, i: Array, *, size: int, k: int
) -> tuple[None, tuple[Array, Array]]:
    """Distances of what was found without cancellation, in order; the k smallest."""
    at = jnp.minimum(jnp.arange(size) + i * size, a.shape[0] - 1)  # [size]
    found, index = found[at], index[at]  # [size, k + 4]
    squared = ((a[at, None] - b[index]) ** 2).sum(-1)  # [size, k + 4]
    squared, place = _first(jnp.where(jnp.isfinite(found), squared, found), k)  # [size, k]
    return None, (squared, jnp.take_along_axis(index, place, axis=1))


@functools.partial(jax.jit, static_argnames=("size",))
def _inside(
    real: Array,
    aa: Array,
    radius: Array,
    fake: Array,
    bb: Array,
    fake_radius: Array,
    hit: Array,
    i: Array,
    *,
    size: int,
) -> tuple[Array, tuple[Array, Array, Array]]:
    real, aa, radius = (_block_of(x, i, size) for x in (real, aa, radius))  # [size, d], [size], [size]
    squared = _squared(real, aa, fake, bb)  # [size, m]
    inside = squared < radius[:, None]  # [size, m]: fake j lies in the ball of real i
    count = inside.sum(0)  # [m]
    return hit | (count > 0), (count.sum(), inside.any(1), (squared < fake_radius).any(1))


def _squared(a: Array, aa: Array, b: Array, bb: Array) -> Array:
    """‖a_i - b_j‖² [n, m] from rows and their squared norms by one matmul, in full float32 on accelerators too."""
    products = jax.lax.dot_general(a, b, (((1,), (1,)), ((), ())), precision=jax.lax.Precision.HIGHEST)  # [n, m]
    return aa[:, None] + bb - 2 * products


def _norms(x: Array) -> Array:
    return (x**2).sum(1)


def _block_of(x: Array, i: Array, size: int) -> Array:
    return jax.lax.dynamic_slice_in_dim(x, i * size, size)


def _padded(x: Array, n: int, value: float = 0.0) -> Array:
    return jnp.pad(x, ((0, n - x.shape[0]), *[(0, 0)] * (x.ndim - 1)), constant_values=value)


def smallest(x: Array, k: int, groups: int) -> tuple[Array, Array]:
    """The k smallest of each row of x [n, m], ascending, and where they are, [n, k]; `groups` divides m.

    Columns are dealt into groups; the k smallest are among the k groups with the smallest minima, so all but those
    are looked at once.
    """
    # Two CPU cores, k = 9 of 10,000 columns, for 10,000 rows: 0.05 s, where top_k of whole rows takes 0.47 s, taking
    # the smallest k times 5.3 s, and the matmul before it 0.15 s.
    n, m = x.shape
    if groups == m:
        return _first(x, k)
    table = x.reshape(n, m // groups, groups)  # column c is in group c % groups
    _, group = _first(table.min(1), k)  # [n, k]
    kept = jnp.take_along_axis(table, group[:, None], axis=2)  # [n, m / groups, k]
    found, place = _first(kept.reshape(n, -1), k)  # [n, k]
    return found, place // k * groups + jnp.take_along_axis(group, place % k, axis=1)


def _first(x: Array, k: int) -> tuple[Array, Array]:
    """The k smallest of each row of x [n, m], ascending, and where they are."""
    found, place = jax.lax.top_k(-x, k)
    return -found, place
