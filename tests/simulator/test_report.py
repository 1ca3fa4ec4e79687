"""What is shown of a run: which metrics, and pictures of the right size."""

import io
import json
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas
import pytest
from conftest import gaussian_chain
from PIL import Image
from rich.console import Console

from experiments.command.summary import print_table, print_verdicts
from generators import Ngram
from simulator import Chain, GenlossError, Store, Sweep, run, theory
from simulator.analysis import verdicts
from simulator.probes import LogDet, Moments, Reader, SequencePerplexity
from simulator.recipe import Accumulate, Replace, Select
from simulator.report import figures, page
from simulator.report.page import summary
from simulator.running import files
from simulator.sources.images import sheet
from simulator.sources.text import Text


def records(metrics: list[str], generations: int = 3) -> pandas.DataFrame:
    rows = [
        (setting, replicate, t, metric, t + replicate + (setting == "b") * 10)
        for setting in ("a", "b")
        for replicate in (0, 1)
        for t in range(generations)
        for metric in metrics
    ]
    return pandas.DataFrame(rows, columns=["setting", "replicate", "generation", "metric", "value"])


def told(page_text: str) -> dict[str, Any]:
    """What a page was told."""
    return json.loads(page_text.partition('<script type="application/json" id="told">')[2].partition("</script>")[0])


def tables(page_text: str) -> dict[str, dict[str, Any]]:
    """Its tables, by their titles."""
    return {table["title"]: table for table in told(page_text)["tables"]}


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
    shown = np.asarray(Image.open(io.BytesIO(sheet(images, axes=2))))
    assert shown.shape == (2 * (8 * 4 + 2), 24 * (8 * 4 + 2))
    assert np.array_equal(shown[1:33:4, 1:33:4], images[0, 0, 0, :, :, 0])  # setting 0, replicate 0, row 0
    assert np.array_equal(shown[35:67:4, 35:67:4], images[1, 0, 1, :, :, 0])


# Theory.


def stored(folder: Path) -> tuple[Store, Sweep]:
    chain = gaussian_chain(
        recipe=Select((Replace(), Accumulate()), 0), probes={"moments": Moments(), "log_det": LogDet()}
    )
    sweep = Sweep(chain, "recipe.index", {"a": 0, "b": 1})
    run(sweep, jax.random.key(0), 70, folder, replicates=3, every=70)
    return Store(folder), sweep


def dashed(panel: Any) -> list[np.ndarray]:
    return [np.asarray(line.get_ydata(), float) for line in panel.lines if line.get_linestyle() == "--"]


def test_theory_is_drawn_dashed_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    store, chain = stored(tmp_path / "run")
    records, laws = store.records(), theory.keep(store, chain)
    figure = figures.decay(records, store.ceiling(), theory=laws)
    panels = {panel.get_title(): panel for panel in figure.axes}
    drawn = dashed(panels["moments.variance"])
    assert len(drawn) == 2 and len(dashed(panels["log_det"])) == 1
    assert np.allclose(drawn[0], theory.replace_variance(10, 70))
    assert np.allclose(drawn[1], theory.accumulate_variance(10, 70))
    assert panels["moments.variance"].get_yscale() == "log" and panels["moments.mean_error"].get_yscale() == "linear"
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels.count("theory") == 1 and labels.count("a") == 1

    shown = page.write(store).read_text()
    assert "theory, moments.variance, moments.mean_error (a): replace: E[S_t] = (1 - 1/n)^t" in shown
    ends = {tuple(row[:2]): row[-1] for row in tables(shown)["first and last generation"]["rows"]}
    assert ends["moments.variance", "a"] == "0.000627"  # 0.9^70
    print_table(records, store.ceiling(), laws)
    said = capsys.readouterr().out
    line = next(line.split() for line in said.splitlines() if line.startswith("moments.variance"))
    assert (
        line[:2] == ["moments.variance", "a"]
        and "0.000627" in line
        and "log_det (b): the log determinant has a law only" in said
    )


