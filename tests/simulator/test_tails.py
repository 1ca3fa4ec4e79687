"""Risks of returns and stylised facts against numpy and scipy, and against the truth of a source."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_mean
from scipy.stats import kurtosis

from generators import Gaussian
from generators.prices import GeometricBrownian, Heston, JumpDiffusion
from simulator import Chain, GenlossError, Pool, Store, Truth, View, run, simulate
from simulator.probes import Stylised, Tails

KEY = jax.random.key(0)
RETURNS = np.asarray(JumpDiffusion(length=13).sample(KEY, {}, 77), np.float64)  # [77, 13]


def asked(probe: Any, rows: Any, reference: Any = None, source: Any = None) -> dict[str, Any]:
    rows = jnp.asarray(rows, jnp.float32)
    prepared = {} if source is None else {probe: probe.prepare(KEY, source)}
    real = rows if reference is None else jnp.asarray(reference, jnp.float32)
    return probe(KEY, View(jnp.int32(0), None, Pool.of(rows), rows, real, Gaussian(1), None, prepared))


@pytest.mark.parametrize("days", [1, 4])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.987])
def test_risk_of_samples_is_the_quantile_and_the_integral_beyond_it(level: float, days: int):
    """ES is the mean of VaR over all levels beyond this one, a step function in steps of one value."""
    found = asked(Tails(level, days), RETURNS)
    gains = np.sort(RETURNS[:, : 13 // days * days].reshape(77, -1, days).sum(2).ravel())
    assert np.isclose(found["var"], -np.quantile(gains, 1 - level, method="inverted_cdf"), rtol=1e-5)
    edge = np.minimum(np.arange(len(gains) + 1) / len(gains), 1 - level)
    assert np.isclose(found["es"], -np.diff(edge) @ gains / (1 - level), rtol=1e-5)
    assert found["es"] > found["var"] > 0 and np.isclose(found["es_ratio"], 1)


def test_facts_are_those_of_numpy_and_scipy():
    found = asked(Stylised(lag=3), RETURNS)
    assert np.isclose(found["volatility"], RETURNS.std(), rtol=1e-5)
    assert np.isclose(found["kurtosis"], kurtosis(RETURNS.ravel()), rtol=1e-4)
    square = RETURNS**2
    pairs = [(row[t] - square.mean()) * (row[t + 3] - square.mean()) for row in square for t in range(10)]
    assert np.isclose(found["clustering"], np.mean(pairs) / square.var(), atol=1e-5)


def test_the_yardstick_is_the_truth_or_else_held_out_rows():
    price, half = Heston(length=13), RETURNS / 2
    tails, facts = Tails(0.95, 2), Stylised(lag=2)
    by_law, by_rows = (asked(tails, half, RETURNS, source) for source in (Truth(price), Truth(Gaussian(13))))
    assert np.allclose([by_law["var"] / by_law["var_ratio"], by_law["es"] / by_law["es_ratio"]], price.risk(0.95, 2))
    assert np.isclose(by_rows["var_ratio"], 0.5) and np.isclose(by_rows["es_ratio"], 0.5)
    by_law, by_rows = (asked(facts, half, RETURNS, source) for source in (Truth(price), Truth(Gaussian(13))))
    volatility, heavy = price.moments()
    assert np.isclose(by_law["volatility"] / by_law["volatility_ratio"], volatility)
    assert np.isclose(by_law["kurtosis"] - by_law["kurtosis_excess"], heavy, rtol=1e-5)
    assert np.isclose(by_law["clustering"] - by_law["clustering_excess"], price.squares(2), atol=1e-6)
    assert np.isclose(by_rows["volatility_ratio"], 0.5) and np.isclose(by_rows["kurtosis_excess"], 0, atol=1e-5)


def test_the_truth_has_no_excess_over_itself():
    """Many chains of returns that are never learned: the mean of each ratio is 1, but for 1/n."""
    price = GeometricBrownian(length=25)
    probes = {"tails": Tails(0.95), "ten": Tails(0.9, 5), "more": Tails(0.95, draws=1600), "facts": Stylised()}
    chain = Chain(source=Truth(price), generator=price, real=400, rows=400, held_out=0, probes=probes)
    record = jax.jit(jax.vmap(lambda key: simulate(chain, key, 1).flat()))(jax.random.split(KEY, 300))
    found = {name: np.asarray(value)[:, 0] for name, value in record.items()}
    for name in ("tails.var_ratio", "tails.es_ratio", "ten.var_ratio", "ten.es_ratio", "facts.volatility_ratio"):
        assert_mean(found[name], 1)
    assert_mean(found["more.es_ratio"], 1)  # of four times as many windows, which spread half as wide
    assert np.isclose(found["more.es_ratio"].std() / found["tails.es_ratio"].std(), 0.5, rtol=0.3)
    for name in ("facts.kurtosis_excess", "facts.clustering_excess"):
        assert_mean(found[name], 0)


def test_a_run_goes_on_where_no_yardstick_is_kept(tmp_path: Any):
    """Nothing is known of the source, and so nothing is stored with the run."""
    probes = {"tails": Tails(0.9), "facts": Stylised()}
    chain = Chain(source=Truth(Gaussian(6)), generator=Gaussian(6), real=20, rows=20, held_out=30, probes=probes)
    first, again = (run(chain, KEY, generations, store=Store(tmp_path / "run")) for generations in (1, 2))
    assert np.array_equal(first["tails.es_ratio"][0], again["tails.es_ratio"][0])


def test_windows_that_are_too_short_and_other_rows_are_refused():
    for probe, said in ((Tails(days=20), "lower `days`"), (Stylised(lag=13), "lower `lag`")):
        with pytest.raises(GenlossError, match=said):
            asked(probe, RETURNS)
    with pytest.raises(GenlossError, match="windows"):
        asked(Tails(), RETURNS[0])
