"""`genloss plan`: how little of a field keeps a measure, and how sure that is; or when to spend a budget of it."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from experiments.command import shared
from experiments.command.command import Command
from experiments.command.numbers import KEYS, near, number, whole
from experiments.command.parts import at_once
from experiments.command.ranges import Range
from experiments.command.spending import spending

ROWS = 6  # values of a second field that a phase map has, where it is given a range


def arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--keep", metavar="BOUND", help="such as 'fidelity.recall >= 0.95 of control' or '... at the end'")
    sub.add_argument(
        "--budget",
        type=number(0),
        metavar="N",
        help="rather: when to spend N rows so that the worst generation is best; --keep METRIC says at what",
    )
    sub.add_argument(
        "--over",
        metavar="FIELD[=LOW..HIGH]",
        action="append",
        help="the field that is searched, and where; a second one (=V1,V2,... or =LOW..HIGH) makes a phase map",
    )
    sub.add_argument("--chains", type=whole(100), default=1000, metavar="N", help="chains run in all (default: 1000)")
    sub.add_argument("--confidence", type=number(), default=0.9, metavar="P", help="of the interval (default: 0.9)")
    sub.add_argument("--generations", type=whole(1), metavar="T", help="fits in all")
    shared.figure(sub)
    sub.add_argument("--json", action="store_true", help="as data")
    sub.add_argument("experiment", metavar="NAME|FILE.py", help="an experiment's name, or your own file")
    sub.add_argument("--preset", metavar="NAME", help="another size of the experiment, one of its `presets`")
    sub.add_argument("--seed", type=whole(0, KEYS), default=0, metavar="S", help="the root key (default: 0)")


def plan(options: argparse.Namespace) -> int:
    from experiments.command.loading import Experiment
    from simulator import GenlossError
    from simulator.analysis.bounds import Keep
    from simulator.report import planned

    if options.budget is not None:
        return spending(options)
    if not options.keep or not options.over or len(options.over) > 2:
        raise GenlossError(
            "Say what is to be kept and what is searched: --keep 'fidelity.recall >= 0.95 of control' "
            "--over recipe.real."
        )
    keep, draw = Keep.parse(options.keep), shared.drawing(options.figure)
    options.replicates = options.every = options.out = None
    experiment = Experiment.load(options, own_sweep=False)
    first = Range.read(experiment.chain, options.over[0])
    if len(options.over) == 1:
        found = _plan(experiment, first, keep, options)
        data: Any = found.data()
        picture = planned.drawn(found, first.path) if draw else None
    else:
        second = Range.read(experiment.chain, options.over[1])
        if second.path == first.path:
            raise GenlossError(f"--over {first.path} was given twice; a phase map has two fields.")
        plans, never = {}, {}
        for value in second.some(ROWS):
            fixed = {second.path: int(value) if second.step == 1 else value}
            try:
                plans[value] = _plan(experiment, first, keep, options, fixed)
            except GenlossError as error:  # the bound is kept, or missed, everywhere on this row
                never[value] = str(error)
        if not plans:
            raise GenlossError(next(iter(never.values())))
        data = {
            "field": first.path,
            "beside": second.path,
            "plans": {f"{value:g}": found.data() for value, found in plans.items()},
            "never": {f"{value:g}": said for value, said in never.items()},
        }
        picture = planned.phases(plans, first.path, second.path) if draw else None
        if not options.json:
            for value, said in never.items():
                print(f"{second.path} {value:g}: {said}")
    if draw and picture is not None:
        draw(picture)
    if options.json:
        print(json.dumps(data, indent=1))
    elif options.figure:
        print(f"figure: {near(Path(options.figure).absolute())}")
    return 0


def _plan(experiment: Any, over: Range, keep: Any, options: Any, fixed: dict[str, float] | None = None) -> Any:
    import jax
    from rich.console import Console

    from simulator.analysis import planner
    from simulator.running import spec

    chain = experiment.chain
    if fixed:
        chain = spec.override(chain, fixed)
    console = Console(stderr=True)
    began = (time.perf_counter(), time.process_time())
    with console.status("compiling") as status:
        found = planner.plan(
            lambda value: spec.override(chain, {over.path: value}),
            (over.low, over.high),
            keep,
            jax.random.key(options.seed),
            generations=experiment.generations,
            chains=options.chains,
            confidence=options.confidence,
            step=over.step,
            report=lambda done, of: status.update(f"{done:,} of {of:,} chains"),
        )
    spent = time.perf_counter() - began[0], time.process_time() - began[1]
    if not options.json:
        beside = "".join(f", {path} {value:g}" for path, value in (fixed or {}).items())
        _say(found, over.path, beside, spent, brief=fixed is not None)
    return found


def _say(found: Any, field: str, beside: str, spent: tuple[float, float], brief: bool) -> None:
    from experiments.command.tables import Column, show
    from simulator.report import planned
    from simulator.report.names import plain

    level = f"{found.confidence:.0%} interval {found.low:.3g} to {found.high:.3g}"
    print(plain(f"{field}{beside}: {found.side} {found.value:.3g}, {level}"))
    law = f"law: {'none' if found.law is None else f'{found.law:.3g}'} ({found.why.rstrip('.')})"
    print(plain(law))
    if brief:
        return
    print(plain(f"keeps: {found.keep}, hardest at generation {found.generation}"))
    print(f"cost: {found.chains:,} chains, {spent[0]:.0f} s, {spent[1]:.0f} CPU s")
    show(
        [Column(field, right=True), *(Column(head, right=True) for head in ("above the bound", "± s.e.", "chains"))],
        [[f"{v:.3g}", f"{m:+.3g}", f"{e:.1g}", str(n)] for v, m, e, n in planned.curve(found)],
    )


command = Command(
    "how little of a field keeps a measure, with an interval", arguments, plan, takes_fields=True, parts=at_once
)
