"""Pairs of networks, to a code and back, for `VAE`: MLPs, patch mixers, and convolutions of stride 2 as matmuls.

Each function is `(shape, classes, latent, numbers, hidden, rngs=...) -> (encoder, decoder)`: an encoder maps rows
beside their one-hot labels, [..., d + classes], to [..., 2 latent], and a decoder codes beside labels,
[..., latent + classes], to [..., d·numbers], the numbers of one value side by side; d is the size of `shape`, and
`classes` 0 where no label is told.  `hidden` are widths of the encoder and, reversed, of the decoder.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from generators.nets.mixer import Mixing
from generators.nets.mlp import MLP
from generators.nets.patches import cut, grid, image_shape, joined
from simulator.types import GenlossError

_begin = nnx.initializers.lecun_normal()


def mlps(
    shape: tuple[int, ...],
    classes: int,
    latent: int,
    numbers: int,
    hidden: tuple[int, ...] = (128,),
    *,
    rngs: nnx.Rngs,
) -> tuple[MLP, MLP]:
    """GELU between layers of `hidden` units; rows of any shape."""
    size = math.prod(shape)
    encoder = MLP(size + classes, 2 * latent, hidden, rngs=rngs)
    return encoder, MLP(latent + classes, size * numbers, hidden[::-1], rngs=rngs)


def convolutional(
    shape: tuple[int, ...],
    classes: int,
    latent: int,
    numbers: int,
    hidden: tuple[int, ...] = (64, 128),
    *,
    rngs: nnx.Rngs,
) -> tuple[Halving, Doubling]:
    """4x4 kernels of stride 2 and ReLU, `hidden` channels from the finest level on: (64, 128) is the network of
    Shumailov et al. 2023, arXiv:2305.17493.
    """
    h, w, _ = image_shape(shape, "convolutional pair")
    if h % 2 ** len(hidden) or w % 2 ** len(hidden):
        raise GenlossError(
            f"{len(hidden)} halvings do not fit into images of {h}x{w}; give `hidden` fewer channels, or sides that "
            f"{2 ** len(hidden)} divides."
        )
    encoder = Halving(shape, classes, 2 * latent, hidden, rngs=rngs)
    return encoder, Doubling(shape, latent + classes, numbers, hidden[::-1], rngs=rngs)


def mixers(
    shape: tuple[int, ...],
    classes: int,
    latent: int,
    numbers: int,
    hidden: tuple[int, ...] = (64, 64),
    patch: int = 4,
    *,
    rngs: nnx.Rngs,
) -> tuple[Mixed, Unmixed]:
    """Patches of `patch` x `patch` pixels, a layer of mixing for each of `hidden`, which are all the same width
    (MLP-Mixer, Tolstikhin et al. 2021, arXiv:2105.01601).
    """
    if len(set(hidden)) != 1:
        raise GenlossError(
            f"All layers of a mixer have one width, and `hidden` is {hidden}; give one, such as (64, 64)."
        )
    encoder = Mixed(shape, classes, 2 * latent, hidden, patch, rngs=rngs)
    return encoder, Unmixed(shape, latent + classes, numbers, hidden, patch, rngs=rngs)


class Half(nnx.Module):
    """A 4x4 convolution of stride 2 with zeros around, [..., h, w, inputs] to [..., h/2, w/2, outputs].

    On cells of 2x2 pixels it is a 2x2 convolution of stride 1: four shifted copies, a matmul each, whose step takes
    two thirds of the time of one matmul of the four side by side on a CPU.
    """

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs):
        self.kernel = nnx.Param(_begin(rngs.params(), (16 * inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(self, x: jax.Array) -> jax.Array:
        h, w = x.shape[-3] // 2, x.shape[-2] // 2
        cells = cut(jnp.pad(x, (*[(0, 0)] * (x.ndim - 3), (1, 1), (1, 1), (0, 0))), 2)  # [..., h/2+1, w/2+1, 4 inputs]
        kernel = self.kernel[...].reshape(2, 2, 4 * x.shape[-1], -1)
        y = [cells[..., i : i + h, j : j + w, :] @ kernel[i, j] for i in range(2) for j in range(2)]
        return y[0] + y[1] + y[2] + y[3] + self.bias[...]  # [..., h/2, w/2, outputs]


class Double(nnx.Module):
    """The transpose of such a convolution, [..., h, w, inputs] to [..., 2h, 2w, outputs]: a matmul for each of four
    shifts, added where they overlap.
    """

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs):
        self.kernel = nnx.Param(_begin(rngs.params(), (4 * inputs, 4 * outputs)))  # four inputs reach a pixel
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.kernel[...].reshape(2, 2, x.shape[-1], -1)

        def shifted(i: int, j: int) -> jax.Array:
            around = (*[(0, 0)] * (x.ndim - 3), (i, 1 - i), (j, 1 - j), (0, 0))
            return jnp.pad(x @ kernel[i, j], around)  # [..., h+1, w+1, 4 outputs]

        cells = shifted(0, 0) + shifted(0, 1) + shifted(1, 0) + shifted(1, 1)
        return joined(cells, 2)[..., 1:-1, 1:-1, :] + self.bias[...]  # [..., 2h, 2w, outputs]


class Halving(nnx.Module):
    """Images beside labels, [..., h·w·c + classes], to [..., outputs]."""

    def __init__(
        self, shape: tuple[int, ...], classes: int, outputs: int, channels: tuple[int, ...], *, rngs: nnx.Rngs
    ):
        h, w, c = image_shape(shape, "convolutional pair")
        self.shape = (h, w, c)
        self.halves = nnx.List([Half(a, b, rngs=rngs) for a, b in itertools.pairwise((c, *channels))])
        last = h * w * (c, *channels)[-1] // 4 ** len(channels)
        self.head = nnx.Linear(last + classes, outputs, rngs=rngs)

    def __call__(self, seen: jax.Array) -> jax.Array:
        x, y = _apart(seen, self.shape)  # [..., h, w, c], [..., classes]
        for half in self.halves:
            x = jax.nn.relu(half(x))  # [..., side/2, side/2, channels]
        return self.head(jnp.concatenate([x.reshape(*y.shape[:-1], -1), y], -1))


class Doubling(nnx.Module):
    """Codes [..., inputs] to [..., h·w·c·numbers]."""

    def __init__(self, shape: tuple[int, ...], inputs: int, numbers: int, channels: tuple[int, ...], *, rngs: nnx.Rngs):
        h, w, c = image_shape(shape, "convolutional pair")
        widths = (*channels, c * numbers)
        self.least = (h >> len(channels), w >> len(channels), widths[0])
        self.head = nnx.Linear(inputs, math.prod(self.least), rngs=rngs)
        self.doubles = nnx.List([Double(a, b, rngs=rngs) for a, b in itertools.pairwise(widths)])

    def __call__(self, z: jax.Array) -> jax.Array:
        x = self.head(z).reshape(*z.shape[:-1], *self.least)  # [..., side, side, channels]
        for double in self.doubles:
            x = double(jax.nn.relu(x))  # [..., 2 side, 2 side, channels]
        return x.reshape(*z.shape[:-1], -1)


class Mixed(nnx.Module):
    """Images beside labels, [..., h·w·c + classes], to [..., outputs]."""

    def __init__(
        self, shape: tuple[int, ...], classes: int, outputs: int, hidden: tuple[int, ...], patch: int, *, rngs: nnx.Rngs
    ):
        patches, values = grid(shape, patch, "patch mixer")
        self.shape, self.patch = tuple(shape), patch
        self.embed = nnx.Linear(values, hidden[0], rngs=rngs)
        self.layers = nnx.List([Mixing(patches, width, rngs=rngs) for width in hidden])
        self.norm = nnx.LayerNorm(hidden[-1], rngs=rngs)
        self.head = nnx.Linear(patches * hidden[-1] + classes, outputs, rngs=rngs)

    def __call__(self, seen: jax.Array) -> jax.Array:
        x, y = _apart(seen, self.shape)  # [..., h, w, c], [..., classes]
        x = self.embed(cut(x, self.patch))  # [..., h/patch, w/patch, width]
        x = x.reshape(*y.shape[:-1], -1, x.shape[-1])  # [..., patches, width]
        for layer in self.layers:
            x = layer(x)
        return self.head(jnp.concatenate([self.norm(x).reshape(*y.shape[:-1], -1), y], -1))


class Unmixed(nnx.Module):
    """Codes [..., inputs] to [..., h·w·c·numbers]."""

    def __init__(
        self, shape: tuple[int, ...], inputs: int, numbers: int, hidden: tuple[int, ...], patch: int, *, rngs: nnx.Rngs
    ):
        patches, values = grid(shape, patch, "patch mixer")
        self.cells, self.patch = (shape[0] // patch, shape[1] // patch), patch
        self.head = nnx.Linear(inputs, patches * hidden[0], rngs=rngs)
        self.layers = nnx.List([Mixing(patches, width, rngs=rngs) for width in hidden])
        self.norm = nnx.LayerNorm(hidden[-1], rngs=rngs)
        self.leave = nnx.Linear(hidden[-1], values * numbers, rngs=rngs)

    def __call__(self, z: jax.Array) -> jax.Array:
        x = self.head(z).reshape(*z.shape[:-1], math.prod(self.cells), -1)  # [..., patches, width]
        for layer in self.layers:
            x = layer(x)
        x = self.leave(self.norm(x)).reshape(
            *z.shape[:-1], *self.cells, -1
        )  # [..., h/patch, w/patch, patch²·c·numbers]
        return joined(x, self.patch).reshape(*z.shape[:-1], -1)


def _apart(seen: jax.Array, shape: tuple[int, ...]) -> Any:
    """Images [..., *shape] and labels [..., classes] of rows that hold both."""
    size = math.prod(shape)
    return seen[..., :size].reshape(*seen.shape[:-1], *shape), seen[..., size:]
