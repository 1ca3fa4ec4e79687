"""NaN in is NaN out: a comparison, a rank or the largest of some rows would make a number of what is none."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from simulator.pool import Rows
from simulator.types import Array


def where_finite(found: Any, *read: Any) -> Any:
    """A tree of measures, or NaN in place of each where a float among what they were read from is NaN or infinite."""
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(read)]
    floats = [jnp.isfinite(leaf).all() for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]
    if not floats:
        return found
    return jax.tree.map(lambda value: jnp.where(jnp.stack(floats).all(), value, jnp.nan), found)


def where_number(found: Any, each: Array) -> Any:
    """The same for what may be infinite, such as log-likelihoods: NaN where one of `each` is."""
    return where_finite(found, jnp.where(jnp.isnan(each), each, 0.0))


def counted(rows: Rows, weight: Array) -> Rows:
    """Rows, leaves [n, ...], of which those without weight [n] are 0, whatever they hold: they are not there."""
    there = lambda leaf: (weight > 0).reshape(-1, *[1] * (leaf.ndim - 1))  # noqa: E731
    return jax.tree.map(lambda leaf: jnp.where(there(leaf), leaf, jnp.zeros_like(leaf)), rows)