def test_each_setting_of_a_metric_has_a_line(capsys: pytest.CaptureFixture[str]):
    print_table(records(["mine.first"]), {"mine.first": 7.0}, {})
    shown = [line.split() for line in capsys.readouterr().out.splitlines()[:3]]
    assert shown[0] == ["measure", "setting", "at", "0", "at", "2", "±", "95", "%", "real"]
    assert [(*line[:-2], line[-1]) for line in shown[1:]] == [
        ("mine.first", "a", "0.5", "2.5", "7"),
        ("b", "10.5", "12.5", "7"),
    ]


def test_a_report_needs_no_chain_and_says_why_it_draws_no_theory(tmp_path: Path):
    store, chain = stored(tmp_path / "run")
    laws = theory.keep(store, chain)
    about = json.loads((store.path / "chain.json").read_text())
    about["run"]["chain"]["recipe"]["$type"] = "a_file_that_is_gone:Mine"
    (store.path / "chain.json").write_text(json.dumps(about))
    again = theory.kept(store)
    assert list(again) == list(laws)
    for name, law in laws.items():
        assert again[name].why == law.why and list(again[name].curves) == list(law.curves)
        assert all(np.array_equal(again[name].curves[m], law.curves[m], equal_nan=True) for m in law.curves)
    assert "theory, moments.variance" in page.write(store).read_text()
    kept = (store.path / "theory.json").read_text()
    for damage, why in (
        (kept[:-40], "theory.json cannot be read"),
        (kept.replace(about["signature"], "0123456789"), "theory.json is of another run"),
        (None, "no theory was kept with the run; `genloss report RUN --trust`"),
    ):
        (store.path / "theory.json").unlink()
        if damage is not None:
            (store.path / "theory.json").write_text(damage)
        assert f"theory, none: {why}" in page.write(store).read_text()
        assert not any(dashed(panel) for panel in figures.decay(store.records(), theory=theory.kept(store)).axes)


def test_laws_that_cannot_be_computed_are_no_fault_of_the_run(tmp_path: Path):
    def fails(*_: Any) -> Any:
        raise ZeroDivisionError("half of a row")

    store, chain = stored(tmp_path / "run")
    chain.chain.probes["moments"] = fails  # pyright: ignore
    object.__setattr__(chain, "make", fails)
    assert theory.sentences(theory.keep(store, chain)) == [
        "none: the laws of the chain cannot be computed (ZeroDivisionError: half of a row)."
    ]


def test_a_run_that_is_not_finished_has_the_theory_of_what_is_done():
    law = theory.overlay(gaussian_chain(recipe=Replace(), probes={"mine": Moments()}), 9)
    figure = figures.decay(records(["mine.variance"]), theory={"a": law})
    assert np.allclose(dashed(figure.axes[0]), [theory.replace_variance(10, 3)])


def test_what_falls_by_decades_is_drawn_on_a_logarithmic_axis():
    data = records(["mine"])
    data["value"] = 10.0 ** -data["value"]
    figure = figures.decay(data, {"mine": 0.0})
    assert figure.axes[0].get_yscale() == "log" and figure.axes[0].get_ylim()[0] > 0
    assert "real against real" not in [text.get_text() for text in figure.legends[0].get_texts()]


NAMES = ["[/y]", "[bold]", "<b>&", "$x^{", "_under", "a\x1b]0;b\x07", "two\nlines", "$\\frac{$"]


