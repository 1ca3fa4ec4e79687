"""Chains of cohorts obey the laws of the chains row by row, and agree with them fit by fit."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_mean, cases, gaussian_chain
from scipy import stats

from generators import Categorical, Cohort, Gaussian, Linear, Poisson
from simulator import Chain, GenlossError, Pool, Truth, run, simulate, theory
from simulator.probes import Categories, LogDet, Moments, Rate, Risk
from simulator.recipe import Accumulate, Decay, Replace, Reweigh, Then, Window

CHAINS = 3000
every_generator = pytest.mark.parametrize(
    "generator", [Gaussian(3), Linear(3), Categorical(4), Poisson(3.0)], ids=lambda g: type(g).__name__
)


def cohorts(
    generator: Any, n: int, probe: Any, recipe: Any, generations: int, merge: bool = True, **fields: Any
) -> Any:
    cohort = Cohort(generator, n, merge)
    chain = Chain(
        source=Truth(cohort), generator=cohort, recipe=recipe, probes={"p": probe}, **{"real": 1, "rows": 1, **fields}
    )
    keys = jax.random.split(jax.random.key(0), CHAINS)
    return jax.jit(jax.vmap(lambda key: simulate(chain, key, generations)["p"]))(keys)


RECIPES = [Replace(), Accumulate(), Window(2), Decay(0.6), Then(Accumulate(), Reweigh(real=0.3))]
KINDS = cases(
    {type(g).__name__: g for g in (Gaussian(3), Linear(3), Categorical(4), Poisson(3.0))}, "Gaussian; Categorical"
)


@pytest.mark.quick("4-7-Decay")
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: type(r).__name__)
@pytest.mark.parametrize(("dim", "n"), [pytest.param(1, 8, marks=pytest.mark.slow), (4, 7)])
def test_gaussian(recipe: Any, dim: int, n: int):
    variance, error = theory.workflow_gaussian(gaussian_chain(recipe=recipe, real=n, rows=n), 10)
    found = cohorts(Gaussian(dim), n, Moments(), recipe, 10)
    assert_mean(found["variance"], variance)
    assert_mean(found["mean_error"], dim * error)


@pytest.mark.quick("4-7-0")
@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize(("dim", "n"), [pytest.param(1, 9, marks=pytest.mark.slow), (4, 7)])
def test_log_determinant_long_after_the_covariance_underflows(dim: int, n: int, ddof: int):
    found = cohorts(Gaussian(dim, ddof), n, LogDet(), Replace(), 300)
    t = np.arange(1, 301)
    drift = theory.replace_log_determinant(n, dim, 300) + t * dim * np.log(n / (n - ddof))
    assert drift[-1] / dim < -50 * (1 - ddof) - 10
    assert_mean(found, drift)


@pytest.mark.slow
def test_sampling_bias():
    found = cohorts(Gaussian(2, ddof=1, bias=0.7), 15, Moments(), Replace(), 6)
    variance, error = theory.biased_variance(15, 0.7, 6)
    # The source is biased too here: the first fit eats rows of variance 0.7.
    assert_mean(found["variance"], 0.7 * variance)
    assert_mean(found["mean_error"], 2 * 0.7 * error)


def test_fresh_cohorts_of_another_size():
    """20 fresh real rows and 60 of the last model: share 1/4 of 80."""
    chain = Chain(
        source=Truth(Cohort(Gaussian(2), 20)),
        generator=Cohort(Gaussian(2), 60),
        recipe=Replace(),
        probes={"p": Moments()},
        real=4,
        rows=1,
        fresh=1,
        held_out=0,
    )
    keys = jax.random.split(jax.random.key(1), CHAINS)
    found = jax.jit(jax.vmap(lambda key: simulate(chain, key, 12)["p"]))(keys)
    variance, error = theory.fresh_share(80, 0.25, 12)
    assert_mean(found["variance"], variance)
    assert_mean(found["mean_error"], 2 * error)


@pytest.mark.parametrize(("size", "n"), [(5, 12)])
@pytest.mark.parametrize("recipe", cases({type(r).__name__: r for r in RECIPES[:4]}, "Accumulate"))
def test_categories(recipe: Any, size: int, n: int):
    found = cohorts(Categorical(size), n, Categories(), recipe, 8)
    kept, _ = theory.workflow_gaussian(gaussian_chain(recipe=recipe, real=n, rows=n), 8)
    assert_mean(found["heterozygosity"], (1 - 1 / size) * kept)


def test_poisson():
    found = cohorts(Poisson(0.9), 5, Rate(), Replace(), 20)
    assert_mean(found["alive"], theory.poisson_survival(5, 0.9, 20))
    for recipe in (Accumulate(), Window(2)):
        assert_mean(cohorts(Poisson(0.6), 9, Rate(), recipe, 10)["rate"], np.full(10, 0.6))


@pytest.mark.parametrize(("dim", "n", "noise"), [pytest.param(1, 9, 0.5, marks=pytest.mark.slow), (5, 30, 2.0)])
def test_regression(dim: int, n: int, noise: float):
    for recipe, law in ((Replace(), theory.replace_risk), (Accumulate(), theory.accumulate_risk)):
        assert_mean(cohorts(Linear(dim, noise), n, Risk(), recipe, 10), law(n, dim, 10, noise))


@pytest.mark.quick("Gaussian-accumulate")
@pytest.mark.parametrize(
    "recipe", [Accumulate(), pytest.param(Replace(), marks=pytest.mark.slow)], ids=["accumulate", "replace"]
)
@pytest.mark.parametrize("generator", KINDS)
def test_distribution_of_the_fourth_fit_is_that_of_rows(generator: Any, recipe: Any):
    """Two samples of the same statistic: cohorts, and row by row."""

    def fourth(chain: Chain, seed: int) -> np.ndarray:
        def one(key: jax.Array) -> jax.Array:
            state = chain.init(key, 4)
            for t in range(4):
                state, _ = chain.step(jax.random.fold_in(key, t), state)
            return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(means(state.params))])

        return np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(seed), 4000)))

    def means(params: Any) -> Any:
        return (params.mean, params.cov) if hasattr(params, "mean") else tuple(params)

    n, cohort = 11, Cohort(generator, 11)
    one = Chain(source=Truth(cohort), generator=cohort, recipe=recipe, real=1, rows=1, held_out=0)
    other = Chain(source=Truth(generator), generator=generator, recipe=recipe, real=n, rows=n, held_out=0)
    for a, b in zip(fourth(one, 0).T, fourth(other, 1).T, strict=True):
        found: Any = stats.ks_2samp(a, b)
        assert found.pvalue > 1e-4


@pytest.mark.quick("Gaussian")
@pytest.mark.parametrize("generator", KINDS)
def test_merged_and_separate_cohorts_agree(generator: Any):
    found = [
        np.concatenate([np.ravel(x) for x in jax.tree.leaves(simulate(chain, jax.random.key(0), 12)["p"])])
        for chain in (accumulating(generator, merge) for merge in (True, False))
    ]
    assert np.allclose(*found, rtol=2e-4)


def parameters(key: jax.Array, view: Any) -> Any:
    return {name: getattr(view.params, name) for name in view.params._fields} | {"t": view.t}


def accumulating(generator: Any, merge: bool) -> Chain:
    cohort = Cohort(generator, 40, merge)
    return Chain(source=Truth(cohort), generator=cohort, recipe=Accumulate(), probes={"p": parameters}, real=1, rows=1)


def test_merged_cohorts_need_no_memory():
    assert accumulating(Gaussian(2), True).ring.capacity(1000) == 2
    assert accumulating(Gaussian(2), False).ring.capacity(1000) == 1001


@pytest.mark.slow
def test_a_merged_chain_resumes_to_the_bit(tmp_path: Any):
    chain = accumulating(Gaussian(2), True)
    whole = run(chain, jax.random.key(0), 9, tmp_path / "whole", replicates=3, every=2)
    run(chain, jax.random.key(0), 4, tmp_path / "parts", replicates=3, every=2)
    parts = run(chain, jax.random.key(0), 9, tmp_path / "parts", replicates=3, every=2)
    assert jax.tree.all(jax.tree.map(np.array_equal, whole, parts))
    scanned = jax.vmap(lambda r: simulate(chain, jax.random.fold_in(jax.random.key(0), r), 9))(jnp.arange(3))
    assert jax.tree.all(jax.tree.map(lambda a, b: np.allclose(a, b, rtol=1e-5), scanned, whole))


@pytest.mark.quick("Categorical")
@pytest.mark.parametrize("generator", KINDS)
def test_fit_of_the_statistics_is_the_fit_of_the_rows(generator: Any):
    """Cohorts whose statistic is computed from given rows: the fit is the generator's own on those rows."""
    rows = [generator.sample(jax.random.key(i), generator.init(jax.random.key(9)), 20) for i in range(3)]
    weight = jnp.array([1.0, 0.5, 2.0])
    together = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *rows)
    expected = generator.fit(
        jax.random.key(0), generator.init(jax.random.key(0)), Pool.of(together).weighed(jnp.repeat(weight, 20))
    )[0]
    statistics = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[statistic(generator, r) for r in rows])
    cohort = Cohort(generator, 20)
    found = cohort.fit(jax.random.key(0), cohort.init(jax.random.key(0)), Pool.of(statistics).weighed(weight))[0]
    for name in expected._fields:
        assert np.allclose(getattr(found, name), getattr(expected, name), rtol=1e-4, atol=1e-5)


