"""What the benchmarks make of their timings, and what is left of those that are cut short."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from experiments.bench import accelerator, exact
from experiments.bench.accelerator.tables import short, tables

CHEAP = ("device", "contract")  # of the accelerator's parts, those that few programs are compiled for


def test_a_table_of_speed_is_markdown_and_counts_all_seeds(capsys: pytest.CaptureFixture[str]):
    rows = [exact.Row("a", plain=0.5, seeds=100, running=0.1, compiling=0.4), exact.Row("b", 0.02, 1, 0.004, 0.0)]
    exact.report(lambda: rows[:1], lambda: rows[1:])
    lines = [line.split("|") for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line[1:-1]] for line in lines]
    assert cells[0] == [
        "job", "NumPy, s a seed", "seeds", "compile s", "run s", "times faster once compiled", "with compiling"
    ]  # fmt: skip
    assert {cell.strip("-") for cell in cells[1]} == {""}
    assert cells[2:] == [
        ["a", "0.5", "100", "0.4", "0.10", "500", "100"],
        ["b", "0.02", "1", "0.0", "0.00", "5.00", "5.00"],
    ]


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the contract its law alone: each promise is a test of its own elsewhere."""
    from experiments.bench.accelerator import contract

    monkeypatch.setattr(contract, "contract", lambda report: report.note("contract", law=contract.law()))


def test_parts_write_what_they_find_as_it_comes_and_a_second_call_goes_on(cheap: None, tmp_path: Path):
    """A part that fails says why and hides no other; what does not fit is left out; both are tried again."""
    report = accelerator.Report(tmp_path / "accelerator.json", 1000)
    unready = {"memory": accelerator.Part("nowhere", 1, ""), "overhead": accelerator.Part("costs", 1e6, "")}
    with pytest.MonkeyPatch.context() as patch:
        for name, part in unready.items():
            patch.setitem(accelerator.PARTS, name, part)
        accelerator.run(report, (*unready, *CHEAP))
    found = json.loads(report.file.read_text())
    assert found == report.found and list(found) == ["about", *unready, *CHEAP]
    assert found["memory"]["error"].startswith("ModuleNotFoundError: No module named")
    assert "are left" in found["overhead"]["left_out"]
    assert found["contract"]["law"]["holds"] and found["device"]["copy, B/s"] > 1e8
    page = tables(found)
    assert all(f"## {name}: " in page for name in found if name != "about")
    assert "ModuleNotFoundError" in short(found) and "not begun" in short(found)

    again = accelerator.Report(report.file, 0)
    accelerator.run(again, ("device", "memory"))
    assert again.found["device"] == found["device"], "what was found is not measured again"
    assert "are left" in again.found["memory"]["left_out"]


def test_another_machine_begins_anew(tmp_path: Path):
    file = tmp_path / "accelerator.json"
    file.write_text(json.dumps({"about": {"device": "another"}, "device": {"seconds": 1.0}}))
    report = accelerator.Report(file, 0)
    accelerator.run(report, ("device",))
    assert "left_out" in report.found["device"]


def test_what_is_over_time_ends_and_leaves_what_was_found(tmp_path: Path):
    """Even where the program listens to nothing, as a compiler does not."""
    code = (
        "import time, sys, pathlib\nfrom experiments.bench import accelerator\n"
        "report = accelerator.Report(pathlib.Path(sys.argv[1]), 1)\n"
        "with accelerator.stopping(report):\n"
        "    report.note('device', found=1)\n    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "accelerator.json")]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0 and "stopped after 1 s" in done.stdout, done.stderr
    assert json.loads((tmp_path / "accelerator.json").read_text()) == {"device": {"found": 1}}


def test_a_kill_while_results_are_written_loses_none_and_a_second_call_goes_on(tmp_path: Path):
    code = (
        "import itertools, pathlib, sys\nfrom experiments.bench import accelerator\n"
        "report = accelerator.Report(pathlib.Path(sys.argv[1]), 100)\n"
        "report.begin({'device': 'this'})\nreport.note('device', found=list(range(10_000)), seconds=1.0)\n"
        "for i in itertools.count():\n    report.note('contract', law=i)\n"
    )
    file = tmp_path / "accelerator.json"
    command = [sys.executable, "-c", code, str(file)]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        while b"contract.law: 9" not in running.stdout.readline():
            assert running.poll() is None
        running.kill()
    found = json.loads(file.read_text())
    assert found["device"] == {"found": list(range(10_000)), "seconds": 1.0} and found["contract"]["law"] >= 9
    again = accelerator.Report(file, 100)
    again.begin({"device": "this"})
    assert again.found == {"device": found["device"], "about": {"device": "this"}}, (
        "a part that had not ended begins anew"
    )


@pytest.mark.slow
def test_all_parts_at_toy_size_on_a_machine_that_lacks_packages(tmp_path: Path):
    lacking = ("diffusers", "tyro", "datasets", "torchmetrics", "prdc", "ot")
    code = (
        f"import sys\nfor name in {lacking}: sys.modules[name] = None\n"
        "from experiments.bench.accelerator import main\n"
        f"main(['--out', {str(tmp_path)!r}, '--seconds', '900'])"
    )
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
    found = json.loads((tmp_path / "accelerator.json").read_text())
    assert all("seconds" in found[name] and "error" not in found[name] for name in accelerator.PARTS), short(found)
    assert all(promise["holds"] for promise in found["contract"].values() if isinstance(promise, dict))
