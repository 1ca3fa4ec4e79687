"""Harm and its intervals, against scipy and by hand."""

import numpy as np
import pytest
from scipy import stats

from simulator import GenlossError
from simulator.analysis.harm import excess, interval, marginal, worst

CHANCE = np.random.default_rng(0)


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_excess_harm_is_a_paired_interval(level: float):
    seeds = CHANCE.normal(size=5)  # what a seed does to both
    control, generated = (0.8 + 0.1 * seeds + CHANCE.normal(0, 0.01, (3, 5)) for _ in range(2))
    found = excess(control, generated, level)
    for i in range(3):
        test = stats.ttest_rel(control[i], generated[i])
        low, high = test.confidence_interval(level)
        assert np.allclose(
            [found.mean[i], found.low[i], found.high[i]], [np.mean(control[i] - generated[i]), low, high]
        )
    assert (found.high - found.low).max() < 0.1  # the spread of seeds is not in it


def test_an_interval_covers_as_often_as_it_says():
    found = interval(CHANCE.normal(size=(20_000, 4)), 0.8)
    share = np.mean((found.low < 0) & (found.high > 0))
    assert abs(share - 0.8) < 5 * np.sqrt(0.16 / 20_000)


def test_the_worst_class_pays_for_having_been_picked():
    control = np.full((6, 4), 0.9) + CHANCE.normal(0, 0.01, (6, 4))
    generated = control - np.array([0.1, 0.3, 0.2, 0.0]) + CHANCE.normal(0, 0.01, (6, 4))
    control[:, 3] = generated[:, 3] = np.nan  # a class that was not held out
    picked, found = worst(control, generated)
    low, high = stats.ttest_rel(control[:, 1], generated[:, 1]).confidence_interval(1 - 0.05 / 3)
    assert picked == 1 and np.allclose([found.low, found.high], [low, high])
    # Three classes that are not harmed: the worst of them is called harmed no more often than stated.
    wrong = np.mean([worst(*CHANCE.normal(size=(2, 5, 3)))[1].low > 0 for _ in range(2000)])
    assert wrong < 0.05 + 5 * np.sqrt(0.05 / 2000)


def test_what_a_percent_of_real_rows_is_worth():
    ratios, scores = [0.0, 0.2, 1.0], CHANCE.normal(size=(3, 5))
    found = marginal(ratios, scores)
    for i, percent in enumerate((20, 80)):
        each = (scores[i] - scores[i + 1]) / percent
        low, high = stats.ttest_1samp(each, 0).confidence_interval(0.95)
        assert np.allclose([found.mean[i], found.low[i], found.high[i]], [each.mean(), low, high])


def test_what_cannot_be_compared_is_said():
    with pytest.raises(GenlossError, match="same seeds"):
        excess(np.zeros(4), np.zeros(5))
    with pytest.raises(GenlossError, match="at least 2"):
        excess(np.zeros((3, 1)), np.zeros((3, 1)))
    with pytest.raises(GenlossError, match="level"):
        interval(np.zeros(4), 95)
    with pytest.raises(GenlossError, match="Ratios must rise"):
        marginal([0.0, 0.4, 0.2], np.zeros((3, 4)))
    with pytest.raises(GenlossError, match="No class"):
        worst(np.full((3, 2), np.nan), np.zeros((3, 2)))
