"""Exposure of items against formulas by pairs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from generators import Gaussian
from simulator import GenlossError, Pool, View
from simulator.probes import Exposure
from simulator.probes.exposure import gini

KEY, CHANCE = jax.random.key(0), np.random.default_rng(0)


def view(rows: object) -> View:
    return View(jnp.int32(0), None, Pool.of(rows), rows, rows, Gaussian(1))


@pytest.mark.parametrize("x", [[1, 1, 1, 1], [0, 0, 0, 7], [3, 0, 1, 9, 2.5], CHANCE.gamma(0.3, size=30)])
def test_gini_is_the_mean_difference_of_pairs(x: list[float]):
    a = np.array(x, np.float64)
    brute = np.mean([abs(p - q) for p in a for q in a]) / (2 * a.mean())
    assert np.isclose(gini(jnp.asarray(a, jnp.float32)), brute, atol=1e-6)


def test_exposure_counts_by_rows_and_pairs_of_rows():
    n, users, items = 40, 4, 9
    rows = {
        "user": CHANCE.integers(0, users, n).astype(np.int32),
        "item": (CHANCE.random(n) ** 2 * (items - 1)).astype(np.int32),
        "click": CHANCE.integers(0, 2, n).astype(np.int32),
    }
    found = Exposure(users=users, items=items)(KEY, view(jax.tree.map(jnp.asarray, rows)))
    shown = np.bincount(rows["item"], minlength=items)
    pairs = [(i, j) for i in range(n) for j in range(n) if rows["user"][i] != rows["user"][j]]
    assert np.isclose(found["overlap"], np.mean([rows["item"][i] == rows["item"][j] for i, j in pairs]))
    assert np.isclose(found["coverage"], (shown > 0).mean()) and found["coverage"] < 1
    assert np.isclose(found["clicks"], rows["click"].mean())
    assert np.isclose(found["gini"], np.mean(np.abs(shown[:, None] - shown)) / (2 * shown.mean()))


def test_rows_of_something_else_are_refused():
    with pytest.raises(GenlossError, match="a user, an item and a click"):
        Exposure(users=2, items=2)(KEY, view(jnp.zeros((3, 2))))
