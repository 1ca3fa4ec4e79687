"""Runs beside each other: intervals of differences cover as often as they say, and pairing pays."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas
import pytest
from conftest import gaussian_chain
from scipy import stats

from simulator import GenlossError, ensemble, theory
from simulator.analysis import compare
from simulator.analysis.compare import Run
from simulator.probes import Moments
from simulator.recipe import Accumulate, Replace, Select

CHANCE = np.random.default_rng(0)
EXPERIMENTS, REPLICATES, GENERATIONS, ROWS = 600, 8, 6, 100


@pytest.fixture(scope="module")
def variances() -> np.ndarray:
    """Chains that replace and that accumulate, of the same keys: [2, experiments, generations, replicates]."""

    def make(i: Any) -> Any:
        recipe = Select((Replace(), Accumulate()), i)
        return gaussian_chain(real=ROWS, rows=ROWS, recipe=recipe, probes={"moments": Moments()})

    keys = jax.random.split(jax.random.key(1), EXPERIMENTS * REPLICATES)
    found = np.asarray(ensemble(make, jnp.arange(2), keys, GENERATIONS)["moments.variance"], np.float64)
    return np.moveaxis(found.reshape(2, EXPERIMENTS, REPLICATES, GENERATIONS), 2, -1)


def sides(variances: np.ndarray, paired: bool) -> tuple[np.ndarray, np.ndarray]:
    """Experiments of common keys, or of one recipe against the next experiment of the other, whose keys are others."""
    return variances[0], variances[1] if paired else np.roll(variances[1], 1, 0)


@pytest.mark.parametrize("paired", [True, False], ids=["paired", "unpaired"])
def test_nine_of_ten_intervals_cover_the_difference_that_the_laws_give(variances: np.ndarray, paired: bool):
    law = theory.replace_variance(ROWS, GENERATIONS) - theory.accumulate_variance(ROWS, GENERATIONS)
    found = compare.difference(*sides(variances, paired), paired, 0.9)  # [experiments, generations]
    for t in range(1, GENERATIONS):
        share = np.mean((found.low[:, t] <= law[t]) & (law[t] <= found.high[:, t]))
        assert abs(share - 0.9) < 4 * np.sqrt(0.09 / EXPERIMENTS), (t, share)


def test_common_keys_make_the_interval_narrower_and_are_worth_telling(variances: np.ndarray):
    """Taken for independent, runs of common keys have intervals so wide that they hardly ever miss."""
    law = theory.replace_variance(ROWS, GENERATIONS) - theory.accumulate_variance(ROWS, GENERATIONS)
    paired, mistaken = (compare.difference(*sides(variances, True), p, 0.9) for p in (True, False))
    width = [(found.high - found.low).mean(0) for found in (paired, mistaken)]  # [generations] each
    assert np.all(width[0] < 0.7 * width[1]) and width[0][0] == 0
    assert np.mean((mistaken.low <= law) & (law <= mistaken.high)) > 0.97


@pytest.mark.parametrize("level", [0.9, 0.99])
@pytest.mark.parametrize("sizes", [(5, 5), (3, 7), (2, 9)])
def test_intervals_are_those_of_scipy(level: float, sizes: tuple[int, int]):
    a, b = (CHANCE.normal(i, 1 + 3 * i, (4, n)) for i, n in enumerate(sizes))
    test: Any = stats.ttest_ind(a, b, axis=-1, equal_var=False).confidence_interval(level)
    found = compare.difference(a, b, False, level)
    assert np.allclose([found.low, found.high], [test.low, test.high])
    assert np.allclose(found.mean, a.mean(-1) - b.mean(-1))
    if len(set(sizes)) == 1:
        test = stats.ttest_rel(a, b, axis=-1).confidence_interval(level)
        found = compare.difference(a, b, True, level)
        assert np.allclose([found.low, found.high], [test.low, test.high])


def test_chains_that_never_vary_have_an_interval_of_no_width_and_one_chain_has_none():
    for paired in (True, False):
        found = compare.difference(np.full(3, 2.0), np.full(3, 1.5), paired)
        assert (found.mean, found.low, found.high) == (0.5, 0.5, 0.5)
        found = compare.difference(np.array([2.0]), np.array([1.5]), paired)
        assert found.mean == 0.5 and np.isnan([found.low, found.high]).all()
    found = compare.difference(np.array([2.0]), np.arange(3.0), False)
    assert found.mean == 1.0 and np.isnan([found.low, found.high]).all()
    assert np.isnan(compare.difference(np.array([np.nan, 1.0]), np.arange(2.0), False)).all()


def made(name: str, settings: Any = ("chain",), seed: int = 0, replicates: Any = 3, **fields: Any) -> Run:
    """A run of two generations whose values nobody looks at, of a key and, where it sweeps, of several settings."""
    swept = settings != ("chain",)
    lines = [(s, r, t, "mine", 0.0) for s in settings for r in range(replicates or 1) for t in range(2)]
    records = pandas.DataFrame(lines, columns=["setting", "replicate", "generation", "metric", "value"])
    run = {"key": {"$key": [0, seed]}, "sweep": {} if swept else None, "replicates": replicates}
    return Run(name, {"run": run, "signature": name, **fields}, records)


def test_settings_of_one_name_are_compared_and_a_single_one_with_each():
    both, one, other = made("both", ("a", "b")), made("one"), made("other", ("b", "c"))
    named = lambda *runs: [(p.run.name, p.setting, p.reference_setting, p.called) for p in compare.pairs(runs)]  # noqa: E731
    assert named(both, made("again", ("b", "a"))) == [("again", "b", "b", "b"), ("again", "a", "a", "a")]
    assert named(both, other) == [("other", "b", "b", "b")]
    assert named(one, both) == [("both", "a", "chain", "a"), ("both", "b", "chain", "b")]
    assert named(both, one) == [("one", "chain", "a", "a"), ("one", "chain", "b", "b")]
    assert named(one, made("another")) == [("another", "chain", "chain", "")]
    assert named(both, made("single", ("b",))) == [("single", "b", "b", "b")]
    with pytest.raises(GenlossError, match="share no settings: c, d; a, b"):
        compare.pairs([both, made("strange", ("c", "d"))])


@pytest.mark.parametrize(
    ("other", "paired"),
    [
        (made("other"), True),
        (made("other", replicates=5), True),
        (made("other", ("a", "b")), True),
        (made("other", ("a", "b"), replicates=None), True),  # a sweep folds the number of a replicate into its key
        (made("other", seed=1), False),
        (made("other", replicates=None), False),  # its key is the root key itself
    ],
)
def test_runs_of_one_root_key_are_paired_where_their_replicates_have_one_key(other: Run, paired: bool):
    assert {pair.paired for pair in compare.pairs([made("one"), other])} == {paired}


def test_runs_are_one_as_far_as_one_is_a_fork_of_the_other_or_both_of_a_third():
    child = made("child", fork={"of": "parent", "generation": 3})
    grandchild = made("grandchild", fork={"of": "child", "generation": 5, "fork": child.about["fork"]})
    sibling = made("sibling", fork={"of": "parent", "generation": 1})

    def together(*runs: Run) -> int | None:
        return compare.pairs(runs)[0].together(range(8))

    parent = made("parent")
    assert together(parent, child) == together(child, parent) == together(parent, grandchild) == 3
    assert together(child, grandchild) == 5 and together(sibling, grandchild) == 1
    assert together(parent, made("stranger")) is None and together(parent, parent) == 7


def test_what_cannot_be_compared_is_said():
    one = made("one")
    with pytest.raises(GenlossError, match="two runs or more"):
        compare.pairs([one])
    late = Run("late", one.about, one.records.assign(generation=one.records["generation"] + 5))
    with pytest.raises(GenlossError, match="one, late share no generations"):
        compare.generations([one, late])
    with pytest.raises(GenlossError, match="one, other share no measures"):
        compare.measures([one, Run("other", one.about, one.records.assign(metric="other"))])
    apart = Run("apart", one.about, one.records.assign(replicate=one.records["replicate"] + 5))
    with pytest.raises(GenlossError, match="apart and one share no replicates of 'mine'"):
        compare.differences(compare.pairs([one, apart]), ["mine"], [0, 1])
    twice = Run("twice", one.about, pandas.concat([one.records, one.records]))
    with pytest.raises(GenlossError, match="twice hold a value twice"):
        compare.differences(compare.pairs([one, twice]), ["mine"], [0, 1])
    with pytest.raises(GenlossError, match="level is 95 and must lie between 0 and 1"):
        compare.differences(compare.pairs([one, made("other")]), ["mine"], [0, 1], 95)
