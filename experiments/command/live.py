"""What a run shows on the terminal: progress, metrics with a sparkline each, time left; at the end, a table."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.measure import Measurement
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from simulator.report import page
from simulator.report.figures import HEADLINES, shown
from simulator.report.names import on_terminal
from simulator.running.drive import Progress as Report
from simulator.theory import Overlay, sentences

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
        self.console.print(on_terminal(self.where), style="dim")
        if self.console.is_terminal:
            self.live.start()
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
            fitting = self._shown()[: max(1, (self.console.width - 14) // 18)]
            for name in fitting:
                table.add_column(on_terminal(name.partition(".")[2] or name), no_wrap=True)
            for i, setting in enumerate(self.settings):
                cells = [self.history[name][i] for name in fitting]
                table.add_row(on_terminal(setting), *(f"{v[-1]:7.3g} {sparkline(_thinned(v))}" for v in cells))
        return Group(table, self.bar)

    def table(self, records: Any, ceiling: dict[str, float], laws: Mapping[str, Overlay]) -> None:
        print_table(records, ceiling, laws, self.console)


def print_table(
    records: Any, ceiling: dict[str, float], laws: Mapping[str, Overlay], console: Console | None = None
) -> None:
    """First and last generation of each metric, by setting, and the value of real rows; where there is a law, its value
    at the last generation and the standard error of ours; and a line on every law."""
    summary = page.summary(records)
    metrics = list(dict.fromkeys(metric for metric, _ in summary.columns))
    generations = list(dict.fromkeys(g for _, g in summary.columns))
    errors = page.errors(records, metrics)
    title = f"generation {' → '.join(map(str, generations))}"
    rows: list[tuple[str, ...]] = []
    for metric in metrics:
        cells = [" → ".join(f"{row[(metric, g)]:.3g}" for g in generations) for _, row in summary.iterrows()]
        rows.append(
            (HEADLINES.get(metric) or str(metric), *cells, f"{ceiling[metric]:.3g}" if metric in ceiling else "")
        )
        values = {s: law.at(metric, generations[-1]) for s, law in laws.items()}
        known = {s: value for s, value in values.items() if value is not None}
        if known:
            rows.append(("  theory", *(f"{known[s]:.3g}" if s in known else "" for s in summary.index), ""))
            spread = [f"{errors[metric][s]:.2g}" if s in known else "" for s in summary.index]
            if np.isfinite(errors[metric]).any():
                rows.append(("  ours ±", *spread, ""))
    console = console or Console()
    grid = [("", *map(str, summary.index), "real"), *rows]  # real: real rows against held-out real rows
    table = _grid(title, grid)
    wide = Measurement.get(console, console.options.update(max_width=10_000), table).maximum > console.width
    if wide and len(rows) <= len(summary.index):
        table = _grid(title, list(zip(*grid, strict=True)))  # a row for each of many settings
    console.print(table)
    for line in sentences(laws):
        console.print(on_terminal(f"theory, {line}"), style="dim", soft_wrap=True, highlight=False)


def _grid(title: str, rows: list[tuple[str, ...]]) -> Table:
    """A table whose first row is the head; values are at the right."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), title=title, title_justify="left")
    for i, name in enumerate(rows[0]):
        table.add_column(
            on_terminal(name), justify="right" if i else "left", overflow="fold", max_width=None if i else 30
        )
    for row in rows[1:]:
        table.add_row(*map(on_terminal, row))
    return table
