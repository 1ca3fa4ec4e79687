"""`genloss compare`: tables of differences that pandas gives by hand, a fork beside its parent, and what is refused."""

import io
import json
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas
import pytest
import tiny_gaussian
import tiny_sweep
from scipy import stats

from experiments.cli import main
from simulator import Store, Sweep, run
from simulator.recipe import Window
from simulator.report import beside
from simulator.running import spec


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    chain, swept = tiny_gaussian.chain, tiny_sweep.sweep
    for name, what, seed, replicates, generations in (
        ("parent", chain, 0, 3, 4),
        ("short", chain, 0, 2, 2),
        ("seed", chain, 1, 4, 4),
        ("single", chain, 1, 1, 2),
        ("swept", swept, 0, 3, 2),
        ("swept_too", swept, 1, 3, 2),
    ):
        run(what, jax.random.key(seed), generations, folder / name, replicates=replicates, every=4)
    forked = spec.override(chain, {"recipe": Window(1)})
    run(chain, jax.random.key(0), 4, folder / "stepwise", replicates=3)
    child = Store(folder / "stepwise").fork(1, folder / "child", forked)
    run(forked, jax.random.key(0), 4, child, replicates=3)
    return folder


@pytest.fixture(autouse=True)
def somewhere(runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(runs)
    monkeypatch.setenv("GENLOSS_CACHE", "off")
    capsys.readouterr()


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["compare", *words]) == 0
    return capsys.readouterr().out


