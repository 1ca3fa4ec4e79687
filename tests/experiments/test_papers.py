"""What leaves a run for a paper or another program: records of many, tables, figures, rows."""

import dataclasses
import io
import json
import math
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas
import pytest
import tiny_sweep
from matplotlib import rc_context
from matplotlib.colors import to_rgba
from scipy import stats

from experiments.cli import main
from simulator import GenlossError, Store, run, theory
from simulator.analysis.compare import Run
from simulator.analysis.joined import dumped, joined
from simulator.recipe import Mix
from simulator.report import means, paper
from simulator.report.figures import rendered


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    key = jax.random.key(0)
    run(tiny_sweep.sweep, key, 2, folder / "swept", replicates=3, every=2)
    theory.keep(Store(folder / "swept"), tiny_sweep.sweep)
    mixed = dataclasses.replace(tiny_sweep.chain, recipe=Mix(real=0.5, size=20))
    run(mixed, key, 2, folder / "mixed", replicates=2, every=2)
    return folder


@pytest.fixture(autouse=True)
def somewhere(runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(runs)
    monkeypatch.setenv("GENLOSS_CACHE", "off")
    capsys.readouterr()


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one sentence on bad input."""
    assert main(list(words)) == 2
    said = capsys.readouterr().err.removeprefix("genloss: ")
    assert said.count("\n") == 1
    return said


def records(name: str) -> Any:
    return pandas.read_parquet(f"{name}/records.parquet")


# Records.


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_records_of_many_runs_are_each_ones_own_beside_the_fields_they_differ_in(suffix: str, tmp_path: Path):
    file = tmp_path / f"all.{suffix}"
    assert main(["records", "swept", "mixed", "--to", str(file)]) == 0
    found: Any = pandas.read_parquet(file) if suffix == "parquet" else pandas.read_csv(file)
    for name in ("swept", "mixed"):
        own = found[found["run"] == name].reset_index(drop=True)
        pandas.testing.assert_frame_equal(own[list(records(name))], records(name), check_dtype=False, check_exact=True)
    told = found.groupby(["run", "setting"], sort=False).first()
    assert list(told["recipe"]) == ["Select", "Select", "Mix"]
    assert list(told["recipe.index"])[:2] == [0, 1] and told["recipe.index"][2:].isna().all()
    assert told["recipe.real"].fillna(-1).tolist() == [-1, -1, 0.5]
    # of the fields that are alike none
    assert not {"real", "rows", "generator.dim"} & set(found)


def test_records_of_a_run_without_settings_are_its_records(tmp_path: Path):
    assert main(["records", "mixed", "--to", str(tmp_path / "one.parquet")]) == 0
    found: Any = pandas.read_parquet(tmp_path / "one.parquet")
    assert list(found) == ["run", *records("mixed")] and set(found["run"]) == {"mixed"}


def test_records_are_written_over_nothing_and_to_what_can_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    there = tmp_path / "there.parquet"
    there.write_bytes(b"mine")
    assert "is there already" in refused(capsys, "records", "mixed", "--to", str(there))
    assert there.read_bytes() == b"mine"
    assert ".parquet, .csv" in refused(capsys, "records", "mixed", "--to", str(tmp_path / "x.json"))
    assert "given twice" in refused(capsys, "records", "mixed", "mixed", "--to", str(tmp_path / "x.csv"))
    assert "holds no run" in refused(capsys, "records", "nothing", "--to", str(tmp_path / "x.csv"))


def test_fields_of_any_kind_in_somebodys_configuration_become_columns(tmp_path: Path):
    """Numbers of any size, lists, and paths that are called as columns of the records are."""
    one: Any = {"run": {"chain": {"big": 10**400, "some": [1, 2], "value": 1, "flag": True}, "sweep": None}}
    other: Any = {
        "run": {"chain": {"big": 1, "some": [1, 3], "value": 2, "flag": 1.5, "deep": {"x": None}}, "sweep": None}
    }
    rows = records("mixed")
    found = joined([Run("one", one, rows), Run("other", other, rows)])
    assert np.array_equal(found["value"], np.tile(rows["value"], 2))
    assert found["some"].unique().tolist() == ["[1, 2]", "[1, 3]"]
    assert found["big"].unique().tolist() == ["1" + "0" * 400, "1"]
    (tmp_path / "x.parquet").write_bytes(dumped(found))
    assert json.loads(pandas.read_parquet(tmp_path / "x.parquet")["flag"].iloc[0]) is True


# Figures.

VARIANCE = "moments.variance"


def lines(*names: str, labels: tuple[str, ...] = ()) -> list[paper.Line]:
    stores = [Store(name) for name in names]
    runs = [Run(name, store.about(), store.records()) for name, store in zip(names, stores, strict=True)]
    return paper.lines(runs, [theory.kept(store) for store in stores], [s.ceiling() for s in stores], labels)


def values(name: str, setting: str, metric: str = VARIANCE) -> np.ndarray:
    """[replicates, generations]"""
    rows = records(name)
    rows = rows[(rows["setting"] == setting) & (rows["metric"] == metric)]
    return rows.pivot(index="replicate", columns="generation", values="value").to_numpy()


def test_a_figure_is_as_wide_as_asked_with_its_fonts_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The page of the PDF is 84 mm wide, and its only fonts are TrueType, embedded."""
    for metrics in ((VARIANCE,), (VARIANCE, "moments.mean_error")):
        file = str(tmp_path / f"{len(metrics)}.pdf")
        assert main(["figure", "swept", "mixed", "--width", "84mm", "--out", file, "--metric", *metrics]) == 0
        pdf = Path(file).read_bytes()
        box = re.search(rb"/MediaBox \[ ?([\d. ]+)\]", pdf)
        assert box and abs(float(box[1].split()[2]) - 84 * 72 / 25.4) < 0.01  # points of 1/72 inch
        fonts, kinds = pdf.count(b"/FontFile2"), set(re.findall(rb"/Subtype /(Type\w+|CIDFont\w+|TrueType)", pdf))
        assert fonts >= 1 and kinds and b"Type3" not in kinds and b"Type1" not in kinds
    capsys.readouterr()
    assert (
        main(
            [
                "figure",
                "swept",
                "--width",
                "3.3in",
                "--height",
                "50mm",
                "--out",
                str(tmp_path / "x.svg"),
                "--metric",
                VARIANCE,
            ]
        )
        == 0
    )
    out, caption = capsys.readouterr().out.splitlines()
    assert out.endswith("x.svg: 83.82 x 50 mm")
    assert "3 replicates; bands are their 95 % intervals" in caption and "dotted: theory" in caption


def test_a_figure_is_the_same_to_the_byte(tmp_path: Path):
    for kind in ("pdf", "svg"):
        for name in ("one", "other"):
            assert main(["figure", "mixed", "--metric", VARIANCE, "--out", str(tmp_path / f"{name}.{kind}")]) == 0
        assert (tmp_path / f"one.{kind}").read_bytes() == (tmp_path / f"other.{kind}").read_bytes()


def test_lines_are_means_with_students_intervals_and_the_law(runs: Path):
    with rc_context(paper.style()):
        figure = paper.drawn(lines("swept"), [VARIANCE], level=0.9)
    panel = figure.axes[0]
    laws = theory.kept(Store("swept"))
    drawn = [np.asarray(line.get_ydata(), float) for line in panel.lines]
    for i, setting in enumerate(("replace", "accumulate")):
        own = values("swept", setting)
        assert np.allclose(drawn[2 * i], own.mean(0)) and np.allclose(drawn[2 * i + 1], laws[setting].curves[VARIANCE])
        low, high = stats.t.interval(0.9, 2, own.mean(0), stats.sem(own, axis=0))
        band: Any = panel.collections[i].get_paths()[0].vertices
        for t in (0, 1):
            ends = band[band[:, 0] == t, 1]
            assert np.isclose(ends.min(), low[t]) and np.isclose(ends.max(), high[t])
    assert np.allclose(drawn[-1], Store("swept").ceiling()[VARIANCE])


def test_fifteen_lines_differ_without_their_colours_and_eight_by_them():
    looks = list(paper.style()["axes.prop_cycle"])
    assert len({(look["linestyle"], look["marker"]) for look in looks[:15]}) == 15
    assert len({look["color"] for look in looks[:8]}) >= 7
    assert len({tuple(look.values()) for look in looks}) == len(looks)


@pytest.mark.parametrize(
    "count, width, columns",
    [(1, 84, 1), (4, 84, 2), *(pytest.param(9, *case, marks=pytest.mark.slow) for case in ((174, 3), (40, 1)))],
)
def test_panels_fit_the_width_and_nothing_leaves_it(count: int, width: float, columns: int, runs: Path):
    """No text of a panel or of the legend is outside the figure, and no two panels overlap."""
    metrics = [VARIANCE, "moments.mean_error", *(f"some.measure.of.number.{i}" for i in range(7))]
    rows = pandas.concat([records("swept").query("metric == @VARIANCE").assign(metric=name) for name in metrics])
    about = Store("swept").about()
    some = paper.lines([Run("swept", about, rows)], labels=("a setting of a long name " * 9, "b"))
    with rc_context(paper.style()):
        figure = paper.drawn(some, metrics[:count], width / 25.4)
        rendered(figure, "png", dpi=100)
        whole = figure.bbox
        boxes = [panel.get_tightbbox() for panel in figure.axes[:count]]
        for box in (*boxes, figure.legends[0].get_window_extent()):
            assert box is not None and box.x0 > whole.x0 - 1 and box.x1 < whole.x1 + 1 and box.y1 < whole.y1 + 1
    places = {round(panel.get_position().x0, 3) for panel in figure.axes[:count]}
    assert len(places) == columns and figure.get_size_inches()[0] == width / 25.4


def test_a_style_says_how_things_look(tmp_path: Path):
    file = tmp_path / "mine.mplstyle"
    file.write_text("# mine\n\nfont.size: 6  # small\naxes.prop_cycle: cycler('color', ['ff0000', 'k'])\n")
    with rc_context(paper.style(file)):
        figure = paper.drawn(lines("swept"), [VARIANCE])
        assert figure.axes[0].xaxis.label.get_fontsize() == 8  # of the project's own
    first = figure.axes[0].lines[0]
    assert to_rgba(first.get_color()) == (1, 0, 0, 1) and first.get_marker() == "None"


@pytest.mark.parametrize(
    "text, why",
    [
        ("backend: module://theirs", "sets backend,"),
        ("text.usetex: True", "sets text.usetex,"),
        ("text.latex.preamble: \\input{/etc/passwd}", "sets text.latex.preamble,"),
        ("figure.hooks: theirs:run", "sets figure.hooks,"),
        ("savefig.directory: /", "sets savefig.directory,"),
        ("ps.usedistiller: xpdf", "sets ps.usedistiller,"),
        ("axes.prop_cycle: cycler('color', ().__class__.__bases__)", "sets axes.prop_cycle,"),
        ("axes.prop_cycle: open('x')", "sets axes.prop_cycle,"),
        ("font.sise: 8", "Line 1 of"),
        ("no colon", "Line 1 of"),
        ("font.size: large?", "has a value that matplotlib does not take"),
        ("\x00" * 70_000, "is no file of style"),
    ],
)
def test_a_style_that_names_a_file_a_program_or_code_is_refused(text: str, why: str, tmp_path: Path):
    (tmp_path / "x.mplstyle").write_text(text)
    with pytest.raises(GenlossError, match=re.escape(why)):
        paper.style(tmp_path / "x.mplstyle")


@pytest.mark.parametrize(
    "words, why",
    [
        (("mixed", "--metric", "moments.varianse"), "the nearest is 'moments.variance', and `genloss show RUN --all`"),
        (("mixed", "--width", "84"), "--width takes a length with its unit, such as 84mm"),
        (("mixed", "--width", "1mm"), "--width is 1 mm and must be at least 10 mm"),
        (("mixed", "--out", "x.tiff"), "--out takes the file to write, a name that ends in .png, .svg, .pdf"),
        (("mixed", "--out", "x.png", "--format", "pdf"), "a name that ends in .pdf; it was given 'x.png'"),
        (("mixed", "--label", "a", "b"), "2 labels were given for 1 lines: chain."),
        (("mixed", "--confidence", "1"), "must lie between 0 and 1"),
        (("mixed", "--style", "nothing"), "is no file of style"),
        (("nothing",), "holds no run"),
    ],
)
def test_figures_that_cannot_be_are_refused(words: tuple[str, ...], why: str, capsys: pytest.CaptureFixture[str]):
    before = sorted(Path.cwd().iterdir())
    assert why in refused(capsys, "figure", *words)
    assert sorted(Path.cwd().iterdir()) == before


# Tables.


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["table", *words]) == 0
    return capsys.readouterr().out


