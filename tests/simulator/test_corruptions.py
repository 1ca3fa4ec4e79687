"""Corruptions of images: against other libraries, in the order of their severity, and what they do to a classifier."""

import colorsys
import io
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
from conftest import assert_mean, cases
from image_arrays import pictures
from PIL import Image

from generators import Gaussian
from generators.nets.mixer import Mixer
from generators.nets.mlp import MLP
from simulator import Dataset, GenlossError, Pool, View
from simulator.probes import corruptions
from simulator.probes.corruptions import CORRUPTIONS, blurred
from simulator.probes.jpeg import jpeg
from simulator.probes.robustness import Robustness

CHANCE = np.random.default_rng(0)
KEY = jax.random.key(1)


JPEG = jax.jit(jpeg)
SHAPES = {"28x28x1": (40, 28, 28, 1), "32x32x3": (40, 32, 32, 3), "96x64x3": (6, 96, 64, 3), "8x8x1": (40, 8, 8, 1)}


@pytest.mark.parametrize("shape", cases({name: (shape,) for name, shape in SHAPES.items()}, "28x28x1"))
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_severity_is_distortion(name: str, shape: tuple[int, ...]):
    """The mean squared change rises with each severity, 0 changes nothing, and shape and type stay."""
    x = jnp.asarray(pictures(*shape))
    found = [CORRUPTIONS[name](KEY, x, severity) for severity in range(6)]
    assert all(y.shape == x.shape and y.dtype == jnp.uint8 for y in found)
    change = [float(((y.astype(jnp.float32) - x) ** 2).mean()) for y in found]
    assert change[0] == 0 < change[1]
    if min(shape[1:3]) >= 28:  # of 8 pixels a length or a number of pixels may say the same twice
        assert (np.diff(change) > 0).all(), change
    numbers = CORRUPTIONS[name](KEY, x / 255.0, 3)
    assert numbers.dtype == jnp.float32 and float(numbers.min()) >= 0 and float(numbers.max()) <= 1
    if name != "jpeg_compression":  # which rounds to bytes by itself
        assert float(jnp.abs(numbers * 255 - found[3]).max()) <= 0.501


def test_there_are_fifteen():
    assert len(CORRUPTIONS) == 15


# Against other libraries.


@pytest.mark.parametrize("quality", [7, 25, 50, 80, 95])
@pytest.mark.parametrize("shape", [(3, 28, 28, 1), (3, 32, 32, 3), (2, 37, 45, 3), (2, 19, 24, 1)])
def test_jpeg_against_pillow(shape: tuple[int, ...], quality: int):
    """The same levels, but where a coefficient lies between two steps and their transform of whole numbers decides.

    Each such coefficient moves a block by up to a step, so the bound is a tenth of what compression does, and rounding.
    """
    x = pictures(*shape)
    found = np.round(np.asarray(JPEG(jnp.asarray(x) / 255.0, quality)) * 255)
    theirs = []
    for image in x:
        sink = io.BytesIO()
        Image.fromarray(image[..., 0] if shape[-1] == 1 else image).save(sink, "JPEG", quality=quality)
        theirs.append(np.asarray(Image.open(sink), float).reshape(image.shape))
    away = np.abs(found - np.stack(theirs))
    assert np.median(away) <= shape[-1] // 2 and away.mean() < 0.1 * np.abs(x - np.stack(theirs)).mean() + 0.5


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_blur_against_scipy(sigma: float):
    x = CHANCE.uniform(size=(2, 40, 30, 3)).astype(np.float32)
    expected = scipy.ndimage.gaussian_filter(x, (0, sigma, sigma, 0), truncate=6)
    inside = np.s_[:, 12:-12, 12:-12]
    assert np.allclose(np.asarray(blurred(jnp.asarray(x), sigma))[inside], expected[inside], atol=1e-5)


def test_counts_are_poisson():
    for mean in (0.5, 5.0, 15.9, 16.1, 40.0, 500.0):
        found = np.asarray(corruptions._poisson(KEY, jnp.full(100_000, mean)))
        assert (found == found.round()).all() and (found >= 0).all()
        assert_mean(found, mean)
        assert_mean((found - mean) ** 2, mean)
        low, high = scipy.stats.poisson.ppf([0.001, 0.999], mean)
        edges = np.unique(np.linspace(low, high + 1, 20).astype(int))
        seen = np.histogram(found, edges)[0]
        share = np.diff(scipy.stats.poisson.cdf(edges - 1, mean))
        assert scipy.stats.chisquare(seen, share / share.sum() * seen.sum()).pvalue > 1e-4


def test_noise_has_the_moments_that_are_stated():
    grey = jnp.full((200, 32, 32, 3), 0.5)
    for severity, sd in ((1, 0.04), (5, 0.1)):
        y = CORRUPTIONS["gaussian_noise"](KEY, grey, severity) - 0.5
        assert_mean(np.asarray(y).ravel(), 0)
        assert_mean(np.asarray(y).ravel() ** 2, sd**2)
    y = np.asarray(CORRUPTIONS["shot_noise"](KEY, grey, 5)).ravel()
    assert_mean(y, 0.5)
    assert_mean((y - 0.5) ** 2, 0.5 / 50)
    y = np.asarray(CORRUPTIONS["impulse_noise"](KEY, grey, 3)).ravel()
    for value in (0, 1):
        assert_mean(y == value, 0.015)
    assert_mean(
        np.asarray(CORRUPTIONS["gaussian_noise"](KEY, jnp.full((20, 224, 224, 1), 0.5), 1) - 0.5).ravel() ** 2, 0.08**2
    )


