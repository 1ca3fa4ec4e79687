"""Attention, and how time is told: what the transformer and the U-Net of diffusion models share."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from simulator.types import Array, GenlossError

kept = partial(checkpoint_name, name="kept")  # what a network that computes again for its gradient does not


class Attention(nnx.Module):
    """What every token hears from all tokens, [n, tokens, width], its channels split into heads."""

    def __init__(
        self,
        width: int,
        head: int,
        *,
        bias: bool = True,  # of queries, keys and values
        zero: bool = False,  # hear nothing at first
        norm: nnx.GroupNorm | None = None,
        dtype: Any,
        rngs: nnx.Rngs,
    ):
        if width % head:
            raise GenlossError(f"Heads of {head} channels cannot share {width}; choose `attention_head_dim` otherwise.")
        self.head, self.group_norm, self.dtype = head, norm, dtype
        linear = lambda: nnx.Linear(width, width, use_bias=bias, dtype=dtype, rngs=rngs)  # noqa: E731
        self.to_q, self.to_k, self.to_v = linear(), linear(), linear()
        init = nnx.initializers.zeros_init() if zero else nnx.initializers.lecun_normal()
        self.to_out = nnx.List([nnx.Linear(width, width, kernel_init=init, dtype=dtype, rngs=rngs)])

    def __call__(self, x: Array) -> Array:
        y = x if self.group_norm is None else self.group_norm(x)
        # One matmul for all three; over rows, since a gradient summed over two axes is transposed first on a CPU.
        kernel = jnp.concatenate([to.kernel[...] for to in (self.to_q, self.to_k, self.to_v)], 1).astype(self.dtype)
        said = y.reshape(-1, y.shape[-1]).astype(self.dtype) @ kernel  # [n·tokens, 3·width]
        biases = [to.bias[...] for to in (self.to_q, self.to_k, self.to_v) if to.bias is not None]
        said = said + jnp.concatenate(biases).astype(self.dtype) if biases else said
        heads = (*y.shape[:-1], -1, self.head)
        parts = (jnp.swapaxes(a.reshape(heads), 1, 2) for a in jnp.split(said, 3, -1))
        queries, keys, values = map(kept, parts)  # [n, heads, tokens, head]
        scores = jnp.einsum("nhpd,nhqd->nhpq", queries, keys, preferred_element_type=jnp.float32)
        share = kept(jax.nn.softmax(scores * self.head**-0.5).astype(values.dtype))  # [n, heads, tokens, tokens]
        heard = jnp.swapaxes(jnp.einsum("nhpq,nhqd->nhpd", share, values), 1, 2)  # [n, tokens, heads, head]
        return kept(self.to_out[0](kept(heard.reshape(-1, y.shape[-1])))).reshape(y.shape)


class Embedding(nnx.Module):
    """Two matmuls from waves of a time [n, inputs] to [n, width]."""

    def __init__(self, inputs: int, width: int, *, dtype: Any, rngs: nnx.Rngs):
        self.linear_1 = nnx.Linear(inputs, width, dtype=dtype, rngs=rngs)
        self.linear_2 = nnx.Linear(width, width, dtype=dtype, rngs=rngs)

    def __call__(self, waves: Array) -> Array:
        return self.linear_2(jax.nn.silu(self.linear_1(waves)))


def waves(t: Array, width: int, flip: bool, shift: float) -> Array:
    """Sines and cosines (`flip`: cosines and sines) of times [n], [n, width] float32; frequencies fall from 1 to nearly
    1/10,000 as powers with `width`/2 - `shift` steps.
    """
    half = width // 2
    frequency = jnp.exp(-math.log(10_000) * jnp.arange(half, dtype=jnp.float32) / (half - shift))  # [half]
    angle = t[:, None].astype(jnp.float32) * frequency  # [n, half]
    parts = (jnp.cos(angle), jnp.sin(angle)) if flip else (jnp.sin(angle), jnp.cos(angle))
    return jnp.pad(jnp.concatenate(parts, -1), ((0, 0), (0, width % 2)))
