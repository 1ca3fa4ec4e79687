"""What a U-Net is made of, by the names of diffusers: residual layers, resampling, the levels and the middle."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from generators.nets.attention import Attention
from generators.nets.convolution import (
    by_lax,
    by_matmul,
    by_turns,
    convolved,
    doubled,
    filtered_double,
    filtered_half,
    halved,
)
from simulator.types import Array, GenlossError

if TYPE_CHECKING:
    from generators.nets.unet import UNet

ACTIVATIONS = {
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "mish": jax.nn.mish,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "relu": jax.nn.relu,
}


class Kit(NamedTuple):
    """What every part is built with."""

    net: UNet
    time: int  # width of the embedding of time
    dtype: Any  # what is computed in
    rngs: nnx.Rngs

    def norm(self, width: int, groups: int | None = None) -> nnx.GroupNorm:
        """Normalisation over pixels and groups of channels, each image by itself; statistics in float32."""
        groups = groups or self.net.norm_num_groups or quarter(width)
        if width % groups:
            raise GenlossError(f"{groups} groups of channels are to be normalised together and must divide {width}.")
        return nnx.GroupNorm(
            width,
            groups,
            epsilon=self.net.norm_eps,
            use_fast_variance=False,  # squares minus squares lose the digits that parity needs
            dtype=self.dtype,
            rngs=self.rngs,
        )


class Conv(nnx.Module):
    """A convolution of size x size pixels with zeros around; how it is computed is `UNet.convolution`."""

    def __init__(
        self, kit: Kit, inputs: int, outputs: int, size: int = 3, stride: int = 1, before: int = 1, zero: bool = False
    ):
        init = nnx.initializers.zeros_init() if zero else nnx.initializers.lecun_normal()
        self.kernel = nnx.Param(init(kit.rngs.params(), (size, size, inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs))
        self.dtype, self.how, self.stride = kit.dtype, kit.net.convolution, stride
        self.zeros = (0, 0) if size == 1 else (before, 1)  # before and after, on both axes

    def __call__(self, x: Array) -> Array:
        x, kernel, bias = (a.astype(self.dtype) for a in (x, self.kernel[...], self.bias[...]))
        if kernel.shape[0] == 1:
            return x @ kernel[0, 0] + bias  # [n, h, w, outputs]
        x = jnp.pad(x, ((0, 0), self.zeros, self.zeros, (0, 0)))  # [n, h + 2, w + 2, inputs]
        if self.how == "lax" or (self.how == "auto" and jax.default_backend() != "cpu"):
            return by_lax(x, kernel, self.stride) + bias  # [n, h', w', outputs]
        return convolved(by_matmul if self.how == "matmul" else by_turns, self.stride, x, kernel) + bias


class Seeing(Attention):
    """Attention between the pixels of an image, residual and divided by `scale`."""

    def __init__(self, kit: Kit, width: int, norm: nnx.GroupNorm | None, scale: float = 1.0):
        head = width if kit.net.attention_head_dim is None else kit.net.attention_head_dim
        super().__init__(width, head, zero=True, norm=norm, dtype=kit.dtype, rngs=kit.rngs)
        self.scale = scale

    def __call__(self, x: Array) -> Array:
        told = super().__call__(x.reshape(x.shape[0], -1, x.shape[-1]))  # [n, h·w, width]
        return (x + told.reshape(x.shape)) / self.scale


class Resnet(nnx.Module):
    """Two convolutions, each after normalisation and activation, with time told between them; residual, and divided by
    `scale`.

    `resize` is applied to both branches.  Layers of the levels called Skip are `filtered`: they have groups of four
    channels (or 32 groups), a scale of √2, and a matmul on the residual branch of every resizing.
    """

    def __init__(
        self,
        kit: Kit,
        inputs: int,
        outputs: int,
        *,
        scale: float = 1.0,
        resize: Callable[[Array], Array] | None = None,
        filtered: bool = False,
        groups: int | None = None,  # of the first normalisation, where they are not those of the second
    ):
        self.act, self.resize, self.scale = ACTIVATIONS[kit.net.act_fn], resize, math.sqrt(2.0) if filtered else scale
        self.scales = kit.net.resnet_time_scale_shift == "scale_shift"
        self.norm1 = kit.norm(inputs, groups or (quarter(inputs) if filtered else None))
        self.conv1 = Conv(kit, inputs, outputs)
        told = 2 * outputs if self.scales else outputs
        self.time_emb_proj = nnx.Linear(kit.time, told, dtype=kit.dtype, rngs=kit.rngs)
        self.norm2 = kit.norm(outputs, quarter(outputs) if filtered else None)
        self.conv2 = Conv(kit, outputs, outputs, zero=True)
        straight = inputs == outputs and not (filtered and resize)
        self.conv_shortcut = None if straight else Conv(kit, inputs, outputs, size=1)

    def __call__(self, x: Array, time: Array) -> Array:
        """x [n, h, w, inputs] and the embedding of time [n, width] -> [n, h', w', outputs]."""
        y = self.act(self.norm1(x))
        if self.resize is not None:
            x, y = self.resize(x), self.resize(y)
        y = self.conv1(y)  # [n, h', w', outputs]
        told = self.time_emb_proj(self.act(time))[:, None, None]  # [n, 1, 1, outputs or 2·outputs]
        if self.scales:
            scale, shift = jnp.split(told, 2, -1)
            y = self.norm2(y) * (1 + scale) + shift
        else:
            y = self.norm2(y + told)
        y = self.conv2(self.act(y))
        return ((x if self.conv_shortcut is None else self.conv_shortcut(x)) + y) / self.scale


class Resampling(nnx.Module):
    """A convolution that halves both sides, or follows their doubling."""

    def __init__(self, kit: Kit, width: int, double: bool):
        before = 1 if double else kit.net.downsample_padding
        self.double, self.conv = double, Conv(kit, width, width, stride=1 if double else 2, before=before)

    def __call__(self, x: Array, time: Array) -> Array:
        return self.conv(doubled(x) if self.double else x)


class Down(nnx.Module):
    """The layers of a level on the way down, attention after each where there is any, and, but for the last level, a
    halving of the sides.  A level called Skip also halves the image itself and adds it.
    """

    def __init__(self, kit: Kit, kind: str, inputs: int, width: int, colours: int, last: bool):
        net, filtered = kit.net, "Skip" in kind
        widths = (inputs, *[width] * (net.layers_per_block - 1))
        self.resnets = nnx.List([Resnet(kit, a, width, filtered=filtered) for a in widths])
        if "Attn" in kind:
            scale, groups = (math.sqrt(2.0), 32) if filtered else (1.0, None)
            self.attentions = nnx.List([Seeing(kit, width, kit.norm(width, groups), scale) for _ in widths])
        self.attends, self.filters, self.halves = "Attn" in kind, filtered and not last, not (filtered or last)
        if self.filters:
            self.resnet_down = Resnet(kit, width, width, resize=filtered_half, filtered=True)
            self.skip_conv = Conv(kit, colours, width, size=1)
        if self.halves:
            resnet = kind.startswith("Resnet") or ("Attn" in kind and net.downsample_type == "resnet")
            half = Resnet(kit, width, width, resize=halved) if resnet else Resampling(kit, width, double=False)
            self.downsamplers = nnx.List([half])

    def __call__(self, x: Array, time: Array, image: Array) -> tuple[Array, Array, list[Array]]:
        """(x at half its sides, the image likewise, what every layer said)."""
        said = []
        for i, resnet in enumerate(self.resnets):
            x = resnet(x, time)  # [n, h, w, width]
            if self.attends:
                x = self.attentions[i](x)
            said.append(x)
        if self.filters:
            image = filtered_half(image)  # [n, h/2, w/2, colours]
            said.append(self.resnet_down(x, time) + self.skip_conv(image))  # [n, h/2, w/2, width]
        if self.halves:
            said.append(self.downsamplers[0](x, time))  # [n, h/2, w/2, width]
        return said[-1], image, said


class Up(nnx.Module):
    """The layers of a level on the way up, each beside what one said on the way down, and a doubling of the sides.  A
    level called Skip also reads an image off its layers, on top of that of the level before, doubled.
    """

    def __init__(self, kit: Kit, kind: str, before: int, width: int, said: list[int], colours: int, last: bool):
        net, filtered = kit.net, "Skip" in kind
        pairs = list(zip((before, *[width] * (len(said) - 1)), said, strict=True))
        # diffusers divides one width of two by 4 here, and what was trained with it needs it so.
        odd = kind == "AttnSkipUpBlock2D"
        self.resnets = nnx.List(
            [
                Resnet(kit, a + b, width, filtered=filtered, groups=min(a + b // 4, 32) if odd else None)
                for a, b in pairs
            ]
        )
        if "Attn" in kind:
            scale, groups = (math.sqrt(2.0), 32) if filtered else (1.0, None)
            seen = pairs[:1] if filtered else pairs  # there one only, after the last layer
            self.attentions = nnx.List([Seeing(kit, width, kit.norm(width, groups), scale) for _ in seen])
        self.attends, self.filtered, self.last = "Attn" in kind, filtered, last
        if filtered and not last:
            self.resnet_up = Resnet(kit, width, width, resize=filtered_double, filtered=True)
            self.skip_norm = kit.norm(width, quarter(width))
            self.skip_conv = Conv(kit, width, colours, zero=True)
        elif not last:
            resnet = kind.startswith("Resnet") or ("Attn" in kind and net.upsample_type == "resnet")
            double = Resnet(kit, width, width, resize=doubled) if resnet else Resampling(kit, width, double=True)
            self.upsamplers = nnx.List([double])

    def __call__(self, x: Array, time: Array, image: Array | None, said: list[Array]) -> tuple[Array, Array | None]:
        """(x at twice its sides, the image likewise); the last of `said` goes beside the first layer."""
        for i, resnet in enumerate(self.resnets):
            x = resnet(jnp.concatenate([x, said[-1 - i]], -1), time)  # [n, h, w, width]
            if self.attends and not self.filtered:
                x = self.attentions[i](x)
        if self.attends and self.filtered:
            x = self.attentions[0](x)
        if self.filtered and image is not None:
            image = filtered_double(image)  # [n, h, w, colours]
        if self.filtered and not self.last:
            read = self.skip_conv(jax.nn.silu(self.skip_norm(x)))  # [n, h, w, colours]
            image = read if image is None else image + read
            x = self.resnet_up(x, time)  # [n, 2h, 2w, width]
        elif not self.last:
            x = self.upsamplers[0](x, time)  # [n, 2h, 2w, width]
        return x, image


class Middle(nnx.Module):
    """Two layers of the coarsest level, with attention between them."""

    def __init__(self, kit: Kit, width: int):
        net, scale = kit.net, kit.net.mid_block_scale_factor
        self.resnets, self.attends = (
            nnx.List([Resnet(kit, width, width, scale=scale) for _ in range(2)]),
            net.add_attention,
        )
        if net.add_attention:
            normed = net.attn_norm_num_groups is not None or net.resnet_time_scale_shift == "default"
            norm = kit.norm(width, net.attn_norm_num_groups) if normed else None
            self.attentions = nnx.List([Seeing(kit, width, norm, scale)])

    def __call__(self, x: Array, time: Array) -> Array:
        x = self.resnets[0](x, time)  # [n, h, w, width]
        return self.resnets[1](self.attentions[0](x) if self.attends else x, time)


def quarter(width: int) -> int:
    """Groups of four channels, but at most 32 groups."""
    return max(1, min(width // 4, 32))
