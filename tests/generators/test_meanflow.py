"""Mean velocities: those of a Gaussian have a closed form, by which the loss, the sampler and its steps are checked."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_mean
from flax import nnx

from generators import Diffusion
from generators.meanflow import MeanFlow
from generators.nets.denoiser import Denoiser
from generators.nets.dit import DiT
from simulator import GenlossError
from simulator.numerics.chance import normal, uniform

KEY = jax.random.key(0)
MEANS, SCALE = ((0.7, -0.2), (-1.0, 0.4), (0.1, 0.1)), 0.4


class Exact(nnx.Module):
    """u(x, r, t) of rows N(m, s²) of each label, the last for the null label.

    The flow takes x at t to (1 - r)·m + σ_r/σ_t·(x - (1 - t)·m) at r, σ_t² = (1 - t)²s² + t².
    """

    def __init__(self, shape: Any, classes: Any, means: Any = MEANS, scale: float = SCALE, times: int = 1, **_: Any):
        assert times == 2
        self.means, self.scale = nnx.Param(jnp.array(means)), nnx.Param(jnp.float32(scale))

    def __call__(self, x: jax.Array, t: jax.Array, label: Any) -> jax.Array:
        m = self.means[...][jnp.zeros(len(x), jnp.int32) if label is None else label]  # [n, d]
        (t, span), square = (column[:, None] for column in t.T), self.scale[...] ** 2
        r = t - span
        now, then = (jnp.sqrt((1 - at) ** 2 * square + at**2) for at in (t, r))
        return (x - (1 - t) * m) * (t + r - square * (2 - t - r)) / (now * (now + then)) - m


MODEL = Diffusion(network=Exact, noise=MeanFlow(), shape=(2,), sample_steps=1, sample_batch=50_000)


def velocity(x: Any, t: Any) -> Any:
    """E[ε - x0 | x] of the first Gaussian, by its regression."""
    m, square = jnp.array(MEANS[0]), SCALE**2
    return (t - (1 - t) * square) / ((1 - t) ** 2 * square + t**2) * (x - (1 - t) * m) - m


def test_the_mean_velocity_of_a_gaussian_is_what_the_identity_says_of_it():
    """At each row by itself, with the velocity of the whole law; with r = t the target is the velocity that is told."""
    net, x = Exact((2,), None, times=2), 2 * normal(KEY, (500, 2))
    u = uniform(jax.random.key(1), (500,))
    t = jnp.stack([u, jnp.zeros_like(u)], 1)
    v = velocity(x, u[:, None])
    told, goal = MeanFlow(apart=1.0).averaged(KEY, lambda x, t: net(x, t, None), x, t, v)
    np.testing.assert_allclose(told, goal, atol=2e-4)
    assert np.abs(told - v).max() > 0.3
    told, goal = MeanFlow(apart=0.0).averaged(KEY, lambda x, t: net(x, t, None), x, t, 3 * v)
    assert np.array_equal(goal, 3 * v)
    np.testing.assert_allclose(told, v, atol=1e-5)


def test_times_are_one_or_the_two_of_a_sorted_pair():
    """Of a share p of rows t and r are the later and the earlier of two even times, of the others t = r is one."""
    told = lambda x, t: jnp.concatenate([x, t], -1)  # noqa: E731
    noise, n = MeanFlow(apart=0.3), 40_000
    t, a, s = noise.at((jnp.arange(n) + 0.5) / n)
    assert np.array_equal(s, t[:, 0]) and np.array_equal(a, 1 - s)
    found, _ = noise.averaged(KEY, told, jnp.zeros((n, 1)), t, jnp.zeros((n, 1)))
    t, span = np.asarray(found)[:, 1:].T
    apart = span > 0
    assert_mean(apart, 0.3)
    for of, k, expected in ((t, 1, 2 / 3), (t, 2, 1 / 2), (t - span, 1, 1 / 3), (t - span, 2, 1 / 6), (span, 2, 1 / 6)):
        assert_mean(of[apart] ** k, expected)
    assert_mean(t[~apart], 1 / 2)
    assert_mean(t[~apart] ** 2, 1 / 3)


def test_the_loss_is_least_at_the_mean_velocity():
    """Its gradient in m and s is 0 there, within standard errors of rows, and not beside it."""
    m, s = jnp.array(MEANS), jnp.float32(SCALE)
    rows = m[0] + s * normal(KEY, (40_000, 2))

    def slopes(means: Any, scale: Any) -> np.ndarray:
        losses = lambda p: MODEL.losses(jax.random.key(1), {"net": p}, rows).sum(-1)  # noqa: E731
        found = jax.jit(jax.jacfwd(losses))({"means": means, "scale": scale})
        return np.concatenate([found["means"][:, 0], found["scale"][:, None]], 1)  # [n, 3]

    assert_mean(slopes(m, s), np.zeros(3))
    for beside in (slopes(m + 0.1, s), slopes(m, 1.3 * s)):
        assert np.abs(beside.mean(0) / (beside.std(0) / 200)).max() > 20


@pytest.mark.parametrize("stop", [0.0, 0.25])
def test_one_step_of_the_mean_velocity_samples_a_gaussian_as_many_do(stop: float):
    rows = {}
    for steps in (1, 3):
        model = Diffusion(
            network=Exact, noise=MeanFlow(), shape=(2,), sample_steps=4 * steps if stop else steps, stop=stop
        )
        rows[steps] = np.asarray(jax.jit(model.sample, static_argnums=2)(KEY, model.init(KEY), 20_000))
    np.testing.assert_allclose(rows[1], rows[3], atol=1e-4)
    assert_mean(rows[1], np.array(MEANS[0]))
    assert_mean((rows[1] - MEANS[0]) ** 2, np.full(2, SCALE**2 + (stop / (1 - stop)) ** 2))


def test_guidance_leads_away_from_the_null_label_in_one_step():
    model = Diffusion(network=Exact, noise=MeanFlow(), shape=(2,), classes=2, guidance=2.5, sample_steps=1)
    given = {"label": jnp.arange(20_000) % 2}
    said: Any = jax.jit(model.sample, static_argnums=2)(KEY, model.init(KEY), 20_000, given)
    m = np.array(MEANS)
    for label in (0, 1):
        x = np.asarray(said["x"])[label::2]
        assert_mean(x, m[2] + 2.5 * (m[label] - m[2]))
        assert_mean((x - x.mean(0)) ** 2, np.full(2, SCALE**2))


def test_a_step_says_where_it_is_and_how_far_it_goes():
    steps, signal = MeanFlow().steps(4)
    np.testing.assert_allclose(steps.t, [[1, 0.25], [0.75, 0.25], [0.5, 0.25], [0.25, 0.25]])
    assert signal == 1.0
    steps, signal = MeanFlow().steps(4, stop=0.6)
    np.testing.assert_allclose(steps.t, [[1, 0.25], [0.75, 0.15]], atol=1e-6)
    assert signal == pytest.approx(0.4)


def test_what_a_mean_velocity_cannot_be_asked_for_is_refused():
    for network in (DiT(patch_size=2), partial(DiT, patch_size=2), lambda shape, classes, dtype, rngs: None):
        with pytest.raises(GenlossError, match="two times, which `Denoiser` takes"):
            Diffusion(network=network, noise=MeanFlow())
    Diffusion(network=partial(Denoiser, width=4), noise=MeanFlow())
    with pytest.raises(GenlossError, match="0 steps cannot be"):
        MeanFlow().steps(0)
    with pytest.raises(GenlossError, match="train a Flow"):
        MeanFlow().config()
