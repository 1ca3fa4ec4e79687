"""Chains that smooth, select, cut or weigh, against simulator/theory/{smoothing,golden}.py, in standard errors."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_mean, gaussian_chain, moments
from scipy.stats import norm

from generators.gaussian import Gaussian, GaussianParams
from generators.kde import KDE
from generators.mixture import Mixture
from simulator import Chain, Pool, Truth, schedule, simulate, theory
from simulator.recipe import Curate, Mix, Replace, Reweigh, Subsample, Then, Verify

POINTS = jnp.array([-2.0, 0.0, 0.7, 3.0])[:, None]  # where densities are compared


def run(chain: Chain, generations: int, chains: int, seed: int = 0) -> Any:
    """The record of many chains, leaves [chains, generations, ...]."""
    keys = jax.random.split(jax.random.key(seed), chains)
    return jax.jit(jax.vmap(lambda key: simulate(chain, key, generations)))(keys)


# Smoothing.


def kernels(key: jax.Array, view: Any) -> dict[str, jax.Array]:
    """First two moments of the estimate, and its density at a few points."""
    rows, smoothing = view.params.rows, view.generator.bandwidth**2
    return {
        "second": (rows**2).mean() + smoothing,
        "variance": rows.var() + smoothing,
        "density": jnp.exp(view.generator.log_prob(view.params, POINTS)),
    }


def kde_chain(n: int, bandwidth: float, **fields: Any) -> Chain:
    model = KDE(1, bandwidth, size=n)
    fields = {"real": n, "rows": n, "recipe": Replace(), "probes": {"kernels": kernels}, **fields}
    return Chain(source=Truth(Gaussian(1)), generator=model, **fields)


@pytest.mark.quick("12-0.25")
@pytest.mark.parametrize(("n", "bandwidth"), [(7, 0.6), (12, 0.25)])
def test_kernels_alone_smooth_without_end(n: int, bandwidth: float):
    found = run(kde_chain(n, bandwidth), 6, 6000)
    assert_mean(found["kernels.second"], theory.smoothed_second_moment(bandwidth, 6))
    assert_mean(found["kernels.variance"], theory.smoothed_variance(n, bandwidth, 6))
    assert_mean(found["kernels.density"], theory.smoothed_density(np.asarray(POINTS[:, 0]), bandwidth, 6))


@pytest.mark.quick("8-0.5-0.25")
@pytest.mark.parametrize(
    ("n", "bandwidth", "share"), [pytest.param(8, 0.5, 0.25, marks=pytest.mark.slow), (10, 0.8, 0.6)]
)
def test_fresh_rows_bound_the_smoothing(n: int, bandwidth: float, share: float):
    chain = kde_chain(n, bandwidth, recipe=Mix(real=share, size=n, fresh=True), fresh=round(share * n))
    found = run(chain, 6, 3000)
    assert_mean(found["kernels.second"], theory.smoothed_second_moment(bandwidth, 6, share))
    assert_mean(found["kernels.density"], theory.smoothed_density(np.asarray(POINTS[:, 0]), bandwidth, 6, share))


def test_smoothing_has_the_limits_of_its_series():
    x, h, share = np.linspace(-30, 30, 6001), 0.7, 0.2
    density = theory.smoothed_density(x, h, 200, share)
    k = np.arange(2000)[:, None]
    limit = (share * (1 - share) ** k * norm.pdf(x, scale=np.sqrt(1 + (k + 1) * h * h))).sum(0)
    assert np.allclose(density[-1], limit, atol=1e-12)
    assert np.allclose(np.trapezoid(density * x**2, x), theory.smoothed_second_moment(h, 200, share), atol=1e-6)
    assert np.allclose(theory.smoothed_second_moment(h, 200, share)[-1], 1 + h * h / share)


@pytest.mark.quick("2-10-0.2")
@pytest.mark.parametrize(("k", "n", "floor"), [pytest.param(2, 10, 0.2, marks=pytest.mark.slow), (3, 14, 0.05)])
def test_mixture_moves_as_a_gaussian_with_its_floor(k: int, n: int, floor: float):
    """Expectation maximisation keeps the moments of its rows, so the total variance obeys the Gaussian's law."""

    def total(key: jax.Array, view: Any) -> dict[str, jax.Array]:
        weights, means, covs = view.params
        mean = weights @ means[:, 0]
        second = weights @ (means[:, 0] ** 2 + covs[:, 0, 0])
        return {"second": second, "variance": second - mean**2}

    chain = Chain(
        source=Truth(Gaussian(1)),
        generator=Mixture(1, k, steps=4, floor=floor),
        recipe=Replace(),
        probes={"total": total},
        real=n,
        rows=n,
    )
    found = run(chain, 5, 3000)
    assert_mean(found["total.second"], theory.smoothed_second_moment(floor**0.5, 5))
    assert_mean(found["total.variance"], theory.smoothed_variance(n, floor**0.5, 5))


