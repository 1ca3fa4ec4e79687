"""A watermark that a generator leaves in its images, how it is read, and a recipe that drops what reads as marked."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from simulator.chance import fold_in
from simulator.pool import Pool, Rows
from simulator.types import Array, GenlossError, Key

_OTHERS = 999  # patterns of other keys that a key's own is compared with
_DCT = (
    np.cos(np.pi * (np.arange(8) + 0.5) * np.arange(8)[:, None] / 8)
    * np.sqrt(np.where(np.arange(8) > 0, 2, 1) / 8)[:, None]
)
_BAND = np.argwhere((np.add.outer(np.arange(8), np.arange(8)) >= 2) & (np.add.outer(np.arange(8), np.arange(8)) <= 4))
_LEAST = 64  # coefficients


@dataclass(frozen=True)
class Watermark:
    """A spread-spectrum watermark (Cox et al. 1997, doi:10.1109/83.650120) of images [n, h, w, c], bytes or in [0, 1].

    The seed's pattern of signs p is added, `strength` levels high, to twelve low coefficients c of the cosine transform
    of each 8x8 block of all channels alike, which are those that JPEG keeps.  An image is read by Σ p tanh(c/strength),
    c of the luminance, and reads as marked where that is beyond the sums of all but a share `rate` of 999 other keys'
    patterns.  Of an image that was not marked all keys' sums are exchangeable, so over keys the false-positive rate is
    `rate` exactly, in steps of 1/1000, whatever the image; of one key over many images like each other it scatters
    around that.  An image that would not be read clearly is marked up to three times as strongly.

    It is no secret from whoever has the seed and no defence against one who looks for it.  (blind-watermark and
    invisible-watermark need OpenCV, work image by image on the host and, at 32 pixels, have room for 16 bits or none.)
    """

    seed: int = 0  # of the key's pattern
    strength: float = 8.0  # levels of 255 by which each coefficient is moved
    rate: float = 0.001  # images read as marked that are not

    def __post_init__(self) -> None:
        if not self.strength > 0:
            raise GenlossError(f"Watermark(strength={self.strength}) must be above 0 levels.")
        if not 1 / (_OTHERS + 1) <= self.rate < 1:
            raise GenlossError(f"Watermark(rate={self.rate}) must lie between {1 / (_OTHERS + 1)} and 1.")

    def embed(self, images: Array) -> Array:
        """The images with the mark, in their own type."""
        mark = self._picture(images)  # [h, w, 1]
        marked = _as(images, _levels(images) + self.strength * mark)
        for factor in (1.5, 2.0, 3.0):
            clear = (self.score(marked) > 6)[:, None, None, None]
            marked = jnp.where(clear, marked, _as(images, _levels(images) + factor * self.strength * mark))
        return marked

    def score(self, images: Array) -> Array:
        """Σ p tanh(c/strength) in standard deviations over keys, [n]: about normal for an image without the mark."""
        felt = self._felt(images)  # [n, coefficients]
        size = jnp.sqrt((felt**2).sum(1))  # [n]
        return felt @ self._patterns(felt.shape[1], 1)[0] / jnp.maximum(size, 1e-6)

    def marked(self, images: Array) -> Array:
        """Which images read as marked, [n] bool."""
        felt = self._felt(images)  # [n, coefficients]
        sums = jnp.matmul(felt, self._patterns(felt.shape[1], _OTHERS + 1).T, precision="highest")  # [n, 1 + others]
        beyond = (sums[:, 1:] >= sums[:, :1]).sum(1)  # [n]: an image without any of them is not marked
        return beyond < int(self.rate * (_OTHERS + 1) + 1e-6)

    def _patterns(self, size: int, number: int) -> Array:
        """Signs [number, size], the first those of the key itself."""
        draw = lambda i: jax.random.rademacher(fold_in(jax.random.key(self.seed), i), (size,), jnp.float32)  # noqa: E731
        return jax.vmap(draw)(jnp.arange(number))

    def _felt(self, images: Array) -> Array:
        """tanh(c/strength) of the band's coefficients of all blocks, [n, coefficients]."""
        levels = _levels(images)
        grey = levels if levels.shape[-1] == 1 else levels @ jnp.array([[0.299], [0.587], [0.114]])
        down, across = _blocks(images)
        blocks = grey[:, : 8 * down, : 8 * across, 0].reshape(-1, down, 8, across, 8)
        found = jnp.einsum("ui,naibj,vj->nabuv", _DCT, blocks, _DCT, precision="highest")
        return jnp.tanh(found[..., _BAND[:, 0], _BAND[:, 1]] / self.strength).reshape(images.shape[0], -1)

    def _picture(self, images: Array) -> Array:
        """The pattern as a picture, [h, w, 1], each coefficient ±1."""
        down, across = _blocks(images)
        signs = self._patterns(down * across * len(_BAND), 1)[0].reshape(down, across, -1)
        found = jnp.zeros((down, across, 8, 8)).at[..., _BAND[:, 0], _BAND[:, 1]].set(signs)
        picture = jnp.einsum("ui,abuv,vj->aibj", _DCT, found, _DCT, precision="highest").reshape(8 * down, 8 * across)
        h, w = images.shape[1:3]
        return jnp.pad(picture, ((0, h - 8 * down), (0, w - 8 * across)))[..., None]


@dataclass(frozen=True)
class FilterWatermark:
    """Drops every row whose image reads as marked, real ones by mistake too, at the watermark's rate."""

    watermark: Watermark = Watermark()

    def __call__(self, key: Key, t: Array, pool: Pool) -> Array:
        return pool.weight * ~self.watermark.marked(pictured(pool.rows))


def pictured(rows: Rows) -> Array:
    """The images of rows {"image", ...}, or rows that are images."""
    return rows["image"] if isinstance(rows, dict) else rows


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
