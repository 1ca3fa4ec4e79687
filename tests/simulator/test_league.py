"""The ranks of a league: worlds whose order is known, what is shared, and how often what is said is so."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import t as student

from simulator import GenlossError
from simulator.analysis.compare import mean
from simulator.analysis.league import Standing, chances, standings

CHANCE = np.random.default_rng(1)


def noisy(means: Any, replicates: int, noise: float = 1.0, common: float = 0.0) -> np.ndarray:
    """Scores [entries, replicates]; `common` is what a replicate does to all entries."""
    means = np.asarray(means, float)[:, None]
    own = CHANCE.normal(size=(len(means), replicates))
    return means + noise * own + common * CHANCE.normal(size=replicates)


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_entries_far_apart_have_their_rank_for_certain(better: Any):
    table = noisy([0, 10, 20, 30], 8)
    found = standings(dict(zip("abcd", table, strict=True)), "c", better)
    order = "dcba" if better == "higher" else "abcd"
    assert [s.entry for s in found] == list(order)
    for rank, s in enumerate(found):
        assert s.ranks[rank] > 0.999 and s.between() == (rank + 1, rank + 1)
        assert s.difference == pytest.approx(table["abcd".index(s.entry)].mean() - table[2].mean())


def test_chances_sum_to_one_over_ranks_and_over_entries():
    table = noisy([0, 0.2, 0.1, 0.3, 0.2], 6)
    table[3] = table[1]  # ties
    found = chances(table, 2000)
    assert np.allclose(found.sum(0), 1) and np.allclose(found.sum(1), 1) and (found >= 0).all()


def test_entries_that_are_one_share_their_ranks():
    table = noisy([0, 0, 50], 5)
    table[1] = table[0]
    found = chances(table, 500)
    assert np.allclose(found, [[0, 0.5, 0.5], [0, 0.5, 0.5], [1, 0, 0]])


def test_what_replicates_share_says_nothing_of_ranks():
    table = noisy([0, 1], 10, noise=0.1)
    shared = table + 100 * CHANCE.normal(size=10)
    assert np.allclose(chances(table), chances(shared), atol=1e-9)
    assert chances(shared)[1, 0] > 0.999  # unpaired, nobody could tell


def test_the_chance_of_beating_another_is_students():
    for replicates in (3, 10):
        for gap in (0.1, 0.5, 1.0):
            base = CHANCE.normal(size=replicates)
            base = (base - base.mean()) / base.std(ddof=1)
            found = chances(np.stack([base + gap, np.zeros(replicates)]), 40_000)[0, 0]
            expected = student.cdf(gap * np.sqrt(replicates), replicates - 1)
            assert abs(found - expected) < 4 * np.sqrt(expected * (1 - expected) / 40_000)


def test_of_what_is_said_with_some_chance_as_much_is_so():
    """Pairs whose true difference is anything: entries given a chance of rank 1 near p are truly best p of the time."""
    worlds, replicates = 3000, 8
    truth = CHANCE.uniform(-2, 2, worlds)
    said = np.array([chances(noisy([d, 0], replicates), 200)[0, 0] for d in truth])
    for low, high in ((0.05, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 0.95)):
        some = (said > low) & (said < high)
        error = np.sqrt((said[some] * (1 - said[some])).sum())
        assert abs((truth[some] > 0).sum() - said[some].sum()) < 4 * error


def test_intervals_cover_the_true_difference():
    hits = 0
    for _ in range(1000):
        table = noisy([0.0, 0.7], 6, common=3.0)
        found = {s.entry: s for s in standings({"a": table[0], "b": table[1]}, "a", "higher", 0.9, draws=1)}
        hits += found["b"].low < 0.7 < found["b"].high
    assert abs(hits - 900) < 4 * np.sqrt(1000 * 0.9 * 0.1)


def test_what_is_not_finite_ranks_behind_all_others():
    table = noisy([0, 1, 2, 3], 4)
    table[3, 1], table[2, 0] = np.nan, np.inf
    for better in ("higher", "lower"):
        found = {s.entry: s for s in standings(dict(zip("abcd", table, strict=True)), "a", better)}
        assert found["c"].ranks[:2].sum() == found["d"].ranks[:2].sum() == 0
        assert found["c"].ranks[2] == found["d"].ranks[2] == 0.5
        assert not np.isfinite(found["d"].low) and np.isfinite(found["b"].low)


def test_the_ranks_told_are_the_fewest_that_have_the_chance():
    of = lambda *ranks: Standing("a", 0, 0, 0, 0, np.array(ranks)).between(0.9)  # noqa: E731
    assert of(0.05, 0.9, 0.05) == (2, 2) and of(0.5, 0.45, 0.05) == (1, 2) and of(0.3, 0.3, 0.4) == (1, 3)
    assert of(0.0, 0.46, 0.0, 0.54) == (2, 4)


def test_too_few_entries_or_replicates_are_refused():
    with pytest.raises(GenlossError, match="two entries or more"):
        standings({"a": np.zeros(3)}, "a", "higher")
    with pytest.raises(GenlossError, match="two replicates or more"):
        standings({"a": np.zeros(1), "b": np.zeros(1)}, "a", "higher")
    assert mean(np.zeros((2, 3))).mean.shape == (2,)
