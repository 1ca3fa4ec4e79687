"""`genloss plan --budget`: when real rows are spent best, and how far that is ahead of plain schedules."""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

from experiments.command import shared
from experiments.command.numbers import near
from experiments.command.ranges import Range

LOWER = ("loss", "nats", "lost")  # readings of which less is better


def spending(options: argparse.Namespace) -> int:
    import jax
    from rich.console import Console

    from experiments.command.loading import Experiment
    from simulator import GenlossError
    from simulator.analysis.budget import spend
    from simulator.report import budgeted

    if not options.over or len(options.over) > 1:
        raise GenlossError("Say which one field the budget is spent on: --budget 200 --over recipe.real.")
    draw = shared.drawing(options.figure)
    options.replicates = options.every = options.out = None
    experiment = Experiment.load(options, own_sweep=False)
    metric, sense = measure(experiment.chain, options.keep)
    path = options.over[0].partition("=")[0]
    spent = spent_on(experiment.chain, options.over[0], options.budget, experiment.generations)
    began = time.perf_counter(), time.process_time()
    with Console(stderr=True).status("compiling") as status:
        found = spend(
            spent,
            metric,
            jax.random.key(options.seed),
            sense=sense,
            chains=options.chains,
            confidence=options.confidence,
            report=status.update,
        )
    seconds = time.perf_counter() - began[0], time.process_time() - began[1]
    if draw:
        draw(budgeted.drawn(found, path))
    if options.json:
        print(json.dumps({"field": path, **found.data()}, indent=1))
        return 0
    _say(found, path, seconds)
    if options.figure:
        print(f"figure: {near(Path(options.figure).absolute())}")
    return 0


def measure(chain: Any, asked: str | None) -> tuple[str, int]:
    """(metric, 1 where more of it is better, else -1): METRIC, `max METRIC` or `min METRIC`; by default the variance
    that the chain measures, or else the first of its measures that is known.
    """
    from simulator import GenlossError
    from simulator.analysis.measures import KINDS, named

    known: dict[str, int] = {}
    for kind in ("variance", *KINDS):
        for place, reading in KINDS[kind].items():
            probe, dot, part = place.partition(".")
            for name, of in named(chain.probes).items():
                if of == probe:
                    known.setdefault(name + dot + part, -1 if reading in LOWER else 1)
    if asked is None:
        if not known:
            raise GenlossError(
                "The chain has no measure that is known; say which: --keep 'max METRIC' or 'min METRIC'."
            )
        return next(iter(known.items()))
    words = asked.split()
    if len(words) == 2 and words[0] in ("max", "min"):
        return words[1], 1 if words[0] == "max" else -1
    if len(words) != 1:
        raise GenlossError(
            f"With --budget, --keep names a measure, as METRIC, 'max METRIC' or 'min METRIC'; it was given '{asked}'."
        )
    if words[0] not in known:
        raise GenlossError(
            f"Whether more or less of '{asked}' is better is not known; say 'max {asked}' or 'min {asked}'."
        )
    return words[0], known[words[0]]


def spent_on(chain: Any, text: str, budget: float, generations: int) -> Any:
    """The `Spent` of a field, as FIELD or FIELD=LOW..HIGH, which bound the value of each generation."""
    import numpy as np

    from simulator import GenlossError
    from simulator.analysis.budget import Spent, scheduled, served
    from simulator.numerics.schedule import at
    from simulator.running import spec

    path, _, given = text.partition("=")
    if path == "fresh":
        even = math.ceil(budget / max(1, generations - 1))
        over = Range.read(chain, text if given else f"fresh=0..{max(chain.rows, 2 * even)}")
        make = served(chain, round(over.high))
        return Spent(make, budget, generations, math.ceil(over.low), round(over.high), 1.0, served=True)
    over, make = Range.read(chain, text), scheduled(chain, path)
    held = next(leaf.value for leaf in spec.leaves(chain) if leaf.path == path)
    value = float(at(held, 1))

    def works(value: float) -> bool:
        try:
            make(np.full(generations, value))
        except GenlossError:
            return False
        return True

    if not works(value):
        raise GenlossError(
            f"--over {path}: the field takes one number for all generations; with --budget give one that may be a "
            "schedule, such as recipe.real, or fresh."
        )
    if over.step is None:
        return Spent(make, budget, generations, over.low, over.high)
    low, high = math.ceil(over.low / over.step - 1e-6), math.floor(over.high / over.step + 1e-6)
    start = min(max(round(value / over.step), low), high)
    least, most = (_furthest(lambda count: works(count * over.step), start, end) for end in (low, high))
    return Spent(make, budget, generations, least, most, over.step)


def _furthest(works: Any, start: int, end: int) -> int:
    """The count furthest from the start towards an end that the chain can be built with."""
    if works(end):
        return end
    while abs(end - start) > 1:
        middle = (start + end) // 2
        start, end = (middle, end) if works(middle) else (start, middle)
    return start


def _say(found: Any, field: str, seconds: tuple[float, float]) -> None:
    from experiments.command.tables import Column, show
    from simulator.report.budgeted import runs
    from simulator.report.names import plain

    what = "highest" if found.sense > 0 else "lowest"
    unit = " rows" if found.counts else ""
    first = next(iter(found.outcomes.values()))
    n = len(first.amounts)
    print(plain(f"{field}: {found.budget:g}{unit} over generations 1 to {n}, {found.measure} {what} at its worst"))
    for name in list(found.outcomes)[:2]:
        print(plain(f"{name}: {runs(found.outcomes[name].amounts)}"))
    print(plain(f"law: {found.why}"))
    level = f"ahead by, {found.confidence:.0%} interval"
    heads = ("worst by law", "at", "measured", "± s.e.", level, "at the end")
    rows = []
    for name, one in found.outcomes.items():
        law = "" if one.law is None else f"{one.law[one.worst]:.4g}"
        gain, low, high = one.gain
        ahead = "" if one is first else f"{gain:+.2g}, {low:+.2g} to {high:+.2g}"
        measured = f"{one.mean[one.worst]:.4g}", f"{one.error[one.worst]:.1g}"
        rows.append([name, law, str(one.worst), *measured, ahead, f"{one.mean[-1]:.4g}"])
    show([Column("schedule"), *(Column(head, right=True) for head in heads)], rows)
    print(f"cost: {found.chains:,} chains of each schedule, {seconds[0]:.0f} s, {seconds[1]:.0f} CPU s")
    for said in found.warnings:
        print(plain(f"warning: {said}"))
