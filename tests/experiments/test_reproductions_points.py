"""Scaled-down cells of mad_fresh, he_golden, mad_mixture and khelifa_drift, through what they reproduce with."""

import dataclasses
import math
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_mean
from scipy.spatial.distance import cdist

from experiments.published import he_golden, khelifa_drift, mad_fresh, mad_mixture
from generators.gaussian import Gaussian
from generators.kde import KDE, KDEParams
from simulator import Chain, Pool, Truth, ensemble, simulate, theory
from simulator.recipe import Mix, Replace


def test_fresh_rows_hold_a_gaussian_wherever_it_starts():
    """The published rows a generation at d = 3: moments obey the law, and nothing is left of the first fit."""
    found = {real: mad_fresh.distances(real, 24, 45, dim=3) for real in (100, 1000)}
    for i, bias in enumerate(mad_fresh.BIASES.values()):
        variance, error = (law[-1] for law in theory.fresh_share(1000, 0.1, 1000, bias, ddof=1))
        for record in found.values():
            assert_mean(np.asarray(record["gaussian.variance"])[i, :, 25:].mean(1), variance)
            assert_mean(np.asarray(record["gaussian.mean_error"])[i, :, 25:].mean(1) / 3, error)
        gap = np.asarray(found[100]["w2"] - found[1000]["w2"])[i]  # [replicates, generations]
        assert gap[:, 0].mean() > 0.02
        assert_mean(gap[:, 25:].mean(1), 0)


def test_each_diet_is_the_latest_rows_and_no_other():
    def eaten(key: jax.Array, view: Any) -> dict[str, jax.Array]:
        diet = view.diet
        return {
            "real": (diet.weight * diet.real * (diet.birth == view.t)).sum(),
            "synthetic": (diet.weight * diet.synthetic * (diet.birth == view.t - 1)).sum(),
            "all": diet.weight.sum(),
        }

    small = {"source": Truth(Gaussian(2)), "generator": Gaussian(2, ddof=1), "probes": {"eaten": eaten}}
    for real in (100, 1000):
        found = simulate(dataclasses.replace(mad_fresh.chain, real=real, **small), jax.random.key(0), 4)
        assert found["eaten.real"].tolist() == [real, 100, 100, 100]
        assert found["eaten.synthetic"].tolist() == [0, 900, 900, 900]
        assert found["eaten.all"].tolist() == [real, 1000, 1000, 1000]


def test_blend_is_the_mean_and_two_unbiased_covariances_mixed():
    chance = np.random.default_rng(0)
    rows = chance.normal(2.0, 1.5, (30, 3)).astype(np.float32)
    origin = (np.arange(30) >= 12).astype(np.int32)
    eaten = chance.random(30) < 0.8
    for share in (0.3, 0.9):
        weight = np.where(origin == 0, share / eaten[:12].sum(), (1 - share) / eaten[12:].sum()) * eaten
        pool = Pool.of(jnp.asarray(rows)).replace(origin=jnp.asarray(origin)).weighed(jnp.asarray(7 * weight))
        params, _ = he_golden.Blend(3).fit(jax.random.key(0), he_golden.Blend(3).init(jax.random.key(0)), pool)
        parts = [rows[eaten & (origin == kind)] for kind in (0, 1)]
        means = share * parts[0].mean(0) + (1 - share) * parts[1].mean(0)
        covs = share * np.cov(parts[0].T) + (1 - share) * np.cov(parts[1].T)
        assert np.allclose(params.mean, means, rtol=1e-5) and np.allclose(params.cov, covs, rtol=1e-4)
    alone = Pool.of(jnp.asarray(rows))
    params, _ = he_golden.Blend(3).fit(jax.random.key(0), params, alone)
    assert np.allclose(params.cov, np.cov(rows.T), rtol=1e-4)


def test_golden_losses():
    weights = np.array([0.25, 0.45, 0.75])
    found = he_golden.losses(weights, 4000, 5)
    for i, weight in enumerate(weights):
        assert_mean(found[i], 2 * theory.weighted_mean_error(100, 100, weight, 5))


