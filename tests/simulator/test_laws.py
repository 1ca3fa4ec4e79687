"""Thousands of chains against the closed forms of the Gaussian (simulator/theory/gaussian.py), in standard errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_mean, gaussian_chain

from simulator import Chain, ensemble, schedule, simulate, theory
from simulator.recipe import Accumulate, Mix, Replace, Reweigh, Subsample, Then, Window

CHAINS = 10_000


def run(chain: Chain, generations: int, chains: int = CHAINS, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(S_t, m_t) of many one-dimensional chains, [chains, generations]."""
    keys = jax.random.split(jax.random.key(seed), chains)
    found = jax.jit(jax.vmap(lambda key: simulate(chain, key, generations)))(keys)["moments"]
    return np.asarray(found["cov"])[..., 0, 0], np.asarray(found["mean"])[..., 0]


@pytest.mark.quick("window", "schedule")
@pytest.mark.parametrize(
    "chain",
    [
        gaussian_chain(recipe=Replace()),
        gaussian_chain(recipe=Accumulate()),
        gaussian_chain(recipe=Window(3)),
        gaussian_chain(recipe=Mix(real=0.4, size=10, fresh=True), fresh=4),
        gaussian_chain(recipe=Mix(real=schedule("linear", 0.8, 0.0, 5), size=10)),
        gaussian_chain(recipe=Then(Accumulate(), Reweigh(real=0.3))),
    ],
    ids=["replace", "accumulate", "window", "fresh", "schedule", "reweigh"],
)
def test_variance_and_mean_error_sum_to_one_whatever_is_eaten(chain: Chain):
    variance, mean = run(chain, 6)
    assert_mean(variance + mean**2, np.ones(6))


@pytest.mark.quick("7")
@pytest.mark.parametrize("n", [7, 25])
def test_variance_shrinks_by_one_nth_each_time_under_replace(n: int):
    variance, mean = run(gaussian_chain(recipe=Replace(), real=n, rows=n), 8)
    assert_mean(variance, theory.replace_variance(n, 8))
    assert_mean(mean**2, theory.replace_mean_error(n, 8))


@pytest.mark.quick("0-7", "1-25")
@pytest.mark.parametrize("n", [7, 25])
@pytest.mark.parametrize("ddof", [0, 1])
def test_std_and_log_variance_walk_at_random_under_replace(n: int, ddof: int):
    variance, mean = run(gaussian_chain(ddof=ddof, recipe=Replace(), real=n, rows=n), 20)
    drift, spread = theory.replace_log_variance(n, 20, ddof)
    assert_mean(np.log(variance), drift)
    assert_mean((np.log(variance) - drift) ** 2, spread)
    assert_mean(np.sqrt(variance)[:, :10], theory.replace_std(n, 10, ddof))
    assert_mean(mean[:, :5] ** 2, theory.replace_mean_error(n, 5, ddof))


def test_unbiased_variance_is_a_martingale():
    variance, _ = run(gaussian_chain(ddof=1, recipe=Replace(), real=40, rows=40), 8)
    assert_mean(variance, theory.replace_variance(40, 8, ddof=1))
    assert_mean(variance**2, (1 + 2 / 39) ** np.arange(1, 9))


@pytest.mark.quick("0.5")
@pytest.mark.parametrize("bias", [0.8, 0.5])
def test_a_sampling_bias_multiplies_the_variance_each_time(bias: float):
    variance, mean = run(gaussian_chain(ddof=1, bias=bias, recipe=Replace(), real=20, rows=20), 6)
    expected_variance, expected_error = theory.biased_variance(20, bias, 6)
    assert_mean(variance, expected_variance)
    assert_mean(mean**2, expected_error)


@pytest.mark.quick("4")
@pytest.mark.parametrize("n", [4, 10])
def test_accumulated_rows_lose_a_bounded_share_of_variance(n: int):
    variance, mean = run(gaussian_chain(recipe=Accumulate(), real=n, rows=n), 30, chains=3000)
    assert_mean(variance, theory.accumulate_variance(n, 30))
    assert_mean(mean**2, 1 - theory.accumulate_variance(n, 30))


