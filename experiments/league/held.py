"""A league held: entries are stored runs, each of which is done once and goes on where it was killed."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.league.world import BASELINE, World
from simulator import disk
from simulator.analysis.league import Standing, standings
from simulator.chain import Chain
from simulator.recipe.combine import Select
from simulator.running import spec
from simulator.running.drive import Progress, identity, run
from simulator.running.prepare import adopt, adopted
from simulator.running.store import Store
from simulator.running.sweep import Sweep
from simulator.types import GenlossError, Key

COST = "cost.json"  # beside a run


class Result(NamedTuple):
    """What a world's league found."""

    world: World
    replicates: int
    standings: list[Standing]  # the best first
    beside: Mapping[str, Mapping[str, float]]  # entry -> measure -> its mean over replicates
    seconds: Mapping[str, float]  # entry -> CPU seconds, compiling and saving included: a run's, shared evenly

    def data(self) -> dict[str, Any]:
        """For JSON."""
        lines = [
            {name: _number(value) for name, value in s._asdict().items()}
            | {"beside": {m: _number(v) for m, v in self.beside[s.entry].items()}, "seconds": self.seconds[s.entry]}
            for s in self.standings
        ]
        return {
            "metric": self.world.metric,
            "better": self.world.better,
            "baseline": BASELINE,
            "real_rows": self.world.budget(),
            "rows": self.world.baseline.rows,
            "generations": self.world.generations,
            "replicates": self.replicates,
            "entries": lines,
        }


def _number(value: Any) -> Any:
    """Without what JSON has not."""
    if isinstance(value, np.ndarray):
        return [round(float(v), 4) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def held(
    world: World,
    added: Mapping[str, Chain],
    key: Key,
    out: Path,
    replicates: int | None = None,
    tell: Callable[[str, Progress], None] = lambda what, progress: None,
) -> Result:
    """Runs every entry of a world, and those `added`, in folders below `out`, and ranks them by the world's measure.

    The world's entries that differ in their recipe alone are one program, and one run; who is added runs alone.
    `tell(what, progress)` is told how far each is.
    """
    n = replicates or world.replicates
    found: dict[str, dict[str, np.ndarray]] = {}  # entry -> measure -> [replicates]
    seconds: dict[str, float] = {}
    learned = None  # by the probes, the same for all
    for part in [*_alike(world.entries), *({name: chain} for name, chain in added.items())]:
        if learned is not None:
            adopt(next(iter(part.values())), learned)
        of_part, spent = _run(part, world, key, n, out, tell)
        learned = learned or adopted(next(iter(part.values())))
        found |= of_part
        seconds |= dict.fromkeys(part, spent / len(part))
    found = {name: found[name] for name in (*world.entries, *added)}
    scores = {name: of[world.metric] for name, of in found.items()}
    beside = {name: {metric: float(of[metric].mean()) for metric in world.beside} for name, of in found.items()}
    return Result(world, n, standings(scores, BASELINE, world.better), beside, seconds)


def _alike(entries: Mapping[str, Chain]) -> list[dict[str, Chain]]:
    """The entries, those together whose chains differ in their recipe alone."""
    parts: dict[str, dict[str, Chain]] = {}
    for name, chain in entries.items():
        rest = {field.name: getattr(chain, field.name) for field in dataclasses.fields(chain) if field.name != "recipe"}
        parts.setdefault(spec.signature(spec.encode(rest)), {})[name] = chain
    return list(parts.values())


def _run(
    part: Mapping[str, Chain], world: World, key: Key, n: int, out: Path, tell: Callable[[str, Progress], None]
) -> tuple[dict[str, dict[str, np.ndarray]], float]:
    """(entry -> the world's measures at the last generation, [replicates] each; CPU seconds of all calls it took)."""
    (first, chain), *others = part.items()
    what, subject = first, chain
    if others:
        what = f"{len(part)} recipes"
        recipe = Select(tuple(each.recipe for each in part.values()), 0)
        together = dataclasses.replace(chain, recipe=recipe)
        if (learned := adopted(chain)) is not None:
            adopt(together, learned)
        subject = Sweep(together, "recipe.index", {name: i for i, name in enumerate(part)})
    signature = spec.signature(identity(subject, key, n, world.every))
    folder = out / f"{re.sub(r'[^a-z0-9]+', '-', what.lower()).strip('-')}-{signature}"
    spent, began = _spent(folder), time.process_time()

    def report(progress: Progress) -> None:
        tell(what, progress)
        if progress.seconds:  # a checkpoint was made
            cost = {"seconds": round(spent + time.process_time() - began, 2)}
            disk.write(folder, COST, json.dumps(cost).encode())

    record = run(subject, key, world.generations, Store(folder), replicates=n, every=world.every, report=report)
    if isinstance(subject, Sweep) and (found := adopted(subject.chain)) is not None:
        adopt(chain, found)
    measures = (world.metric, *world.beside)
    if missing := [metric for metric in measures if metric not in record]:
        raise GenlossError(f"The entry '{first}' measures no '{missing[0]}', which the world judges by.")
    last = {m: np.asarray(record[m], np.float64)[..., -1] for m in measures}  # [(entries,) replicates]
    return {name: {m: v[i] if others else v for m, v in last.items()} for i, name in enumerate(part)}, _spent(folder)


def _spent(folder: Path) -> float:
    """CPU seconds that a run took so far; 0 where nobody wrote them down."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return float(json.loads((folder / COST).read_text())["seconds"])
    return 0.0
