"""Rows that networks make: images or points, with a label or without."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from simulator.pool import Pool, Rows
from simulator.types import Array, GenlossError


class Look(NamedTuple):
    """What rows look like."""

    shape: tuple[int, ...]  # of one, without its label
    images: bool
    classes: int | None  # how many labels there are; None: rows have none


def looked(model: Any, rows: Rows) -> Look:
    """How the rows look that `model` is to make, whose `shape` and `classes` they must fit where it has some.

    They are {"image": uint8 [n, h, w, c], "label": int32 [n]}, points [n, d], or {"x": points, "label": int32 [n]};
    images may have no label.
    """
    who = type(model).__name__
    names = set(rows) if isinstance(rows, dict) else set()
    if names not in (set(), {"image"}, {"image", "label"}, {"x", "label"}):
        raise GenlossError(
            f"{who} needs points, points x with a label, or images with a label or without; give it such a source."
        )
    shown, images = values(rows), "image" in names
    shape = tuple(shown.shape[1:])
    if not images and len(shape) != 1:
        raise GenlossError(f"Points are rows of numbers [d], not {list(shape)}; give images as 'image'.")
    if not jnp.issubdtype(shown.dtype, jnp.uint8 if images else jnp.floating):
        raise GenlossError(f"{who} makes images of uint8 and points of floats, not {shown.dtype}.")
    if model.shape is not None and tuple(model.shape) != shape:
        raise GenlossError(f"A {who} of rows {list(model.shape)} was shown {list(shape)}; leave `shape` open.")
    if "label" not in names:
        if model.classes is not None:
            raise GenlossError("These rows have no label; leave `classes` open.")
        return Look(shape, images, None)
    found = int(rows["label"].max()) + 1
    if model.classes is not None and model.classes < found:
        raise GenlossError(f"A {who} of {model.classes} classes was shown {found}; raise `classes` or leave it open.")
    return Look(shape, images, found if model.classes is None else model.classes)


def length(model: Any, rows: Rows) -> int:
    """The length of windows [n, length] of a series, which `model` must fit where it has one."""
    who, shape = type(model).__name__, getattr(rows, "shape", None)
    if shape is None or len(shape) != 2 or not jnp.issubdtype(rows.dtype, jnp.floating):
        raise GenlossError(f"{who} needs windows of a series, floats [n, length], such as Truth(Heston()) draws.")
    if model.length not in (None, shape[1]):
        raise GenlossError(f"A {who} of windows of {model.length} was shown {shape[1]} values; leave `length` open.")
    return shape[1]


def values(rows: Rows) -> Array:
    """The rows without their labels, [n, *shape]."""
    return rows["image" if "image" in rows else "x"] if isinstance(rows, dict) else rows


def named(values: Array, label: Array | None, images: bool) -> Rows:
    """Rows as the source serves them: values [n, *shape] with their labels [n], where they have some."""
    if label is None:
        return {"image": values} if images else values
    return {"image" if images else "x": values, "label": label}


def shares(pool: Pool, classes: int) -> Array:
    """The weighted share of each label in a diet, [classes]."""
    counts = jnp.zeros(classes).at[pool.rows["label"]].add(pool.weight)  # [classes]
    return counts / counts.sum()


def standards(pool: Pool) -> tuple[Array, Array]:
    """The mean of the points of a diet and their standard deviations along each axis, both weighted, [d] each."""
    x, share = values(pool.rows), pool.weight / pool.weight.sum()  # [capacity, d], [capacity]
    mean = share @ x  # [d]
    return mean, jnp.maximum(jnp.sqrt(share @ (x - mean) ** 2), 1e-6)


def seen(rows: Rows) -> Array:
    """The rows without their labels as a network sees them, [n, *shape] float32: images from -1 to 1."""
    shown = values(rows)
    return shown.astype(jnp.float32) / 127.5 - 1 if shown.dtype == jnp.uint8 else shown


def grey(x: Array) -> Array:
    """Images of uint8 of what a network made of them, from -1 to 1."""
    return jnp.round((jnp.clip(x, -1, 1) + 1) * 127.5).astype(jnp.uint8)
