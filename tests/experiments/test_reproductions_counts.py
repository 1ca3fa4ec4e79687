"""Reproductions of chains that count and of the one-dimensional Gaussian: their parts against laws, and scaled down."""

from typing import Any

import jax
import numpy as np
import pytest
import scipy.special
import scipy.stats
from conftest import assert_mean

from experiments.command.loading import load_module
from experiments.command.reproduce import names
from experiments.published import dohmatob_tails, kazdan_discrete, shumailov_gaussian, suresh_poisson
from generators.bernoulli import Bernoulli
from generators.categorical import Categorical
from simulator import Chain, Truth, simulate, theory

NAMES = ("dohmatob_tails", "kazdan_discrete", "shumailov_gaussian", "suresh_poisson")


@pytest.mark.parametrize("name", NAMES)
def test_the_cell_can_be_run_and_swept(name: str):
    module: Any = load_module(name)
    assert name in names()
    module.sweep.check()
    _, record = jax.eval_shape(lambda key: module.chain.step(key, module.chain.init(key, 5)), jax.random.key(0))
    assert set(module.chain.probes) < set(record)


@pytest.mark.quick("shumailov_gaussian-constants2", "suresh_poisson-constants3")
@pytest.mark.parametrize(
    ("name", "constants"),
    [
        ("dohmatob_tails", {"ROWS": (100, 300, 1000), "SIZE": 4096}),
        ("kazdan_discrete", {"CELLS": {(4, 6): 300, (8, 6): 200}}),
        ("shumailov_gaussian", {"CHAINS": {100: 60, 300: 20}}),
        ("suresh_poisson", {"CHAINS": 500}),
    ],
)
def test_a_smaller_reproduction_holds(name: str, constants: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    module: Any = load_module(name)
    for constant, value in constants.items():
        monkeypatch.setattr(module, constant, value)
    found = module.reproduce()
    assert len(found.findings) >= 2 and len(found.figure.axes) == 1
    for finding in found.findings:
        assert finding.theory is not None and finding.error > 0 and finding.holds, finding


# The Gaussian.


@pytest.mark.parametrize("n", [8, 25])
def test_half_of_the_chains_are_below_the_median(n: int):
    found = shumailov_gaussian.log_stds(n, 8000, 15)
    assert_mean(np.exp(found) < theory.replace_median_std(n, 15), np.full(15, 0.5))
    assert_mean(found, theory.replace_log_variance(n, 15)[0] / 2)


@pytest.mark.parametrize(("n", "ddof"), [(8, 0), (30, 1)])
def test_the_median_of_a_single_fit(n: int, ddof: int):
    exact = np.sqrt(scipy.stats.chi2.median(n - 1) / (n - ddof))
    assert theory.replace_median_std(n, 1, ddof)[0] == pytest.approx(exact, rel=0.12 / n**2)


def test_the_published_medians_are_those_of_the_law():
    found = [theory.replace_median_std(n, 1000)[-1] for n in (100, 500, 1000, 10_000)]
    assert found == pytest.approx([4.145e-5, 0.135, 0.368, 0.905], rel=0.003)


@pytest.mark.parametrize("chains", [40, 999])
def test_the_error_of_a_median(chains: int):
    samples = np.random.default_rng(0).normal(size=(chains, 4000))
    middle, error = shumailov_gaussian.median(samples)
    assert_mean(middle, 0.0)
    assert np.sqrt((error**2).mean()) == pytest.approx(middle.std(), rel=0.1)


# Counts.


@pytest.mark.parametrize(("p", "n"), [(0.04, 30), (0.2, 5)])
def test_rare_events_survive_as_published(p: float, n: int):
    found = suresh_poisson.alive(Bernoulli(p), n, 8000, 15)
    assert_mean(found, suresh_poisson.law(Bernoulli(p), n, 15))


def test_time_to_fixation_grows_as_published():
    exact = theory.mean_fixation_time(np.full(9, 1 / 9), 6)
    assert_mean(kazdan_discrete.times(6, 9, 8000), exact)


def test_the_rule_of_fixation_is_within_five_percent():
    for rows, size in [*kazdan_discrete.CELLS, (8, 1000), (30, 30), (300, 300)]:
        exact = theory.mean_fixation_time(np.full(size, 1 / size), rows)
        assert exact == pytest.approx(2 * rows * (1 - 1 / rows), rel=0.05), (rows, size)


# Tails.


@pytest.mark.quick("60-900")
@pytest.mark.parametrize(("rows", "size"), [(60, 900), (250, 2000)])
def test_missing_mass_is_its_sum(rows: int, size: int):
    exponents = (1.7, 2.2)
    found = dohmatob_tails.missing(exponents, rows, 4000, size)  # [exponents, chains]
    for exponent, masses in zip(exponents, found, strict=True):
        beyond = scipy.special.zeta(exponent, size + 1) / scipy.special.zeta(exponent)
        probs = np.arange(1.0, size + 1) ** -exponent
        exact = beyond + (1 - beyond) * theory.missing_mass(probs / probs.sum(), rows)
        assert_mean(masses, exact)
        # Of `rows` words from the whole law a share `beyond` would not have been of the table.
        assert theory.zipf_missing_mass(exponent, rows, head=size) == pytest.approx(exact, rel=beyond)


@pytest.mark.parametrize("exponent", [1.3, 1.8, 3.0])
def test_missing_mass_of_zipf_with_its_tail(exponent: float):
    size, draws = 10**6, np.array([30, 3000])
    probs = np.arange(1.0, size + 1) ** -exponent / scipy.special.zeta(exponent)
    tail = scipy.special.zeta(exponent, size + 1) / scipy.special.zeta(exponent)
    exact = [theory.missing_mass(probs, n) + tail for n in draws]  # beyond a million none is seen
    assert theory.zipf_missing_mass(exponent, draws, head=1000) == pytest.approx(exact, rel=1e-5)
    assert theory.zipf_missing_mass(exponent, 10**7, head=10**5) == pytest.approx(
        theory.zipf_missing_mass(exponent, 10**7), rel=1e-4
    )


def test_without_an_infinite_law_the_table_is_all():
    words = Categorical(5, zipf=0.8)
    probes = {"missing_mass": dohmatob_tails.MissingMass()}
    chain = Chain(source=Truth(words), generator=words, probes=probes, real=500, rows=1, held_out=1)
    assert simulate(chain, jax.random.key(0), 1)["missing_mass"].tolist() == [0.0]


def test_the_slope_of_missing_mass_is_found():
    rows = np.array([10.0, 50.0, 100.0, 2000.0])
    law = 3 * rows**-0.4
    assert dohmatob_tails.slope(rows, law, 0 * law) == (pytest.approx(-0.4), 0)
    noise = 1 + 0.02 * np.random.default_rng(0).normal(size=(4000, 4))
    found = np.array([dohmatob_tails.slope(rows, law * by, 0.02 * law) for by in noise])  # [4000, 2]
    assert_mean(found[:, 0], -0.4)
    assert found[:, 0].std() == pytest.approx(found[:, 1].mean(), rel=0.05)
