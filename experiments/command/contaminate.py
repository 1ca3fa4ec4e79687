"""`genloss contaminate`: a real image set of which a share is replaced by synthetic images."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from experiments.command import shared
from experiments.command.command import Command
from experiments.command.numbers import place, ratio, whole


def arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--real", type=place, metavar="DIR", required=True, help="an image folder, or a folder or file of parquet"
    )
    sub.add_argument("--synthetic", type=place, metavar="DIR", help="what replaces; other real images are a control")
    sub.add_argument(
        "--ratio", type=ratio, required=True, metavar="P", help="share of each class that is replaced, such as 0.4"
    )
    sub.add_argument("--out", type=place, required=True, metavar="DIR", help="the folder to write, or to go on with")
    sub.add_argument("--format", choices=["folder", "parquet"], default="folder", help="(default: folder)")
    sub.add_argument("--seed", type=whole(0, 2**63 - 1), default=0, metavar="S", help="of the masks (default: 0)")
    sub.add_argument(
        "--independent",
        dest="nested",
        action="store_false",
        help="a mask per ratio; otherwise larger ones hold smaller",
    )
    sub.add_argument(
        "--not-stratified",
        dest="stratified",
        action="store_false",
        help="the ratio is that of the set, not of each class",
    )
    sub.add_argument("--drop", action="store_true", help="remove what would be replaced, and add nothing")
    sub.add_argument("--repeat", action="store_true", help="use synthetic images again where a class has too few")
    sub.add_argument("--origin", default="synthetic", metavar="NAME", help="of what replaces, in the manifest")
    sub.add_argument("--mixed", action="store_true", help="take images of other sizes and modes than the real set's")
    shared.image_sets(sub)


def contaminate(options: argparse.Namespace) -> int:
    from experiments.imagesets.contaminate import contaminate
    from experiments.imagesets.masks import Contamination, parse_ratio

    asked: dict[str, Any] = {field.name: getattr(options, field.name) for field in dataclasses.fields(Contamination)}
    asked["ratio"] = parse_ratio(options.ratio)
    return contaminate(Contamination(**asked))


command = Command("replace a share of a real image set by synthetic images, for any trainer", arguments, contaminate)
