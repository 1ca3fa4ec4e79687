"""The command: what it prints, what it leaves, and how it refuses."""

import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from conftest import ROOT, SHARED

from experiments.cli import main
from experiments.command.live import sparkline

GAUSSIAN = str(SHARED / "tiny_gaussian.py")
VAE = str(SHARED / "tiny_vae.py")
SWEEP = str(SHARED / "tiny_sweep.py")


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GENLOSS_CACHE", "off")
    monkeypatch.setattr("warnings.showwarning", None)


def test_run_a_file_of_ones_own_and_look_at_it(capsys: pytest.CaptureFixture[str]):
    assert (
        main(["run", GAUSSIAN, "--generations", "3", "--replicates", "2", "--seed", "5", "--recipe.generations", "2"])
        == 0
    )
    folder = next(Path("runs").iterdir())
    assert folder.name.startswith("tiny_gaussian-")
    about = json.loads((folder / "chain.json").read_text())
    assert about["run"]["chain"]["recipe"]["generations"] == 2 and about["generations"] == 3
    frame = pandas.read_parquet(folder / "records.parquet")
    assert set(frame.replicate) == {0, 1} and frame.generation.max() == 2
    for name in ("decay.png", "decay.svg", "index.html"):
        assert (folder / "report" / name).stat().st_size > 1000
    assert "connect-src 'none'" in (folder / "report" / "index.html").read_text()
    capsys.readouterr()
    assert main(["show", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "3 of 3 generations" in shown and "collapsing variance" in shown and "Against generation 0" in shown
    assert main(["report", str(folder)]) == 0
    assert "has it collapsed?" in (folder / "report" / "index.html").read_text()
    capsys.readouterr()
    assert main(["show", str(folder), "--json", "--measures", "risk=diversity.variance:loss"]) == 0
    told = json.loads(capsys.readouterr().out)["collapse"]
    first = told["verdicts"][0]
    assert first["definition"] == "catastrophic increase of population risk" and first["metric"] == "diversity.variance"
    assert told["alarm"] == 0.05 and told["noise"]["diversity.variance"] > 0
    for wrong, said in (("diversity.variance", "takes KIND=METRIC:READING"), ("risk=x:loss", "There is no metric 'x'")):
        assert main(["show", str(folder), "--measures", wrong]) == 2
        assert said in capsys.readouterr().err
    assert main(["show", str(folder), "--sizes", str(folder)]) == 2
    assert "20 real rows, as another of these runs" in capsys.readouterr().err


def test_the_same_command_goes_on_and_other_fields_are_another_run():
    first = ["run", GAUSSIAN, "--generations", "2"]
    assert main(first) == main([*first[:-1], "4"]) == 0
    assert len(list(Path("runs").iterdir())) == 1
    assert main([*first, "--real", "21"]) == 0
    assert len(list(Path("runs").iterdir())) == 2


def test_a_preset_is_another_size_of_an_experiment(capsys: pytest.CaptureFixture[str]):
    Path("sizes.py").write_text(
        "from tiny_gaussian import chain\nfrom simulator import Chain\ngenerations = 2\n"
        "large = Chain(source=chain.source, generator=chain.generator, real=77)\n"
        "presets = {'large': {'chain': large, 'generations': 3}}\n"
    )
    assert main(["run", "sizes.py", "--preset", "large", "--out", "large"]) == 0
    about = json.loads(Path("large/chain.json").read_text())
    assert about["run"]["chain"]["real"] == 77 and about["generations"] == 3
    assert main(["run", "sizes.py", "--preset", "larger"]) == 2
    assert "the nearest is 'large'" in capsys.readouterr().err


def test_sweep_over_a_field():
    assert main(["sweep", GAUSSIAN, "--over", "generator.bias=1,0.5", "--generations", "4", "--out", "swept"]) == 0
    frame = pandas.read_parquet("swept/records.parquet")
    last = frame[(frame.metric == "diversity.variance") & (frame.generation == 3)].groupby("setting").value.mean()
    assert last["generator.bias=0.5"] < last["generator.bias=1"]


def test_fork(capsys: pytest.CaptureFixture[str]):
    assert main(["run", GAUSSIAN, "--generations", "4", "--out", "parent"]) == 0
    assert main(["fork", "parent", "--at", "1", "--out", "child", "--recipe.generations", "1"]) == 0
    parent, child = (pandas.read_parquet(f"{name}/records.parquet") for name in ("parent", "child"))
    early = parent.generation <= 1
    assert np.array_equal(parent[early].value, child[child.generation <= 1].value)
    assert not np.array_equal(parent[~early].value, child[child.generation > 1].value)


@pytest.mark.quick("plain")
@pytest.mark.parametrize("file", [GAUSSIAN, VAE], ids=["plain", "network"])
def test_dry_run_starts_nothing(file: str, capsys: pytest.CaptureFixture[str]):
    assert main(["run", file, "--dry-run"]) == 0
    said = capsys.readouterr().out
    for word in ("chains", "pool", "parameters", "memory", "disk", "time"):
        assert word in said
    assert main(["run", GAUSSIAN, "--dry-run", "--replicates", "2", "--mesh", "1x1"]) == 0
    assert "2, shared by 1 x 1 devices" in capsys.readouterr().out
    assert main(["sweep", GAUSSIAN, "--over", "generator.bias=1,0.5", "--replicates", "2", "--dry-run"]) == 0
    assert ["chains", "4"] in [line.split() for line in capsys.readouterr().out.splitlines()]
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    "command", [["run", GAUSSIAN], ["synthesize", "--pipeline", "none"]], ids=["run", "synthesize"]
)
def test_a_share_of_a_gpu_is_asked_for_before_jax_looks_for_devices(command: list[str]):
    """Neither name of the variable may be set beside the other: jax refuses both."""
    code = (
        "import sys, os; import experiments.cli as cli; assert 'jax' not in sys.modules\n"
        f"cli.devices.join = lambda text: sys.exit(f\"{{'XLA_PYTHON_CLIENT_MEM_FRACTION' in os.environ}} \" +"
        " str(__import__('jaxlib.xla_client').xla_client.generate_pjrt_gpu_plugin_options()['memory_fraction']))\n"
        f"cli.main({[*command, '--memory', '0.4']!r})"
    )
    environment = {**os.environ, "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.9", "PYTHONPATH": f"{ROOT}:{SHARED}"}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert said.stderr.strip() == "False 0.4", said.stderr


def test_help_lists_the_fields(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        main(["run", GAUSSIAN, "--help"])
    assert stop.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    for word in ("--generations", "--recipe.generations", "--generator.ddof", "synthetic rows each generation writes"):
        assert word in said
    assert main(["run", "--help"]) == 0


def test_a_reader_that_has_gone_is_no_failure():
    command = [sys.executable, "-m", "experiments.cli", "run", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait() == 0


def test_ctrl_c_is_one_sentence_and_exit_code_130_at_any_instant(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """While a run goes on; where something swallows the exception; and in a process that has done all but end."""
    import os
    import signal

    def press(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    def swallowed(*_: Any) -> None:
        try:
            press()
        except BaseException:
            return

    before = signal.getsignal(signal.SIGINT)
    for way in (press, swallowed):
        monkeypatch.setattr("experiments.command.listing.experiments", lambda way=way: way() or {})
        assert main(["list"]) == 130
        said = capsys.readouterr().err.strip()
        assert said.startswith("genloss: stopped") and len(said.splitlines()) == 1
    assert signal.getsignal(signal.SIGINT) is before

    late = "import atexit, os, signal, sys; from experiments.cli import main\nsys.argv[1:] = ['list']\ncode = main()\n"
    late += "atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))\nsys.exit(code)"
    done = subprocess.run([sys.executable, "-c", late], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 130 and done.stderr.strip() == said


def test_list(capsys: pytest.CaptureFixture[str]):
    assert main(["list"]) == 0
    assert "digits" in capsys.readouterr().out


BAD: dict[str, tuple[list[str], str]] = {
    "unknown experiment": (["run", "digitz"], "the nearest is 'digits'"),
    "missing file": (["run", "mine.py"], "There is no file mine.py"),
    "unknown field": (
        ["run", GAUSSIAN, "--recipe.generationz", "3"],
        "the nearest is 'recipe.generations'; there are:",
    ),
    "wrong type": (["run", GAUSSIAN, "--rows", "many"], "--rows"),
    "not a choice": (["run", GAUSSIAN, "--start", "middle"], "--start"),
    "missing data set": (["run", "digits", "--source.path", "/nowhere"], "no data set at /nowhere"),
    "missing split": (["run", "digits", "--source.path", "IMAGES", "--source.test", "dev"], "no split 'dev'"),
    "empty class": (["run", "digits", "--source.path", "IMAGES", "--real", "4"], "has no rows in the 'test' split"),
    "real share above 1": (["run", "digits", "--recipe.recipes.2.real", "1.5"], "between 0 and 1"),
    "not a number": (["run", "digits", "--recipe.recipes.2.real", "half"], "neither a number nor a schedule"),
    "more rows than there are": (["run", "digits", "--real", "5000"], "the 'train' split of digits has 1438"),
    "no generations": (["run", GAUSSIAN, "--generations", "0"], "--generations is 0 and must be at least 1."),
    "not finite": (["run", VAE, "--generator.learning-rate", "1e18", "--generator.clip", "1e30"], "is not finite"),
    "no generations of a schedule": (["run", "digits", "--recipe.recipes.2.real", "cosine:1,0,0"], "give at least 1"),
    "no warmth": (["run", VAE, "--generator.warmup", "2"], "below 1"),
    "fewer classes than there are": (["run", VAE, "--generator.classes", "5"], "was shown 10"),
    "fewer held out than classes": (["run", VAE, "--held_out", "3"], "at least one row for each of 10 classes"),
    "part of the digits": (["run", VAE, "--source.side", "4"], "only `reuse` can be changed"),
    "a share of nothing": (["run", VAE, "--source.path", "IMAGES", "--source.test", "x%"], "such as 20%"),
    "no checkpoints": (["run", GAUSSIAN, "--every", "0", "--dry-run"], "must be at least 1"),
    "not a run": (["show", "."], "holds no run"),
    "sweep of no size": (["sweep", GAUSSIAN, "--over", "rows=10,-1"], "rows"),
    "sweep of nothing": (["sweep", GAUSSIAN], "--over recipe.real=0,0.1,0.5"),
    "sweep of parts of rows": (
        ["sweep", GAUSSIAN, "--over", "rows=10.5,20"],
        "takes whole numbers separated by commas",
    ),
    "sweep of nan": (["sweep", GAUSSIAN, "--over", "generator.bias=1,nan"], "takes numbers separated by commas"),
    "sweep twice": (["sweep", GAUSSIAN, "--over", "generator.bias=1,0.5,1.0"], "a value twice in '1,0.5,1.0'"),
    "sweep of text": (["sweep", GAUSSIAN, "--over", "start=1,2"], "start"),
    "a seed of another's stream": (["run", GAUSSIAN, "--seed", "4294967296"], "must be at most 4,294,967,295"),
    "a seed below 0": (["run", GAUSSIAN, "--seed", "-1"], "--seed is -1 and must be at least 0."),
    "a digit that is none": (["run", GAUSSIAN, "--generations", "²"], "from 1 to 2,147,483,647; it was given '²'"),
    "a mesh of such": (["run", GAUSSIAN, "--dry-run", "--mesh", "²x1"], "two numbers of devices, such as 8x1"),
    "generations without end": (["run", GAUSSIAN, "--generations", "1" + "0" * 20], "must be at most 2,147,483,647"),
    "generations beyond memory": (["run", SWEEP, "--generations", "100000000"], "GB; give fewer generations"),
    "rows beyond memory": (["run", GAUSSIAN, "--rows", "2000000000"], "rows, and it holds at most 2,147,483,647"),
    "rows beyond counting": (["run", GAUSSIAN, "--rows", "1" + "0" * 20], "whole ones below 2^31"),
    "no replicates": (["run", GAUSSIAN, "--replicates", "0"], "--replicates is 0 and must be at least 1."),
    "seconds that are no number": (["run", GAUSSIAN, "--save-seconds", "nan"], "takes a finite number"),
    "a field that is no number": (["run", GAUSSIAN, "--generator.bias", "nan"], "takes finite numbers"),
    "a field without end": (["run", GAUSSIAN, "--generator.bias", "inf"], "takes finite numbers"),
    "more than a GPU": (["run", GAUSSIAN, "--memory", "1.5"], "--memory is 1.5 and must be at most 1."),
    "no folder": (["run", GAUSSIAN, "--out", ""], "--out takes the name of a file or folder, not ''; choose one"),
    "a ratio without end": (
        ["contaminate", "--real", ".", "--ratio", "1e999999999", "--out", "x"],
        "--ratio takes a share such as 0.4",
    ),
    "no command of ours": (["ruin"], "invalid choice: 'ruin'"),
    "a plan of nothing": (["plan", GAUSSIAN], "Say what is to be kept and what is searched"),
    "nothing to show": (["show"], "required: RUN"),
    "a size that is no run": (["show", "none", "--sizes", "."], "holds no run"),
    "sweep of words": (["sweep", GAUSSIAN, "--over", "generator.bias=low,high"], "numbers separated by commas"),
    "fork to nowhere": (["fork", "none", "--at", "1"], "holds no run"),
    "fork by too few": (["fork", "none", "--at", "1", "--processes", "here,2"], "takes HOST:PORT,N,I"),
    "half a mesh": (["run", GAUSSIAN, "--dry-run", "--mesh", "8"], "two numbers of devices, such as 8x1"),
    "more devices than there are": (["run", GAUSSIAN, "--dry-run", "--mesh", "64x2"], "needs 128 devices"),
}


LATE = {"not finite"}  # what only a fit finds out
CASES = [pytest.param(*case, id=name, marks=[pytest.mark.slow] * (name in LATE)) for name, case in BAD.items()]


@pytest.mark.parametrize("command, sentence", CASES)
def test_bad_input_is_one_sentence_and_exit_code_2(
    command: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    from image_folders import pictures

    pictures(tmp_path / "images", "train", 3)
    pictures(tmp_path / "images", "test", 1)
    (tmp_path / "images" / "test" / "kind1" / "0.png").unlink()
    assert main([w.replace("IMAGES", str(tmp_path / "images")) for w in command]) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("genloss: ") and sentence in said
    assert len(said.splitlines()) == 1 and said.endswith("."), said
    assert "Traceback" not in said


def test_the_folder_of_another_run_is_refused_and_kept(capsys: pytest.CaptureFixture[str]):
    assert main(["run", GAUSSIAN, "--generations", "2", "--out", "here"]) == 0
    before = {p: p.read_bytes() for p in Path("here").rglob("*") if p.is_file()}
    assert main(["run", GAUSSIAN, "--generations", "2", "--out", "here", "--rows", "21"]) == 2
    assert "chain.rows: 20 -> 21" in capsys.readouterr().err
    assert before == {p: p.read_bytes() for p in Path("here").rglob("*") if p.is_file()}


def test_a_file_without_a_chain(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "empty_idea.py").write_text("x = 1\n")
    assert main(["run", "empty_idea.py"]) == 2
    assert "defines no `chain`" in capsys.readouterr().err


def test_a_schedule_on_the_command_line():
    own = "from tiny_gaussian import chain as base\nfrom simulator.recipe import Mix\n"
    own += "from simulator.running import spec\n"
    Path("mixed.py").write_text(own + "chain = spec.override(base, {'recipe': Mix(real=0.5, size=10)})\n")
    assert main(["run", "mixed.py", "--recipe.real", "linear:1,0.5,4", "--generations", "2", "--out", "m"]) == 0
    said = json.loads(Path("m/chain.json").read_text())["run"]["chain"]["recipe"]["real"]
    assert (said["kind"], said["values"]) == ("linear", [1, 0.5, 4])


def test_sparkline():
    assert sparkline([0, 1, 2, np.nan]) == "▁▄█ "
    assert sparkline([1.0, 1.0]) == "▁▁"


def test_users_functions_are_found_again(tmp_path: Path):
    """A probe and a recipe of the user's own file; its text is part of the run."""
    file: Any = Path("own_idea.py")
    text = (
        "import jax.numpy as jnp\nfrom generators import Gaussian\nfrom simulator import Chain, Truth\n"
        "def spread(key, view):\n    return jnp.std(view.synthetic)\n"
        "def newest(key, t, pool):\n    return pool.weight * (pool.age(t) == 0)\n"
        "chain = Chain(source=Truth(Gaussian(1)), generator=Gaussian(1), recipe=newest, probes={'spread': spread},\n"
        "              real=20, rows=20)\n"
    )
    file.write_text(text)
    assert main(["run", "own_idea.py", "--generations", "3", "--out", "own"]) == 0
    assert set(pandas.read_parquet("own/records.parquet").metric) == {"fit.mass", "spread"}
    assert main(["fork", "own", "--at", "0", "--out", "own2", "--code", "own_idea.py"]) == 0
    file.write_text(text.replace("jnp.std", "jnp.var"))
    assert main(["run", "own_idea.py", "--generations", "3", "--out", "own"]) == 2


def test_a_users_class_is_told_by_its_text(tmp_path: Path):
    text = (
        "from dataclasses import dataclass\nfrom tiny_gaussian import chain as base\n"
        "from simulator.running import spec\n"
        "@dataclass(frozen=True)\nclass Near:\n    far: float = 1.0\n"
        "    def __call__(self, key, t, pool):\n        return pool.weight * (abs(pool.rows[:, 0]) < 9.0)\n"
        "chain = spec.override(base, {'recipe': Near()})\n"
    )
    Path("near_idea.py").write_text(text)
    assert main(["run", "near_idea.py", "--generations", "2", "--out", "near"]) == 0
    Path("near_idea.py").write_text(text.replace("< 9.0", "< 0.25"))
    assert main(["run", "near_idea.py", "--generations", "4", "--out", "near"]) == 2


def test_what_a_users_file_is_made_of_is_part_of_the_run(capsys: pytest.CaptureFixture[str]):
    """Helpers, constants, base classes and files it imports are; comments and what it gives by value are not."""
    file, neighbour = Path("whole_idea.py"), Path("its_neighbour.py")
    text = (
        '"""Words."""\nfrom dataclasses import dataclass\nimport its_neighbour\nfrom simulator.running import spec\n'
        "from tiny_gaussian import chain as base\n"
        "FAR = 9.0\n\ndef helper(x):\n    return abs(x) < FAR\n\n"
        "class Base:\n    def __call__(self, key, t, pool):\n"
        "        return pool.weight * helper(pool.rows[:, 0]) * its_neighbour.HALF\n\n"
        "@dataclass(frozen=True)\nclass Near(Base):\n    pass\n\n"
        "generations = 1\nchain = spec.override(base, {'recipe': Near(), 'probes': {}})\n"
    )
    neighbour.write_text("import an_inner_one\nHALF = an_inner_one.HALF\n")
    Path("an_inner_one.py").write_text("HALF = 0.5\n")
    file.write_text(text)

    def again() -> int:
        for name in ("its_neighbour", "an_inner_one"):
            sys.modules.pop(name, None)
        return main(["run", "whole_idea.py", "--out", "whole"])

    assert again() == 0
    for same in (("Words", "Other words"), ("generations = 1", "generations = 2"), ("FAR = 9.0", "FAR = 9.0  # far")):
        file.write_text(text.replace(*same))
        assert again() == 0, same
    for other in (("9.0", "0.25"), ("abs(x)", "-abs(x)"), ("pool.weight * helper", "pool.weight + 0 * helper")):
        file.write_text(text.replace(*other))
        assert again() == 2, other
        assert "chain.recipe.$source" in capsys.readouterr().err
    file.write_text(text)
    Path("an_inner_one.py").write_text("HALF = 0.25\n")
    assert again() == 2


def test_a_file_that_cannot_be_imported_is_said(capsys: pytest.CaptureFixture[str]):
    Path("broken_idea.py").write_text("chain = Chain(\n")
    assert main(["run", "broken_idea.py"]) == 2
    assert "cannot be imported (SyntaxError" in capsys.readouterr().err
    Path("simulator.py").write_text("chain = 1\n")
    assert main(["run", "simulator.py"]) == 2
    assert "rename the file" in capsys.readouterr().err


@pytest.mark.slow
def test_equals_signs_and_swept_fields(capsys: pytest.CaptureFixture[str]):
    quick = ["--generator.bias=0.9", "--generator.ddof=1", "--generations", "2", "--replicates", "1"]
    assert main(["run", SWEEP, "--recipe.index=1", "--out", "one", *quick]) == 0
    assert set(pandas.read_parquet("one/records.parquet").setting) == {"chain"}
    assert main(["run", SWEEP, "--out", "both", *quick]) == 0
    assert set(pandas.read_parquet("both/records.parquet").setting) == {"replace", "accumulate"}
    capsys.readouterr()
    assert main(["fork", "both", "--at", "0", "--out", "fork", "--recipe.index", "1"]) == 2
    assert "sweeps recipe.index, and so does its fork" in capsys.readouterr().err


@pytest.mark.slow
def test_sweeps_and_the_plain_run_have_folders_of_their_own():
    for command in (["run"], ["sweep", "--over", "generator.bias=1,0.5"], ["sweep", "--over", "generator.bias=1,0.4"]):
        assert main([command[0], GAUSSIAN, *command[1:], "--generations", "1", "--replicates", "1"]) == 0
    assert len(list(Path("runs").iterdir())) == 3


def test_a_run_that_failed_at_once_holds_no_claim(capsys: pytest.CaptureFixture[str]):
    Path("mute.py").write_text(
        "from dataclasses import dataclass\nimport jax.numpy as jnp\nfrom tiny_gaussian import chain as base\n"
        "from generators import Gaussian\nfrom simulator.running import spec\n"
        "@dataclass(frozen=True)\nclass Mute(Gaussian):\n    def sample(self, key, params, n):\n"
        "        return jnp.full((n, 2), jnp.nan)\n"
        "chain = spec.override(base, {'generator': Mute(2)})\n"
    )
    assert main(["run", "mute.py", "--out", "x"]) == 2
    assert "rows that are NaN at generation 0" in capsys.readouterr().err
    assert main(["run", GAUSSIAN, "--generations", "1", "--seed", "5", "--out", "y"]) == 0
    shutil.copy("y/ceiling.json", "x/ceiling.json")
    with warnings.catch_warnings(action="always"):  # as a command line has it: said, not raised
        assert main(["run", GAUSSIAN, "--generations", "1", "--out", "x"]) == 0
    assert "ceiling.json is not used (it is of another run)" in capsys.readouterr().err


def test_lost_records_are_written_again():
    assert main(["run", GAUSSIAN, "--generations", "2", "--out", "x"]) == 0
    before = Path("x/records.parquet").read_bytes()
    Path("x/records.parquet").unlink()
    assert main(["run", GAUSSIAN, "--generations", "2", "--out", "x"]) == 0
    assert Path("x/records.parquet").read_bytes() == before
