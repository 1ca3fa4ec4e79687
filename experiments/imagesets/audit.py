"""A data set at hand, asked what share of it is generated: by what its files say, and by real images beside it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from experiments.imagesets import numbers, traces
from experiments.imagesets.checks import Troubles, looked, watched
from experiments.imagesets.compare import coloured, pictures, refuse, refuse_large
from experiments.imagesets.images import open_set
from experiments.imagesets.index import Index, kept
from experiments.imagesets.masks import REAL, SYNTHETIC, refuse_odd
from experiments.imagesets.names import unescaped
from experiments.imagesets.writing import CONFIG, MANIFEST, MARK, read_json
from simulator.analysis.audit import Share, share
from simulator.sources.images import Unreadable, decode, stacked
from simulator.types import GenlossError

LEAST = 100  # rows of either set
REAL_ORIGINS = ("real", "control")  # in a manifest; the second is what the manual calls other real images
MARKS = {  # what makers write into a file, as bytes that stand there uncompressed
    b"trainedAlgorithmicMedia": "IPTC's digital source type, in XMP or C2PA",
    b"tEXtparameters\0": "parameters of a Stable Diffusion web UI",
    b"tEXtworkflow\0": "a workflow of ComfyUI",
}


@dataclass(frozen=True)
class Audit:
    """What is asked for."""

    given: str  # the set
    real: str | None = None
    confidence: float = 0.9
    limit: int = 5000  # rows of each, at most
    side: int | None = None  # pixels that images are resized to
    seed: int = 0
    skip_broken: bool = False
    split: str | None = None  # of the real set
    synthetic_split: str | None = None  # of the set
    label: str | None = None
    watermark: int | None = None  # the seed of a mark of this project's that is read

    def __post_init__(self) -> None:
        if self.limit < LEAST:
            raise GenlossError(f"--limit is {self.limit} and must be at least {LEAST}, the fewest rows that tell much.")
        if not 0.5 <= self.confidence < 1:
            raise GenlossError(
                f"--confidence is {self.confidence:g} and must be at least 0.5 and below 1, such as 0.9."
            )


@dataclass(frozen=True)
class Written:
    """What the files of a set say themselves."""

    rows: int
    generated: int = 0
    said: dict[str, int] = field(default_factory=dict)  # by what, and of how many rows
    whole: bool = False  # whether each row is told of; otherwise more may be generated


@dataclass(frozen=True)
class Found:
    """An audit: `share` is that of the whole set, those rows included that are in the real set too."""

    written: Written
    share: Share | None = None  # None where there is no real set
    scores: Any = None  # (of real rows, of the set's), by fold
    used: tuple[int, int] = (0, 0)  # real rows, and rows of the set, that were looked at
    same: int = 0  # rows of the set that are in the real set too
    notes: tuple[str, ...] = ()
    left_out: int = 0  # entries that could not be used


@kept()
def audit(asked: Audit) -> Found:
    """What is found; raises `GenlossError` where rows cannot be used, are too few, or the two sets cannot be held
    against each other."""
    if (table := numbers.read(asked.given)) is not None:
        return _of_numbers(asked, table)
    troubles = Troubles(Path(f"{os.path.normpath(asked.given)}.unusable.txt"))
    told = written(asked, troubles)
    if asked.real is None:
        refuse(asked, troubles)
        return Found(told, left_out=troubles.count)
    index = Index()
    real, given = open_set(asked.real, asked.split, asked.label), open_set(asked.given, asked.synthetic_split)
    index.add(real, f"{asked.seed}", asked.real, troubles.of(real.root), whole=False)
    index.add(given, f"{asked.seed}", asked.given, lambda where, why: None, whole=False)  # told already
    refuse(asked, troubles)
    if asked.side is None:
        odd = Troubles(Path(f"{os.path.normpath(asked.given)}.odd.txt"))
        refuse_odd(index, odd, ("size",), 0, "give --side PX, to which all are resized")
    notes = _classes(asked, index)
    total = sum(index.counts(SYNTHETIC).values())
    index.db.executemany("DELETE FROM item WHERE id = ?", _copies(index))
    sizes = [sum(index.counts(number).values()) for number in (REAL, SYNTHETIC)]
    _refuse_few(asked, sizes, total)
    refuse_large(asked, index, sum(min(asked.limit, size) for size in sizes))
    a, b = (pictures(asked, index, number, asked.limit, troubles) for number in (REAL, SYNTHETIC))
    refuse(asked, troubles)
    if asked.skip_broken:
        troubles.print()
    a, b = coloured(a, b, asked.real, asked.given)
    found = _held(asked, a, b, sizes[1], total, told, notes)
    return dataclasses.replace(found, left_out=troubles.count)


def _copies(index: Index) -> list[tuple[int]]:
    """The set's images whose files hold what one of the real set does, as SQL takes ids."""
    there = "SELECT size, checksum FROM item WHERE set_ = ?"
    alike = f"SELECT id FROM item WHERE set_ = ? AND (size, checksum) IN ({there}) ORDER BY id"
    return index.db.execute(alike, (SYNTHETIC, REAL)).fetchall()


