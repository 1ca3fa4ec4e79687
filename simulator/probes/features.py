"""Feature spaces: maps from rows to vectors [n, d] in which distances are taken."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from simulator.pool import Rows
from simulator.types import Array, GenlossError


def flat(rows: Rows) -> Array:
    """The row itself as a float32 vector, [n, d]: the image of {"image", ...}, with uint8 scaled to [0, 1]."""
    x = rows["image"] if isinstance(rows, dict) else rows
    scale = 255 if x.dtype == jnp.uint8 else 1
    return x.reshape(x.shape[0], -1).astype(jnp.float32) / scale


def squared_distances(a: Array, b: Array) -> Array:
    """‖a_i - b_j‖², [n, m], by one matmul; never below 0."""
    return jnp.maximum((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T, 0)


def classes(rows: Rows) -> int:
    """Number of classes among labelled rows, which must be concrete (a probe's reference is)."""
    if not (isinstance(rows, dict) and "label" in rows):
        raise GenlossError("This probe needs rows with a label; give the chain such a source, or leave the probe out.")
    return int(np.asarray(rows["label"]).max()) + 1
