"""What each recipe gives weight to, and what it refuses."""

from collections import defaultdict
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_mean, gaussian_chain

from simulator import GenlossError, Pool, schedule
from simulator.numerics.selection import choose, draw, effective_size
from simulator.recipe import (
    Accumulate,
    Augment,
    Curate,
    Decay,
    Fresh,
    Mix,
    NoFresh,
    Reweigh,
    Select,
    Subsample,
    Then,
    Verify,
    Window,
)
from simulator.recipe import Replace as Latest
from simulator.recipe.contract import horizon


def pool(t: int, real: int = 6, rows: int = 4, fresh: int = 2) -> Pool:
    """What a chain holds at fit t when everything is kept, with two empty slots; the row's value is its slot."""
    origin, birth = [0] * real, [0] * real
    for s in range(t):
        origin += [1] * rows + [0] * fresh
        birth += [s] * rows + [s + 1] * fresh
    origin, birth = np.array([*origin, 0, 0]), np.array([*birth, -1, -1])
    n = len(origin)
    table = Pool(jnp.arange(n, dtype=jnp.float32)[:, None], jnp.asarray(origin), jnp.asarray(birth), jnp.ones(n))
    return table.weighed(jnp.ones(n))


def eaten(recipe: Any, t: int, shown: Pool | None = None, seed: int = 0) -> dict[tuple[str, int], float]:
    """(kind, birth) -> mass of the diet at fit t."""
    shown = shown or pool(t)
    weight = np.asarray(shown.weighed(recipe(jax.random.key(seed), jnp.int32(t), shown)).weight)
    found: dict[tuple[str, int], float] = defaultdict(float)
    for w, o, b in zip(weight, np.asarray(shown.origin), np.asarray(shown.birth), strict=True):
        if w:
            found[("real" if o == 0 else "synthetic", int(b))] += float(w)
    return found


R, S = "real", "synthetic"


@pytest.mark.parametrize(
    ("recipe", "t", "expected"),
    [
        (NoFresh(), 2, {(R, 0): 6, (S, 0): 4, (S, 1): 4}),
        (Fresh(1), 2, {(R, 0): 6, (S, 0): 4, (R, 1): 1, (S, 1): 4, (R, 2): 1}),
        (Fresh(schedule("table", 9, 1, 0)), 2, {(R, 0): 6, (S, 0): 4, (R, 1): 1, (S, 1): 4}),
        (Accumulate(), 2, {(R, 0): 6, (S, 0): 4, (R, 1): 2, (S, 1): 4, (R, 2): 2}),
        (Latest(), 0, {(R, 0): 6}),
        (Latest(), 2, {(S, 1): 4, (R, 2): 2}),
        (Window(2), 2, {(S, 0): 4, (R, 1): 2, (S, 1): 4, (R, 2): 2}),
        (Window(3), 2, {(R, 0): 6, (S, 0): 4, (R, 1): 2, (S, 1): 4, (R, 2): 2}),
        (Decay(0.5), 2, {(R, 0): 1.5, (S, 0): 2, (R, 1): 1, (S, 1): 4, (R, 2): 2}),
        (Mix(real=0.5, size=4, fresh=True), 2, {(R, 2): 2, (S, 1): 2}),
        (Mix(real=0.0, size=4), 2, {(S, 1): 4}),
        (Mix(real=1.0, size=6), 0, {(R, 0): 6}),
        (Augment(ratio=0.25), 1, {(R, 0): 6, (R, 1): 2, (S, 0): 2}),
        (Then(Window(1), Augment(ratio=1.0)), 2, {(R, 2): 2, (S, 1): 2}),
        (Reweigh(real=0.5), 1, {(R, 0): 4.5, (R, 1): 1.5, (S, 0): 6}),
        (Reweigh(real=0.5), 0, {(R, 0): 6}),
        (Then(Latest(), Reweigh(real=0.75)), 2, {(S, 1): 1.5, (R, 2): 4.5}),
        (Then(Window(2), Decay(0.5)), 2, {(S, 0): 2, (R, 1): 1, (S, 1): 4, (R, 2): 2}),
        (Select((Latest(), Accumulate()), 1), 1, {(R, 0): 6, (S, 0): 4, (R, 1): 2}),
    ],
    ids=lambda value: type(value).__name__ if callable(value) else "",
)
def test_who_eats_what(recipe: Any, t: int, expected: dict[tuple[str, int], float]):
    found = eaten(recipe, t)
    assert found.keys() == expected.keys()
    assert all(found[k] == pytest.approx(v, rel=1e-5) for k, v in expected.items())


