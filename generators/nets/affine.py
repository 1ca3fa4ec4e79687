"""The linear probe: what can be read off features by one matmul."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import nnx


class Affine(nnx.Module):
    """`inputs -> outputs`, affine; every leading axis is a batch axis, and rows of more than one are flattened."""

    def __init__(self, inputs: int | tuple[int, ...], outputs: int, *, rngs: nnx.Rngs):
        self.shape = (inputs,) if isinstance(inputs, int) else tuple(inputs)
        self.head = nnx.Linear(math.prod(self.shape), outputs, rngs=rngs)

    def features(self, x: jax.Array) -> jax.Array:
        """The row itself as a vector, [..., inputs]."""
        return jnp.reshape(x, (*x.shape[: x.ndim - len(self.shape)], -1))

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.head(self.features(x))  # [..., outputs]
