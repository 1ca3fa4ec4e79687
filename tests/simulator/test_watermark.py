"""Watermarks: false alarms as often as stated, marks always read, through compression and noise too."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_mean
from marked_pictures import Blank, Clouds, clouds

from generators import Watermarked
from simulator import Chain, Dataset, GenlossError, Pool, simulate
from simulator.probes.jpeg import jpeg
from simulator.recipe import Accumulate, Then
from simulator.recipe.watermark import FilterWatermark, Watermark

MARK = Watermark(seed=3)


def bold(n: int = 100) -> jax.Array:
    """Drawings on black, as are digits and clothes: nothing can be taken from what is 0."""
    x = Dataset.digits().draw(jax.random.key(0), n)["image"]
    return jax.image.resize(x.astype(jnp.float32), (n, 28, 28, 1), "linear").astype(jnp.uint8)


@pytest.mark.parametrize("rate", [0.01, 0.1])
def test_false_alarms_are_as_frequent_as_stated(rate: float):
    """Over keys, of pictures of both kinds, some of them as plain as can be."""
    for x in (clouds(28, 1)[:10], bold(10), jnp.full((1, 28, 28, 1), 77, jnp.uint8)):
        marked = jax.jit(jax.vmap(lambda seed, x=x: Watermark.marked(_with(seed, rate), x).mean()))
        assert_mean(marked(jnp.arange(400)), rate)


def _with(seed: Any, rate: float) -> Watermark:
    """A watermark whose seed is traced."""
    return replace(MARK, rate=rate, seed=seed)


@pytest.mark.quick("28-1")
@pytest.mark.parametrize("side, c", [(28, 1), (32, 3), (64, 3)])
def test_every_mark_is_read_and_hardly_seen(side: int, c: int):
    x = clouds(side, c)
    y = jax.jit(MARK.embed)(x)
    assert y.shape == x.shape and y.dtype == jnp.uint8
    assert bool(jax.jit(MARK.marked)(y).all())
    error = ((y.astype(jnp.float32) - x) ** 2).mean()
    assert float(10 * jnp.log10(255**2 / error)) > 33  # dB
    other = replace(MARK, seed=4)
    assert float(jax.jit(other.marked)(y).mean()) < 0.05  # another key reads nothing
    numbers = jax.jit(MARK.embed)(x / 255.0)
    assert bool(jax.jit(MARK.marked)(numbers).all()) and float(numbers.max()) <= 1


@pytest.mark.quick("90")
@pytest.mark.parametrize("quality", [75, 90])
def test_marks_survive_compression_and_noise(quality: int):
    for x in (clouds(28, 1), clouds(32, 3), bold()):
        y = jax.jit(MARK.embed)(x)
        squeezed = jax.jit(jpeg)(y / 255.0, quality)
        noisy = y / 255.0 + 5 / 255 * jax.random.normal(jax.random.key(0), y.shape)
        for read in (squeezed, noisy):
            assert float(jax.jit(MARK.marked)(read).mean()) >= 0.99
        assert float(jax.jit(MARK.marked)(jax.jit(jpeg)(x / 255.0, quality)).mean()) < 0.03


def test_a_filter_drops_what_is_marked():
    x = clouds(28, 1)
    rows = {"image": jnp.concatenate([x[:50], MARK.embed(x[50:])]), "label": jnp.zeros(100, jnp.int32)}
    pool = Pool.of(rows).weighed(2.0 * jnp.ones(100))
    weight = np.asarray(FilterWatermark(MARK)(jax.random.key(0), jnp.int32(0), pool))
    assert (weight[50:] == 0).all() and (weight[:50] == 2).mean() > 0.95


def test_a_chain_of_a_signing_generator_eats_none_of_its_own():
    """The mass of every diet is that of the real rows that do not read as marked."""
    chain = Chain(
        source=Clouds(),
        generator=Watermarked(Blank(), MARK),
        recipe=Then(Accumulate(), FilterWatermark(MARK)),
        real=40,
        rows=30,
        held_out=0,
    )
    mass = np.asarray(simulate(chain, jax.random.key(0), 3)["fit.mass"])
    assert (mass == 40 - float(MARK.marked(clouds(28, 1)[:40]).sum())).all()


def test_what_cannot_be_marked_is_said():
    fields: dict[str, Any]
    for fields, word in (({"step": 0.0}, "step"), ({"rate": 0.0}, "rate"), ({"rate": 1.0}, "rate")):
        with pytest.raises(GenlossError, match=word):
            Watermark(**fields)
    with pytest.raises(GenlossError, match="24x24"):
        MARK.embed(jnp.zeros((2, 8, 8, 1)))
    with pytest.raises(GenlossError, match="images"):
        MARK.marked(jnp.zeros((2, 8)))


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("name", ["fashion_mnist", "cifar10"])
def test_marks_of_real_images(real_data: Path, name: str):
    x = jnp.asarray(Dataset.load(real_data / name).draw(jax.random.key(0), 2000)["image"])
    y = jax.jit(MARK.embed)(x)
    read = jax.jit(MARK.marked)
    error = ((y.astype(jnp.float32) - x) ** 2).mean((1, 2, 3))
    found = {
        "real": float(read(x).mean()),
        "marked": float(read(y).mean()),
        "jpeg 75": float(read(jax.jit(jpeg)(y / 255.0, 75)).mean()),
        "decibel": float((10 * jnp.log10(255**2 / error)).mean()),
    }
    print(name, found)
    assert found["real"] < 0.01 and found["marked"] > 0.995 and found["jpeg 75"] > 0.98
