"""`genloss table`: what runs measured, as a table for a paper."""

from __future__ import annotations

import argparse

from experiments.command.command import Command
from experiments.command.loading import chosen, stored_runs
from experiments.command.numbers import number, place, whole

FORMATS = ("markdown", "latex", "csv")


def arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("runs", type=place, nargs="+", metavar="RUN", help="runs' folders; each of their settings a line")
    sub.add_argument("--metric", nargs="+", action="extend", metavar="M", help="a column each (default: the headlines)")
    sub.add_argument(
        "--generation", type=whole(), nargs="+", action="extend", metavar="K", help="(default: the last that all have)"
    )
    sub.add_argument("--format", choices=FORMATS, default="markdown", help="(default: markdown)")
    sub.add_argument("--label", nargs="+", action="extend", metavar="NAME", help="what the lines are called, in order")
    sub.add_argument("--confidence", type=number(), default=0.95, metavar="P", help="of intervals (default: 0.95)")


def table(options: argparse.Namespace) -> int:
    from simulator import GenlossError, Store, theory
    from simulator.analysis.compare import generations
    from simulator.report import means, paper
    from simulator.report.names import plain

    if not 0 < options.confidence < 1:
        raise GenlossError(f"The confidence level is {options.confidence:g} and must lie between 0 and 1.")
    runs, stores = stored_runs(options.runs), [Store(folder) for folder in options.runs]
    metrics, common = chosen(options.metric, runs), generations(runs)
    at = list(dict.fromkeys(options.generation or common[-1:]))
    if missing := [t for t in at if t not in common]:
        raise GenlossError(f"The last generation that all of these runs have is {common[-1]}, not {missing[0]}.")
    laws, ceilings = [theory.kept(store) for store in stores], [store.ceiling() for store in stores]
    lines = paper.lines(runs, laws, ceilings, options.label or ())
    found = means.means(lines, metrics, at, options.confidence)
    if options.format == "csv":
        names = {name: found[name].map(plain) for name in ("metric", "line", "run", "setting")}
        print(found.assign(**names).to_csv(index=False), end="")
    else:
        said = means.note(found, common[-1], options.confidence)
        print({"markdown": means.markdown, "latex": means.latex}[options.format](found, said))
    return 0


command = Command("what runs measured, as a table for a paper: means with intervals, theory", arguments, table)
