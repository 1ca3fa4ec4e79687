"""How fast it is, against a plain reference in the same run: `python -m experiments.bench [JOB ...]`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

console = Console()


def seconds(work: Callable[[], Any], repeats: int = 3) -> float:
    """The least of a few timings."""
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        jax.block_until_ready(work())
        best = min(best, time.perf_counter() - started)
    return best


def compiled(work: Callable[..., Any], *arguments: Any) -> tuple[Callable[[], Any], float]:
    """The work as a compiled program without arguments; and the seconds of tracing and compiling."""
    started = time.perf_counter()
    program = jax.jit(work).lower(*arguments).compile()
    return lambda: program(*arguments), time.perf_counter() - started


def table(title: str, *columns: str) -> Table:
    """A table whose columns but the first are numbers."""
    found = Table(title=title, box=None, title_justify="left", pad_edge=False)
    for i, column in enumerate(columns):
        found.add_column(column, justify="left" if i == 0 else "right")
    return found
