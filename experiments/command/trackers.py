"""Trackers: where people watch what they run.  Each is a file of its own package, imported when it is asked for.

By default all of them write into OUT/track/ and reach no network; what a user's environment says of them counts first.
"""

from __future__ import annotations

import contextvars
import functools
import importlib
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol


class Told(NamedTuple):
    """What a tracker is told of a run."""

    project: str  # the experiment
    group: str  # of the settings of an ensemble, and of the runs of a sweep
    name: str  # the run's folder
    id: str  # no other run has it
    home: Path  # where it may write
    settings: list[str]
    config: Mapping[str, Mapping[str, Any]]  # setting -> field of its chain -> value

    def named(self, setting: str) -> str:
        """A run of the tracker."""
        text = self.name if len(self.settings) == 1 else f"{self.name} {setting}"
        return re.sub(r"[^\w.=,+ -]", "_", text)


class Tracker(Protocol):
    """Where the numbers of a run go: each of its settings is a run there, all of them in one group."""

    def init(self, run: Told) -> Mapping[str, int]:
        """Begins, or goes on; returns for each setting the generation that is logged first."""
        ...

    def log(self, setting: str, step: int, values: Mapping[str, float], pictures: Mapping[str, Any]) -> None:
        """What a generation measured, and pictures, as PIL has them."""
        ...

    def finish(self) -> None: ...


class Wandb:
    """Weights & Biases, or Trackio, which has its interface: `begin` is what they differ in."""

    def __init__(self, begin: Callable[[Told, int, Mapping[str, Any]], tuple[Any, int]]) -> None:
        self.begin, self.runs = begin, {}

    def init(self, run: Told) -> Mapping[str, int]:
        found = {}
        for i, setting in enumerate(run.settings):
            how = {"group": run.group, "config": dict(run.config[setting]), "resume": "allow"}
            self.runs[setting], found[setting] = self.begin(run, i, how)
        return found

    def log(self, setting: str, step: int, values: Mapping[str, float], pictures: Mapping[str, Any]) -> None:
        image = importlib.import_module(type(self.runs[setting]).__module__.partition(".")[0]).Image
        told = {**values, **{name: image(picture) for name, picture in pictures.items()}}
        self.runs[setting].log(told, step=step)

    def finish(self) -> None:
        for run in self.runs.values():
            run.finish()