def test_a_table_has_means_with_students_intervals_and_laws(capsys: pytest.CaptureFixture[str]):
    out = printed(capsys, "swept", "mixed", "--metric", VARIANCE, "--generation", "0", "1", "--format", "csv")
    found: Any = pandas.read_csv(io.StringIO(out)).set_index(["run", "setting", "generation"])
    laws: Any = theory.kept(Store("swept"))
    ceiling = Store("swept").ceiling()[VARIANCE]
    assert len(found) == 6
    for (name, setting, t), row in found.iterrows():
        own = values(name, setting)[:, t]
        low, high = stats.t.interval(0.95, len(own) - 1, own.mean(), stats.sem(own))
        assert np.allclose(row[["mean", "low", "high"]].astype(float), [own.mean(), low, high])
        assert row["replicates"] == len(own)
        if name == "swept":
            assert np.allclose([row["theory"], row["real"]], [laws[setting].curves[VARIANCE][t], ceiling])


def test_tables_for_markdown_and_latex_hold_the_same_cells(capsys: pytest.CaptureFixture[str]):
    words = ("swept", "--metric", VARIANCE, "moments.mean_error", "--label", "a | b", "50 % & <c>")
    shown, tex = (printed(capsys, *words, "--format", form) for form in ("markdown", "latex"))
    *table, _, said = shown.splitlines()
    assert said == "Means over 3 replicates ± half of their 95 % interval by Student's t, at generation 1 of 0 to 1."
    cells = [re.split(r"(?<!\\) ?\| ?", line)[1:-1] for line in table]
    assert len({len(line) for line in cells}) == 1
    assert [line[0] for line in cells[2:]] == [r"a \| b", "50 % &amp; &lt;c&gt;", "real rows"]
    lines = [line.removesuffix(r" \\").split(" & ") for line in tex.splitlines() if line.startswith(("a |", "50"))]
    assert lines[1][:2] == [r"50 \% \& <c>", f"${cells[3][1]}$".replace("±", r"\pm")]
    of = {line[0]: [cell.replace("$", "").replace(r"\pm", "±") for cell in line[1:]] for line in lines}
    assert list(of.values()) == [line[1:] for line in cells[2:4]]
    assert r"\multicolumn{2}{c}{moments.variance}" in tex and tex.startswith("% Means over 3 replicates")


