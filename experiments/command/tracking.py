"""A run shown to a tracker while it goes on.  Whatever happens to the tracker, the run does not notice."""

from __future__ import annotations

import contextlib
import io
import json
import secrets
import urllib.parse
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from experiments.command.trackers import Told, Tracker, tracker


class Tracking:
    """Passes on what each generation measured, means over replicates; pictures of it; and in the end the figures.

    A run that is gone on with is gone on with in the tracker, by a name of its own that OUT/track/NAME.json keeps.  A
    tracker that fails is left alone from then on, and a warning says so once.
    """

    def __init__(self, name: str | None, experiment: Any, store: Any) -> None:
        self.name, self.experiment, self.store = name, experiment, store
        self.tracker: Tracker | None = None if name is None else tracker(name)
        self.settings = list(getattr(experiment.subject, "values", {"chain": 0}))
        self.axes = 2 if hasattr(experiment.subject, "values") else int(experiment.replicates is not None)
        self.next: dict[str, int] | None = None  # setting -> the generation that is logged next; None: not begun
        self.last = -1  # generation logged by this call
        self.complained = False

    def report(self, progress: Any) -> None:
        """Takes what `run` reports."""
        if progress.record is not None:
            self.show(progress.record)

    def show(self, record: Any) -> None:
        """Logs those generations of a record that the tracker has not got."""

        def work(tracker: Tracker) -> None:
            first = self._begun(tracker)
            flat = {name: np.asarray(leaf, np.float64) for name, leaf in record.flat().items()}
            t = np.asarray(record.t).reshape(-1, np.shape(record.t)[-1])[0]  # [generations]
            single = {name: leaf for name, leaf in flat.items() if leaf.ndim == self.axes + 1}
            for i, setting in enumerate(self.settings):
                lines = {name: self._line(leaf, i) for name, leaf in single.items()}
                for j, step in enumerate(map(int, t)):
                    if step >= first[setting]:
                        values = {n.replace(".", "/"): float(v[j]) for n, v in lines.items() if np.isfinite(v[j])}
                        tracker.log(setting, step, values, self._samples(step, i))
                        first[setting], self.last = step + 1, max(step, self.last)

        self._safely(work)

    def figures(self) -> None:
        """Logs the figures of the report, with the first setting, where any generation was logged."""

        def work(tracker: Tracker) -> None:
            found = {f"figures/{f.stem}": _opened(f) for f in sorted((self.store.path / "report").glob("*.png"))}
            tracker.log(self.settings[0], self.last, {}, found)

        if self.last >= 0:
            self._safely(work)

    def __enter__(self) -> Tracking:
        return self

    def __exit__(self, *_: Any) -> None:
        if self.next is not None:
            self._safely(lambda tracker: tracker.finish())

    def _line(self, leaf: np.ndarray, i: int) -> np.ndarray:
        """Of a setting the mean over replicates, [generations]."""
        line = leaf[i] if self.axes == 2 else leaf
        return line.mean(0) if self.axes else line

    def _samples(self, step: int, i: int) -> dict[str, Any]:
        """The picture of a setting's samples, a line of samples/T.png, where there is one."""
        file = self.store.path / "samples" / f"{step}.png"
        if not file.is_file():
            return {}
        sheet = _opened(file)
        height = sheet.height // len(self.settings)
        return {"samples": sheet.crop((0, i * height, sheet.width, (i + 1) * height))}

    def _begun(self, tracker: Tracker) -> dict[str, int]:
        if self.next is None:
            path = self.store.path
            # A run of a sweep of several lies in OUT/FIELD=VALUE,.../: they share OUT/track and are one group.
            home = path.parent if all("=" in part for part in path.name.split(",")) else path
            run = Told(
                project=Path(self.experiment.name).stem,
                group=home.name,
                name=urllib.parse.unquote(path.name),
                id=self._id(),
                home=home / "track",
                settings=self.settings,
                config={setting: _config(self._chain(setting)) for setting in self.settings},
            )
            run.home.mkdir(exist_ok=True)
            self.next = dict(tracker.init(run))
        return self.next

    def _chain(self, setting: str) -> Any:
        subject = self.experiment.subject
        return subject.make(subject.values[setting]) if hasattr(subject, "values") else subject

    def _id(self) -> str:
        """By which the tracker knows the run: OUT/track/NAME.json keeps it."""
        name = f"track/{self.name}.json"
        try:
            return str(json.loads((self.store.path / name).read_bytes())["id"])
        except (OSError, ValueError, KeyError, TypeError):
            made = secrets.token_hex(4)
            self.store.write(name, json.dumps({"id": made}).encode())
            return made

    def _safely(self, work: Callable[[Tracker], None]) -> None:
        """Speaks to the tracker, whose own words are dropped, but for its first complaint."""
        if self.tracker is None:
            return
        try:
            with warnings.catch_warnings(record=True) as said, contextlib.redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")
                warnings.simplefilter("always", UserWarning)
                work(self.tracker)
            complaint = next((str(one.message) for one in said if one.category is UserWarning), "")
        except Exception as error:
            self.tracker, complaint = None, f"{type(error).__name__}: {error}; it is told nothing more"
        if complaint and not self.complained:
            self.complained = True
            said = complaint.strip().splitlines()[0] if complaint.strip() else "no reason given"
            warnings.warn(f"The tracker {self.name} failed ({said}), and the run goes on.", stacklevel=3)


def _opened(file: Path) -> Any:
    from PIL import Image

    with Image.open(file) as picture:
        picture.load()
        return picture.convert("RGB")


def _config(chain: Any) -> dict[str, Any]:
    """The fields of a chain, as a command line has them."""
    from simulator.running import spec

    plain = (int, float, str, bool, type(None))
    return {leaf.path: leaf.value if isinstance(leaf.value, plain) else str(leaf.value) for leaf in spec.leaves(chain)}
