"""`genloss compare-data`: one image set judged against another."""

from __future__ import annotations

import argparse
import dataclasses

from experiments.command import shared
from experiments.command.command import Command
from experiments.command.numbers import KEYS, place, whole


def arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--real", type=place, metavar="DIR", required=True, help="an image folder, or a folder or file of parquet"
    )
    sub.add_argument("--synthetic", type=place, metavar="DIR", required=True, help="the set that is judged")
    sub.add_argument(
        "--limit",
        type=whole(1),
        default=5000,
        metavar="N",
        help="images compared, of real ones twice as many (default: 5000)",
    )
    sub.add_argument("--side", type=whole(1, 16_384), metavar="PX", help="resize images to PX x PX pixels")
    sub.add_argument(
        "--weights", type=place, metavar="FILE", help="Inception's weights (safetensors); otherwise PCA of pixels"
    )
    sub.add_argument("--seed", type=whole(0, KEYS), default=0, metavar="S", help="of what is chosen (default: 0)")
    sub.add_argument("--out", type=place, metavar="DIR", help="folder of compare.png and compare.json")
    shared.image_sets(sub)


def compare_data(options: argparse.Namespace) -> int:
    from experiments.imagesets.compare import Comparison, compare

    return compare(Comparison(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Comparison)}))


command = Command(
    "coverage, fidelity, spectrum and detector scores of one image set against another", arguments, compare_data
)