@pytest.mark.parametrize(
    "middle, half, text",
    [
        (0.5178, 0.2356, "0.52 ± 0.24"),
        (0.5178, 0.0996, "0.52 ± 0.10"),
        (1234.5, 31.7, "1234 ± 32"),
        (-1.234e-7, 2.1e-9, "(-1.234 ± 0.021)e-07"),
        (2.5e9, 4.44e10, "(0.2 ± 4.4)e+10"),
        (0.0, 0.0012, "0.0000 ± 0.0012"),
        (0.123456, math.nan, "0.123"),
        (123456.0, math.nan, "123456"),
        (1.23456e-8, math.nan, "1.23e-08"),
        (0.0, math.nan, "0"),
        (3.0, 0.0, "3.00 ± 0"),
        (math.nan, math.nan, "nan"),
    ],
)
def test_means_have_the_digits_that_their_intervals_leave(middle: float, half: float, text: str):
    assert means.rounded(middle, half) == text


def test_rounding_moves_a_mean_and_its_interval_by_less_than_a_twentieth_of_that():
    chance = np.random.default_rng(0)
    for size, reach in 10 ** chance.uniform(-12, 12, (2000, 2)):
        middle, half = size * chance.choice([-1, 1]), size * 10 ** chance.uniform(-9, 2) if reach > 1 else reach
        text = means.rounded(middle, half)
        digits, _, power = text.strip("(").replace(")", "").partition("e")
        shown = [float(part) * 10.0 ** int(power or 0) for part in digits.split(" ± ")]
        assert np.abs(np.subtract(shown, [middle, half])).max() <= 0.051 * half + 1e-12 * abs(middle), text


@pytest.mark.parametrize(
    "words, why",
    [
        (("swept", "--generation", "2"), "The last generation that all of these runs have is 1, not 2."),
        (("swept", "mixed", "--metric", "moments"), "The runs share no measure 'moments'; the nearest is 'moments."),
        (("swept", "--label", "a", "a"), "Two lines would be called the same"),
        (("swept", "--confidence", "0"), "must lie between 0 and 1"),
    ],
)
def test_tables_that_cannot_be_are_refused(words: tuple[str, ...], why: str, capsys: pytest.CaptureFixture[str]):
    assert why in refused(capsys, "table", *words)