def test_brightness_against_colorsys():
    x = pictures(2, 32, 32, 3) / 255.0
    x[0, 0, 0] = 0  # black has no hue
    found = np.asarray(CORRUPTIONS["brightness"](KEY, jnp.asarray(x, jnp.float32), 4))
    hsv = [colorsys.rgb_to_hsv(*pixel) for pixel in x.reshape(-1, 3)]
    expected = np.array([colorsys.hsv_to_rgb(h, s, min(v + 0.2, 1)) for h, s, v in hsv]).reshape(x.shape)
    assert np.allclose(found, expected, atol=1e-5)


def test_pixelate_against_pillow():
    """Where sides divide, boxes are those of Pillow."""
    x = pictures(4, 224, 224, 1)
    found = np.asarray(CORRUPTIONS["pixelate"](KEY, jnp.asarray(x), 2)).astype(float)  # 112 pixels
    for image, ours in zip(x[..., 0], found[..., 0], strict=True):
        small = Image.fromarray(image).resize((112, 112), Image.Resampling.BOX)
        theirs = np.asarray(small.resize((224, 224), Image.Resampling.BOX), float)
        assert np.abs(ours - theirs).max() <= 1


# What stays as it is.


def test_what_keeps_a_flat_picture():
    flat = jnp.full((3, 32, 32, 3), 0.4)
    for name in ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "contrast", "elastic_transform", "pixelate"):
        assert np.allclose(CORRUPTIONS[name](KEY, flat, 5), 0.4, atol=1e-4), name
    assert np.allclose(CORRUPTIONS["brightness"](KEY, flat, 5), 0.7, atol=1e-5)
    dark = jnp.zeros((3, 32, 32, 3))
    assert float(CORRUPTIONS["fog"](KEY, dark, 5).max()) == 0  # fog is as bright as the picture's brightest pixel


def test_motion_blur_is_a_line():
    """One bright pixel becomes a streak of the stated weights, from it towards the angle."""
    dot = jnp.zeros((1, 21, 21, 1)).at[0, 10, 15, 0].set(1)
    y = np.asarray(corruptions._smeared(dot, jnp.zeros(1), jnp.float32(4), jnp.float32(2), 6))[0, ..., 0]
    weight = np.exp(-(np.arange(5.0) ** 2) / 8)
    assert np.allclose(y[10, 15:10:-1], weight / weight.sum(), atol=1e-6) and y.sum() == pytest.approx(1, abs=1e-5)


def test_what_is_no_image_is_refused():
    with pytest.raises(GenlossError, match="images"):
        CORRUPTIONS["fog"](KEY, jnp.zeros((3, 8, 8)), 1)


# What they do to a classifier.


def view_of(diet: Any, test: Any, **prepared: Any) -> View:
    return View(jnp.int32(0), None, Pool.of(diet), diet, test, Gaussian(2), **prepared)


def test_accuracy_falls_with_severity():
    source = Dataset.digits()
    rows, test = source.draw(jax.random.key(1), 1400), source.draw(jax.random.key(0), 359, held_out=True)
    other = {**test, "label": (test["label"] + 1) % 10}  # another data set, on which whoever is right is wrong
    what = Robustness(
        partial(MLP, hidden=(64,)), corruptions=("contrast", "fog", "elastic_transform"), shifted=source, most=300
    )
    assert what.prepare(KEY, source)["image"].shape[0] == 359  # pyright: ignore
    run = jax.jit(lambda rows: what(jax.random.key(0), view_of(rows, test, prepared={what: other})))
    found = jax.tree.map(float, run(rows))
    assert found["clean"] > 0.9 > found["shifted"] + 0.8
    severity = [found["severity"][str(s)] for s in range(1, 6)]
    assert (np.diff(severity) < 0).all() and severity[0] < found["clean"] + 0.01
    assert found["corrupted"] == pytest.approx(np.mean(severity), abs=1e-5)
    assert found["corrupted"] == pytest.approx(np.mean(list(found["corruption"].values())), abs=1e-5)
    assert found["rows"] == 1400 and found["reference_rows"] == 300


def test_what_cannot_be_judged_is_said():
    fields: dict[str, Any]
    for fields, word in (
        ({"corruptions": ("rain",)}, "rain"),
        ({"severities": (0, 1)}, "severities"),
        ({"most": 0}, "most"),
        ({"steps": 0}, "steps"),
    ):
        with pytest.raises(GenlossError, match=word):
            Robustness(MLP, **fields)
    source = Dataset.digits()
    rows = test = source.draw(jax.random.key(1), 20)
    other = {**rows, "image": jnp.zeros((20, 9, 9, 1), jnp.uint8)}
    what = Robustness(MLP, steps=1, corruptions=("contrast",), severities=(1,))
    with pytest.raises(GenlossError, match="side"):
        jax.eval_shape(lambda rows: what(KEY, view_of(rows, test, prepared={what: other})), rows)


@pytest.mark.slow
@pytest.mark.data
def test_real_images_under_every_corruption(real_data: Any):
    """Fashion-MNIST: severities change pictures more and more, and cost accuracy on average."""
    source = Dataset.load(real_data / "fashion_mnist")
    rows, test = source.draw(jax.random.key(1), 10_000), source.draw(jax.random.key(0), 500, held_out=True)
    for name, corruption in CORRUPTIONS.items():
        change = [float(((corruption(KEY, test["image"], s) - test["image"] / 1.0) ** 2).mean()) for s in range(6)]
        assert (np.diff(change) > 0).all(), name
    what = Robustness(Mixer, steps=500)
    found = jax.tree.map(float, jax.jit(lambda rows: what(jax.random.key(0), view_of(rows, test)))(rows))
    print(found)
    assert (np.diff([found["clean"], *found["severity"].values()]) < 0).all()
