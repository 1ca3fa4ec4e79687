"""A residual convolutional network from numbers to images, made of matmuls: `ConvNet` the other way round."""

from __future__ import annotations

import itertools

import jax
from flax import nnx

from generators.nets.convnet import Conv, GroupNorm, Residual
from generators.nets.patches import image_shape, joined


class UpNet(nnx.Module):
    """Numbers [..., inputs] -> images [..., h, w, c]: for each width a stage of `blocks` residual blocks at twice the
    side of the stage before, of which the last has that of the image, then a convolution; sides are cut to fit.

    A stage is doubled by a matmul to four pixels of every one (Shi et al. 2016, arXiv:1609.05158).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int | tuple[int, ...],
        widths: tuple[int, ...] = (128, 64, 32),
        blocks: int = 1,
        *,
        rngs: nnx.Rngs,
    ):
        self.h, self.w, channels = image_shape(outputs, "UpNet")
        halvings = 2 ** (len(widths) - 1)
        self.grid = (-(-self.h // halvings), -(-self.w // halvings), widths[0])
        self.stem = nnx.Linear(inputs, self.grid[0] * self.grid[1] * widths[0], rngs=rngs)
        self.stages = nnx.List([nnx.List([Residual(width, rngs=rngs) for _ in range(blocks)]) for width in widths])
        self.doubles = nnx.List(
            [nnx.Linear(a, 4 * b, use_bias=False, rngs=rngs) for a, b in itertools.pairwise(widths)]
        )
        self.norm = GroupNorm(widths[-1], rngs=rngs)
        self.head = Conv(widths[-1], channels, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.stem(x).reshape(*x.shape[:-1], *self.grid)  # [..., h/2^s, w/2^s, widths[0]]
        for i, stage in enumerate(self.stages):
            if i:
                x = joined(self.doubles[i - 1](x), 2)  # [..., 2h', 2w', widths[i]]
            for block in stage:
                x = block(x)
        return self.head(jax.nn.relu(self.norm(x)))[..., : self.h, : self.w, :]
