"""Convolutions as a CPU computes them fast, and the resizing of images between levels of a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from simulator.types import Array


def by_lax(x: Array, kernel: Array, stride: int) -> Array:
    """Padded images [n, h, w, inputs] and kernel [k, k, inputs, outputs] -> [n, h', w', outputs]."""
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), "VALID", dimension_numbers=layout)


def by_turns(x: Array, kernel: Array, stride: int) -> Array:
    """The same; under `vmap` over networks, each with a kernel of its own, one network after the other.

    A small U-Net (`experiments.bench diffusion.ensembles`) makes 139, 125 and 130 steps/s in all at 1, 16 and 64
    networks so, 117, 111 and 90 as matmuls, 61, 86 and 74 as the grouped convolutions that `lax.conv` becomes.
    """

    @jax.custom_batching.custom_vmap
    def one(x: Array, kernel: Array) -> Array:
        return by_lax(x, kernel, stride)

    @one.def_vmap
    def many(size: int, batched: Any, x: Array, kernel: Array) -> tuple[Array, bool]:
        if not batched[1]:  # of one network: more images
            said = one(x.reshape(-1, *x.shape[2:]), kernel)
            return said.reshape(size, -1, *said.shape[1:]), True
        x = x if batched[0] else jnp.broadcast_to(x, (size, *x.shape))
        return jax.lax.map(lambda both: one(*both), (x, kernel)), True

    return one(x, kernel)


def by_matmul(x: Array, kernel: Array, stride: int) -> Array:
    """The same as one matmul of shifted copies side by side."""
    return copies(x, kernel.shape[0], stride) @ kernel.reshape(-1, kernel.shape[-1])


def copies(x: Array, size: int, stride: int) -> Array:
    """What each pixel of a convolution reads, [n, h', w', size·size·inputs]."""
    h, w = x.shape[1] - size + 1, x.shape[2] - size + 1
    shifts = [(i, j) for i in range(size) for j in range(size)]
    return jnp.concatenate([x[:, i : i + h : stride, j : j + w : stride] for i, j in shifts], -1)


def _convolved(by: Callable[[Array, Array, int], Array], stride: int, x: Array, kernel: Array) -> Array:
    """`by(x, kernel, stride)` with a gradient made of the same operation.

    On a CPU the derivatives of `lax.conv` itself are many times slower inside `lax.scan` than alone; its value is not.
    So the gradient is made of values: to the image, a convolution by the kernel turned round; to the kernel, one of
    images and channels exchanged.  That to the kernel took, for 32 images of 28x28x32, 14x14x64 and 7x7x64, 8.7, 12.3
    and 1.9 ms of one processor alone and 9.5, 10.3 and 2.2 in a scan; that of `lax.conv` 7.8, 10.8 and 2.1 alone, 542,
    739 and 81 in a scan; one matmul of shifted copies 43 and 12, of the first two alone.
    """
    return by(x, kernel, stride)


def _forward(by: Any, stride: int, x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return by(x, kernel, stride), (x, kernel)


def _backward(by: Any, stride: int, kept: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = kept
    size = kernel.shape[0]
    if by is by_matmul or stride > 1:
        read = copies(x, size, stride)  # [n, h', w', size·size·inputs]
        to_kernel = jnp.einsum("nhwi,nhwo->io", read, g).reshape(kernel.shape)
    else:  # images are summed over as channels, by a kernel as large as g
        wide = by(x.transpose(3, 1, 2, 0), g.transpose(1, 2, 0, 3), 1)  # [inputs, size, size, outputs]
        to_kernel = wide.transpose(1, 2, 0, 3)
    # Every pixel of g spread over those it read: g with zeros between and around, by the kernel turned round.
    spread = [(size - 1, x.shape[i] - stride * (g.shape[i] - 1) - 1, stride - 1) for i in (1, 2)]
    wide = jax.lax.pad(g, jnp.zeros((), g.dtype), ((0, 0, 0), *spread, (0, 0, 0)))  # [n, h + size - 1, ..., outputs]
    return by(wide, kernel[::-1, ::-1].swapaxes(2, 3), 1), to_kernel


convolved = jax.custom_vjp(_convolved, nondiff_argnums=(0, 1))
convolved.defvjp(_forward, _backward)


def halved(x: Array) -> Array:
    """The mean over 2x2 pixels, [n, h, w, c] to [n, h/2, w/2, c]."""
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))


def doubled(x: Array) -> Array:
    """Every pixel as 2x2, [n, h, w, c] to [n, 2h, 2w, c]."""
    n, h, w, c = x.shape
    return jnp.broadcast_to(x[:, :, None, :, None], (n, h, 2, w, 2, c)).reshape(n, 2 * h, 2 * w, c)


def filtered_half(x: Array) -> Array:
    """Smoothed by [1, 3, 3, 1]/8 along both sides, and every second pixel of it, [n, h/2, w/2, c]."""
    for axis in (1, 2):
        x = jnp.moveaxis(x, axis, 0)
        padded = jnp.pad(x, ((1, 1), *[(0, 0)] * 3))  # [side + 2, ...]
        even, odd = padded[::2], padded[1::2]  # [side/2 + 1, ...]
        x = jnp.moveaxis((even[:-1] + 3 * odd[:-1] + 3 * even[1:] + odd[1:]) / 8, 0, axis)
    return x


def filtered_double(x: Array) -> Array:
    """Zeros between pixels, smoothed by [1, 3, 3, 1]/4 along both sides, [n, 2h, 2w, c]."""
    for axis in (1, 2):
        x = jnp.moveaxis(x, axis, 0)
        padded = jnp.pad(x, ((1, 1), *[(0, 0)] * 3))  # [side + 2, ...]
        even, odd = padded[:-2] + 3 * x, 3 * x + padded[2:]  # [side, ...]
        x = jnp.moveaxis(jnp.stack([even, odd], 1).reshape(-1, *x.shape[1:]) / 4, 0, axis)
    return x
