"""What is shown of a run: which metrics, and pictures of the right size."""

import io

import numpy as np
import pandas
from PIL import Image

from simulator.report import figures
from simulator.report.page import summary


def records(metrics: list[str], generations: int = 3) -> pandas.DataFrame:
    rows = [
        (setting, replicate, t, metric, t + replicate + (setting == "b") * 10)
        for setting in ("a", "b")
        for replicate in (0, 1)
        for t in range(generations)
        for metric in metrics
    ]
    return pandas.DataFrame(rows, columns=["setting", "replicate", "generation", "metric", "value"])


def test_headlines_and_ones_own_probes_are_shown():
    known = ["fit.mass", "diversity.variance", "diversity.participation", "mine", "other.first", "vector.0", "vector.1"]
    assert figures.shown(known) == ["diversity.variance", "mine", "other.first"]
    assert figures.shown(["fit.mass", "diversity.participation"]) == ["diversity.participation"]
    assert figures.shown(["fit.mass"]) == ["fit.mass"]


def test_summary_is_the_mean_over_replicates_at_the_first_and_last_generation():
    table = summary(records(["mine"]))
    assert table.loc["a"].tolist() == [0.5, 2.5] and table.loc["b"].tolist() == [10.5, 12.5]
    assert list(table.columns) == [("mine", 0), ("mine", 2)]


def test_decay_draws_the_mean_of_each_setting():
    figure = figures.decay(records(["mine"]), {"mine": 5.0})
    panel = figure.axes[0]
    drawn = {str(line.get_label()): np.asarray(line.get_ydata(), float) for line in panel.lines}
    assert np.allclose(drawn["a"], [0.5, 1.5, 2.5]) and np.allclose(drawn["b"], [10.5, 11.5, 12.5])
    assert np.allclose(drawn["real against real"], 5)


def test_diets_stack_to_the_whole():
    data = records(["diet.real", "diet.birth.0", "diet.birth.1"])
    data["value"] = 1 / 3
    figure = figures.diets(data)
    assert figure is not None
    tops = [bar.get_y() + bar.get_height() for bar in figure.axes[0].patches]  # pyright: ignore
    assert np.isclose(max(tops), 1)
    assert figures.diets(records(["mine"])) is None


def test_a_sheet_has_a_line_for_each_setting():
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 30, 8, 8, 1)).astype(np.uint8)
    sheet = np.asarray(Image.open(io.BytesIO(figures.sheet(images, axes=2))))
    assert sheet.shape == (2 * (8 * 4 + 2), 24 * (8 * 4 + 2))
    assert np.array_equal(sheet[1:33:4, 1:33:4], images[0, 0, 0, :, :, 0])  # setting 0, replicate 0, row 0
    assert np.array_equal(sheet[35:67:4, 35:67:4], images[1, 0, 1, :, :, 0])
