"""The patch mixer: images by matmuls alone (MLP-Mixer, Tolstikhin et al. 2021, arXiv:2105.01601)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from generators.nets.mlp import MLP
from generators.nets.patches import cut, grid


class Mixing(nnx.Module):
    """One layer: an MLP over patches, the same for every channel, then one over channels; both residual."""

    def __init__(self, patches: int, width: int, *, rngs: nnx.Rngs):
        self.across = MLP(patches, patches, (2 * patches,), rngs=rngs)
        self.within = MLP(width, width, (4 * width,), rngs=rngs)
        self.norms = nnx.List([nnx.LayerNorm(width, rngs=rngs) for _ in range(2)])

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + jnp.swapaxes(self.across(jnp.swapaxes(self.norms[0](x), -1, -2)), -1, -2)  # [..., patches, width]
        return x + self.within(self.norms[1](x))


class Mixer(nnx.Module):
    """Images [..., h, w, c] -> [..., outputs]: patches, `depth` layers of mixing, the mean over patches, a matmul."""

    def __init__(
        self,
        inputs: int | tuple[int, ...],
        outputs: int,
        patch: int = 4,
        width: int = 64,
        depth: int = 4,
        *,
        rngs: nnx.Rngs,
    ):
        patches, values = grid(inputs, patch, "Mixer")
        self.patch = patch
        self.embed = nnx.Linear(values, width, rngs=rngs)
        self.layers = nnx.List([Mixing(patches, width, rngs=rngs) for _ in range(depth)])
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.head = nnx.Linear(width, outputs, rngs=rngs)

    def features(self, x: jax.Array) -> jax.Array:
        """The mean over patches after the last layer, [..., width]."""
        x = self.embed(cut(x, self.patch))  # [..., h/patch, w/patch, width]
        x = x.reshape(*x.shape[:-3], -1, x.shape[-1])  # [..., patches, width]
        for layer in self.layers:
            x = layer(x)
        return self.norm(x).mean(-2)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.head(self.features(x))
