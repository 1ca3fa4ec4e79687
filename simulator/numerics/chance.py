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


def _raw(key: Key) -> Array:
    """The two words of a Threefry key; of another kind (`rbg`, say) with more of them, two made of all."""
    data = jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key  # [2 or more]
    raw = data[:2]
    for i in range(2, data.shape[0], 2):
        raw = jnp.stack(_blocks(raw, data[i], data[i + 1]))
    return raw


def fold_in(key: Key, data: Array | int) -> Key:
    """`jax.random.fold_in`, to the bit for Threefry keys; keys of every kind become Threefry keys.

    What `jax.random` draws from others depends on how they are mapped.
    """
    return _fold_in(key, jnp.asarray(data, jnp.uint32))


@jax.jit
def _fold_in(key: Key, data: Array) -> Key:
    x, y = _blocks(_raw(key), jnp.uint32(0), data)
    return jax.random.wrap_key_data(jnp.stack([x, y]), impl="threefry2x32")


def split(key: Key, n: int = 2) -> Key:
    """`jax.random.split`, to the bit for Threefry keys, [n] keys: `fold_in` of 0, 1, ..."""
    return jax.vmap(fold_in, (None, 0))(key, jnp.arange(n))


@functools.partial(jax.jit, static_argnums=1)
def words(key: Key, shape: tuple[int, ...]) -> Array:
    """Independent uniform words, uint32.  Fewer are the first of more: word i depends on key and i alone."""
    size = math.prod(shape)
    x, y = _pairs(_raw(key), _whole((size + 1) // 2))
    return jnp.stack([x, y], -1).ravel()[:size].reshape(shape)


@functools.partial(jax.jit, static_argnums=1)
def pairs(key: Key, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Two independent words for each number, where 32 bits are too few."""
    x, y = _pairs(_raw(key), math.prod(shape))
    return x.reshape(shape), y.reshape(shape)


def _whole(blocks: int) -> int:
    """So many blocks, or as many more as fill the registers of a processor.

    Those left over would be made one at a time, in a loop on whose sums LLVM's reduction of strength spends more than
    all of the compiler on the rest of a chain.
    """
    return blocks if blocks < 16 else -(-blocks // 16) * 16


def _pairs(raw: Array, size: int, lane: Array | int = 0, first: Array | int = 0) -> tuple[Array, Array]:
    """The blocks first..first+size-1 of a key [..., 2], [..., size] each, others in every lane.

    The upper half of the second counter keeps them apart from the keys that `fold_in` makes of small numbers.
    """
    counter = jnp.asarray(first, jnp.uint32) + jnp.arange(size, dtype=jnp.uint32)  # [size]
    return _blocks(jnp.moveaxis(raw, -1, 0)[..., None], counter, jnp.uint32(0x80000000) + jnp.asarray(lane, jnp.uint32))


def _float(word: Array) -> Array:
    """Words below 2^31 as float32, rounded: for signed integers processors have an instruction."""
    return word.astype(jnp.int32).astype(jnp.float32)


@functools.partial(jax.jit, static_argnums=1)
def uniform(key: Key, shape: tuple[int, ...]) -> Array:
    """Uniform on [0, 1), float32, in steps of 2^-31 near 0."""
    return _uniform(words(key, shape))


def _uniform(word: Array) -> Array:
    return jnp.minimum(_float(word >> 1) * np.float32(2.0**-31), np.float32(1 - 2.0**-24))


@functools.partial(jax.jit, static_argnums=1)
def exponential(key: Key, shape: tuple[int, ...]) -> Array:
    """Standard exponential, float32, above 0, with all the digits of a float at both ends, down to 1e-18."""
    return _exponential(*pairs(key, shape))


def bernoulli(key: Key, p: Array | float, shape: tuple[int, ...]) -> Array:
    """Tosses, int32: 1 with probability p, right to a few parts in 10^7 however small p is; 0 and 1 are certain.

    A uniform float below p has steps of 2^-23, so that what is rarer would come too often, or never.
    """
    return (exponential(key, shape) < -jnp.log1p(-jnp.asarray(p, jnp.float32))).astype(jnp.int32)


def exponentials(key: Key, size: int, block: int = 4096, most: Array | int | None = None) -> Array:
    """`exponential(key, (size,))`, to the bit, made block by block in a loop; after the first `most` any numbers >= 0.

    Where several things are computed of them the compiler otherwise draws them again for each.
    """
    block = min(block, _whole(-(-size // 2)))  # a loop of one turn is none
    raw, turns = _raw(key), -(-size // block)
    made = jnp.zeros(turns * block)

    def make(i: Array, made: Array) -> Array:
        return jax.lax.dynamic_update_slice_in_dim(
            made, _exponential(*_pairs(raw, block, first=i * block)), i * block, 0
        )

    last = turns if most is None else (jnp.asarray(most, jnp.int32) + (block - 1)) // block
    return jax.lax.fori_loop(0, last, make, made)[:size]


def _exponential(x: Array, y: Array) -> Array:
    half = _float(x >> 1) * np.float32(2.0**-32) + _float((y >> 1) | 1) * np.float32(2.0**-64)  # in (0, 1/2]
    rest = 1 - half
    upper = (x & 1) == 1  # -log(half) there, and below the median -log(1 - half), with what rounding took put back
    found = -jnp.log(jnp.where(upper, half, rest))
    return jnp.where(upper, found, jnp.where(rest == 1, half, found * half / jnp.where(rest == 1, 1.0, 1 - rest)))


@functools.partial(jax.jit, static_argnums=1)
def normal(key: Key, shape: tuple[int, ...]) -> Array:
    """Standard normal, float32, by the inverse of its distribution function; from 32 bits, so within ±6.34."""
    return _normal(words(key, shape))


# Of Wichura's PPND7 (Algorithm AS 241, Applied Statistics 37 (1988) 477-484): seven digits.
_CENTRE = (59.109374720, 159.29113202, 50.434271938, 3.3871327179), (67.187563600, 78.757757664, 17.895169469, 1.0)
_TAIL = (0.17023821103, 1.3067284816, 2.7568153900, 1.4234372777), (0.12021132975, 0.73700164250, 1.0)


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    value = jnp.full_like(x, coefficients[0])
    for c in coefficients[1:]:
        value = value * x + np.float32(c)
    return value


@jax.jit  # as one piece everywhere, since operations by themselves round products that are fused elsewhere
def _normal(word: Array) -> Array:
    signed = jax.lax.bitcast_convert_type(word, jnp.int32)
    step = signed ^ (signed >> 31)  # from 0 at the centre to 2^31 - 1, the same for both signs
    q = (_float(step) + 0.5) * np.float32(2.0**-32)  # in (0, 1/2)
    tail = (_float(np.int32(2**31 - 1) - step) + 0.5) * np.float32(2.0**-32)  # 1/2 - q, without its rounding
    central = q <= 0.425
    r, s = 0.180625 - q * q, jnp.sqrt(-jnp.log(tail)) - 1.6
    over = jnp.where(central, q * _polynomial(_CENTRE[0], r), _polynomial(_TAIL[0], s))
    z = over / jnp.where(central, _polynomial(_CENTRE[1], r), _polynomial(_TAIL[1], s))
    return jnp.where(signed < 0, -z, z)


@jax.jit
def chi_square(key: Key, freedom: Array) -> Array:
    """χ² with `freedom` >= 0 degrees of freedom (whole numbers, which may be traced), shape of `freedom`, float32.

    Rejection from a cubed normal (Marsaglia & Tsang, ACM TOMS 26 (2000) 363-372), exact for shapes >= 1; one degree of
    freedom is the square of a normal, none is 0.
    """
    return _chi_square(_raw(key), jnp.asarray(freedom, jnp.float32).ravel()).reshape(jnp.shape(freedom))


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
        x, u = _pairs(key, k.shape[-1], i)  # [*chains, n] each, from another lane at every try
        x, u = _normal(x), _uniform(u)
        v = (1 + scale * x) ** 3
        accept = (v > 0) & (jnp.log(u) < 0.5 * x * x + shape * (1 - v + jnp.log(jnp.where(v > 0, v, 1.0))))
        tried = jnp.where(k == 1, x * x, jnp.where(k == 0, 0.0, jnp.where(accept, 2 * shape * v, -1.0)))
        return i + 1, jnp.where(found < 0, tried, found)

    start = jnp.full(jnp.broadcast_shapes(k.shape, (*chains, 1)), -1.0)
    return jax.lax.while_loop(lambda carry: (carry[1] < 0).any(), again, (jnp.uint32(1), start))[1]


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
    At n = 2^24 rare cells have up to 1.6 % too much, at 2^22 3e-4: `jax.random.binomial` rejects in float32.
    """
    depth = max(1, math.ceil(math.log2(probs.shape[0])))
    mass = [jnp.pad(probs, (0, 2**depth - probs.shape[0]))]  # leaves of the tree
    while mass[0].shape[0] > 1:
        mass.insert(0, mass[0].reshape(-1, 2).sum(1))  # [.. , 2 nodes] -> parents
    counts = jnp.full(1, n, jnp.float32)
    for level, below in enumerate(mass[1:]):
        left, right = below[::2], below[1::2]  # [nodes]
        # The rarer side is drawn: a share near 1 has no digits left for what is rare.
        rare, both = jnp.minimum(left, right), left + right
        share = rare / jnp.where(both > 0, both, 1.0)
        drawn = jax.random.binomial(jax.random.fold_in(key, level), counts, share)  # [nodes]
        drawn = jnp.where(rare > 0, drawn, 0.0)
        drawn = jnp.where(left <= right, drawn, counts - drawn)
        counts = jnp.stack([drawn, counts - drawn], -1).reshape(-1)
    return counts[: probs.shape[0]]
