"""The 15 standard corruptions of images at 5 severities (Hendrycks & Dietterich 2019, arXiv:1903.12261), in JAX.

Each is `corruption(key, images, severity)`: images [n, h, w, c], bytes or floats in [0, 1], to images of the same shape
and type; severity 1 to 5, which may be traced, and 0, the images as they are.  Every image draws its own chance.

Strengths are those of the published sets, CIFAR-10-C for a shorter side of 32 pixels and ImageNet-C for one of 224,
between them the geometric mean by the logarithm of the side, beyond them those of the nearer; lengths go on in
proportion to the side.  Definitions follow the paper but for: glass draws each pixel from its neighbourhood, where the
paper swaps pixels one after the other; frost is a procedural texture of ice, where the paper has photographs of it; fog
is made in the plane of frequencies, of the same power per octave; elastic has displacements of a stated size and no
affine map beside; and where the published strengths would change pictures of some side less at a higher severity,
or not at all (glass, motion, frost, elastic, pixelate), they are ours, and rise.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from simulator.numerics.chance import fold_in, normal, uniform
from simulator.probes.jpeg import hat, jpeg
from simulator.types import Array, GenlossError, Key

SEVERITIES = (1, 2, 3, 4, 5)
_SIDES = 32, 224  # of CIFAR-10-C and ImageNet-C
_BORDER = {"order": 1, "mode": "nearest"}


def _corruption(change: Callable[[Key, Array, Array], Array]) -> Callable[[Key, Array, Array | int], Array]:
    """A change of floats [n, h, w, c] in [0, 1] as a compiled corruption of images of either type."""

    @jax.jit
    @functools.wraps(change)
    def corrupted(key: Key, images: Array, severity: Array | int) -> Array:
        if images.ndim != 4 or images.shape[-1] not in (1, 3):
            raise GenlossError(f"Corruptions are of images [n, h, w, 1 or 3], not of rows {list(images.shape)}.")
        as_bytes = images.dtype == jnp.uint8
        x = images.astype(jnp.float32) / (255 if as_bytes else 1)
        y = jnp.clip(change(key, x, jnp.asarray(severity)), 0, 1)
        y = (jnp.round(255 * y) if as_bytes else y).astype(images.dtype)
        return jnp.where(jnp.asarray(severity) == 0, images, y)

    return corrupted


def _at(severity: Array, table: np.ndarray) -> Array:
    return jnp.asarray(table, jnp.float32)[jnp.clip(severity, 1, 5) - 1]


def _strengths(x: Array, small: list[float], large: list[float]) -> np.ndarray:
    """Of each severity, [5], for images of the sides of x."""
    share = np.clip(np.log(min(x.shape[1:3]) / _SIDES[0]) / np.log(_SIDES[1] / _SIDES[0]), 0, 1)
    return np.array(small) ** (1 - share) * np.array(large) ** share


def _lengths(x: Array, small: list[float], large: list[float]) -> np.ndarray:
    """The same of lengths in pixels, which beyond both sides go on in proportion."""
    side = min(x.shape[1:3])
    return _strengths(x, small, large) * side / np.clip(side, *_SIDES)


# Noise.


@_corruption
def gaussian_noise(key: Key, x: Array, severity: Array) -> Array:
    """x + σ·normal."""
    sd = _at(severity, _strengths(x, [0.04, 0.06, 0.08, 0.09, 0.10], [0.08, 0.12, 0.18, 0.26, 0.38]))
    return x + sd * normal(key, x.shape)


@_corruption
def shot_noise(key: Key, x: Array, severity: Array) -> Array:
    """Poisson(x·photons) / photons."""
    photons = _at(severity, _strengths(x, [500, 250, 100, 75, 50], [60, 25, 12, 5, 3]))
    return _poisson(key, x * photons) / photons


@_corruption
def impulse_noise(key: Key, x: Array, severity: Array) -> Array:
    """Salt and pepper: a share of the values is 0 or 1, as often one as the other."""
    share = _at(severity, _strengths(x, [0.01, 0.02, 0.03, 0.05, 0.07], [0.03, 0.06, 0.09, 0.17, 0.27]))
    u = uniform(key, x.shape)
    return jnp.where(u < share / 2, 0.0, jnp.where(u < share, 1.0, x))


# Blur.


@_corruption
def defocus_blur(key: Key, x: Array, severity: Array) -> Array:
    """The mean over a disk whose edge is soft, then a slight Gaussian blur."""
    radii = _lengths(x, [0.3, 0.4, 0.5, 1, 1.5], [3, 4, 6, 8, 10])
    reach = int(np.ceil(radii.max() + 0.5))
    away = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1])  # [k, k]
    disk = jnp.clip(_at(severity, radii) + 0.5 - away, 0, 1)  # [k, k]
    padded = jnp.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="edge")
    planes = jnp.moveaxis(padded, -1, 1).reshape(-1, 1, *padded.shape[1:3])  # [n c, 1, h + 2 reach, w + 2 reach]
    y = jax.lax.conv(planes, (disk / disk.sum())[None, None], (1, 1), "VALID", precision="highest")  # [n c, 1, h, w]
    y = jnp.moveaxis(y.reshape(x.shape[0], x.shape[3], *x.shape[1:3]), 1, -1)
    return blurred(y, _at(severity, _strengths(x, [0.4, 0.5, 0.6, 0.6, 0.6], [0.4, 0.5, 0.5, 0.5, 0.5])))


@_corruption
def glass_blur(key: Key, x: Array, severity: Array) -> Array:
    """Blurred, then twice each pixel is one of its neighbourhood, then blurred again."""
    sigma = _at(severity, _lengths(x, [0.2] * 5, [0.7] * 5))
    reach = 0.5 + _at(severity, _lengths(x, [0.05, 0.1, 0.15, 0.25, 0.4], [1, 1.5, 2, 3, 4]))
    n, h, w, _ = x.shape
    y = blurred(x, sigma)
    for i in range(2):
        step = reach * (2 * uniform(fold_in(key, i), (2, n, h, w)) - 1)
        down, right = jnp.round(step).astype(jnp.int32)  # [n, h, w] each
        row = jnp.clip(jnp.arange(h)[:, None] + down, 0, h - 1)
        column = jnp.clip(jnp.arange(w) + right, 0, w - 1)
        y = y[jnp.arange(n)[:, None, None], row, column]  # [n, h, w, c]
    return blurred(y, sigma)


@_corruption
def motion_blur(key: Key, x: Array, severity: Array) -> Array:
    """A one-sided Gaussian along a line whose direction is within 45° of the horizontal."""
    radius, sigma = (
        _lengths(x, [6, 6, 6, 8, 9], [10, 15, 15, 15, 20]),
        np.maximum(0.5, _lengths(x, [1, 1.5, 2, 2, 2.5], [3, 5, 8, 12, 15])),  # less is none
    )
    angle = (uniform(key, x.shape[:1]) - 0.5) * np.pi / 2  # [n]
    return _smeared(x, angle, _at(severity, radius), _at(severity, sigma), int(np.ceil(radius.max())))


@_corruption
def zoom_blur(key: Key, x: Array, severity: Array) -> Array:
    """The mean of the image and of zooms into its middle."""
    most = _at(severity, _strengths(x, [1.05, 1.1, 1.15, 1.2, 1.25], [1.1, 1.15, 1.2, 1.24, 1.3]))
    zooms = 1 + (most - 1) * jnp.linspace(0, 1, 11)  # [11]
    y = jax.lax.fori_loop(0, 11, lambda i, total: total + _zoomed(x, zooms[i]), jnp.zeros_like(x))
    return (x + y) / 12


# Weather.


@_corruption
def snow(key: Key, x: Array, severity: Array) -> Array:
    """Flakes, zoomed and driven by the wind, both ways up, over a picture that is whitened."""
    low, wide = [0.1, 0.1, 0.15, 0.25, 0.3], [0.2, 0.2, 0.3, 0.3, 0.3]
    mean = _at(severity, _strengths(x, low, [0.1, 0.2, 0.55, 0.55, 0.55]))
    sd = _at(severity, _strengths(x, wide, [0.3] * 5))
    zoom = _at(severity, _strengths(x, [1, 1, 1.75, 2.25, 1.25], [3, 2, 4, 4.5, 2.5]))
    least = _at(severity, _strengths(x, [0.6, 0.5, 0.55, 0.6, 0.65], [0.5, 0.5, 0.9, 0.85, 0.85]))
    radius = _lengths(x, [8, 10, 10, 12, 14], [10, 12, 12, 12, 12])
    sigma = _at(severity, _lengths(x, [3, 4, 4, 6, 12], [4, 4, 8, 8, 12]))
    kept = _at(severity, _strengths(x, [0.95, 0.9, 0.9, 0.85, 0.8], [0.8, 0.7, 0.7, 0.65, 0.55]))
    for_flakes, for_wind = jax.random.split(key)
    flakes = mean + sd * normal(for_flakes, (*x.shape[:3], 1))  # [n, h, w, 1]
    flakes = _zoomed(flakes, zoom)
    flakes = jnp.clip(jnp.where(flakes < least, 0.0, flakes), 0, 1)
    angle = -np.pi / 2 + (uniform(for_wind, x.shape[:1]) - 0.5) * np.pi / 2  # [n]
    flakes = _smeared(flakes, angle, _at(severity, radius), sigma, int(np.ceil(radius.max())))
    white = kept * x + (1 - kept) * jnp.maximum(x, 1.5 * grey(x) + 0.5)
    return white + flakes + flakes[:, ::-1, ::-1]


@_corruption
def frost(key: Key, x: Array, severity: Array) -> Array:
    """A sheet of procedural ice over a dimmed picture: ridges of fractal noise, bluish, brighter where they meet."""
    clear = _at(severity, _strengths(x, [1, 1, 0.9, 0.85, 0.8], [1, 0.8, 0.7, 0.65, 0.6]))
    ice = _at(severity, _strengths(x, [0.2, 0.3, 0.4, 0.5, 0.6], [0.4, 0.6, 0.7, 0.8, 0.9]))
    keys = jax.random.split(key, 3)
    ridges = [1 - jnp.abs(2 * _cloud(k, x, 1.8) - 1) for k in keys[:2]]  # [n, h, w, 1] each: crests at the middle level
    crystals = jnp.maximum(*ridges) ** 4 * 0.6 + 0.4 * _cloud(keys[2], x, 2.5)  # [n, h, w, 1]
    tint = jnp.array([0.85, 0.95, 1.0] if x.shape[-1] == 3 else [1.0])
    return clear * x + ice * crystals * tint


@_corruption
def fog(key: Key, x: Array, severity: Array) -> Array:
    """(x + c·cloud)·max/(max + c), the cloud a fractal whose amplitude falls by a factor with each octave."""
    thick = _at(severity, _strengths(x, [0.2, 0.5, 0.75, 1, 1.5], [1.5, 2, 2.5, 2.5, 3]))
    factor = _at(severity, _strengths(x, [3, 3, 2.5, 2, 1.75], [2, 2, 1.7, 1.5, 1.4]))
    most = x.max((1, 2, 3), keepdims=True)  # [n, 1, 1, 1]
    return (x + thick * _cloud(key, x, factor)) * most / (most + thick)


@_corruption
def brightness(key: Key, x: Array, severity: Array) -> Array:
    """More of the value of hue, saturation and value."""
    more = _at(severity, _strengths(x, [0.05, 0.1, 0.15, 0.2, 0.3], [0.1, 0.2, 0.3, 0.4, 0.5]))
    value = x.max(-1, keepdims=True)  # [n, h, w, 1]
    new = jnp.clip(value + more, 0, 1)
    return jnp.where(value > 0, x / jnp.where(value > 0, value, 1.0) * new, new)


@_corruption
def contrast(key: Key, x: Array, severity: Array) -> Array:
    """Nearer to the mean of the picture, channel by channel."""
    kept = _at(severity, _strengths(x, [0.75, 0.5, 0.4, 0.3, 0.15], [0.4, 0.3, 0.2, 0.1, 0.05]))
    mean = x.mean((1, 2), keepdims=True)  # [n, 1, 1, c]
    return mean + kept * (x - mean)


# Digital.


@_corruption
def elastic_transform(key: Key, x: Array, severity: Array) -> Array:
    """Each pixel is read some way off: 1 to 5 % of the side by root mean square, white noise under a blur of 6 %."""
    n, h, w, _ = x.shape
    side = min(h, w)
    field = blurred(normal(key, (2 * n, h, w, 1)), 0.06 * side)[..., 0]  # [2n, h, w]
    size = jnp.sqrt((field**2).mean((1, 2), keepdims=True))  # [2n, 1, 1]
    field = field / size * _at(severity, np.arange(1, 6) * 0.01 * side) / np.sqrt(2)
    down, right = field[:n], field[n:]  # [n, h, w] each
    return _read(x, jnp.arange(h)[:, None] + down, jnp.arange(w) + right)


@_corruption
def pixelate(key: Key, x: Array, severity: Array) -> Array:
    """The mean of each of fewer, larger pixels, which may cut through the old ones."""
    share = _strengths(x, [0.95, 0.87, 0.8, 0.72, 0.65], [0.6, 0.5, 0.4, 0.3, 0.25])

    def boxes(side: int) -> Array:
        """[side, side]: each old pixel from the mean of the new one that its middle is in."""
        number = _at(severity, side * share)  # [] new pixels on a side, the last one cut
        new, old = jnp.arange(side)[:, None] * side / number, jnp.arange(side)  # where each begins
        part = jnp.clip(jnp.minimum(new + side / number, old + 1) - jnp.maximum(new, old), 0, 1)  # [new, old]
        mean = part / jnp.maximum(part.sum(1, keepdims=True), 1e-6)
        return mean[jnp.floor((old + 0.5) * number / side).astype(jnp.int32)]

    return _across(boxes(x.shape[1]), x, boxes(x.shape[2]))


@_corruption
def jpeg_compression(key: Key, x: Array, severity: Array) -> Array:
    """JPEG at the quality of the severity."""
    return jpeg(x, jnp.round(_at(severity, _strengths(x, [80, 65, 58, 50, 40], [25, 18, 15, 10, 7]))))


CORRUPTIONS: dict[str, Callable[[Key, Array, Array | int], Array]] = {
    f.__name__: f
    for f in (
        *(gaussian_noise, shot_noise, impulse_noise),
        *(defocus_blur, glass_blur, motion_blur, zoom_blur),
        *(snow, frost, fog, brightness, contrast),
        *(elastic_transform, pixelate, jpeg_compression),
    )
}


# What they are made of.


def blurred(x: Array, sigma: Array | float) -> Array:
    """Images [n, h, w, c] under a Gaussian of `sigma` pixels, whose weights inside the picture sum to 1."""

    def weights(side: int) -> Array:
        away = jnp.arange(side)[:, None] - jnp.arange(side)  # [side, side]
        return jax.nn.softmax(-(away**2) / (2 * jnp.maximum(sigma, 1e-3) ** 2), axis=1)

    return _across(weights(x.shape[1]), x, weights(x.shape[2]))


def _poisson(key: Key, mean: Array) -> Array:
    """Counts by inversion; beyond a mean of 16 of the Cornish-Fisher expansion, as one of many terms takes long."""
    u = uniform(key, mean.shape)

    def more(k: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        count, chance, below = carry  # of k, and of at most k
        count = count + (u >= below)
        chance = chance * mean / (k + 1.0)
        return count, chance, below + chance

    none = jnp.exp(-mean)
    few = jax.lax.fori_loop(0, 64, more, (jnp.zeros_like(mean), none, none))[0]
    z, root = jax.scipy.special.ndtri(jnp.clip(u, 2.0**-25, None)), jnp.sqrt(jnp.maximum(mean, 1.0))
    many = jnp.round(mean + root * z + (z**2 - 1) / 6 + (z - z**3) / (72 * root))
    return jnp.where(mean < 16, few, many)


def grey(x: Array) -> Array:
    """Luminance of images [n, h, w, 3] (ITU-R BT.601), and grey images as they are, [n, h, w, 1]."""
    return x if x.shape[-1] == 1 else x @ jnp.array([[0.299], [0.587], [0.114]])


def _across(left: Array, x: Array, right: Array) -> Array:
    """left [h, h] x right' [w, w] of every picture and channel."""
    return jnp.einsum("ij,njkc,lk->nilc", left, x, right, precision="highest")


