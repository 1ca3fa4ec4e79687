"""When a measure has left the control: planted shifts are found, noise is not."""

import numpy as np
import pandas
import pytest

from simulator import collapse


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


def test_noise_is_seldom_taken_for_a_collapse():
    # Student's t of (4 - 1) · 8 = 24 degrees of freedom: P(|t| > 2) = 0.057, at the last generation.
    found = [collapse.onset(chains(2 * i), chains(2 * i + 1), sigmas=2.0) is not None for i in range(4000)]
    assert abs(np.mean(found) - 0.0569) < 5 * np.sqrt(0.0569 / 4000)


def frame(**settings: np.ndarray) -> pandas.DataFrame:
    rows = [
        (name, r, t, metric, value)
        for name, values in settings.items()
        for r, line in enumerate(values)
        for t, number in enumerate(line)
        for metric, value in (("mine", number), ("diet.real", float(name == "control")))
    ]
    return pandas.DataFrame(rows, columns=["setting", "replicate", "generation", "metric", "value"])


def test_onsets_of_records():
    late = chains(1) + 20 * (np.arange(8) >= 3)
    records = frame(late=late, never=chains(2), control=chains(0))
    assert collapse.control(records) == "control"
    found = collapse.onsets(records, ["mine"])
    assert found.loc["mine", "late"] == 3 and found.loc["mine"].isna()["never"]


def test_without_a_control_or_replicates_there_is_no_onset():
    assert collapse.onsets(frame(late=chains(0)), ["mine"]).empty
    assert collapse.onsets(frame(late=chains(0)[:1], control=chains(1)[:1]), ["mine"]).empty
    with pytest.raises(ValueError, match="two or more replicates"):
        collapse.onset(chains(0)[:1], chains(0)[:1])