def statistic(generator: Any, rows: Any) -> Any:
    """The statistic of given rows, computed the plain way."""
    empty = Cohort(generator, 20).sample(jax.random.key(0), Cohort(generator, 20).init(jax.random.key(0)), 1)
    empty = jax.tree.map(lambda leaf: leaf[0], empty)
    if isinstance(generator, Gaussian):
        mean = rows.mean(0)
        return empty._replace(mean=mean, scatter=(rows - mean).T @ (rows - mean))
    if isinstance(generator, Linear):
        return empty._replace(gram=rows["x"].T @ rows["x"], moment=rows["x"].T @ rows["y"])
    if isinstance(generator, Poisson):
        return empty._replace(total=rows.sum().astype(jnp.float32))
    return jnp.zeros(generator.size).at[rows].add(1.0)


@pytest.mark.parametrize(
    ("make", "mend"),
    [
        (lambda: Cohort(Gaussian(3), 3), "at least 4"),
        (lambda: Cohort(Linear(5), 4), "at least 5"),
        (lambda: Cohort(Poisson(1.0), 0), "at least 1"),
        (lambda: Cohort(Cohort(Poisson(1.0), 5), 5), "row by row"),
    ],
)
def test_what_cannot_be_a_cohort_is_refused(make: Any, mend: str):
    with pytest.raises(GenlossError, match=mend):
        make()
