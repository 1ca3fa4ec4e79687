"""Negative guidance: the score that is followed, what w = 0 leaves as it is, and where samples go."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from generators import Diffusion, Gaussian, SelfImproved
from generators.noise import Flow
from simulator import GenlossError, Pool

KEY = jax.random.key(0)
NOISE = Flow(prediction_type="sample")


class Scale(nnx.Module):
    """Tells of x at time t the best guess of a row from N(0, v): a v/(a² v + s²)·x; v is its parameter."""

    def __init__(self, shape: Any, classes: Any, dtype: Any = None, rngs: Any = None, v: float = 1.0):
        self.v = nnx.Param(jnp.float32(v))

    def __call__(self, x: jax.Array, t: jax.Array, label: Any) -> jax.Array:
        return scaled(self.v[...], t)[:, None] * x


def scaled(v: Any, t: jax.Array) -> jax.Array:
    s = t / NOISE.num_train_timesteps
    a = 1 - s
    return a * v / (a**2 * v + s**2)


class Led(Scale):
    """(1 + w) of the guess for v = 1 less w of that for `OTHER`."""

    def __call__(self, x: jax.Array, t: jax.Array, label: Any) -> jax.Array:
        return ((1 + W) * scaled(1.0, t) - W * scaled(OTHER, t))[:, None] * x


W, OTHER = 0.7, 0.6
MODEL = Diffusion(network=Scale, noise=NOISE, shape=(2,), sample_steps=20)
OWN = {"net": {"v": jnp.float32(1.0)}}
NARROW = {"net": {"v": jnp.float32(OTHER)}}


def test_what_is_followed_is_one_more_of_the_own_score_less_one_of_the_other():
    led = MODEL.sample(KEY, MODEL.repelled(OWN, NARROW, jnp.float32(W)), 200)
    expected = dataclasses.replace(MODEL, network=Led).sample(KEY, OWN, 200)
    assert np.allclose(led, expected, rtol=1e-4, atol=1e-5)
    plain = MODEL.sample(KEY, OWN, 200)
    assert np.array_equal(MODEL.sample(KEY, MODEL.repelled(OWN, NARROW, jnp.float32(0.0)), 200), plain)
    assert led.std() > 1.05 * plain.std()  # away from a model that is too narrow is wider


@pytest.mark.slow
def test_a_fit_learns_its_rows_and_then_what_it_said_of_them():
    small = Diffusion(shape=(2,), steps=60, chunk=20, batch=32, sample_steps=5)
    rows = 0.5 * jax.random.normal(jax.random.key(1), (200, 2)) + jnp.array([1.0, -1.0])
    model = SelfImproved(small, strength=0.5, rows=100)
    pool = Pool.of(rows)
    params = jax.jit(model.fit)(KEY, model.init(KEY), pool)[0]
    own = jax.jit(small.fit)(KEY, small.init(KEY), pool)[0]
    same = lambda a, b: all(np.allclose(x, y, atol=1e-5) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True))  # noqa: E731
    assert same(params["own"], own) and not same(params["said"], own)
    off = dataclasses.replace(model, strength=0.0)
    assert np.allclose(off.sample(KEY, params, 50), small.sample(KEY, params["own"], 50), atol=1e-5)
    assert not np.allclose(model.sample(KEY, params, 50), small.sample(KEY, params["own"], 50), atol=1e-2)


def test_only_what_has_a_score_can_be_led_away():
    with pytest.raises(GenlossError, match="Gaussian has no score"):
        SelfImproved(Gaussian(2))
