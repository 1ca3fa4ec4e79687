"""What an accelerator can do for a chain, in minutes: `python -m experiments.bench accelerator [--out DIR]`.

Parts are ordered by worth.  What each finds is written to DIR/accelerator.json as it comes, one key a part, so that a
kill loses nothing; a part that fails is kept with its error, and one that would not end in the `--seconds` that are
left is left out.  A second call with the same DIR, device and versions goes on with the parts that are not there.
Nothing is downloaded and no data are read but scikit-learn's digits.  Without an accelerator all parts run at toy size:
the numbers then say nothing but that they can be had.  `--table FILE` prints the tables of a file written before.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax

from experiments.bench import say
from simulator import disk


class Part(NamedTuple):
    """A function of a `Report`, by its module, and what is left of the time at least for it to be begun."""

    module: str
    seconds: float
    asks: str


PARTS = {
    "device": Part("device", 20, "what is this machine, and what is the most it gives?"),
    "contract": Part("contract", 60, "does the core keep its promises here?"),
    "digits": Part("contract", 60, "what does a whole experiment take, and does it find the same?"),
    "networks": Part("networks", 60, "what share of the peak do large networks reach?"),
    "ensembles": Part("networks", 40, "how many small networks fit side by side?"),
    "measures": Part("costs", 30, "what do measures cost at 50,000 rows?"),
    "chance": Part("costs", 30, "what do random numbers and selection cost, against the processor?"),
    "overhead": Part("costs", 60, "what does the loop add to a generation of a minute?"),
    "memory": Part("networks", 60, "what batch fits, and what did --dry-run say before?"),
}
FILE = "accelerator.json"
TOY = jax.default_backend() == "cpu"


@dataclass
class Report:
    """What is found, written as it comes, and the time that is left."""

    file: Path
    seconds: float
    found: dict[str, dict[str, Any]] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)

    @property
    def left(self) -> float:
        """Seconds."""
        return self.seconds - (time.perf_counter() - self.started)

    def note(self, part: str, **what: Any) -> None:
        """Adds to what a part has found, on disk too: the file is whole at any instant."""
        self.found.setdefault(part, {}).update(what)
        disk.write(self.file.parent, self.file.name, json.dumps(self.found, indent=1).encode())
        for name, value in what.items():
            say(f"  {part}.{name}: {json.dumps(value)}")

    def begin(self, about: dict[str, Any]) -> None:
        """Takes up what the file holds of the same machine."""
        disk.folder(self.file.parent)
        old = json.loads(self.file.read_text()) if self.file.exists() else {}
        if old.get("about") == about:
            self.found = {name: part for name, part in old.items() if name in PARTS and _is_whole(part)}
        self.note("about", **about)

    def run(self, name: str) -> None:
        """One part."""
        if name in self.found:
            return
        needed = PARTS[name].seconds / (6 if TOY else 1)
        if self.left < needed:
            return self.note(name, left_out=f"it needs about {needed:.0f} s, and {max(0.0, self.left):.0f} s are left")
        say(f"{name}: {PARTS[name].asks}")
        started, processor = time.perf_counter(), time.process_time()
        try:
            getattr(importlib.import_module(f"{__name__}.{PARTS[name].module}"), name)(self)
        except Exception as error:  # of whatever kind: the other parts are worth their time
            self.note(name, error=" ".join(f"{type(error).__name__}: {error}".split())[:500])
        spent = {"seconds": time.perf_counter() - started, "processor seconds": time.process_time() - processor}
        self.note(name, **{what: round(value, 2) for what, value in spent.items()})


def sized(full: Any, toy: Any) -> Any:
    """A size on an accelerator, and without one."""
    return toy if TOY else full


def _is_whole(part: dict[str, Any]) -> bool:
    return "seconds" in part and "error" not in part


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.bench accelerator", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("accelerator"), metavar="DIR", help="where the JSON goes")
    parser.add_argument("--seconds", type=float, default=420, metavar="S", help="in all (default: 420)")
    parser.add_argument("--parts", default=",".join(PARTS), metavar="NAME,...", help="some of the parts only")
    parser.add_argument("--table", type=Path, metavar="FILE", help="print the tables of such a file, and run nothing")
    parser.add_argument("--short", type=Path, metavar="FILE", help="print a line for each of its parts")
    options = parser.parse_args(arguments)
    if file := options.table or options.short:
        from experiments.bench.accelerator.tables import short, tables

        return say((tables if options.table else short)(json.loads(file.read_text())))
    names = options.parts.split(",")
    if unknown := [name for name in names if name not in PARTS]:
        parser.error(f"there is no part '{unknown[0]}'; there are {', '.join(PARTS)}")
    report = Report(options.out / FILE, options.seconds)
    if TOY:  # where programs run for less time than it takes to make them fast
        jax.config.update("jax_disable_most_optimizations", True)
    with stopping(report), tempfile.TemporaryDirectory() as cache:  # what is compiled again is read
        for name, value in (("dir", cache), ("min_compile_time_secs", 0), ("min_entry_size_bytes", -1)):
            prefix = "jax_compilation_cache" if name == "dir" else "jax_persistent_cache"
            jax.config.update(f"{prefix}_{name}", value)
        run(report, names)


def run(report: Report, names: Sequence[str] = tuple(PARTS)) -> None:
    """The parts, one after the other."""
    from experiments.bench.accelerator.device import about

    report.begin(about())
    for name in names:
        report.run(name)
    say(f"{report.file}: {', '.join(name for name in names if _is_whole(report.found.get(name, {})))}")


@contextlib.contextmanager
def stopping(report: Report) -> Iterator[None]:
    """Ends the program when the time is over, whatever it does: a compiler cannot be asked to stop."""

    def stop() -> None:
        say(f"stopped after {report.seconds:.0f} s; {report.file} holds what was found until then")
        os._exit(0)

    timer = threading.Timer(max(0.0, report.left), stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
