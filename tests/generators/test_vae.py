"""The variational autoencoder: its loss against the bound written out in NumPy, and its samples against their law."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_mean

from generators.vae import VAE
from simulator import GenlossError, Pool

KEY = jax.random.key(0)
SMALL = VAE(shape=(2, 3, 1), classes=3, latent=2, hidden=(4,))
CHANCE = np.random.default_rng(0)


def known(model: VAE) -> Any:
    """Parameters that are all different, none near 0, and say something of every input."""
    leaves, tree = jax.tree.flatten(model.init(KEY))
    return jax.tree.unflatten(tree, [jnp.asarray(0.7 * CHANCE.normal(size=a.shape), jnp.float32) for a in leaves])


def through(layers: Any, x: np.ndarray) -> np.ndarray:
    """An MLP with GELU between its layers, in its approximation by tanh (Hendrycks & Gimpel 2016, arXiv:1606.08415)."""
    for i in range(len(layers)):
        if i:
            x = x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2
        x = x @ np.asarray(layers[i]["kernel"], np.float64) + np.asarray(layers[i]["bias"], np.float64)
    return x


def bound(model: VAE, params: Any, rows: Any, eps: np.ndarray) -> np.ndarray:
    """-log p(x|z,y) + beta·KL(N(mean, σ²) ‖ N(0, I)), z = mean + σ·eps, of every row: [n].

    Every term from the densities themselves: the Bernoulli probabilities of pixels, and the Gaussian divergence as
    Σ log(1/σ) + (σ² + mean²)/2 - 1/2.
    """
    x = np.asarray(rows["image"], np.float64).reshape(len(eps), -1) / 255
    y = np.eye(3)[np.asarray(rows["label"])]
    told = through(params["encoder"]["layers"], np.concatenate([x, y], 1))
    mean, sigma = told[:, : model.latent], np.sqrt(np.exp(told[:, model.latent :]))
    p = 1 / (1 + np.exp(-through(params["decoder"]["layers"], np.concatenate([mean + sigma * eps, y], 1))))
    likelihood = (x * np.log(p) + (1 - x) * np.log(1 - p)).sum(1)
    divergence = (np.log(1 / sigma) + (sigma**2 + mean**2) / 2 - 0.5).sum(1)
    return -likelihood + model.beta * divergence


def rows(n: int) -> Any:
    image = CHANCE.integers(0, 256, (n, 2, 3, 1)).astype(np.uint8)
    return {"image": jnp.asarray(image), "label": jnp.asarray(CHANCE.integers(0, 3, n), jnp.int32)}


@pytest.mark.parametrize("beta", [1.0, 0.3])
def test_the_loss_is_the_evidence_lower_bound(beta: float):
    """On known weights, for the noise that the key stands for."""
    model = dataclasses.replace(SMALL, beta=beta)
    params, batch = known(model), rows(7)
    eps = np.asarray(jax.random.normal(KEY, (7, 2)), np.float64)
    found = float(jax.jit(model.loss)(KEY, params, batch))
    assert found == pytest.approx(bound(model, params, batch, eps).mean(), rel=1e-5)


def test_the_loss_is_the_bound_on_average_over_its_noise():
    """Whatever number stands for the noise: within standard errors of what NumPy's normal numbers give."""
    params, batch = known(SMALL), rows(2)
    found = jax.jit(jax.vmap(lambda key: SMALL.loss(key, params, batch)))(jax.random.split(KEY, 4000))
    expected = [bound(SMALL, params, batch, CHANCE.normal(size=(2, 2))).mean() for _ in range(4000)]
    error = np.hypot(np.std(found), np.std(expected)) / math.sqrt(4000)
    assert abs(np.mean(found) - np.mean(expected)) < 5 * error


def linear(model: VAE, kernel: np.ndarray, labels: Any) -> Any:
    """Parameters whose decoder is kernelᵀ (z, y)."""
    params = model.init(KEY)
    leaves, tree = jax.tree.flatten(params["decoder"])
    assert [leaf.shape for leaf in leaves] == [kernel.shape[1:], kernel.shape]
    decoder = jax.tree.unflatten(tree, [jnp.zeros(kernel.shape[1]), jnp.asarray(kernel, jnp.float32)])
    return {**params, "decoder": decoder, "labels": jnp.asarray(labels)}


def logits(image: Any) -> np.ndarray:
    """What a decoder said of pixels, [n, pixels], but for the rounding to bytes."""
    x = np.asarray(image, np.float64).reshape(len(image), -1) / 255
    return np.log(x / (1 - x))


@pytest.mark.parametrize("temperature", [0.5, 1.5])
def test_what_a_linear_decoder_says_has_the_covariance_of_its_map_at_a_temperature(temperature: float):
    model = dataclasses.replace(SMALL, hidden=(), shape=(1, 3, 1), temperature=temperature)
    map_ = np.array([[0.5, 0.2, 0.0], [0.0, 0.3, -0.4]])  # [latent, pixels]
    params = linear(model, np.concatenate([map_, np.zeros((3, 3))]), np.full(3, 1 / 3))
    found = logits(jax.jit(model.sample, static_argnums=2)(KEY, params, 20_000)["image"])
    i, j = np.triu_indices(3)
    assert_mean(found, np.zeros(3))
    assert_mean(found[:, i] * found[:, j], temperature**2 * (map_.T @ map_)[i, j])


def test_an_image_is_that_of_its_own_label_and_labels_have_their_share():
    model = dataclasses.replace(SMALL, hidden=(), shape=(1, 3, 1))
    shares = np.array([0.5, 0.2, 0.3])
    said = np.array([[-2.0, 0.0, 1.0], [1.0, -1.0, 0.0], [0.0, 2.0, -2.0]])  # [classes, pixels]
    params = linear(model, np.concatenate([np.zeros((2, 3)), said]), shares)
    found = jax.jit(model.sample, static_argnums=2)(KEY, params, 5000)
    expected = np.round(255 / (1 + np.exp(-said)))[np.asarray(found["label"])]
    assert np.abs(np.asarray(found["image"], int).reshape(5000, 3) - expected).max() <= 1
    assert_mean(np.asarray(found["label"])[:, None] == np.arange(3), shares)


def test_labels_have_their_weighted_share_of_the_diet():
    batch = {**rows(4), "label": jnp.array([0, 1, 1, 2])}
    pool = Pool.of(batch).weighed(jnp.array([1.0, 2.0, 5.0, 0.0]))
    assert np.allclose(SMALL.closed_form(SMALL.init(KEY), pool)["labels"], [1 / 8, 7 / 8, 0])


def test_a_vae_of_fewer_classes_than_it_is_shown_is_refused():
    with pytest.raises(GenlossError, match="raise `classes`"):
        dataclasses.replace(SMALL, classes=2).shaped({**rows(3), "label": jnp.arange(3)})
