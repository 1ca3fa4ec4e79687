"""`genloss fork`: on from a generation of a run, with another recipe."""

from __future__ import annotations

import argparse
import dataclasses

from experiments.command import shared
from experiments.command.command import Command
from experiments.command.loading import Experiment, overridden, trusted
from experiments.command.numbers import whole
from experiments.command.run import go


def arguments(sub: argparse.ArgumentParser) -> None:
    shared.running(sub)
    shared.run_folder(sub)
    shared.trust(sub)
    sub.add_argument("--at", type=whole(), metavar="K", help="the last generation both share")
    sub.set_defaults(dry_run=False)


def fork(options: argparse.Namespace) -> int:
    from simulator import GenlossError, Store, Sweep
    from simulator.numerics.processes import alone
    from simulator.running import spec

    parent = Store(options.run)
    about = parent.about()
    trust = trusted(about, options.trust, options.code)
    stored = parent.chain(trust)
    chain, given = overridden(getattr(stored, "chain", stored), options.fields, "genloss fork", options.usage)
    if isinstance(stored, Sweep) and given & set(stored.paths):
        raise GenlossError(f"{parent.path} sweeps {stored.path}, and so does its fork; change another field.")
    if options.at is None or options.out is None:
        raise GenlossError("A fork needs --at K, the last generation both runs share, and --out DIR, its folder.")
    generations = about["generations"] if options.generations is None else options.generations
    if generations <= options.at + 1:
        raise GenlossError(f"A fork at generation {options.at} has nothing left to do; raise --generations.")
    subject = dataclasses.replace(stored, chain=chain) if isinstance(stored, Sweep) else chain
    run, name = about["run"], about.get("experiment") or "fork"
    alone(lambda: parent.fork(options.at, options.out, subject, trust))
    store = Store(options.out)
    key = spec.decode(run["key"])
    return go(Experiment(name, subject, generations, run["replicates"], run["every"], key, store), options)


command = Command("go on from a generation of a run with another recipe", arguments, fork, takes_fields=True)
