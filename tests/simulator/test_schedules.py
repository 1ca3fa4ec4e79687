"""Laws as functions of whole schedules: closed forms where these are constant, recursions where not, and gradients."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import gaussian_chain

from generators import Categorical, Linear
from simulator import Chain, GenlossError, Truth, theory
from simulator.analysis.budget import scheduled, served
from simulator.probes import Categories, Diversity, Moments, Risk
from simulator.recipe import Accumulate, Mix, Replace, Reweigh, Subsample, Then, Window
from simulator.theory.schedules import law

N, FITS = 12, 6
SHARES = np.array([0, 3, 1, 7, 0, 11]) / N  # of a schedule that no law is held against when it is made
ENDS, STEP = (0.0, 1.0), 1 / N


def mixed(fresh: bool = True, bias: float = 1.0, ddof: int = 0, probe: Any = None, **fields: Any) -> Chain:
    probes = {"measure": probe or Moments()}
    mix = Mix(real=0.5, size=N, fresh=fresh)
    return gaussian_chain(2, ddof, bias, recipe=mix, probes=probes, real=N, rows=N, fresh=N * fresh, **fields)


def of(chain: Chain, metric: str, path: str = "recipe.real", step: float | None = STEP) -> Callable[[Any], np.ndarray]:
    curve = jax.jit(law(scheduled(chain, path), FITS, f"measure{metric}", ENDS, step)[0])
    return lambda values: np.asarray(curve(jnp.asarray(values, jnp.float32)), np.float64)


def recursion(
    shares: np.ndarray, rows: np.ndarray, again: float = 0.0, bias: float = 1.0, ddof: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """(S_t, V_t) of a share α_t of n_t rows (LAWS F11), which are fresh or, with `again` = 1/R, drawn from the same R:
    V' = (1-α)²V + 2α(1-α)/R + (α + (1-α)λS)/n;  T = α + (1-α)(V + λS);  S' = (T - V')·n/(n - ddof).
    """
    found, kept, error = [], 0.0, 0.0
    for t, (a, n) in enumerate(zip(shares, rows, strict=True)):
        a = a if t else 1.0
        after = (1 - a) ** 2 * error + 2 * a * (1 - a) * again + (a + (1 - a) * bias * kept) / n
        kept, error = (a + (1 - a) * (error + bias * kept) - after) * n / (n - ddof), after
        found.append((kept, error))
    return tuple(np.array(found).T)  # pyright: ignore[reportReturnType]


@pytest.mark.slow
@pytest.mark.parametrize(("bias", "ddof"), [(0.9, 1), (1.0, 0)])
def test_constant_fresh_shares_have_their_closed_form(bias: float, ddof: int):
    kept, error = theory.fresh_share(N, 0.25, FITS, bias, ddof)
    chain = mixed(bias=bias, ddof=ddof)
    assert np.allclose(of(chain, ".variance")(np.full(FITS, 0.25)), kept, rtol=1e-5)
    assert np.allclose(of(chain, ".mean_error")(np.full(FITS, 0.25)), 2 * error, rtol=1e-5)


def test_fresh_shares_follow_the_recursion():
    curve = of(mixed(bias=0.8, ddof=1), ".variance")
    assert np.allclose(curve(np.full(FITS, 0.25)), theory.fresh_share(N, 0.25, FITS, 0.8, 1)[0], rtol=1e-5)
    kept, _ = recursion(SHARES, np.full(FITS, N), bias=0.8, ddof=1)
    assert np.allclose(curve(SHARES), kept, rtol=1e-5)
    assert np.ptp(kept) > 0.1  # or any law would do


@pytest.mark.slow
def test_real_rows_that_are_eaten_again_follow_the_recursion():
    chain = mixed(fresh=False)
    kept, error = recursion(SHARES, np.full(FITS, N), again=1 / N)
    assert np.allclose(of(chain, ".variance")(SHARES), kept, rtol=1e-5)
    assert np.allclose(of(chain, ".mean_error")(SHARES), 2 * error, rtol=1e-5)


SERVED = np.array([0, 5, 0, 9, 2, 1])


@pytest.fixture(scope="module")
def of_served() -> Callable[[Any], Any]:
    chain = gaussian_chain(2, recipe=Replace(), probes={"measure": Moments()}, real=N, rows=N)
    return law(served(chain, 9), FITS, "measure.variance", (0, 9), 1.0, served=True)[0]


def test_fresh_rows_by_number_follow_the_recursion(of_served: Callable[[Any], Any]):
    rows = np.r_[N, N + SERVED[1:]]
    kept, _ = recursion(SERVED / rows, rows)
    assert np.allclose(of_served(jnp.asarray(SERVED, jnp.float32)), kept, rtol=1e-5)


@pytest.mark.slow
def test_fresh_rows_that_are_kept_have_the_law_of_their_chain():
    chain = gaussian_chain(2, recipe=Accumulate(), probes={"measure": Moments()}, real=N, rows=N)
    make = served(chain, 9)
    curve, _ = law(make, FITS, "measure.variance", (0, 9), 1.0, served=True)
    exact = theory.workflow_gaussian(make(SERVED), FITS)[0]
    assert np.allclose(curve(jnp.asarray(SERVED, jnp.float32)), exact, rtol=1e-5)


@pytest.mark.slow
def test_weights_without_chance_have_the_law_of_their_chain():
    weights = np.array([0.5, 0.1, 0.9, 0.3, 0.7, 0.2])
    recipe = Then(Window(2), Reweigh(0.5))
    chain = gaussian_chain(2, recipe=recipe, probes={"measure": Moments()}, real=N, rows=N, fresh=5)
    exact = theory.workflow_gaussian(scheduled(chain, "recipe.recipes.1.real")(weights), FITS)[0]
    assert np.allclose(of(chain, ".variance", "recipe.recipes.1.real", None)(weights), exact, rtol=1e-5)


@pytest.mark.slow
def test_samples_counts_and_regressions_have_their_laws():
    kept, _ = recursion(SHARES, np.full(FITS, N), bias=0.8)
    assert np.allclose(of(mixed(bias=0.8, probe=Diversity()), ".variance")(SHARES), 2 * 0.8 * kept, rtol=1e-5)
    more = {"recipe": Mix(real=0.5, size=N, fresh=True), "real": N, "rows": N, "fresh": N, "held_out": 0}
    few = Chain(source=Truth(Categorical(5)), generator=Categorical(5), probes={"measure": Categories()}, **more)
    found = of(few, ".heterozygosity")(np.full(FITS, 0.25))
    assert np.allclose(found, theory.fresh_heterozygosity(N, 0.25, FITS, 0.8), rtol=1e-5)
    rows = 300
    more = {"recipe": Mix(real=0.5, size=rows, fresh=True), "real": rows, "rows": rows, "fresh": rows, "held_out": 0}
    line = Chain(source=Truth(Linear(2)), generator=Linear(2), probes={"measure": Risk()}, **more)
    values = np.round(SHARES * rows) / rows
    exact = 2 * theory.workflow_error(scheduled(line, "recipe.real")(values), FITS)
    assert np.allclose(of(line, "", step=1 / rows)(values), exact, rtol=1e-4)


def test_the_gradient_is_that_of_differences(of_served: Callable[[Any], Any]):
    at, h = jnp.asarray(SERVED + 1.0, jnp.float32), 0.1
    gradient = jax.jit(jax.jacobian(of_served))(at)  # [T, T]
    both = jnp.concatenate([at + h * jnp.eye(FITS), at - h * jnp.eye(FITS)])  # [2 T, T]
    ahead, back = jnp.split(jax.jit(jax.vmap(of_served))(both), 2)  # [T, T] each
    assert np.allclose(gradient, (ahead - back).T / (2 * h), rtol=0.01, atol=2e-6)
    later = np.tril(np.ones((FITS, FITS)))
    later[:, 0] = 0  # the first fit eats real rows whatever the schedule says
    assert (np.asarray(gradient)[later == 0] == 0).all() and np.abs(np.asarray(gradient)[later > 0]).min() > 1e-5


def refused(sentence: str, chain: Chain, path: str = "recipe.real", step: float | None = STEP, **given: Any) -> None:
    with pytest.raises(GenlossError, match=sentence):
        law(given.get("make", scheduled(chain, path)), FITS, "measure.variance", given.get("ends", ENDS), step,
            given.get("served", False))  # fmt: skip


def test_where_there_is_no_law_the_reason_is_said():
    chain = gaussian_chain(recipe=Then(Replace(), Reweigh(0.5)), probes={"measure": Moments()}, real=N, rows=N)
    refused("is off by", chain, make=served(chain, 9), ends=(0, 9), step=1.0, served=True)
    refused("no law is known", replace(mixed(), probes={"measure": mean}))


@pytest.mark.slow
def test_where_rows_are_drawn_in_numbers_there_is_no_law():
    drawn = gaussian_chain(recipe=Then(Reweigh(0.5), Subsample(8)), probes={"measure": Moments()}, fresh=3)
    refused("draws rows by chance", drawn, "recipe.recipes.0.real", None)
    mix = Mix(real=0.5, size=N, window=2)
    refused("numbers of rows are drawn by chance", replace(mixed(), recipe=mix, fresh=0))
    refused("three steps", mixed(), ends=(0.5, 0.5 + STEP))


def mean(key: jax.Array, view: Any) -> dict[str, jax.Array]:
    return {"variance": view.params.mean.mean()}
