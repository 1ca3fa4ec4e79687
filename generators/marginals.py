"""What each column of a table holds by itself: weighted quantiles of numbers, and the normal scores they stand for."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr, ndtri

from simulator.numerics.chance import exponential
from simulator.numerics.selection import cdf
from simulator.pool import Pool
from simulator.sources.columns import Layout
from simulator.types import Array, GenlossError, Key


def layout_of(model: Any) -> Layout:
    """The layout of the rows that a generator makes."""
    if model.layout is None:
        name = type(model).__name__
        raise GenlossError(f"This {name} has no `layout`; give one, or let a chain take it from its source.")
    return model.layout


def even(layout: Layout) -> Array:
    """The same probability for each state of a column, [s, K]."""
    inside = jnp.asarray(layout.inside, jnp.float32)
    return inside / inside.sum(1, keepdims=True)


def marginals(layout: Layout, pool: Pool, size: int) -> tuple[Array, Array]:
    """(`quantiles` of the numbers of a diet, where they are there [c, size]; weighted shares of its states [s, K])."""
    x, there, state = layout.read(pool.rows)  # [n, c], [n, c], [n, s]
    shares = jnp.tensordot(pool.weight / pool.weight.sum(), layout.one_of_k(state), 1)  # [s, K]
    return quantiles(x, pool.weight[:, None] * there, size), shares


def quantiles(x: Array, weight: Array, size: int) -> Array:
    """The values at shares (i + 1/2)/size of the mass of columns x [n, c], weight [n, c]: [c, size].

    Each is the least x with at least that share of the mass at or below it, so that weight 2 is a row twice; 0 where a
    column weighs nothing.
    """
    share = (jnp.arange(size) + 0.5) / size  # [size]

    def column(x: Array, weight: Array) -> Array:
        order = jnp.argsort(x)
        running = cdf(weight[order])  # [n]
        at = x[order][jnp.searchsorted(running, share * running[-1])]  # [size]
        return jnp.where(running[-1] > 0, at, 0.0)

    # What weighs nothing may hold anything.
    return jax.vmap(column, (1, 1), 0)(jnp.where(weight > 0, x, 0.0), weight)


def scores(at: Array, x: Array) -> Array:
    """Standard normal scores Φ⁻¹(F(x)) of columns x [n, c] whose quantiles are at [c, size].

    F is linear between quantiles, the middle of its jump where several are alike, and within 1/(2 size) of 0 and 1.
    """
    size = at.shape[1]

    def column(at: Array, x: Array) -> Array:
        low, high = (jnp.searchsorted(at, x, side) for side in ("left", "right"))  # [n] each
        left, right = at[jnp.maximum(low - 1, 0)], at[jnp.minimum(low, size - 1)]  # [n]
        between = low - 0.5 + (x - left) / jnp.where(right > left, right - left, 1.0)  # [n]
        return jnp.where(high > low, (low + high) / 2, between) / size

    share = jax.vmap(column, (0, 1), 1)(at, x)  # [n, c]
    return ndtri(jnp.clip(share, 0.5 / size, 1 - 0.5 / size))


def unscored(at: Array, z: Array, whole: np.ndarray) -> Array:
    """F⁻¹(Φ(z)) of scores z [n, c]: between quantiles, and of whole columns [c] the quantiles themselves."""
    size = at.shape[1]
    place = ndtr(z) * size  # [n, c]

    def column(at: Array, place: Array, whole: Array) -> Array:
        inside = jnp.clip(place - 0.5, 0, size - 1)
        i = inside.astype(jnp.int32)
        left, right = at[i], at[jnp.minimum(i + 1, size - 1)]
        jump = at[jnp.clip(place.astype(jnp.int32), 0, size - 1)]
        return jnp.where(whole, jump, left + (inside - i) * (right - left))

    return jax.vmap(column, (0, 1, 0), 1)(at, place, jnp.asarray(whole))


def drawn(key: Key, probs: Array) -> Array:
    """States drawn by probabilities [..., K] that need not sum to 1, int32 [...]: the first of exponential waits.

    Right however rare a state is; one of probability 0 is never drawn, unless all are.
    """
    wait = exponential(key, probs.shape) / jnp.where(probs > 0, probs, 1.0)
    return jnp.argmin(jnp.where(probs > 0, wait, jnp.inf), -1).astype(jnp.int32)
