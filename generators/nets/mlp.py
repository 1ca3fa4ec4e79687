"""The multi-layer perceptron: matmuls, and so as fast under `vmap` over chains as alone."""

from __future__ import annotations

import itertools
import math

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.linear import default_kernel_init


class MLP(nnx.Module):
    """`inputs -> hidden... -> outputs` with GELU between; every leading axis is a batch axis.

    Rows of more than one axis (images) are flattened when `inputs` is their shape, and made when `outputs` is.  `last`
    begins the last kernel.
    """

    def __init__(
        self,
        inputs: int | tuple[int, ...],
        outputs: int | tuple[int, ...],
        hidden: tuple[int, ...] = (128,),
        *,
        last: nnx.Initializer = default_kernel_init,
        rngs: nnx.Rngs,
    ):
        self.shape = (inputs,) if isinstance(inputs, int) else tuple(inputs)
        self.made = (outputs,) if isinstance(outputs, int) else tuple(outputs)
        widths = (math.prod(self.shape), *hidden, math.prod(self.made))
        kernels = [default_kernel_init] * len(hidden) + [last]
        pairs = zip(itertools.pairwise(widths), kernels, strict=True)
        self.layers = nnx.List([nnx.Linear(a, b, kernel_init=kernel, rngs=rngs) for (a, b), kernel in pairs])

    def features(self, x: jax.Array) -> jax.Array:
        """The last hidden layer, [..., hidden[-1]]."""
        x = jnp.reshape(x, (*x.shape[: x.ndim - len(self.shape)], -1))  # [..., inputs]
        for layer in self.layers[:-1]:
            x = jax.nn.gelu(layer(x))
        return x

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.layers[-1](self.features(x))  # [..., outputs]
        return y if len(self.made) == 1 else y.reshape(*y.shape[:-1], *self.made)
