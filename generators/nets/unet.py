"""The convolutional U-Net of diffusion models, by the names and configuration of diffusers' `UNet2DModel`.

Ho et al. 2020, arXiv:2006.11239; scale and shift by time: Dhariwal & Nichol 2021, arXiv:2105.05233; levels with
a second path of filtered images: Song et al. 2021, arXiv:2011.13456.  A parameter's path is its name in the state dict
there, but for the leaf (`generators.hub.diffusers`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from generators.nets.attention import Attention, Embedding, waves
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
from generators.nets.patches import image_shape
from simulator.types import Array, GenlossError

DOWN = ("DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D", "SkipDownBlock2D", "AttnSkipDownBlock2D")
UP = ("UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D", "SkipUpBlock2D", "AttnSkipUpBlock2D")
ACTIVATIONS = {
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "mish": jax.nn.mish,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "relu": jax.nn.relu,
}


@dataclass(frozen=True, kw_only=True)
class UNet:
    """`UNet(...)(shape, classes, rngs=...)` is a module `(x, t, label) -> [n, *shape]` for images [h, w, c].

    Fields are the keys of diffusers' configuration, but for what `shape` and `classes` say; sides must halve between
    levels without a rest.  Dropout is not applied.
    """

    block_out_channels: tuple[int, ...] = (32, 64, 64)  # channels of each level, the finest first
    down_block_types: tuple[str, ...] | None = None  # one of `DOWN` a level; None: no attention but in the middle
    up_block_types: tuple[str, ...] | None = None  # one of `UP` a level, the coarsest first; None: as on the way down
    mid_block_type: str | None = "UNetMidBlock2D"  # None: nothing in the middle
    layers_per_block: int = 2  # residual layers of a level on the way down; one more on the way up
    add_attention: bool = True  # in the middle
    attention_head_dim: int | None = 32  # channels of a head; None: one head
    norm_num_groups: int | None = (
        8  # groups of channels that are normalised together; None: 4 channels each, at most 32
    )
    attn_norm_num_groups: int | None = None  # the same for attention in the middle
    norm_eps: float = 1e-5  # added to variances
    act_fn: str = "silu"  # one of `ACTIVATIONS`
    resnet_time_scale_shift: str = "default"  # how time enters a layer: "default" adds, "scale_shift" also scales
    downsample_type: str = "conv"  # of levels with attention: "conv" or "resnet"
    upsample_type: str = "conv"  # of levels with attention: "conv" or "resnet"
    downsample_padding: int = 1  # zeros around before halving: 1 on all sides, 0 below and to the right only
    mid_block_scale_factor: float = 1.0  # the middle's layers are divided by it
    center_input_sample: bool = False  # take pixels from [0, 1] to [-1, 1] first
    time_embedding_type: str = "positional"  # "positional", "fourier" (t is a noise level > 0) or "learned"
    time_embedding_dim: int | None = None  # width of the embedding of time; None: 4 times that of the first level
    flip_sin_to_cos: bool = True  # cosines first
    freq_shift: float = 0  # of the frequencies of time
    num_train_timesteps: int | None = None  # rows of a learned embedding of time
    class_embed_type: str | None = None  # None: a table; "timestep": labels enter as times do
    dropout: float = 0.0  # kept for the configuration, not applied
    out_channels: int | None = None  # None: those of the image; more are computed and left out (a learned variance)
    convolution: str = "auto"  # "lax", "matmul", or "auto": on CPU see `by_turns` and `convolved`, elsewhere "lax"

    def __call__(
        self, shape: tuple[int, ...], classes: int | None, *, dtype: Any = jnp.float32, rngs: nnx.Rngs
    ) -> UNetModule:
        return UNetModule(self, shape, classes, dtype=dtype, rngs=rngs)

    @property
    def down(self) -> tuple[str, ...]:
        """The kind of every level on the way down."""
        kinds = ("DownBlock2D",) * len(self.block_out_channels) if self.down_block_types is None else None
        return tuple(kind.removeprefix("UNetRes") for kind in kinds or self.down_block_types or ())

    @property
    def up(self) -> tuple[str, ...]:
        """The kind of every level on the way up."""
        kinds = self.up_block_types or tuple(UP[DOWN.index(kind)] for kind in self.down[::-1])
        return tuple(kind.removeprefix("UNetRes") for kind in kinds)

    def check(self) -> None:
        """Raises where no network has these fields."""
        for name, kinds, known in (("down_block_types", self.down, DOWN), ("up_block_types", self.up, UP)):
            wrong = [kind for kind in kinds if kind not in known]
            if wrong:
                raise GenlossError(f"`{name}` has {wrong[0]}, which is not supported; there are {', '.join(known)}.")
            if len(kinds) != len(self.block_out_channels):
                raise GenlossError(
                    f"`{name}` names {len(kinds)} levels and `block_out_channels` {len(self.block_out_channels)}; "
                    "give as many of both."
                )
        for name, known in (
            ("mid_block_type", ("UNetMidBlock2D", None)),
            ("act_fn", tuple(ACTIVATIONS)),
            ("resnet_time_scale_shift", ("default", "scale_shift")),
            ("downsample_type", ("conv", "resnet")),
            ("upsample_type", ("conv", "resnet")),
            ("downsample_padding", (0, 1)),
            ("time_embedding_type", ("positional", "fourier", "learned")),
            ("class_embed_type", (None, "timestep")),
            ("convolution", ("auto", "lax", "matmul")),
        ):
            if getattr(self, name) not in known:
                raise GenlossError(
                    f"`{name}` is {getattr(self, name)!r}, which is not supported; there are "
                    f"{', '.join(map(repr, known))}."
                )
        if self.time_embedding_type == "learned" and self.num_train_timesteps is None:
            raise GenlossError("A learned embedding of time has a row per timestep; give `num_train_timesteps`.")


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


class Fourier(nnx.Module):
    """Waves of log t at fixed random frequencies, [n, 2·width]."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.scale = nnx.Param(16 * jax.random.normal(rngs.params(), (width,)))

    def __call__(self, t: Array) -> Array:
        angle = 2 * math.pi * jnp.log(t)[:, None] * jax.lax.stop_gradient(self.scale[...])  # [n, width]
        return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1)


