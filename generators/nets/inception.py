"""Inception-v3 as the Fréchet inception distance uses it: 2,048 features of the last pooling layer.

Szegedy et al. 2016, arXiv:1512.00567; Heusel et al. 2017, arXiv:1706.08500.  Parameters have the names and layouts of
the state dict that PyTorch implementations share, so that a safetensors file of such weights is read by
`simulator.probes.features.Stored` as it is; no weights come with this package.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from generators.nets.patches import image_shape

Kernel = tuple[int, int]
SQUARE, ROW, COLUMN = (3, 3), (1, 7), (7, 1)


class Step(NamedTuple):
    """A convolution with its normalisation."""

    name: str
    outputs: int
    kernel: Kernel = (1, 1)
    stride: int = 1


Branch = tuple[tuple[Step, ...], ...]  # one after the other; where there are several, their ends lie side by side


def _line(*steps: Step) -> Branch:
    return tuple((step,) for step in steps)


_TWICE = Step("branch3x3dbl_1", 64), Step("branch3x3dbl_2", 96, SQUARE)


def _a(pool: int) -> dict[str, Branch]:
    return {
        "1x1": _line(Step("branch1x1", 64)),
        "5x5": _line(Step("branch5x5_1", 48), Step("branch5x5_2", 64, (5, 5))),
        "3x3": _line(*_TWICE, Step("branch3x3dbl_3", 96, SQUARE)),
        "mean": _line(Step("branch_pool", pool)),
    }


def _b() -> dict[str, Branch]:
    return {
        "3x3": _line(Step("branch3x3", 384, SQUARE, 2)),
        "twice": _line(*_TWICE, Step("branch3x3dbl_3", 96, SQUARE, 2)),
        "halve": (),
    }


def _c(width: int) -> dict[str, Branch]:
    return {
        "1x1": _line(Step("branch1x1", 192)),
        "7x7": _line(Step("branch7x7_1", width), Step("branch7x7_2", width, ROW), Step("branch7x7_3", 192, COLUMN)),
        "twice": _line(
            Step("branch7x7dbl_1", width),
            Step("branch7x7dbl_2", width, COLUMN),
            Step("branch7x7dbl_3", width, ROW),
            Step("branch7x7dbl_4", width, COLUMN),
            Step("branch7x7dbl_5", 192, ROW),
        ),
        "mean": _line(Step("branch_pool", 192)),
    }


def _d() -> dict[str, Branch]:
    return {
        "3x3": _line(Step("branch3x3_1", 192), Step("branch3x3_2", 320, SQUARE, 2)),
        "7x7": _line(
            Step("branch7x7x3_1", 192),
            Step("branch7x7x3_2", 192, ROW),
            Step("branch7x7x3_3", 192, COLUMN),
            Step("branch7x7x3_4", 192, SQUARE, 2),
        ),
        "halve": (),
    }


def _e(pool: str) -> dict[str, Branch]:
    return {
        "1x1": _line(Step("branch1x1", 320)),
        "3x3": (
            (Step("branch3x3_1", 384),),
            (Step("branch3x3_2a", 384, (1, 3)), Step("branch3x3_2b", 384, (3, 1))),
        ),
        "twice": (
            (Step("branch3x3dbl_1", 448),),
            (Step("branch3x3dbl_2", 384, SQUARE),),
            (Step("branch3x3dbl_3a", 384, (1, 3)), Step("branch3x3dbl_3b", 384, (3, 1))),
        ),
        pool: _line(Step("branch_pool", 192)),
    }


STEM: tuple[tuple[Step, str] | None, ...] = (  # None: the maximum over 3x3 pixels at every second
    (Step("Conv2d_1a_3x3", 32, SQUARE, 2), "VALID"),
    (Step("Conv2d_2a_3x3", 32, SQUARE), "VALID"),
    (Step("Conv2d_2b_3x3", 64, SQUARE), "SAME"),
    None,
    (Step("Conv2d_3b_1x1", 80), "VALID"),
    (Step("Conv2d_4a_3x3", 192, SQUARE), "VALID"),
    None,
)
# The two last blocks differ in what they pool, as in the network that the distance was defined with.
MIXED: dict[str, dict[str, Branch]] = {
    "Mixed_5b": _a(32),
    "Mixed_5c": _a(64),
    "Mixed_5d": _a(64),
    "Mixed_6a": _b(),
    "Mixed_6b": _c(128),
    "Mixed_6c": _c(160),
    "Mixed_6d": _c(160),
    "Mixed_6e": _c(192),
    "Mixed_7a": _d(),
    "Mixed_7b": _e("mean"),
    "Mixed_7c": _e("max"),
}


class Kernels(nnx.Module):
    """The kernels of a convolution, [outputs, inputs, h, w]."""

    def __init__(self, inputs: int, outputs: int, kernel: Kernel, *, rngs: nnx.Rngs):
        init = nnx.initializers.variance_scaling(2.0, "fan_in", "normal", in_axis=1, out_axis=0)
        self.weight = nnx.Param(init(rngs.params(), (outputs, inputs, *kernel)))


class Scaling(nnx.Module):
    """Batch normalisation by fixed statistics."""

    def __init__(self, width: int):
        self.weight, self.running_var = nnx.Param(jnp.ones(width)), nnx.Param(jnp.ones(width))
        self.bias, self.running_mean = nnx.Param(jnp.zeros(width)), nnx.Param(jnp.zeros(width))

    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.weight[...] * jax.lax.rsqrt(self.running_var[...] + 1e-3)  # [width]
        return (x - self.running_mean[...]) * scale + self.bias[...]


class Unit(nnx.Module):
    """relu(normalise(convolve(x)))."""

    def __init__(self, inputs: int, step: Step, padding: str | None = None, *, rngs: nnx.Rngs):
        self.stride = step.stride
        self.padding = padding or ("SAME" if step.stride == 1 else "VALID")
        self.conv, self.bn = Kernels(inputs, step.outputs, step.kernel, rngs=rngs), Scaling(step.outputs)

    def __call__(self, x: jax.Array) -> jax.Array:
        layout = ("NHWC", "OIHW", "NHWC")
        strides = (self.stride, self.stride)
        x = jax.lax.conv_general_dilated(x, self.conv.weight[...], strides, self.padding, dimension_numbers=layout)
        return jax.nn.relu(self.bn(x))


class Mixed(nnx.Module):
    """Branches side by side; those called mean, max and halve begin with a pooling over 3x3 pixels."""

    def __init__(self, inputs: int, branches: dict[str, Branch], *, rngs: nnx.Rngs):
        self.plan = tuple(branches.items())
        self.outputs = 0
        for _, branch in self.plan:
            width = inputs
            for fork in branch:
                for step in fork:
                    setattr(self, step.name, Unit(width, step, rngs=rngs))
                width = sum(step.outputs for step in fork)
            self.outputs += width

    def __call__(self, x: jax.Array) -> jax.Array:
        ends = []
        for kind, branch in self.plan:
            y = POOLS[kind](x) if kind in POOLS else x
            for fork in branch:
                y = jnp.concatenate([getattr(self, step.name)(y) for step in fork], -1)
            ends.append(y)
        return jnp.concatenate(ends, -1)


def largest(x: jax.Array, stride: int, padding: str) -> jax.Array:
    """The maximum over 3x3 pixels."""
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, stride, stride, 1), padding)


def mean(x: jax.Array) -> jax.Array:
    """The mean over those of 3x3 pixels that lie in the image."""
    total = lambda a: jax.lax.reduce_window(a, 0.0, jax.lax.add, (1, 3, 3, 1), (1, 1, 1, 1), "SAME")  # noqa: E731
    return total(x) / total(jnp.ones((1, *x.shape[1:3], 1)))


POOLS = {
    "mean": mean,
    "max": lambda x: largest(x, 1, "SAME"),
    "halve": lambda x: largest(x, 2, "VALID"),
}


class Inception(nnx.Module):
    """Images [n, h, w, 1 or 3] in [0, 1] -> 2,048 features -> [n, outputs].

    Images are resized to side x side pixels (bilinear, without smoothing) and moved to [-1, 1]; grey ones are made RGB.
    The distance's own weights have 1,008 outputs.
    """

    def __init__(self, inputs: int | tuple[int, ...], outputs: int = 1008, side: int = 299, *, rngs: nnx.Rngs):
        image_shape(inputs, "Inception")
        self.side = side
        width = 3
        for stage in STEM:
            if stage is not None:
                step, padding = stage
                setattr(self, step.name, Unit(width, step, padding, rngs=rngs))
                width = step.outputs
        for name, branches in MIXED.items():
            mixed = Mixed(width, branches, rngs=rngs)
            setattr(self, name, mixed)
            width = mixed.outputs
        self.fc = Affine(width, outputs, rngs=rngs)

    def features(self, x: jax.Array) -> jax.Array:
        """The mean over pixels of the last block, [n, 2048]."""
        x = jax.image.resize(x, (x.shape[0], self.side, self.side, x.shape[3]), "bilinear", antialias=False)
        x = 2 * jnp.broadcast_to(x, (*x.shape[:3], 3)) - 1  # [n, side, side, 3]
        for stage in STEM:
            x = largest(x, 2, "VALID") if stage is None else getattr(self, stage[0].name)(x)
        for name in MIXED:
            x = getattr(self, name)(x)
        return x.mean((1, 2))

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.fc(self.features(x))


class Affine(nnx.Module):
    """x Wᵀ + b with W [outputs, inputs]."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs):
        self.weight = nnx.Param(nnx.initializers.lecun_normal(1, 0)(rngs.params(), (outputs, inputs)))
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(self, x: jax.Array) -> jax.Array:
        return x @ self.weight[...].T + self.bias[...]
