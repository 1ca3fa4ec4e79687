"""Power spectra of images against numpy, and against what they must be."""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from conftest import assert_mean

from generators import Gaussian
from simulator import GenlossError, Pool, View
from simulator.probes.spectrum import Spectrum, rings

CHANCE = np.random.default_rng(0)


def probe(what: Any, synthetic: Any, reference: Any = None) -> dict[str, Any]:
    rows, real = jnp.asarray(synthetic), jnp.asarray(synthetic if reference is None else reference)
    return compiled(what)(rows, real)


@functools.cache
def compiled(what: Any) -> Callable[..., dict[str, Any]]:
    """One program for all images of one shape."""
    view = View(jnp.int32(0), None, Pool.of(jnp.zeros(1)), None, None, Gaussian(2))
    return jax.jit(lambda rows, real: what(jax.random.key(0), view._replace(synthetic=rows, reference=real)))


def noise(n: int = 40, h: int = 16, w: int = 16, c: int = 1) -> np.ndarray:
    return CHANCE.normal(size=(n, h, w, c)).astype(np.float32)


def wave(side: int, across: int, down: int = 0) -> np.ndarray:
    y, x = np.mgrid[:side, :side]
    return np.cos(2 * np.pi * (across * x + down * y) / side)[None, :, :, None].astype(np.float32)


@pytest.mark.parametrize("shape", [(7, 8, 8, 1), (5, 9, 12, 3), (4, 28, 28, 1)])
@pytest.mark.parametrize("bins", [None, 4])
def test_power_against_numpy(shape: tuple[int, ...], bins: int | None):
    x = noise(*shape) + 2
    h, w = shape[1:3]
    square = (np.abs(np.fft.fft2(x.astype(float), axes=(1, 2))) ** 2).mean((0, 3)) / (h * w) ** 2  # [h, w]
    length = np.sqrt(np.fft.fftfreq(h)[:, None] ** 2 + np.fft.fftfreq(w)[None] ** 2)
    if bins is None:  # a ring ends before half a cycle more than its number
        edges = np.arange(0.5, length.max() * min(h, w) + 1) / min(h, w) - 1e-9
    else:
        edges = np.linspace(0, length.max(), bins + 1) + 1e-9
    groups = [square[(length >= low) & (length < high)] for low, high in itertools.pairwise(edges)]
    found = np.asarray(probe(Spectrum(bins), x)["power"])
    assert found[0] == pytest.approx(square[0, 0], rel=1e-4)
    assert np.allclose(found[1:], [group.mean() for group in groups if len(group)], rtol=1e-4)


@pytest.mark.parametrize("shape", [(6, 8, 8, 1), (3, 9, 10, 3)])
def test_parseval(shape: tuple[int, ...]):
    x = noise(*shape) + 0.5
    found = probe(Spectrum(), x)
    size = rings(*shape[1:3]).size
    assert size.sum() == shape[1] * shape[2]
    assert float((found["power"] * size).sum()) == pytest.approx((x**2).mean(), rel=1e-5)


@pytest.mark.parametrize("window", [False, True])
def test_white_noise_is_flat(window: bool):
    """Each picture's power is 1/(h w) in every ring, on average; with a window but for the lowest ones, whose mean it
    has lost.
    """
    x = jnp.asarray(noise(600, 12, 12))
    found = jax.vmap(lambda row: Spectrum(window=window).power(row[None], rings(12, 12)))(x)  # [pictures, 1 + rings]
    first = 3 if window else 0
    assert_mean(found[:, first:], 1 / 144)


@pytest.mark.parametrize("across, down, ring", [(1, 0, 1), (3, 0, 3), (8, 0, 8), (3, 4, 5), (8, 8, 11)])
def test_a_wave_is_in_one_ring(across: int, down: int, ring: int):
    power = np.asarray(probe(Spectrum(), wave(16, across, down) + 3)["power"]) * rings(16, 16).size
    assert power[0] == pytest.approx(9, rel=1e-5)
    assert power[ring] == pytest.approx(0.5 if (across, down) not in ((8, 0), (8, 8)) else 1, rel=1e-4)
    assert np.delete(power, [0, ring]).max() < 1e-10


