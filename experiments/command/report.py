"""`genloss report`: what a run's folder holds, as figures and as a page."""

from __future__ import annotations

import argparse

from experiments.command import shared
from experiments.command.command import Command
from experiments.command.loading import trusted
from experiments.command.numbers import near


def arguments(sub: argparse.ArgumentParser) -> None:
    shared.run_folder(sub)
    shared.trust(sub)


def report(options: argparse.Namespace) -> int:
    from simulator import Store, theory
    from simulator.report import page

    store = Store(options.run)
    trust = trusted(store.about(), options.trust, options.code)
    laws = theory.keep(store, store.chain(trust)) if trust else theory.kept(store)
    print(near(page.write(store, laws)))
    return 0


command = Command("draw a run: figures and a page", arguments, report)