@pytest.mark.quick("5")
@pytest.mark.parametrize("n", [5, 10])
def test_a_subsample_of_all_rows_keeps_some_variance(n: int):
    variance, _ = run(gaussian_chain(recipe=Then(Accumulate(), Subsample(n)), real=n, rows=n), 12, chains=3000)
    assert_mean(variance, theory.subsample_variance(n, 12))


@pytest.mark.quick("10-0.3-1.0")
@pytest.mark.parametrize(("n", "share", "bias"), [(10, 0.3, 1.0), (20, 0.5, 0.7), (8, 0.25, 1.0)])
def test_a_fresh_share_holds_the_variance_at_its_fixed_point(n: int, share: float, bias: float):
    chain = gaussian_chain(
        bias=bias, recipe=Mix(real=share, size=n, fresh=True), real=n, rows=n, fresh=round(share * n)
    )
    variance, mean = run(chain, 15)
    expected_variance, expected_error = theory.fresh_share(n, share, 15, bias)
    assert_mean(variance, expected_variance)
    assert_mean(mean**2, expected_error)
    if bias == 1:
        limit = theory.fresh_share(n, share, 200)
        assert np.allclose([limit[0][-1], limit[1][-1]], theory.fresh_share_limit(n, share))


@pytest.mark.quick("10-0.5")
@pytest.mark.parametrize(("n", "share"), [(10, 0.5), (20, 0.3)])
def test_kept_real_rows_hold_their_own_variance(n: int, share: float):
    variance, _ = run(gaussian_chain(recipe=Mix(real=share, size=n), real=round(share * n), rows=n), 25)
    assert_mean(variance[:, -3:], np.full(3, theory.fixed_real_limit(n, share)))


def test_trace_determinant_and_mean_error_under_replace_in_several_dimensions():
    """Kazdan et al. 2024: E tr Σ_t = d (1 - 1/n)^t, E det Σ_t = (Π (n - i)/n)^t, E‖m_t‖² = d - E tr Σ_t."""
    d, n, t = 3, 12, np.arange(1, 6)
    keys = jax.random.split(jax.random.key(1), CHAINS)
    chain = gaussian_chain(dim=d, recipe=Replace(), real=n, rows=n)
    found = jax.jit(jax.vmap(lambda key: simulate(chain, key, 5)))(keys)["moments"]
    assert_mean(jnp.trace(found["cov"], axis1=-2, axis2=-1), d * (1 - 1 / n) ** t)
    assert_mean(jnp.linalg.det(found["cov"]), np.prod([(n - i) / n for i in range(1, d + 1)]) ** t)
    assert_mean((found["mean"] ** 2).sum(-1), d * (1 - (1 - 1 / n) ** t))


def test_swept_share_obeys_the_law_at_every_value():
    shares = np.array([0.2, 0.5, 0.8])
    keys = jax.random.split(jax.random.key(2), 3000)

    def make(share: jax.Array) -> Chain:
        return gaussian_chain(recipe=Mix(real=share, size=10, fresh=True), fresh=8)

    found = np.asarray(ensemble(make, shares, keys, 10)["moments.cov"])[..., 0, 0]  # [grid, keys, generations]
    for i, share in enumerate(shares):
        assert_mean(found[i], theory.fresh_share(10, share, 10)[0])


def test_curation_by_softmax_reward_is_exponential_tilting():
    """Best of K -> infinity: p_t ∝ p_0 exp(t r), for r = -γ(x-c)²/2 a Gaussian of variance 1/(1+tγ), mean tγc/(1+tγ).

    One generation of 20,000 rows: the fit after the second curation.  arXiv:2407.09499.
    """
    from simulator.recipe import Curate

    variance, mean = run(
        gaussian_chain(recipe=Then(Replace(), Curate(pull, best_of=None)), real=4000, rows=4000), 3, chains=200
    )
    t = np.arange(3)
    assert np.allclose(variance.mean(0), 1 / (1 + 0.5 * t), rtol=0.01)
    assert np.allclose(mean.mean(0), 0.5 * t / (1 + 0.5 * t), atol=0.01)


def pull(rows: jax.Array) -> jax.Array:
    return -0.5 * (rows[:, 0] - 1) ** 2 / 2
