"""Image sets written to disk, as image folders or hub-layout parquet; a call that was killed is gone on with.

A written set has config.json, what it was made from, and manifest.jsonl, a line for each image.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from experiments.imagesets.images import Item
from experiments.imagesets.metadata import feature
from experiments.imagesets.names import unescaped, unfit_path
from simulator import disk
from simulator.types import GenlossError

CONFIG, MANIFEST = "config.json", "manifest.jsonl"  # `datasets` passes the first over
MARK, LAYOUT = "genloss_image_set", 1  # in the configuration: that a set is ours, and the version of its layout
LOCK = ".genloss-set.lock"
LARGEST = 2**25  # bytes of a configuration or a comparison
SHARD, GROUP = 256 * 2**20, 16 * 2**20  # bytes of images in a parquet file, and in one of its row groups, about
_ROWS = 4096  # rows of a row group, at most
_MADE = re.compile(r"\.genloss-[\w-]+\.lock|\.config\.json\.part")  # there before a configuration is


def claim(out: Path, config: dict[str, Any]) -> None:
    """Makes `out` the folder of the set that `config` describes, or raises where it holds anything else.

    Fields of the configuration whose names end in `path` are told and not compared: data may be moved.
    """
    check_claim(out, config)
    if not (out / CONFIG).exists():
        text = json.dumps({MARK: LAYOUT, **config}, indent=2, ensure_ascii=False) + "\n"
        disk.write(out, CONFIG, text.encode(errors="backslashreplace"))  # of a path that is no text


def check_claim(out: Path, config: dict[str, Any]) -> None:
    """Raises where `out` cannot be written, or holds anything but the set that `config` describes, or a part of it.

    Fields that only one of the configurations has are not compared.  What is not there yet is not made.
    """
    stored = read_config(out)
    if stored is None:
        return
    for name in (name for name in config if name in stored and not name.endswith("path")):
        if stored[name] != config[name]:
            change = f"{name} is {json.dumps(stored[name])}, and {json.dumps(config[name])} is asked for"
            raise GenlossError(f"{out} holds another set ({change}); choose another folder for --out.")


def check_place(out: Path) -> None:
    """Raises where a folder cannot be made, or written to; leaves none."""
    new = [place for place in (out, *out.parents) if not os.path.lexists(place)]
    disk.folder(out)
    for place in new:
        with contextlib.suppress(OSError):  # of what another process has taken
            place.rmdir()


def read_config(out: Path) -> dict[str, Any] | None:
    """The configuration of the set in `out`; None where nothing is there yet.  Raises where anything else is."""
    try:
        if not out.is_dir():
            if os.path.lexists(out):
                raise GenlossError(f"{out} is a file; choose another folder for --out.")
            return None
        names = sorted(os.listdir(out))  # noqa: PTH208
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise GenlossError(f"{out} cannot be used ({why}); choose another folder for --out.") from None
    if CONFIG not in names:
        if foreign := [name for name in names if not _MADE.fullmatch(name) or (out / name).is_symlink()]:
            raise GenlossError(f"{out} holds other files, such as {foreign[0]}; choose another folder for --out.")
        return None
    stored = read_json(out / CONFIG)
    if stored is None or stored.get(MARK) != LAYOUT:
        raise GenlossError(
            f"{out / CONFIG} is none that genloss wrote, or an older one; choose another folder for --out."
        )
    return stored


def read_json(file: Path) -> dict[str, Any] | None:
    """The object in a file of our own; None where it holds anything else, or is a link."""
    try:
        if stat.S_ISREG((status := file.lstat()).st_mode) and status.st_size <= LARGEST:
            stored = json.loads(file.read_bytes())
            return stored if isinstance(stored, dict) else None
    except (OSError, ValueError, RecursionError):
        pass
    return None


@contextlib.contextmanager
def held(out: Path, name: str, busy: str | None = None) -> Iterator[None]:
    """Holds a lock below `out` that a process loses with its life; waits for it, or raises where it is `busy`."""
    disk.folder(out)
    with disk.writing(f"{out} cannot be written to"):
        lock = os.open(out / name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
        yield
    except BlockingIOError:
        raise GenlossError(f"{busy} by another process; wait for it, or choose another.") from None
    finally:
        os.close(lock)


def refuse_links(out: Path, folders: Iterable[str]) -> None:
    """Raises where one of the folders below `out` is reached through a link, or is none."""
    for folder in sorted(set(folders)):
        place = out
        for part in folder.split("/") if folder else ():
            place /= part
            if place.is_symlink() or (place.exists() and not place.is_dir()):
                raise GenlossError(f"{place} is no folder of its own, but a link or a file; move it away.")


def write_image(out: Path, item: Item) -> None:
    """Writes an item into the image folder `out`, as CLASS/NAME, whole or not at all.

    Give a class of your own by `escaped(name)`, so that it is one folder whatever is in its name.
    """
    if why := unfit_path(item.file):
        raise GenlossError(f"{item.where} cannot be written as {item.file!a}, a name that {why}; rename it.")
    disk.write(out, item.file, item.read())


@contextlib.contextmanager
def manifest(out: Path) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Gives `note(row)`, which adds a line; manifest.jsonl is there once all are noted, or not at all."""
    with disk.opened(out, MANIFEST, "utf-8") as file:
        yield lambda row: print(json.dumps(row, ensure_ascii=False), file=file)


