"""`genloss list`: experiments and metrics, read from docstrings without importing anything."""

from __future__ import annotations

import argparse
import ast
import re
from pathlib import Path

from experiments.command.command import Command
from experiments.command.loading import files


def experiments() -> dict[str, str]:
    """Name -> docstring of every experiment, read without importing it."""
    return {name: ast.get_docstring(ast.parse(file.read_text())) or "" for name, file in sorted(files().items())}


def described(text: str) -> tuple[str, str, tuple[str, str]]:
    """(question, paper, measured times of `genloss run` and `genloss reproduce`) of an experiment's docstring."""
    head, _, rest = text.partition("\n\n")
    question, _, paper = " ".join(head.split()).partition("?")
    own, _, published = rest.partition("genloss reproduce")
    said = r"[\d,.]+ (?:s|min)(?=\. Result)|(?<=CPU cores[,:] )[\d.]+ (?:s|min)"  # "14 s.  Result", "CPU cores: 3 min"
    run, reproduce = (re.search(said, " ".join(part.split())) for part in (own, published))
    return f"{question}?", paper.strip(" ()."), (run[0] if run else "", reproduce[0] if reproduce else "")


def print_experiments() -> int:
    """`genloss list`."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("experiment", "question", "paper"):
        table.add_column(column)
    table.add_column("run", justify="right", no_wrap=True)
    table.add_column("reproduce", justify="right", no_wrap=True)
    for name, text in experiments().items():
        question, paper, (run, reproduce) = described(text)
        table.add_row(name, question, paper, run, reproduce)
    Console(markup=False).print(table)
    return 0


def metrics() -> dict[str, list[list[str]]]:
    """Probe -> its metrics as its docstring gives them: name, what it is, unit, direction, cost."""
    found: dict[str, list[list[str]]] = {}
    for file in sorted((Path(__file__).parents[2] / "simulator" / "probes").glob("*.py")):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef):
                lines = (ast.get_docstring(node) or "").splitlines()
                rows = [[part.strip() for part in line.split(" | ")] for line in lines if line.count(" | ") == 4]
                if rows:
                    found[node.name] = rows
    return found


def print_metrics() -> int:
    """`genloss list metrics`."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("probe", "metric", "what it is", "unit", "direction", "cost"):
        table.add_column(column, no_wrap=column in ("probe", "metric"))
    for probe, rows in metrics().items():
        for i, row in enumerate(rows):
            table.add_row("" if i else probe, *row)
        table.add_section()
    Console(markup=False).print(table)
    return 0


def arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("what", nargs="?", choices=["experiments", "metrics"], default="experiments")


command = Command(
    "the experiments there are, or the metrics that probes give",
    arguments,
    lambda options: print_metrics() if options.what == "metrics" else print_experiments(),
    light=True,
)
