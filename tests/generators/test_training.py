"""The steps of a fit: Adam as it is written, clipped and averaged, on rows and noise that are new in every step."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_mean

from generators.train import Trained
from simulator import GenlossError, Pool


@dataclass(frozen=True, kw_only=True)
class Bowl(Trained):
    """loss(p) = Σ_i a_i p_i² / 2, whatever the rows are: what a fit does to p is known."""

    curvature: tuple[float, ...] = (40.0, 1.0, 0.1)

    def init(self, key: Any) -> jax.Array:
        return jnp.array([1.0, -2.0, 0.5])

    def loss(self, key: Any, params: jax.Array, rows: Any) -> jax.Array:
        return (jnp.asarray(self.curvature) * params**2).sum() / 2

    def sample(self, key: Any, params: jax.Array, n: int) -> jax.Array:
        return jnp.broadcast_to(params, (n, 3))


def walked(model: Bowl) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """(last weights, their average, norms of the gradients) by Kingma & Ba 2015, arXiv:1412.6980, algorithm 1."""
    p = average = np.array([1.0, -2.0, 0.5])
    first, second, norms = np.zeros(3), np.zeros(3), []
    warm = int(model.warmup * model.steps)
    for k in range(model.steps):
        gradient = np.array(model.curvature) * p
        norms.append(float(np.sqrt((gradient**2).sum())))
        gradient = gradient * min(1, model.clip / norms[-1])
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        share = (k - warm) / (model.steps - warm)
        rate = model.learning_rate * (k / warm if k < warm else (1 + np.cos(np.pi * share)) / 2)
        p = p - rate * (first / (1 - 0.9 ** (k + 1))) / (np.sqrt(second / (1 - 0.999 ** (k + 1))) + 1e-8)
        decay = min(model.average, (1 + k) / (10 + k))
        average = decay * average + (1 - decay) * p
    return p, average, norms


@pytest.mark.parametrize("average", [0.9, 0.0])
def test_a_fit_is_adam_with_clipping_warm_up_and_cosine_decay_and_its_average_is_kept(average: float):
    model = Bowl(steps=60, chunk=20, batch=4, learning_rate=0.05, warmup=0.1, clip=3.0, average=average)
    last, kept, norms = walked(model)
    assert max(norms) > 10 * model.clip and min(norms) < model.clip / 2  # some are clipped and some are not
    found, _ = jax.jit(model.fit)(jax.random.key(0), model.init(None), Pool.of(jnp.zeros((5, 1))))
    assert np.allclose(found, kept, rtol=1e-4, atol=1e-5)
    assert np.allclose(kept, last, atol=1e-6) == (average == 0)
    # What is sampled from is the average.
    assert np.allclose(model.sample(None, found, 2), kept, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("clip", [0.5, 1e9])
def test_the_first_step_knows_the_norm_that_is_let_through(clip: float):
    """Adam's first moments after one step are a tenth of the gradient that it was given."""
    model = Bowl(steps=1, chunk=1, batch=4, clip=clip, warmup=0.0)
    pool = Pool.of(jnp.zeros((5, 1)))
    training = jax.jit(lambda key: model.advance(pool, model.begin(key, model.init(None), pool)))(jax.random.key(0))
    given = next(leaf for leaf in jax.tree.leaves(training.optimizer) if leaf.shape == (3,)) / 0.1
    gradient = np.array(model.curvature) * np.asarray(model.init(None))
    assert np.allclose(given, gradient * min(1, clip / np.linalg.norm(gradient)), rtol=1e-5)


@dataclass(frozen=True, kw_only=True)
class Heard(Trained):
    """A loss that is the mean of what a step draws: of its rows, or a normal number."""

    of_rows: bool = True

    def init(self, key: Any) -> jax.Array:
        return jnp.zeros(1)

    def loss(self, key: Any, params: jax.Array, rows: Any) -> jax.Array:
        return (rows.mean() if self.of_rows else jax.random.normal(key)) + 0 * params.sum()

    def sample(self, key: Any, params: jax.Array, n: int) -> jax.Array:
        return jnp.zeros((n, 1))


@pytest.mark.parametrize("of_rows", [True, False])
def test_every_step_of_every_call_draws_its_own_rows_and_noise(of_rows: bool):
    """The mean of a call has the variance of independent draws, and two calls have nothing in common."""
    model = Heard(of_rows=of_rows, steps=12, chunk=4, batch=8)
    pool = Pool.of(jnp.where(jnp.arange(4096) % 2, 1.0, -1.0))  # mean 0, variance 1

    def losses(key: jax.Array) -> jax.Array:
        training = model.begin(key, model.init(key), pool)
        found = []
        for _ in range(model.calls):
            training = model.advance(pool, training)
            found.append(training.loss)
        return jnp.stack(found)  # [calls]

    found = np.asarray(jax.jit(jax.vmap(losses))(jax.random.split(jax.random.key(1), 2000)), np.float64)
    one = 1 / (4 * 8) if of_rows else 1 / 4
    assert_mean(found, np.zeros(3))
    assert_mean(found**2, np.full(3, one))
    assert_mean(np.stack([found[:, 0] * found[:, 1], found[:, 1] * found[:, 2]], 1), np.zeros(2))


def test_rows_are_drawn_in_proportion_to_their_weight():
    model = Heard(steps=4, chunk=4, batch=16)
    pool = Pool.of(jnp.array([0.0, 1.0, 5.0, 100.0])).weighed(jnp.array([1.0, 2.0, 1.0, 0.0]))
    fit = jax.jit(jax.vmap(lambda key: model.fit(key, model.init(key), pool)[1]["loss"]))
    assert_mean(fit(jax.random.split(jax.random.key(2), 2000)), (2 + 5) / 4)


def test_the_loss_of_the_last_call_is_reported():
    model = Bowl(steps=2, chunk=1, batch=4, learning_rate=1e-9)
    _, report = jax.jit(model.fit)(jax.random.key(0), model.init(None), Pool.of(jnp.zeros((5, 1))))
    assert float(report["loss"]) == pytest.approx((40 + 4 + 0.025) / 2, rel=1e-5)


@pytest.mark.parametrize("fields", [{"steps": 0}, {"steps": 5, "chunk": 2}, {"warmup": 1.0}, {"learning_rate": 0.0}])
def test_fits_that_cannot_be_are_refused(fields: dict[str, Any]):
    with pytest.raises(GenlossError):
        Bowl(**fields)
