"""`genloss report`: what runs' folders hold, as figures and as a page; or the page, served while they go on."""

from __future__ import annotations

import argparse
import shlex
from typing import Any

from experiments.command import shared
from experiments.command.command import Command
from experiments.command.loading import trusted
from experiments.command.numbers import near, place, whole


def arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "runs", nargs="+", type=place, metavar="RUN", help="a run's folder, or a league's; several runs are compared"
    )
    sub.add_argument("--to", type=place, metavar="FILE.html", help="of the page (default: in the first run's report/)")
    sub.add_argument("--live", action="store_true", help="rather serve the page to this machine while runs go on")
    sub.add_argument("--port", type=whole(0, 65535), default=0, metavar="P", help="of --live (default: a free one)")
    shared.trust(sub)


def report(options: argparse.Namespace) -> int:
    from pathlib import Path

    from simulator import GenlossError, Store, disk
    from simulator.report import page
    from simulator.report.web import filled, told

    stores = [Store(run) for run in options.runs]
    if len({store.path.resolve() for store in stores}) < len(stores):
        raise GenlossError("A run was given twice; leave one of them out.")
    command = shlex.join(["genloss", "report", *options.runs, *(["--live"] if options.live else [])])
    if options.live:
        from experiments.command.serving import serve

        for store in stores:
            store.about()  # refuses what is no run
        serve(stores, command, options.port)
        return 0
    if len(stores) == 1 and not Path(options.runs[0], "chain.json").exists():
        folder = Path(options.runs[0]).absolute()
        if (of := told.of_results(folder, command)) is not None:  # of a league or a plan
            to = Path(options.to).absolute() if options.to else folder / "report.html"
            print(near(disk.write(to.parent, to.name, filled.page(of).encode())))
            return 0
    laws = [_laws(store, options) for store in stores]
    if len(stores) == 1 and options.to is None:
        print(near(page.write(stores[0], laws[0], command)))
        return 0
    text = filled.page(told.of_runs(stores, laws, command)).encode()
    if options.to is None:
        print(near(stores[0].write("report/compared.html", text)))
    else:
        to = Path(options.to).absolute()
        print(near(disk.write(to.parent, to.name, text)))
    return 0


def _laws(store: Any, options: argparse.Namespace) -> Any:
    """Those kept with a run; computed, and kept, where its code is trusted."""
    from simulator import theory

    trust = trusted(store.about(), options.trust, options.code)
    return theory.keep(store, store.chain(trust)) if trust else theory.kept(store)


command = Command("draw runs: figures and a page, or the page served while they go on", arguments, report)
