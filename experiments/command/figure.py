"""`genloss figure`: what runs measured, drawn for a paper."""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments.command import shared
from experiments.command.command import Command
from experiments.command.loading import chosen, stored_runs
from experiments.command.numbers import length, near, number, place


def arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("runs", type=place, nargs="+", metavar="RUN", help="runs' folders; each of their settings a line")
    sub.add_argument("--metric", nargs="+", action="extend", metavar="M", help="a panel each (default: the headlines)")
    sub.add_argument("--width", type=length, default=84 / 25.4, metavar="W", help="such as 84mm or 3.3in (84mm)")
    sub.add_argument("--height", type=length, metavar="H", help="(default: what the panels need)")
    sub.add_argument("--format", choices=shared.KINDS, help="(default: what FILE ends in, else pdf)")
    sub.add_argument("--style", type=place, metavar="FILE.mplstyle", help="how things look, over the project's own")
    sub.add_argument("--label", nargs="+", action="extend", metavar="NAME", help="what the lines are called, in order")
    sub.add_argument("--confidence", type=number(), default=0.95, metavar="P", help="of bands (default: 0.95)")
    sub.add_argument("--out", type=place, metavar="FILE", help="(default: the first run's name, here)")


def figure(options: argparse.Namespace) -> int:
    import matplotlib

    from simulator import GenlossError, Store, disk, theory
    from simulator.report import paper
    from simulator.report.figures import rendered
    from simulator.report.names import plain

    kinds = (options.format,) if options.format else shared.KINDS
    name = options.out or f"{Path(options.runs[0]).resolve().name}.{options.format or 'pdf'}"
    file = shared.new_file(name, "--out", [f".{kind}" for kind in kinds])
    if not 0 < options.confidence < 1:
        raise GenlossError(f"The confidence level is {options.confidence:g} and must lie between 0 and 1.")
    look = paper.style(None if options.style is None else Path(options.style).expanduser())
    runs, stores = stored_runs(options.runs), [Store(folder) for folder in options.runs]
    metrics = chosen(options.metric, runs)
    laws, ceilings = [theory.kept(store) for store in stores], [store.ceiling() for store in stores]
    lines = paper.lines(runs, laws, ceilings, options.label or ())
    with matplotlib.rc_context(look):
        drawn = paper.drawn(lines, metrics, options.width, options.height, options.confidence)
        data = rendered(drawn, file.suffix[1:].lower(), dpi=600)
    disk.write(file.parent, file.name, data)
    print(f"{near(file)}: {' x '.join(f'{25.4 * side:.4g}' for side in drawn.get_size_inches())} mm")
    print(plain(paper.caption(lines, metrics, options.confidence)))
    return 0


command = Command("what runs measured, drawn for a paper: as wide as a column, theory and bands", arguments, figure)
