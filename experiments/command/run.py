"""`genloss run`: an experiment, driven to its end, shown while it goes on, and drawn."""

from __future__ import annotations

import argparse
from typing import Any

from experiments.command import devices, shared
from experiments.command.command import Command
from experiments.command.loading import Experiment
from experiments.command.numbers import near
from experiments.command.rates import elsewhere
from experiments.command.reproduce import names as reproducible


def arguments(sub: argparse.ArgumentParser) -> None:
    shared.running(sub)
    shared.experiment(sub)


def run(options: argparse.Namespace) -> int:
    return go(Experiment.load(options), options)


def go(experiment: Experiment, options: argparse.Namespace) -> int:
    """Runs it, or, with --dry-run, says what that would cost."""
    return _estimate(experiment, options) if options.dry_run else _go(experiment, options)


def _go(experiment: Experiment, options: argparse.Namespace) -> int:
    from experiments.command.live import Display
    from experiments.command.summary import print_table
    from experiments.command.tracking import Tracking
    from simulator import run, theory
    from simulator.numerics.processes import leads
    from simulator.report import page

    store, mesh = experiment.store, devices.mesh(options)

    def drive(report: Any = None) -> Any:
        return run(
            experiment.subject,
            experiment.key,
            experiment.generations,
            store,
            replicates=experiment.replicates,
            every=experiment.every,
            save_seconds=options.save_seconds,
            report=report,
            mesh=mesh,
        )

    if mesh is not None and not leads():  # of several processes the first shows and draws
        drive()
        return 0
    with Tracking(options.track, experiment, store) as tracking:
        with Display(experiment, store) as display:
            tracking.show(drive(lambda progress: (display.report(progress), tracking.report(progress))))
        laws = theory.keep(store, experiment.subject)
        if options.no_page:
            return 0
        print_table(store.records(), store.ceiling(), laws, display.console)
        where = store.path / "report" / "index.html"
        if display.worked or not where.exists():
            where = page.write(store, laws)
        tracking.figures()
    print(f"figures: {near(where.parent / 'decay.png')}\npage:    {near(where)}")
    if experiment.name in reproducible():
        print(f"the published figure: genloss reproduce {experiment.name}")
    return 0


def _estimate(experiment: Experiment, options: argparse.Namespace) -> int:
    from simulator.numerics.processes import leads
    from simulator.running.estimate import estimate

    e = experiment
    cost = estimate(e.subject, e.key, e.generations, e.replicates, e.every, devices.mesh(options))
    if leads():
        there = elsewhere(e.chain, e.generations, int(cost["chains"].partition(",")[0]))
        for name, value in {**cost, **there, "folder": near(e.store.path)}.items():
            print(f"{name:<28}{value}")
    return 0


command = Command("run an experiment, or go on with it", arguments, run, takes_fields=True)
