"""How fast it is, against a plain reference in the same run: `python -m experiments.bench [JOB ...]`.

Tables are printed as README has them: one command for each, so that all of its rows are from one run.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
from rich import box
from rich.console import Console
from rich.table import Table

console = Console(width=None if sys.stdout.isatty() else 200, markup=False)


def seconds(work: Callable[[], Any], repeats: int = 3) -> float:
    """The least of a few timings."""
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        jax.block_until_ready(work())
        best = min(best, time.perf_counter() - started)
    return best


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


def table(title: str, *columns: str) -> Table:
    """A table in Markdown whose columns but the first are numbers."""
    found = Table(title=title, box=box.MARKDOWN, title_justify="left")
    for i, column in enumerate(columns):
        found.add_column(column, justify="left" if i == 0 else "right")
    return found
