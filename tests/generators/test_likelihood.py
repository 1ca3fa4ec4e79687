"""What decoders say of a number: losses against SciPy's laws, masses that sum to one, draws against both."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_mean, scattered
from scipy.special import expit
from scipy.stats import bernoulli, logistic, norm

from generators.likelihood import Bernoulli, DiscretisedLogistic, Normal

KEY = jax.random.key(0)
TOLD = jnp.asarray(scattered(4, 6), jnp.float32)  # of 6 numbers a row, or of 3


def read(told: np.ndarray, least: float, scale: float | None) -> tuple[np.ndarray, np.ndarray | float]:
    """Where numbers are thought to lie, and how far about: softplus, moved so that 0 is 1."""
    if scale is not None:
        return told, scale
    return told[:, ::2], least + np.logaddexp(0, told[:, 1::2] + np.log(np.e - 1))


@pytest.mark.parametrize("scale", [None, 0.3])
def test_the_normal_is_scipys(scale: float | None):
    law = Normal(scale=scale, least=0.05)
    mean, sigma = read(np.asarray(TOLD, np.float64), 0.05, scale)
    x = 2 * scattered(*mean.shape, seed=1)
    assert np.allclose(law.nll(TOLD, jnp.asarray(x, jnp.float32)), -norm.logpdf(x, mean, sigma), rtol=1e-5, atol=1e-5)
    assert np.allclose(law.mean(TOLD), mean)
    many = jnp.tile(TOLD, (5000, 1))
    found = np.asarray(law.draw(KEY, many), np.float64).reshape(5000, -1)
    assert_mean(found, mean.ravel())
    assert_mean((found - mean.ravel()) ** 2, np.broadcast_to(np.square(sigma), mean.shape).ravel())


def test_a_network_that_tells_zero_tells_a_scale_of_one():
    x = jnp.full((1, 1), 0.5)
    assert float(Normal(least=0.0 + 1e-6).nll(jnp.zeros((1, 2)), x)[0, 0]) == pytest.approx(-norm.logpdf(0.5), abs=1e-5)
    far = Normal(least=0.1).nll(jnp.array([[0.0, -50.0]]), x)  # a scale that is told as nothing is `least`
    assert float(far[0, 0]) == pytest.approx(-norm.logpdf(0.5, 0, 0.1), rel=1e-4)


def test_black_and_white_are_scipys_and_grey_is_as_if_a_share_of_both():
    p = expit(np.asarray(TOLD, np.float64))
    for x in (0.0, 1.0):
        assert np.allclose(Bernoulli().nll(TOLD, jnp.full(TOLD.shape, x)), -bernoulli.logpmf(int(x), p), rtol=1e-5)
    black, white = (Bernoulli().nll(TOLD, jnp.full(TOLD.shape, x)) for x in (0.0, 1.0))
    assert np.allclose(Bernoulli().nll(TOLD, jnp.full(TOLD.shape, 0.3)), 0.7 * black + 0.3 * white, rtol=1e-5)
    found = np.asarray(Bernoulli().draw(KEY, jnp.tile(TOLD, (5000, 1)))).reshape(5000, -1)
    assert set(np.unique(found)) == {0, 1}
    assert_mean(found, p.ravel())


@pytest.mark.parametrize("scale", [None, 0.04])
def test_masses_of_grey_values_are_differences_of_scipys_distribution_and_sum_to_one(scale: float | None):
    """Ends take what lies beyond; in the middle and far outside, where the difference of two ones would be nothing."""
    levels, least = 7, 0.02
    law = DiscretisedLogistic(levels=levels, scale=scale, least=least)
    told = np.array([[0.4, -3.0, 1.2, 0.0, -0.3, -9.0, 0.9, 2.0]], np.float32)
    mean, s = read(told.astype(np.float64), least, scale)
    edges = (np.arange(levels + 1) - 0.5) / (levels - 1)
    edges[[0, -1]] = -np.inf, np.inf
    for k in range(levels):
        low, high = (edges[k] - mean) / s, (edges[k + 1] - mean) / s
        # Of two probabilities near one, the difference of what is left of each.
        mass = np.where(low > 0, logistic.sf(low) - logistic.sf(high), logistic.cdf(high) - logistic.cdf(low))
        found = -np.asarray(law.nll(jnp.asarray(told), jnp.full(mean.shape, k / (levels - 1))), np.float64)
        there = mass > 1e-30
        assert np.allclose(found[there], np.log(mass[there]), rtol=1e-4, atol=1e-4)
        assert np.isfinite(found).all()
    total = sum(np.exp(-law.nll(jnp.asarray(told), jnp.full(mean.shape, k / 6))) for k in range(levels))
    assert np.allclose(total, 1, atol=1e-5)


def test_grey_values_are_drawn_as_often_as_they_weigh():
    law = DiscretisedLogistic(levels=5)
    told = jnp.array([[0.4, -1.0, 0.9, 0.5]])
    found = np.asarray(law.draw(KEY, jnp.tile(told, (20_000, 1))))  # [20000, 2]
    levels = np.arange(5) / 4
    masses = [np.exp(-law.nll(told, jnp.full((1, 2), level)))[0] for level in levels]
    assert_mean(found[:, :, None] == levels, np.array(masses).T)


def test_images_are_rounded_to_the_levels():
    law, told = DiscretisedLogistic(levels=3), jnp.array([[0.2, 0.0]])
    near, at = (law.nll(told, jnp.array([[x]])) for x in (0.45, 0.5))
    assert float(near[0, 0]) == float(at[0, 0])
