"""`genloss verify`: is a run what its configuration computes?  Some of its generations are computed again."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from experiments.command import devices, shared
from experiments.command.command import Command
from experiments.command.loading import overridden, trusted
from experiments.command.numbers import KEYS, whole

CODES = {"equal": 0, "differs": 1, "unknown": 2}


def arguments(sub: argparse.ArgumentParser) -> None:
    shared.run_folder(sub, "the run's folder, or a bundle, FILE.zip")
    which = sub.add_mutually_exclusive_group()
    which.add_argument(
        "--generations",
        type=_count,
        metavar="K|all",
        help="how many checkpoints to compute again, drawn by chance (default: one of each twenty)",
    )
    which.add_argument("--at", type=whole(), nargs="+", metavar="T", help="compute these generations again")
    sub.add_argument("--seed", type=whole(0, KEYS), metavar="S", help="of that chance (default: a new one, printed)")
    sub.add_argument("--mesh", metavar="CHAINxBATCH", help="the devices that the run was shared by, as in genloss run")
    shared.trust(sub)
    sub.add_argument("--json", action="store_true", help="as data")
    sub.set_defaults(processes=None)


def _count(text: str) -> int | str:
    return text if text == "all" else whole(1)(text)


def verify(options: argparse.Namespace) -> int:
    from simulator import Store
    from simulator.running import bundle
    from simulator.running.verify import Found

    with contextlib.ExitStack() as held:
        place, altered = Path(options.run), []
        if place.is_file():
            place, _, altered = held.enter_context(bundle.unpacked(place))
        apart = [place] if (place / "chain.json").exists() else sorted(f.parent for f in place.glob("*/chain.json"))
        tellers = []
        for folder in apart or [place]:  # a sweep may be several runs
            teller = Teller(options.json)
            teller.say(f"{folder.name}:" if len(apart) > 1 else "")
            teller.tell(Found(name, "differs", "its checksum is not that in bundle.json") for name in altered)
            teller.told |= _verify(Store(folder), options, teller)
            teller.end(options.run if len(apart) < 2 else str(folder))
            tellers.append(teller)
        if options.json:
            told = [teller.told for teller in tellers]
            print(json.dumps(told[0] if len(told) == 1 else told))
        return CODES[worst(teller.verdict for teller in tellers)]


class Teller:
    """What is found, printed as it comes, or at the end as data."""

    def __init__(self, as_data: bool) -> None:
        self.as_data, self.found, self.told = as_data, [], {}

    def say(self, text: str) -> None:
        from simulator.report.names import plain

        if text and not self.as_data:
            print(plain(text), flush=True)

    def tell(self, found: Iterable[Any]) -> None:
        for one in found:
            self.found.append(one)
            self.say(f"{one.verdict:<8} {one.where:<18} {one.said}")

    def end(self, run: str) -> None:
        """Says what all of it amounts to."""
        bad = ", ".join(dict.fromkeys(one.where for one in self.found if one.verdict == self.verdict))
        ends = {
            "equal": "verified: all that was checked agrees",
            "differs": f"NOT verified, something disagrees: {bad}",
            "unknown": f"not verified, this cannot be checked here: {bad}",
        }
        self.say(ends[self.verdict])
        self.told = {"run": run, **self.told, "verdict": self.verdict, "found": [one._asdict() for one in self.found]}

    @property
    def verdict(self) -> str:
        return worst(one.verdict for one in self.found)


def worst(verdicts: Iterable[str]) -> str:
    """What several amount to."""
    there = set(verdicts)
    return next((kind for kind in ("differs", "unknown") if kind in there), "equal")


def _verify(store: Any, options: argparse.Namespace, teller: Teller) -> dict[str, Any]:
    from simulator import GenlossError
    from simulator.running.replay import Replay
    from simulator.running.verify import BASIS, Found, Verification

    checked = Verification(store)
    teller.tell(checked.found)
    told: dict[str, Any] = {"signature": checked.about["signature"], "seed": None, "computed": []}
    if not checked.there:
        return told
    try:
        trust = trusted(checked.about, options.trust, options.code)
        subject, moved = _moved(store.chain(trust), options)
        replay = Replay(store, subject, checked.there, trust, devices.mesh(options))
        changed = replay.changed(moved)
    except GenlossError as error:
        teller.tell([Found("generations", "unknown", str(error))])
        return told
    if changed:
        said = f"what is here is not what the run was made of: {'; '.join(changed[:4])}"
        teller.tell([Found("generations", "unknown", said)])
        return told
    can, cannot = replay.possible()
    every = options.generations == "all"
    if every or options.at is not None:
        wanted = sorted(checked.there) if every else checked.holding(options.at)
        teller.tell(Found(f"generation {last}", "unknown", cannot[last]) for last in wanted if last in cannot)
        chosen = [last for last in wanted if last in can]
        drawn = "named" if not every else "all that are here"
    else:
        told["seed"] = secrets.randbelow(KEYS) if options.seed is None else options.seed
        chosen = checked.chosen(can, options.generations, told["seed"])
        drawn = f"drawn by --seed {told['seed']} of {len(can)} that can be"
        if not chosen:
            teller.tell([Found("generations", "unknown", "; ".join(dict.fromkeys(cannot.values())))])
    told |= {"computed": chosen, "possible": can}
    other = list(dict.fromkeys(one for last in chosen for one in replay.other(last)))
    told |= {"exact": not other, "other": other}
    if chosen:
        teller.say(f"Computed again, from those before: {_listed(chosen)}; {drawn}.")
        how = f"within tolerances, for this is not what computed them ({'; '.join(other)}): {BASIS}"
        teller.say(f"They must be equal {how if other else 'to the bit: versions, device and processor are the same'}.")
    with _busy(options.json):
        teller.tell(checked.check(replay, chosen))
        if every:
            teller.tell(checked.beside(replay))
    if missed := len(checked.there) - len(chosen):
        teller.say(
            f"Not computed again: {missed} of {len(checked.there)} checkpoints; one altered alone may be among them."
        )
    teller.say(f"Not checked: report/, samples/, theory.json{'' if every else ', prepared.npz, ceiling.json'}.")
    return told


def _moved(stored: Any, options: argparse.Namespace) -> tuple[Any, tuple[str, ...]]:
    """What was run, its data where the command line says; and the fields of its configuration that say so."""
    from simulator import GenlossError, Sweep

    chain, given = overridden(getattr(stored, "chain", stored), options.fields, "genloss verify", options.usage)
    if strange := [name for name in given if not name.startswith("source.")]:
        raise GenlossError(f"A run is verified as it is: --{strange[0]} cannot be given, the place of its data alone.")
    subject = dataclasses.replace(stored, chain=chain) if isinstance(stored, Sweep) else chain
    return subject, tuple(f"chain.{name}" for name in given)


def _listed(steps: list[int]) -> str:
    shown = ", ".join(map(str, steps[:12]))
    return f"checkpoint{'s' if len(steps) > 1 else ''} {shown}" + (f" and {len(steps) - 12} more" * (len(steps) > 12))


@contextlib.contextmanager
def _busy(quiet: bool) -> Iterator[None]:
    from rich.console import Console

    console = Console(stderr=True)
    with contextlib.nullcontext() if quiet or not console.is_terminal else console.status("computing again"):
        yield


command = Command("compute some generations of a run again, and compare", arguments, verify, takes_fields=True)
