"""Images as a JPEG file gives them back, in JAX (ITU-T T.81)."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from simulator.types import Array

_LUMINANCE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
_CHROMINANCE = np.full((8, 8), 99)
_CHROMINANCE[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]
_TO_YCC = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
_DCT = (
    np.cos(np.pi * (np.arange(8) + 0.5) * np.arange(8)[:, None] / 8)
    * np.where(np.arange(8) > 0, 0.5, 0.125**0.5)[:, None]
)


def jpeg(x: Array, quality: Array | float) -> Array:
    """Images [n, h, w, 1 or 3] in [0, 1] as a JPEG file of that quality (1 to 100) gives them back.

    Quantisation is that of the Independent JPEG Group's library; colour at half the resolution, read linearly between.
    """
    n, h, w, c = x.shape
    scale = jnp.where(quality < 50, jnp.floor(5000 / quality), 200 - 2 * quality)
    levels = jnp.round(x * 255)
    if c == 1:
        y = _quantised(levels[..., 0] - 128, _LUMINANCE, scale) + 128  # [n, h, w]
        return jnp.clip(jnp.round(y), 0, 255)[..., None] / 255
    whole = jnp.pad(levels, ((0, 0), (0, -h % 16), (0, -w % 16), (0, 0)), mode="edge")
    tall, wide = whole.shape[1] // 2, whole.shape[2] // 2
    ycc = jnp.round(jnp.matmul(whole, jnp.asarray(_TO_YCC.T), precision="highest"))  # [n, 2 tall, 2 wide, 3]
    luma = _quantised(ycc[..., 0] - 128, _LUMINANCE, scale)[:, :h, :w] + 128  # [n, h, w]
    four = ycc[..., 1:].reshape(n, tall, 2, wide, 2, 2).sum((2, 4))  # [n, tall, wide, 2]
    # That library rounds the mean of four down and up by turns, so that none of it is lost on the way.
    chroma = jnp.floor((four + 1 + (jnp.arange(wide) % 2)[:, None]) / 4)
    chroma = jnp.moveaxis(chroma, -1, 1).reshape(2 * n, tall, wide)
    chroma = _quantised(chroma, _CHROMINANCE, scale)[..., None]  # [2n, tall, wide, 1]
    rows, columns = ((jnp.arange(side) + 0.5) / 2 - 0.5 for side in (h, w))
    chroma = jnp.einsum("ij,njkc,lk->nilc", hat(rows, tall), chroma, hat(columns, wide))  # [2n, h, w, 1]
    chroma = jnp.moveaxis(chroma.reshape(n, 2, h, w), 1, -1)  # [n, h, w, 2]
    back = jnp.concatenate([luma[..., None], chroma], -1) @ jnp.asarray(np.linalg.inv(_TO_YCC).T)
    return jnp.clip(jnp.round(back), 0, 255) / 255


def _quantised(plane: Array, table: np.ndarray, scale: Array) -> Array:
    """Planes [n, h, w], their middle level 0, with the cosine transform of 8x8 blocks rounded to a table's steps."""
    n, h, w = plane.shape
    steps = jnp.clip(jnp.floor((table * scale + 50) / 100), 1, 255)  # [8, 8]
    whole = jnp.pad(plane, ((0, 0), (0, -h % 8), (0, -w % 8)), mode="edge")
    blocks = whole.reshape(n, whole.shape[1] // 8, 8, whole.shape[2] // 8, 8)
    dct = jnp.asarray(_DCT, jnp.float32)
    found = jnp.einsum("ui,naibj,vj->naubv", dct, blocks, dct, precision="highest")
    level = found / steps[:, None]
    found = (
        jnp.sign(level) * jnp.floor(jnp.abs(level) + 0.5) * steps[:, None]
    )  # halves away from 0, as that library does
    back = jnp.einsum("ui,naubv,vj->naibj", dct, found, dct, precision="highest").reshape(whole.shape)
    return jnp.clip(jnp.round(back), -128, 127)[:, :h, :w]


def hat(place: Array, side: int) -> Array:
    """[len(place), side]: weights of linear interpolation at `place`, held at the borders."""
    return jnp.clip(1 - jnp.abs(jnp.clip(place, 0, side - 1)[:, None] - jnp.arange(side)), 0, 1)
