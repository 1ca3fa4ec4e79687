"""The share that looks generated, from scores whose laws are known."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from simulator import GenlossError
from simulator.analysis.audit import FLAT, REACH, Share, auroc, share

FOLDS, TIMES = 5, 150
Law = Callable[[np.random.Generator, int], np.ndarray]


def cut(rows: np.ndarray) -> list[np.ndarray]:
    return np.array_split(rows, FOLDS)


def shares(generated: Law, truth: float, n: int = 2000, times: int = TIMES, m: int | None = None) -> list[Share]:
    """Audits of sets whose real rows score N(0, 1), as those beside them do."""
    chance, found = np.random.default_rng(0), []
    for _ in range(times):
        k = round(truth * n)
        given = chance.permutation(np.concatenate([chance.standard_normal(n - k), generated(chance, k)]))
        found.append(share(cut(chance.standard_normal(m or n)), cut(given)))
    return found


def shifted(by: float) -> Law:
    return lambda chance, k: by + chance.standard_normal(k)


def within(count: int, rate: float, times: int) -> bool:
    """Whether no more than that rate, by four standard errors."""
    return count <= rate * times + 4 * np.sqrt(rate * (1 - rate) * times)


@pytest.mark.parametrize("by, truth, m", [(5.0, 0.1, 2000), (5.0, 0.5, 2000), (3.0, 0.3, 6000), (20.0, 0.9, 500)])
def test_intervals_of_what_can_be_told_hold_the_truth_as_often_as_they_say(by: float, truth: float, m: int):
    found = shares(shifted(by), truth, m=m)
    assert within(sum(one.low > truth for one in found), 0.05, TIMES)
    assert within(sum(one.high < truth for one in found), 0.05, TIMES)
    told = [one.value for one in found if one.value is not None]
    assert len(told) > 0.9 * TIMES and np.mean(np.abs(np.array(told) - truth) <= REACH) > 0.99


def test_an_answer_is_no_wider_than_it_may_be_and_few_rows_say_that_they_are_few():
    found = shares(shifted(9.0), 0.3, n=400, times=60)
    told = [one for one in found if one.value is not None]
    few = [one for one in found if "more rows" in one.why]
    assert told and few and len(told) + len(few) >= 0.9 * len(found)
    assert all(one.low <= one.value <= one.high <= one.low + 2 * REACH for one in told if one.value is not None)
    assert all(one.high > one.low + 2 * REACH for one in few) and within(sum(one.high < 0.3 for one in few), 0.05, 60)


def test_of_nothing_no_more_is_claimed_than_the_level():
    found = shares(shifted(0.0), 0.0)
    claimed = [one for one in found if one.low > 0]
    assert within(len(claimed), 0.05, TIMES)
    assert all(
        one.value is None and one.high == 1 and "cannot be told apart" in one.why for one in found if not one.low
    )


def test_generated_rows_that_look_real_count_as_real_and_the_lower_end_holds_all_the_same():
    """No region is free of them: of 40 % a half can be told."""

    def half(chance: np.random.Generator, k: int) -> np.ndarray:
        return np.concatenate([chance.standard_normal(k - k // 2), 6 + chance.standard_normal(k // 2)])

    found = shares(half, 0.4)
    assert within(sum(one.low > 0.4 for one in found), 0.0, TIMES)
    assert within(sum(one.low > 0.2 for one in found), 0.05, TIMES)
    assert abs(np.mean([one.low for one in found]) - 0.2) < 0.03


@pytest.mark.parametrize("by", [0.5, 1.0])
def test_where_the_ratio_falls_to_the_last_row_it_is_said_that_the_share_cannot_be_told(by: float):
    """p and g are normal laws: the share is identified by the last row alone."""
    found = shares(shifted(by), 0.5, n=10_000, times=15)
    assert all(one.value is None and one.high == 1 and one.low < 0.5 for one in found)
    assert sum(one.part < FLAT and "still falls" in one.why for one in found) > len(found) / 2


def test_only_the_order_of_scores_matters():
    chance = np.random.default_rng(1)
    real, given = (
        cut(chance.standard_normal(1000)),
        cut(np.r_[chance.standard_normal(600), 4 + chance.normal(size=400)]),
    )
    changed = [[np.exp(x / 3) for x in folds] for folds in (real, given)]
    assert share(real, given) == share(changed[0], changed[1])


def test_the_area_is_that_of_scikit_learn_and_chance_is_its_spread():
    from sklearn.metrics import roc_auc_score

    chance = np.random.default_rng(2)
    a, b = np.round(chance.normal(size=70), 1), np.round(0.5 + chance.normal(size=90), 1)  # with ties
    assert np.isclose(auroc([a], [b])[0], roc_auc_score(np.repeat([0, 1], [70, 90]), np.r_[a, b]))
    drawn = [auroc(cut(chance.normal(size=60)), cut(chance.normal(size=90))) for _ in range(400)]
    areas, errors = np.array(drawn).T
    assert abs(areas.mean() - 0.5) < 5 * errors[0] / np.sqrt(400)
    assert abs(areas.std() / errors[0] - 1) < 5 / np.sqrt(2 * 400)


def test_a_higher_confidence_is_a_wider_interval():
    chance = np.random.default_rng(3)
    real, given = cut(chance.standard_normal(2000)), cut(np.r_[chance.standard_normal(900), 9 + np.zeros(600)])
    narrow, wide = share(real, given, 0.8), share(real, given, 0.99)
    assert wide.low < narrow.low < 0.4 < narrow.high < wide.high


BAD: dict[str, tuple[Any, Any, float]] = {
    "two folds": ([np.zeros(5)], [np.zeros(5)], 0.9),
    "rows of both": ([np.zeros(5)] * 2, [np.zeros(5), np.zeros(0)], 0.9),
    "finite": ([np.zeros(5)] * 2, [np.zeros(5), np.array([np.nan])], 0.9),
    "below 1": ([np.zeros(5)] * 2, [np.zeros(5)] * 2, 1.0),
}


@pytest.mark.parametrize("sentence", BAD)
def test_bad_input_is_one_sentence(sentence: str):
    with pytest.raises(GenlossError, match=sentence):
        share(*BAD[sentence])
