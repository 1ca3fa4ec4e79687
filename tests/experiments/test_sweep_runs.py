"""A sweep of what shares no program: runs of their own, joined; and what has them done."""

import argparse
import io
import json
import os
import signal
from pathlib import Path

import numpy as np
import pandas
import pytest
from conftest import SHARED
from matplotlib.figure import Figure
from rich.console import Console

from experiments.cli import main
from experiments.command import engines
from experiments.command import reproduce as verb
from experiments.command.board import Board, seen
from experiments.command.parts import Part, Parts, done_by
from experiments.command.reproductions import Claim, Finding, Reproduction
from experiments.command.worker import Job
from simulator.analysis.compare import Run
from simulator.analysis.joined import joined
from simulator.report import swept

FRAGILE = str(SHARED / "tiny_fragile.py")
SIZES = ["sweep", FRAGILE, "--replicates", "2", "--out", "swept", "--over"]


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("warnings.showwarning", None)


def files(folder: str) -> dict[Path, int]:
    """When each was last written."""
    return {file: file.stat().st_mtime_ns for file in Path(folder).rglob("*") if file.is_file()}


def test_each_setting_is_what_the_experiment_is_with_its_fields(capsys: pytest.CaptureFixture[str]):
    assert main([*SIZES, "rows=10,12", "--over", "generator.bias=1,0.5"]) == 0
    assert "2 runs of 2 settings each, side by side, 2 to compile" in capsys.readouterr().out
    table = pandas.read_parquet("swept/records.parquet")
    assert set(table["run"]) == {"rows=10", "rows=12"}
    assert not table.duplicated(["rows", "generator.bias", "metric", "replicate", "generation"]).any()
    swept = set(zip(table["rows"], table["generator.bias"], strict=True))
    assert swept == {(rows, bias) for rows in (10, 12) for bias in (1, 0.5)}
    alone = ["run", FRAGILE, "--replicates", "2", "--rows", "12", "--generator.bias", "0.5", "--out", "alone"]
    assert main([*alone, "--no-page"]) == 0 and not Path("alone/report").exists()
    ours = table[(table["rows"] == 12) & (table["generator.bias"] == 0.5)]
    at = ["metric", "replicate", "generation"]
    both = ours.merge(pandas.read_parquet("alone/records.parquet"), on=at, validate="one_to_one")
    assert len(both) == len(ours) and np.allclose(both["value_x"], both["value_y"], rtol=1e-5)


def test_runs_that_differ_in_their_seed_alone_are_replicates_of_one_line():
    def of(rows: int, seed: int) -> Run:
        about = {"run": {"chain": {"rows": rows}, "sweep": None}}
        cells = [("chain", r, t, "m", rows + 0.1 * seed) for r in (0, 1) for t in (0, 1)]
        columns = ["setting", "replicate", "generation", "metric", "value"]
        return Run(f"rows={rows},seed={seed}", about, pandas.DataFrame(cells, columns=columns))

    found = swept.lines(joined([of(10, 0), of(12, 0), of(10, 1), of(10, 2)]))
    assert found.groupby("setting")["replicate"].nunique().to_dict() == {"rows=10": 6, "rows=12": 2}
    assert not found.duplicated(["setting", "replicate", "metric", "generation"]).any()
    assert (found["setting"].str[-2:].astype(int) == found["value"].astype(int)).all()


def test_one_that_fails_stops_no_other_and_a_second_call_does_what_is_missing(capsys: pytest.CaptureFixture[str]):
    assert main([*SIZES, "rows=10,11"]) == 1
    said = capsys.readouterr().err
    assert "rows=11 failed: Fragile wrote rows that are NaN" in said and "1 of 2 runs failed: rows=11." in said
    assert set(pandas.read_parquet("swept/records.parquet")["run"]) == {"rows=10"}
    before = files("swept/rows=10")
    assert main([*SIZES, "rows=10,11"]) == 1
    shown = capsys.readouterr().out
    assert "1 are done" in shown and "swept/rows=11\n" in shown and "swept/rows=10\n" not in shown
    assert files("swept/rows=10") == before


def test_a_sweep_is_planned_before_anything_is_written(capsys: pytest.CaptureFixture[str]):
    plan = [*SIZES, "start=scratch,previous", "--over", "seed=0,1"]
    assert main([*plan, "--parts", "plan"]) == 0
    told = json.loads(Path("plan").read_text())
    words = {part["name"]: part["words"] for part in told["parts"]}
    assert list(words) == [f"start={start},seed={seed}" for start in ("scratch", "previous") for seed in (0, 1)]
    assert words["start=previous,seed=1"][-3:] == ["--start", "previous", "--no-page"]
    assert told["logs"] == str(Path("swept.logs").absolute()) and "4 runs, 2 to compile" in told["told"]
    for wrong, why in {
        "start=scratch,middle": "--start",
        "seed=1,1": "a value twice",
        "seed=x": "takes a whole number from 0",
        "rows=10,0": "rows",
    }.items():
        assert main([*SIZES, wrong]) == 2
        assert why in capsys.readouterr().err
    assert not Path("swept").exists()


