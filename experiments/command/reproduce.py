"""`genloss reproduce`: published figures again, every experiment with a `reproduce` function in one table.

For each it prints *published, theory, ours ± standard error*, and writes the figure (NAME.png) and, when all are run,
the table (reproductions.md) to DIR, by default `reproductions`.  A value that differs from either is marked.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.command.command import Command
from experiments.command.loading import files, load_module
from experiments.command.numbers import place

if TYPE_CHECKING:
    from experiments.command.reproductions import Reproduction


def arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("names", nargs="*", metavar="NAME", help="of the experiments that have one; all if none is given")
    sub.add_argument("--out", type=place, default="reproductions", metavar="DIR", help="folder of figures and table")


def names() -> list[str]:
    """Experiments that reproduce a published figure, found without importing them."""
    return [name for name, file in files().items() if "\ndef reproduce(" in file.read_text()]


def reproduce(name: str) -> tuple[Reproduction, float]:
    """Runs one; and the seconds it took, compiling included."""
    module: Any = load_module(name)
    started = time.perf_counter()
    return module.reproduce(), time.perf_counter() - started


ROOM = 1 << 22  # bytes that figures and table may take
HEAD = ("experiment", "", "published", "theory", "ours ± standard error", "")


def lines(name: str, found: Reproduction) -> list[tuple[str, ...]]:
    """The rows of the table, one for each finding, and one for the note."""
    rows = [
        (name if i == 0 else "", f.what, *f.cells(), "" if f.holds else "does not hold")
        for i, f in enumerate(found.findings)
    ]
    return rows + ([("", found.note, "", "", "", "")] if found.note else [])


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """The table as a page shows it."""
    table = [HEAD, ("---",) * len(HEAD), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in table)


def show(rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column, justify in zip(HEAD, ("left", "left", "right", "right", "right", "left"), strict=True):
        table.add_column(column, justify=justify, overflow="fold")  # pyright: ignore[reportArgumentType]
    for row in rows:
        table.add_row(*row)
    Console(markup=False, width=None if sys.stdout.isatty() else 160).print(table)


def reproduce_all(chosen: Sequence[str], out: Path) -> int:
    """Runs the chosen ones, or all, prints what each found, and writes figures and table."""
    from simulator import GenlossError
    from simulator.report.figures import rendered
    from simulator.running import disk
    from simulator.running.spec import unknown

    known = names()
    for name in chosen:
        if name not in known:
            raise GenlossError(unknown(name, known, "There is no reproduction"))
    disk.folder(out, room=ROOM)
    table: list[tuple[str, ...]] = []
    for name in chosen or known:
        found, seconds = reproduce(name)
        rows = lines(name, found)
        rows[0] = (f"{name} ({seconds:.0f} s)", *rows[0][1:])
        show(rows)
        disk.write(out, f"{name}.png", rendered(found.figure, "png"))
        table += rows
    if not chosen:
        disk.write(out, "reproductions.md", markdown(table).encode())
    differing = sum(bool(row[-1]) for row in table)
    print(f"figures: {out}" + (f"; {differing} of the numbers above do not hold" if differing else ""))
    return 0


command = Command(
    "published figures again: published, theory, ours, and the figure",
    arguments,
    lambda options: reproduce_all(options.names, Path(options.out)),
)