def _held(
    asked: Audit, real: np.ndarray, given: np.ndarray, left: int, total: int, told: Written, notes: tuple[str, ...]
) -> Found:
    """The set's rows against real ones; `left` of `total` of the set are not in the real set as they are stored."""
    there = set(traces.digests(real)) if real.ndim == 4 else set()  # rows of numbers may be alike by chance
    new = np.array([digest not in there for digest in traces.digests(given)])  # [n]: copies stored otherwise are real
    _refuse_few(asked, [len(real), int(new.sum())], total)
    unlike = new.mean() * left / total  # share of the set that is not in the real set
    same = round(total * (1 - unlike))
    scores = traces.scores(real, given[new], asked.seed)
    found = share(*scores, asked.confidence)
    value = None if found.value is None else found.value * unlike
    found = dataclasses.replace(found, value=value, low=found.low * unlike, high=found.high * unlike)
    return Found(told, found, scores, (len(real), int(new.sum())), same, notes)


def _of_numbers(asked: Audit, table: numbers.Numbers) -> Found:
    told = Written(len(table.rows))
    if asked.real is None:
        return Found(told)
    real = numbers.read(asked.real)
    if real is None or real.names != table.names:
        raise GenlossError(f"{asked.given} and {asked.real} have other columns; give tables with the same numbers.")
    chance = np.random.default_rng(asked.seed)
    a, b = (chance.permutation(rows)[: asked.limit] for rows in (real.rows, table.rows))  # [., d] each
    notes = tuple(f"columns that are no numbers are left out: {', '.join(some)}" for some in [table.others] if some)
    return _held(asked, a, b, len(table.rows), len(table.rows), told, notes)


def written(asked: Audit, troubles: Troubles) -> Written:
    """What a manifest of this project's says of each image, or else the marks that makers leave in their files."""
    images = open_set(asked.given, asked.synthetic_split)
    config = read_json(Path(asked.given) / CONFIG) or {}
    ours = config if MARK in config else {}
    said: dict[str, int] = {}
    rows, decoded = 0, []
    note = troubles.of(images.root)
    for item, data, _ in looked(watched(images.items(note), f"reading {asked.given}"), note, False):
        rows += 1
        if mark := next((name for mark, name in MARKS.items() if mark in data), None):
            said[mark] = said.get(mark, 0) + 1
        elif asked.watermark is not None and len(decoded) < asked.limit:
            try:
                decoded.append(decode(data, item.where))
            except Unreadable as error:
                note(error.where, error.why)
    if not rows:
        troubles.print()
        raise GenlossError(f"{asked.given} holds no image that can be used; give an image folder, or parquet.")
    if decoded and (marked := _marked(decoded, int(asked.watermark or 0))):
        said[f"the watermark of seed {asked.watermark}"] = marked
    if ours.get("set") == "synthetic":
        return Written(rows, rows, {"the set is one that genloss synthesize wrote": rows}, True)
    origins: dict[str, int] = {}
    for row in _manifest(Path(asked.given)) if ours else ():
        origins[str(row.get("origin"))] = origins.get(str(row.get("origin")), 0) + 1
    if sum(origins.values()) == rows:
        made = {f"origin '{name}' in the manifest": n for name, n in origins.items()}
        return Written(rows, sum(n for name, n in origins.items() if name not in REAL_ORIGINS), made, True)
    return Written(rows, sum(said.values()), said)


def _manifest(root: Path) -> Iterator[dict[str, Any]]:
    import json

    try:
        with (root / MANIFEST).open(encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                yield row if isinstance(row, dict) else {}
    except (OSError, ValueError, RecursionError):  # then it says nothing of some, and is not believed
        return


def _marked(images: list[np.ndarray], seed: int) -> int:
    """How many images read as marked by the `Watermark` of a seed, if more do than by each of nineteen others."""
    import jax
    import jax.numpy as jnp

    from simulator.recipe.watermark import Watermark

    if len({image.shape[:2] for image in images}) > 1:
        raise GenlossError("A watermark is read of images of one size, as they were written; leave --watermark out.")
    rows = jnp.asarray(stacked(images))  # [n, h, w, c]
    counts = jax.lax.map(lambda key: Watermark(key).marked(rows).sum(), jnp.arange(20, dtype=jnp.uint32) + seed)  # [20]
    return int(counts[0]) if counts[0] > counts[1:].max() else 0


def _classes(asked: Audit, index: Index) -> tuple[str, ...]:
    """Refuses sets of other classes; a note where both have the same in other proportions."""
    from scipy.stats import chi2_contingency

    real, given = (index.counts(number) for number in (REAL, SYNTHETIC))
    if not real or not given or "" in real or "" in given:
        return ()
    if alone := sorted(real.keys() ^ given.keys()):
        name, where = unescaped(alone[0]), asked.real if alone[0] in real else asked.given
        raise GenlossError(
            f"{asked.given} and {asked.real} have other classes ('{name}' is in {where} alone), which would look "
            "generated; give sets of the same classes."
        )
    counts = np.array([[of[label] for label in real] for of in (real, given)])  # [2, classes]
    if counts.shape[1] < 2:
        return ()
    found: Any = chi2_contingency(counts)
    if found.pvalue > 0.001:
        return ()
    return ("the classes are mixed in other proportions than in the real set, which looks generated too",)


def _refuse_few(asked: Audit, sizes: list[int], total: int) -> None:
    if sizes[1] == 0 and total >= LEAST:
        raise GenlossError(
            f"All of {asked.given} is in {asked.real}, so that nothing is left to ask; give real rows of another draw."
        )
    if min(sizes) < LEAST:
        raise GenlossError(
            f"An audit needs {LEAST} rows of each set that are not in the other; {asked.real} has {sizes[0]:,} and "
            f"{asked.given} {sizes[1]:,}."
        )
