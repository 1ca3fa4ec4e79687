"""`genloss reproduce`: published figures again, every experiment with a `reproduce` function in one table.

For each it prints *published, theory, ours ± standard error*, and writes the figure (NAME.png) and, when all are run,
the table (reproductions.md) to DIR, by default `reproductions`.  A value that differs from either is marked.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.command.command import Command
from experiments.command.loading import files, load_module
from experiments.command.numbers import place
from experiments.command.parts import Part, Parts

if TYPE_CHECKING:
    from experiments.command.reproductions import Reproduction


def arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("names", nargs="*", metavar="NAME", help="of the experiments that have one; all if none is given")
    sub.add_argument("--out", type=place, default="reproductions", metavar="DIR", help="folder of figures and table")


def names() -> list[str]:
    """Experiments that reproduce a published figure, found without importing them."""
    return [name for name, file in files().items() if "\ndef reproduce(" in file.read_text()]


def reproduce(name: str) -> tuple[Reproduction, float]:
    """Runs one; and the CPU seconds it took, compiling included: what else runs on the machine hardly changes them."""
    module: Any = load_module(name)
    started = time.process_time()
    return module.reproduce(), time.process_time() - started


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


def parts(options: argparse.Namespace) -> Parts:
    """One for each, which leaves NAME.json."""
    from simulator import disk

    chosen = _chosen(options.names)
    disk.folder(options.out, room=ROOM)
    return Parts(
        f"{Path(options.out).absolute()}.logs", [Part(n, ["reproduce", n, "--out", options.out]) for n in chosen]
    )


def _chosen(given: Sequence[str]) -> Sequence[str]:
    from simulator import GenlossError
    from simulator.running.spec import unknown

    known = names()
    for name in given:
        if name not in known:
            raise GenlossError(unknown(name, known, "There is no reproduction"))
    return given or known


def reproduce_all(given: Sequence[str], out: Path, joined: bool = False) -> int:
    """Runs the given ones, or all, prints what each found, and writes figures and table.

    What one found is kept in NAME.json, from where it is read if others have run them (`joined`).
    """
    from experiments.command.tables import Column, show
    from simulator import disk

    chosen = _chosen(given)
    disk.folder(out, room=ROOM)
    columns = [
        Column("what", prose=True),
        *(Column(name, right=True) for name in ("published", "theory", "ours ± s.e.")),
        Column("", right=True),
    ]
    table: list[tuple[str, ...]] = []
    for name in chosen:
        found = json.loads((out / f"{name}.json").read_text()) if joined else _found(name, out)
        rows, title = [tuple(row) for row in found["rows"]], f"{name} ({found['seconds']:.0f} CPU s)"
        differ = any(row[-1] for row in rows)
        cells = [row[1:] if differ else row[1:-1] for row in rows[: found["findings"]]]
        show(columns[: len(cells[0])], cells, title)
        print(f"{found['note']}\n" if found["note"] else "")
        table += [(title, *rows[0][1:]), *rows[1:]]
    if not given:
        disk.write(out, "reproductions.md", markdown(table).encode())
    differing = sum(bool(row[-1]) for row in table)
    print(f"figures: {out}" + (f"; {differing} of the numbers above do not hold" if differing else ""))
    return 0


def _found(name: str, out: Path) -> dict[str, Any]:
    """Runs one, and writes its figure and what it found."""
    from simulator import disk
    from simulator.report.figures import rendered

    found, seconds = reproduce(name)
    told = {"rows": lines(name, found), "findings": len(found.findings), "note": found.note, "seconds": seconds}
    disk.write(out, f"{name}.png", rendered(found.figure, "png"))
    disk.write(out, f"{name}.json", json.dumps(told, indent=1).encode())
    return told


command = Command(
    "published figures again: published, theory, ours, and the figure",
    arguments,
    lambda options: reproduce_all(options.names, Path(options.out), options.joined),
    parts=parts,
)
