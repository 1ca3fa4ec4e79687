"""Trackers: each is told every generation once, whatever stops the run, and what happens to it stops no run."""

import importlib
import io
import json
import struct
import types
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import tiny_sweep
from equality import same
from stored_runs import contents

from experiments.cli import main
from experiments.command import trackers
from experiments.command.tracking import Tracking
from simulator import GenlossError, Record, Store
from simulator.sources import images

SETTINGS = list(tiny_sweep.sweep.values)


def record(generations: int) -> Record:
    """[settings, replicates 2, generations]: the mean over replicates of setting i in generation t is 10 i + t."""
    t = np.broadcast_to(np.arange(generations), (2, 2, generations))
    value = 10.0 * np.arange(2)[:, None, None] + t + np.array([-1.0, 1.0])[:, None]
    gap = np.where(t == 1, np.nan, value)
    return Record(
        jnp.asarray(t, jnp.int32), {"a": {"mean": value, "gap": gap, "vector": np.zeros((2, 2, generations, 3))}}
    )


def tracking(name: str | None, path: Path) -> Tracking:
    experiment = types.SimpleNamespace(
        name="/somewhere/mine.py", subject=tiny_sweep.sweep, chain=tiny_sweep.chain, replicates=2
    )
    path.mkdir(exist_ok=True)
    return Tracking(name, experiment, Store(path))


def with_samples(path: Path) -> None:
    """Of generations 1 and 2: setting 0 is black, setting 1 is white."""
    rows = np.zeros((2, 2, 4, 8, 8, 1), np.uint8)
    rows[1] = 255
    for t in (1, 2):
        Store(path).write(f"samples/{t}.png", images.sheet(rows, 2))


class Heard:
    """A tracker that keeps what it is told, or fails at a generation."""

    def __init__(self, fails: int | None = None) -> None:
        self.fails, self.told, self.seen, self.closed = fails, {}, {}, 0

    def init(self, run: trackers.Told) -> Mapping[str, int]:
        self.run = run
        return dict.fromkeys(run.settings, 0)

    def log(self, setting: str, step: int, values: Mapping[str, float], pictures: Mapping[str, Any]) -> None:
        if step == self.fails:
            raise OSError("the line is dead")
        self.told.setdefault(setting, []).append((step, dict(values)))
        self.seen |= {(setting, step, name): np.asarray(picture) for name, picture in pictures.items()}

    def finish(self) -> None:
        self.closed += 1


def use(heard: Heard, monkeypatch: pytest.MonkeyPatch) -> Heard:
    monkeypatch.setitem(trackers.TRACKERS, "wandb", ("json", lambda: heard))
    return heard


def test_each_setting_is_told_the_mean_over_its_replicates_and_its_own_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    heard = use(Heard(), monkeypatch)
    with_samples(tmp_path / "run")
    with tracking("wandb", tmp_path / "run") as it:
        it.show(record(3))
        it.figures()
    for i, setting in enumerate(SETTINGS):
        means = [{"a/mean": 10.0 * i + t} | ({"a/gap": 10.0 * i + t} if t != 1 else {}) for t in range(3)]
        told = [values for _, values in heard.told[setting] if values]
        assert told == means
        assert [t for name, t, _ in heard.seen if name == setting] == [1, 2]
        assert heard.seen[setting, 1, "samples"].max() == 255 * i  # a white sheet has black lines between, if any
    assert heard.run.settings == SETTINGS and heard.run.group == heard.run.name == "run" and heard.closed == 1
    assert [heard.run.config[setting]["recipe.index"] for setting in SETTINGS] == [0, 1]


def test_a_run_of_a_sweep_of_several_shares_its_folder_and_group_with_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    heard = use(Heard(), monkeypatch)
    ids = set()
    for name in ("real=10,rows=5", "real=20,rows=5"):
        with tracking("wandb", tmp_path / name) as it:
            it.show(record(1))
        assert heard.run.group == tmp_path.name and heard.run.home == tmp_path / "track" and heard.run.name == name
        ids.add(heard.run.id)
    assert len(ids) == 2


def test_a_tracker_that_fails_is_named_once_and_told_nothing_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    heard = use(Heard(fails=1), monkeypatch)
    with tracking("wandb", tmp_path / "run") as it:
        it.show(record(1))
        with pytest.warns(UserWarning, match=r"The tracker wandb failed \(OSError: the line is dead") as said:
            it.show(record(2))
            it.show(record(3))
            it.figures()
    assert len(said) == 1 and [step for step, _ in heard.told[SETTINGS[0]]] == [0]


def test_one_that_is_not_installed_is_refused_before_anything_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(trackers.TRACKERS, "wandb", ("no_such_package", Heard))
    with pytest.raises(GenlossError, match=r"pip install 'genloss\[track\]'"):
        tracking("wandb", tmp_path / "run")
    assert not list((tmp_path / "run").iterdir())


def test_without_one_nothing_is_written_and_nothing_imported(tmp_path: Path):
    with tracking(None, tmp_path / "run") as it:
        it.show(record(2))
        it.figures()
    assert not list((tmp_path / "run").iterdir())


