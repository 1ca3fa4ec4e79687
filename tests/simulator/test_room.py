"""What a chain eats depends on what it kept and not on the room it has: longer runs, and all that recipes reach."""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import cases
from plugins import RECIPES, itself, negative

from simulator import Chain, Pool, Truth, run, simulate
from simulator import recipe as recipes
from simulator.numerics.chance import fold_in, words
from simulator.recipe import Mix, Select, Then
from simulator.recipe.contamination import Contaminate
from simulator.recipe.contract import wants_scores
from simulator.recipe.suspects import FarthestPoints


@dataclass(frozen=True)
class Ledger:
    """Its parameter is a checksum of the rows that it ate, and its rows follow from that: one other row changes all."""

    def init(self, key: jax.Array) -> jax.Array:
        return jnp.uint32(0)

    def fit(self, key: jax.Array, params: jax.Array, pool: Pool) -> tuple[jax.Array, dict[str, jax.Array]]:
        bits = jax.lax.bitcast_convert_type(pool.rows, jnp.uint32)  # [capacity, 2]
        mixed = (bits ^ (bits >> 15)) * jnp.array([0x9E3779B1, 0x85EBCA6B], jnp.uint32)
        row = (mixed[:, 0] ^ (mixed[:, 1] >> 13)) * jnp.uint32(0xC2B2AE35)  # [capacity]
        return jnp.where(pool.weight > 0, row ^ (row >> 16), 0).sum(dtype=jnp.uint32), {}

    def sample(self, key: jax.Array, params: jax.Array, n: int) -> jax.Array:
        """[n, 2], uniform on [-1, 1) in whole steps, so that no rounding tells one program from another."""
        return (words(fold_in(key, params), (n, 2)) >> 10).astype(jnp.float32) * 2.0**-21 - 1

    def log_prob(self, params: jax.Array, rows: jax.Array) -> jax.Array:
        """[n], no density but an order of rows, for recipes that ask a model for one."""
        return rows[:, 0]


def births(key: jax.Array, view: Any) -> dict[str, jax.Array]:
    """The checksum in two halves, which float32 holds; what was eaten, by origin and birth, [2 * 6]."""
    diet, params = view.diet, view.params
    kind = jnp.where(diet.filled, diet.origin * 6 + diet.birth, 0)
    mass = jax.ops.segment_sum(diet.weight, kind, 12)
    return {"upper": params >> 16, "lower": params & 0xFFFF, "mass": mass}


@dataclass(frozen=True)
class Kept:
    """A recipe that does not say how far back it reaches."""

    recipe: Any

    @property
    def wants_scores(self) -> bool:
        return wants_scores(self.recipe)

    def __call__(self, key: jax.Array, t: jax.Array, pool: Pool) -> jax.Array:
        return self.recipe(key, t, pool)


LONG, SHORT, KEYS = 5, 3, 12


def ledgers(recipe: Any, fresh: int) -> Chain:
    fields: dict[str, Any] = {"probes": {"ate": births}, "real": 30, "rows": 30, "fresh": fresh, "held_out": 0}
    return Chain(source=Truth(Ledger()), generator=Ledger(), recipe=recipe, **fields)


@functools.cache
def found(recipe: Any, fresh: int, generations: int) -> Any:
    chain = ledgers(recipe, fresh)
    return jax.jit(jax.vmap(lambda k: simulate(chain, k, generations)))(jax.random.split(jax.random.key(0), KEYS))


WINDOW = Mix(real=0.5, size=20, window=2)
CASES = {f"{i} {type(recipe).__name__}": (recipe, 10) for i, recipe in enumerate(RECIPES)} | {
    "window, no fresh": (WINDOW, 0),
    "mix": (Mix(real=0.5, size=20), 10),
    "curate": (recipes.Curate(negative, 2), 10),
    "augment": (recipes.Augment(0.5), 10),
    "contaminate": (Contaminate(0.2, nested=False), 0),
    "subsample": (recipes.Subsample(15), 0),
    "farthest": (Then(recipes.Window(3), FarthestPoints(0.5, features=itself)), 0),
    "one forgets": (Select((recipes.Replace(), Mix(real=0.5, size=20)), 1), 0),
}
QUICK = "window, no fresh; mix; curate; augment; contaminate; subsample; farthest; one forgets"


@pytest.mark.quick("one forgets")
@pytest.mark.parametrize(("recipe", "fresh"), cases(CASES, QUICK))
def test_more_generations_to_come_change_nothing_that_is_eaten(recipe: Any, fresh: int):
    short, long = found(recipe, fresh, SHORT), found(recipe, fresh, LONG)
    for name in ("upper", "lower"):
        assert np.array_equal(short[f"ate.{name}"], long[f"ate.{name}"][:, :SHORT])
    assert np.allclose(short["ate.mass"], long["ate.mass"][:, :SHORT], rtol=1e-5)
    assert len(np.unique(long["ate.lower"])) > KEYS  # chains differ


@pytest.mark.quick("window, no fresh")
@pytest.mark.parametrize(("recipe", "fresh"), cases(CASES, "window, no fresh; mix; curate; augment; one forgets"))
def test_the_pool_holds_all_that_a_recipe_reaches(recipe: Any, fresh: int):
    """In some of the chains at least the same births are eaten as where everything is kept."""
    ring, whole = found(recipe, fresh, LONG), found(Kept(recipe), fresh, LONG)
    assert np.array_equal((ring["ate.mass"] > 0).any(0), (whole["ate.mass"] > 0).any(0))
    assert np.allclose(ring["fit.mass"].mean(0), whole["fit.mass"].mean(0), rtol=0.1)


@pytest.mark.slow
def test_a_stored_run_that_is_extended_is_the_longer_run(tmp_path: Any):
    """With fresh rows, which stay eligible: the pool of the longer run is half as large again."""
    chain = ledgers(Mix(real=0.5, size=20), fresh=10)
    key = jax.random.key(1)
    run(chain, key, SHORT, tmp_path / "grown")
    grown, whole = run(chain, key, LONG, tmp_path / "grown"), run(chain, key, LONG)
    for name in ("upper", "lower", "mass"):
        assert np.array_equal(grown[f"ate.{name}"], whole[f"ate.{name}"])