def test_names_are_shown_as_they_are_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Of settings and metrics: on the terminal, in figures and on the page, whatever they mean there."""
    rows = [(name, 0, t, metric, 1.0 + t) for name in NAMES for metric in NAMES for t in range(2)]
    frame = pandas.DataFrame(rows, columns=["setting", "replicate", "generation", "metric", "value"])
    laws = {name: theory.Overlay({}, {"none": f"law of {name}"}) for name in NAMES}
    shown = [name.replace("\x1b", "�").replace("\x07", "�").replace("\n", "�") for name in NAMES]

    print_table(frame, {}, laws, Console(width=400))
    said = capsys.readouterr().out
    assert all(name in said for name in shown) and "\x1b" not in said
    figure = figures.decay(frame)
    figures.rendered(figure, "svg")
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert [label.strip().replace(r"\$", "$") for label in labels] == shown

    store, _ = stored(tmp_path / "run")
    store.records = lambda: frame  # pyright: ignore[reportAttributeAccessIssue]
    page_text = page.write(store, laws).read_text()
    assert "<b>" not in page_text and "\x1b" not in page_text
    assert [line["name"] for line in told(page_text)["lines"]] == shown
    assert {measure["name"] for measure in told(page_text)["measures"]} == set(shown)


@pytest.mark.parametrize(("generations", "shown"), [(1, None), (3, "3"), (5, "3")])
def test_a_law_is_shown_at_the_last_generation_measured_or_not_at_all(
    generations: int, shown: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Whatever the length of its curve beside 3 generations of records; the law is 1, 2, 3, ..."""
    laws = {"a": theory.Overlay({"mine": 1.0 + np.arange(generations)}, {})}
    print_table(records(["mine"]), {}, laws)
    head, first, *_ = capsys.readouterr().out.splitlines()
    assert ("theory" in head) == (shown is not None) and (shown is None or first.split()[-1] == shown)
    store, _ = stored(tmp_path / "run")
    store.records = lambda: records(["mine"])  # pyright: ignore[reportAttributeAccessIssue]
    ends = tables(page.write(store, laws).read_text())["first and last generation"]
    assert ("theory" in ends["head"]) == (shown is not None)
    assert shown is None or [row[-1] for row in ends["rows"]] == [shown, ""]


def test_a_picture_beyond_all_bounds_is_not_decoded(monkeypatch: pytest.MonkeyPatch):
    drawn = sheet(np.zeros((1, 2, 8, 8, 1), np.uint8), 1)
    monkeypatch.setattr("simulator.sources.images.MOST_PIXELS", 100)
    with pytest.raises(GenlossError, match=r"generation 3 is .* pixels, and images of up to 100"):
        figures.gallery({3: drawn}, ["0"])


def test_measures_are_single_numbers():
    known = ["fit.mass", "diet.real", "modes.class.3", "fidelity.kid", "fidelity.kid_error", "fidelity.rows", "mine"]
    assert figures.single(known) == ["fidelity.kid", "mine"]


def test_perplexities_are_drawn_for_every_setting_beside_those_of_the_first_generation():
    data = records([f"seq.histogram.{i}" for i in range(8)] + ["seq.median"], generations=9)
    data["value"] = [
        (t + len(s)) * (m == "seq.histogram.3") for s, t, m in data[["setting", "generation", "metric"]].to_numpy()
    ]
    (figure,) = figures.perplexities(data)
    assert len(figure.axes) == 2 * 6 and figures.perplexities(records(["mine"])) == []
    panel = figure.axes[5]  # of the last generation
    own, first = (getattr(patch, "get_data")() for patch in panel.patches)  # noqa: B009
    assert own.values.tolist() == [0, 0, 0, 9, 0, 0, 0, 0] and first.values.max() == 1
    assert own.edges[3:5] == pytest.approx([2**0.75, 2]) and panel.get_xscale() == "log"


def test_texts_are_kept_and_shown_side_by_side(tmp_path: Path):
    file = tmp_path / "text.txt"
    file.write_text("<b>a & b</b>\n" * 200)
    text = Text(str(file), length=20)
    reader = Reader(Ngram(len(text.alphabet), smoothing=0.1))
    probes = {"seq": SequencePerplexity(reader)}
    chain = Chain(source=text, generator=Ngram(len(text.alphabet)), probes=probes, real=50, rows=30, held_out=20)
    store = Store(tmp_path / "run")
    run(chain, jax.random.key(0), 2, store=store, replicates=2)
    found = store.texts()
    assert list(found) == [0, 1] and [len(line) for line in found[1]] == [4, 4] and found[0] != found[1]
    assert all(len(said) == 20 and set(said) <= set(text.alphabet) for line in found[0] for said in line)
    text = page.write(store).read_text()
    (said,) = told(text)["said"]
    assert said["kind"] == "texts" and said["generations"] == [0, 1]
    assert said["texts"] == [[line[:3] for line in found[t]] for t in (0, 1)] and "<b>" not in text
    assert (tmp_path / "run" / "report" / "perplexities.svg").exists()
    for raw in (b"[]\n", b"{", b'{"line": -1, "text": ""}\n', b'{"line": 0, "text": 1}\n'):
        (tmp_path / "run" / "samples" / "0.jsonl").write_bytes(raw)
        with pytest.warns(UserWarning, match="it is left out"):
            assert list(store.texts()) == [1]


