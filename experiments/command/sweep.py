"""`genloss sweep`: an experiment at several values of one field."""

from __future__ import annotations

import argparse

from experiments.command import shared
from experiments.command.command import Command
from experiments.command.loading import Experiment, swept
from experiments.command.run import go


def arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--over", metavar="FIELD=V1,V2,...", help="the field and its values")
    shared.running(sub)
    shared.experiment(sub)


def sweep(options: argparse.Namespace) -> int:
    from simulator import GenlossError, Sweep
    from simulator.running.spec import leaves, unknown

    experiment = Experiment.load(options, own_sweep=False)
    path, equals, text = (options.over or "").partition("=")
    if not equals:
        raise GenlossError("Say which field to sweep and over what: --over recipe.real=0,0.1,0.5.")
    fields = {leaf.path: leaf.value for leaf in leaves(experiment.chain)}
    if path not in fields:
        raise GenlossError(unknown(path, list(fields), "The chain has no field"))
    values = swept(path, fields[path], text)
    experiment.subject = Sweep(experiment.chain, path, {f"{path}={name}": value for name, value in values.items()})
    return go(experiment, options)


command = Command("run an experiment at several values of one field", arguments, sweep, takes_fields=True)
