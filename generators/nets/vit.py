"""The patch transformer of images (ViT, Dosovitskiy et al. 2021, arXiv:2010.11929): matmuls alone."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from generators.nets.mlp import MLP
from generators.nets.patches import cut, grid
from simulator.types import GenlossError


class Attending(nnx.Module):
    """One pre-norm layer: every patch attends to all patches, then an MLP of its own; both residual."""

    def __init__(self, width: int, heads: int, *, rngs: nnx.Rngs):
        self.heads = heads
        self.ask = nnx.Linear(width, 3 * width, rngs=rngs)  # queries, keys and values of all heads
        self.tell = nnx.Linear(width, width, rngs=rngs)
        self.within = MLP(width, width, (4 * width,), rngs=rngs)
        self.norms = nnx.List([nnx.LayerNorm(width, rngs=rngs) for _ in range(2)])

    def __call__(self, x: jax.Array, heard_by: jax.Array | None = None) -> jax.Array:
        """`heard_by` bool, [..., heads, patches, patches] or what broadcasts to it: whom each patch may attend to."""
        asked = self.ask(self.norms[0](x))  # [..., patches, 3·width]
        asked = asked.reshape(*x.shape[:-1], 3, self.heads, -1)  # [..., patches, 3, heads, width/heads]
        queries, keys, values = (asked[..., i, :, :] for i in range(3))  # [..., patches, heads, width/heads]
        scores = jnp.einsum("...phd,...qhd->...hpq", queries, keys) * queries.shape[-1] ** -0.5
        scores = scores if heard_by is None else jnp.where(heard_by, scores, -jnp.inf)
        heard = jnp.einsum("...hpq,...qhd->...phd", jax.nn.softmax(scores), values)
        x = x + self.tell(heard.reshape(x.shape))  # [..., patches, width]
        return x + self.within(self.norms[1](x))


class ViT(nnx.Module):
    """Images [..., h, w, c] -> [..., outputs]: patches with learned places, `depth` layers, the mean over patches."""

    def __init__(
        self,
        inputs: int | tuple[int, ...],
        outputs: int,
        patch: int = 4,
        width: int = 64,
        depth: int = 4,
        heads: int = 4,
        *,
        rngs: nnx.Rngs,
    ):
        if width % heads:
            raise GenlossError(f"`width` is {width} and must be a multiple of `heads`, {heads}.")
        patches, values = grid(inputs, patch, "ViT")
        self.patch = patch
        self.embed = nnx.Linear(values, width, rngs=rngs)
        self.place = nnx.Param(0.02 * jax.random.normal(rngs.params(), (patches, width)))
        self.layers = nnx.List([Attending(width, heads, rngs=rngs) for _ in range(depth)])
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.head = nnx.Linear(width, outputs, rngs=rngs)

    def features(self, x: jax.Array) -> jax.Array:
        """The mean over patches after the last layer, [..., width]."""
        x = self.embed(cut(x, self.patch))  # [..., h/patch, w/patch, width]
        x = x.reshape(*x.shape[:-3], -1, x.shape[-1]) + self.place[...]  # [..., patches, width]
        for layer in self.layers:
            x = layer(x)
        return self.norm(x).mean(-2)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.head(self.features(x))