def write_manifest(out: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Writes manifest.jsonl, a line for each row, whole or not at all."""
    with manifest(out) as note:
        for row in rows:
            note(row)


def shards(count: int, size: int) -> int:
    """How many parquet files hold `count` images of `size` bytes in all."""
    return max(min(-(-size // SHARD), count), 1)


def shard(i: int, files: int, split: str = "train") -> str:
    """The name of the i-th of several parquet files."""
    return f"{split}-{i:05d}-of-{files:05d}.parquet"


def write_parquet(
    out: Path,
    items: Iterable[Item],
    classes: tuple[str, ...] | None,
    count: int,
    files: int,
    split: str = "train",
    others: Mapping[str, Any] = MappingProxyType({}),
    features: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Writes `count` items as `files` hub-layout parquet files, out/data/SPLIT-00000-of-00002.parquet.

    `classes` are the labels in the order of their numbers; () leaves them out; with None what an item has for a label
    is its caption.  `others` are the Arrow types of further columns, of what is said of items, and `features` what
    `datasets` is told of some.  A file is there whole or not at all, and items of what is there are passed over without
    being read: the same call after a kill goes on.
    """
    import pyarrow
    import pyarrow.parquet

    number = {name: i for i, name in enumerate(classes or ())}
    schema = _schema(classes, others, features)
    stream, each = iter(items), -(-count // files)
    for i in range(files):
        name = f"data/{shard(i, files, split)}"
        rows = itertools.islice(stream, each)
        if os.path.lexists(out / name):
            _refuse_other(out / name, schema, sum(1 for _ in rows))
            continue
        # Encoded images do not shrink, and dictionaries or statistics of them would be images again.
        with (
            disk.opened(out, name) as file,
            pyarrow.parquet.ParquetWriter(file, schema, use_dictionary=False, write_statistics=False) as writer,
        ):
            for names, labels, images, said in _groups(rows):
                pictures = pyarrow.StructArray.from_arrays(
                    [pyarrow.array(images, pyarrow.binary()), pyarrow.array(names, pyarrow.string())], ["bytes", "path"]
                )
                columns: list[Any] = [pictures]
                if classes:
                    columns.append(pyarrow.array([number[label] for label in labels], pyarrow.int64()))
                elif classes is None:
                    columns.append(pyarrow.array(labels, pyarrow.string()))
                columns += [pyarrow.array([row.get(name) for row in said], kind) for name, kind in others.items()]
                writer.write_table(pyarrow.Table.from_arrays(columns, schema=schema))


def _refuse_other(file: Path, schema: Any, rows: int) -> None:
    """Raises where a parquet file is not the one that is to be there."""
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(file) as there:
            same = there.metadata.num_rows == rows and there.schema_arrow.equals(schema, check_metadata=True)
    except (pyarrow.ArrowException, OSError):
        same = False
    if not same or file.is_symlink():
        raise GenlossError(f"{file} is not what this set has there; move it away, and the same command goes on.")


def _groups(items: Iterable[Item]) -> Iterator[tuple[list[str], list[str], list[bytes], list[dict[str, Any]]]]:
    """Names, labels, encoded images and further columns of a row group at a time."""
    group: tuple[list[str], list[str], list[bytes], list[dict[str, Any]]] = [], [], [], []
    size = 0
    for item in items:
        data = item.read()
        group[0].append(item.name)
        group[1].append(item.label)
        group[2].append(data)
        group[3].append(json.loads(item.said) if item.said else {})
        size += len(data)
        if size >= GROUP or len(group[0]) == _ROWS:
            yield group
            group, size = ([], [], [], []), 0
    if group[0]:
        yield group


def _schema(classes: tuple[str, ...] | None, others: Mapping[str, Any], known: Mapping[str, Any]) -> Any:
    """The Arrow schema of image, label or caption and `others`, with the features that `datasets` reads from it."""
    import pyarrow

    features: dict[str, Any] = {"image": {"_type": "Image"}}
    fields = [pyarrow.field("image", pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()}))]
    if classes:
        features["label"] = {"names": [unescaped(name) for name in classes], "_type": "ClassLabel"}
        fields.append(pyarrow.field("label", pyarrow.int64()))
    elif classes is None:
        features["caption"] = {"dtype": "string", "_type": "Value"}
        fields.append(pyarrow.field("caption", pyarrow.string()))
    features |= {name: known.get(name) or feature(kind) for name, kind in others.items()}
    fields += [pyarrow.field(name, kind) for name, kind in others.items()]
    return pyarrow.schema(fields, {"huggingface": json.dumps({"info": {"features": features}})})