def options(**given: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    engines.arguments(parser)
    return argparse.Namespace(**{**vars(parser.parse_args(["--engine", "local"])), **given})


def test_what_an_engine_does_is_told_by_its_log_and_its_end(capsys: pytest.CaptureFixture[str]):
    words = {"one": ["list"], "two": ["list", "nonsense"], "three": ["list", "metrics"]}
    planned = Parts("logs", [Part(name, of) for name, of in words.items()])
    failed = done_by(options(jobs=1), planned)
    assert list(failed) == ["two"] and "invalid choice: 'nonsense'" in failed["two"]
    assert failed["two"].endswith("see logs/two.log.")
    assert "mad_mixture" in Path("logs/one.log").read_text() and len(list(Path("logs").glob("process-*"))) == 1
    shown = capsys.readouterr().err
    assert "three: done after" in shown and "two: failed, " in shown
    before = files("logs")
    assert list(done_by(options(jobs=1), planned)) == ["two"]  # what is missing
    changed = {file.name for file, at in files("logs").items() if before[file] != at}
    assert changed <= {"two.log", "two.json", "process-0.txt"}


def test_a_process_that_is_killed_is_lost_and_its_job_done_again(monkeypatch: pytest.MonkeyPatch):
    starts: list[int] = []
    start = engines.Local._start

    def killed(self: engines.Local, place: int):
        process = start(self, place)
        starts.append(process.pid)
        if len(starts) < 3:
            os.kill(process.pid, signal.SIGKILL)
        return process

    monkeypatch.setattr(engines.Local, "_start", killed)
    assert done_by(options(jobs=1, retries=2), Parts("logs", [Part("one", ["list"])])) == {}
    starts.clear()
    failed = done_by(options(jobs=1, retries=1), Parts("others", [Part("one", ["list"])]))
    assert len(starts) == 2 and "its process was lost (signal 9)" in failed["one"]


def test_processes_share_gpus_and_take_no_more_than_their_share(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    engine = engines.Local(options(gpus=0.5), tmp_path)
    assert engine.room == 4
    engine.submit([Job(f"{i}", ["list"], str(tmp_path), str(tmp_path)) for i in range(3)])
    engine.ended()
    pids = [process.pid for process, _ in engine.doing.values()]
    told = [Path(f"/proc/{pid}/environ").read_text().split("\0") for pid in pids]
    engine.close()
    assert [next(v for v in of if v.startswith("CUDA_VISIBLE_DEVICES"))[-1] for of in told] == ["3", "5", "3"]
    assert all("XLA_PYTHON_CLIENT_MEM_FRACTION=0.450" in of for of in told)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_what_is_shown_while_they_go_on(tmp_path: Path):
    board = Board([Job(name, [], str(tmp_path), ".") for name in ("a", "b", "c", "d")])
    for name in ("a", "b", "c"):
        board.jobs[name].log.write_text("1/4 after 2 s: x 1\n")
    board.look()
    board.ended("a", "")
    board.ended("b", "it broke")
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(board._picture())
    head, *lines = [line.split() for line in console.export_text().splitlines()]
    assert " ".join(head) == "1 waiting, 1 running, 1 done, 1 failed"
    assert ["c", "running", "6", "s", "1/4", "after", "2", "s:", "x", "1"] in lines  # 2 s a generation
    assert any(line[:4] == ["b", "failed", "it", "broke"] and line[-1].endswith("b.log)") for line in lines)


def test_time_left_is_told_by_the_log(tmp_path: Path):
    job = Job("a", [], str(tmp_path), ".")
    job.log.write_text("4/10 after 2 s: x\n6/10 after 12 s: x 1\n")
    assert seen(job) == ("6/10 after 12 s: x 1", 20.0)  # 5 s a generation since the first that was told


PARTED = {
    "reproduce": (["he_golden", "suresh_poisson"], ["he_golden", "suresh_poisson"]),
    "league": (["--world", "mixture, digits", "--out", "held"], ["mixture", "digits"]),
    "synthesize": (["--pipeline", "x", "--jobs", "3"], [f"part-{i}-of-3" for i in (1, 2, 3)]),
    "plan": ([FRAGILE], ["plan"]),
    "scaling": ([FRAGILE], ["scaling"]),
}


@pytest.mark.parametrize("verb", PARTED)
def test_what_a_verb_leaves_to_others(verb: str):
    words, names = PARTED[verb]
    assert main([verb, *words, "--parts", "plan"]) == 0
    told = json.loads(Path("plan").read_text())
    assert [part["name"] for part in told["parts"]] == names
    assert told["logs"] != str(Path.cwd()) and not list(Path().glob("held*"))


def test_what_others_reproduced_is_read_and_not_done_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    found = Reproduction([Finding("a mean", 1.0, 0.1, theory=1.1), Claim("it falls", True)], Figure(), "said.")
    monkeypatch.setattr(verb, "reproduce", lambda name: (found, 3.0))
    monkeypatch.setattr(verb, "names", lambda: ["one", "two"])
    assert verb.reproduce_all([], Path("there")) == 0
    said, table = capsys.readouterr().out, Path("there/reproductions.md").read_bytes()
    assert "a mean" in said and "said." in said and "one (3 CPU s)" in said
    monkeypatch.setattr(verb, "reproduce", None)
    assert verb.reproduce_all([], Path("there"), joined=True) == 0
    assert capsys.readouterr().out == said and Path("there/reproductions.md").read_bytes() == table


@pytest.mark.parametrize(
    "words, why",
    [
        (["--engine", "slurm", "--slurm", "cluster=local", "--slurm", "partition"], "takes NAME=VALUE"),
        (["--engine", "local", "--jobs", "0"], "must be at least 1"),
        (["--engine", "kubernetes"], "invalid choice"),
        (["--engine", "local", "--processes", "here:1,2,0"], "leave one of them out"),
    ],
)
def test_an_engine_that_cannot_be_is_refused(words: list[str], why: str, capsys: pytest.CaptureFixture[str]):
    assert main([*SIZES, "rows=10,12", *words]) == 2
    assert why in capsys.readouterr().err and not Path("swept").exists()
