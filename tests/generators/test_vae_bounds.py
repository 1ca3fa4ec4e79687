"""Bounds of a VAE against the exact likelihood of a linear one, what it encodes and decodes, rows without labels."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_mean, scattered
from plugins import DENOISER, FLOW
from scipy.stats import multivariate_normal

from generators.likelihood import DiscretisedLogistic, Normal
from generators.nets.autoencoder import convolutional, mixers
from generators.vae import VAE
from simulator import GenlossError, Pool

KEY = jax.random.key(0)
SIGMA = 0.5
LINEAR = VAE(shape=(3,), latent=2, hidden=(), likelihood=Normal(scale=SIGMA))
MAP = np.array([[1.0, 0.5, 0.0], [0.2, -0.4, 0.9]])  # [latent, d], of orthogonal rows: posteriors are independent
SHIFT = np.array([0.3, -1.0, 0.5])
X = jnp.asarray(scattered(3, 3, seed=4) + SHIFT, jnp.float32)  # [n, d]
OPEN: Any = MAP.T @ MAP + SIGMA**2 * np.eye(3)  # covariance of x = zW + b + σε
EXACT = multivariate_normal(SHIFT, OPEN).logpdf(X)  # [n]
COVARIANCE = np.linalg.inv(np.eye(2) + MAP @ MAP.T / SIGMA**2)  # of z given x, [latent, latent]
POSTERIOR = (np.asarray(X, np.float64) - SHIFT) @ MAP.T @ COVARIANCE / SIGMA**2  # its mean, [n, latent]


def known(encode: np.ndarray, shift: np.ndarray, variance: np.ndarray) -> Any:
    """Parameters of x = zW + b + σε, and of q(z|x) = N((x - b) encode + shift, variance)."""
    params = LINEAR.init(KEY)

    def filled(part: str, kernel: np.ndarray, bias: np.ndarray) -> Any:
        leaves, tree = jax.tree.flatten(params[part])
        assert [leaf.shape for leaf in leaves] == [bias.shape, kernel.shape]
        return jax.tree.unflatten(tree, [jnp.asarray(bias, jnp.float32), jnp.asarray(kernel, jnp.float32)])

    kernel = np.concatenate([encode, np.zeros((3, 2))], 1)  # [d, 2 latent]
    bias = np.concatenate([shift - SHIFT @ encode, np.log(variance)])
    return {"encoder": filled("encoder", kernel, bias), "decoder": filled("decoder", MAP, SHIFT)}


BEST = known(MAP.T @ COVARIANCE / SIGMA**2, np.zeros(2), np.diag(COVARIANCE))
POOR = known(MAP.T * 0.3, np.array([0.2, -0.1]), np.array([0.4, 0.6]))


def test_the_posterior_is_diagonal():
    assert np.allclose(COVARIANCE, np.diag(np.diag(COVARIANCE)), atol=1e-12) and "labels" not in LINEAR.init(KEY)


def bounds(params: Any, draws: int | None, keys: int = 4000) -> np.ndarray:
    """[keys, n]: of `draws` draws, or the evidence lower bound."""
    bound = LINEAR.elbo if draws is None else lambda *a: LINEAR.importance_bound(*a, draws=draws)
    return np.asarray(jax.jit(jax.vmap(lambda key: bound(key, params, X)))(jax.random.split(KEY, keys)), np.float64)


def test_bounds_by_the_exact_posterior_are_the_likelihood():
    """Every draw of log p(x, z)/q(z|x) is log p(x); the other form of it is on average."""
    for draws in (1, 3):
        assert np.allclose(bounds(BEST, draws, 5), EXACT, atol=1e-4)
    assert_mean(bounds(BEST, None), EXACT)


def test_the_bound_lies_below_by_the_divergence_from_the_posterior():
    """KL(q ‖ p(z|x)) of two Gaussians in closed form; one draw of the other bound is the same on average."""
    mean, sigma = (np.asarray(a, np.float64) for a in LINEAR.encode(POOR, X))  # [n, latent] each
    inverse = np.linalg.inv(COVARIANCE)
    off = mean - POSTERIOR
    gap = 0.5 * (
        sigma**2 @ np.diag(inverse) + np.einsum("ni,ij,nj->n", off, inverse, off) - 2 - np.log(sigma**2).sum(1)
    ) + 0.5 * np.log(np.linalg.det(COVARIANCE))
    assert (gap > 0.1).all()
    assert_mean(bounds(POOR, None), EXACT - gap)
    assert_mean(bounds(POOR, 1), EXACT - gap)


def test_more_draws_come_nearer_to_the_likelihood_from_below():
    means = np.array([bounds(POOR, draws, 200).mean(0) for draws in (1, 10, 1000)])  # [3, n]
    assert (np.diff(means, axis=0) > 0).all()
    last = bounds(POOR, 1000, 200)
    assert_mean(np.exp(last - EXACT), np.ones(3))  # the mean of ratios has no bias
    assert np.abs(means[-1] - EXACT).max() < 0.05


def test_the_loss_weighs_the_divergence_and_the_bound_does_not():
    model = dataclasses.replace(LINEAR, beta=0.2)
    loss, bound = model.losses(KEY, POOR, X), model.elbo(KEY, POOR, X)
    assert np.allclose(bound, LINEAR.elbo(KEY, POOR, X)) and np.allclose(LINEAR.losses(KEY, POOR, X), -bound, atol=1e-5)
    mean, sigma = LINEAR.encode(POOR, X)
    divergence = (0.5 * (sigma**2 + mean**2 - 1) - jnp.log(sigma)).sum(1)
    assert np.allclose(loss + bound, (0.2 - 1) * divergence, atol=1e-4)


@pytest.mark.parametrize("draws", [False, True])
def test_points_are_drawn_with_what_the_likelihood_leaves_open_or_are_means(draws: bool):
    model = dataclasses.replace(LINEAR, draws=draws)
    found = np.asarray(jax.jit(model.sample, static_argnums=2)(KEY, BEST, 20_000), np.float64) - SHIFT
    i, j = np.triu_indices(3)
    assert_mean(found, np.zeros(3))
    assert_mean(found[:, i] * found[:, j], (OPEN if draws else MAP.T @ MAP)[i, j])


def test_codes_are_decoded_to_means():
    z = jnp.asarray(scattered(4, 2), jnp.float32)
    assert np.allclose(LINEAR.decode(BEST, z), z @ MAP + SHIFT, atol=1e-5)
    assert np.allclose(LINEAR.encode(BEST, X)[0], POSTERIOR, atol=1e-4)
    assert np.allclose(LINEAR.encode(BEST, X)[1] ** 2, np.diag(COVARIANCE), rtol=1e-4)


SHAPE = (4, 4, 1)
IMAGES = {"image": jnp.asarray(np.arange(80).reshape(5, *SHAPE) * 3, jnp.uint8), "label": jnp.array([0, 1, 2, 0, 1])}


@pytest.mark.parametrize("network", [convolutional, mixers])
def test_an_image_is_decoded_by_its_label_and_its_likelihood_clipped(network: Any):
    model = VAE(network=network, hidden=(4,), latent=2, likelihood=Normal()).shaped(IMAGES)
    params, z = model.init(KEY), jnp.zeros((2, 2))
    said = model.decode(params, z, jnp.array([0, 1]))
    assert said.shape == (2, *SHAPE) and np.abs(said[0] - said[1]).max() > 1e-3
    with pytest.raises(GenlossError, match="give one for each code"):
        model.decode(params, z)
    image = np.asarray(model.sample(KEY, params, 50)["image"])
    assert image.dtype == np.uint8 and image.min() == 0 and (image == 0).mean() > 0.3  # not -1 as 255
    greys = dataclasses.replace(model, draws=True, likelihood=DiscretisedLogistic(levels=3))
    assert set(np.unique(greys.sample(KEY, greys.init(KEY), 50)["image"])) == {0, 128, 255}


def test_a_vae_told_no_label_says_the_same_for_all():
    model = VAE(conditional=False, hidden=(4,), latent=2).shaped(IMAGES)
    params = model.closed_form(model.init(KEY), Pool.of(IMAGES))
    other = {**IMAGES, "label": 2 - IMAGES["label"]}
    assert np.array_equal(model.losses(KEY, params, IMAGES), model.losses(KEY, params, other))
    rows = [model.sample(KEY, params, 3, {"label": jnp.array(label)}) for label in ([0, 1, 2], [2, 1, 0])]
    assert np.array_equal(rows[0]["image"], rows[1]["image"]) and rows[1]["label"].tolist() == [2, 1, 0]
    assert np.allclose(params["labels"], [0.4, 0.4, 0.2]) and model.decode(params, jnp.zeros((1, 2))).shape[0] == 1


@pytest.mark.parametrize("model", [VAE(hidden=(4,), latent=2), FLOW, DENOISER], ids=lambda model: type(model).__name__)
def test_images_without_labels_make_images_without_labels(model: Any):
    rows = {"image": IMAGES["image"]}
    made = model.shaped(rows)
    params = jax.jit(lambda key: made.fit(key, made.init(key), Pool.of(rows))[0])(KEY)
    said = jax.jit(made.sample, static_argnums=2)(KEY, params, 3)
    assert said.keys() == {"image"} and said["image"].shape == (3, *SHAPE) and said["image"].dtype == jnp.uint8
    assert made.classes is None and not made.completes and np.isfinite(made.losses(KEY, params, rows)).all()
    with pytest.raises(GenlossError, match="no label"):
        made.sample(KEY, params, 3, {"label": jnp.zeros(3, jnp.int32)})


def test_points_are_not_grey_values():
    with pytest.raises(GenlossError, match="Normal"):
        VAE().shaped(X)
