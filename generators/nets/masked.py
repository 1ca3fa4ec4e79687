"""The masked autoencoder of images (He et al. 2022, arXiv:2111.06377): a quarter of the patches tells the rest."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from generators.nets.patches import cut, grid
from generators.nets.vit import Attending
from simulator.types import GenlossError


class MaskedAutoencoder(nnx.Module):
    """A patch transformer that sees some patches, and a narrower one that tells the others from what it made of them.

    What is told of a patch are its pixels less their mean, over their standard deviation.  `outputs` is what every
    network is given; there is no head here that has them.
    """

    def __init__(
        self,
        inputs: int | tuple[int, ...],
        outputs: int,
        patch: int = 4,
        width: int = 64,
        depth: int = 4,
        heads: int = 4,
        teller_width: int = 32,
        teller_depth: int = 1,
        mask: float = 0.75,
        *,
        rngs: nnx.Rngs,
    ):
        self.patches, values = grid(inputs, patch, "MaskedAutoencoder")
        self.patch, self.seen = patch, round((1 - mask) * self.patches)
        if not 0 < self.seen < self.patches:
            raise GenlossError(f"mask={mask} of {self.patches} patches must leave some to see and some to tell.")
        if width % heads or teller_width % heads:
            raise GenlossError(f"Widths {width} and {teller_width} must be multiples of `heads`, {heads}.")
        self.embed = nnx.Linear(values, width, rngs=rngs)
        self.place = nnx.Param(0.02 * jax.random.normal(rngs.params(), (self.patches, width)))
        self.layers = nnx.List([Attending(width, heads, rngs=rngs) for _ in range(depth)])
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.narrow = nnx.Linear(width, teller_width, rngs=rngs)
        self.unseen = nnx.Param(0.02 * jax.random.normal(rngs.params(), (teller_width,)))
        self.teller_place = nnx.Param(0.02 * jax.random.normal(rngs.params(), (self.patches, teller_width)))
        self.teller = nnx.List([Attending(teller_width, heads, rngs=rngs) for _ in range(teller_depth)])
        self.teller_norm = nnx.LayerNorm(teller_width, rngs=rngs)
        self.pixels = nnx.Linear(teller_width, values, rngs=rngs)

    def features(self, x: jax.Array) -> jax.Array:
        """Images [n, h, w, c] to the mean over patches after the last layer, all of them seen, [n, width]."""
        return self._encoded(self.embed(self._cut(x)) + self.place[...]).mean(1)

    def loss(self, key: jax.Array, x: jax.Array) -> jax.Array:
        """Mean squared error of what is told of the hidden patches of images [n, h, w, c], []."""
        told, patches, _ = self.told(key, x)
        mean, variance = patches.mean(-1, keepdims=True), patches.var(-1, keepdims=True)  # [n, hidden, 1] each
        return ((told - (patches - mean) * jax.lax.rsqrt(variance + 1e-6)) ** 2).mean()

    def told(self, key: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """What is told of each image's hidden patches, those patches, and their places, [n, hidden, (values)]."""
        patches = self._cut(x)  # [n, patches, values]
        n = patches.shape[0]
        order = jnp.argsort(jax.random.uniform(key, (n, self.patches)), 1)  # [n, patches]: the first are seen
        at = lambda a, index: jnp.take_along_axis(a, index[..., None], 1)  # noqa: E731
        tokens = self.embed(patches) + self.place[...]  # [n, patches, width]
        seen = self.narrow(self._encoded(at(tokens, order[:, : self.seen])))  # [n, seen, teller_width]
        unseen = jnp.broadcast_to(self.unseen[...], (n, self.patches - self.seen, seen.shape[-1]))
        y = jnp.concatenate([seen, unseen], 1) + self.teller_place[...][order]  # [n, patches, teller_width]
        for layer in self.teller:
            y = layer(y)
        hidden = order[:, self.seen :]  # [n, hidden]
        return self.pixels(self.teller_norm(y[:, self.seen :])), at(patches, hidden), hidden

    def _encoded(self, tokens: jax.Array) -> jax.Array:
        for layer in self.layers:
            tokens = layer(tokens)
        return self.norm(tokens)

    def _cut(self, x: jax.Array) -> jax.Array:
        x = cut(x, self.patch)  # [n, h/patch, w/patch, values]
        return x.reshape(x.shape[0], self.patches, -1)
