"""The convolutional U-Net of diffusion models, by the names and configuration of diffusers' `UNet2DModel`.

Ho et al. 2020, arXiv:2006.11239; scale and shift by time: Dhariwal & Nichol 2021, arXiv:2105.05233; levels with
a second path of filtered images: Song et al. 2021, arXiv:2011.13456.  A parameter's path is its name in the state dict
there, but for the leaf (`generators.hub.diffusers`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from generators.nets.attention import Embedding, waves
from generators.nets.blocks import ACTIVATIONS, Conv, Down, Kit, Middle, Up
from generators.nets.patches import image_shape
from simulator.types import Array, GenlossError

DOWN = ("DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D", "SkipDownBlock2D", "AttnSkipDownBlock2D")
UP = ("UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D", "SkipUpBlock2D", "AttnSkipUpBlock2D")


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