def table(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    return pandas.read_csv(io.StringIO(said(capsys, *words, "--format", "csv")), keep_default_na=False)


def values(run: str, setting: str = "chain", metric: str = "diversity.variance") -> np.ndarray:
    """[replicates, generations]"""
    frame: Any = pandas.read_parquet(f"{run}/records.parquet")
    frame = frame[(frame["metric"] == metric) & (frame["setting"] == setting)]
    return frame.sort_values(["replicate", "generation"])["value"].to_numpy().reshape(frame["replicate"].nunique(), -1)


def test_a_fork_beside_its_parent_is_zero_to_the_bit_up_to_the_fork(capsys: pytest.CaptureFixture[str]):
    found = table(capsys, "stepwise", "child").set_index("generation")
    assert list(found.index) == [0, 1, 2, 3] and found["paired"].all()
    ends = found[["difference", "low", "high"]].to_numpy()
    assert (ends[:2] == 0).all() and (ends[2:] != 0).all()
    text = said(capsys, "stepwise", "child")
    assert "child: paired, 3 replicates of the same keys; one run up to generation 1." in text


def test_the_csv_is_what_pandas_gives_by_hand(capsys: pytest.CaptureFixture[str]):
    """A shorter run of the same keys, with fewer replicates; and one of other keys."""
    found = table(capsys, "parent", "short", "seed", "--confidence", "0.9")
    assert list(found["generation"]) == 2 * [0, 1]
    parent = values("parent")
    for t in (0, 1):
        short, seed = (found[(found["run"] == name) & (found["generation"] == t)].iloc[0] for name in ("short", "seed"))
        both = parent[:2, t]
        test: Any = stats.ttest_rel(values("short")[:, t], both).confidence_interval(0.9)
        assert np.allclose([short["low"], short["high"]], [test.low, test.high])
        assert np.allclose([short["value"], short["reference_value"]], [values("short")[:, t].mean(), both.mean()])
        assert (short["replicates"], short["reference_replicates"], short["paired"]) == (2, 2, True)
        test = stats.ttest_ind(values("seed")[:, t], parent[:, t], equal_var=False).confidence_interval(0.9)
        assert np.allclose([seed["low"], seed["high"]], [test.low, test.high])
        assert np.isclose(seed["difference"], values("seed")[:, t].mean() - parent[:, t].mean())
        assert (seed["replicates"], seed["reference_replicates"], seed["paired"]) == (4, 3, False)
    text = said(capsys, "parent", "short", "seed")
    assert "short: paired, 2 replicates of the same keys that both have." in text
    assert "seed: unpaired, 4 and 3 replicates of other keys." in text
    assert "Generation 1, of 0 to 1 that all have; differences to parent" in text


def test_settings_are_matched_by_name_and_text_json_and_csv_are_one(capsys: pytest.CaptureFixture[str]):
    words = ["swept", "swept_too", "--metric", "moments.variance", "--generation", "1"]
    found = table(capsys, *words)
    assert list(found["setting"]) == ["replace", "accumulate"]
    for _, line in found.iterrows():
        gap = values("swept_too", line["setting"], "moments.variance") - values(
            "swept", line["setting"], "moments.variance"
        )
        assert np.isclose(line["difference"], gap[:, 1].mean())
    data = json.loads(said(capsys, *words, "--json"))
    assert data["values"] == found.to_dict("records") and data["confidence"] == 0.95
    shown = [line.split() for line in said(capsys, *words).splitlines()]
    for i, name in enumerate(("replace", "accumulate")):
        assert shown[1 + i][-6:] == [
            name, f"{found['reference_value'][i]:.3g}", f"{found['value'][i]:.3g}",
            *(f"{found[end][i]:+.3g}" for end in ("difference", "low", "high")),
        ]  # fmt: skip


def test_latex_has_a_row_for_each_line_and_names_are_no_commands(capsys: pytest.CaptureFixture[str]):
    Path("a_$x$ & 50%\\").symlink_to("seed")
    text = said(capsys, "parent", "a_$x$ & 50%\\", "--format", "latex")
    comments, tex = re.match(r"((?:%[^\n]*\n)*)(.*)", text, re.DOTALL).groups()  # pyright: ignore[reportOptionalMemberAccess]
    assert "unpaired" in comments
    assert tex.startswith("\\begin{tabular}{llrrrrr}\n\\toprule\n")
    row = tex.splitlines()[4]
    assert row.startswith("variance of samples & a\\_\\$x\\$ \\& 50\\%\\textbackslash{} & $")
    assert row.count(" & ") == 6 and row.endswith("$ \\\\") and tex.endswith("\\bottomrule\n\\end{tabular}\n")


def test_a_single_replicate_has_a_difference_and_no_interval(capsys: pytest.CaptureFixture[str]):
    found = table(capsys, "single", "parent")
    assert (found["low"] == "").all() and np.isfinite(found["difference"]).all()
    assert "too few for an interval" in said(capsys, "single", "parent")
    assert {line["low"] for line in json.loads(said(capsys, "single", "parent", "--json"))["values"]} == {None}


def test_the_figure_draws_every_run_and_below_it_the_differences(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    kept: list[Any] = []
    monkeypatch.setattr(beside, "drawn", lambda *a, drawn=beside.drawn: kept.append(drawn(*a)) or kept[-1])
    for name in ("one.png", "one.svg", "one.pdf"):
        assert f"figure: {name}" in said(capsys, "parent", "child", "seed", "--figure", name)
        assert Path(name).stat().st_size > 3000
    above, below = kept[0].axes
    lines = {str(line.get_label()): np.asarray(line.get_ydata(), float) for line in above.lines}
    assert np.allclose(lines["parent"], values("parent").mean(0)) and set(lines) == {"parent", "child", "seed"}
    zero, child, seed = (np.asarray(line.get_ydata(), float) for line in below.lines)
    assert (zero == 0).all() and np.allclose(child, (values("child") - values("parent")).mean(0))
    assert np.allclose(seed, values("seed").mean(0) - values("parent").mean(0))
    assert len(above.collections) == 3 and len(below.collections) == 2  # bands
    swept = said(capsys, "swept", "swept_too", "--figure", "two.png")
    assert "two.png" in swept and len({line.get_linestyle() for line in kept[-1].axes[0].lines}) == 2


def test_names_that_somebody_else_gave_move_no_cursor(capsys: pytest.CaptureFixture[str]):
    for name in ("mine", "theirs"):
        sweep = Sweep(tiny_sweep.chain, "recipe.index", {f"\x1b]0;{name}\x07": 0, f"\x1b[2J{name}": 1})
        run(sweep, jax.random.key(0), 2, name, every=4)
    assert main(["compare", "mine", "theirs"]) == 2
    assert main(["compare", "single", "mine", "--metric", "fit.mass"]) == 0
    assert main(["compare", "single", "mine", "--metric", "fit.mass", "--format", "csv"]) == 0
    found = capsys.readouterr()
    assert "share no settings: �]0;theirs�, �[2Jtheirs" in found.err and "�[2Jmine" in found.out
    assert "\x1b" not in found.err + found.out and "\x07" not in found.err + found.out


BAD = {
    "one run": (["parent"], "takes two runs or more"),
    "none": ([], "required: RUN"),
    "no run": (["parent", "nowhere"], "nowhere holds no run"),
    "twice": (["parent", "../{folder}/parent"], "was given twice; leave one of them out"),
    "no such measure": (["parent", "child", "--metric", "diversity.varianc"], "the nearest is 'diversity.variance'"),
    "no such generation": (["parent", "short", "--generation", "2"], "all of these runs have is 1, not 2"),
    "no such confidence": (["parent", "child", "--confidence", "95"], "must lie between 0 and 1"),
    "no such figure": (["parent", "child", "--figure", "x.gif"], "writes .png, .svg, .pdf; it was given 'x.gif'"),
    "two formats": (["parent", "child", "--json", "--format", "csv"], "not allowed with"),
}


@pytest.mark.parametrize(("words", "sentence"), BAD.values(), ids=BAD)
def test_bad_input_is_one_sentence_and_exit_code_2(
    words: list[str], sentence: str, runs: Path, capsys: pytest.CaptureFixture[str]
):
    before = set(runs.rglob("*"))
    assert main(["compare", *(word.format(folder=runs.name) for word in words)]) == 2
    found = capsys.readouterr()
    assert found.err.startswith("genloss: ") and sentence in found.err and found.err.endswith(".\n")
    assert len(found.err.splitlines()) == 1 and not found.out
    assert before == set(runs.rglob("*"))
