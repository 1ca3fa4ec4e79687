"""`genloss show` and `genloss report`: what a run's folder holds, as numbers and as figures."""

from __future__ import annotations

import argparse

from experiments.command.loading import trusted
from experiments.command.numbers import near


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


def report(options: argparse.Namespace) -> int:
    from simulator import Store, theory
    from simulator.report import page

    store = Store(options.run)
    trust = trusted(store.about(), options.trust, options.code)
    laws = theory.keep(store, store.chain(trust)) if trust else theory.kept(store)
    print(near(page.write(store, laws)))
    return 0
