"""`genloss show`: what a run's folder holds, when it was made, and what was measured, as numbers."""

from __future__ import annotations

import argparse
import json
import math
from datetime import datetime
from typing import Any

from experiments.command import shared
from experiments.command.command import Command
from experiments.command.listing import duration


def arguments(sub: argparse.ArgumentParser) -> None:
    shared.run_folder(sub)
    sub.add_argument("--all", action="store_true", help="every measure, not the headlines alone")
    sub.add_argument("--json", action="store_true", help="as data, every measure")


def show(options: argparse.Namespace) -> int:
    from experiments.command.summary import print_table, summary
    from simulator import Store, theory
    from simulator.report import figures
    from simulator.report.names import plain

    store = Store(options.run)
    about, records = store.about(), store.records()
    laws, ceiling = theory.kept(store), store.ceiling()
    headlines = figures.shown(records["metric"])
    everything = list(dict.fromkeys([*headlines, *figures.single(records["metric"])]))
    if options.json:
        values = [
            {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}  # JSON has no NaN
            for row in summary(records, ceiling, laws, everything)
        ]
        print(json.dumps({"folder": str(store.path), **_told(store, about), "values": values}, indent=1))
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
    return 0


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
