"""A league held: every entry of a world is a stored run, which is done once and goes on where it was killed."""

from __future__ import annotations

import contextlib
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
from simulator.running import spec
from simulator.running.drive import Progress, identity, run
from simulator.running.prepare import adopt, adopted
from simulator.running.store import Store
from simulator.types import GenlossError, Key

COST = "cost.json"  # beside a run


class Result(NamedTuple):
    """What a world's league found."""

    world: World
    replicates: int
    standings: list[Standing]  # the best first
    beside: Mapping[str, Mapping[str, float]]  # entry -> measure -> its mean over replicates
    seconds: Mapping[str, float]  # entry -> CPU seconds, compiling and saving included

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
    entries: Mapping[str, Chain],
    key: Key,
    out: Path,
    replicates: int | None = None,
    tell: Callable[[str, Progress], None] = lambda entry, progress: None,
) -> Result:
    """Runs every entry in a folder of its own below `out`, and ranks them by the world's measure.

    `tell(entry, progress)` is told how far each is.
    """
    n = replicates or world.replicates
    scores: dict[str, np.ndarray] = {}  # entry -> [replicates]
    beside: dict[str, dict[str, float]] = {}
    seconds: dict[str, float] = {}
    learned = None  # by the probes, the same for all
    for name, chain in entries.items():
        if learned is not None:
            adopt(chain, learned)
        found, seconds[name] = _run(name, chain, world, key, n, out, tell)
        learned = learned or adopted(chain)
        scores[name] = found[world.metric]
        beside[name] = {metric: float(found[metric].mean()) for metric in world.beside}
    return Result(world, n, standings(scores, BASELINE, world.better), beside, seconds)


def _run(
    name: str, chain: Chain, world: World, key: Key, n: int, out: Path, tell: Callable[[str, Progress], None]
) -> tuple[dict[str, np.ndarray], float]:
    """(the world's measures at the last generation, [replicates] each; CPU seconds over all calls that it took)."""
    signature = spec.signature(identity(chain, key, n, world.every))
    folder = out / f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}-{signature}"
    spent, began = _spent(folder), time.process_time()

    def report(progress: Progress) -> None:
        tell(name, progress)
        if progress.seconds:  # a checkpoint was made
            cost = {"seconds": round(spent + time.process_time() - began, 2)}
            disk.write(folder, COST, json.dumps(cost).encode())

    record = run(chain, key, world.generations, Store(folder), replicates=n, every=world.every, report=report)
    missing = [metric for metric in (world.metric, *world.beside) if metric not in record]
    if missing:
        raise GenlossError(f"The entry '{name}' measures no '{missing[0]}'; leave the world's probes as they are.")
    return {m: np.asarray(record[m], np.float64)[:, -1] for m in (world.metric, *world.beside)}, _spent(folder)


def _spent(folder: Path) -> float:
    """CPU seconds that a run took so far; 0 where nobody wrote them down."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return float(json.loads((folder / COST).read_text())["seconds"])
    return 0.0
