"""Small transformers of words: a tower that reads a caption, and a captioner that sees a picture."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from generators.nets.patches import cut, grid
from generators.nets.vit import Attending
from simulator.types import GenlossError


class TextTower(nnx.Module):
    """Numbers of words [n, length] -> [n, outputs]: the mean over words that are not 0, after `depth` layers."""

    def __init__(
        self,
        inputs: int | tuple[int, ...],
        outputs: int,
        vocabulary: int = 32,
        width: int = 32,
        depth: int = 1,
        heads: int = 4,
        *,
        rngs: nnx.Rngs,
    ):
        if not isinstance(inputs, int):
            raise GenlossError(f"A TextTower reads captions of one length, not rows of shape {inputs}.")
        self.words = nnx.Param(0.1 * jax.random.normal(rngs.params(), (vocabulary, width)))
        self.place = nnx.Param(0.1 * jax.random.normal(rngs.params(), (inputs, width)))
        self.layers = nnx.List([Attending(width, heads, rngs=rngs) for _ in range(depth)])
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.head = nnx.Linear(width, outputs, rngs=rngs)

    def __call__(self, captions: jax.Array) -> jax.Array:
        there = captions != 0  # [n, length]
        x = self.words[...][captions] + self.place[...]  # [n, length, width]
        for layer in self.layers:
            x = layer(x, there[:, None, None])
        x = jnp.where(there[..., None], self.norm(x), 0)
        return self.head(x.sum(1) / jnp.maximum(there.sum(1, keepdims=True), 1))


class Captioner(nnx.Module):
    """Pictures [n, h, w, c] and numbers of words [n, <= length] -> logits [n, words, outputs] of each next word.

    Patches and words are one sequence: patches attend to all patches, a word to those and to the words up to it.
    """

    def __init__(
        self,
        inputs: int | tuple[int, ...],
        outputs: int,
        length: int = 16,
        patch: int = 8,
        width: int = 64,
        depth: int = 3,
        heads: int = 4,
        *,
        rngs: nnx.Rngs,
    ):
        self.patches, values = grid(inputs, patch, "Captioner")
        self.patch = patch
        self.embed = nnx.Linear(values, width, rngs=rngs)
        self.words = nnx.Param(0.1 * jax.random.normal(rngs.params(), (outputs, width)))
        self.place = nnx.Param(0.1 * jax.random.normal(rngs.params(), (self.patches + length, width)))
        self.layers = nnx.List([Attending(width, heads, rngs=rngs) for _ in range(depth)])
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.head = nnx.Linear(width, outputs, rngs=rngs)

    def __call__(self, images: jax.Array, captions: jax.Array) -> jax.Array:
        seen = self.embed(cut(images, self.patch).reshape(images.shape[0], self.patches, -1))  # [n, patches, width]
        x = jnp.concatenate([seen, self.words[...][captions]], 1)  # [n, patches + words, width]
        x = x + self.place[: x.shape[1]]
        turn = jnp.maximum(jnp.arange(x.shape[1]) - self.patches + 1, 0)  # 0 for patches, 1, 2, ... for words
        for layer in self.layers:
            x = layer(x, turn[:, None] >= turn)
        return self.head(self.norm(x[:, self.patches :]))
