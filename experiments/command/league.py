"""`genloss league`: every mitigation with the same number of real rows, and yours beside them."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from experiments.command.command import Command
from experiments.command.numbers import KEYS, near, place, whole
from experiments.command.parts import Part, Parts

FREE = ("mixture", "characters", "transformer", "digits")  # worlds that need no data and few minutes


def arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--world",
        metavar="NAME[,NAME...]",
        default=",".join(FREE),
        help=f"where it is held (default: {','.join(FREE)})",
    )
    sub.add_argument(
        "--add",
        type=place,
        metavar="FILE.py",
        action="append",
        default=[],
        help="your file: a `recipe`, or entry(chain)",
    )
    sub.add_argument("--replicates", type=whole(2), metavar="R", help="chains an entry (default: the world's)")
    sub.add_argument("--seed", type=whole(0, KEYS), default=0, metavar="S", help="the root key (default: 0)")
    sub.add_argument("--out", type=place, default="league", metavar="DIR", help="of runs, table and figure")
    sub.add_argument("--json", action="store_true", help="as data")


def league(options: argparse.Namespace) -> int:
    import jax
    from rich.console import Console

    from experiments.command.loading import load_module
    from experiments.league.held import held
    from experiments.league.world import load
    from simulator import GenlossError, disk
    from simulator.report import league as drawing
    from simulator.report.figures import rendered

    worlds = {name: load(name) for name in _worlds(options)}
    added = {Path(file).stem: load_module(file) for file in options.add}
    if len(added) < len(options.add):
        raise GenlossError("Two files of --add have one name; rename one.")
    entries = {}  # world -> those that are added
    for name, world in worlds.items():
        if taken := sorted(added.keys() & world.entries.keys()):
            raise GenlossError(f"The world {name} has an entry '{taken[0]}'; rename your file.")
        entries[name] = {own: world.added(own, module) for own, module in added.items()}
    out = disk.folder(options.out)
    results = {}
    with Console(stderr=True).status("compiling") as status:
        for name, world in worlds.items():

            def tell(what: str, progress: Any, name: str = name) -> None:
                status.update(f"{name}, {what}: generation {progress.done} of {progress.generations} {progress.doing}")

            key = jax.random.key(options.seed)
            results[name] = held(world, entries[name], key, out / name, options.replicates, tell)
    data = {name: result.data() for name, result in results.items()}
    disk.write(out, "league.json", json.dumps(data, indent=1).encode())
    disk.write(
        out, "league.png", rendered(drawing.drawn({n: r.standings for n, r in results.items()}, _axes(data)), "png")
    )
    if options.json:
        print(json.dumps(data, indent=1))
        return 0
    for name, result in results.items():
        _print(name, result)
    print(f"figure: {near((out / 'league.png').absolute())}")
    return 0


def parts(options: argparse.Namespace) -> Parts:
    """Each world."""
    return Parts(
        f"{Path(options.out).absolute()}.logs", [Part(n, ["--world", n], added=True) for n in _worlds(options)]
    )


def _worlds(options: argparse.Namespace) -> list[str]:
    from simulator import GenlossError

    names = [name.strip() for name in options.world.split(",")]
    if len(set(names)) < len(names):
        raise GenlossError("--world names a world twice; leave one of them out.")
    return names


def _axes(data: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """World -> what is judged there and which way is better."""
    return {name: (of["metric"], of["better"]) for name, of in data.items()}


def _print(name: str, result: Any) -> None:
    from experiments.command.tables import Column, show
    from experiments.league.world import BASELINE
    from simulator.report.names import plain

    world = result.world
    title = (
        f"{name}: {world.metric} at generation {world.generations - 1}, {world.better} is better; {world.budget():,} "
        f"real rows in all, {world.baseline.rows:,} written a generation, {result.replicates} replicates"
    )
    columns = [
        Column("entry"),
        *(Column(head, right=True) for head in (world.metric, f"to {BASELINE}", "±", "first", "ranks")),
        *(Column(metric, right=True, spare=True) for metric in world.beside),
        Column("CPU s", right=True),
    ]
    rows = []
    for s in result.standings:
        low, high = s.between()
        told = s.entry != BASELINE and math.isfinite(s.difference)
        gap = [f"{s.difference:+.3g}", f"{s.high - s.difference:.2g}"] if told else ["", ""]
        rows.append(
            [
                plain(s.entry),
                f"{s.value:.4g}",
                *gap,
                f"{s.ranks[0]:.0%}",
                f"{low}" if low == high else f"{low}-{high}",
                *(f"{result.beside[s.entry][metric]:.3g}" for metric in world.beside),
                f"{result.seconds[s.entry]:.0f}",
            ]
        )
    show(columns, rows, title)
    print(
        "± is half of the 95 % interval of the difference, paired by replicate; first: the chance of rank 1; "
        "ranks: those that together have 90 %.\n"
    )


command = Command(
    "every mitigation with as many real rows, and a recipe of yours beside them", arguments, league, parts=parts
)
