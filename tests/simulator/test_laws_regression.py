"""Chains of regressions against their closed forms (simulator/theory/regression.py), any recipe against the law of
linear workflows (simulator/theory/workflow.py), and fits against NumPy and scikit-learn."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_mean, gaussian_chain

from generators.linear import Linear
from generators.logistic import Logistic, LogisticParams
from simulator import Chain, GenlossError, Pool, Recipe, Truth, ensemble, simulate, theory
from simulator.recipe import Accumulate, Augment, Decay, Mix, Replace, Reweigh, Subsample, Then, Verify, Window

CHAINS = 2000


def excess(key: jax.Array, view: Any) -> jax.Array:
    """‖coef - truth‖²."""
    truth = view.generator.init(key).coef
    return ((view.params.coef - truth) ** 2).sum()


def risk(recipe: Recipe, rows: int, dim: int, generations: int, noise: float = 1.0) -> np.ndarray:
    """Excess test risk of many chains, [chains, generations]."""
    model = Linear(dim, noise)
    chain = Chain(
        source=Truth(model), generator=model, recipe=recipe, real=rows, rows=rows, probes={"excess": excess}, held_out=1
    )
    keys = jax.random.split(jax.random.key(0), CHAINS)
    return np.asarray(jax.jit(jax.vmap(lambda key: simulate(chain, key, generations)))(keys)["excess"])


@pytest.mark.quick("40-4-1.0")
@pytest.mark.parametrize(("rows", "dim", "noise"), [(40, 4, 1.0), (60, 8, 0.5)])
def test_risk_grows_by_as_much_at_every_replacement(rows: int, dim: int, noise: float):
    assert_mean(risk(Replace(), rows, dim, 6, noise), theory.replace_risk(rows, dim, 6, noise))


@pytest.mark.quick("12-4-1.0")
@pytest.mark.parametrize(("rows", "dim", "noise"), [(12, 4, 1.0), (40, 8, 0.5)])
def test_risk_of_accumulated_rows_is_bounded(rows: int, dim: int, noise: float):
    assert_mean(risk(Accumulate(), rows, dim, 6, noise), theory.accumulate_risk(rows, dim, 6, noise))


def test_accumulate_with_shared_covariates():  # as in the paper: every generation labels the same x
    rows, dim, generations = 14, 3, 5
    rng = np.random.default_rng(0)
    x = rng.normal(size=(CHAINS, rows, dim))
    inverse = np.linalg.pinv(x)  # [chains, d, n]
    labels, found = np.zeros((CHAINS, rows)), []  # the running mean of the labels; the truth is 0
    coef = np.zeros((CHAINS, dim))
    for t in range(1, generations + 1):
        written = np.einsum("cnd,cd->cn", x, coef) + rng.normal(size=(CHAINS, rows))
        labels += (written - labels) / t
        coef = np.einsum("cdn,cn->cd", inverse, labels)
        found.append((coef**2).sum(-1))
    assert_mean(np.stack(found, 1), theory.accumulate_risk(rows, dim, generations, shared=True))


@pytest.mark.quick("120-1")
@pytest.mark.parametrize(("rows", "dim"), [pytest.param(120, 1, marks=pytest.mark.slow), (150, 2)])
def test_risk_of_a_subsample_of_all_rows_is_bounded(rows: int, dim: int):
    found = risk(Then(Accumulate(), Subsample(rows)), rows, dim, 5)
    assert_mean(found, theory.subsample_risk(rows, dim, 5))


@pytest.mark.quick("10-30-0.7")
@pytest.mark.parametrize(
    ("rows", "dim", "noise"), [(10, 30, 0.7), pytest.param(16, 20, 0.3, marks=pytest.mark.slow), (8, 24, 0.0)]
)
def test_least_norm_fits_forget_the_truth(rows: int, dim: int, noise: float):
    assert_mean(risk(Replace(), rows, dim, 5, noise), theory.interpolate_risk(rows, dim, 5, noise))


def test_risks_are_the_sums_they_are_said_to_be():
    assert np.isclose(theory.replace_risk(50, 10, 10)[-1], 2.5641, atol=5e-5)
    assert np.isclose(theory.accumulate_risk(50, 10, 10, shared=True)[-1], 0.397376, atol=5e-7)
    # The two laws of accumulating agree for n >> d, and the subsampled one has its limit.
    assert np.allclose(theory.accumulate_risk(10**6, 3, 50), theory.accumulate_risk(10**6, 3, 50, shared=True), 1e-5)
    ratio = theory.subsample_risk(50, 3, 10**6) / theory.replace_risk(50, 3, 1)
    assert np.isclose(ratio[-1], np.pi**2 / 2 - 2, atol=1e-5)


@pytest.mark.parametrize("law", [theory.replace_risk, theory.accumulate_risk, theory.subsample_risk])
def test_risks_that_are_not_finite_are_refused(law: Any):
    with pytest.raises(GenlossError, match="at least 12 rows"):
        law(11, 10, 3)
    with pytest.raises(GenlossError, match="at least 13 features"):
        theory.interpolate_risk(11, 10, 3)


# Any recipe.


def test_workflow_reference_numbers_come_out_of_the_recipes():
    def scaled(recipe: Recipe, n: int) -> np.ndarray:
        return n * theory.workflow_error(gaussian_chain(recipe=recipe, real=n, rows=n), 30, draws=1)

    assert np.allclose(scaled(Window(3), 7)[[4, 29]], [1.9684, 8.2153], atol=5e-5)
    assert np.isclose(scaled(Decay(0.5), 7)[29], 8.5877, atol=5e-5)
    t = np.arange(1, 31)
    assert np.allclose(scaled(Replace(), 3), t)
    assert np.allclose(scaled(Accumulate(), 3), np.cumsum(1 / t**2))


def test_influence_of_data_sets_gives_the_variance_of_averages():
    """One source a data set is the same law as one a row, if all rows of a data set weigh the same."""
    age = np.arange(20)[:, None] - np.arange(20)  # [T, data sets]
    shares = np.where(age >= 0, 0.7 ** np.maximum(age, 0), 0.0)
    shares /= shares.sum(1, keepdims=True)
    by_row = theory.workflow_error(gaussian_chain(recipe=Decay(0.7), real=4, rows=4), 20, draws=1)
    assert np.allclose(theory.linear_workflow(shares) / 4, by_row, rtol=1e-5)


@pytest.mark.quick("window")
@pytest.mark.parametrize("recipe", [Window(3), Decay(0.6), Accumulate()], ids=["window", "decay", "accumulate"])
def test_any_recipe_of_linear_regression_has_the_risk_of_its_workflow(recipe: Recipe):
    rows, dim = 150, 2
    chain = gaussian_chain(recipe=recipe, real=rows, rows=rows)
    assert_mean(risk(recipe, rows, dim, 6), dim * theory.workflow_error(chain, 6, draws=1))


@pytest.mark.quick("window", "decay", "reweigh")
@pytest.mark.parametrize(
    ("chain", "draws"),
    [
        (gaussian_chain(recipe=Window(2), real=6, rows=6), 1),
        (gaussian_chain(recipe=Decay(0.6), real=6, rows=9), 1),
        (gaussian_chain(recipe=Then(Accumulate(), Reweigh(real=0.3)), real=5, rows=8, fresh=2), 1),
        (gaussian_chain(recipe=Augment(ratio=0.7)), 1),
        (gaussian_chain(recipe=Mix(real=0.3, size=8), fresh=3), 4000),
        (gaussian_chain(recipe=Then(Window(3), Subsample(9))), 4000),
    ],
    ids=["window", "decay", "reweigh", "augment", "mix", "subsample"],
)
def test_workflow_of_the_gaussian_is_exact(chain: Chain, draws: int):
    keys = jax.random.split(jax.random.key(0), 20_000)
    found = jax.jit(jax.vmap(lambda key: simulate(chain, key, 6)))(keys)["moments"]
    variance, error = theory.workflow_gaussian(chain, 6, draws=draws)
    assert np.allclose(variance + error, 1)
    assert_mean(found["cov"][..., 0, 0], variance)
    assert_mean(found["mean"][..., 0] ** 2, error)


def test_workflow_contains_the_laws_of_the_gaussian():
    def found(recipe: Recipe, draws: int = 1, **fields: Any) -> np.ndarray:
        return theory.workflow_gaussian(gaussian_chain(recipe=recipe, **fields), 40, draws=draws)[0]

    assert np.allclose(found(Replace()), theory.replace_variance(10, 40))
    assert np.allclose(found(Accumulate()), theory.accumulate_variance(10, 40))
    assert np.allclose(found(Mix(real=0.5, size=10), real=5)[-1], theory.fixed_real_limit(10, 0.5))
    biased = gaussian_chain(recipe=Mix(real=0.3, size=10, fresh=True), fresh=3)
    law = theory.fresh_share(10, 0.3, 40, bias=0.8, ddof=1)
    assert np.allclose(theory.workflow_gaussian(biased, 40, bias=0.8, ddof=1, draws=1), law)


def score(rows: jax.Array) -> jax.Array:
    return rows[:, 0]


def test_a_recipe_that_reads_rows_has_no_workflow():
    with pytest.raises(GenlossError, match="looks at the rows"):
        theory.workflow_error(gaussian_chain(recipe=Then(Window(2), Verify(score))), 3)


# Fits.


def weighed(model: Any, n: int, seed: int = 0) -> tuple[Pool, np.ndarray, np.ndarray, np.ndarray]:
    """A pool of rows with weights, some of them 0, and its weights, x and y."""
    rows = model.sample(jax.random.key(seed), model.init(jax.random.key(0)), n)
    weight = np.random.default_rng(seed).choice([0.0, 0.5, 1.0, 2.0, 3.7], n)
    return Pool.of(rows).weighed(jnp.asarray(weight)), weight, np.asarray(rows["x"], np.float64), np.asarray(rows["y"])


def coef(model: Any, pool: Pool) -> np.ndarray:
    return np.asarray(jax.jit(model.fit)(jax.random.key(0), model.init(jax.random.key(0)), pool)[0].coef)


@pytest.mark.quick("50-3", "12-40", "1-2", "30-20")
@pytest.mark.parametrize(("n", "dim"), [(50, 3), (400, 50), (12, 40), (1, 2), (30, 20)])
def test_fits_are_least_squares_and_of_least_norm(n: int, dim: int):
    pool, w, x, y = weighed(Linear(dim), n, seed=n)
    expected = np.linalg.lstsq(np.sqrt(w)[:, None] * x, np.sqrt(w) * y)[0]
    assert np.allclose(coef(Linear(dim), pool), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("n", "dim"), [(50, 3), (12, 40)])
def test_ridge_against_scikit_learn(n: int, dim: int):
    from sklearn.linear_model import Ridge

    pool, w, x, y = weighed(Linear(dim), n)
    expected = Ridge(alpha=0.3, fit_intercept=False).fit(x, y, w).coef_
    assert np.allclose(coef(Linear(dim, ridge=0.3), pool), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.quick("60-5-0.2", "10-4-0.01")
@pytest.mark.parametrize(("n", "dim", "ridge"), [(200, 3, 1e-3), (60, 5, 0.2), (10, 4, 1e-2)])
def test_logistic_against_scikit_learn(n: int, dim: int, ridge: float):
    from sklearn.linear_model import LogisticRegression

    pool, w, x, y = weighed(Logistic(dim), n)
    reference = LogisticRegression(C=1 / ridge, fit_intercept=False, tol=1e-8, max_iter=10_000).fit(x, y, w)
    assert np.allclose(coef(Logistic(dim, ridge), pool), reference.coef_[0], rtol=1e-3, atol=1e-4)


def test_logistic_finds_the_optimum_of_separable_rows():
    """Where a full Newton step from 0 can overshoot: 4,000 small, mostly separable data sets."""
    model, steep = Logistic(4, ridge=1e-4), LogisticParams(jnp.full(4, 2.5))

    def slope(key: jax.Array) -> jax.Array:
        rows = model.sample(key, steep, 6)
        found = model.fit(key, model.init(key), Pool.of(rows))[0].coef
        return rows["x"].T @ (rows["y"] - jax.nn.sigmoid(rows["x"] @ found)) - 1e-4 * found

    assert np.abs(jax.jit(jax.vmap(slope))(jax.random.split(jax.random.key(0), 4000))).max() < 1e-4


def test_logistic_labels_have_the_truths_log_odds():
    model, truth = Logistic(3), LogisticParams(jnp.array([0.3, -2.0, 1.0]))
    rows = model.sample(jax.random.key(0), truth, 100_000)
    assert_mean(rows["y"] - jax.nn.sigmoid(rows["x"] @ truth.coef), 0.0)
    assert np.allclose(coef(model, Pool.of(rows)), truth.coef, atol=0.05)


@pytest.mark.parametrize("model", [Linear(2, noise=0.7), Logistic(2)])
def test_log_density_is_that_of_scipy(model: Any):
    from scipy import stats

    params = model.init(jax.random.key(0))
    rows = model.sample(jax.random.key(1), params, 9)
    x, y, mean = np.asarray(rows["x"]), np.asarray(rows["y"]), np.asarray(rows["x"] @ params.coef)
    on_y = (
        stats.norm.logpdf(y, mean, 0.7)
        if isinstance(model, Linear)
        else stats.bernoulli.logpmf(y, 1 / (1 + np.exp(-mean)))
    )
    assert np.allclose(model.log_prob(params, rows), stats.norm.logpdf(x).sum(-1) + on_y, atol=1e-4)


@pytest.mark.parametrize(
    ("model", "bad"),
    [
        (Linear, {"dim": 0}),
        (Linear, {"noise": -1.0}),
        (Linear, {"ridge": -1.0}),
        (Logistic, {"dim": 0}),
        (Logistic, {"steps": 0}),
        (Logistic, {"ridge": 0.0}),
    ],
)
def test_bad_numbers_are_refused(model: Any, bad: dict[str, float]):
    with pytest.raises(GenlossError, match=f"{next(iter(bad))}=.* must"):
        model(**bad)


def test_noise_and_ridge_can_be_swept():
    def make(noise: jax.Array) -> Chain:
        model = Linear(2, noise=noise, ridge=0.0 * noise)
        return Chain(source=Truth(model), generator=model, real=20, rows=20, probes={"excess": excess}, held_out=1)

    found = ensemble(make, jnp.array([0.0, 2.0]), jax.random.split(jax.random.key(0), CHAINS), 2)["excess"]
    assert np.abs(found[0]).max() < 1e-9
    assert_mean(found[1], theory.accumulate_risk(20, 2, 2, noise=2.0))