@pytest.mark.quick("0.0-1", "0.25-3", "1.0-1")
@pytest.mark.parametrize("t", [1, 3])
@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_mix_counts_are_exact_and_change_with_the_key(t: int, share: float):
    shown = pool(t)

    @jax.jit
    @jax.vmap
    def weights(key: jax.Array) -> Any:
        return [shown.weighed(Mix(real=r, size=4)(key, jnp.int32(t), shown)).weight for r in (share, 0.5)]

    found, half = np.asarray(weights(jax.random.split(jax.random.key(0), 8)))  # [keys, capacity] each
    real, last = np.asarray(shown.real), np.asarray(shown.synthetic & (shown.birth == t - 1))
    assert (found[:, real].sum(1) == round(4 * share)).all()
    assert (found[:, last].sum(1) == 4 - round(4 * share)).all() and (found.sum(1) == 4).all()
    assert len({tuple(weight) for weight in half}) > 1


def test_schedules_are_numbers():
    shares = [eaten(Mix(real=schedule("linear", 1.0, 0.0, 4), size=4), t) for t in (1, 2, 3)]
    assert [sum(v for (k, _), v in d.items() if k == R) for d in shares] == [3, 2, 1]
    assert float(schedule("cosine", 2.0, 1.0, 10)(5)) == pytest.approx(1.5)
    assert float(schedule("exponential", 2.0, 0.5)(2)) == pytest.approx(0.5)
    assert [float(schedule("step", 1.0, 0.0, 2)(t)) for t in (1, 2)] == [1.0, 0.0]
    assert [float(schedule("table", 1.0, 3.0)(t)) for t in (0, 1, 7)] == [1.0, 3.0, 3.0]


def test_a_schedule_that_is_none_is_refused():
    assert schedule("linear", start=1.0, end=0.0, generations=4) == schedule("linear", 1.0, 0.0, generations=4)
    with pytest.raises(GenlossError, match="There is no schedule 'linar'"):
        schedule("linar", 1.0)
    with pytest.raises(GenlossError, match="takes start, end, generations; it was given 2"):
        schedule("linear", 1.0, 0.0)
    with pytest.raises(GenlossError, match="takes start, rate"):
        schedule("exponential", 1.0, speed=2.0)


def test_verify_keeps_real_rows_and_good_synthetic_ones():
    def even(rows: jax.Array) -> jax.Array:
        return (rows[:, 0] % 2 == 0).astype(jnp.float32)

    found = eaten(Verify(even, 0.5), 1)  # synthetic rows are slots 6..9
    assert found == {(R, 0): 6, (R, 1): 2, (S, 0): 2}


