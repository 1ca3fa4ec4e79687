"""The examples in docstrings: closed forms, schedules, and recipes."""

import doctest
import importlib

import jax
import jax.numpy as jnp
import pytest

from simulator import recipe
from simulator.pool import Pool

# Of recipes: two real rows and three that generation 0 wrote, whose values are their numbers, at the second fit.
SHOWN = Pool.of(jnp.arange(1.0, 6.0)[:, None]).replace(origin=jnp.array([0, 0, 1, 1, 1]), scores=jnp.arange(5.0))

FILES = {
    "simulator.numerics.schedule": 5,
    "simulator.theory.counts": 20,
    "simulator.theory.gaussian": 11,
    "simulator.theory.golden": 7,
    "simulator.theory.regression": 4,
    "simulator.theory.smoothing": 7,
    "simulator.recipe.mixing": 7,
    "simulator.recipe.choosing": 4,
    "simulator.recipe.combine": 2,
    "simulator.recipe.contamination": 1,
    "simulator.recipe.likely": 1,
    "simulator.recipe.suspects": 3,
}


@pytest.mark.parametrize("name", FILES)
def test_examples_say_what_comes_out(name: str):
    shown = {**vars(recipe), "key": jax.random.key(0), "pool": SHOWN, "jnp": jnp}
    found = doctest.testmod(importlib.import_module(name), extraglobs=shown)
    assert found.failed == 0 and found.attempted >= FILES[name]
