"""Images as grids of patches, for networks made of matmuls."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from simulator.types import GenlossError


def image_shape(inputs: int | tuple[int, ...], network: str) -> tuple[int, int, int]:
    """(h, w, c), or an error where rows are no images."""
    if isinstance(inputs, int) or len(inputs) != 3:
        raise GenlossError(f"A {network} reads images [h, w, c], not rows of shape {inputs}; an MLP reads any.")
    h, w, c = inputs
    return h, w, c


def grid(inputs: int | tuple[int, ...], patch: int, network: str) -> tuple[int, int]:
    """(number of patches, values in a patch) of images of shape `inputs` cut into patch x patch pixels."""
    h, w, c = image_shape(inputs, network)
    if patch < 1 or h % patch or w % patch:
        raise GenlossError(f"A {network} cuts {h}x{w} images into patches; `patch` is {patch} and must divide both.")
    return (h // patch) * (w // patch), patch * patch * c


def cut(x: jax.Array, patch: int) -> jax.Array:
    """Images [..., h, w, c] to [..., h/patch, w/patch, patch·patch·c]."""
    *batch, h, w, c = x.shape
    x = x.reshape(*batch, h // patch, patch, w // patch, patch, c)
    return jnp.moveaxis(x, -4, -3).reshape(*batch, h // patch, w // patch, patch * patch * c)


def joined(x: jax.Array, patch: int) -> jax.Array:
    """The inverse of `cut`: [..., h/patch, w/patch, patch·patch·c] to images [..., h, w, c]."""
    *batch, h, w, values = x.shape
    x = x.reshape(*batch, h, w, patch, patch, values // patch**2)
    return jnp.moveaxis(x, -3, -4).reshape(*batch, h * patch, w * patch, values // patch**2)