def test_curate_keeps_one_of_k_with_bradley_terry_odds():
    rows = 400
    shown = pool(1, rows=rows)
    recipe = Curate(lambda x: jnp.where(x[:, 0] % 2 == 0, jnp.log(3.0), 0.0), best_of=2)
    keys = jax.random.split(jax.random.key(0), 500)
    weights = np.asarray(jax.vmap(lambda k: recipe(k, jnp.int32(1), shown))(keys))  # [keys, capacity]
    synthetic = np.asarray(shown.synthetic)
    assert (weights[:, synthetic].sum(1) == rows // 2).all()
    assert (weights[:, np.asarray(shown.real)] == 1).all()
    # Half the rows have odds 3: a pair is good-bad w.p. (n/2)/(n-1), and then the good one wins w.p. 3/4.
    mixed = (rows / 2) / (rows - 1)
    good = weights[:, synthetic & (np.arange(shown.capacity) % 2 == 0)].sum(1) / (rows / 2)
    assert_mean(good, (1 - mixed) / 2 + mixed * 0.75)


def test_choose_draws_exactly_n_in_proportion_to_weight():
    weight = jnp.array([0.0, 1.0, 2.0, 3.0, 0.0])
    keys = jax.random.split(jax.random.key(0), 20_000)
    one = np.asarray(jax.vmap(lambda k: choose(k, weight, 1))(keys))
    assert (one.sum(1) == 1).all() and not one[:, [0, 4]].any()
    assert_mean(one[:, 1:4], np.array([1, 2, 3]) / 6)
    two = np.asarray(jax.vmap(lambda k: choose(k, weight, 2))(keys))
    assert (two.sum(1) == 2).all()
    # Without replacement: P(row 1 in two draws) = 1/6 + 2/6·1/4 + 3/6·1/3
    assert_mean(two[:, 1], 1 / 6 + 2 / 24 + 3 / 18)
    assert np.asarray(choose(keys[0], weight, 9)).sum() == 3


@pytest.mark.parametrize("capacity", [300, 10_000])
def test_minibatches_are_drawn_in_proportion_to_weight(capacity: int):
    weight = np.zeros(capacity, np.float32)
    inside = np.arange(7, capacity - 3, 97)
    weight[inside] = np.linspace(0.1, 2, len(inside))
    index = np.asarray(draw(jax.random.key(0), jnp.asarray(weight), (200_000,)))
    assert np.isin(index, inside).all()  # weight 0 is never drawn
    share = np.stack([index == i for i in inside[:: max(1, len(inside) // 10)]], 1)
    assert_mean(share, (weight / weight.sum())[inside[:: max(1, len(inside) // 10)]])


def test_weight_beyond_what_float32_counts():
    """2^25 rows: a running sum in float32 stops growing at 2^24, and the second half would never be drawn."""
    n = 2**25
    index = np.asarray(jax.jit(draw, static_argnums=2)(jax.random.key(0), jnp.ones(n), (20_000,)))
    assert_mean((index >= n // 2).astype(float), 0.5)
    assert_mean((index >= 3 * n // 4).astype(float), 0.25)


def test_effective_size():
    assert float(effective_size(jnp.array([1.0, 1, 1, 0]))) == pytest.approx(3)
    assert float(effective_size(jnp.array([1.0, 2]))) == pytest.approx(9 / 5)


def test_horizon_bounds_the_pool_and_changes_nothing():
    chain = gaussian_chain(recipe=Latest())
    assert horizon(Latest(), chain) == 1 and horizon(Window(3), chain) == 3 and horizon(Accumulate(), chain) is None
    assert chain.init(jax.random.key(0), 50).pool.capacity == 10
    assert gaussian_chain(recipe=Window(3), real=25, fresh=2).init(jax.random.key(0), 50).pool.capacity == 75
    from simulator import simulate

    a = simulate(chain, jax.random.key(0), 12)["moments.cov"]
    b = simulate(gaussian_chain(recipe=Then(Accumulate(), Latest())), jax.random.key(0), 12)["moments.cov"]  # keeps all
    assert np.allclose(a, b, rtol=1e-5)


@pytest.mark.parametrize(
    ("recipe", "word"),
    [
        (Mix(real=1.5, size=10), "between 0 and 1"),
        (Mix(real=schedule("linear", 0.5, 1.2, 10), size=10), "between 0 and 1"),
        (Mix(real=0.9, size=100), "raise `real`"),
        (Mix(real=0.5, size=10, fresh=True), "raise `fresh`"),
        (Mix(real=0.0, size=11), "raise `rows`"),
        (Mix(real=0.5, size=0), "at least 1"),
        (Augment(ratio=1.5), "lower the ratio"),
        (Decay(1.5), "between 0 and 1"),
        (Window(0), "at least 1"),
        (Reweigh(real=-0.1), "between 0 and 1"),
        (Then(Latest(), Mix(real=2.0, size=10)), "between 0 and 1"),
        (Select((Latest(),), 1), "between 0 and 0"),
        (Curate(jnp.sum, best_of=11), "between 1 and"),
        (Subsample(0), "at least 1"),
    ],
    ids=lambda value: type(value).__name__ if callable(value) else "",
)
def test_a_recipe_that_cannot_be_met_is_refused_when_the_chain_is_built(recipe: Any, word: str):
    with pytest.raises(GenlossError, match=word):
        gaussian_chain(recipe=recipe)
