"""What a run shows on the terminal: progress, metrics with a sparkline each, time left; a log elsewhere."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from simulator.report.figures import shown
from simulator.report.names import on_terminal, plain
from simulator.running.drive import Progress as Report

BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Any) -> str:
    """A line of bars from the least to the greatest value; a space where it is not finite."""
    values = np.asarray(values, float)
    finite = values[np.isfinite(values)]
    if not len(finite):
        return " " * len(values)
    low, span = finite.min(), np.ptp(finite) or 1.0
    return "".join(BARS[int((v - low) / span * 7.999)] if np.isfinite(v) else " " for v in values)


def _thinned(values: np.ndarray, most: int = 8) -> np.ndarray:
    """At most `most` of the values, from the first to the last."""
    return values[np.unique(np.linspace(0, len(values) - 1, most).round().astype(int))]


class Display:
    """A live picture of a run; on anything but a terminal, one line a generation."""

    def __init__(self, experiment: Any, store: Any) -> None:
        self.console = Console()
        self.settings = list(getattr(experiment.subject, "values", {"chain": 0}))
        self.axes = 2 if hasattr(experiment.subject, "values") else int(experiment.replicates is not None)
        self.history: dict[str, np.ndarray] = {}  # metric -> [settings, generations], means over replicates
        self.started = time.perf_counter()
        self.silent_until = 0.0  # in a log, what is being done is said twice a minute
        self.worked = False  # whether this call did any generation
        self.bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.completed:.1f}/{task.total:.0f} generations"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
        )
        self.task = self.bar.add_task("compiling", total=experiment.generations)
        self.live = Live(self._picture(), console=self.console, refresh_per_second=4, transient=True)
        self.where = store.path

    def __enter__(self) -> Display:
        self.console.print(on_terminal(self.where), style="dim", soft_wrap=True)
        if self.console.is_terminal:
            self.live.start()
        elif len(self.settings) > 1:
            self.console.print(on_terminal(f"settings: {' / '.join(map(plain, self.settings))}"), soft_wrap=True)
        return self

    def __exit__(self, *_: Any) -> None:
        self.live.stop()

    def report(self, progress: Report) -> None:
        self.worked = self.worked or bool(progress.seconds)
        if progress.record is not None:
            for name, leaf in progress.record.flat().items():
                values = np.asarray(leaf, float)
                if values.ndim != self.axes + 1:
                    continue
                lines = values.reshape(-1, values.shape[-1]) if self.axes < 2 else values.mean(1)
                lines = lines if self.axes == 2 else lines.mean(0, keepdims=True)  # [settings, chunk]
                old = self.history.get(name)
                self.history[name] = lines if old is None else np.concatenate([old, lines], 1)
        self.bar.update(self.task, completed=progress.done + progress.part, description=progress.doing or "running")
        self.live.update(self._picture())
        now = time.perf_counter()
        if progress.doing and not self.console.is_terminal and now > self.silent_until:
            self.console.print(on_terminal(progress.doing), soft_wrap=True)
            self.silent_until = now + 30
        if progress.record is not None and not self.console.is_terminal:
            now = ", ".join(f"{name} {self._latest(name)}" for name in self._shown()[:3])
            spent = time.perf_counter() - self.started
            self.console.print(
                f"{progress.done}/{progress.generations} after {spent:.0f} s: {now}", soft_wrap=True, markup=False
            )

    def _latest(self, name: str) -> str:
        return "/".join(f"{v:.3g}" for v in self.history[name][:, -1])

    def _shown(self) -> list[str]:
        return shown(self.history)

    def _picture(self) -> Group:
        table = Table(box=None, pad_edge=False)
        if self.history:
            table.add_column("", no_wrap=True)
            fitting: list[str] = []  # as many as have room, one at least
            room = self.console.width - max(len(plain(setting)) for setting in self.settings)
            for name in self._shown():
                head = on_terminal(name.partition(".")[2] or name)
                room -= max(len(head), 16) + 2
                if room < 0 and fitting:
                    break
                fitting.append(name)
                table.add_column(head, no_wrap=True)
            for i, setting in enumerate(self.settings):
                cells = [self.history[name][i] for name in fitting]
                table.add_row(on_terminal(setting), *(f"{v[-1]:7.3g} {sparkline(_thinned(v))}" for v in cells))
        return Group(table, self.bar)