# Selection.


@dataclass(frozen=True)
class Still(Gaussian):
    """Speaks the standard normal whatever it eats: curation of it has exact laws at any number of rows."""

    def fit(self, key: jax.Array, params: GaussianParams, pool: Pool) -> tuple[GaussianParams, dict[str, jax.Array]]:
        return self.init(key), {}


@dataclass(frozen=True)
class Bump:
    """A reward with its top at `centre`."""

    strength: float
    centre: float

    def __call__(self, rows: jax.Array) -> jax.Array:
        return -0.5 * self.strength * (rows[:, 0] - self.centre) ** 2


def diet(key: jax.Array, view: Any) -> dict[str, jax.Array]:
    """Moments of the weighted diet about the origin."""
    x, w = view.diet.rows[:, 0], view.diet.weight
    return {f"m{i}": (w * x**i).sum() / w.sum() for i in (1, 2, 3)}


@pytest.mark.quick("reward0-1.0")
@pytest.mark.parametrize(("reward", "strength"), [(Bump(0.8, 1.2), 1.0), (Bump(2.5, -0.5), 0.4)])
def test_a_choice_of_two_tilts_by_bradley_and_terry(reward: Bump, strength: float):
    recipe = Then(Replace(), Curate(reward, best_of=2, strength=strength))
    chain = Chain(source=Truth(Gaussian(1)), generator=Still(1), recipe=recipe, probes={"diet": diet}, real=12, rows=12)
    found = run(chain, 2, 5000)
    x = np.linspace(-8, 8, 801)
    p = norm.pdf(x) / norm.pdf(x).sum()
    curated = theory.preferred(p, strength * -0.5 * reward.strength * (x - reward.centre) ** 2, 2)[1]
    assert np.isclose(curated.sum(), 1)
    assert (np.asarray(found["fit.mass"][:, 1]) == 6).all()  # one of every pair, in every chain
    for i in (1, 2, 3):
        assert_mean(found[f"diet.m{i}"][:, 1], curated @ x**i)


@pytest.mark.quick("0.7-1.5")
@pytest.mark.parametrize(("strength", "centre"), [(0.7, 1.5), (0.3, -2.0)])
def test_best_of_many_is_a_gaussian_again(strength: float, centre: float):  # many rows, as the law has no n
    chain = gaussian_chain(recipe=Then(Replace(), Curate(Bump(strength, centre), None)), real=5000, rows=5000)
    found = run(chain, 4, 64)
    variance, mean = theory.tilted_gaussian(strength, centre, 4)
    assert_mean(found["moments.cov"][..., 0, 0], variance)
    assert_mean(found["moments.mean"][..., 0], mean)


def test_tilting_is_what_the_gaussian_law_says_and_the_limit_of_choices():
    x = np.linspace(-12, 12, 4001)
    p = norm.pdf(x) / norm.pdf(x).sum()
    tilted = theory.tilted(p, -0.5 * 0.35 * (x - 1.7) ** 2, 6)
    variance, mean = theory.tilted_gaussian(0.35, 1.7, 6)
    assert np.allclose(tilted @ x, mean) and np.allclose(tilted @ x**2 - (tilted @ x) ** 2, variance)
    # Where rewards hardly differ, a choice of two tilts by half of them.
    weak = 0.01 * np.sin(x)
    assert np.allclose(theory.preferred(p, weak, 4), theory.tilted(p, weak / 2, 4), rtol=1e-3)
    assert np.allclose(theory.preferred(p, weak, 1)[0], p)


