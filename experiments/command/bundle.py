"""`genloss bundle`: a run as one file that another machine can verify."""

from __future__ import annotations

import argparse
import os
import secrets
from pathlib import Path

from experiments.command import shared
from experiments.command.command import Command
from experiments.command.loading import trusted
from experiments.command.numbers import KEYS, near, place, whole


def arguments(sub: argparse.ArgumentParser) -> None:
    shared.run_folder(sub)
    sub.add_argument("--to", type=place, required=True, metavar="FILE.zip", help="the file to write")
    sub.add_argument(
        "--light", action="store_true", help="only the checkpoints that a few generations are computed from"
    )
    sub.add_argument(
        "--generations", type=whole(1), metavar="K", help="with --light, how many (default: one of twenty)"
    )
    sub.add_argument(
        "--seed", type=whole(0, KEYS), metavar="S", help="with --light, what draws them (default: a new one)"
    )
    shared.trust(sub)


def bundle(options: argparse.Namespace) -> int:
    from simulator import GenlossError, Store, theory
    from simulator.report import page
    from simulator.running import bundle
    from simulator.running.replay import Replay
    from simulator.running.verify import Verification

    store, file = Store(options.run), Path(options.to)
    about = store.about()
    if file.suffix != ".zip":
        raise GenlossError(f"--to takes the name of a file that ends in .zip; it was given '{file}'.")
    if not options.light and (options.generations, options.seed) != (None, None):
        raise GenlossError("--generations and --seed say what a light bundle holds; give --light too.")
    steps = None
    if options.light:
        checked = Verification(store)
        trust = trusted(about, options.trust, options.code)
        replay = Replay(store, store.chain(trust), checked.there, trust)
        can, _ = replay.possible()
        seed = secrets.randbelow(KEYS) if options.seed is None else options.seed
        chosen = checked.chosen(can, options.generations, seed)
        steps = sorted({step for last in chosen for step in [*replay.needed(last), last]})
        print(f"can be computed again from it: generations {', '.join(map(str, chosen))}, drawn by --seed {seed}")
    if not (store.path / "report" / "index.html").exists() and os.access(store.path, os.W_OK):
        page.write(store, theory.kept(store))
    made = bundle.write(store, file, steps)
    needs = made["needs"]
    print(f"{near(file.absolute())}: {len(made['files'])} files, {file.stat().st_size / 1e6:.1f} MB")
    versions = ", ".join(f"{name} {version}" for name, version in needs["versions"].items())
    print(f"to verify it to the bit: {versions}; {', '.join([needs['device'], *needs['processor']])}")
    if needs["data"]:
        print(f"and its data, whose fingerprint is {needs['data']}: they are not in it")
    if needs["code"]:
        print(
            f"and the code of {', '.join(needs['code'])}, which is not in it: genloss verify {file.name} --code FILE.py"
        )
    return 0


command = Command("a run as one file, which genloss verify checks anywhere", arguments, bundle)
