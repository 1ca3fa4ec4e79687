"""Published figures, reproduced: every experiment with a `reproduce` function, in one table.

    genloss reproduce [NAME ...] [--out DIR]

(`python -m experiments.reproductions` is the same.)  For each it prints *published, theory, ours ± standard error*, and
writes the figure (NAME.png) and, when all are run, the table (reproductions.md) to DIR, by default `reproductions`.  A
value that does not come out is marked.
"""

from __future__ import annotations

import importlib
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Finding:
    """One number of a paper, beside the law's and ours.

    It is held to the theory within `sigmas` standard errors of ours where a theory is known, else to the published
    number within `within`, the relative tolerance at which that is stated.
    """

    what: str
    published: float | str | None  # as printed in the paper; None where it has only a curve
    theory: float | None  # the closed form at the same parameters
    ours: float
    error: float  # standard error of ours; 0 where it is exact
    within: float = 0.0  # relative tolerance, beside the standard error
    sigmas: float = 4.5

    @classmethod
    def of_mean(
        cls, what: str, published: float | str | None, theory: float | None, samples: Any, **tolerance: float
    ) -> Finding:
        """From independent replicates [replicates]."""
        samples = np.asarray(samples, np.float64)
        error = samples.std(ddof=1) / math.sqrt(len(samples))
        return cls(what, published, theory, float(samples.mean()), float(error), **tolerance)

    @property
    def holds(self) -> bool:
        """Whether ours agrees with the theory, or, where there is none, with the published number."""
        aim = self.theory if self.theory is not None else self.published
        if not isinstance(aim, int | float):
            return math.isfinite(self.ours)
        return abs(self.ours - aim) <= self.sigmas * self.error + self.within * abs(aim)


@dataclass(frozen=True)
class Reproduction:
    """What an experiment's `reproduce()` returns: its findings, and the paper's figure with the theory in it."""

    findings: Sequence[Finding]
    figure: Figure


def names() -> list[str]:
    """Experiments that reproduce a published figure, found without importing them."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return [f.stem for f in files if "\ndef reproduce(" in f.read_text() and f.stem != Path(__file__).stem]


def reproduce(name: str) -> tuple[Reproduction, float]:
    """Runs one; and the seconds it took, compiling included."""
    module: Any = importlib.import_module(f"experiments.{name}")
    started = time.perf_counter()
    return module.reproduce(), time.perf_counter() - started


HEAD = ("experiment", "", "published", "theory", "ours", "")


def lines(name: str, found: Reproduction) -> list[tuple[str, ...]]:
    """The rows of the table, one for each finding."""
    return [
        (name if i == 0 else "", f.what, *_numbers(f), "" if f.holds else "does not hold")
        for i, f in enumerate(found.findings)
    ]


def _numbers(finding: Finding) -> tuple[str, str, str]:
    published = finding.published if finding.published is not None else ""
    error = f" ± {finding.error:.1g}" if finding.error else ""
    digits = 4
    if finding.error and finding.ours:  # as many digits as the error leaves
        digits = min(5, max(2, 2 + math.ceil(math.log10(abs(finding.ours) / finding.error))))
    return (
        str(published),
        "" if finding.theory is None else f"{finding.theory:.5g}",
        f"{finding.ours:.{digits}g}{error}",
    )


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """The table as README shows it."""
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
    Console().print(table)


def reproduce_all(chosen: Sequence[str], out: Path) -> int:
    """Runs the chosen ones, or all, prints what each found, and writes figures and table."""
    from simulator import GenlossError, disk
    from simulator.report.figures import rendered
    from simulator.spec import unknown

    known = names()
    for name in chosen:
        if name not in known:
            raise GenlossError(unknown(name, known, "There is no reproduction"))
    disk.folder(out)
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
    print(f"figures: {out}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    from experiments import cli

    return cli.main(["reproduce", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    sys.exit(main())
