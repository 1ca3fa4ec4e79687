"""The denoiser of images as patches that mix: matmuls alone, with none of attention's work between pairs of patches."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from generators.nets.denoiser import waves
from generators.nets.patches import cut, grid, joined
from simulator.types import Array, GenlossError

ZERO = nnx.initializers.zeros_init()


class Mixing(nnx.Module):
    """One layer of a mixer (Tolstikhin et al. 2021, arXiv:2105.01601): an MLP over patches, the same for every channel,
    then one over channels.

    Both are residual, scaled, shifted and gated by time and label; gates are 0 at first (Peebles & Xie 2023,
    arXiv:2212.09748, section 3.2).  Patches are the first axis, so that neither matmul has anything to transpose.
    """

    def __init__(self, patches: int, width: int, told: int, *, dtype: Any, rngs: nnx.Rngs):
        kit: dict[str, Any] = {"dtype": dtype, "rngs": rngs}
        self.tell = nnx.Linear(told, 6 * width, kernel_init=ZERO, **kit)
        self.across = nnx.List([nnx.Linear(patches, 2 * patches, **kit), nnx.Linear(2 * patches, patches, **kit)])
        self.within = nnx.List([nnx.Linear(width, 2 * width, **kit), nnx.Linear(2 * width, width, **kit)])

    def __call__(self, x: Array, told: Array) -> Array:
        """x [patches, n, width], told [n, told]."""
        scale, shift, gate, scale_within, shift_within, gate_within = jnp.split(self.tell(told), 6, -1)  # [n, width]
        y = normed(x) * (1 + scale) + shift  # [patches, n, width]
        y = over_patches(self.across[1], jax.nn.gelu(over_patches(self.across[0], y)))
        # Without a barrier a CPU's compiler fuses every use of a residual sum with all that it is the sum of.
        x = jax.lax.optimization_barrier(x + gate * y)
        y = normed(x) * (1 + scale_within) + shift_within
        y = over_channels(self.within[1], jax.nn.gelu(over_channels(self.within[0], y)))
        return jax.lax.optimization_barrier(x + gate_within * y)


class PatchDenoiser(nnx.Module):
    """Images [n, h, w, c] and times [n], or [n, times], (and labels [n] of `classes` and a null one) -> [n, h, w, c].

    A share of the image itself, told by time and label, passes by the layers, as in `Denoiser`.  Its weights are tied
    to the number of patches: a network for one size of images is none for another.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        classes: int | None = None,
        patch: int = 4,  # side of a patch in pixels
        width: int = 128,  # channels of a patch
        depth: int = 4,
        told: int = 128,  # width of what is told of time and label; even
        times: int = 1,  # that it is told: 2 for `MeanFlow`
        *,
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        patches, values = grid(shape, patch, "PatchDenoiser")
        kit: dict[str, Any] = {"dtype": dtype, "rngs": rngs}
        self.patch, self.waves, self.classes = patch, told, classes
        self.time = nnx.Linear(times * told, told, **kit)
        if classes is not None:
            self.label = nnx.Embed(classes + 1, told, **kit)
        self.meant = nnx.Linear(told, told, **kit)
        self.enter = nnx.Linear(values, width, **kit)
        self.place = nnx.Param(0.02 * jax.random.normal(rngs.params(), (patches, 1, width)))
        self.layers = nnx.List([Mixing(patches, width, told, **kit) for _ in range(depth)])
        self.leave = nnx.Linear(width, values, kernel_init=ZERO, **kit)
        self.share = nnx.Linear(told, 1, kernel_init=ZERO, **kit)

    def __call__(self, x: Array, t: Array, label: Array | None = None) -> Array:
        told = self._told(t, label)  # [n, told]
        cells = cut(x, self.patch)  # [n, h/patch, w/patch, patch·patch·c]
        y = jnp.moveaxis(cells.reshape(len(x), -1, cells.shape[-1]), 0, 1)  # [patches, n, patch·patch·c]
        y = over_channels(self.enter, y) + self.place[...].astype(told.dtype)  # [patches, n, width]
        for layer in self.layers:
            y = layer(y, told)
        y = over_channels(self.leave, normed(y)).astype(jnp.float32)  # [patches, n, patch·patch·c]
        left = joined(jnp.moveaxis(y, 0, 1).reshape(cells.shape), self.patch)  # [n, h, w, c]
        return self.share(told).astype(jnp.float32)[:, :, None, None] * x + left

    def _told(self, t: Array, label: Array | None) -> Array:
        """What is told of times and labels, [n, told]."""
        told = self.time(waves(t.reshape(-1), self.waves).reshape(len(t), -1))  # [n, told]
        if self.classes is not None:
            if label is None:
                raise GenlossError(f"This PatchDenoiser has {self.classes} classes; give a label to every row.")
            told = told + self.label(label)
        return jax.nn.silu(self.meant(jax.nn.silu(told)))


def over_channels(to: nnx.Linear, x: Array) -> Array:
    """`to` of each patch's channels, x [patches, n, channels]; over rows, as gradients on a CPU are faster."""
    return to(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)


def over_patches(to: nnx.Linear, x: Array) -> Array:
    """`to` of each channel's patches, x [patches, n, channels] -> [outputs, n, channels]."""
    assert to.bias is not None
    kernel, bias = to.kernel[...].astype(x.dtype), to.bias[...].astype(x.dtype)  # [patches, outputs], [outputs]
    return (kernel.T @ x.reshape(len(x), -1)).reshape(-1, *x.shape[1:]) + bias[:, None, None]


def normed(x: Array) -> Array:
    """Each image over the root mean square of all its channels at all its patches, x [patches, n, width] (Zhang &
    Sennrich 2019, arXiv:1910.07467).

    Patches come first in the sum, which a CPU then takes for many channels at once; a norm of every patch by itself
    takes as long as the matmuls.
    """
    whole = x.astype(jnp.float32)
    power = jnp.square(whole).sum(0).sum(-1, keepdims=True) / (len(x) * x.shape[-1])  # [n, 1]
    return (whole * jax.lax.rsqrt(power + 1e-5)).astype(x.dtype)
