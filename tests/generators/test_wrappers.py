"""Smoothers, mixtures and generators made of generators: references, exact equalities, laws."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_mean
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity

from generators.gaussian import Gaussian, GaussianParams
from generators.kde import KDE
from generators.mixture import Mixture, MixtureParams, grid_modes
from generators.per_class import PerClass
from generators.society import Society
from simulator import Chain, GenlossError, Pool, Truth, simulate, theory
from simulator.recipe import Replace


def points(seed: int, n: int, dim: int = 2) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), (n, dim)) * jnp.arange(1.0, dim + 1) + 3


def fit(model: Any, rows: Any, weight: Any = None, seed: int = 0) -> Any:
    pool = Pool.of(rows, len(jax.tree.leaves(rows)[0]) + 5)  # with empty slots
    if weight is not None:
        pool = pool.weighed(jnp.pad(jnp.asarray(weight, jnp.float32), (0, 5)))
    return jax.jit(model.fit)(jax.random.key(seed), model.init(jax.random.key(1)), pool)[0]


def chains(chain: Chain, generations: int, number: int) -> Any:
    keys = jax.random.split(jax.random.key(0), number)
    return jax.jit(jax.vmap(lambda key: simulate(chain, key, generations)))(keys)


# Kernel density.


@pytest.mark.parametrize("bandwidth", [0.2, 1.5])
def test_kde_equals_scikit_learn(bandwidth: float):
    rows, new, weight = points(0, 40), points(1, 300), np.arange(40) % 4  # weights sum to 60
    params = fit(KDE(2, bandwidth, size=120), rows, weight)  # twice as many centres as rows eaten: exact
    reference = KernelDensity(bandwidth=bandwidth).fit(np.asarray(rows), sample_weight=weight + 1e-12)
    found = KDE(2, bandwidth, size=120).log_prob(params, new)
    assert np.allclose(found, reference.score_samples(np.asarray(new)), rtol=1e-4, atol=1e-4)


def test_kde_keeps_each_row_once_where_it_can_and_in_proportion_where_not():
    rows = jnp.arange(64.0)[:, None]
    assert np.array_equal(np.asarray(fit(KDE(1, 1.0, size=64), rows).rows), rows)
    weight = np.linspace(0, 3, 64) ** 2
    pool = Pool.of(rows).weighed(jnp.asarray(weight))
    model = KDE(1, 1.0, size=20)
    keys = jax.random.split(jax.random.key(0), 5000)
    kept = jax.jit(jax.vmap(lambda key: model.fit(key, model.init(key), pool)[0].rows[:, 0]))(keys)  # [keys, size]
    counts = (np.asarray(kept)[:, :, None] == np.arange(64)).sum(1)  # [keys, 64]
    expected = 20 * weight / weight.sum()
    assert not counts[:, 0].any()
    assert ((counts >= np.floor(expected)) & (counts <= np.ceil(expected))).all()
    assert_mean(counts[:, 1:], expected[1:])


def test_kde_without_bandwidth_copies_rows_and_with_it_spreads_them():
    rows = jnp.arange(10.0)[:, None]
    params = fit(KDE(1, 0.0, size=10), rows)
    assert np.isin(KDE(1, 0.0, size=10).sample(jax.random.key(0), params, 50), rows).all()
    x = KDE(1, 0.1, size=10).sample(jax.random.key(1), params, 20_000)
    assert_mean((x - jnp.round(x))[:, 0] ** 2, 0.01)
    assert_mean(np.round(np.asarray(x)) == np.arange(10), np.full(10, 0.1))


# Mixture.


def test_mixture_reaches_the_likelihood_of_scikit_learn():
    truth = MixtureParams(
        jnp.array([0.5, 0.3, 0.2]),
        jnp.array([[0.0, 0.0], [4.0, 1.0], [-2.0, 5.0]]),
        jnp.array([[[1.0, 0.5], [0.5, 1.0]], [[0.5, 0.0], [0.0, 2.0]], [[1.0, -0.6], [-0.6, 0.5]]]),
    )
    model = Mixture(2, 3, steps=200)
    rows = model.sample(jax.random.key(0), truth, 1500)
    params = fit(model, rows)
    reference: Any = GaussianMixture(3, reg_covar=1e-3, n_init=5, tol=1e-7, max_iter=500, random_state=0)
    reference.fit(np.asarray(rows))
    assert np.isclose(model.log_prob(params, rows).mean(), reference.score(np.asarray(rows)), atol=1e-4)
    order, other = np.argsort(params.weights), np.argsort(reference.weights_)
    for mine, theirs in zip(params, (reference.weights_, reference.means_, reference.covariances_), strict=True):
        assert np.allclose(np.asarray(mine)[order], theirs[other], atol=0.01)
    # And the density is theirs.
    reference.weights_, reference.means_, reference.covariances_ = (np.asarray(a, np.float64) for a in truth)
    reference.precisions_cholesky_ = np.linalg.inv(np.linalg.cholesky(reference.covariances_)).swapaxes(1, 2)
    assert np.allclose(model.log_prob(truth, rows), reference.score_samples(np.asarray(rows)), atol=1e-4)


@pytest.mark.quick("2-4-7")
@pytest.mark.parametrize(("dim", "components", "steps"), [(1, 3, 1), (2, 4, 7), (3, 2, 30)])
def test_mixture_has_the_moments_of_its_rows(dim: int, components: int, steps: int):
    rows, weight = np.asarray(points(2, 80, dim), np.float64), np.arange(80) % 5 / 2
    weights, means, covs = fit(Mixture(dim, components, steps, floor=0.3), jnp.asarray(rows, jnp.float32), weight)
    mean = weights @ means
    assert np.allclose(mean, np.average(rows, axis=0, weights=weight), atol=1e-4)
    cov = np.einsum("k,kij->ij", weights, covs) + np.cov(means.T, aweights=weights, ddof=0)
    assert np.allclose(cov, np.cov(rows.T, aweights=weight, ddof=0) + 0.3 * np.eye(dim), atol=1e-3)


def test_expectation_maximisation_never_loses_likelihood():
    rows = Mixture(2, 5).sample(jax.random.key(0), Mixture(2, 5).init(jax.random.key(0)), 400)
    scores = []
    for steps in (1, 2, 4, 9):
        model = Mixture(2, 4, steps, floor=1e-6)
        scores.append(float(model.log_prob(fit(model, rows), rows).mean()))
    assert (np.diff(scores) > -1e-5).all() and scores[-1] > scores[0]


def test_mixture_finds_all_modes_of_a_grid():
    truth, model = grid_modes(5, 2.0, 0.05), Mixture(2, 25, steps=20)
    assert truth.means.shape == (25, 2) and np.allclose(truth.means.mean(0), 0) and truth.means.max() == 4
    rows = model.sample(jax.random.key(0), truth, 2500)
    found = np.asarray(fit(model, rows).means)
    distance = np.linalg.norm(found[:, None] - np.asarray(truth.means), axis=-1)  # [25, 25]
    assert len(set(distance.argmin(1))) == 25 and distance.min(1).max() < 0.05
    assert np.isclose(rows.std(), np.sqrt(8 + 0.05**2), atol=0.1)


def test_mixture_samples_what_its_density_says():
    params = MixtureParams(
        jnp.array([0.25, 0.75]), jnp.array([[-3.0, 0.0], [2.0, 1.0]]), jnp.array([[[1.0, 0.8], [0.8, 1.0]]] * 2)
    )
    x = np.asarray(jax.jit(Mixture(2, 2).sample, static_argnums=2)(jax.random.key(0), params, 40_000), np.float64)
    mean = np.array([0.25 * -3 + 0.75 * 2, 0.75])
    assert_mean(x, mean)
    between = 0.25 * 0.75 * 5 * 1
    assert_mean((x[:, 0] - mean[0]) * (x[:, 1] - mean[1]), 0.8 + between)
    # The integral of the density is 1: E over a wide uniform of density times volume.
    square = jax.random.uniform(jax.random.key(1), (100_000, 2), minval=-9.0, maxval=9.0)
    assert_mean(18.0**2 * np.exp(np.asarray(jax.jit(Mixture(2, 2).log_prob)(params, square))), 1.0)


def test_mixture_survives_fewer_rows_than_components():
    model = Mixture(2, 6, steps=10)
    params = fit(model, points(0, 3), [1, 0, 2])
    assert all(np.isfinite(leaf).all() for leaf in params)
    assert np.isfinite(model.sample(jax.random.key(0), params, 50)).all()
    assert np.isfinite(model.log_prob(params, points(0, 3))).all()


# One model per class.


def labelled(n: int) -> dict[str, jax.Array]:
    return {"x": points(5, n), "label": jnp.arange(n, dtype=jnp.int32) % 3}


def test_per_class_fits_each_class_on_its_own_rows():
    rows, weight = labelled(30), np.arange(30) % 4
    model = PerClass(Gaussian(2), 3)
    params = fit(model, rows, weight)
    label = np.asarray(rows["label"])
    assert np.allclose(params.share, np.bincount(label, weights=weight) / weight.sum())
    for c in range(3):
        alone = fit(Gaussian(2), rows["x"][label == c], weight[label == c])
        assert np.allclose(params.models.mean[c], alone.mean, atol=1e-5)
        assert np.allclose(params.models.cov[c], alone.cov, atol=1e-4)
        found = model.log_prob(params, rows)[label == c]
        assert np.allclose(
            found, np.log(params.share[c]) + Gaussian(2).log_prob(alone, rows["x"][label == c]), atol=1e-3
        )


def test_per_class_samples_rows_of_their_class():
    model = PerClass(Gaussian(1), 3)
    params = model.init(jax.random.key(0))
    models = GaussianParams(jnp.array([[-5.0], [0.0], [7.0]]), jnp.full((3, 1, 1), 0.25))
    params = params._replace(share=jnp.array([0.2, 0.5, 0.3]), models=models)
    rows = jax.tree.map(np.asarray, model.sample(jax.random.key(1), params, 20_000))
    assert_mean(rows["label"][:, None] == np.arange(3), params.share)
    assert_mean(rows["x"][:, 0] - np.array([-5, 0, 7])[rows["label"]], 0.0)
    assert_mean((rows["x"][:, 0] - np.array([-5, 0, 7])[rows["label"]]) ** 2, 0.25)


def test_a_class_that_is_lost_stays_lost():
    rows = labelled(30)
    model = PerClass(Gaussian(2), 3)
    params = fit(model, rows, rows["label"] != 1)
    assert params.share[1] == 0 and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))
    assert not (model.sample(jax.random.key(0), params, 500)["label"] == 1).any()


@pytest.mark.quick("3-8")
@pytest.mark.parametrize(("classes", "n"), [(3, 8), (5, 20)])
def test_labels_drift_as_genes_do(classes: int, n: int):
    """Wright-Fisher: E[1 - Σ share²] = (1 - 1/K)(1 - 1/n)^t."""

    def variety(key: jax.Array, view: Any) -> jax.Array:
        return 1 - (view.params.share**2).sum()

    model = PerClass(Gaussian(1), classes)
    chain = Chain(source=Truth(model), generator=model, recipe=Replace(), probes={"variety": variety}, real=n, rows=n)
    found = chains(chain, 8, 3000)["variety"]
    assert_mean(found, (1 - 1 / classes) * (1 - 1 / n) ** np.arange(1, 9))


# Society.


@pytest.mark.parametrize("members", [2, 7])
def test_parts_are_disjoint_and_add_up(members: int):
    society = Society(Gaussian(1), members, share=True)
    eaten = np.arange(50) % 3 != 1
    parts = np.asarray(society.parts(jnp.asarray(eaten, jnp.float32)))  # [members, 50]
    assert np.array_equal(parts.sum(0), eaten) and set(parts.ravel()) == {0.0, 1.0}
    assert np.ptp(parts.sum(1)) <= 1  # as many rows each
    weight = np.asarray(jax.random.exponential(jax.random.key(0), (50,)) * eaten)
    parts = np.asarray(society.parts(jnp.asarray(weight)))
    assert (parts >= -1e-5).all() and np.allclose(parts.sum(0), weight, atol=1e-5)
    assert np.ptp(parts.sum(1)) <= 1 + 1e-4 and not parts[:, ~eaten].any()


def test_members_eat_all_or_their_own_part():
    rows = points(0, 24)
    together, apart = Society(Gaussian(2), 3), Society(Gaussian(2), 3, share=True)
    alone = fit(Gaussian(2), rows)
    assert np.allclose(fit(together, rows).mean, alone.mean, atol=1e-5)
    for i, (mean, cov) in enumerate(zip(*fit(apart, rows), strict=True)):
        own = fit(Gaussian(2), rows[i::3])
        assert np.allclose(mean, own.mean, atol=1e-5) and np.allclose(cov, own.cov, atol=1e-4)


@pytest.mark.parametrize(("members", "n"), [(3, 10), (5, 3)])
def test_members_write_in_turn(members: int, n: int):
    society = Society(Gaussian(1), members)
    params = GaussianParams(100 * jnp.arange(float(members))[:, None], jnp.ones((members, 1, 1)))
    rows = np.asarray(jax.jit(society.sample, static_argnums=2)(jax.random.key(0), params, n))
    writer = np.round(rows[:, 0] / 100).astype(int)
    assert rows.shape == (n, 1) and len(set(rows[:, 0])) == n
    assert np.array_equal(writer, np.sort(np.arange(n) % members))
    density = np.exp(society.log_prob(params, jnp.array([[0.5], [100.0]])))
    assert np.allclose(density, np.exp([-0.125, 0]) / np.sqrt(2 * np.pi) / members, rtol=1e-4)


def statistics(key: jax.Array, view: Any) -> dict[str, jax.Array]:
    return {"variance": view.params.cov[:, 0, 0].mean(), "error": (view.params.mean[:, 0] ** 2).mean()}


@pytest.mark.quick("3-9")
@pytest.mark.parametrize(("members", "n"), [(3, 9), (2, 7)])
def test_a_society_that_shares_its_diet_is_one_gaussian(members: int, n: int):
    chain = Chain(
        source=Truth(Gaussian(1)),
        generator=Society(Gaussian(1), members),
        recipe=Replace(),
        probes={"statistics": statistics},
        real=n,
        rows=n,
    )
    found = chains(chain, 6, 3000)
    assert_mean(found["statistics.variance"], theory.replace_variance(n, 6))


@pytest.mark.quick("2-4")
@pytest.mark.parametrize(("members", "each"), [(2, 4), (3, 6)])
def test_a_society_that_divides_its_diet(members: int, each: int):
    """Each of M members eats k rows, k/M of every writer.  With V = E[m_i²] and R = E[m_i m_j] (derived):
    Q = (V + (M-1)R)/M, V' = Q + (1 - V)/k, R' = Q, and E[S_i] = 1 - V.
    """
    chain = Chain(
        source=Truth(Gaussian(1)),
        generator=Society(Gaussian(1), members, share=True),
        recipe=Replace(),
        probes={"statistics": statistics},
        real=members * each,
        rows=members * each,
    )
    found = chains(chain, 8, 3000)
    errors, between = [1 / each], 0.0
    for _ in range(7):
        shared = (errors[-1] + (members - 1) * between) / members
        errors.append(shared + (1 - errors[-1]) / each)
        between = shared
    assert_mean(found["statistics.error"], np.array(errors))
    assert_mean(found["statistics.variance"], 1 - np.array(errors))


def total(key: jax.Array, view: Any) -> jax.Array:
    return jnp.stack([leaf.sum() for leaf in jax.tree.leaves((view.params, view.synthetic))]).sum()


def test_wrappers_nest():
    model = Society(PerClass(Gaussian(2), 2), 2, share=True)
    truth = Truth(PerClass(Mixture(2, 2), 2))  # any truth that writes such rows
    chain = Chain(source=truth, generator=model, probes={"finite": total}, real=24, rows=24)
    assert chain.model == model
    assert np.isfinite(jax.jit(lambda key: simulate(chain, key, 3))(jax.random.key(0))["finite"]).all()


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        (lambda: KDE(0), "dim"),
        (lambda: KDE(1, -0.1), "bandwidth"),
        (lambda: KDE(1, size=0), "at least 1"),
        (lambda: Mixture(2, 0), "components"),
        (lambda: Mixture(2, 3, steps=0), "steps"),
        (lambda: Mixture(2, 3, floor=0.0), "floor"),
        (lambda: grid_modes(0), "side"),
        (lambda: PerClass(Gaussian(2), 0), "classes"),
        (lambda: Society(Gaussian(2), 0), "members"),
        (lambda: PerClass(Gaussian(2), 2).shaped(points(0, 3)), "an x and a label"),
        (lambda: PerClass(Gaussian(2), 2).shaped(labelled(6)), "label 2"),
    ],
)
def test_bad_values_are_refused(bad: Callable[[], Any], named: str):
    with pytest.raises(GenlossError, match=named):
        bad()
