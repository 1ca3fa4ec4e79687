"""A residual convolutional network without state (He et al. 2016, arXiv:1512.03385; arXiv:1603.05027).

Convolutions are matmuls of patches.  On a CPU the step of a network of `lax.conv` is many times slower inside
`lax.scan` than alone, and under `vmap` over networks `lax.conv` becomes a grouped convolution; a matmul is neither.
"""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
from flax import nnx

from generators.nets.patches import cut, image_shape


class Conv(nnx.Module):
    """A 3x3 convolution with zeros around: nine shifted copies side by side, and one matmul."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs):
        self.mix = nnx.Linear(9 * inputs, outputs, use_bias=False, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        h, w = x.shape[-3:-1]
        padded = jnp.pad(x, (*[(0, 0)] * (x.ndim - 3), (1, 1), (1, 1), (0, 0)))  # [..., h+2, w+2, inputs]
        shifted = [padded[..., i : i + h, j : j + w, :] for i in range(3) for j in range(3)]
        return self.mix(jnp.concatenate(shifted, -1))  # [..., h, w, outputs]


class Residual(nnx.Module):
    """x + conv(act(norm(conv(act(norm(x))))))."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.convs = nnx.List([Conv(width, width, rngs=rngs) for _ in range(2)])
        self.norms = nnx.List([GroupNorm(width, rngs=rngs) for _ in range(2)])

    def __call__(self, x: jax.Array) -> jax.Array:
        y = x
        for conv, norm in zip(self.convs, self.norms, strict=True):
            y = conv(jax.nn.relu(norm(y)))  # [..., h, w, width]
        return x + y


class GroupNorm(nnx.Module):
    """Each image is normalised by itself, over its pixels and groups of eight channels (Wu & He 2018,
    arXiv:1803.08494), so that there are no statistics to carry.
    """

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.groups = max(1, width // 8)
        self.scale, self.bias = nnx.Param(jnp.ones(width)), nnx.Param(jnp.zeros(width))

    def __call__(self, x: jax.Array) -> jax.Array:
        y = x.reshape(*x.shape[:-1], self.groups, -1)  # [..., h, w, groups, width/groups]
        mean = y.mean((-4, -3, -1), keepdims=True)
        variance = jnp.square(y - mean).mean((-4, -3, -1), keepdims=True)
        y = (y - mean) * jax.lax.rsqrt(variance + 1e-5)
        return y.reshape(x.shape) * self.scale[...] + self.bias[...]


class ConvNet(nnx.Module):
    """Images [..., h, w, c] -> [..., outputs]: for each width a stage of `blocks` residual blocks at half the side of
    the stage before, then the mean over pixels and a matmul.
    """

    def __init__(
        self,
        inputs: int | tuple[int, ...],
        outputs: int,
        widths: tuple[int, ...] = (32, 64, 128),
        blocks: int = 1,
        *,
        rngs: nnx.Rngs,
    ):
        channels = image_shape(inputs, "ConvNet")[-1]
        self.stem = Conv(4 * channels, widths[0], rngs=rngs)
        self.stages = nnx.List([nnx.List([Residual(width, rngs=rngs) for _ in range(blocks)]) for width in widths])
        self.halves = nnx.List([nnx.Linear(4 * a, b, use_bias=False, rngs=rngs) for a, b in itertools.pairwise(widths)])
        self.norm = GroupNorm(widths[-1], rngs=rngs)
        self.head = nnx.Linear(widths[-1], outputs, rngs=rngs)

    def features(self, x: jax.Array) -> jax.Array:
        """The mean over pixels after the last stage, [..., widths[-1]]."""
        x = self.stem(halved(x))  # [..., h/2, w/2, widths[0]]
        for i, stage in enumerate(self.stages):
            if i:
                x = self.halves[i - 1](halved(x))  # [..., h/2, w/2, widths[i]]
            for block in stage:
                x = block(x)
        return jax.nn.relu(self.norm(x)).mean((-3, -2))

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.head(self.features(x))


class LightNet(nnx.Module):
    """Images [..., h, w, c] in [0, 1] -> [..., outputs], with less work at full size than `ConvNet`.

    A convolution of 2x2 pixels; for each further width a matmul of 2x2 pixels, y, and a convolution beside it,
    y + f(conv(y)); the mean over pixels and a matmul.  All are followed by f, a norm and GELU, but for the last.
    """

    def __init__(
        self,
        inputs: int | tuple[int, ...],
        outputs: int,
        widths: tuple[int, ...] = (32, 64, 128),
        *,
        rngs: nnx.Rngs,
    ):
        channels = image_shape(inputs, "LightNet")[-1]
        self.stem = Conv(4 * channels, widths[0], rngs=rngs)
        self.halves = nnx.List([nnx.Linear(4 * a, b, use_bias=False, rngs=rngs) for a, b in itertools.pairwise(widths)])
        self.convs = nnx.List([Conv(width, width, rngs=rngs) for width in widths[1:]])
        self.norms = nnx.List([GroupNorm(width, rngs=rngs) for width in widths])
        self.beside = nnx.List([GroupNorm(width, rngs=rngs) for width in widths[1:]])
        self.head = nnx.Linear(widths[-1], outputs, rngs=rngs)

    def features(self, x: jax.Array) -> jax.Array:
        """The mean over pixels after the last convolution, [..., widths[-1]]."""
        x = jax.nn.gelu(self.norms[0](self.stem(halved(4 * x - 2))))  # [..., h/2, w/2, widths[0]]
        for i, (half, conv) in enumerate(zip(self.halves, self.convs, strict=True)):
            x = jax.nn.gelu(self.norms[i + 1](half(halved(x))))  # [..., half the sides, widths[i+1]]
            x = x + jax.nn.gelu(self.beside[i](conv(x)))
        return x.mean((-3, -2))

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.head(self.features(x))


def halved(x: jax.Array) -> jax.Array:
    """[..., h, w, c] to [..., ⌈h/2⌉, ⌈w/2⌉, 4c], each 2x2 pixels as one; zeros beside an odd side."""
    h, w = x.shape[-3:-1]
    return cut(jnp.pad(x, (*[(0, 0)] * (x.ndim - 3), (0, h % 2), (0, w % 2), (0, 0))), 2)
