"""A budget over generations: known optima, whole rows that sum to it, and chains that nothing was chosen on."""

import itertools
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import gaussian_chain
from scipy.optimize import brentq
from test_schedules import mean, recursion

from simulator import Chain, GenlossError
from simulator.analysis.budget import (
    END_ALONE,
    OPTIMISED,
    Outcome,
    Spending,
    Spent,
    _curve,
    _hardest,
    _held_out,
    _Job,
    scheduled,
    served,
    spend,
)
from simulator.probes import Moments
from simulator.recipe import Mix, Replace, Reweigh, Then
from simulator.theory.schedules import law

KEY = jax.random.key(0)


def mixed(n: int, **fields: Any) -> Chain:
    fields = {"probes": {"moments": Moments()}, "recipe": Mix(real=0.5, size=n, fresh=True), "fresh": n, **fields}
    return gaussian_chain(2, real=n, rows=n, **fields)


def job(n: int, fits: int, budget: int) -> _Job:
    """Of fresh shares of n rows, by the recursion of LAWS F11."""

    def curve(values: Any) -> Any:
        shares = values.at[0].set(1.0)

        def fit(last: Any, a: Any) -> Any:
            kept, error = last
            after = (1 - a) ** 2 * error + (a + (1 - a) * kept) / n
            now = a + (1 - a) * (error + kept) - after, after
            return now, now[0]

        return jax.lax.scan(fit, (0.0, 0.0), shares)[1]

    return _Job(Spent(lambda values: values, budget, fits, 0, n, 1 / n), curve, 1, True)


def kept(amounts: Any, n: int) -> np.ndarray:
    """S_t by the recursion of LAWS F11."""
    return recursion(np.r_[0, amounts] / n, np.full(len(amounts) + 1, n))[0]


def test_of_two_generations_the_best_schedule_makes_both_alike():
    """S + V = 1, V_1 = (1 + g(a))/n and V_2 = 1/n + g(A - a) V_1 with g(a) = (1-a)² - (1-a)/n; V_1 falls in a, V_2 is
    larger where a is, so the larger of both is least where they cross.
    """
    n, budget = 100, 60
    g = lambda a: (1 - a) ** 2 - (1 - a) / n  # noqa: E731
    first: Any = brentq(lambda a: g(a) - g(budget / n - a) * (1 + g(a)), 0, budget / n)
    found = job(n, 3, budget)
    best = found.best(found.families(), end=False)
    assert abs(best[0] - n * first) <= 1 and best.sum() == budget and best[0] % 1 == 0


def test_the_best_of_all_whole_schedules_is_found():
    n, fits, budget = 10, 5, 9
    found = job(n, fits, budget)
    known = found.families()

    def best(of: Any, budget: int) -> float:
        every = (x for x in itertools.product(range(n + 1), repeat=fits - 1) if sum(x) == budget)
        return max(of(kept(x, n)) for x in every)

    for end, of in ((False, np.min), (True, lambda s: s[-1])):
        ours = of(kept(found.best(known, end), n))
        assert best(of, budget - 1) < ours <= best(of, budget) + 1e-6  # to be whole costs less than one row


def test_whole_rows_sum_to_the_budget_and_keep_their_bounds():
    random = np.random.default_rng(0)
    for _ in range(200):
        n, least = int(random.integers(2, 12)), int(random.integers(0, 3))
        most = least + int(random.integers(1, 9))
        budget = int(random.integers(max(1, n * least), n * most + 1))
        spent = Spent(lambda values: values, budget, n + 1, least, most, 0.1)
        wanted = random.normal(size=(3, n)) * 10
        near = spent.bounded(wanted)
        assert np.allclose(near.sum(1), budget) and (near >= least).all() and (near <= most).all()
        inside = (near > least + 1e-6) & (near < most - 1e-6)  # all of these are moved by the same
        assert all(np.ptp((near - wanted)[i][inside[i]]) < 1e-6 for i in range(3) if inside[i].any())
        whole = spent.whole(near)
        assert (whole.sum(1) == budget).all() and (whole >= least).all() and (whole <= most).all()
        assert (whole % 1 == 0).all() and np.abs(whole - near).max() <= 1
        assert np.abs(whole.cumsum(1) - near.cumsum(1)).max() <= 0.5 + 1e-5  # nor is more left over at any time


