"""What commands print fits the terminal, breaks no word, and is whole where a program or a file reads it."""

import io
import json
import re
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import scipy.stats
from conftest import SHARED
from rich.console import Console

from experiments.cli import COMMANDS, main
from experiments.command.listing import experiments, measured, metrics
from experiments.command.summary import print_table, summary
from experiments.command.tables import NAME, Column, show

WIDTHS = pytest.mark.parametrize("width", [80, 120])
SETTINGS = ("replace", "accumulate", "20 % real", "real only")
CHANCE = np.random.default_rng(0)


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def terminal(width: int) -> tuple[io.StringIO, Console]:
    said = io.StringIO()
    return said, Console(file=said, width=width, force_terminal=True)


@pytest.fixture
def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.delenv("TERM", raising=False)
    return lambda width: monkeypatch.setenv("COLUMNS", str(width))


def run_like_digits(measures: int = 36, replicates: int = 8) -> pandas.DataFrame:
    names = ["fidelity.recall", "fidelity.frechet", "diversity.variance", "downstream.samples.accuracy"]
    names += [f"downstream.classes.{'a' * (i % 7)}_{i}x" for i in range(measures - len(names))]
    rows = [(s, r, t, m) for s in SETTINGS for r in range(replicates) for t in (0, 5, 10) for m in names]
    frame = pandas.DataFrame(rows, columns=["setting", "replicate", "generation", "metric"])
    return frame.assign(value=CHANCE.lognormal(0, 3, len(frame)))


COLUMNS = (
    Column("name"),
    Column("a number", right=True),
    Column("prose", prose=True),
    Column("another", right=True),
    Column("a place", spare=True),
)


def rows() -> list[list[str]]:
    def words(most: int) -> str:
        return " ".join("w" * CHANCE.integers(1, NAME) for _ in range(CHANCE.integers(1, most)))

    return [[words(7), f"{CHANCE.normal():.5g}", words(30), f"{CHANCE.normal():.3g}", words(3)] for _ in range(40)]


@pytest.mark.parametrize("width", [80, 120, 200])
def test_on_a_terminal_lines_fit_and_no_word_is_broken(width: int):
    given = rows()
    said, console = terminal(width)
    show(COLUMNS, given, console=console)
    lines = plain(said.getvalue()).splitlines()
    assert max(map(len, lines)) <= width and not any(line.endswith(" ") for line in lines)
    shown = 5 if "a place" in lines[0] else 4
    kept = [cell for row in given for cell in row[:shown]] + [column.name for column in COLUMNS[:shown]]
    assert shown == (5 if width == 200 else 4)
    assert sorted(" ".join(lines).split()) == sorted(" ".join(kept).split())


def test_elsewhere_a_row_is_a_line_and_whole():
    given, said = rows(), io.StringIO()
    show(COLUMNS, given, console=Console(file=said, width=80))
    lines = said.getvalue().splitlines()[1:]
    assert len(lines) == len(given)
    assert all(re.split(r" {2,}", line.strip()) == row for line, row in zip(lines, given, strict=True))


def test_what_is_cut_ends_after_a_word():
    said, console = terminal(40)
    show([Column("name"), Column("prose", prose=True, cut=True)], [["a", "wonder " * 20]], console=console)
    (line,) = plain(said.getvalue()).splitlines()[1:]
    assert len(line) <= 40 and set(line.split()[1:-1]) == {"wonder"} and line.endswith(" …")


@WIDTHS
@pytest.mark.parametrize("every", [False, True], ids=["headlines", "all"])
def test_a_summary_of_many_measures_and_settings_fits(width: int, every: bool):
    records = run_like_digits()
    said, console = terminal(width)
    names = list(dict.fromkeys(records.metric)) if every else None
    print_table(records, {"fidelity.recall": 0.63}, {}, console, names)
    lines = plain(said.getvalue()).splitlines()
    assert max(map(len, lines)) <= width
    found = summary(records, {}, {}, names)
    wanted = [f"{row[part]:.3g}" for row in found for part in ("first", "last")]
    words = " ".join(lines).split()
    assert all(number in words for number in wanted) and len(found) == (144 if every else 16)
    assert {"accuracy,", "samples", "recall", "accumulate"} <= set(words)


