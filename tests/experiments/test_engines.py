"""Engines as they are: processes, a Ray of several processes and machines, submitit's local executor; and kills."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas
import pytest
from conftest import ROOT, SHARED

FRAGILE = str(SHARED / "tiny_fragile.py")
SLOW = "rows=13"  # a run of seconds
SWEEP = ["sweep", FRAGILE, "--generations", "8", "--every", "1", "--out", "swept", "--over"]
ENGINES = {
    "local": ["--engine", "local", "--jobs", "3"],
    "ray": ["--engine", "ray", "--jobs", "3"],
    "slurm": ["--engine", "slurm", "--slurm", "cluster=local"],
}
CASES = [
    pytest.param(name, marks=() if name == "local" else pytest.mark.extra({"ray": "ray", "slurm": "submitit"}[name]))
    for name in ENGINES
]
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{SHARED}")
    monkeypatch.setenv("RAY_ADDRESS", "")


def begin(*words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "experiments.cli", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def end(process: subprocess.Popen[str], code: int) -> str:
    out, err = process.communicate(timeout=600)
    assert process.returncode == code, out + err
    return out + err


def holder(folder: str) -> int | None:
    """The process that holds a run's folder, found by the file it has open."""
    lock = str(Path(folder, ".lock").absolute())
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if str(link.readlink()) == lock:
                return int(link.parts[2])
        except OSError:
            continue
    return None


def begun(folder: str, generations: int = 2) -> int:
    """Who runs there, once some generations are done."""
    until = time.monotonic() + 300
    while time.monotonic() < until:
        done = len(list(Path(folder, "checkpoints").glob("[0-9]*")))
        if done >= generations and (found := holder(folder)) is not None:
            return found
        time.sleep(0.1)
    raise AssertionError(f"nobody runs in {folder}")


def values(file: str) -> Any:
    """Of one run, in one order."""
    table: Any = pandas.read_parquet(file)
    table = table[table["run"] == SLOW] if "run" in table else table
    return table.sort_values(["metric", "replicate", "generation"])["value"].to_numpy()


@pytest.mark.parametrize("engine", CASES)
def test_a_killed_process_a_refusal_and_the_others(engine: str):
    """What was killed goes on and ends to the bit as if it had not been; what is refused is not tried again."""
    process = begin(*SWEEP, "rows=10,11,12,13", *ENGINES[engine])
    os.kill(begun(f"swept/{SLOW}"), signal.SIGKILL)
    said = end(process, 1)
    assert "rows=11 failed: Fragile wrote rows that are NaN" in said and "1 of 4 parts failed" in said
    table = pandas.read_parquet("swept/records.parquet")
    assert set(zip(table["rows"], table["generation"], strict=True)) == {(n, t) for n in (10, 12, 13) for t in range(8)}
    assert Path("swept.logs/rows=11.log").read_text().count("genloss: ") == 1
    assert not list(Path("swept").rglob("*.pkl")) and not list(Path("swept").rglob("*.sh"))
    end(begin("run", FRAGILE, "--rows", "13", "--generations", "8", "--out", "alone", "--no-page"), 0)
    assert (values("swept/records.parquet") == values("alone/records.parquet")).all()


@pytest.mark.extra("ray")
def test_the_runs_of_a_machine_that_goes_are_done_by_another():
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        process = begin(*SWEEP, "rows=12,13", "--engine", "ray", "--address", str(cluster.address))
        worker = begun(f"swept/{SLOW}")
        raylet = int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])
        gone = [node for node in nodes if raylet in (of.pid for _, of in node.live_processes())]
        assert len(gone) == 1
        cluster.remove_node(gone[0], allow_graceful=False)
        end(process, 0)
    finally:
        cluster.shutdown()
    end(begin("run", FRAGILE, "--rows", "13", "--generations", "8", "--out", "alone", "--no-page"), 0)
    assert (values("swept/records.parquet") == values("alone/records.parquet")).all()


@pytest.mark.extra("submitit")
def test_a_job_that_is_pre_empted_is_submitted_again():
    process = begin(*SWEEP, "rows=12,13", *ENGINES["slurm"])
    os.kill(begun(f"swept/{SLOW}"), signal.SIGUSR2)
    end(process, 0)
    said = Path(f"swept.logs/{SLOW}.log").read_text()
    assert "this job is preempted" in said and said.count(f"swept/{SLOW}\n") == 2
    assert len(list(Path("swept", SLOW, "checkpoints").glob("[0-9]*"))) == 8


@pytest.mark.parametrize("engine, kills", [(case.values[0], n) for case, n in zip(CASES, (20, 2, 3), strict=True)])
def test_however_often_the_driver_is_killed_the_same_command_ends_it(engine: str, kills: int):
    if engine != "local":
        pytest.importorskip({"ray": "ray", "slurm": "submitit"}[engine])
    chance = random.Random(0)
    for i in range(kills):
        process = begin(*SWEEP, "rows=12,13", *ENGINES[engine])
        if i % 4 == 0 and not Path("swept", SLOW, "checkpoints", "6").exists():
            begun(f"swept/{SLOW}", 1)  # one in four late, the others anywhere
        else:
            time.sleep(chance.uniform(0, 12))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    end(begin(*SWEEP, "rows=12,13", *ENGINES[engine]), 0)
    assert holder(f"swept/{SLOW}") is None
    end(begin("run", FRAGILE, "--rows", "13", "--generations", "8", "--out", "alone", "--no-page"), 0)
    assert (values("swept/records.parquet") == values("alone/records.parquet")).all()


@pytest.mark.parametrize("engine", CASES)
def test_ctrl_c_ends_all_and_leaves_what_goes_on(engine: str):
    process = begin(*SWEEP, "rows=12,13", *ENGINES[engine])
    worker = begun(f"swept/{SLOW}")
    os.kill(process.pid, signal.SIGINT)
    assert "genloss: stopped; the same command goes on after the last checkpoint.\n" in end(process, 130)
    until = time.monotonic() + 10
    while Path(f"/proc/{worker}").exists() and time.monotonic() < until:
        time.sleep(0.1)
    assert holder(f"swept/{SLOW}") is None
    done = len(list(Path("swept", SLOW, "checkpoints").glob("[0-9]*")))
    assert 0 < done < 8
    end(begin(*SWEEP, "rows=12,13", *ENGINES[engine]), 0)
    assert len(list(Path("swept", SLOW, "checkpoints").glob("[0-9]*"))) == 8


def test_the_driver_imports_no_jax():
    code = f"import sys; from experiments.cli import main; main({[*SWEEP, 'rows=10,12', *ENGINES['local']]!r})"
    done = subprocess.run(
        [sys.executable, "-c", code + "; print('jax' in sys.modules, 'numpy' in sys.modules)"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "False False", done.stdout + done.stderr


def test_an_answer_that_another_process_found_is_printed_as_by_this_one():
    plan = [
        "plan",
        FRAGILE,
        "--keep",
        "moments.variance >= 0.7 at the end",
        "--over",
        "generator.bias=0.2..1",
        "--json",
    ]
    plan += ["--chains", "400"]
    answers = []
    for engine in ([], ["--engine", "local"]):
        process = begin(*plan, *engine)
        out, err = process.communicate()
        assert process.returncode == 0, err
        answers.append(json.loads(out))
    assert answers[0] == answers[1]
    assert "plan failed: Say what is to be kept" in end(begin("plan", FRAGILE, "--engine", "local"), 2)  # a refusal