@pytest.mark.parametrize("least", [0.0, 0.3])
def test_of_generations_that_are_served_one_by_one_the_best_schedule_makes_all_alike(least: float):
    """max min_t c_t x_t with Σ x = B has x_t = B / c_t / Σ 1/c; the first fit is worse than all and changes nothing."""
    need = np.array([1.0, 3.0, 2.0, 5.0, 1.5, 4.0])  # 1/c
    exact = 9.0 * need / need.sum()  # [6], 0.55 at least
    curve = lambda values: jnp.concatenate([jnp.array([-9.0]), values[1:] / need])  # noqa: E731
    found = _Job(Spent(lambda values: values, 9.0, 7, least, 3.0), curve, 1, True)
    climbed = found._climbed(np.full((1, 6), 1.5), 1.0, end=False)
    assert climbed.sum() == pytest.approx(9, abs=1e-4) and climbed.min() >= least
    known = found.families()
    best = found.best(known, end=False)
    assert best.sum() == pytest.approx(9) and np.abs(best - exact).max() < 0.02
    assert found.best(known, end=True)[-1] == pytest.approx(3, abs=0.01)
    assert (_hardest(found.scores(np.stack([best, np.full(6, 1.5)]))) > 0).all()


def test_a_plain_schedule_is_the_best_of_its_kind():
    n, fits, budget = 10, 6, 12
    found = job(n, fits, budget)
    known = found.families()
    spent, k = found.spent, np.arange(1, fits)[:, None]
    first = (np.arange(fits - 1) < k) * budget / k  # [5, 5]: as many first generations share it evenly
    for name, every in (("front-loaded", first), ("back-loaded", first[:, ::-1])):
        scores = [kept(one, n)[1:].min() for one in spent.whole(spent.bounded(every))]
        assert kept(known[name], n)[1:].min() == pytest.approx(max(scores), rel=1e-5)
    for name in ("linear", "cosine"):
        steps = np.diff(spent.bounded(known[name]))
        assert (steps >= -1).all() or (steps <= 1).all()  # rises or falls but for its rounding
        assert kept(known[name], n)[1:].min() >= kept(known["constant"], n)[1:].min() - 1e-7


def test_the_last_tenth_of_the_generations_is_a_whole_number_of_them_and_one_at_least():
    def late(amounts: Any) -> tuple[float, int]:
        none = np.zeros(len(amounts) + 1)
        return Outcome(np.asarray(amounts, float), 1, None, none, none, (0.0, 0.0, 0.0)).late

    assert late([1, 1, 2]) == (0.5, 1)
    assert late([0] * 9 + [4]) == (1.0, 1)
    assert late([0] * 10 + [3, 1]) == (1.0, 2)


@pytest.fixture(scope="module")
def spending() -> Spending:
    chain = gaussian_chain(20, recipe=Replace(), probes={"moments": Moments()}, real=20, rows=20)
    return spend(Spent(served(chain, 30), 20, 13, 0, 30, 1.0, served=True), "moments.variance", KEY, chains=200)


def test_no_plain_schedule_is_ahead_of_the_optimised_one(spending: Spending):
    ours = spending.outcomes[OPTIMISED]
    assert set(spending.outcomes) == {
        OPTIMISED,
        END_ALONE,
        "constant",
        "linear",
        "cosine",
        "front-loaded",
        "back-loaded",
    }
    for one in spending.outcomes.values():
        assert one.amounts.sum() == 20 and (one.amounts % 1 == 0).all()
        assert one.law is not None and ours.law is not None
        assert ours.law.min() >= one.law.min() - 1e-7
        error = (one.gain[2] - one.gain[1]) / 2 / 1.645
        assert abs(one.gain[0] - (ours.law.min() - one.law.min())) <= 4 * error  # on held-out chains as by the law
        rows = np.r_[20, 20 + one.amounts]
        exact = recursion(np.r_[0, one.amounts] / rows, rows)[0]
        assert np.allclose(one.law, exact, rtol=1e-5)
        assert np.abs(one.mean - exact).max() < 5 * one.error.max()  # served as planned
    end, even = spending.outcomes[END_ALONE], spending.outcomes["constant"]
    assert end.gain[1] > 0 and even.law is not None and ours.law is not None and ours.law.min() > even.law.min() + 0.01


def test_for_the_end_alone_all_is_saved_for_the_last_fits_and_that_is_said(spending: Spending):
    end, worst = spending.outcomes[END_ALONE], spending.outcomes[OPTIMISED]
    assert end.law is not None and worst.law is not None
    assert end.law[-1] > worst.law[-1] and end.law.min() < worst.law.min()
    assert end.late[0] > 0.5 and len(spending.warnings) == 1
    assert "for the end alone spends" in spending.warnings[0] and worst.late[0] < 0.5
    assert spending.data()["outcomes"][END_ALONE]["amounts"] == end.amounts.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("fresh", [True, False])
