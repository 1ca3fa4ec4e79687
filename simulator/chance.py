"""Random numbers where they are what a chain costs: exact, reproducible, and at about half the price.

A Threefry block is two words of 32 bits.  `jax.random` folds them into one, so that a sharded array draws the same
numbers as a whole one; here both are used.  The numbers depend on key and shape alone, under `vmap` and `scan` as
outside, on every device.  `python -m experiments.bench exact` prints what each kind of number costs.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import threefry_2x32

Array = jax.Array
Key = jax.Array


def words(key: Key, shape: tuple[int, ...], skip: Array | int = 0) -> Array:
    """Independent uniform words, uint32; others for every `skip` that is at least a whole shape away.

    Keys of another kind than Threefry are served by `jax.random`.
    """
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        if str(jax.random.key_impl(key)) != "threefry2x32":
            return jax.random.bits(jax.random.fold_in(key, skip), shape)
        key = jax.random.key_data(key)
    counter = jnp.arange(math.prod(shape), dtype=jnp.uint32) + jnp.asarray(skip, jnp.uint32)
    return threefry_2x32(key, counter).reshape(shape)


def _between(word: Array) -> Array:
    """Uniform on [1, 2), float32: the upper 23 bits as the fraction of a float."""
    return jax.lax.bitcast_convert_type((word >> 9) | np.uint32(0x3F800000), jnp.float32)


def uniform(key: Key, shape: tuple[int, ...]) -> Array:
    """Uniform on [0, 1), float32."""
    return _between(words(key, shape)) - 1


def exponential(key: Key, shape: tuple[int, ...]) -> Array:
    """Standard exponential, float32."""
    return -jnp.log(2 - _between(words(key, shape)))


def normal(key: Key, shape: tuple[int, ...]) -> Array:
    """Standard normal, float32, by the inverse of its distribution function."""
    return _normal(words(key, shape))


def _normal(word: Array) -> Array:
    centred = jnp.maximum(2 * _between(word) - 3, np.nextafter(np.float32(-1), np.float32(0)))  # in (-1, 1)
    return np.float32(math.sqrt(2)) * jax.lax.erf_inv(centred)


def chi_square(key: Key, freedom: Array, skip: int = 0) -> Array:
    """χ² with `freedom` >= 0 degrees of freedom (whole numbers, which may be traced), shape of `freedom`, float32.

    Rejection from a cubed normal (Marsaglia & Tsang, ACM TOMS 26 (2000) 363-372), exact for shapes >= 1; one degree of
    freedom is the square of a normal, none is 0.  Uses the key's words from `skip` on.
    """
    k = jnp.asarray(freedom, jnp.float32)
    shape = jnp.maximum(k, 2) / 2 - 1 / 3  # of the gamma distribution, less a third
    scale = 1 / jnp.sqrt(9 * shape)

    def attempt(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        i, found = carry
        pair = words(key, (2, *k.shape), skip + i * 2 * k.size)
        x, u = _normal(pair[0]), 2 - _between(pair[1])  # u in (0, 1]
        v = (1 + scale * x) ** 3
        accept = (v > 0) & (jnp.log(u) < 0.5 * x * x + shape * (1 - v + jnp.log(jnp.where(v > 0, v, 1.0))))
        tried = jnp.where(k == 1, x * x, jnp.where(k == 0, 0.0, jnp.where(accept, 2 * shape * v, -1.0)))
        return i + 1, jnp.where(found < 0, tried, found)

    start = (jnp.int32(0), jnp.full(k.shape, -1.0))
    return jax.lax.while_loop(lambda carry: (carry[1] < 0).any(), attempt, start)[1]


def multinomial(key: Key, n: Array | int, probs: Array) -> Array:
    """Counts of n independent draws from `probs` [size], float32 [size]; whole, and sum to n (up to 2^24).

    A binary tree of binomials, each level at once: log2(size) rounds whatever n is.  A share of 0 is never drawn.
    """
    depth = max(1, math.ceil(math.log2(probs.shape[0])))
    mass = [jnp.pad(probs, (0, 2**depth - probs.shape[0]))]  # leaves of the tree
    while mass[0].shape[0] > 1:
        mass.insert(0, mass[0].reshape(-1, 2).sum(1))  # [.. , 2 nodes] -> parents
    counts = jnp.full(1, n, jnp.float32)
    for level, below in enumerate(mass[1:]):
        left, right = below[::2], below[1::2]  # [nodes]
        share = jnp.where(left + right > 0, left / jnp.where(left + right > 0, left + right, 1.0), 0.5)
        drawn = jax.random.binomial(jax.random.fold_in(key, level), counts, share)  # [nodes]
        drawn = jnp.where(right > 0, jnp.where(left > 0, drawn, 0.0), counts)
        counts = jnp.stack([drawn, counts - drawn], -1).reshape(-1)
    return counts[: probs.shape[0]]