@pytest.mark.parametrize("axes", [0, 1, 2])
def test_the_first_texts_of_every_setting_come_back(axes: int, tmp_path: Path):
    rows = np.arange(2 * 3 * 6 * 2).reshape(2, 3, 6, 2)  # [settings, replicates, rows, length]
    decode = lambda rows: [f"{row.tolist()}\n" for row in rows]  # noqa: E731
    (tmp_path / "0.jsonl").write_bytes(files.dump_texts(decode, rows[(0,) * (2 - axes)], axes))
    lines = {0: rows[:1, 0], 1: rows[0], 2: rows[:, 0]}[axes]
    assert files.load_texts(tmp_path / "0.jsonl") == [decode(line[:4]) for line in lines]


def test_a_report_and_a_summary_say_which_definitions_of_collapse_hold(tmp_path: Path):
    """A Gaussian of 10 rows that eats its latest or all of them, 60 chains of 70 fits; its variance is 0.9^t or 0.8."""
    recipe = Select((Replace(), Accumulate()), 0)
    sweep = Sweep(gaussian_chain(recipe=recipe, probes={"moments": Moments()}), "recipe.index", {"<a>": 0, "b": 1})
    run(sweep, jax.random.key(0), 70, tmp_path / "run", replicates=60, every=70)
    store = Store(tmp_path / "run")
    found = verdicts.of_run(store)
    shown = tables(page.write(store).read_text())["has it collapsed?"]
    (said,) = [row[1:] for row in shown["rows"] if row[0] == "collapsing variance"]
    assert said[0] == "moments.variance" and said[2:] == ["b", ""]
    assert re.fullmatch(r"<a> from \d+ \[\d+, \d+\]", said[1])
    assert "Against generation 0: at most 5 % of such tables have a wrong answer." in shown["notes"][0]
    assert "moments.variance 1 ± 0" in shown["notes"][1]  # read off the parameters of the truth, it has no noise

    written = io.StringIO()
    for console in (Console(file=written, width=80, force_terminal=True, color_system=None), Console(file=written)):
        print_verdicts(found, store.ceiling(), store.noise(), console)
    wide, narrow = (
        re.sub(r"\s+", " ", text) for text in (written.getvalue().rsplit("has it", 1)[1], written.getvalue())
    )
    assert "collapsing variance moments.variance holds: <a> from" in wide and "does not: b" in wide
    assert "Not told, change of scaling law: It wants runs of two or more numbers of rows." in narrow
    assert max(len(line) for line in written.getvalue().partition("law: It")[0].splitlines()) <= 80
    print_verdicts([], {}, {}, Console(file=written))


def test_runs_of_several_sizes_tell_of_a_scaling_law(tmp_path: Path):
    for rows in (5, 10, 40):
        chain = gaussian_chain(real=rows, rows=rows, recipe=Replace(), probes={"moments": Moments()})
        run(chain, jax.random.key(0), 9, tmp_path / str(rows), replicates=100, every=9)
    small, middle, large = (Store(tmp_path / str(rows)) for rows in (5, 10, 40))
    own = {"risk": ("moments.mean_error", "loss")}
    (told,) = [one for one in verdicts.of_run(small, [middle, large], own) if one.definition == "change of scaling law"]
    assert told.metric == "moments.mean_error" and told.reference == pytest.approx(-1, abs=0.3)
    with pytest.raises(GenlossError, match="5 real rows, as another of these runs; give runs that differ in rows"):
        verdicts.of_run(small, [small])