class UNetModule(nnx.Module):
    """What a `UNet` builds."""

    def __init__(self, net: UNet, shape: tuple[int, ...], classes: int | None, *, dtype: Any, rngs: nnx.Rngs):
        net.check()
        h, w, c = image_shape(shape, "UNet")
        widths, levels = net.block_out_channels, len(net.block_out_channels)
        rest = 2 ** (levels - 1)
        if h % rest or w % rest:
            raise GenlossError(
                f"A UNet of {levels} levels halves the sides of images {levels - 1} times; {h}x{w} must be multiples "
                f"of {rest}: give `block_out_channels` fewer levels."
            )
        if "Skip" in "".join((*net.down, *net.up)) and c != 3:
            raise GenlossError(f"Levels called Skip are made for images of 3 channels, not {c}; choose other kinds.")
        time = net.time_embedding_dim or 4 * widths[0]
        kit = Kit(net, time, dtype, rngs)
        self.net, self.shape, self.classes, self.dtype = net, (h, w, c), classes, dtype

        waves = 2 * widths[0] if net.time_embedding_type == "fourier" else widths[0]
        if net.time_embedding_type == "fourier":
            self.time_proj = Fourier(widths[0], rngs=rngs)
        elif net.time_embedding_type == "learned":
            self.time_proj = nnx.Embed(net.num_train_timesteps or 1, widths[0], rngs=rngs)
        self.time_embedding = Embedding(waves, time, dtype=dtype, rngs=rngs)
        if classes is not None and net.class_embed_type == "timestep":
            self.class_embedding = Embedding(waves, time, dtype=dtype, rngs=rngs)
        elif classes is not None:
            self.class_embedding = nnx.Embed(classes + 1, time, dtype=dtype, rngs=rngs)

        self.conv_in = Conv(kit, c, widths[0])
        said = [widths[0]]  # channels of what is said on the way down
        self.down_blocks = nnx.List()
        for i, (kind, width) in enumerate(zip(net.down, widths, strict=True)):
            last = i == levels - 1
            self.down_blocks.append(Down(kit, kind, widths[max(0, i - 1)], width, c, last))
            said += [width] * (net.layers_per_block + (not last))
        self.mid_block = None if net.mid_block_type is None else Middle(kit, widths[-1])
        self.up_blocks = nnx.List()
        for i, (kind, width) in enumerate(zip(net.up, widths[::-1], strict=True)):
            beside = [said.pop() for _ in range(net.layers_per_block + 1)]
            before = widths[::-1][max(0, i - 1)]
            self.up_blocks.append(Up(kit, kind, before, width, beside, c, last=i == levels - 1))
        self.conv_norm_out = kit.norm(widths[0])
        self.conv_out = Conv(kit, widths[0], net.out_channels or c, zero=True)

    def __call__(self, x: Array, t: Array, label: Array | None = None) -> Array:
        """x [n, h, w, c], t [n] and label [n] -> [n, h, w, c] float32."""
        time = self.time_embedding(self._waves(t))  # [n, time]
        if self.classes is not None:
            time = time + self.told(label)
        x = x.astype(self.dtype)
        image = 2 * x - 1 if self.net.center_input_sample else x  # [n, h, w, c]
        x = self.conv_in(image)  # [n, h, w, widths[0]]
        said = [x]
        for block in self.down_blocks:
            x, image, more = block(x, time, image)
            said += more
        if self.mid_block is not None:
            x = self.mid_block(x, time)
        image = None
        for block in self.up_blocks:
            first = len(said) - len(block.resnets)
            x, image = block(x, time, image, said[first:])
            said = said[:first]
        x = self.conv_out(jax.nn.silu(self.conv_norm_out(x)))  # [n, h, w, out_channels]
        x = (x if image is None else x + image).astype(jnp.float32)
        if self.net.time_embedding_type == "fourier":
            x = x / t[:, None, None, None]
        return x[..., : self.shape[-1]]

    def told(self, label: Array | None) -> Array:
        """What is told of labels [n], [n, time]."""
        if label is None:
            raise GenlossError(f"This UNet has {self.classes} classes; give a label to every row.")
        return self.class_embedding(self._waves(label) if self.net.class_embed_type == "timestep" else label)

    def _waves(self, t: Array) -> Array:
        kind, net = self.net.time_embedding_type, self.net
        if kind == "positional":
            return waves(t, net.block_out_channels[0], net.flip_sin_to_cos, net.freq_shift)
        return self.time_proj(t.astype(jnp.int32 if kind == "learned" else jnp.float32))


def quarter(width: int) -> int:
    """Groups of four channels, but at most 32 groups."""
    return max(1, min(width // 4, 32))
