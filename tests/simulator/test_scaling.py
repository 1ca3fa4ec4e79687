"""Scaling laws of chains against theory: exponents of three families, the golden share, what is foretold at 4 times.

Exponents are held to 2 standard errors, so that with new keys one of three fails in 13 % of all cases; the keys are
fixed.
"""

import json
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.published.dohmatob_tails import MissingMass
from generators import Categorical, Cohort, Gaussian, Linear
from simulator import Chain, GenlossError, Truth, theory
from simulator.analysis.ladder import Ladder
from simulator.analysis.scaling import Scaling, scaling
from simulator.probes import Moments, Risk
from simulator.recipe import Replace, Reweigh, Then

KEY = jax.random.key(0)
KEYS = jax.random.split(KEY, 11)
SHARES = [0.3, 0.45, 0.6, 0.75, 0.9]
FITS = 12


def weighed(n: Any, share: Any) -> Chain:
    """Cohorts of n fresh real rows, weighed against as many of the last model."""
    cohort = Cohort(Gaussian(2), n)
    return Chain(source=Truth(cohort), generator=cohort, recipe=Then(Replace(), Reweigh(real=share)),
                 probes={"moments": Moments()}, real=1, rows=1, fresh=1, held_out=0)  # fmt: skip


def regressed(n: Any, share: Any) -> Chain:
    cohort = Cohort(Linear(3), n)
    return Chain(source=Truth(cohort), generator=cohort, recipe=Replace(), probes={"risk": Risk()}, real=1, rows=1,
                 held_out=0)  # fmt: skip


def told(n: int, share: Any) -> Chain:
    words = Categorical(2**14, zipf=2.0)
    return Chain(source=Truth(words), generator=words, recipe=Replace(), probes={"missing": MissingMass()}, real=n,
                 rows=1, held_out=0)  # fmt: skip


def within_two(found: Scaling, exponent: float, most: float) -> None:
    assert found.exponent is not None
    assert found.exponent.error < most
    assert abs(found.exponent.value - exponent) < 2 * found.exponent.error


@pytest.fixture(scope="module")
def golden() -> Scaling:
    ladder = Ladder(weighed, [50, 100, 200, 400], SHARES, generations=FITS, replicates=300, metric="moments.mean_error")
    assert ladder.price == (1, 5 * 5 * 300, 5 * 5 * 300 * (1 + FITS + FITS - 1))
    return scaling(ladder, KEY, law=False)


def test_the_gaussians_error_falls_as_1_over_n_whatever_is_mixed(golden: Scaling):
    within_two(golden, 1.0, 0.03)
    assert not golden.surface.has_floor
    assert golden.generations[0] == 0 and golden.generations[-1] == FITS - 1


def test_the_best_share_is_golden_at_every_size(golden: Scaling):
    assert [b.size for b in golden.best] == [50, 100, 200, 400, 1600]
    for best in golden.best:
        assert best.share.low <= theory.golden_share(1) <= best.share.high < best.share.low + 0.1


def test_the_error_at_4_times_the_largest_size_is_foretold(golden: Scaling):
    assert [check.share for check in golden.checks] == SHARES and golden.beyond == 1600
    for check in golden.checks:
        exact = 2 * theory.weighted_mean_error(1600, 1600, check.share, FITS, pooled=True)[-1]
        assert check.foretold.low < exact < check.foretold.high < 1.5 * check.foretold.low
        assert abs(check.measured - exact) < 3 * check.error and abs(check.apart) < 3


def test_sizes_have_keys_of_their_own_and_shares_have_the_same(golden: Scaling):
    first = golden.values[..., 0]  # [sizes, shares, replicates]: generation 0, which eats real rows alone
    assert np.array_equal(first[:, 0], first[:, 1])
    assert np.abs(np.corrcoef(first[:, 0]) - np.eye(4)).max() < 5 / np.sqrt(300)


def test_a_law_is_data(golden: Scaling):
    found = json.loads(json.dumps(golden.data()))
    assert found["fits"] and found["price"]["programs"] == 1 and len(found["checks"]) == len(found["shares"]) == 5
    scaled = np.array(found["surface"]["amplitude"]) * 200.0 ** -found["exponent"]["value"]
    assert np.allclose(scaled, found["surface"]["errors"][2]["value"]) and np.allclose(scaled, golden.at(200).value)
    assert "is not refuted" in found["verdict"]


