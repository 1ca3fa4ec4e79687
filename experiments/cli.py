"""The `genloss` command.  Heavy imports stay inside the verbs that need them, so that help answers at once."""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Callable, Sequence

from experiments.command import (
    audit,
    bundle,
    compare,
    compare_data,
    contaminate,
    devices,
    engines,
    export,
    figure,
    forecast,
    fork,
    heal,
    league,
    listing,
    parts,
    plan,
    records,
    report,
    reproduce,
    rows,
    run,
    scaling,
    show,
    sweep,
    synthesize,
    table,
    verify,
)
from experiments.command.failures import told
from experiments.command.numbers import Parser, Refused
from experiments.command.stopping import STOPPED, interruptible, stopped

COMMANDS = {
    "list": listing.command,
    "run": run.command,
    "sweep": sweep.command,
    "plan": plan.command,
    "scaling": scaling.command,
    "forecast": forecast.command,
    "fork": fork.command,
    "heal": heal.command,
    "league": league.command,
    "show": show.command,
    "report": report.command,
    "compare": compare.command,
    "figure": figure.command,
    "table": table.command,
    "records": records.command,
    "rows": rows.command,
    "reproduce": reproduce.command,
    "export": export.command,
    "bundle": bundle.command,
    "verify": verify.command,
    "synthesize": synthesize.command,
    "contaminate": contaminate.command,
    "compare-data": compare_data.command,
    "audit": audit.command,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; 0 done, 1 the run failed, 2 bad input, 130 stopped by Ctrl-C."""
    try:
        with interruptible(for_good=argv is None):
            code = _main(list(sys.argv[1:] if argv is None else argv))
            sys.stdout.flush()
        return STOPPED if stopped() else code
    except Refused as error:
        print(f"genloss: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read has gone, as `| head` does; what is left in the buffer has no reader either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _main(words: list[str]) -> int:
    parser, verbs = _parsers()
    verb = words[0] if words and words[0] in COMMANDS else None
    if verb and COMMANDS[verb].takes_fields and words[1:] in (["-h"], ["--help"]):  # of no chain
        verbs[verb].print_help()
        return 0
    options, options.fields = parser.parse_known_args(words)
    command = COMMANDS.get(options.command)
    if options.fields and not (command and command.takes_fields):
        parser.error(f"unrecognized arguments: {' '.join(options.fields)}")
    if command is None:
        parser.print_help()
        return 0
    if command.parts is not None and options.engine != engines.HERE and not getattr(options, "dry_run", False):
        return parts.drive(options, words)
    options.usage = verbs[options.command].format_help() if command.takes_fields and options.help else None
    if command.parts is not None and options.parts:
        return _guarded(functools.partial(parts.write, parts=command.parts), options)
    return command.work(options) if command.light else _guarded(command.work, options)


def _parsers() -> tuple[Parser, dict[str, argparse.ArgumentParser]]:
    """Of the whole, and of each verb."""
    parser = Parser(
        prog="genloss",
        description="Generation Loss: train a model on what the last one said, again and again, and see what is lost.",
    )
    parser.add_argument("--version", action="version", version=f"genloss {_version()}")
    parsers, verbs = parser.add_subparsers(dest="command", metavar="COMMAND"), {}
    for name, command in COMMANDS.items():
        text, fields = command.text, command.takes_fields
        sub = parsers.add_parser(name, help=text, description=text, allow_abbrev=False, add_help=not fields)
        devices.arguments(sub)
        if fields:
            sub.add_argument("-h", "--help", action="store_true", help="this help, with every field of the chain")
        command.arguments(sub)
        if command.parts is not None:
            engines.arguments(sub)
        verbs[name] = sub
    return parser, verbs


def _version() -> str:
    import importlib.metadata

    try:
        return importlib.metadata.version("genloss")
    except importlib.metadata.PackageNotFoundError:  # run from its folder, as on a machine that can install nothing
        return "not installed"


def _guarded(work: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    """What goes wrong is one sentence."""
    devices.prepare_jax(options.cache, options.memory)
    import warnings

    warnings.showwarning = lambda message, *_, **__: print(f"genloss: {message}", file=sys.stderr)
    try:
        devices.join(getattr(options, "processes", None))
        return work(options)
    except Exception as error:
        if (found := told(error)) is None:
            raise
        code, sentence = found
        print(f"genloss: {sentence}", file=sys.stderr)
        return code


if __name__ == "__main__":
    sys.exit(main())