def in_wandb(run: Told, i: int, how: Mapping[str, Any]) -> tuple[Any, int]:
    """(a run of Weights & Biases, its next step): offline, unless the environment says who is to have it."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    folder = Path(os.environ.get("WANDB_DIR") or run.home)
    folder.mkdir(parents=True, exist_ok=True)
    known = "WANDB_MODE" in os.environ or "WANDB_API_KEY" in os.environ
    offline = os.environ.get("WANDB_MODE", "" if known else "offline") == "offline"
    # A kill loses most of what lies in files of an earlier call: all of it is written anew.
    for before in (folder / "wandb").glob(f"offline-run-*-{run.id}-{i}") if offline else ():
        shutil.rmtree(before)
    one = wandb.init(
        project=os.environ.get("WANDB_PROJECT") or run.project,
        name=run.named(run.settings[i]),
        id=f"{run.id}-{i}",
        dir=folder,
        mode=None if known else "offline",
        reinit="create_new",  # beside those that are open
        settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
        **how,
    )
    return one, 0 if offline else one.step


def in_trackio(run: Told, i: int, how: Mapping[str, Any]) -> tuple[Any, int]:
    """(a run of Trackio, its next step): in files, unless the environment names a place."""
    os.environ.setdefault("TRACKIO_DIR", str(run.home / "trackio"))  # it is read once, when trackio is imported
    import trackio

    begin: Callable[..., Any] = functools.partial(trackio.init, auto_log_gpu=False, auto_log_cpu=False, embed=False)
    # It ends the run that is open in the context of its call: in a new one none is.
    one = contextvars.Context().run(begin, run.project, f"{run.named(run.settings[i])} {run.id}", **how)
    return one, one._next_step


class Mlflow:
    """MLflow: the settings of an ensemble are children of one run."""

    def init(self, run: Told) -> Mapping[str, int]:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        if not (uri := os.environ.get("MLFLOW_TRACKING_URI")):
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # the one that mlflow-skinny can write alone
            uri = (run.home / "mlruns").as_uri()
        from mlflow import MlflowClient
        from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

        self.client = MlflowClient(tracking_uri=uri)
        there = self.client.get_experiment_by_name(run.project)
        place = self.client.create_experiment(run.project) if there is None else there.experiment_id
        self.runs: dict[str, str] = {}  # setting -> id
        self.last: dict[str, dict[str, int]] = {}  # setting -> metric -> last generation
        parent = {"genloss.group": run.group}
        if len(run.settings) > 1:
            parent[MLFLOW_PARENT_RUN_ID] = self._run(place, run.id, run.name, {"genloss.group": run.group})[0]
        for i, setting in enumerate(run.settings):
            self.runs[setting], metrics = self._run(place, f"{run.id}-{i}", run.named(setting), parent)
            history = functools.partial(self.client.get_metric_history, self.runs[setting])
            self.last[setting] = {name: max(one.step for one in history(name)) for name in metrics}
            for name, value in run.config[setting].items():
                self.client.log_param(self.runs[setting], name, str(value)[:500])
        return {setting: min(last.values(), default=-1) + 1 for setting, last in self.last.items()}

    def _run(self, place: str, id: str, name: str, tags: Mapping[str, str]) -> tuple[str, list[str]]:
        """(id, metrics) of the run that has an id of ours, which goes on, or of a new one."""
        there = self.client.search_runs([place], f"tags.`genloss.id` = '{id}'", max_results=1)
        if there:
            self.client.update_run(there[0].info.run_id, status="RUNNING")
            return there[0].info.run_id, list(there[0].data.metrics)
        made = self.client.create_run(place, tags={**tags, "genloss.id": id}, run_name=name)
        return made.info.run_id, []

    def log(self, setting: str, step: int, values: Mapping[str, float], pictures: Mapping[str, Any]) -> None:
        from mlflow.entities import Metric

        run, last = self.runs[setting], self.last[setting]
        new = {name: value for name, value in values.items() if step > last.get(name, -1)}
        self.client.log_batch(run, metrics=[Metric(name, value, 0, step) for name, value in new.items()])
        last |= dict.fromkeys(new, step)
        for name, picture in pictures.items():
            self.client.log_image(run, picture, artifact_file=f"{name}/{step}.png")

    def finish(self) -> None:
        for run in self.runs.values():
            self.client.set_terminated(run)


class TensorBoard:
    """Files that TensorBoard reads, by tensorboardX: a folder for each setting, within that of the run."""

    def init(self, run: Told) -> Mapping[str, int]:
        from tensorboardX import SummaryWriter

        self.writers: dict[str, Any] = {}
        for setting in run.settings:
            folder = run.home / "tensorboard" / run.group / run.named(setting)
            for file in folder.glob("events.out.tfevents.*"):  # of a run that was killed the last lines are lost: anew
                file.unlink()
            self.writers[setting] = SummaryWriter(str(folder))
            self.writers[setting].add_text("configuration", _listed(run.config[setting]))
        return dict.fromkeys(run.settings, 0)

    def log(self, setting: str, step: int, values: Mapping[str, float], pictures: Mapping[str, Any]) -> None:
        import numpy as np

        writer = self.writers[setting]
        for name, value in values.items():
            writer.add_scalar(name, value, step)
        for name, picture in pictures.items():
            writer.add_image(name, np.asarray(picture.convert("RGB")), step, dataformats="HWC")
        writer.flush()

    def finish(self) -> None:
        for writer in self.writers.values():
            writer.close()


def _listed(config: Mapping[str, Any]) -> str:
    """In Markdown."""
    return "\n".join(f"    {name}: {value}" for name, value in config.items())


TRACKERS: dict[str, tuple[str, Callable[[], Tracker]]] = {  # the package that it takes, and what speaks to it
    "trackio": ("trackio", functools.partial(Wandb, in_trackio)),
    "wandb": ("wandb", functools.partial(Wandb, in_wandb)),
    "mlflow": ("mlflow", Mlflow),
    "tensorboard": ("tensorboardX", TensorBoard),
}


def tracker(name: str) -> Tracker:
    """The tracker of that name; raises where it is not installed."""
    from importlib.util import find_spec

    from simulator import GenlossError

    package, make = TRACKERS[name]
    if find_spec(package) is None:
        raise GenlossError(f"--track {name} needs the package {package}: pip install 'genloss[track]'.")
    return make()
