"""A plan: the root of a noisy curve with an honest interval, least and most, whole numbers, controls, and refusals."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_mean, gaussian_chain

from experiments.bench import planner as bench
from simulator import Chain, GenlossError, simulate
from simulator.analysis.bounds import Keep
from simulator.analysis.planner import plan
from simulator.analysis.roots import bent, rising, roots, shape
from simulator.probes import Moments
from simulator.recipe import Mix, Window
from simulator.running.scan import each

KEY = jax.random.key(0)
REAL, ROWS, FITS = 60, 60, 25
ANSWER, CHAINS, WIDTH = 0.05, 400, 0.08
make = bench.chain_of(REAL, ROWS, 6)


# The root of a curve.


def problem(random: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Points around a root of u/(u + c), their margins, the root, and how wide an ideal interval is."""
    c, root, spread = random.uniform(0.05, 1), random.uniform(0.2, 0.7), random.uniform(0.1, 0.4)
    m = lambda u: u / (u + c)  # noqa: E731
    slope = c / (root + c) ** 2
    ideal = 2 * 1.645 * spread / slope / np.sqrt(n)
    if ideal > min(root, 1 - root) / 2:  # no interval could lie inside of the range
        return problem(random, n)
    near = root + ideal * random.normal(size=n)
    u = np.clip(np.where(random.uniform(size=n) < 0.2, random.uniform(size=n), near), 0, 1)
    noise = random.exponential(size=n) - 1  # skewed
    return u, m(u) - m(root) + spread * noise, root, ideal


@pytest.mark.slow
def test_intervals_of_a_root_cover_it_and_are_little_wider_than_ideal_ones():
    random, covers, widths = np.random.default_rng(0), [], []
    for _ in range(100):
        u, h, root, ideal = problem(random, 300)
        low, high = np.quantile(roots(u, h, 4, 250, random), [0.05, 0.95])
        covers.append(low <= root <= high)
        widths.append((high - low) / ideal)
    assert 0.81 <= np.mean(covers) <= 0.99  # 0.9 ± 3 of its standard errors
    assert 1.0 < np.mean(widths) < 1.7


def test_a_shape_rises_whatever_it_is_fitted_to():
    random = np.random.default_rng(1)
    u = random.uniform(size=80)
    found = shape(u, -u + random.normal(size=80), np.ones(80))
    assert (np.diff(found.values) >= 0).all()
    steep = shape(u, np.log(u + 0.01) + 0.01 * random.normal(size=80), np.ones(80)).values
    assert np.abs(np.interp(u, np.linspace(0, 1, 1001), steep) - np.log(u + 0.01)).max() < 0.2


@pytest.mark.parametrize("c", [np.inf, 0.1, -0.1])
def test_bent_coordinates_and_splines_go_from_0_to_1(c: float):
    u = np.linspace(0, 1, 50)
    assert np.allclose(bent(u, c)[[0, -1]], [0, 1]) and (np.diff(bent(u, c)) > 0).all()
    basis = rising(u, 3)[:, 2:]
    assert np.allclose(basis[0], 0) and np.allclose(basis[-1], 1) and (np.diff(basis, axis=0) >= -1e-12).all()


# Chains.


@pytest.mark.slow
def test_the_law_that_plans_are_judged_by_is_that_of_chains():
    values = np.full(2000, 0.1)
    found = each(make, values, jax.random.split(KEY, 2000), FITS)["moments.variance"]
    assert_mean(found, bench.law(REAL, ROWS, FITS, 0.1))


def test_each_value_has_the_chain_of_its_own_key():
    values, keys = np.array([0.1, 0.4, 0.8]), jax.random.split(KEY, 3)
    found = each(make, values, keys, 4)
    for i in range(3):
        alone = simulate(make(float(values[i])), keys[i], 4)
        assert np.allclose(found["moments.variance"][i], alone["moments.variance"], rtol=1e-5)


