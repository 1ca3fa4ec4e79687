"""When a measure has left the control: planted shifts are found, and noise no more often than is said."""

from typing import Any

import numpy as np
import pandas
import pytest
from scipy import stats

from simulator import GenlossError
from simulator.analysis import collapse


def chains(seed: int, replicates: int = 4, generations: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(replicates, generations))


@pytest.mark.parametrize("at", [0, 1, 5, 7])
def test_a_planted_shift_is_found_where_it_is(at: int):
    values = chains(1)
    values[:, at:] += 20
    assert collapse.onset(values, chains(0)) == at


def test_a_measure_that_comes_back_has_not_left():
    values = chains(1)
    values[:, 2:5] += 20
    assert collapse.onset(values, chains(0)) is None


@pytest.mark.parametrize("replicates", [2, 3, 7])
def test_without_being_told_it_decides_as_students_test_at_five_percent(replicates: int):
    control = chains(0, replicates, 1)
    decided = []
    for shift in np.linspace(-8, 8, 401):
        values = shift - control  # of the same spread
        decided.append(collapse.onset(values, control) == 0)
        test: Any = stats.ttest_ind(values, control)
        assert decided[-1] == (test.pvalue[0] < 0.05)
    assert {True, False} == set(decided)


@pytest.mark.parametrize("kept", ["nothing", "most", "all", "sum"], ids="{} is kept of a generation".format)
@pytest.mark.parametrize("replicates", [2, 4])
def test_one_false_alarm_among_many_measures_is_as_rare_as_is_said(replicates: int, kept: str):
    """Measures of the control's own law, whose generations depend on each other."""
    runs, measures, alarm = 600, 10, 0.2
    chance = np.random.default_rng(0)
    noise = chance.normal(size=(runs, 1 + measures, replicates, 6))  # the first is the control
    share = {"nothing": 0.0, "most": 0.9, "all": 1.0, "sum": 1.0}[kept]
    for t in range(1, 6):
        noise[..., t] = share * noise[..., t - 1] + (kept == "sum" or np.sqrt(1 - share**2)) * noise[..., t]
    false = [any(collapse.onset(v, one[0], alarm / measures) is not None for v in one[1:]) for one in noise]
    assert np.mean(false) < alarm + 4 * np.sqrt(alarm * (1 - alarm) / runs)


def test_two_chains_that_never_change_are_called_apart_as_often_as_is_said():
    """All that is known of chance are two degrees of freedom; the bound is nearly reached."""
    pairs = np.random.default_rng(0).normal(size=(4000, 2, 2, 1)).repeat(5, -1)  # one number a chain
    found = np.mean([collapse.onset(*pair) is not None for pair in pairs])
    assert 0.025 < found < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 4000)


def test_a_shift_of_seven_deviations_is_seen_by_four_chains_among_a_hundred_measures():
    found = [collapse.onset(chains(2 * i) + 7, chains(2 * i + 1), 0.05 / 100) == 0 for i in range(200)]
    assert np.mean(found) > 0.5
    assert np.mean([collapse.onset(chains(i) + 7, chains(1000 + i), 0.05 / 100) is not None for i in range(200)]) > 0.8


def test_a_measure_without_spread_says_nothing_of_chance():
    """Two chains of a coin that is thrown once are alike half of the time: no law of Student's."""
    once = (np.random.default_rng(0).random((500, 2, 2, 1)) < 0.5).repeat(4, -1).astype(float)
    assert all(collapse.onset(*pair) is None for pair in once)
    alike = chains(0, 2)
    alike[:, -1] = 0.0  # by chance, while other generations tell how much a chain varies
    assert collapse.onset(alike + 1.0, alike) is None


def frame(**settings: np.ndarray) -> pandas.DataFrame:
    """Tidy records of one measure; generation 0 eats real rows in every setting."""
    rows = [
        (name, r, t, metric, value)
        for name, values in settings.items()
        for r, line in enumerate(values)
        for t, number in enumerate(line)
        for metric, value in (("mine", number), ("diet.real", float(t == 0 or name == "control")))
    ]
    return pandas.DataFrame(rows, columns=["setting", "replicate", "generation", "metric", "value"])


def test_onsets_of_records():
    late = chains(1) + 20 * (np.arange(8) >= 3)
    records = frame(late=late, never=chains(2), control=chains(0))
    found = collapse.onsets(records, ["mine"])
    assert found.loc["mine", "late"] == 3 and found.loc["mine"].isna()["never"]


def test_the_control_is_the_setting_that_ate_real_rows_alone_at_every_generation():
    records = frame(replace=chains(0), control=chains(1))
    assert collapse.control(records) == "control"
    eaten = records["metric"].eq("diet.real") & records["setting"].eq("control")
    for share, known in (
        (1 - 3e-7, "control"),
        (1 - 2e-6, None),
        (0.999, None),
    ):  # sums in float32, and fewer real rows
        records.loc[eaten & records["generation"].eq(5), "value"] = share
        assert collapse.control(records) == known


def test_every_further_measure_and_setting_is_paid_for():
    control = np.array([[-1.0, -1.0], [1.0, 1.0]])
    shifted = control + np.array([0.0, 7.5])  # 5.3 standard errors apart at generation 1; two comparisons need 6.2
    alone = frame(shifted=shifted, control=control)
    assert collapse.onsets(alone, ["mine"]).loc["mine", "shifted"] == 1
    others = [alone.assign(metric=alone["metric"].replace("mine", f"other{i}")) for i in range(2)]
    several = pandas.concat([alone, *others])
    assert collapse.onsets(several, ["mine", "other0", "other1"]).isna().all(axis=None)
    assert collapse.onsets(several, ["mine", "other0", "other1"], alarm=0.15).loc["mine", "shifted"] == 1
    settings = frame(shifted=shifted, a=control, b=control, control=control)
    assert collapse.onsets(settings, ["mine"]).isna().all(axis=None)


def test_without_a_control_or_replicates_there_is_no_onset():
    assert collapse.onsets(frame(late=chains(0)), ["mine"]).empty
    assert collapse.onsets(frame(late=chains(0)[:1], control=chains(1)[:1]), ["mine"]).empty
    with pytest.raises(GenlossError, match="two or more replicates"):
        collapse.onset(chains(0)[:1], chains(0)[:1])
    with pytest.raises(GenlossError, match="rate of false alarms"):
        collapse.onset(chains(0), chains(1), alarm=5)
