"""`genloss list`: experiments and metrics, read from their files without importing anything."""

from __future__ import annotations

import argparse
import ast
import json
from pathlib import Path
from typing import Any, NamedTuple

from experiments.command.command import Command
from experiments.command.loading import files
from experiments.command.numbers import Refused

PARTS = ("metric", "what it is", "unit", "direction", "cost")  # of a line of a probe's docstring


def arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("what", nargs="?", choices=["experiments", "metrics"], default="experiments")
    sub.add_argument("name", nargs="?", metavar="NAME", help="all that is known of one")
    sub.add_argument("--json", action="store_true", help="as data")


def listed(options: argparse.Namespace) -> int:
    if options.what == "metrics":
        return _metrics(options)
    texts = experiments()
    if options.name is not None and options.name not in texts:
        from simulator.running.spec import unknown

        raise Refused(unknown(options.name, list(texts), "There is no experiment"))
    chosen = [options.name] if options.name else list(texts)
    told = {name: described(texts[name]) for name in chosen}
    if options.json:
        print(
            json.dumps({n: {**told[n]._asdict(), "measured": measured(n), "text": texts[n]} for n in chosen}, indent=1)
        )
    elif options.name:
        print(texts[options.name])
        for words, found in measured(options.name).items():
            verb, _, more = words.partition(" ")
            print(f"\ngenloss {f'{verb} {options.name} {more}'.strip()}: {', '.join(_said(found))}")
    else:
        _print_experiments(told)
    return 0


def experiments() -> dict[str, str]:
    """Name -> docstring of every experiment, read without importing it."""
    return {name: ast.get_docstring(ast.parse(file.read_text())) or "" for name, file in sorted(files().items())}


def measured(name: str) -> dict[str, dict[str, Any]]:
    """What an experiment's file says was measured: command -> seconds, on what, when; read without importing it."""
    for node in ast.parse(files()[name].read_text()).body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["measured"]:
            return ast.literal_eval(node.value)
    return {}


class Asked(NamedTuple):
    question: str
    paper: str


def described(text: str) -> Asked:
    """What an experiment's docstring begins with."""
    question, _, paper = " ".join(text.partition("\n\n")[0].split()).partition("?")
    return Asked(f"{question}?", paper.strip(" ()."))


def duration(seconds: float, of: str = "") -> str:
    return f"{seconds:g} {of}s" if seconds < 600 else f"{seconds / 60:.3g} {of}min"


def took(found: dict[str, Any]) -> str:
    """How long it took: by the clock, or, where other work went on beside it, of its processors."""
    return duration(found["seconds"]) if "seconds" in found else duration(found["cpu_seconds"], "CPU ")


def _said(found: dict[str, Any]) -> list[str]:
    """What was measured, in words."""
    return [took(found), *(str(value) for key, value in found.items() if not key.endswith("seconds"))]


def _print_experiments(told: dict[str, Asked]) -> None:
    from experiments.command.tables import Column, show

    columns = (
        Column("experiment"),
        Column("run", right=True),
        Column("reproduce", right=True),
        Column("question", prose=True),
        Column("paper", prose=True, spare=True),
    )
    rows = []
    for name, said in told.items():
        known = measured(name)
        rows.append((name, *(took(known[verb]) if verb in known else "" for verb in ("run", "reproduce")), *said))
    show(columns, rows)
    print("\nAll of one: genloss list experiments NAME")


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


def _metrics(options: argparse.Namespace) -> int:
    from experiments.command.tables import Column, show

    known = [
        {"probe": probe, **dict(zip(PARTS, row, strict=True))} for probe, rows in metrics().items() for row in rows
    ]
    name: str | None = options.name
    chosen = [m for m in known if name in (None, m["probe"], m["metric"], f"{m['probe']}.{m['metric']}")]
    if name and not chosen:  # as records call it: a name that an experiment gave, and the metric
        chosen = [m for m in known if m["metric"] == name.partition(".")[2]]
    if name and not chosen:
        from simulator.running.spec import unknown

        raise Refused(unknown(name, list(metrics()), "There is no probe and no metric"))
    if options.json:
        print(json.dumps(chosen, indent=1))
    elif name:
        for i, metric in enumerate(chosen):
            print("\n" * bool(i) + f"{metric['probe']}: {metric['metric']}")
            print("\n".join(f"  {part:<12}{metric[part]}" for part in PARTS[1:]))
    else:
        columns = (
            Column("probe"),
            Column("metric"),
            Column("what it is", prose=True, cut=True),
            *(Column(part, spare=True) for part in PARTS[2:]),
        )
        show(columns, [[m[column] for column in ("probe", *PARTS)] for m in chosen])
        print("\nAll of one: genloss list metrics NAME, of a probe or a metric")
    return 0


command = Command("the experiments there are, or the metrics that probes give", arguments, listed, light=True)
