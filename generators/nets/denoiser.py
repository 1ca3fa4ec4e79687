"""The denoiser of points, and of images as vectors: matmuls, and so as fast under `vmap` over chains as alone."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx


class Layer(nnx.Module):
    """x + W gelu(norm(x)·(1 + γ) + β), where γ and β are read off the time and the label."""

    def __init__(self, width: int, told: int, *, dtype: Any, rngs: nnx.Rngs):
        self.norm = nnx.LayerNorm(width, use_scale=False, use_bias=False, dtype=dtype, rngs=rngs)
        self.tell = nnx.Linear(told, 2 * width, dtype=dtype, kernel_init=nnx.initializers.zeros, rngs=rngs)
        self.mix = nnx.Linear(width, width, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array, told: jax.Array) -> jax.Array:
        scale, shift = jnp.split(self.tell(told), 2, -1)  # [n, width] each
        return x + self.mix(jax.nn.gelu(self.norm(x) * (1 + scale) + shift))


class Denoiser(nnx.Module):
    """Rows [n, *shape] and times [n], or [n, times], (and labels [n] of `classes` and a null one) -> rows [n, *shape].

    Rows are vectors here, whatever their shape.  A share of the row itself, told by time and label, passes by the
    layers: at much noise the row is the noise, which a layer narrower than the row could not carry through.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        classes: int | None = None,
        width: int = 128,
        depth: int = 3,
        told: int = 64,  # width of what is told of time and label; even
        times: int = 1,  # that it is told: 2 for `MeanFlow`
        *,
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        size = math.prod(shape)
        self.told, self.dtype = told, dtype
        self.time = nnx.Linear(times * told, told, dtype=dtype, rngs=rngs)
        if classes is not None:
            self.label = nnx.Embed(classes + 1, told, dtype=dtype, rngs=rngs)
        self.enter = nnx.Linear(size, width, dtype=dtype, rngs=rngs)
        self.layers = nnx.List([Layer(width, told, dtype=dtype, rngs=rngs) for _ in range(depth)])
        self.norm = nnx.LayerNorm(width, dtype=dtype, rngs=rngs)
        self.leave = nnx.Linear(width, size, dtype=dtype, kernel_init=nnx.initializers.zeros, rngs=rngs)
        self.share = nnx.Linear(told, 1, dtype=dtype, kernel_init=nnx.initializers.zeros, rngs=rngs)

    def __call__(self, x: jax.Array, t: jax.Array, label: jax.Array | None = None) -> jax.Array:
        row = x.reshape(x.shape[0], -1)  # [n, size]
        told = self.time(waves(t.reshape(-1), self.told).reshape(len(row), -1))  # [n, told]
        if label is not None and hasattr(self, "label"):
            told = told + self.label(label)
        told = jax.nn.gelu(told)
        y = self.enter(row)  # [n, width]
        for layer in self.layers:
            y = layer(y, told)
        left = self.leave(jax.nn.gelu(self.norm(y))).astype(jnp.float32)  # [n, size]
        return (self.share(told).astype(jnp.float32) * row + left).reshape(x.shape)


def waves(t: jax.Array, width: int) -> jax.Array:
    """Sines and cosines of times [n] at wavelengths from 2π to 20,000π, [n, width] (arXiv:1706.03762, section 3.5)."""
    frequency = jnp.exp(-math.log(10_000) * jnp.arange(width // 2) / (width // 2))  # [width/2]
    angle = t[:, None] * frequency  # [n, width/2]
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1)
