"""A watermark that a generator leaves in its images, how it is read, and a recipe that drops what reads as marked."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from simulator.checks.fields import InsideShare, Positive, Whole, check
from simulator.pool import Pool, Rows
from simulator.types import Array, GenlossError, Key

_DCT = (
    np.cos(np.pi * (np.arange(8) + 0.5) * np.arange(8)[:, None] / 8)
    * np.sqrt(np.where(np.arange(8) > 0, 2, 1) / 8)[:, None]
)
_BAND = np.argwhere((np.add.outer(np.arange(8), np.arange(8)) >= 2) & (np.add.outer(np.arange(8), np.arange(8)) <= 4))
_LEAST = 64  # coefficients


@dataclass(frozen=True)
class Watermark:
    """A watermark by dithered quantisation (Chen & Wootton 2001, doi:10.1109/18.923725) of images [n, h, w, c], bytes
    or floats in [0, 1].

    Twelve low coefficients c of the cosine transform of each 8x8 block of the luminance, those that JPEG keeps, are
    moved to the nearest of a lattice of `step` levels whose offsets d, uniform on [0, step), are the seed's.  An image
    is read by z = Σ cos(2π(c - d)/step) / sqrt(N/2) over its N coefficients, and reads as marked where z is beyond the
    normal quantile of 1 - rate.  Of an image that was not marked the terms are independent over keys, with mean 0 and
    variance 1/2, whatever the image; so over keys the false-positive rate is `rate` but for what N terms differ from a
    normal.  Of one key over many images with the same flat parts it scatters around that.

    It is no secret from whoever has the seed and no defence against one who looks for it.  (blind-watermark needs
    OpenCV, works image by image on the host and, at 32 pixels, has room for 16 bits.)
    """

    seed: Whole | Array = 0  # of the key's offsets
    step: Positive = 32.0  # levels of 255 between points of the lattice
    rate: InsideShare = 0.001  # images read as marked that are not

    __post_init__ = check

    def embed(self, images: Array) -> Array:
        """The images with the mark, in their own type."""
        down, across = _blocks(images)
        h, w = images.shape[1:3]
        marked = images
        for _ in range(4):  # what is cut at black and white, or rounded, is moved again
            c = _coefficients(marked)  # [n, down, across, 12]
            offset = self._offsets(c)
            move = offset + self.step * jnp.round((c - offset) / self.step) - c
            found = jnp.zeros((*c.shape[:3], 8, 8)).at[..., _BAND[:, 0], _BAND[:, 1]].set(move)
            picture = jnp.einsum("ui,nabuv,vj->naibj", _DCT, found, _DCT, precision="highest")
            picture = picture.reshape(-1, 8 * down, 8 * across)
            picture = jnp.pad(picture, ((0, 0), (0, h - 8 * down), (0, w - 8 * across)))[..., None]
            marked = _as(images, _levels(marked) + picture)
        return marked

    def score(self, images: Array) -> Array:
        """z, [n]: standard normal over keys for an image without the mark, up to sqrt(2N) for one with it."""
        c = _coefficients(images)  # [n, down, across, 12]
        each = jnp.cos(2 * jnp.pi * (c - self._offsets(c)) / self.step)
        return each.sum((1, 2, 3)) / np.sqrt(np.prod(c.shape[1:]) / 2)

    def marked(self, images: Array) -> Array:
        """Which images read as marked, [n] bool."""
        return self.score(images) > -jax.scipy.special.ndtri(self.rate)

    def _offsets(self, c: Array) -> Array:
        """The seed's offsets of coefficients [n, down, across, 12], [down, across, 12]."""
        return jax.random.uniform(jax.random.key(self.seed), c.shape[1:], maxval=self.step)


@dataclass(frozen=True)
class FilterWatermark:
    """Drops every row whose image reads as marked, real ones by mistake too, at the watermark's rate."""

    watermark: Watermark = Watermark()

    def __call__(self, key: Key, t: Array, pool: Pool) -> Array:
        return pool.weight * ~self.watermark.marked(pictured(pool.rows))


def pictured(rows: Rows) -> Array:
    """The images of rows {"image", ...}, or rows that are images."""
    return rows["image"] if isinstance(rows, dict) else rows


def _coefficients(images: Array) -> Array:
    """The band's coefficients of the luminance of every whole block, in levels, [n, down, across, 12]."""
    down, across = _blocks(images)
    levels = _levels(images)
    grey = levels if levels.shape[-1] == 1 else levels @ jnp.array([[0.299], [0.587], [0.114]])
    blocks = grey[:, : 8 * down, : 8 * across, 0].reshape(-1, down, 8, across, 8)
    found = jnp.einsum("ui,naibj,vj->nabuv", _DCT, blocks, _DCT, precision="highest")
    return found[..., _BAND[:, 0], _BAND[:, 1]]


def _blocks(images: Array) -> tuple[int, int]:
    """Whole blocks down and across."""
    if images.ndim != 4:
        raise GenlossError(f"A watermark is left in images [n, h, w, c], not in rows {list(images.shape)}.")
    down, across = images.shape[1] // 8, images.shape[2] // 8
    if down * across * len(_BAND) < _LEAST:
        raise GenlossError(f"Images of {images.shape[1]}x{images.shape[2]} pixels have no room for a mark; give 24x24.")
    return down, across


def _levels(images: Array) -> Array:
    return images.astype(jnp.float32) * (1 if images.dtype == jnp.uint8 else 255)


def _as(images: Array, levels: Array) -> Array:
    """Levels in the type of the images."""
    levels = jnp.clip(levels, 0, 255)
    return jnp.round(levels).astype(jnp.uint8) if images.dtype == jnp.uint8 else (levels / 255).astype(images.dtype)