def _zoomed(x: Array, zoom: Array) -> Array:
    """The middle of images [n, h, w, c], `zoom` >= 1 times as large."""
    sides = [(side, (side - 1) / 2) for side in x.shape[1:3]]
    left, right = (hat(middle + (jnp.arange(side) - middle) / zoom, side) for side, middle in sides)
    return _across(left, x, right)


def _read(x: Array, row: Array, column: Array) -> Array:
    """Images [n, h, w, c] read at rows and columns [n, h, w], linearly between pixels, held at the borders."""
    plane = lambda p, i, j: jax.scipy.ndimage.map_coordinates(p, [i, j], **_BORDER)  # noqa: E731
    return jax.vmap(jax.vmap(plane, (2, None, None), 2))(x, row, column)


def _smeared(x: Array, angle: Array, radius: Array, sigma: Array, most: int) -> Array:
    """Σ_t w_t x(place + t·direction), t = 0 .. radius <= most, w_t ∝ exp(-t²/2σ²), for each image's angle [n]."""
    _, h, w, _ = x.shape
    step = jnp.arange(most + 1.0)  # [most + 1]
    weight = jnp.where(step <= radius, jnp.exp(-(step**2) / (2 * sigma**2)), 0.0)
    weight = weight / weight.sum()
    down, right = jnp.sin(angle)[:, None, None], jnp.cos(angle)[:, None, None]  # [n, 1, 1]

    def add(t: Array, total: Array) -> Array:
        row, column = jnp.arange(h)[:, None] + t * down, jnp.arange(w) + t * right  # [n, h, 1], [n, 1, w]
        return total + weight[t] * _read(x, *jnp.broadcast_arrays(row, column))

    return jax.lax.fori_loop(0, most + 1, add, jnp.zeros_like(x))


def _cloud(key: Key, x: Array, factor: Array | float) -> Array:
    """Fractal noise in [0, 1], [n, h, w, 1], whose amplitude falls by `factor` from one octave to the next."""
    n, h, w, _ = x.shape
    frequency = np.hypot(np.fft.fftfreq(h)[:, None], np.fft.rfftfreq(w))  # [h, w//2 + 1]
    # An octave has modes in proportion to frequency², so theirs is 1 + log2(factor).
    fall = jnp.asarray(np.log(np.maximum(frequency, 1 / max(h, w)))) * -(1 + jnp.log2(factor))  # [h, w//2 + 1]
    wave = jnp.fft.rfft2(normal(key, (n, h, w))) * jnp.where(frequency > 0, jnp.exp(fall), 0.0)
    y = jnp.fft.irfft2(wave, s=(h, w))  # [n, h, w]
    low, high = y.min((1, 2), keepdims=True), y.max((1, 2), keepdims=True)
    return ((y - low) / (high - low))[..., None]