def test_golden_weights_are_thirty_and_hold_those_of_the_table():
    assert len(he_golden.WEIGHTS) == 30 and set(he_golden.SHOWN) <= set(he_golden.WEIGHTS)


@pytest.mark.slow
def test_drift_at_each_share():
    found = khelifa_drift.drifts(128, 5)
    for values, share in zip(found, khelifa_drift.sweep.values.values(), strict=True):
        assert_mean(values, theory.smoothed_second_moment(1.0, 5, share) - 1)


@pytest.mark.slow
def test_drift_is_in_units_of_the_bandwidth():
    bandwidth, share = 0.6, 0.3
    chain = dataclasses.replace(
        khelifa_drift.chain,
        generator=KDE(khelifa_drift.DIM, bandwidth, size=20),
        recipe=Mix(real=share, size=20, fresh=True),
        real=20,
        rows=20,
        fresh=6,
    )
    keys = jax.random.split(jax.random.key(1), 1000)
    found = jax.jit(jax.vmap(lambda key: simulate(chain, key, 5)))(keys)["drift"]
    assert_mean(found, (theory.smoothed_second_moment(bandwidth, 5, share) - 1) / bandwidth**2)


def mixture_chain(bandwidth: float | jax.Array, rows: int) -> Chain:
    return Chain(
        source=mad_mixture.chain.source,
        generator=KDE(2, bandwidth, size=rows),
        recipe=Replace(),
        probes={"modes": mad_mixture.MixtureModes()},
        real=rows,
        rows=rows,
        held_out=1,
    )


@pytest.mark.slow
def test_modes_die_as_categories_do_and_variance_obeys_its_law():
    rows, bandwidths = 40, (0.0, math.sqrt(mad_mixture.VARIANCE / 80))
    keys = jax.random.split(jax.random.key(0), 4000)
    found = ensemble(lambda bandwidth: mixture_chain(bandwidth, rows), np.array(bandwidths, np.float32), keys, 8)
    scaled = bandwidths[1] * math.sqrt(2 / mad_mixture.VARIANCE)
    assert np.allclose(theory.smoothed_variance(rows, scaled, 8), 1)
    assert_mean(found["modes.variance"][1], np.ones(8))
    assert_mean(found["modes.variance"][0], theory.smoothed_variance(rows, 0.0, 8))
    assert_mean(found["modes.held"][0], theory.expected_support(np.full(25, 1 / 25), rows, 8))


def test_modes_are_counted_where_rows_are():
    rows = np.array([[4, 4], [4.1, 4], [3.0, 4.0], [0.0, 0.16], [9.0, 9.0]], np.float32)
    view: Any = SimpleNamespace(params=KDEParams(jnp.asarray(rows) + 1e-4, jnp.ones(5)), generator=KDE(2, 0.5, size=5))
    found = mad_mixture.MixtureModes()(jax.random.key(0), view)
    near = cdist(rows + 1e-4, np.asarray(mad_mixture.TRUTH.means))
    assert found["held"] == len(set(near.argmin(1)))
    assert found["captured"] == (near < 0.15).any(0).sum() == 1 and np.isclose(found["close"], 2 / 5)
    assert np.isclose(found["variance"], (rows.var(0).sum() + 2 * 0.25) / mad_mixture.VARIANCE, rtol=1e-4)


def test_every_measures_at_its_generations_only():
    chain = mixture_chain(0.1, 50)
    probes = {"always": mad_mixture.MixtureModes(), "modes": mad_mixture.Every(mad_mixture.MixtureModes(), 4)}
    found = simulate(dataclasses.replace(chain, probes=probes), jax.random.key(0), 9)
    measured = [0, 3, 7]
    for name, values in found["modes"].items():
        assert np.flatnonzero(np.isfinite(values)).tolist() == measured
        assert np.array_equal(values[jnp.array(measured)], found["always"][name][jnp.array(measured)])