@pytest.mark.slow
def test_a_regressions_risk_falls_as_1_over_n():
    ladder = Ladder(regressed, [300, 600, 1200, 2400], [0.0], generations=4, replicates=400, ahead=0)
    found = scaling(ladder, KEY)
    within_two(found, 1.0, 0.04)
    assert found.metric == "risk" and not found.best and not found.checks
    assert found.law == pytest.approx(np.log(2396 / 296) / np.log(8), abs=1e-4)  # of 1/(n - d - 1) between the ends
    error = found.at(2400).value[0]  # [generations]: the law grows with every fit
    assert np.allclose(error, theory.replace_risk(2400, 3, 4)[list(found.generations)], rtol=0.2)


def test_the_tail_of_zipfs_law_is_missing_as_a_power_of_the_words():
    ladder = Ladder(told, [500, 1000, 2000], [0.0], generations=1, replicates=40, ahead=0)
    found = scaling(ladder, KEY, law=False)
    within_two(found, 1 - 1 / 2.0, 0.02)
    assert ladder.price.programs == 3


@pytest.mark.slow
def test_intervals_over_many_keys_hold_what_they_say():
    """Of the exponent, the best share and the error at 4 times the largest size, 100 keys."""
    ladder = Ladder(weighed, [100, 200, 400, 800], SHARES, generations=FITS, replicates=60, metric="moments.mean_error")
    exact = [2 * theory.weighted_mean_error(3200, 3200, w, FITS, pooled=True)[-1] for w in SHARES]
    held = []
    for seed in range(100):
        found = scaling(ladder, jax.random.key(1000 + seed), law=False)
        assert found.exponent is not None
        foretold = [c.foretold.low <= e <= c.foretold.high for c, e in zip(found.checks, exact, strict=True)]
        best = found.best[-1].share
        apart = np.mean([abs(c.apart) < 2 for c in found.checks])
        held.append([found.exponent.low <= 1 <= found.exponent.high, np.mean(foretold),
                     best.low <= theory.golden_share(1) <= best.high, apart])  # fmt: skip
    exponent, foretold, best, apart = np.mean(held, 0)
    assert 0.81 <= exponent <= 0.99 and 0.81 <= foretold <= 0.99 and 0.81 <= best <= 0.99  # 0.9 ± 3 standard errors
    assert 0.89 <= apart <= 1  # 0.954 ± 3


@pytest.mark.slow
def test_chains_that_have_no_room_side_by_side_run_in_parts(monkeypatch: pytest.MonkeyPatch):
    import simulator.analysis.ladder as room

    ladder = partial(Ladder, told, [20, 40, 80], [0.0], generations=1, replicates=11, ahead=0)
    whole = ladder()
    monkeypatch.setattr(room, "BYTES", 5 * 80 * 20.0)
    parts = ladder()
    assert min(whole.at_once) > 11 > parts.at_once[-1] > 1
    assert np.allclose(whole._one_size(2, KEYS), parts._one_size(2, KEYS), rtol=1e-6)


# Refusals.


def both(key: jax.Array, view: Any) -> dict[str, jax.Array]:
    return {"value": view.params.mean[0], "vector": jnp.ones(2)}


def laddered(metric: str | None, *probes: str) -> Ladder:
    make = lambda n, share: replace(weighed(n, share), probes=dict.fromkeys(probes, both))  # noqa: E731
    return Ladder(make, [10, 20, 40], [0.4, 0.5], generations=2, replicates=10, metric=metric, ahead=0)


def test_what_has_no_scaling_law_is_said_in_a_sentence():
    with pytest.raises(GenlossError, match=r"no measure of one number 'a.valu'; the nearest is 'a.value'"):
        laddered("a.valu", "a")
    with pytest.raises(GenlossError, match=r"no measure of one number 'a.vector'"):
        laddered("a.vector", "a")
    with pytest.raises(GenlossError, match=r"--metric NAME; there are: a.value, b.value\.$"):
        laddered(None, "a", "b")
    ladder = laddered(None, "a")
    values = np.ones((3, 2, 10, 2))
    values[1, 1, :, 1] = -1.5
    with pytest.raises(GenlossError, match=r"'a.value' is -1.5 in the mean over chains at 20 rows, share 0.5, gen"):
        ladder._checked({"a.value": values}, 0)
    values[1, 1, 3, 1] = np.nan
    with pytest.raises(GenlossError, match=r"'a.value' is nan in the mean"):
        ladder._checked({"a.value": values}, 0)
    with pytest.raises(GenlossError, match=r"'a.value' is the same in every chain"):
        ladder._checked({"a.value": np.ones((3, 2, 10, 2))}, 0)
