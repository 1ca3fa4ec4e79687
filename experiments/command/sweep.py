"""`genloss sweep`: an experiment at several values of its fields."""

from __future__ import annotations

import argparse
import shlex
import sys

from experiments.command import shared
from experiments.command.command import Command
from experiments.command.failures import told
from experiments.command.grid import Grid
from experiments.command.numbers import near
from experiments.command.parts import Part, Parts
from experiments.command.run import go

TRIED = 8  # runs that are timed, at most, to say what all cost


def arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--over",
        metavar="FIELD=V1,V2,...",
        action="append",
        help="a field and its values, of which every combination is run; also of `seed` and `preset`",
    )
    shared.running(sub)
    shared.experiment(sub)


def sweep(options: argparse.Namespace) -> int:
    """What can be one program is one; what cannot is runs of their own, in OUT/FIELD=VALUE,.../."""
    grid = _read(options)
    if not grid.apart:
        return go(grid.runs[0].experiment, options)
    if options.joined:
        return join(grid, {})
    print(_summary(grid))
    if options.dry_run:
        _estimate(grid)
        return 0
    failed = {}
    for run in grid.runs:
        if run.done:
            continue
        try:
            go(run.experiment, argparse.Namespace(**{**vars(options), "no_page": True}))
        except Exception as error:
            if (found := told(error)) is None:
                raise
            failed[run.name] = found[1]
            print(f"genloss: {run.name} failed: {found[1]}", file=sys.stderr)
    return join(grid, failed)


def parts(options: argparse.Namespace) -> Parts:
    """The runs that are missing."""
    grid = _read(options)
    missing = [
        Part(run.name, [*run.words, "--no-page"], holds=str(run.experiment.store.path))
        for run in grid.runs
        if not run.done
    ]
    return Parts(f"{grid.out}.logs", missing, some=bool(grid.apart), told=_summary(grid))


def _read(options: argparse.Namespace) -> Grid:
    from simulator import GenlossError

    grid = Grid.read(options)
    if options.processes and grid.apart:
        raise GenlossError(f"--processes share one run, and this sweep is {len(grid.runs)} of them; leave it out.")
    if grid.apart and (grid.out / "chain.json").exists():
        raise GenlossError(f"{grid.out} holds a run, and this sweep is {len(grid.runs)} of them; choose another --out.")
    return grid


def _summary(grid: Grid) -> str:
    """One line."""
    there = sum(run.done for run in grid.runs)
    settings = f" of {grid.settings} settings each, side by side" if grid.settings > 1 else ""
    ready = f"; {there} are done" if there else ""
    return f"{len(grid.runs)} runs{settings}, {grid.programs} to compile, in {near(grid.out)}{ready}"


def _estimate(grid: Grid) -> None:
    """Memory and time of the runs, or of some where there are many."""
    from experiments.command.listing import duration
    from experiments.command.tables import Column, show
    from simulator.running.estimate import cost, written

    n = len(grid.runs)
    some = [grid.runs[i] for i in sorted({round(i * (n - 1) / (TRIED - 1)) for i in range(TRIED)})]
    rows, seconds = [], []
    for run in some:
        e = run.experiment
        found = cost(e.subject, e.key, e.generations, e.replicates, e.every)
        seconds.append(found.seconds)
        time = "not timed" if found.seconds is None else f"{found.seconds:.1f} s"
        rows.append([run.name, str(found.chains), written(found.bytes), time])
    show([Column("run"), *(Column(head, right=True) for head in ("chains", "memory", "time"))], rows)
    timed = [s for s in seconds if s is not None]
    if timed:
        total = duration(round(sum(timed) / len(timed) * n))
        of = f", from {len(timed)} of them" if len(timed) < n else ""
        print(f"one after the other: about {total}{of}, and compiling, measuring, saving")


def join(grid: Grid, failed: dict[str, str]) -> int:
    """Puts together what is done, and says what is not."""
    from simulator.report import swept

    if done := {run.name: run.experiment.store for run in grid.runs if run.done}:
        page = swept.write(grid.out, done, command=shlex.join(["genloss", *grid.words]))
        print(f"records: {near(grid.out / 'records.parquet')}\npage:    {near(page)}")
    if failed:
        print(f"genloss: {len(failed)} of {len(grid.runs)} runs failed: {', '.join(failed)}.", file=sys.stderr)
    return int(bool(failed))


command = Command("run an experiment at several values of its fields", arguments, sweep, takes_fields=True, parts=parts)
