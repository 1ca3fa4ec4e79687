"""`genloss show`: what a run's folder holds, when it was made, and what was measured, as numbers."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from experiments.command import shared
from experiments.command.command import Command
from experiments.command.listing import duration
from experiments.command.numbers import place


def arguments(sub: argparse.ArgumentParser) -> None:
    shared.run_folder(sub)
    sub.add_argument("--all", action="store_true", help="every measure, not the headlines alone")
    sub.add_argument("--json", action="store_true", help="as data, every measure")
    sub.add_argument(
        "--sizes",
        type=place,
        nargs="+",
        default=[],
        metavar="RUN",
        help="runs that differ in rows alone, for a scaling law",
    )
    sub.add_argument(
        "--measures",
        nargs="+",
        default=[],
        metavar="KIND=METRIC:READING",
        help="what probes of your own say of a collapse, such as risk=mine.loss:loss",
    )


def show(options: argparse.Namespace) -> int:
    from experiments.command.summary import print_table, print_verdicts, summary
    from simulator import Store, theory
    from simulator.analysis import verdicts
    from simulator.report import figures
    from simulator.report.names import plain

    store = Store(options.run)
    about, records = store.about(), store.records()
    laws, ceiling = theory.kept(store), store.ceiling()
    headlines = figures.shown(records["metric"])
    everything = list(dict.fromkeys([*headlines, *figures.single(records["metric"])]))
    found = verdicts.of_run(store, [Store(other) for other in options.sizes], _measures(options.measures))
    if options.json:
        values = [_finite(row) for row in summary(records, ceiling, laws, everything)]
        collapse = {
            "alarm": verdicts.ALARM,
            "confidence": verdicts.CONFIDENCE,
            "noise": _finite(store.noise()),
            "verdicts": [_finite(one._asdict()) for one in found],
        }
        told = {"folder": str(store.path), **_told(store, about), "values": values, "collapse": collapse}
        print(json.dumps(told, indent=1))
        return 0
    told = _told(store, about)
    print(plain(f"{store.path.name}: {told['done']} of {about['generations']} generations, on {about['device']}"))
    print(
        plain(f"what: {told['experiment'] or 'a chain'}, {told['settings']} settings, {told['replicates']} replicates")
    )
    if told["begun"]:
        print(f"when: {told['begun']} to {told['saved']}, {duration(told['seconds'])}")
    print()
    print_table(records, ceiling, laws, metrics=everything if options.all else None)
    if not options.all and (more := len(everything) - len(headlines)):
        print(f"measures beside these: {more}, with --all")
    print_verdicts(found, ceiling, store.noise())
    return 0


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no NaN."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}


def _measures(given: list[str]) -> dict[str, tuple[str, str]]:
    """Kind -> metric and reading, of KIND=METRIC:READING."""
    from simulator import GenlossError

    found: dict[str, tuple[str, str]] = {}
    for one in given:
        kind, equals, rest = one.partition("=")
        metric, colon, reading = rest.rpartition(":")
        if not (equals and colon):
            raise GenlossError(f"--measures takes KIND=METRIC:READING, such as risk=mine.loss:loss, and not '{one}'.")
        found[kind] = (metric, reading)
    return found


def _told(store: Any, about: dict[str, Any]) -> dict[str, Any]:
    """What was run, and when: from the first file of the run to its last checkpoint, as the file system dates them."""
    steps, run = store.steps(), about["run"]
    told = {
        "experiment": about.get("experiment"),
        "device": about["device"],
        "generations": about["generations"],
        "done": steps[-1] + 1 if steps else 0,
        "settings": len(run["sweep"]["values"]) if run["sweep"] else 1,
        "replicates": run["replicates"] or 1,
        "begun": None,
        "saved": None,
        "seconds": None,
    }
    if steps:
        times = [(store.path / "checkpoints" / str(t)).stat().st_mtime for t in steps]
        first, last = min((store.path / "chain.json").stat().st_mtime, *times), max(times)
        begun, saved = (datetime.fromtimestamp(t).isoformat(" ", "seconds") for t in (first, last))
        told |= {"begun": begun, "saved": saved, "seconds": round(last - first)}
    return told


command = Command("a run's summary: what, when, and the last values with their intervals", arguments, show)