def test_curation_prefers_by_the_tilt_of_each_row():
    """Weights of `Curate(best_of=None)` on categories are those of the law."""
    p, reward = np.array([0.5, 0.3, 0.2]), np.array([0.1, -0.7, 1.3])
    rows = jnp.repeat(jnp.arange(3.0), jnp.array([5, 3, 2]))[:, None]
    pool = Pool.of(rows).replace(origin=jnp.ones(10, jnp.int32))
    weight = Curate(lambda x: jnp.asarray(reward)[x[:, 0].astype(int)], None)(jax.random.key(0), jnp.int32(1), pool)
    share = np.bincount(np.asarray(rows[:, 0], int), weights=np.asarray(weight)) / 10
    assert np.allclose(share, theory.tilted(p, reward, 2)[1], rtol=1e-5)


@dataclass(frozen=True)
class Cut(Gaussian):
    """Speaks only within `cut` standard deviations."""

    cut: float = 1.0

    def sample(self, key: jax.Array, params: GaussianParams, n: int) -> jax.Array:
        return params.mean + jnp.sqrt(params.cov[0]) * jax.random.truncated_normal(key, -self.cut, self.cut, (n, 1))


@pytest.mark.quick("1.3")
@pytest.mark.parametrize("cut", [1.3, 2.2])
def test_truncation_is_a_sampling_bias(cut: float):
    chain = Chain(
        source=Truth(Gaussian(1)),
        generator=Cut(1, ddof=1, cut=cut),
        recipe=Replace(),
        probes={"moments": moments},
        real=20,
        rows=20,
    )
    found = run(chain, 6, 5000)
    variance, error = theory.biased_variance(20, theory.truncation_factor(cut), 6)
    assert_mean(found["moments.cov"][..., 0, 0], variance)
    assert_mean(found["moments.mean"][..., 0] ** 2, error)


def nearness(rows: jax.Array) -> jax.Array:
    return -jnp.abs(rows[:, 0])


@pytest.mark.quick("0.9")
@pytest.mark.parametrize("cut", [0.9, 1.6])
def test_verification_by_distance_truncates(cut: float):
    recipe = Then(Replace(), Verify(nearness, -cut))
    chain = Chain(source=Truth(Gaussian(1)), generator=Still(1), recipe=recipe, probes={"diet": diet}, real=30, rows=30)
    assert_mean(run(chain, 2, 5000)["diet.m2"][:, 1], theory.truncation_factor(cut))


# Weighing fresh real rows against samples.


@dataclass(frozen=True)
class Located(Gaussian):
    """A Gaussian of known covariance: only the mean is learned."""

    def fit(self, key: jax.Array, params: GaussianParams, pool: Pool) -> tuple[GaussianParams, dict[str, jax.Array]]:
        return super().fit(key, params, pool)[0]._replace(cov=jnp.eye(self.dim)), {}


@dataclass(frozen=True)
class Blend(Gaussian):
    """The mean of the diet, and real and synthetic unbiased covariances mixed by their mass (arXiv:2502.18049)."""

    def fit(self, key: jax.Array, params: GaussianParams, pool: Pool) -> tuple[GaussianParams, dict[str, jax.Array]]:
        mean = super().fit(key, params, pool)[0].mean
        mass, cov = pool.weight.sum(), jnp.zeros((self.dim, self.dim))
        for part in (pool.real, pool.synthetic):
            eaten = part & (pool.weight > 0)
            unbiased = Gaussian(self.dim, ddof=1).fit(key, params, pool.weighed(eaten))[0].cov
            cov += jnp.where(eaten.any(), (pool.weight * part).sum() / mass * unbiased, 0.0)
        return GaussianParams(mean, cov), {}


