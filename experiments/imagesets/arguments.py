"""The arguments of the commands that work on image sets: synthesize, contaminate, compare-data."""

from __future__ import annotations

import argparse

from experiments.command.numbers import KEYS, number, place, ratio, whole


def trust(sub: argparse.ArgumentParser) -> None:
    """What commands share that build the chain of a run, which somebody else may have made."""
    sub.add_argument("--trust", action="store_true", help="import whatever code the run names")
    sub.add_argument(
        "--code", type=place, metavar="FILE.py", help="your own file that the run was made with, and no other code"
    )


def synthesize(sub: argparse.ArgumentParser) -> None:
    """Make a data set with a pipeline of diffusers, or with a generation of a run."""
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
    sub.add_argument("--generation", type=whole(), metavar="K", help="of a run: which generation (default: the last)")
    sub.add_argument("--setting", metavar="NAME", help="of a sweep: which setting (default: the first)")
    sub.add_argument("--replicate", type=whole(), default=0, metavar="R", help="of a run: which replicate (default: 0)")
    trust(sub)
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


def contaminate(sub: argparse.ArgumentParser) -> None:
    """Replace a share of a real image set by synthetic images, for any trainer."""
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
    sub.add_argument("--independent", action="store_true", help="a mask per ratio; otherwise larger ones hold smaller")
    sub.add_argument("--not-stratified", action="store_true", help="the ratio is that of the set, not of each class")
    sub.add_argument("--drop", action="store_true", help="remove what would be replaced, and add nothing")
    sub.add_argument("--repeat", action="store_true", help="use synthetic images again where a class has too few")
    sub.add_argument("--origin", default="synthetic", metavar="NAME", help="of what replaces, in the manifest")
    sub.add_argument("--mixed", action="store_true", help="take images of other sizes and modes than the real set's")
    _images(sub)


def compare_data(sub: argparse.ArgumentParser) -> None:
    """Coverage, fidelity, spectrum and detector scores of one image set against another."""
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
    _images(sub)


def _images(sub: argparse.ArgumentParser) -> None:
    """What commands that read image sets share.  They end with 1 where something was left out, with 2 if refused."""
    sub.add_argument("--skip-broken", action="store_true", help="leave out what cannot be read, and end with 1")
    sub.add_argument("--split", metavar="NAME", help="of the real set (default: train, where there are several)")
    sub.add_argument("--synthetic-split", metavar="NAME", help="of the other set")
    sub.add_argument("--label", metavar="COLUMN", help="of the real set, where parquet has several labels")