def test_real_shares_are_eaten_as_planned(fresh: bool):
    chain = mixed(20, recipe=Mix(real=0.5, size=20, fresh=fresh), fresh=20 * fresh)
    spent = Spent(scheduled(chain, "recipe.real"), 40, 8, 0, 20, 1 / 20)
    measure, sense, factor = ("moments.variance", 1, 1) if fresh else ("moments.mean_error", -1, 2)
    for one in spend(spent, measure, KEY, sense=sense, chains=400).outcomes.values():
        laws = recursion(np.r_[0, one.amounts] / 20, np.full(8, 20), again=0.0 if fresh else 1 / 20)
        exact = factor * laws[0 if fresh else 1]
        assert one.law is not None and np.allclose(one.law, exact, rtol=1e-5)
        assert np.abs(one.mean - exact).max() < 5 * one.error.max()


@pytest.mark.slow
def test_chains_in_parts_are_those_all_at_once(monkeypatch: pytest.MonkeyPatch):
    spent = Spent(scheduled(mixed(10), "recipe.real"), 10, 5, 0, 10, 1 / 10)
    amounts = np.array([[1.0, 2, 3, 4], [4.0, 3, 2, 1]])
    whole = _held_out(spent, "moments.variance", amounts, KEY, 20)  # [2, 20, 5]
    monkeypatch.setattr("simulator.analysis.budget.TOGETHER", 800)  # rows: a few chains
    assert np.array_equal(_held_out(spent, "moments.variance", amounts, KEY, 20), whole)
    assert len(np.unique(whole[0, :, -1])) == 20


@pytest.mark.slow
def test_without_a_law_a_recipe_with_a_gradient_is_optimised_on_chains():
    recipe = Then(Replace(), Reweigh(0.5))
    chain = gaussian_chain(20, recipe=recipe, probes={"moments": Moments(), "own": lost}, real=20, rows=20, fresh=10)
    spent = Spent(scheduled(chain, "recipe.recipes.1.real"), 0.5, 6, 0.0, 1.0)
    found = spend(spent, "own", KEY, sense=-1, chains=256)
    assert found.why.startswith("none (") and found.outcomes[OPTIMISED].law is None
    fitted = np.asarray(_curve(spent, "own", KEY, 256)[0](spent.values(jnp.asarray(found.outcomes[OPTIMISED].amounts))))
    assert np.abs(fitted - found.outcomes[OPTIMISED].mean).max() > 1e-4  # other chains than those that chose it
    curve, _ = law(spent.make, 6, "moments.variance", (0, 1), None)
    by_law = lambda x: float(curve(jnp.asarray(spent.values(x), jnp.float32)).min())  # noqa: E731
    best = by_law(spend(spent, "moments.variance", KEY, chains=100).outcomes[OPTIMISED].amounts)
    even, ours = (by_law(found.outcomes[name].amounts) for name in ("constant", OPTIMISED))
    assert even < ours <= best + 1e-6 and best - ours < 0.5 * (best - even)


def lost(key: jax.Array, view: Any) -> jax.Array:
    return 1 - view.params.variances.mean()


def test_what_cannot_be_spent_is_said_in_a_sentence():
    make = scheduled(mixed(10), "recipe.real")
    for budget, least, most, fits, sentence in (
        (31, 0, 10, 4, "takes 10 rows at most, so 3 of them take 30; the budget is 31: lower it"),
        (5, 2, 10, 4, "takes 2 rows at least, so 3 of them take 6; the budget is 5: raise it"),
        (0.5, 0, 10, 4, "The budget is 0.5 rows; give a whole number of 1 or more"),
        (5, 0, 10, 2, "wants 3 generations or more; there are 2"),
    ):
        with pytest.raises(GenlossError, match=sentence):
            Spent(make, budget, fits, least, most, 0.1)
    spent = Spent(make, 5, 4, 0, 10, 0.1)
    with pytest.raises(GenlossError, match=r"no measure 'moments.varianc'; the nearest is"):
        spend(spent, "moments.varianc", KEY)
    counted = scheduled(replace(mixed(10), probes={"mine": mean}), "recipe.real")
    with pytest.raises(
        GenlossError, match=r"no law \(.*\) and no gradient, since rows are counted; .*Reweigh"
    ) as error:
        spend(replace(spent, make=counted), "mine.variance", KEY)
    assert "\n" not in str(error.value)
