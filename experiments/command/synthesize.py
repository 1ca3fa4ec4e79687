"""`genloss synthesize`: a data set made by a pipeline of diffusers, or by a generation of a stored run."""

from __future__ import annotations

import argparse
import dataclasses

from experiments.command import shared
from experiments.command.command import Command
from experiments.command.numbers import near, number, place, whole
from experiments.command.parts import Part, Parts

SHARDS = 4  # where nothing is said


def arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--pipeline", type=place, metavar="DIR|ID|RUN", help="a folder of diffusers, a hub id, or a run's folder"
    )
    sub.add_argument(
        "--classes", type=place, metavar="FILE", help="a class a line: NAME, SYNONYM, ... or FOLDER<TAB>NAME, ..."
    )
    sub.add_argument("--captions", type=place, metavar="FILE", help='JSON lines: {"caption": ..., "id": ...}')
    sub.add_argument("--prompts", choices=["template", "combinatorial", "caption"], help="how a prompt is worded")
    sub.add_argument("--per-class", type=whole(1), metavar="N", help="images of each class or caption (default: 1)")
    sub.add_argument("--count", type=whole(1), metavar="N", help="images in all, spread evenly")
    sub.add_argument("--guidance", type=number(), metavar="G", help="weight of guidance (default: the model's own)")
    sub.add_argument("--steps", type=whole(), metavar="N", help="steps of the sampler (default: the model's own)")
    sub.add_argument("--sampler", metavar="NAME", help="of a pipeline: ddim, pndm, ... (default: the model's own)")
    sub.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], default="float32", help="of a pipeline")
    shared.which_model(sub, "of a run: ")
    shared.trust(sub)
    sub.add_argument("--batch", type=whole(1), metavar="B", help="images made side by side (default: 8; of a run 256)")
    sub.add_argument(
        "--seed",
        type=whole(0, 2**63 - 1),
        default=0,
        metavar="S",
        help="every image's seed is derived from it (default: 0)",
    )
    sub.add_argument("--strict", action="store_true", help="images one by one, to the bit for any --batch")
    sub.add_argument("--workers", type=whole(1), metavar="W", help="processes (default: one for each GPU, else one)")
    sub.add_argument("--shard", default="1/1", metavar="I/N", help="make part I of N only, for a scheduler to start")
    sub.add_argument("--format", choices=["folder", "parquet", "both"], default="folder", help="what is written")
    sub.add_argument("--out", type=place, metavar="DIR", help="the data set's folder")


def synthesize(options: argparse.Namespace) -> int:
    from experiments.imagesets.job import Request
    from experiments.imagesets.synthesize import synthesize

    asked = {field.name: getattr(options, field.name) for field in dataclasses.fields(Request)}
    print(near(synthesize(Request(**asked), options.shard, options.workers)))
    return 0


def parts(options: argparse.Namespace) -> Parts:
    """As many as are done at once, which leave the same files however many they are."""
    from simulator import GenlossError

    if options.shard != "1/1":
        raise GenlossError("--shard is one part, and --engine does all; give one of them.")
    n = options.jobs or SHARDS
    return Parts(parts=[Part(f"part-{i}-of-{n}", ["--shard", f"{i}/{n}"], added=True) for i in range(1, n + 1)])


command = Command(
    "make a data set with a pipeline of diffusers, or with a generation of a run", arguments, synthesize, parts=parts
)