def golden_chain(model: Gaussian, n: int, m: int, share: float) -> Chain:
    return Chain(
        source=Truth(Gaussian(model.dim)),
        generator=model,
        recipe=Then(Replace(), Reweigh(real=share)),
        probes={"moments": moments},
        real=n,
        rows=m,
        fresh=n,
    )


@pytest.mark.quick("Located-6-15-0.7", "Gaussian-12-5-0.2", "Blend-12-5-0.2")
@pytest.mark.parametrize(("n", "m", "share"), [(6, 15, 0.7), (12, 5, 0.2)])
@pytest.mark.parametrize("model", [Located(1), Gaussian(1), Blend(1)], ids=lambda model: type(model).__name__)
def test_mean_error_of_weighed_fresh_rows_follows_its_law(model: Gaussian, n: int, m: int, share: float):
    mean = run(golden_chain(model, n, m, share), 12, 3000)["moments.mean"][..., 0]
    pooled = type(model) is Gaussian
    assert_mean(mean**2, theory.weighted_mean_error(n, m, share, 12, pooled=pooled))


@pytest.mark.quick("2-12-20-0.4")
@pytest.mark.parametrize(("dim", "n", "m", "share"), [(2, 12, 20, 0.4), (3, 15, 12, 0.7)])
def test_covariance_loss_of_weighed_fresh_rows_follows_its_law(dim: int, n: int, m: int, share: float):
    cov = run(golden_chain(Blend(dim), n, m, share), 8, 3000)["moments.cov"]
    loss = ((np.asarray(cov) - np.eye(dim)) ** 2).sum((-1, -2))
    assert_mean(loss, theory.weighted_covariance_loss(n, m, share, 8, dim))


def test_golden_share_is_the_best():  # the figures of arXiv:2502.18049
    for n, m in ((30, 30), (20, 45), (50, 10)):
        best = theory.golden_share(n / m)
        shares = np.linspace(0.01, 0.99, 9801)
        limits = [theory.weighted_mean_error_limit(n, m, w) for w in shares]
        assert abs(shares[np.argmin(limits)] - best) < 1e-3
        assert np.isclose(n * theory.weighted_mean_error_limit(n, m, best), best)
        for pooled in (False, True):
            far = theory.weighted_mean_error(n, m, 0.3, 200, pooled=pooled)[-1]
            assert np.isclose(far, theory.weighted_mean_error_limit(n, m, 0.3, pooled=pooled))
    figures = {0.3: 0.022745, 0.5: 0.013333, 0.618: 0.012361, 0.8: 0.014167}  # two dimensions, n = m = 100
    for share, loss in figures.items():
        assert np.isclose(2 * theory.weighted_mean_error(100, 100, share, 200)[149:].mean(), loss, atol=1e-6)


# Growing samples, several dimensions.


@pytest.mark.quick("4-24")
@pytest.mark.parametrize(("first", "last"), [(4, 24), (30, 6)])
def test_samples_that_grow_fast_enough_keep_variance(first: int, last: int):
    sizes = [first, *(int(np.round(first + (last - first) * t / 10)) for t in range(1, 9))]
    recipe = Then(Replace(), Subsample(schedule("linear", first, last, 10)))
    found = run(gaussian_chain(recipe=recipe, real=first, rows=max(sizes)), 9, 5000)
    assert_mean(found["moments.cov"][..., 0, 0], theory.growing_variance(sizes))


@pytest.mark.quick("2-9")
@pytest.mark.parametrize(("dim", "n"), [(2, 9), (4, 20)])
def test_the_determinant_falls_as_wisharts_do(dim: int, n: int):
    cov = np.asarray(run(gaussian_chain(dim=dim, recipe=Replace(), real=n, rows=n), 6, 4000)["moments.cov"])
    assert_mean(np.linalg.slogdet(cov.astype(np.float64))[1], theory.replace_log_determinant(n, dim, 6))
    assert_mean(np.linalg.det(cov.astype(np.float64))[:, :3], theory.replace_determinant(n, dim, 3))
    assert_mean(np.trace(cov, axis1=-2, axis2=-1) / dim, theory.replace_variance(n, 6))
