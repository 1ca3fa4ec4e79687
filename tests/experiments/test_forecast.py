"""`genloss forecast`: of a run's folder and of files, as text, data and picture, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from experiments.cli import main


def table(replicates: int = 2, generations: int = 10, **more: Any) -> pandas.DataFrame:
    """A geometric decay in `mine`, and a control that stays."""
    r, t = (index.ravel() for index in np.indices((replicates, generations)))
    noise = 0.01 * np.random.default_rng(0).normal(size=(2, r.size))
    parts = []
    for setting, curve, own in (("mine", 0.9**t, noise[0]), ("real", np.ones(t.size), noise[1])):
        values = {"replicate": r, "generation": t, "metric": "quality", "value": curve * np.exp(own)}
        parts.append(pandas.DataFrame({"setting": setting, **values, **more}))
    return pandas.concat(parts, ignore_index=True)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    table().to_csv(tmp_path / "records.csv", index=False)
    return tmp_path / "records.csv"


def told(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert main(["forecast", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_files_and_bounds_of_either_kind_say_the_same(file: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    table().to_parquet(tmp_path / "records.parquet")
    kept = told(capsys, str(file), "--keep", "quality >= 0.25", "--control", "real")
    assert kept == told(capsys, str(tmp_path / "records.parquet"), "--bound", "0.25", "--control", "real")
    mine = kept["mine"]
    assert set(kept) == {"mine"} and mine["crosses"] is True
    assert mine["crossing"][0] <= 14 <= mine["crossing"][2]  # 0.9^14 < 0.25 < 0.9^13
    assert len(mine["past"]) == len(mine["low"]) == 10
    of_control = told(capsys, str(file), "--keep", "quality >= 0.25 of control", "--control", "real")["mine"]
    assert abs(of_control["crossing"][1] - mine["crossing"][1]) <= 1


def test_from_the_first_generations_alone_as_a_picture(file: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    picture = tmp_path / "forecast.png"
    words = [str(file), "--first", "6", "--bound", "0.5", "--figure", str(picture)]
    assert main(["forecast", *words]) == 0
    said = capsys.readouterr().out
    assert "mine" in said and "at 7" in said and "figure:" in said
    assert picture.read_bytes().startswith(b"\x89PNG")
    whole, part = told(capsys, str(file)), told(capsys, str(file), "--first", "6")
    assert len(whole["mine"]["low"]) == 10 and len(part["mine"]["low"]) == 6 and part["mine"]["crosses"] is None


def test_what_is_crossed_in_one_setting_is_told_beside_the_others(file: Path, capsys: pytest.CaptureFixture[str]):
    found = told(capsys, str(file), "--keep", "quality >= 0.7")
    assert found["real"]["crosses"] is False and "missed already at generation 4" in found["mine"]["why"]
    assert main(["forecast", str(file), "--keep", "quality >= 0.7"]) == 0
    assert "missed already at generation 4" in capsys.readouterr().out


def test_a_runs_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from stored_runs import run_gaussian

    run_gaussian(tmp_path / "run")
    found = told(capsys, str(tmp_path / "run"), "--metric", "diversity.variance", "--generations", "9")
    assert list(found) == ["chain"] and len(found["chain"]["low"]) == 3


BAD: dict[str, tuple[Any, list[str], str]] = {
    "no such file": (None, ["--bound", "1"], "There are no records at"),
    "a missing column": (table().drop(columns="value"), [], "has no column 'value'"),
    "no rows": (table().iloc[:0], [], "has no records"),
    "a value that is none": (table().assign(value=np.nan), [], "has no finite value at generation 0"),
    "words for values": (table().assign(value="much"), [], "has no finite value"),
    "a gap": (table().query("generation != 4"), [], "has no generation 4, of 0 to 9"),
    "a short replicate": (table().query("replicate == 0 or generation < 5"), [], "has no generation 5"),
    "a value twice": (pandas.concat([table(), table()]), [], "has generation 0 twice"),
    "half a generation": (table().assign(generation=lambda t: t["generation"] / 2), [], "whole numbers"),
    "two generations": (table(generations=2), [], "wants 3 generations"),
    "nobody's row": (table().assign(replicate=np.nan), [], "without a setting or a replicate"),
    "no such measure": (table(), ["--metric", "qualty"], "the nearest is 'quality'"),
    "which measure": (pandas.concat([table(), table(metric="loss")]), [], "Say which measure"),
    "two measures": (table(), ["--metric", "loss", "--keep", "quality >= 0.1"], "leave --metric out"),
    "crossed": (table().query("setting == 'mine'"), ["--keep", "quality >= 0.7"], "is missed already at generation 4"),
    "crossed from the side it began on": (
        table().query("setting == 'mine'"),
        ["--bound", "0.7"],
        "'quality >= 0.7 over the run' is missed already at generation 4",
    ),
    "no control": (table(), ["--keep", "quality >= 0.7 of control"], "name it with --control"),
    "another control": (table(), ["--control", "reel"], "the nearest is 'real'"),
    "the control alone": (table().query("setting == 'real'"), ["--control", "real"], "is the only setting"),
    "more than there are": (table(), ["--first", "11"], "--first is 11"),
    "no future": (table(), ["--generations", "10"], "goes on to 11 or more"),
    "no bound": (table(), ["--keep", "quality"], "What is to be kept is written as"),
    "sure": (table(), ["--confidence", "1"], "between 0 and 1"),
    "a picture of another kind": (table(), ["--figure", "f.gif"], "--figure writes .png"),
}


@pytest.mark.parametrize("given, words, sentence", BAD.values(), ids=BAD)
def test_bad_input_is_one_sentence(
    given: Any, words: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    if given is not None:
        given.to_csv(tmp_path / "records.csv", index=False)
    assert main(["forecast", str(tmp_path / "records.csv"), *words]) == 2
    said = capsys.readouterr()
    assert sentence in " ".join(said.err.split()) and not said.out and said.err.count("\n") == 1


@pytest.mark.parametrize("name", ["records.txt", "records.parquet", "records.csv", "."])
def test_what_cannot_be_read(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    if name != ".":
        (tmp_path / name).write_bytes(b"\x00\xff,\x13no\n" * 3)
    assert main(["forecast", str(tmp_path / name)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("genloss: ") and said.count("\n") == 1 and "Traceback" not in said
