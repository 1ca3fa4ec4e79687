"""At which scales a generation's images vary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from simulator.checks.fields import Range, check
from simulator.numerics.selection import summed
from simulator.pool import Rows, count
from simulator.probes.features import pictures
from simulator.types import Array, GenlossError, Key, View


@dataclass(frozen=True)
class Spectrum:
    """Power of images by spatial frequency, how far it is from the reference's, and how steeply it falls.

    power [1 + rings]: |F|²/(h w)², F the discrete Fourier transform of a picture [h, w], mean over pictures, channels
    and the frequencies of a ring; so the sum of power times the number of frequencies is the mean square of a pixel.
    power.0 is that of frequency 0, the squared mean of a picture; power.k that of the ring of about k cycles over the
    shorter side, the last one in the corners of the plane of frequencies; or, with `bins`, of rings of equal width.
    distance: mean of |log10 power - log10 power of the reference| over the rings, a ratio of powers of 10 being 1;
    slope: of the line through log power against log frequency, up to 1/2 cycle a pixel, about -2 for natural images
    (van der Schaaf & van Hateren 1996, doi:10.1016/0042-6989(96)00002-8).  Powers below float32's resolution of the
    reference's mean square count as that.  With `window` pictures less their mean are first multiplied by a Hann
    window, so that opposite borders meet; noise keeps its power.

    power | mean power of a frequency of the ring | pixels², bytes as [0, 1] | neither | O(n h w log(h w))
    distance | from the reference's spectrum | decades, >= 0 | lower is better | O(n h w log(h w))
    slope | exponent of power against frequency | steeper (lower) is smoother | neither | O(n h w log(h w))
    rows | samples used | rows | neither | O(1)
    reference_rows | held-out rows used | rows | neither | O(1)
    """

    bins: Annotated[int, Range(2)] | None = (
        None  # rings of equal width from frequency 0 to the highest; None: one a cycle
    )
    window: bool = False  # taper pictures towards their borders

    __post_init__ = check

    def __call__(self, key: Key, view: View) -> dict[str, Any]:
        shape = jax.eval_shape(pictures, view.synthetic).shape
        if len(shape) != 4:
            raise GenlossError(f"Spectrum needs images [n, h, w, c], and rows are {list(shape)}; leave the probe out.")
        ring = rings(shape[1], shape[2], self.bins)
        # The reference is a constant of the program: without the barrier the compiler would transform it.
        real = self.power(jax.lax.optimization_barrier(view.reference), ring)  # [1 + rings]
        power = self.power(view.synthetic, ring)  # [1 + rings]
        least = jnp.finfo(jnp.float32).eps ** 2 * (real * ring.size).sum()  # []
        log, of_real = (jnp.log10(jnp.maximum(p, least))[1:] for p in (power, real))  # [rings]
        at = np.log10(ring.frequency[1:])  # [rings]
        low = ring.shortest[1:] <= 0.5  # rings in the corners have few directions left
        centred = np.where(low, at - at[low].mean(), 0)
        return {
            "power": power,
            "distance": jnp.abs(log - of_real).mean(),
            "slope": jnp.asarray(centred / (centred**2).sum(), jnp.float32) @ log,
            "rows": count(view.synthetic),
            "reference_rows": count(view.reference),
        }

    def power(self, rows: Rows, ring: Rings) -> Array:
        """Mean power of a frequency in each ring, [1 + rings]."""
        n, (h, w) = count(rows), ring.place.shape
        taper = np.ones((h, w))
        if self.window:  # midpoints: no row or column is lost
            taper = np.outer(*(np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2 for side in (h, w)))
        scale = 1 / (h * w * np.sqrt((taper**2).mean()))

        def each(weight: Array, rows: Rows) -> tuple[Array, ...]:
            x = pictures(rows)  # [b, h, w, c]
            mean = x.mean((1, 2), keepdims=True)
            wave = jnp.fft.rfft2((x - mean) * jnp.asarray(taper * scale, jnp.float32)[..., None], axes=(1, 2))
            square = wave.real**2 + wave.imag**2  # [b, h, w//2 + 1, c]
            constant = mean[:, 0, 0] ** 2  # [b, c]
            return tuple(weight @ a.mean(-1).reshape(len(weight), -1) for a in (square, constant))

        with jax.default_matmul_precision("highest"):
            square, constant = summed(each, jnp.ones(n), rows)  # [h (w//2 + 1)], [1]
        half = np.arange(w // 2 + 1)  # of real pictures the other half is the same again
        again = np.where((half == 0) | (2 * half == w), 1.0, 2.0)  # [w//2 + 1]
        square = square.reshape(h, -1) * jnp.asarray(again, jnp.float32)
        total = jnp.zeros(len(ring.size)).at[ring.place[:, half]].add(square).at[0].add(constant[0])
        return total / (n * ring.size)


class Rings(NamedTuple):
    """The plane of frequencies of pictures [h, w] cut into rings."""

    place: np.ndarray  # [h, w]: ring of each frequency, in the order of the transform; 0 is frequency 0 alone
    size: np.ndarray  # [1 + rings]: frequencies in it
    frequency: np.ndarray  # [1 + rings]: their mean length, cycles per pixel
    shortest: np.ndarray  # [1 + rings]: the length of the shortest


def rings(h: int, w: int, bins: int | None = None) -> Rings:
    """Rings of width one cycle over the shorter side, or `bins` of equal width."""
    length = np.hypot(*np.meshgrid(np.fft.fftfreq(h), np.fft.fftfreq(w), indexing="ij"))  # [h, w]
    place = length * min(h, w) if bins is None else length / max(length.max(), 1e-9) * bins
    index = np.floor(place + 0.5 + 1e-6) if bins is None else np.ceil(place - 1e-6)
    index = np.where(length > 0, np.maximum(index, 1), 0).astype(int)
    size = np.bincount(index.ravel(), minlength=1 if bins is None else bins + 1)
    frequency = np.bincount(index.ravel(), length.ravel(), minlength=len(size)) / np.maximum(size, 1)
    shortest = np.full(len(size), np.inf)
    np.minimum.at(shortest, index, length)
    if (size == 0).any() or (shortest[1:] <= 0.5).sum() < 2:
        mend = "leave the probe out" if bins is None else "give fewer `bins`, or None"
        raise GenlossError(f"Images of {h} x {w} pixels have too few frequencies for these rings; {mend}.")
    return Rings(index, size, frequency, shortest)