def test_a_plan_finds_the_laws_answer():
    bound = bench.law(REAL, ROWS, FITS, ANSWER).min()
    told = []
    found = plan(make, (0, 1), f"moments.variance >= {bound:.6f}", KEY, generations=FITS, chains=CHAINS,
                 report=lambda done, of: told.append((done, of)))  # fmt: skip
    assert found.low <= ANSWER <= found.high and found.low < found.value < found.high < found.low + WIDTH
    assert found.law == pytest.approx(ANSWER, abs=1e-3) and found.side == "least" and found.chains == CHAINS
    assert told == [(n, CHAINS) for n in (60, 100, 160, 240, 320, 400)]
    near = np.abs(found.evaluated.values - ANSWER) < WIDTH
    assert near.mean() > 0.6  # chains are where the answer is
    again = plan(make, (0, 1), f"moments.variance >= {bound:.6f}", KEY, generations=FITS, chains=CHAINS, law=False)
    assert (again.value, again.low, again.high, again.law) == (found.value, found.low, found.high, None)


def test_where_more_harms_the_answer_is_the_most():
    bound = bench.law(REAL, ROWS, FITS, ANSWER).min()
    found = plan(lambda x: make(1 - x), (0, 1), f"moments.variance >= {bound:.6f}", KEY, generations=FITS, chains=400,
                 law=False)  # fmt: skip
    assert found.side == "most" and found.low <= 1 - ANSWER <= found.high < found.low + WIDTH


@pytest.mark.slow
def test_an_upper_bound_and_the_end_alone():
    bound = 1 - bench.law(REAL, ROWS, FITS, ANSWER)[-1]
    lost = lambda x: replace(make(x), probes={"lost": loss})  # noqa: E731
    found = plan(lost, (0, 1), f"lost <= {bound:.6f} at the end", KEY, generations=FITS, chains=CHAINS, law=False)
    assert found.low <= ANSWER <= found.high < found.low + WIDTH and found.generation == FITS - 1
    assert found.evaluated.margins.shape == (CHAINS,)


def loss(key: jax.Array, view: Any) -> jax.Array:
    return 1 - view.params.variances.mean()


@pytest.mark.slow
def test_relative_to_a_control():
    """Of the chain whose every diet is its first real rows: E S = 1 - 1/n whatever the generation."""
    share = 0.8
    curve = lambda w: bench.law(REAL, ROWS, FITS, w).min() - share * (1 - 1 / REAL)  # noqa: E731
    grid = np.linspace(1e-3, 0.3, 3000)
    answer = float(grid[np.argmax([curve(w) >= 0 for w in grid])])
    found = plan(
        make, (0, 1), f"moments.variance >= {share} of control", KEY, generations=FITS, chains=CHAINS, law=False
    )
    assert found.low <= answer <= found.high and found.high - found.low < WIDTH
    own = plan(make, (0, 1), f"moments.variance >= {share} of control", KEY, generations=FITS, chains=CHAINS, law=False,
               control=replace(make(1.0), recipe=Mix(real=1.0, size=REAL)))  # fmt: skip
    assert (own.low, own.high) == (found.low, found.high)


@dataclass(frozen=True)
class Scaled:
    """The fitted variance, times what is planned."""

    by: Any

    def __call__(self, key: jax.Array, view: Any) -> jax.Array:
        return self.by * view.params.variances.mean()


@pytest.mark.slow
def test_a_control_has_the_key_of_its_chain():
    """A chain that is its control times x is at 0.8 of it where x is, without any noise."""
    control = replace(make(1.0), recipe=Mix(real=1.0, size=REAL), probes={"scaled": Scaled(1.0)})
    times = lambda x: replace(control, probes={"scaled": Scaled(x)})  # noqa: E731
    found = plan(times, (0, 1), "scaled >= 0.8 of control", KEY, generations=3, chains=100, law=False, control=control)
    assert np.abs(np.array([found.low, found.value, found.high]) - 0.8).max() < 2e-3


def windowed(k: Any) -> Chain:
    return replace(make(0.5), recipe=Window(k), fresh=0)


