"""Arguments that several verbs take."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.command.numbers import KEYS, number, place, whole

KINDS = ("png", "svg", "pdf")  # of figures
TRACKERS = ("trackio", "wandb", "mlflow", "tensorboard")


def run_folder(sub: argparse.ArgumentParser, what: str = "the run's folder") -> None:
    """The run that is read."""
    sub.add_argument("run", type=place, metavar="RUN", help=what)


def figure(sub: argparse.ArgumentParser) -> None:
    """Where a figure is written, if it is."""
    sub.add_argument("--figure", type=place, metavar="FILE", help=f"draw it: a name that ends in .{', .'.join(KINDS)}")


def drawing(file: str | None) -> Callable[[Any], Path] | None:
    """What writes a figure to a file of that name, which is checked at once; None where none is asked for."""
    from simulator import GenlossError, disk
    from simulator.report.figures import rendered

    if file is None:
        return None
    path = Path(file)
    kind = path.suffix[1:].lower()
    if kind not in KINDS:
        raise GenlossError(f"--figure writes .{', .'.join(KINDS)}; it was given '{file}'.")
    return lambda drawn: disk.write(path.absolute().parent, path.name, rendered(drawn, kind))


def new_file(name: str | None, flag: str, kinds: Sequence[str]) -> Path:
    """The file to be written, of a name that ends in one of the kinds; what is there is not written over."""
    from simulator import GenlossError

    if name is None or Path(name).suffix.lower() not in kinds:
        given = "" if name is None else f"; it was given '{name}'"
        raise GenlossError(f"{flag} takes the file to write, a name that ends in {', '.join(kinds)}{given}.")
    file = Path(name).expanduser().absolute()
    if os.path.lexists(file):
        raise GenlossError(f"{file} is there already; choose another name for {flag}.")
    return file


def trust(sub: argparse.ArgumentParser) -> None:
    """What verbs share that build the chain of a run, which somebody else may have made."""
    sub.add_argument("--trust", action="store_true", help="import whatever code the run names")
    sub.add_argument(
        "--code", type=place, metavar="FILE.py", help="your own file that the run was made with, and no other code"
    )


def which_model(sub: argparse.ArgumentParser, of_run: str = "") -> None:
    """One of the models of a run."""
    sub.add_argument("--generation", type=whole(), metavar="K", help=f"{of_run}which generation (default: the last)")
    sub.add_argument("--setting", metavar="NAME", help=f"{of_run}which setting of a sweep (default: the first)")
    sub.add_argument("--replicate", type=whole(), default=0, metavar="R", help=f"{of_run}which replicate (default: 0)")


def experiment(sub: argparse.ArgumentParser) -> None:
    """What is run, and how much of it."""
    sub.add_argument("experiment", metavar="NAME|FILE.py", help="an experiment's name, or your own file")
    sub.add_argument("--preset", metavar="NAME", help="another size of the experiment, one of its `presets`")
    sub.add_argument("--replicates", type=whole(1), metavar="R", help="chains per setting, each with its own key")
    sub.add_argument("--seed", type=whole(0, KEYS), default=0, metavar="S", help="the root key (default: 0)")
    sub.add_argument("--every", type=whole(1), metavar="K", help="generations per checkpoint")
    sub.add_argument("--dry-run", action="store_true", help="what it would cost, without running it")


def running(sub: argparse.ArgumentParser) -> None:
    """How far and where a run goes on."""
    sub.add_argument("--generations", type=whole(1), metavar="N", help="fits in all")
    sub.add_argument("--out", type=place, metavar="DIR", help="the run's folder (default: runs/NAME-SIGNATURE)")
    sub.add_argument("--save-seconds", type=number(0), default=60.0, metavar="S", help="between saves in a fit")
    sub.add_argument(
        "--track", choices=TRACKERS, help="log to this tracker, too, in OUT/track/ unless it is told otherwise"
    )
    sub.add_argument("--no-page", action="store_true", help="draw nothing; `genloss report` does it later")
    sub.add_argument(
        "--mesh",
        metavar="CHAINxBATCH",
        help="devices that share the chains, and that share each minibatch, such as 8x1",
    )
    sub.add_argument(
        "--processes",
        metavar="HOST:PORT,N,I",
        help="be process I of N that share the mesh, the first at HOST:PORT; 'auto' asks the environment (SLURM, MPI)",
    )


def image_sets(sub: argparse.ArgumentParser) -> None:
    """What verbs that read image sets share.  They end with 1 where something was left out, with 2 if refused."""
    sub.add_argument("--skip-broken", action="store_true", help="leave out what cannot be read, and end with 1")
    sub.add_argument("--split", metavar="NAME", help="of the real set (default: train, where there are several)")
    sub.add_argument("--synthetic-split", metavar="NAME", help="of the other set")
    sub.add_argument("--label", metavar="COLUMN", help="of the real set, where parquet has several labels")
