"""Negative guidance: the score that is followed, what w = 0 leaves as it is, and where samples go."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from equality import close, same
from flax import nnx

from generators import Diffusion, Gaussian, SelfImproved
from generators.nets.denoiser import Denoiser
from generators.noise import Flow
from simulator import Chain, GenlossError, Pool, Sweep, Truth, run, simulate
from simulator.recipe import Replace

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


def spread(key: Any, view: Any) -> jax.Array:
    return view.synthetic.var(0).mean()


@pytest.mark.slow
def test_by_scan_by_the_host_and_resumed_a_chain_that_is_led_away_is_one_and_strengths_are_swept(tmp_path: Path):
    network = partial(Denoiser, width=16, depth=1)
    small = Diffusion(steps=20, chunk=10, batch=16, network=network, sample_steps=5)
    chain = Chain(
        source=Truth(Gaussian(2)),
        generator=SelfImproved(small, strength=0.5, rows=40),
        recipe=Replace(),
        probes={"spread": spread},
        start="previous",
        real=30,
        rows=30,
        held_out=0,
    )
    whole = run(chain, KEY, 3, tmp_path / "whole", replicates=2)
    run(chain, KEY, 2, tmp_path / "part", replicates=2)
    assert same(run(chain, KEY, 3, tmp_path / "part", replicates=2), whole)
    swept = run(Sweep(chain, "generator.strength", {"0": 0.0, "0.5": 0.5}), KEY, 3, replicates=2)["spread"]  # [2, 2, 3]
    assert close(swept[1], whole["spread"], rtol=1e-3) and not close(swept[0], whole["spread"], rtol=1e-2)
    assert close(simulate(chain, jax.random.fold_in(KEY, 1), 3)["spread"], whole["spread"][1], rtol=1e-3)


def test_only_what_has_a_score_can_be_led_away():
    with pytest.raises(GenlossError, match="Gaussian has no score"):
        SelfImproved(Gaussian(2))