def test_intervals_are_those_of_student_over_replicates():
    records = run_like_digits(measures=5, replicates=4)
    last = records[records.generation == 10]
    for row in summary(records, {}, {}, ["fidelity.recall", "downstream.classes._0x"]):
        values: Any = last[(last.metric == row["metric"]) & (last.setting == row["setting"])]["value"]
        low, high = scipy.stats.t.interval(0.95, 3, values.mean(), values.std() / 2)
        assert np.allclose((row["last"] - row["half"], row["last"] + row["half"]), (low, high))
    alone = summary(records[records.replicate == 0], {}, {}, ["fidelity.recall"])
    assert all(row["half"] is None for row in alone)


@WIDTHS
@pytest.mark.parametrize("words", [["list"], ["list", "metrics"], ["list", "experiments"]], ids=" ".join)
def test_lists_fit(words: list[str], width: int, on_terminal: Any, capsys: pytest.CaptureFixture[str]):
    on_terminal(width)
    assert main(words) == 0
    lines = plain(capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= width
    text = set(" ".join(lines).split())
    if words[-1] == "metrics":
        assert len(lines) == 3 + sum(map(len, metrics().values()))
        assert text >= {name for probe, rows in metrics().items() for name in (probe, *(row[0] for row in rows))}
    else:
        questions = [word for asked in experiments().values() for word in f"{asked.partition('?')[0]}?".split()]
        assert text >= set(experiments()) | set(questions)


def test_through_a_pipe_lists_are_whole(capsys: pytest.CaptureFixture[str]):
    assert main(["list", "metrics"]) == 0
    lines = [re.split(r" {2,}", line) for line in capsys.readouterr().out.splitlines()]
    assert all([probe, *row] in lines for probe, rows in metrics().items() for row in rows)


def test_lists_as_data(capsys: pytest.CaptureFixture[str]):
    assert main(["list", "metrics", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [[one["probe"], one["metric"]] for one in told] == [[p, r[0]] for p, rows in metrics().items() for r in rows]
    assert main(["list", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {name: one["measured"] for name, one in told.items()} == {name: measured(name) for name in experiments()}
    assert {name: one["text"] for name, one in told.items()} == experiments()


def test_one_of_a_list_is_told_in_full(capsys: pytest.CaptureFixture[str]):
    for name in ("recall", "Fidelity", "Fidelity.recall", "faces.recall"):
        assert main(["list", "metrics", name]) == 0
        said = capsys.readouterr().out
        (row,) = [row for row in metrics()["Fidelity"] if row[0] == "recall"]
        assert all(part in said for part in row) and "Fidelity: recall" in said
    assert main(["list", "experiments", "he_golden"]) == 0
    said = capsys.readouterr().out
    assert experiments()["he_golden"] in said and "genloss reproduce he_golden: " in said
    for words, near in ((["metrics", "Fidelitty"], "'Fidelity'"), (["experiments", "digitz"], "'digits'")):
        assert main(["list", *words]) == 2
        assert f"the nearest is {near}" in capsys.readouterr().err


@WIDTHS
@pytest.mark.parametrize("verb", ["", *COMMANDS])
def test_help_fits(verb: str, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("COLUMNS", str(width))
    try:
        main([*verb.split(), "--help"])
    except SystemExit as stop:
        assert stop.code == 0
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= width
    words = " ".join(said.split())
    for name in COMMANDS if not verb else [verb]:
        assert name in words and COMMANDS[name].text in words


def test_show_says_what_when_and_every_measure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """And a log has the settings, and a line for each generation."""
    monkeypatch.setenv("GENLOSS_CACHE", "off")
    monkeypatch.setattr("warnings.showwarning", None)
    words = ["run", str(SHARED / "tiny_sweep.py"), "--generations", "3", "--replicates", "2", "--every", "1"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert "settings: replace / accumulate" in said
    assert [line.split(" after ")[0] for line in said if " after " in line] == ["1/3", "2/3", "3/3"]
    assert main(["show", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    assert "3 of 3 generations" in said and "2 settings, 2 replicates" in said and "by Student's t" in said
    assert f"when: {date.today()}" in said
    assert main(["show", str(tmp_path / "run"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    records = pandas.read_parquet(tmp_path / "run" / "records.parquet")
    for row in told["values"]:
        rows = records[(records.metric == row["metric"]) & (records.setting == row["setting"])]
        for name, t in (("first", 0), ("last", 2)):
            assert np.isclose(row[name], rows[rows.generation == t]["value"].mean())
    assert {row["metric"] for row in told["values"]} >= {"moments.variance", "moments.mean_error"}
