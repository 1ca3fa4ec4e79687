"""Every measure against an independent implementation, and against what it must be."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.neural_network import MLPClassifier

from generators import Gaussian
from generators.nets.mlp import MLP
from simulator import Dataset, Pool, View
from simulator.pool import take
from simulator.probes import Diet, Downstream
from simulator.probes.features import flat

CHANCE = np.random.default_rng(0)


def view_of(synthetic: Any, reference: Any, diet: Pool | None = None, t: int = 0) -> View:
    diet = diet or Pool.of(synthetic)
    as_arrays = partial(jax.tree.map, jnp.asarray)
    return View(jnp.int32(t), None, diet, as_arrays(synthetic), as_arrays(reference), Gaussian(2))


def probe(what: Any, *arguments: Any, **more: Any) -> dict[str, Any]:
    return what(jax.random.key(0), view_of(*arguments, **more))


def test_features_scale_bytes():
    images = CHANCE.integers(0, 256, (3, 2, 2, 1)).astype(np.uint8)
    assert np.allclose(flat({"image": jnp.asarray(images), "label": None}), images.reshape(3, 4) / 255)
    assert np.allclose(flat(jnp.ones((3, 2))), 1)


def test_diet_against_counting():
    pool = Pool(
        rows=jnp.zeros((6, 1)),
        origin=jnp.array([0, 0, 1, 1, 1, 0]),
        birth=jnp.array([0, 0, 0, 1, 7, -1]),
        weight=jnp.array([1.0, 0.5, 2.0, 1.0, 0.5, 0.0]),
    )
    found = probe(Diet(births=3), np.zeros((4, 1), np.float32), np.zeros((4, 1), np.float32), diet=pool)
    assert float(found["real"]) == pytest.approx(1.5 / 5)
    assert np.allclose(found["birth"], [2 / 5, 1 / 5, 0.5 / 5])
    assert float(found["effective_size"]) == pytest.approx(25 / 6.5)
    assert int(found["rows"]) == 5


def digits(n: int) -> tuple[Any, Any]:
    source = Dataset.digits()
    return source.draw(jax.random.key(1), n), source.draw(jax.random.key(0), 359, held_out=True)


DOWNSTREAM = Downstream(partial(MLP, hidden=(64,)))


def test_classifiers_are_as_good_as_scikit_learns():
    train, test = digits(1000)
    found = probe(DOWNSTREAM, train, test)
    reference = MLPClassifier((64,), max_iter=60, random_state=0, learning_rate_init=3e-3)
    with np.errstate(all="ignore"):
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its own word that 60 epochs may be too few
            reference.fit(flat(train), train["label"])
    expected = reference.score(flat(test), test["label"])
    for sense in ("diet", "samples"):
        assert float(found[sense]["accuracy"]) > expected - 0.02


def test_each_sense_learns_from_its_own_rows():
    """A diet of right labels and samples of wrong ones; weight 0 hides wrong rows in the diet."""
    train, test = digits(800)
    wrong = {**train, "label": (train["label"] + 1) % 10}
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), train, wrong)
    diet = Pool.of(both).weighed(jnp.concatenate([jnp.ones(800), jnp.zeros(800)]))
    found = probe(DOWNSTREAM, wrong, test, diet=diet)
    assert float(found["diet"]["accuracy"]) > 0.9 and float(found["samples"]["accuracy"]) < 0.05


def test_accuracy_by_class():
    train, test = digits(800)
    few = take(train, jnp.flatnonzero(train["label"] != 3))  # a class that is gone
    found = probe(DOWNSTREAM, few, test)["samples"]
    counts = np.bincount(np.asarray(test["label"]))
    assert float(found["worst"]) == float(found["class"][3]) == 0.0
    assert float(found["accuracy"]) == pytest.approx(float((found["class"] * counts).sum() / counts.sum()), rel=1e-5)


def test_a_network_of_generation_zero_serves_as_training_data():
    """A classifier trained on the samples of the digits experiment's first generation: >= 85 % on real digits."""
    from experiments.digits import chain
    from simulator import run, spec
    from simulator.recipe import Replace

    found = run(spec.override(chain, {"recipe": Replace()}), jax.random.key(5), 1, replicates=2)
    assert np.asarray(found["downstream.samples.accuracy"]).min() >= 0.85
    assert np.asarray(found["downstream.diet.accuracy"]).min() >= 0.93
