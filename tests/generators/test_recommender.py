"""The feedback loop: factors against normal equations of numpy, its users, and a law where it is a small chain."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_mean

from generators import Recommender
from generators.recommender import RecommenderParams, Tastes
from simulator import Chain, Pool, Truth, simulate
from simulator.probes import Exposure
from simulator.recipe import Accumulate, Mix, Replace

KEY = jax.random.key(0)
WORLD = Tastes(users=6, items=5, seed=3)
WEIGHT: Any = np.random.default_rng(0).integers(0, 4, 60).astype(np.float32)


def test_factors_are_the_alternating_solutions_of_normal_equations():
    """Row by row in float64, from the same start."""
    model = Recommender(world=WORLD, rank=2, ridge=0.7, alternations=3, unseen=0.2)
    log, start = WORLD.sample(KEY, {}, 60), model.init(jax.random.key(1))
    found, _ = model.fit(KEY, start, Pool.of(log).weighed(WEIGHT))
    user, item, click = (np.asarray(log[name]) for name in ("user", "item", "click"))
    users, items = (np.asarray(side, np.float64) for side in start)

    def given(other: np.ndarray, mine: np.ndarray, theirs: np.ndarray, size: int) -> np.ndarray:
        side = np.zeros((size, 2))
        for u in range(size):
            gram, right = 0.7 * np.eye(2), np.zeros(2)
            for k in np.flatnonzero(mine == u):
                gram += WEIGHT[k] * np.outer(other[theirs[k]], other[theirs[k]])
                right += WEIGHT[k] * (click[k] - 0.2) * other[theirs[k]]
            side[u] = np.linalg.solve(gram, right)
        return side

    for _ in range(3):
        users = given(items, user, item, 6)
        items = given(users, item, user, 5)
    assert np.allclose(found.users, users, atol=1e-5) and np.allclose(found.items, items, atol=1e-5)
    assert np.allclose(model.scores(found), 0.2 + users @ items.T, atol=1e-5)


def test_users_are_shown_what_the_policy_says_and_click_as_the_world_says():
    params = RecommenderParams(jnp.eye(6, 2), jnp.array([[0.3, 0.0], [0.1, 0.2], [0.0, 0.3], [0.2, 0.2], [0.0, 0.0]]))
    model = Recommender(world=WORLD, rank=2, temperature=0.15, explore=0.3)
    score = np.asarray(params.users) @ np.asarray(params.items).T
    policy = 0.7 * np.exp(score / 0.15) / np.exp(score / 0.15).sum(1, keepdims=True) + 0.3 / 5
    assert np.allclose(model.shown(params), policy, atol=1e-6)
    pairs: Any = ((model, params, policy), (WORLD, {}, np.full((6, 5), 1 / 5)))
    for writer, said, shown in pairs:
        log = writer.sample(KEY, said, 60_000)
        pair = np.eye(30)[np.asarray(log["user"] * 5 + log["item"])]  # [rows, 30]
        assert_mean(pair, shown.ravel() / 6)
        assert_mean(np.asarray(log["click"])[:, None] * pair, (shown * np.asarray(WORLD.clicks)).ravel() / 6)


def test_how_much_users_agree_and_how_far_tastes_spread():
    """The log-odds of many users: their variance among items, and what of it is common to all."""
    world = Tastes(users=300, items=400, rank=3, level=-0.5, spread=0.8, common=0.4)
    odds = np.log(np.asarray(world.clicks, np.float64)) - np.log1p(-np.asarray(world.clicks, np.float64))
    assert np.isclose(odds.mean(), -0.5, atol=0.1)
    assert np.isclose(odds.var(), 0.64, rtol=0.15)
    assert np.isclose(odds.mean(0).var() / odds.var(), 0.4, atol=0.1)
    alike = Tastes(users=3, items=4, common=1.0).clicks
    assert np.allclose(alike, alike[0])
    assert not np.allclose(Tastes(seed=1).clicks, Tastes().clicks)


def occupied(n: int, size: int) -> np.ndarray:
    """P[m, k]: n draws from m kinds, all alike, hit k of them, [size + 1, size + 1]."""
    table = np.zeros((size + 1, size + 1))
    for m in range(1, size + 1):
        hit = np.zeros(size + 1)
        hit[0] = 1
        for _ in range(n):
            k = np.arange(size + 1)
            hit = hit * k / m + np.append(0, hit[:-1] * (m - k[:-1]) / m)
        table[m] = hit
    return table


@pytest.mark.parametrize("recipe", [Replace(), Accumulate(), Mix(real=1.0, size=5)], ids=lambda r: type(r).__name__)
def test_items_die_out_as_a_chain_of_coupons(recipe: Any):
    """One user who clicks on all of 4 items: what was shown is believed to be liked and what was not is not, so that
    the next n rows are drawn from what is left, all alike: how many are left is a Markov chain; if all rows are kept
    none is lost again, and real rows alone leave what they hit."""
    items, n = 4, 5
    world = Tastes(users=1, items=items, level=30.0)
    chain = Chain(
        source=Truth(world),
        generator=Recommender(world=world, rank=1, ridge=1e-6, temperature=0.03, alternations=3),
        recipe=recipe,
        probes={"exposure": Exposure(users=1, items=items)},
        real=n,
        rows=n,
        held_out=0,
    )
    find = jax.jit(jax.vmap(lambda key: simulate(chain, key, 5)["exposure.coverage"]))
    left = np.asarray(find(jax.random.split(KEY, 2000))) * items  # [chains, generations]
    table, law = occupied(n, items), np.eye(items + 1)[items]
    first, expected = law @ table, []  # of the kinds in the real rows
    for _ in range(5):
        law = law @ table if isinstance(recipe, Replace) else first
        expected.append(law @ table @ np.arange(items + 1))
    assert_mean(left, expected)


def test_unseen_items_are_tried_where_they_are_thought_better():
    """One item was shown and never clicked: another is shown next if what is unseen scores above 0."""
    world = Tastes(users=1, items=3)
    log = {"user": jnp.zeros(8, jnp.int32), "item": jnp.ones(8, jnp.int32), "click": jnp.zeros(8, jnp.int32)}
    for unseen, expected in ((0.0, [1 / 3] * 3), (0.9, [0.5, 0.0, 0.5])):
        model = Recommender(world=world, rank=1, ridge=1e-3, temperature=0.02, unseen=unseen, alternations=50)
        params, _ = model.fit(KEY, model.init(KEY), Pool.of(log))
        assert np.allclose(model.shown(params), [expected], atol=1e-3)
