"""Whether the yardstick of `bench quality` says of rows what is known of them."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.bench import quality
from generators.nets.mlp import MLP
from generators.vae import VAE
from simulator import Dataset
from simulator.probes import Learned

WORLD = quality.World(
    Dataset.digits(), Learned(partial(MLP, hidden=(16,)), steps=20), Learned(partial(MLP, hidden=(32,)), steps=150), {}
)


@pytest.fixture(scope="module")
def judged():
    return WORLD.judged


def test_real_rows_are_as_good_as_rows_can_be(judged):
    """The training rows are copies of themselves, a quarter of them is as near to held-out rows as those are, and a
    classifier learns."""
    said = judged(WORLD.real)
    assert said["near"] == 1
    assert said["accuracy"] > 0.9
    for measure in ("precision", "recall", "coverage"):
        assert said[measure].shape == (4,)  # 1,438 rows against 359
        assert said[measure].min() > 0.9 and said[f"pixel {measure}"].min() > 0.9
    assert abs(said["density"].mean() - 1) < 0.1


def test_one_image_again_and_again_is_told(judged):
    """It has a neighbourhood of nothing, and a classifier that has seen one class says only that."""
    one = jax.tree.map(lambda a: jnp.repeat(a[:1], len(a), 0), WORLD.real)
    said = judged(one)
    for space in ("", "pixel "):
        assert said[f"{space}recall"].max() == 0
        assert said[f"{space}coverage"].max() < 0.1
    share = np.mean(np.asarray(WORLD.held_out["label"]) == int(one["label"][0]))
    np.testing.assert_allclose(said["accuracy"], share, rtol=1e-6)


def test_wrong_labels_teach_nothing_and_change_no_distance(judged):
    """Labels moved on by one: a classifier is as wrong as can be, and images are what they were."""
    moved = {**WORLD.real, "label": (WORLD.real["label"] + 1) % 10}
    said, right = judged(moved), judged(WORLD.real)
    assert said["accuracy"] < 0.05
    for measure in ("recall", "frechet", "pixel density", "near"):
        np.testing.assert_array_equal(said[measure], right[measure])


def test_a_table_has_real_rows_and_every_model(judged, capsys):
    """Each with all measures; the images shown are held-out rows and what the last model says."""
    model = VAE(hidden=(16,), steps=20, chunk=20)
    world = dataclasses.replace(WORLD, models={"VAE": model})
    world.__dict__["judged"] = judged  # compiled already
    shown = quality.compared("digits", world)
    lines = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert [line[0].strip() for line in lines] == ["samples", "-" * 18, "real training rows", "VAE"]
    assert all(float(cell) >= 0 for line in lines[2:] for cell in line[4:])
    np.testing.assert_array_equal(shown["digits: real"], np.asarray(WORLD.held_out["image"][:24]))
    params = jax.eval_shape(model.shaped(WORLD.real).init, jax.random.key(0))
    assert int(lines[3][1].replace(",", "")) == sum(leaf.size for leaf in jax.tree.leaves(params))
    assert shown["digits: VAE"].shape == (24, 8, 8, 1)
    assert np.any(shown["digits: VAE"] != shown["digits: real"])
    assert quality.drawn(shown).axes[0].images[0].get_array().shape == (10, 240)  # a frame around each image
