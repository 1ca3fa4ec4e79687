"""Masked autoencoders: what they see, what they are asked, and what pre-training on a diet is worth."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from sklearn.linear_model import LogisticRegression

from generators import Gaussian
from generators.nets.masked import MaskedAutoencoder
from generators.nets.patches import cut
from simulator import Dataset, GenlossError, Pool, View
from simulator.probes import Masked
from simulator.probes.classifier import merged, started

NET = partial(MaskedAutoencoder, patch=2, width=32, depth=2)
SOURCE = Dataset.digits()


TEST, LABELLED = SOURCE.draw(jax.random.key(0), 359, held_out=True), SOURCE.draw(jax.random.key(5), 100)
PLAN = Masked(NET, steps=300, batch=64, labelled=100, learning_rate=4e-3)


def module(**fields: Any) -> Any:
    network = partial(NET, **fields)
    params = jax.jit(lambda key: started(network, (8, 8, 1), 10, key)[1])(jax.random.key(0))
    return merged(network, (8, 8, 1), 10, params)


class Slope(nnx.Module):
    """A network whose loss has the slope 1 everywhere."""

    def __init__(self) -> None:
        self.at = nnx.Param(jnp.zeros(()))

    def loss(self, key: jax.Array, images: jax.Array) -> jax.Array:
        return self.at[...]


def test_the_learning_rate_rises_over_a_tenth_and_falls_to_nothing_along_a_cosine():
    """Of a gradient that stays the same Adam makes steps of the rate."""
    graph, params = nnx.split(Slope(), nnx.Param)
    images = {"image": jnp.zeros((4, 8, 8, 1)), "label": jnp.zeros(4, jnp.int32)}
    plan = Masked(NET, steps=40, batch=2, learning_rate=1e-3)
    moved = plan.train(jax.random.key(0), graph, nnx.as_pure(params), images, jnp.ones(4))["at"]
    t = np.arange(40)
    rate = np.where(t < 4, t / 4, (1 + np.cos(np.pi * (t - 4) / 36)) / 2)
    assert -float(moved) == pytest.approx(1e-3 * rate.sum(), rel=1e-3)


def test_hidden_patches_are_not_seen():
    """Whatever is in them, the same is told of them; what is in the seen ones changes it."""
    net, x = module(), jax.random.uniform(jax.random.key(1), (5, 8, 8, 1))
    of = jax.jit(net.told)
    key = jax.random.key(2)
    told, patches, hidden = of(key, x)
    assert told.shape == patches.shape == (5, 12, 4) and all(len(set(row)) == 12 for row in np.asarray(hidden))
    mask = np.zeros((5, 16), bool)
    np.put_along_axis(mask, np.asarray(hidden), True, 1)
    pixels = mask.reshape(5, 4, 4).repeat(2, 1).repeat(2, 2)[..., None]  # [5, 8, 8, 1]
    assert np.allclose(of(key, jnp.where(pixels, 7.0, x))[0], told)
    assert not np.allclose(of(key, jnp.where(pixels, x, 7.0))[0], told, atol=1e-3)
    expected = np.asarray(cut(x, 2)).reshape(5, 16, 4)[mask].reshape(5, 12, 4)
    assert np.allclose(np.sort(patches, 1), np.sort(expected, 1))
    target = (patches - patches.mean(-1, keepdims=True)) / np.sqrt(patches.var(-1, keepdims=True) + 1e-6)
    assert float(jax.jit(net.loss)(key, x)) == pytest.approx(float(((told - target) ** 2).mean()), rel=1e-5)


def test_every_patch_is_hidden_as_often():
    hidden = np.asarray(jax.jit(module(mask=0.5).told)(jax.random.key(0), jnp.zeros((4000, 8, 8, 1)))[2])
    counts = np.bincount(hidden.ravel(), minlength=16)
    assert counts.sum() == 8 * 4000 and np.abs(counts - 2000).max() < 5 * np.sqrt(4000 / 4)


def view_of(diet: Pool, what: Masked) -> View:
    return View(jnp.int32(0), None, diet, diet.rows, TEST, Gaussian(2), prepared={what: LABELLED})


@pytest.mark.slow  # half a minute
def test_pre_training_on_real_digits_is_worth_something():
    """More right from 100 labels than with first weights; noise teaches less; rows of weight 0 are not there."""
    rows = SOURCE.draw(jax.random.key(1), 1000)
    noise = {**rows, "image": jax.random.bits(jax.random.key(3), (1000, 8, 8, 1), jnp.uint8)}
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), rows, noise)
    run = jax.jit(lambda weight: PLAN(jax.random.key(0), view_of(Pool.of(both).weighed(weight), PLAN)))
    there = jnp.concatenate([jnp.ones(1000), jnp.zeros(1000)])
    real, noisy = run(there), run(1 - there)
    assert float(real["untrained"]) == float(noisy["untrained"])
    assert float(real["accuracy"]) > float(real["untrained"]) + 0.03
    assert float(real["accuracy"]) > float(noisy["accuracy"]) + 0.03
    assert float(real["loss"]) < 0.7 < float(noisy["loss"])  # 1 for telling the mean of a patch that is not flat
    assert float(real["rows"]) == 100 and float(real["reference_rows"]) == 359


def test_the_linear_probe_against_scikit_learn():
    net = module()
    graph, params = nnx.split(net)
    found = np.exp(jax.jit(lambda p: PLAN._read(graph, p, LABELLED, TEST, 10))(params))
    x, y = (np.asarray(jax.jit(net.features)(rows["image"] / 255.0)) for rows in (LABELLED, TEST))
    mean, spread = x.mean(0), x.std(0)
    reference = LogisticRegression(max_iter=2000, tol=1e-6).fit((x - mean) / spread, LABELLED["label"])
    assert np.allclose(found, reference.predict_proba((y - mean) / spread), atol=2e-3)


def test_what_is_prepared_are_labelled_training_rows():
    rows = PLAN.prepare(jax.random.key(0), SOURCE)
    assert rows["image"].shape == (100, 8, 8, 1)
    SOURCE.guard(rows)


def test_what_cannot_be_masked_is_said():
    fields: dict[str, Any]
    for fields, word in (({"steps": 0}, "steps"), ({"penalty": 0.0}, "penalty"), ({"labelled": 0}, "labelled")):
        with pytest.raises(GenlossError, match=word):
            Masked(NET, **fields)
    for fields, word in (({"mask": 1.0}, "mask"), ({"heads": 3}, "heads"), ({"patch": 3}, "patch")):
        with pytest.raises(GenlossError, match=word):
            module(**fields)
