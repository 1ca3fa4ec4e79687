"""Rows of which part is given: what `sample(key, params, n, given)` is told beside how many there are to be."""

from __future__ import annotations

import jax.numpy as jnp

from simulator.pool import Rows
from simulator.types import Array, GenlossError


def labels(given: Rows, n: int, who: str) -> Array:
    """The labels of n rows that are given, {"label": [n]}, int32."""
    if not (isinstance(given, dict) and given.keys() == {"label"} and given["label"].shape == (n,)):
        shapes = {k: list(v.shape) for k, v in given.items()} if isinstance(given, dict) else list(given.shape)
        raise GenlossError(f"{who} can be given the labels of {n} rows, {{'label': [{n}]}}; it was given {shapes}.")
    return jnp.asarray(given["label"], jnp.int32)
