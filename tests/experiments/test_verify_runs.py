"""`genloss verify` and `genloss bundle`: what they say, and with which exit code."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import gaussian_chain
from stored_runs import KEY, run_gaussian

from experiments.cli import main
from generators.ngram import Ngram
from simulator import Chain, Store, Text, run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("runs") / "gaussian")
    run_gaussian(store)
    return store


def test_a_bundle_is_confirmed_without_its_folder_and_an_altered_record_in_it_is_not(
    finished: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    copy, light = tmp_path / "copy", tmp_path / "light.zip"
    shutil.copytree(finished.path, copy)
    assert main(["bundle", str(copy), "--to", str(light), "--light", "--generations", "1", "--seed", "3"]) == 0
    said = capsys.readouterr().out
    shutil.rmtree(copy)
    assert main(["verify", str(light), "--generations", "all", "--json"]) in (0, 2)
    told = json.loads(capsys.readouterr().out)
    [chosen] = [last for last in told["computed"] if f"generations {last}, drawn by --seed 3" in said]
    found = {one["where"]: one for one in told["found"]}
    assert found[f"generations {chosen - 1} to {chosen}"]["said"].endswith("equal to the bit")
    assert {one["verdict"] for one in told["found"]} <= {"equal", "unknown"}


def test_what_cannot_be_checked_here_ends_with_2_and_is_named(
    finished: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    foreign = tmp_path / "foreign"
    run(gaussian_chain(), KEY, 2, foreign)  # with a probe of the tests' own
    assert main(["verify", str(foreign)]) == 2
    assert "unknown  generations        The run in" in (out := capsys.readouterr().out) and "--trust" in out
    copy = tmp_path / "copy"
    shutil.copytree(finished.path, copy)
    shutil.rmtree(copy / "checkpoints" / "1")
    assert main(["verify", str(copy), "--at", "5"]) == 2
    assert "it needs what generation 1 said, which is not here" in capsys.readouterr().out
    assert main(["verify", str(copy), "--at", "1"]) == 2
    assert "no whole checkpoint of generation 1" in capsys.readouterr().err
    assert main(["verify", str(copy), "--real", "3"]) == 2
    assert "--real cannot be given" in capsys.readouterr().out


def test_other_data_are_named_and_the_same_data_elsewhere_will_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    there, elsewhere, other = (tmp_path / f"{name}.txt" for name in ("text", "elsewhere", "other"))
    folder = str(tmp_path / "run")
    there.write_text("a word and another\n" * 40)
    chain = Chain(source=Text(str(there), 8), generator=Ngram(10, order=1, length=8), real=20, rows=20, held_out=0)
    run(chain, KEY, 1, folder)
    elsewhere.write_text(there.read_text())
    assert main(["verify", folder, "--source.path", str(tmp_path / "missing.txt")]) == 2
    assert "unknown  generations        There is no " in capsys.readouterr().out
    assert main(["verify", folder, "--source.path", str(elsewhere)]) == 0
    other.write_text("a word and nother word\n" * 40)
    assert main(["verify", folder, "--source.path", str(other)]) == 2
    assert "is not what the run was made of: data: " in capsys.readouterr().out


def test_what_disagrees_ends_with_1_even_where_nothing_can_be_computed(
    finished: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    copy = tmp_path / "copy"
    shutil.copytree(finished.path, copy)
    about = json.loads((copy / "chain.json").read_text())
    about["run"]["chain"]["rows"] = 21
    (copy / "chain.json").write_text(json.dumps(about))
    shutil.rmtree(copy / "checkpoints")
    assert main(["verify", str(copy)]) == 1
    assert "NOT verified, something disagrees: chain.json" in capsys.readouterr().out


def test_of_a_sweep_of_several_runs_each_is_verified(
    finished: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for name in ("real=10", "real=20"):
        shutil.copytree(finished.path, tmp_path / "out" / name)
        shutil.rmtree(tmp_path / "out" / name / "checkpoints")
    assert main(["verify", str(tmp_path / "out"), "--json"]) == 2
    assert [Path(one["run"]).name for one in json.loads(capsys.readouterr().out)] == ["real=10", "real=20"]
    (tmp_path / "out" / "real=10" / "records.parquet").write_bytes(b"PAR1")
    assert main(["verify", str(tmp_path / "out")]) == 1
    assert "real=10:\n" in (said := capsys.readouterr().out) and "NOT verified, something disagrees: records" in said


@pytest.mark.parametrize(
    "words, said",
    {
        ("RUN", "--to", "run.tar"): "ends in .zip",
        ("RUN", "--to", "run.zip", "--seed", "1"): "give --light too",
        ("nowhere", "--to", "run.zip"): "holds no run",
    }.items(),
)
def test_a_bundle_that_cannot_be_is_refused_and_nothing_written(
    words: tuple[str, ...],
    said: str,
    finished: Store,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(tmp_path)
    assert main(["bundle", *(str(finished.path) if word == "RUN" else word for word in words)]) == 2
    assert said in capsys.readouterr().err and not list(tmp_path.iterdir())
