"""Every measure against an independent implementation, and against what it must be."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from generators import Gaussian
from simulator import Pool, View
from simulator.probes import Diet
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
