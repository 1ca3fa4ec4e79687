"""How fast it is, against a plain reference in the same run: `python -m experiments.bench [JOB ...]`.

Tables are printed as README has them: one command for each, so that all of its rows are from one run.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax

say = partial(print, flush=True)  # a benchmark may take minutes until it has more to say


def seconds(work: Callable[[], Any], repeats: int = 3) -> float:
    """The least of a few timings."""
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        jax.block_until_ready(work())
        best = min(best, time.perf_counter() - started)
    return best


def spent(work: Callable[[], Any]) -> tuple[Any, float]:
    """What it gives, and its processor seconds, of all threads."""
    started = time.process_time()
    found = jax.block_until_ready(work())
    return found, time.process_time() - started


def compiled(*jobs: tuple[Callable[..., Any], Any]) -> tuple[list[Callable[[], Any]], float]:
    """Each work and its argument as a compiled program without arguments; and the seconds of tracing and compiling.

    As many are compiled side by side as there are cores.
    """

    def one(job: tuple[Callable[..., Any], Any]) -> Callable[[], Any]:
        program = jax.jit(job[0]).lower(job[1]).compile()
        return lambda: program(job[1])

    started = time.perf_counter()
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        programs = list(threads.map(one, jobs))
    return programs, time.perf_counter() - started


@dataclass
class Table:
    """A title and a table in Markdown, whose columns but the first are numbers.  It needs no package."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)

    def add_row(self, *cells: str) -> None:
        self.rows.append(cells)

    def __str__(self) -> str:
        lines = [self.columns, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        lines.insert(1, tuple("-" * width for width in widths))
        sides = [str.ljust, *[str.rjust] * (len(widths) - 1)]
        cells = ([side(cell, w) for side, cell, w in zip(sides, line, widths, strict=True)] for line in lines)
        return "\n".join((self.title, "", *(f"| {' | '.join(line)} |" for line in cells)))


def table(title: str, *columns: str) -> Table:
    """A table without rows."""
    return Table(title, columns)
