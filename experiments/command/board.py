"""The parts of a command while engines do them: waiting, running, done, failed; without a terminal, a line each."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from typing import NamedTuple

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from experiments.command.worker import Job

SHOWN = 12  # of one state at once
TAIL = 4096  # bytes of a log that are looked at
ON = re.compile(r"(\d+)/(\d+) after (\d+) s")  # as `live.Display` says it


class Seen(NamedTuple):
    """What a log says."""

    line: str  # the last one
    left: float | None  # seconds


class Board:
    """Told of what ends; what runs it reads from the logs."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs = {job.name: job for job in jobs}
        self.started: dict[str, float] = {}
        self.done: dict[str, str] = {}  # name -> why it failed, or ""
        self.lost: dict[str, str] = {}
        self.looked = 0.0
        self.console = Console(stderr=True)
        self.live = Live(console=self.console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Board:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()

    def again(self, name: str, why: str) -> None:
        """A part whose process was lost is begun again."""
        self.lost[name] = why
        self._say(f"{name}: {why}; it goes on")

    def ended(self, name: str, why: str) -> None:
        self.done[name] = why
        now = time.monotonic()
        took = now - self.started.pop(name, now)
        so_far = f"{len(self.done)} of {len(self.jobs)}"
        self._say(f"{name}: failed, {why}" if why else f"{name}: done after {took:.0f} s, {so_far}")

    def look(self) -> None:
        """Reads how far they are, twice a second at most."""
        if time.monotonic() < self.looked + 0.5:
            return
        self.looked = time.monotonic()
        for name, job in self.jobs.items():
            if name not in self.done and name not in self.started and job.log.exists():
                self.started[name] = time.monotonic()
        if self.console.is_terminal:
            self.live.update(self._picture())

    def _say(self, line: str) -> None:
        if not self.console.is_terminal:
            self.console.print(Text(_plain(line)), soft_wrap=True, highlight=False)

    def _picture(self) -> Group:
        failed = {name: why for name, why in self.done.items() if why}
        counts = {
            "waiting": len(self.jobs) - len(self.done) - len(self.started),
            "running": len(self.started),
            "done": len(self.done) - len(failed),
            "failed": len(failed),
        }
        head = Text(", ".join(f"{n} {state}" for state, n in counts.items() if n))
        table = Table(box=None, pad_edge=False)
        for title in ("", "", "left", "says"):
            table.add_column(title, no_wrap=True)
        for name in list(self.started)[:SHOWN]:
            line, left = seen(self.jobs[name])
            time_left = "" if left is None else f"{left:.0f} s"
            table.add_row(Text(_plain(name)), "running", time_left, Text(_plain(line)))
        for name, why in list(failed.items())[-SHOWN:]:
            log = os.path.relpath(self.jobs[name].log)
            table.add_row(Text(_plain(name)), Text("failed", style="red"), "", Text(_plain(f"{why} ({log})")))
        return Group(head, table)


def seen(job: Job) -> Seen:
    """How far a part is, by its log."""
    try:
        with job.log.open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - TAIL))
            lines = log.read().decode(errors="replace").splitlines()
    except OSError:
        return Seen("", None)
    steps = [tuple(map(int, found.groups())) for line in lines if (found := ON.match(line))]
    line = lines[-1] if lines else ""
    if not steps or not steps[-1][0]:
        return Seen(line, None)
    done, of, spent = steps[-1]
    first, _, before = steps[0] if len(steps) > 1 else (0, of, 0)
    return Seen(line, (of - done) * (spent - before) / max(1, done - first))


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else "�" for c in text)