# The libraries themselves, with nothing of the network.


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("WANDB_API_KEY", "WANDB_DIR", "WANDB_PROJECT", "MLFLOW_TRACKING_URI", "TRACKIO_SPACE_ID"):
        monkeypatch.delenv(name, raising=False)
    told = {"WANDB_MODE": "offline", "MLFLOW_DISABLE_TELEMETRY": "true", "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "run" / "track" / "trackio"))
    return tmp_path / "run"


def in_two_calls(name: str, path: Path) -> None:
    """Three generations, of which the first two were logged before the run was stopped."""
    with_samples(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with tracking(name, path) as it:
            it.show(record(2))
        with tracking(name, path) as it:
            it.show(record(3))
            Store(path).write("report/decay.png", (path / "samples" / "1.png").read_bytes())
            it.figures()


def expected(i: int) -> list[tuple[int, float]]:
    return [(t, 10.0 * i + t) for t in range(3)]


@pytest.mark.slow
@pytest.mark.extra("mlflow")
def test_mlflow_holds_each_generation_once_in_children_of_one_run(offline: Path):
    from mlflow import MlflowClient

    in_two_calls("mlflow", offline)
    client = MlflowClient(tracking_uri=(offline / "track" / "mlruns").as_uri())
    [experiment] = [e for e in client.search_experiments() if e.name == "mine"]
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {"run", *(f"run {setting}" for setting in SETTINGS)}
    for i, setting in enumerate(SETTINGS):
        one = runs[f"run {setting}"]
        assert one.data.tags["mlflow.parentRunId"] == runs["run"].info.run_id and one.info.status == "FINISHED"
        history = client.get_metric_history(one.info.run_id, "a/mean")
        assert [(m.step, m.value) for m in history] == expected(i)
        assert one.data.params["recipe.index"] == str(i)
        assert {a.path for a in client.list_artifacts(one.info.run_id, "samples")} == {"samples/1.png", "samples/2.png"}
    first = runs[f"run {SETTINGS[0]}"].info.run_id
    assert [a.path for a in client.list_artifacts(first, "figures/decay")] == ["figures/decay/2.png"]


def events(folder: Path) -> list[Any]:
    proto: Any = importlib.import_module("tensorboardX.proto.event_pb2")
    found: list[Any] = []
    for file in folder.glob("events*"):
        stream = io.BytesIO(file.read_bytes())
        while head := stream.read(12):
            found.append(proto.Event.FromString(stream.read(struct.unpack("<Q", head[:8])[0])))
            stream.read(4)
    return found


@pytest.mark.extra("tensorboardX")
def test_tensorboard_holds_each_generation_once_in_a_folder_for_each_setting(offline: Path):
    in_two_calls("tensorboard", offline)
    for i, setting in enumerate(SETTINGS):
        told = [
            (e.step, v) for e in events(offline / "track/tensorboard/run" / f"run {setting}") for v in e.summary.value
        ]
        assert [(step, v.simple_value) for step, v in told if v.tag == "a/mean"] == expected(i)
        assert [step for step, v in told if v.tag == "samples"] == [1, 2]
        assert [step for step, v in told if v.tag == "figures/decay"] == [2] * (i == 0)


@pytest.mark.slow
@pytest.mark.extra("trackio")
def test_trackio_holds_each_generation_once_and_its_settings_are_one_group(offline: Path):
    in_two_calls("trackio", offline)
    from trackio.sqlite_storage import SQLiteStorage

    identity = json.loads((offline / "track" / "trackio.json").read_text())["id"]
    for i, setting in enumerate(SETTINGS):
        name = f"run {setting} {identity}"
        rows = SQLiteStorage.get_logs("mine", name)
        assert [(row["step"], row["a/mean"]) for row in rows if "a/mean" in row] == expected(i)
        assert [row["step"] for row in rows if "samples" in row] == [1, 2]
        config = SQLiteStorage.get_run_config("mine", name)
        assert config and config["recipe.index"] == i and config["_Group"] == "run"


def stored(file: Path) -> list[bytes]:
    """The records of a .wandb file, which is a log as LevelDB writes it, after 7 bytes of its own."""
    data, at, found = file.read_bytes(), 7, [b""]
    while at < len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])  # whole, first, middle or last part of a record
        found[-1] += data[at + 7 : at + 7 + length]
        found += [b""] if kind in (1, 4) else []
        at += 7 + length
    return found[:-1]


@pytest.mark.slow
@pytest.mark.extra("wandb")
def test_wandb_holds_each_generation_once_and_its_settings_are_one_group(offline: Path):
    in_two_calls("wandb", offline)
    proto: Any = importlib.import_module("wandb.proto.wandb_internal_pb2")

    identity = json.loads((offline / "track" / "wandb.json").read_text())["id"]
    for i, setting in enumerate(SETTINGS):
        steps, groups = [], set()
        for file in sorted((offline / "track" / "wandb").glob(f"offline-run-*/run-{identity}-{i}.wandb")):
            for told in map(proto.Record.FromString, stored(file)):
                if told.HasField("run"):
                    groups.add((told.run.run_group, told.run.display_name, told.run.project))
                values = {
                    ".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in told.history.item
                }
                if "a/mean" in values:
                    steps.append((values["_step"], values["a/mean"]))
        assert steps == expected(i) and groups == {("run", f"run {setting}", "mine")}


@pytest.mark.slow
@pytest.mark.extra("tensorboardX")
def test_a_run_is_the_same_to_the_bit_with_a_tracker_and_with_one_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    file = str(Path(__file__).parent.parent / "shared" / "tiny_gaussian.py")
    words = ["run", file, "--generations", "4", "--no-page", "--out"]
    assert main([*words, str(tmp_path / "alone")]) == 0
    assert main([*words, str(tmp_path / "tracked"), "--track", "tensorboard"]) == 0
    use(Heard(fails=1), monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main([*words, str(tmp_path / "failed"), "--track", "wandb"]) == 0
    assert capsys.readouterr().err.count("The tracker wandb failed") == 1
    alone = contents(Store(tmp_path / "alone"))
    for name in ("tracked", "failed"):
        assert same(contents(Store(tmp_path / name)), alone)
    assert list((tmp_path / "tracked" / "track" / "tensorboard").rglob("events*"))
