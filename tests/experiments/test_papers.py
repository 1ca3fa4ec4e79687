"""What leaves a run for a paper or another program: records of many, tables, figures, rows."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas
import pytest
import tiny_sweep

from experiments.cli import main
from simulator import run
from simulator.recipe import Mix, Replace


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    key = jax.random.key(0)
    run(tiny_sweep.sweep, key, 2, folder / "swept", replicates=3, every=2)
    for name, recipe in (("mixed", Mix(real=0.5, size=20)), ("replaced", Replace())):
        run(dataclasses.replace(tiny_sweep.chain, recipe=recipe), key, 2, folder / name, replicates=2, every=2)
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
    assert main(["records", "swept", "mixed", "replaced", "--to", str(file)]) == 0
    found: Any = pandas.read_parquet(file) if suffix == "parquet" else pandas.read_csv(file)
    for name in ("swept", "mixed", "replaced"):
        own = found[found["run"] == name].reset_index(drop=True)
        pandas.testing.assert_frame_equal(own[list(records(name))], records(name), check_dtype=False, check_exact=True)
    told = found.groupby(["run", "setting"], sort=False).first()
    assert list(told["recipe"]) == ["Select", "Select", "Mix", "Replace"]
    assert list(told["recipe.index"])[:2] == [0, 1] and told["recipe.index"][2:].isna().all()
    assert told["recipe.real"].fillna(-1).tolist() == [-1, -1, 0.5, -1]
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
    from simulator.analysis.compare import Run
    from simulator.analysis.joined import dumped, joined

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
