"""`genloss show`: what a run's folder holds, as numbers."""

from __future__ import annotations

import argparse

from experiments.command import shared
from experiments.command.command import Command


def show(options: argparse.Namespace) -> int:
    from experiments.command.live import print_table
    from simulator import Store, theory
    from simulator.report.names import plain

    store = Store(options.run)
    about, records = store.about(), store.records()
    steps = store.steps()
    done = f"{steps[-1] + 1 if steps else 0} of {about['generations']} generations"
    print(plain(f"{store.path.name}: {done}, on {about['device']}"))
    print_table(records, store.ceiling(), theory.kept(store))
    return 0


command = Command("the figures of a run, as numbers", shared.run_folder, show)
