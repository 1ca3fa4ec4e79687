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
    return jnp.concatenate(shifted(x, kernel.shape[0], stride), -1) @ kernel.reshape(-1, kernel.shape[-1])


def shifted(x: Array, size: int, stride: int) -> list[Array]:
    """What each place of a kernel reads of images, size·size of [n, h', w', inputs]."""
    h, w = x.shape[1] - size + 1, x.shape[2] - size + 1
    return [x[:, i : i + h : stride, j : j + w : stride] for i in range(size) for j in range(size)]


def _convolved(by: Callable[[Array, Array, int], Array], stride: int, x: Array, kernel: Array) -> Array:
    """`by(x, kernel, stride)` with a gradient made of values.

    On a CPU the derivatives of `lax.conv` itself are many times slower inside `lax.scan` than alone; its value is not.
    To the image: a convolution by the kernel turned round.  To the kernel: a matmul for each of its places.  That to
    the kernel took, in a scan, for 32 images and from 32 to 32 channels at 28x28, 64 to 32 there, and 64 to 64 at
    14x14, 7.9, 20 and 6.9 ms, and as a convolution of images and channels exchanged 7.7, 51 and 9.8 (the middle one 16
    in two halves); that of `lax.conv` 542 and 739, of the first and the last.
    """
    return by(x, kernel, stride)


def _forward(by: Any, stride: int, x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return by(x, kernel, stride), (x, kernel)


def _backward(by: Any, stride: int, kept: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = kept
    size = kernel.shape[0]
    rows = g.reshape(-1, g.shape[-1])  # [n·h'·w', outputs]
    to_kernel = jnp.stack([read.reshape(-1, read.shape[-1]).T @ rows for read in shifted(x, size, stride)])
    to_kernel = to_kernel.reshape(kernel.shape)
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