def test_a_window_keeps_borders_apart():
    """Half a period too many spreads over all rings; under a window it does not reach the high ones."""
    x = np.cos(2 * np.pi * 2.5 * np.arange(32) / 32)[None, None, :, None].astype(np.float32) * np.ones(
        (1, 32, 1, 1), np.float32
    )
    plain, tapered = (np.asarray(probe(Spectrum(window=window), x)["power"]) for window in (False, True))
    assert tapered[10:].max() < 1e-3 * plain[10:17].max()


def test_blur_lowers_high_frequencies():
    x = noise(30)
    blurred = scipy.ndimage.gaussian_filter(x, (0, 1, 1, 0), mode="wrap")
    found = probe(Spectrum(), blurred, x)
    ratio = np.asarray(found["power"]) / np.asarray(probe(Spectrum(), x)["power"])
    assert ratio[0] == pytest.approx(1, rel=1e-4) and (np.diff(ratio[:9]) < 0).all() and ratio[8] < 1e-3
    assert float(found["slope"]) < float(probe(Spectrum(), x)["slope"]) - 1


def test_distance_is_in_decades():
    x = noise(20)
    assert float(probe(Spectrum(), x)["distance"]) == pytest.approx(0, abs=1e-6)
    assert float(probe(Spectrum(), x + 5, x)["distance"]) == pytest.approx(0, abs=1e-4)  # brightness is no ring
    assert float(probe(Spectrum(), x / 10, x)["distance"]) == pytest.approx(2, rel=1e-4)
    gone = probe(Spectrum(), x * 0 + 1, x)
    assert np.isfinite(gone["distance"]) and float(gone["distance"]) > 8 and np.isfinite(gone["slope"])


@pytest.mark.parametrize("exponent", [0.0, -1.0, -2.0])
def test_slope_of_a_power_law(exponent: float):
    side = 48
    length = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    length[0, 0] = 1
    pictures = np.fft.fft2(CHANCE.normal(size=(60, side, side))) * length ** (exponent / 2)
    x = np.fft.ifft2(pictures).real[..., None].astype(np.float32)
    assert float(probe(Spectrum(), x)["slope"]) == pytest.approx(exponent, abs=0.07)


def test_bytes_are_scaled_and_order_does_not_matter():
    x = CHANCE.integers(0, 256, (10, 8, 8, 1)).astype(np.uint8)
    a, b = probe(Spectrum(), x), probe(Spectrum(), x[::-1].astype(np.float32) / 255)
    assert np.allclose(a["power"], b["power"], rtol=1e-4)


def test_blocks_of_rows_change_nothing():
    x = noise(4500, 6, 6)
    halves = [np.asarray(probe(Spectrum(), x[i::3])["power"]) for i in range(3)]
    assert np.allclose(probe(Spectrum(), x)["power"], np.mean(halves, 0), rtol=1e-4)


def test_chains_side_by_side_equal_one_by_one_and_compiled_equals_eager():
    x = np.stack([noise(10, 8, 8), noise(10, 8, 8) * 2])

    def measured(rows: jax.Array) -> dict[str, jax.Array]:
        view = View(jnp.int32(0), None, Pool.of(rows), rows, jnp.asarray(x[0]), Gaussian(2))
        return jax.tree.map(jnp.asarray, Spectrum()(jax.random.key(0), view))

    together = jax.jit(jax.vmap(measured))(jnp.asarray(x))
    for i in range(2):
        for name, value in measured(jnp.asarray(x[i])).items():
            assert np.allclose(together[name][i], value, rtol=1e-4, atol=1e-5)


def test_what_has_no_spectrum_is_refused():
    with pytest.raises(GenlossError, match="needs images"):
        probe(Spectrum(), np.zeros((5, 3), np.float32))
    with pytest.raises(GenlossError, match="too few frequencies"):
        probe(Spectrum(), np.zeros((5, 2, 2, 1), np.float32))
    with pytest.raises(GenlossError, match="give fewer `bins`"):
        probe(Spectrum(40), noise(2, 8, 8))
    with pytest.raises(GenlossError, match="at least 2"):
        Spectrum(1)