@pytest.mark.slow
def test_whole_numbers_are_searched_a_program_each():
    """The variance of a window of k sets falls the slower the larger it is; the least k is one that keeps the bound."""
    kept = {k: simulate_mean(windowed(k), 20) for k in (1, 2, 3, 4, 5, 6)}  # by many more chains than the plan has
    bound = (kept[3] + kept[4]) / 2  # so 4 is the answer
    found = plan(windowed, (1, 8), f"moments.variance >= {bound:.4f} at the end", KEY, generations=20, chains=400,
                 step=1)  # fmt: skip
    assert found.low <= 4 <= found.high and found.law == 4 and {found.low % 1, found.value % 1, found.high % 1} == {0}


def simulate_mean(chain: Chain, fits: int) -> float:
    found = jax.jit(jax.vmap(lambda key: simulate(chain, key, fits)["moments.variance"][-1]))
    return float(found(jax.random.split(jax.random.key(7), 2000)).mean())


def test_shares_that_count_rows_move_by_one_row():
    chain = gaussian_chain(recipe=Mix(real=0.5, size=10), probes={"moments": Moments()}, real=10, rows=10)
    by = lambda x: replace(chain, recipe=Mix(real=x, size=10))  # noqa: E731
    found = plan(by, (0, 1), "moments.variance >= 0.5", KEY, generations=20, chains=200, step=0.1, law=False)
    values = found.evaluated.values * 10
    assert np.allclose(values, values.round()) and np.allclose(np.array([found.low, found.high]) * 10 % 1 % 1, 0)


# Refusals.


def refused(sentence: str, build: Any = make, keep: str = "moments.variance >= 0.5", **given: Any) -> None:
    with pytest.raises(GenlossError, match=sentence) as error:
        plan(build, given.pop("over", (0, 1)), keep, KEY, **{"generations": 3, "chains": 100, "law": False} | given)
    assert "\n" not in str(error.value)


def test_what_cannot_be_planned_is_said_in_a_sentence():
    refused(
        "is kept at every value from 0 to 1, as far as .* chains tell .* change the bound",
        keep="moments.variance >= 0.01",
    )
    refused("is missed at every value from 0 to 1", keep="moments.variance >= 3")
    refused("no measure 'moments.varianc'; the nearest is 'moments.variance'", keep="moments.varianc >= 1")
    refused("written as 'fidelity.recall >= 0.95 of control'", keep="moments.variance > 1 maybe")
    refused("from 1 to 0; give a lower", over=(1, 0))
    refused("holds no step of 2; widen", step=2)
    refused("100 chains or more; it was given 50", chains=50)
    refused("confidence is 1.5", confidence=1.5)
    refused("cannot vary within one program", build=lambda x: windowed(int(x) + 1))
    vector = lambda x: replace(make(x), probes={"both": both})  # noqa: E731
    refused("has many values a generation", build=vector, keep="both >= 1")
    valley = lambda x: replace(make(0.5), probes={"valley": Valley(x)})  # noqa: E731
    refused("both rises and falls", build=valley, keep="valley >= 0.5", chains=400)


@dataclass(frozen=True)
class Valley:
    """A measure that is large at both ends of what is planned."""

    at: Any

    def __call__(self, key: jax.Array, view: Any) -> jax.Array:
        return (2 * self.at - 1) ** 2 + 0.1 * jax.random.normal(key)


def both(key: jax.Array, view: Any) -> jax.Array:
    return jnp.ones(2)


def test_a_bound_is_read_from_words_and_written_as_them():
    for text in ("a.b >= 0.5 of control at the end", "a.b <= -1e-05 over the run", "x >= 2 over the run"):
        assert str(Keep.parse(text)) == text
    keep = Keep.parse("m>=.9 of control")
    assert (keep.metric, keep.sense, keep.bound, keep.of_control, keep.at_end) == ("m", ">=", 0.9, True, False)
    values, control = np.array([[1.0, 2.0]]), np.array([[2.0, 2.0]])
    assert np.allclose(keep.margins(values, control), [[-0.8, 0.2]])
    assert np.allclose(Keep.parse("m <= 3 at the end").margins(values), [[1.0]])
