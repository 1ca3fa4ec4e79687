"""The diffusion transformer (DiT, Peebles & Xie 2023, arXiv:2212.09748), by the names and configuration of diffusers'
`DiTTransformer2DModel`: matmuls alone.  A parameter's path is its name in the state dict there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from generators.nets.attention import Attention, Embedding, kept, waves
from generators.nets.patches import cut, grid
from simulator.types import Array, GenlossError

ACTIVATIONS = {
    "gelu-approximate": jax.nn.gelu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "linear-silu": jax.nn.silu,
}
ZERO = nnx.initializers.zeros_init()


@dataclass(frozen=True, kw_only=True)
class DiT:
    """`DiT(...)(shape, classes, rngs=...)` is a module `(x, t, label) -> [n, *shape]` for square images [h, h, c].

    Fields are the keys of diffusers' configuration, but for what `shape` and `classes` say.  The width is heads times
    channels of a head.  Dropout is not applied.
    """

    patch_size: int = 4  # side of a patch in pixels
    num_attention_heads: int = 4
    attention_head_dim: int = 32  # channels of a head
    num_layers: int = 6
    attention_bias: bool = True  # of queries, keys and values
    activation_fn: str = "gelu-approximate"  # one of `ACTIVATIONS`
    norm_type: str = "ada_norm_zero"  # the only one there is
    norm_elementwise_affine: bool = False  # learned scale and shift before the feed-forward part as well
    norm_eps: float = 1e-5  # of the normalisation before the feed-forward part; 1e-6 elsewhere
    norm_num_groups: int = 32  # kept for the configuration, of no effect
    upcast_attention: bool = False  # kept for the configuration: the softmax is always in float32
    dropout: float = 0.0  # kept for the configuration, not applied
    out_channels: int | None = None  # None: those of the image; more are computed and left out (a learned variance)

    def __call__(
        self, shape: tuple[int, ...], classes: int | None, *, dtype: Any = jnp.float32, rngs: nnx.Rngs
    ) -> DiTModule:
        return DiTModule(self, shape, classes, dtype=dtype, rngs=rngs)


class Told(nnx.Module):
    """What is told of time and label, [n, width]."""

    def __init__(self, width: int, classes: int | None, *, dtype: Any, rngs: nnx.Rngs):
        self.timestep_embedder = Embedding(256, width, dtype=dtype, rngs=rngs)
        if classes is not None:
            self.class_embedder = Table(classes, width, dtype=dtype, rngs=rngs)

    def __call__(self, t: Array, label: Array | None) -> Array:
        told = self.timestep_embedder(waves(t, 256, flip=True, shift=1))
        return told if label is None else told + self.class_embedder.embedding_table(label)


class Table(nnx.Module):
    """A row for each class and one for none."""

    def __init__(self, classes: int, width: int, *, dtype: Any, rngs: nnx.Rngs):
        self.embedding_table = nnx.Embed(classes + 1, width, dtype=dtype, rngs=rngs)


class Adapting(nnx.Module):
    """Three scales, shifts and gates of a layer, read off time and label; all 0 at first."""

    def __init__(self, width: int, classes: int | None, *, dtype: Any, rngs: nnx.Rngs):
        self.emb = Told(width, classes, dtype=dtype, rngs=rngs)
        self.linear = nnx.Linear(width, 6 * width, kernel_init=ZERO, dtype=dtype, rngs=rngs)

    def __call__(self, t: Array, label: Array | None) -> Array:
        return kept(self.linear(jax.nn.silu(self.emb(t, label))))[:, None]  # [n, 1, 6·width]


class Projected(nnx.Module):
    """act(W x + b)."""

    def __init__(self, width: int, activation: str, *, dtype: Any, rngs: nnx.Rngs):
        self.proj = nnx.Linear(width, 4 * width, dtype=dtype, rngs=rngs)
        self.activation = activation

    def __call__(self, x: Array) -> Array:
        return ACTIVATIONS[self.activation](kept(self.proj(x)))


class Feeding(nnx.Module):
    """The feed-forward part, the same for every token; its second step is the dropout that is not applied."""

    def __init__(self, width: int, activation: str, *, dtype: Any, rngs: nnx.Rngs):
        within = Projected(width, activation, dtype=dtype, rngs=rngs)
        self.net: nnx.List[Any] = nnx.List([within, None, nnx.Linear(4 * width, width, dtype=dtype, rngs=rngs)])

    def __call__(self, x: Array) -> Array:
        # Over rows: a gradient summed over two axes is transposed first on a CPU.
        return kept(self.net[2](self.net[0](x.reshape(-1, x.shape[-1])))).reshape(x.shape)


class Block(nnx.Module):
    """Attention and a feed-forward part, each scaled, shifted and gated by time and label; residual."""

    def __init__(self, net: DiT, width: int, classes: int | None, *, dtype: Any, rngs: nnx.Rngs):
        kit: dict[str, Any] = {"dtype": dtype, "rngs": rngs}
        self.norm1 = Adapting(width, classes, **kit)
        self.norm = layer_norm(width, 1e-6, False, **kit)
        self.attn1 = Attention(width, net.attention_head_dim, bias=net.attention_bias, **kit)
        self.norm3 = layer_norm(width, net.norm_eps, net.norm_elementwise_affine, **kit)
        self.ff = Feeding(width, net.activation_fn, **kit)

    def __call__(self, x: Array, t: Array, label: Array | None) -> Array:
        """x [n, tokens, width]."""
        shift, scale, gate, shift_within, scale_within, gate_within = jnp.split(self.norm1(t, label), 6, -1)
        x = x + gate * self.attn1(self.norm(x) * (1 + scale) + shift)  # [n, tokens, width]
        return x + gate_within * self.ff(self.norm3(x) * (1 + scale_within) + shift_within)


class Patches(nnx.Module):
    """Images [n, h, w, c] as tokens with fixed places, [n, tokens, width]."""

    def __init__(self, patch: int, channels: int, width: int, *, dtype: Any, rngs: nnx.Rngs):
        self.patch, self.dtype = patch, dtype
        self.proj = Kernel(patch, channels, width, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        x = cut(x.astype(self.dtype), self.patch)  # [n, rows, columns, patch·patch·c]
        kernel, bias = (a[...].astype(self.dtype) for a in (self.proj.kernel, self.proj.bias))
        x = x @ kernel.reshape(-1, kernel.shape[-1]) + bias  # [n, rows, columns, width]
        return (x + places(x.shape[1], x.shape[-1]).astype(self.dtype)).reshape(x.shape[0], -1, x.shape[-1])


class Kernel(nnx.Module):
    """The matmul of a patch, as the convolution that it is elsewhere."""

    def __init__(self, patch: int, channels: int, width: int, *, rngs: nnx.Rngs):
        init = nnx.initializers.lecun_normal()
        self.kernel = nnx.Param(init(rngs.params(), (patch, patch, channels, width)))
        self.bias = nnx.Param(jnp.zeros(width))


class DiTModule(nnx.Module):
    """What a `DiT` builds."""

    def __init__(self, net: DiT, shape: tuple[int, ...], classes: int | None, *, dtype: Any, rngs: nnx.Rngs):
        for name, value, known in (
            ("activation_fn", net.activation_fn, tuple(ACTIVATIONS)),
            ("norm_type", net.norm_type, ("ada_norm_zero",)),
        ):
            if value not in known:
                raise GenlossError(f"`{name}` is {value!r}, which is not supported; there are {', '.join(known)}.")
        grid(shape, net.patch_size, "DiT")
        h, w, c = shape
        width = net.num_attention_heads * net.attention_head_dim
        if h != w:
            raise GenlossError(f"A DiT reads square images, not {h}x{w}; pad or crop them.")
        if width % 4:
            raise GenlossError(
                f"The width of a DiT, heads times channels of a head, is {width}; make it a multiple of 4."
            )
        self.shape, self.classes, self.patch = (h, w, c), classes, net.patch_size
        kit: dict[str, Any] = {"dtype": dtype, "rngs": rngs}
        self.pos_embed = Patches(net.patch_size, c, width, **kit)
        self.transformer_blocks = nnx.List([Block(net, width, classes, **kit) for _ in range(net.num_layers)])
        self.norm_out = layer_norm(width, 1e-6, False, **kit)
        self.proj_out_1 = nnx.Linear(width, 2 * width, kernel_init=ZERO, **kit)
        self.proj_out_2 = nnx.Linear(width, net.patch_size**2 * (net.out_channels or c), kernel_init=ZERO, **kit)

    def __call__(self, x: Array, t: Array, label: Array | None = None) -> Array:
        """x [n, h, h, c], t [n] and label [n] -> [n, h, h, c] float32."""
        if self.classes is None:
            label = None
        elif label is None:
            raise GenlossError(f"This DiT has {self.classes} classes; give a label to every row.")
        h, _, c = self.shape
        y = self.pos_embed(x)  # [n, tokens, width]
        y = self._through(y, t, label)
        told = self.transformer_blocks[0].norm1.emb(t, label)  # [n, width]
        shift, scale = jnp.split(self.proj_out_1(jax.nn.silu(told))[:, None], 2, -1)  # [n, 1, width]
        y = self.proj_out_2(self.norm_out(y) * (1 + scale) + shift)  # [n, tokens, patch·patch·out_channels]
        side, patch = h // self.patch, self.patch
        y = y.reshape(y.shape[0], side, side, patch, patch, -1)
        return jnp.moveaxis(y, 3, 2).reshape(y.shape[0], h, h, -1)[..., :c].astype(jnp.float32)

    def _through(self, y: Array, t: Array, label: Array | None) -> Array:
        """Tokens y [n, tokens, width] after all blocks.

        On a CPU as a loop: laid out one after the other, the compiler fuses every use of a residual sum with the whole
        sum of all blocks before it (and of all blocks after it in the gradient), which it then takes again and again.
        A gradient step of six blocks of 128 channels, 64 images of 49 tokens, took 2.8 times as long.
        """
        if jax.default_backend() != "cpu":
            for block in self.transformer_blocks:
                y = block(y, t, label)
            return y
        graph, _ = nnx.split(self.transformer_blocks[0], nnx.Param)
        states = [nnx.as_pure(nnx.split(block, nnx.Param)[1]) for block in self.transformer_blocks]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)  # leaves [blocks, ...]
        # What lies between matmuls is computed once more for the gradient: to write it takes longer than to compute it.
        policy = jax.checkpoint_policies.save_only_these_names("kept")
        one = jax.checkpoint(lambda y, block: (nnx.merge(graph, block)(y, t, label), None), policy=policy)
        return jax.lax.scan(one, y, stacked)[0]


def layer_norm(width: int, eps: float, affine: bool, *, dtype: Any, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """Normalisation over channels; statistics in float32."""
    return nnx.LayerNorm(
        width, epsilon=eps, use_scale=affine, use_bias=affine, use_fast_variance=False, dtype=dtype, rngs=rngs
    )


def places(side: int, width: int) -> Array:
    """Sines and cosines of the column and of the row of a patch, [side, side, width]."""
    frequency = 1.0 / 10_000 ** (np.arange(width // 4) / (width / 4))  # [width/4]
    angle = np.arange(side)[:, None] * frequency  # [side, width/4]
    line = np.concatenate([np.sin(angle), np.cos(angle)], -1)  # [side, width/2]
    column, row = np.broadcast_arrays(line[None], line[:, None])  # [side, side, width/2]
    return jnp.asarray(np.concatenate([column, row], -1), jnp.float32)
