"""`genloss compare`: runs beside each other, and by how much each differs from the first."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.command import shared
from experiments.command.command import Command
from experiments.command.loading import stored_runs
from experiments.command.numbers import near, number, place, whole


def arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("runs", type=place, nargs="+", metavar="RUN", help="runs' folders; the first is the reference")
    sub.add_argument("--metric", nargs="+", action="extend", metavar="M", help="measures (default: the headlines)")
    sub.add_argument(
        "--generation", type=whole(), metavar="K", help="this one alone (default: the last shared; as data, every one)"
    )
    sub.add_argument("--confidence", type=number(), default=0.95, metavar="P", help="of intervals (default: 0.95)")
    shared.figure(sub)
    form = sub.add_mutually_exclusive_group()
    form.add_argument("--format", choices=("text", "csv", "latex"), default="text", help="of the table (default: text)")
    form.add_argument("--json", action="store_true", help="as data")


def compare(options: argparse.Namespace) -> int:
    from simulator import GenlossError
    from simulator.analysis import compare as analysis
    from simulator.report import beside, figures
    from simulator.running.spec import unknown

    draw = shared.drawing(options.figure)
    runs = stored_runs(options.runs)
    pairs, known, common = analysis.pairs(runs), analysis.measures(runs), analysis.generations(runs)
    metrics = list(dict.fromkeys(options.metric or figures.shown(known)))
    for metric in metrics:
        if metric not in known:
            raise GenlossError(unknown(metric, known, "These runs share no measure"))
    if options.generation not in (None, *common):
        raise GenlossError(
            f"The last generation that all of these runs have is {common[-1]}, not {options.generation}."
        )
    found = analysis.differences(pairs, metrics, common, options.confidence)
    if draw:
        draw(beside.drawn(pairs, found, options.confidence))
    whole_run = options.generation is None and (options.json or options.format == "csv")
    at = common[-1] if options.generation is None else options.generation
    rows = found if whole_run else found[found["generation"] == at]
    notes = _notes(pairs, common, at, options.confidence)
    if options.json:
        lines = [
            {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}  # JSON has no NaN
            for row in rows.to_dict("records")
        ]
        print(json.dumps({"confidence": options.confidence, "notes": notes, "values": lines}, indent=1))
    else:
        {"text": _text, "csv": _csv, "latex": _latex}[options.format](rows, notes)
    if options.figure and options.format == "text" and not options.json:
        print(f"figure: {near(Path(options.figure).absolute())}")
    return 0


def _notes(pairs: Sequence[Any], common: Sequence[int], at: int, level: float) -> list[str]:
    """What the numbers are: a sentence on all, and one for each run on how it was compared."""
    reference = pairs[0].reference
    notes = [
        f"Generation {at}, of 0 to {common[-1]} that all have; differences to {reference.name}, with their "
        f"{100 * level:g} % intervals, each by itself."
    ]
    for pair in {pair.run.name: pair for pair in reversed(pairs)}.values():
        a, b = ({*run.records["replicate"]} for run in (pair.run, reference))
        if pair.paired:
            n, both = len(a & b), " that both have" if a != b else ""
            said = f"paired, {n} replicate{'s' * (n != 1)} of the same keys{both}"
        else:
            n, said = min(len(a), len(b)), f"unpaired, {len(a)} and {len(b)} replicates of other keys"
        if n < 2:
            said += ", too few for an interval"
        if (last := pair.together(common)) is not None:
            said += f"; one run up to generation {last}"
        notes.insert(1, f"{pair.run.name}: {said}.")
    return notes


def _table(rows: Any) -> tuple[list[str], list[list[str]]]:
    """(heads, lines) of a table: names, and numbers of three digits; no settings where there are none."""
    from simulator.report.figures import HEADLINES

    ends = lambda value: "" if math.isnan(value) else f"{value:+.3g}"  # noqa: E731
    columns = {
        "measure": rows["metric"].map(lambda metric: HEADLINES.get(metric, metric)),
        "run": rows["run"],
        "setting": rows["setting"],
        "reference": rows["reference_value"].map("{:.3g}".format),
        "value": rows["value"].map("{:.3g}".format),
        "difference": rows["difference"].map("{:+.3g}".format),
        "low": rows["low"].map(ends),
        "high": rows["high"].map(ends),
    }
    kept = {head: column for head, column in columns.items() if head != "setting" or any(column)}
    return list(kept), [list(map(str, line)) for line in zip(*kept.values(), strict=True)]


def _text(rows: Any, notes: Sequence[str]) -> None:
    from rich.console import Console
    from rich.text import Text

    from experiments.command.tables import Column, show
    from simulator.report.names import plain

    heads, lines = _table(rows)
    before = None
    for line in lines:  # a measure is named once
        before, line[0] = line[0], "" if line[0] == before else line[0]
    columns = [Column(head, right=head not in ("measure", "run", "setting")) for head in heads]
    show(columns, [[plain(cell) for cell in line] for line in lines])
    console = Console()
    for note in notes:
        console.print(Text(plain(note)), style="dim", soft_wrap=not console.is_terminal, highlight=False)


def _csv(rows: Any, notes: Sequence[str]) -> None:
    from simulator.report.names import plain

    names = {name: rows[name].map(plain) for name in ("metric", "run", "setting", "reference")}
    print(rows.assign(**names).to_csv(index=False), end="")


def _latex(rows: Any, notes: Sequence[str]) -> None:
    """For booktabs; how the numbers came about is in comments."""
    from simulator.report.names import in_tex, plain

    def number(cell: str) -> str:
        digits, e, power = cell.partition("e")
        return f"${digits}" + (rf" \cdot 10^{{{int(power)}}}$" if e else "$") if cell else ""

    heads, lines = _table(rows)
    names = len(heads) - 5
    print("\n".join(f"% {plain(note)}" for note in notes))
    print(f"\\begin{{tabular}}{{{'l' * names}rrrrr}}\n\\toprule\n{' & '.join(heads)} \\\\\n\\midrule")
    for line in lines:
        print(" & ".join([*map(in_tex, line[:names]), *map(number, line[names:])]), "\\\\")
    print("\\bottomrule\n\\end{tabular}")


command = Command("runs beside the first of them: differences with intervals, a table, a figure", arguments, compare)
