"""Random numbers where they are what a chain costs: exact, reproducible, and at less than half the price.

A Threefry-2x32 block (Salmon et al., SC 2011, doi:10.1145/2063384.2063405) is two words of 32 bits.  `jax.random`
folds them into one, so that a sharded array draws the same numbers as a whole one; here both are used.  And on CPU it
runs the rounds as a loop, which costs 50 to 100 µs a call however small; here they are unrolled.  The numbers depend on
key and shape alone, under `vmap` and `scan` as outside, on every device.  `python -m experiments.bench exact.numbers`
prints what each kind costs.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
Key = jax.Array


_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def _blocks(key: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """Threefry-2x32 with 20 rounds of the counters (x, y) under key [2], all uint32."""
    schedule = (key[0], key[1], key[0] ^ key[1] ^ np.uint32(0x1BD11BDA))
    x, y = x + schedule[0], y + schedule[1]
    for i in range(5):
        for rotation in _ROTATIONS[i % 2]:
            x = x + y
            y = (y << np.uint32(rotation)) | (y >> np.uint32(32 - rotation))
            y = x ^ y
        x, y = x + schedule[(i + 1) % 3], y + schedule[(i + 2) % 3] + np.uint32(i + 1)
    return x, y


def _raw(key: Key) -> Array | None:
    """The two words of a Threefry key; None for keys of another kind."""
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return key
    return jax.random.key_data(key) if str(jax.random.key_impl(key)) == "threefry2x32" else None


def fold_in(key: Key, data: Array | int) -> Key:
    """`jax.random.fold_in`, to the bit."""
    return _fold_in(key, jnp.asarray(data, jnp.uint32))


@jax.jit
def _fold_in(key: Key, data: Array) -> Key:
    raw = _raw(key)
    if raw is None or not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return jax.random.fold_in(key, data)
    x, y = _blocks(raw, jnp.uint32(0), data)
    return jax.random.wrap_key_data(jnp.stack([x, y]), impl="threefry2x32")


@functools.partial(jax.jit, static_argnums=1)
def words(key: Key, shape: tuple[int, ...]) -> Array:
    """Independent uniform words, uint32; keys of another kind than Threefry are served by `jax.random`."""
    raw = _raw(key)
    if raw is None:
        return jax.random.bits(key, shape)
    return _words(raw[None], math.prod(shape)).reshape(shape)


def _words(keys: Array, size: int, skip: Array | int = 0, lane: int = 0) -> Array:
    """Words of keys [keys, 2], [keys, size]: of the blocks from `skip` on, others in every lane.

    The upper half of the second counter keeps them apart from the keys that `fold_in` makes of small numbers.
    """
    half = (size + 1) // 2
    counter = jnp.arange(half, dtype=jnp.uint32) + jnp.asarray(skip, jnp.uint32)  # [half]
    return jnp.concatenate(_blocks(keys.T[..., None], counter, jnp.full(1, 0x80000000 + lane, jnp.uint32)), -1)[
        :, :size
    ]


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


@jax.jit
def chi_square(key: Key, freedom: Array) -> Array:
    """χ² with `freedom` >= 0 degrees of freedom (whole numbers, which may be traced), shape of `freedom`, float32.

    Rejection from a cubed normal (Marsaglia & Tsang, ACM TOMS 26 (2000) 363-372), exact for shapes >= 1; one degree of
    freedom is the square of a normal, none is 0.
    """
    raw = _raw(key)
    if raw is None:  # a Threefry key drawn from one of another kind
        raw = jax.random.bits(key, (2,))
    return _chi_square(raw, jnp.asarray(freedom, jnp.float32).ravel()).reshape(jnp.shape(freedom))


@jax.custom_batching.custom_vmap
def _chi_square(key: Array, k: Array) -> Array:
    """χ² with k [*chains, n] degrees of freedom from words of key [*chains, 2], where axes of chains may be 1.

    One loop over tries serves all chains: mapped by itself it would count them chain by chain, and draw the same words
    again for chains that share their key.
    """
    chains = key.shape[:-1]
    shape = jnp.maximum(k, 2) / 2 - 1 / 3  # of the gamma distribution, less a third
    scale = 1 / jnp.sqrt(9 * shape)

    def again(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        i, found = carry
        pair = _words(key.reshape(-1, 2), 2 * k.shape[-1], i * k.shape[-1], lane=1)  # [chains, 2 n]
        x, u = jnp.split(pair.reshape(*chains, -1), 2, -1)  # [*chains, n] each
        x, u = _normal(x), 2 - _between(u)  # u in (0, 1]
        v = (1 + scale * x) ** 3
        accept = (v > 0) & (jnp.log(u) < 0.5 * x * x + shape * (1 - v + jnp.log(jnp.where(v > 0, v, 1.0))))
        tried = jnp.where(k == 1, x * x, jnp.where(k == 0, 0.0, jnp.where(accept, 2 * shape * v, -1.0)))
        return i + 1, jnp.where(found < 0, tried, found)

    start = jnp.full(jnp.broadcast_shapes(k.shape, (*chains, 1)), -1.0)
    return jax.lax.while_loop(lambda carry: (carry[1] < 0).any(), again, (jnp.uint32(0), start))[1]


@_chi_square.def_vmap
def _chi_square_mapped(size: int, mapped: list[bool], key: Array, k: Array) -> tuple[Array, bool]:
    found = _chi_square(key if mapped[0] else key[None], k if mapped[1] else k[None])
    return jnp.broadcast_to(found, (size, *found.shape[1:])), True


def bartlett(key: Key, freedom: Array) -> tuple[Array, Array, Array]:
    """(A below its diagonal [d, d], the squares of its diagonal [d], d more normals) of Bartlett's triangular factor.

    A is lower triangular, A_ii² ~ χ²(freedom_i), and normal below the diagonal: A Aᵀ ~ Wishart(I_d, ν) for
    freedom_i = ν - i, i = 0..d-1 (Bartlett, Proc. R. Soc. Edinburgh 53 (1933) 260-283).
    """
    d = freedom.shape[0]
    z = normal(key, (d + 1, d))  # [d + 1, d]
    return jnp.tril(z[1:], -1), chi_square(key, freedom), z[0]


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
