"""A real image set some of whose images are replaced by synthetic ones, as a set on disk for any other trainer.

N constant, labels kept, class by class (Hataya, Bao & Arai 2023, arXiv:2211.08095).  The order in which images are
replaced, and by which, depends on the seed and on their names alone: whatever is replaced at 20 % is replaced by the
same image at 40 %, and by another set of the same names (a control) at the same places.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments.imagesets.checks import Troubles, watched
from experiments.imagesets.images import Folder, Item, Parquet, open_set
from experiments.imagesets.index import Index, kept
from experiments.imagesets.masks import REAL, SYNTHETIC, UNIFORM, Contamination, plan, refuse_odd
from experiments.imagesets.metadata import FILE, replaced, types, written
from experiments.imagesets.names import unescaped, warn_of_splits
from experiments.imagesets.writing import (
    LOCK,
    check_claim,
    check_place,
    claim,
    held,
    manifest,
    refuse_links,
    shard,
    shards,
    write_parquet,
)
from simulator import disk
from simulator.sources.images import Unreadable
from simulator.types import GenlossError, RunFailed


@kept()
def contaminate(asked: Contamination) -> int:
    """Writes the set; 0, or 1 where something was left out.  Killed and called again it goes on.

    Raises `GenlossError` where images cannot be used, classes are too small, or `out` holds another set, and
    `RunFailed` where the disk is full or a file can no longer be read.
    """
    out = Path(asked.out)
    check_claim(out, asked.config())
    check_place(out)
    for name in (asked.real, asked.synthetic):
        if name is not None and Path(os.path.realpath(out)).is_relative_to(os.path.realpath(name)):
            raise GenlossError(f"{out} lies in {name}, which it would be read as a part of; choose another --out.")
    troubles = asked.troubles("unusable")
    index = read(asked, troubles)
    if troubles.count:
        troubles.print()
        if not asked.skip_broken:
            raise GenlossError(
                f"{troubles.count:,} entries cannot be used, and nothing was written; mend them, or leave them out "
                "with --skip-broken."
            )
    if not asked.mixed:
        refuse_odd(index, asked.troubles("odd"), ("size", "mode"), UNIFORM, "take them as they are with --mixed")
    digests = {"real": index.digest(REAL), "synthetic": None if asked.drop else index.digest(SYNTHETIC)}
    if digests["real"] == digests["synthetic"]:
        raise GenlossError(f"{asked.real} and {asked.synthetic} hold the same images; give another set to replace by.")
    counts = plan(asked, index)
    (removed,) = index.db.execute("SELECT COUNT(*) FROM swap").fetchone()
    total = sum(counts.values()) - (removed if asked.drop else 0)
    classes = index.sets[REAL].classes(counts)
    refuse_same(index)
    kinds = columns(index) if asked.format == "parquet" else {}
    about = {**asked.config(), **digests, "images": total, "replaced": removed}
    check_claim(out, about)
    folders = [folder for (folder,) in index.db.execute("SELECT DISTINCT folder FROM item WHERE set_ = 0")]
    folders = folders if asked.format == "folder" else ["data"]
    with held(out, LOCK, f"{out} is being written"):
        claim(out, about)
        refuse_links(out, folders)
        try:
            write(asked, index, out, total, kinds)
        except Unreadable as error:
            raise RunFailed(f"{error.where} {error.why} by now; mend that, and the same command goes on.") from None
        (out / LOCK).unlink(missing_ok=True)
    if asked.format == "folder" and not (isinstance(index.sets[REAL], Folder) and index.sets[REAL].label):
        warn_of_splits(classes)
        warn_of_labels(classes)
    what = "removed" if asked.drop else asked.origin
    print(f"{out}: {total:,} images of {len(counts):,} classes, {removed:,} {what}")
    return 1 if troubles.count else 0


def read(asked: Contamination, troubles: Troubles) -> Index:
    """The two sets, read and checked."""
    index = Index()
    seed = str(asked.seed)
    own = seed if asked.nested else f"{seed} {float(asked.ratio)!r}"  # which real ones are replaced
    sets = [(asked.real, asked.split, own, "real images")]
    if asked.synthetic is not None and not asked.drop:
        sets.append((asked.synthetic, asked.synthetic_split, seed, "synthetic images"))
    for path, split, seed, what in sets:
        images = open_set(path, split, asked.label if what == "real images" else None)
        index.add(images, seed, what, troubles.of(images.root), whole=True)
        if not index.counts(len(index.sets) - 1):
            troubles.print()
            raise GenlossError(f"{path} holds no image that can be used; give an image folder, or a folder of parquet.")
    return index


def warn_of_labels(classes: tuple[str, ...]) -> None:
    """Says on stderr where an image folder numbers classes otherwise than the real set does, whose order this is."""
    if moved := [name for name, other in zip(classes, sorted(classes), strict=True) if name != other]:
        old, new = classes.index(moved[0]), sorted(classes).index(moved[0])
        print(
            f"Labels of an image folder are numbered by name: '{moved[0]}' was {old} and is {new}; --format parquet "
            "keeps them.",
            file=sys.stderr,
        )


# Writing.


def mixed(asked: Contamination, index: Index) -> Iterator[tuple[Item, dict[str, Any], int]]:
    """Each image of the new set, its row of the manifest, and its size in bytes, in the order of the real set."""
    if not asked.drop:
        index.spool(SYNTHETIC, "SELECT synthetic FROM swap")
    order = "r.folder, r.name" if isinstance(index.sets[REAL], Folder) else "r.id"
    rows = index.db.execute(
        "SELECT r.label, r.folder, r.name, r.where_, r.size, r.said, swap.real IS NOT NULL, s.id, s.name, s.where_, "
        "s.size, s.said FROM item AS r LEFT JOIN swap ON swap.real = r.id LEFT JOIN item AS s ON s.id = swap.synthetic "
        f"WHERE r.set_ = 0 ORDER BY {order}"
    )
    column = index.sets[REAL].label
    for (label, folder, name, where, size, said, swapped, *other), data in index.streamed(
        REAL, ((row, row[3]) for row in rows)
    ):
        row = {"file": "", "class": label, "origin": "real", "source": where, "replaced": None}
        if not swapped:
            yield Item(label, name, where, data, folder, said), row, size
        elif not asked.drop:
            i, new, source, size, more = other
            row |= {"origin": asked.origin, "source": source, "replaced": where}
            item = Item(label, renamed(name, new), source, index.data(SYNTHETIC, i, source), folder)
            yield item._replace(said=replaced(said, more, column)), row, size


def renamed(name: str, other: str) -> str:
    """The name of an image in whose place another stands, with the suffix of the other."""
    suffix = os.path.splitext(other)[1]  # noqa: PTH122
    same = {".jpeg": ".jpg", ".tiff": ".tif"}
    kinds = [same.get(s.lower(), s.lower()) for s in (os.path.splitext(name)[1], suffix)]  # noqa: PTH122
    return name if kinds[0] == kinds[1] else name + suffix  # x.JPEG.png: beside x.png in the same folder


def refuse_same(index: Index) -> None:
    """Raises where two images would be written under one name: real a.jpg.png, and a.jpg that a PNG file replaces."""
    index.db.create_function("renamed", 2, renamed, deterministic=True)
    twice = index.db.execute(
        "SELECT r.folder, renamed(r.name, IFNULL(s.name, r.name)) AS name, MIN(r.where_), MAX(r.where_) "
        f"{_ALL} GROUP BY 1, 2 HAVING COUNT(*) > 1"
    ).fetchone()
    if twice is not None:
        folder, name, first, second = twice
        raise GenlossError(f"{first} and {second} would both be written as {folder}/{name}; rename one of them.")


def columns(index: Index) -> dict[str, Any]:
    """The further columns of the new set, in parquet: their Arrow types."""
    column = index.sets[REAL].label
    said = index.db.execute(f"SELECT r.said, s.said {_ALL}")
    but = {"image", "label", FILE, column}
    return types((replaced(real, other or "", column) for real, other in said), but - {None})


def write(asked: Contamination, index: Index, out: Path, total: int, kinds: dict[str, Any]) -> None:
    """The images, then the manifest: where that is, all is."""
    stream = watched(mixed(asked, index), "writing", total)
    real = index.sets[REAL]
    (some,) = index.db.execute("SELECT COUNT(*) FROM item WHERE set_ = 0 AND said <> ''").fetchone()
    if asked.format == "folder":
        with contextlib.ExitStack() as held:
            note = held.enter_context(manifest(out))
            told = held.enter_context(disk.opened(out, "metadata.jsonl", "utf-8")) if some else None
            for item, row, size in stream:
                put(out, item, size)
                note(row | {"file": item.file})
                if told is not None:
                    print(written({FILE: item.file, **_row(item, real)}), file=told)
        return
    (size,) = index.db.execute(f"SELECT SUM(IFNULL(s.size, r.size)) {_ALL}").fetchone()
    files = shards(total, size)
    each = -(-total // files)  # rows of a file
    classes = real.classes(index.counts(REAL))
    with manifest(out) as note:

        def items() -> Iterator[Item]:
            for i, (item, row, _) in enumerate(stream):
                note(row | {"file": f"data/{shard(i // each, files)}#{i % each}"})
                yield item

        named = () if classes == ("",) else classes
        write_parquet(out, items(), named, total, files, others=kinds, features=getattr(real, "features", {}))


_ALL = "FROM item AS r LEFT JOIN swap ON swap.real = r.id LEFT JOIN item AS s ON s.id = swap.synthetic WHERE r.set_ = 0"


def _row(item: Item, real: Folder | Parquet) -> dict[str, Any]:
    """The columns of an image in metadata.jsonl, beside which `datasets` takes no label from folders."""
    row = {name: said for name, said in (json.loads(item.said) if item.said else {}).items() if name != FILE}
    if item.label == "" or real.label in row:
        return row
    number = isinstance(real, Parquet) and not real.names and item.label.isdecimal()
    return {"label": int(item.label) if number else unescaped(item.label), **row}


def put(out: Path, item: Item, size: int) -> None:
    """Copies an image of `size` bytes below `out`, unless it is there."""
    try:
        status = os.lstat(out / item.file)
    except FileNotFoundError:
        pass
    else:
        if stat.S_ISREG(status.st_mode) and status.st_size == size:
            return
        raise GenlossError(
            f"{out / item.file} is not what this set has there; move it away, and the same command goes on."
        )
    data = item.read()
    if len(data) != size:
        raise RunFailed(f"{item.where} has changed since it was checked; let nobody write to it, and start again.")
    disk.write(out, item.file, data)
