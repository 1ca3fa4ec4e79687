"""Image sets written to disk, as image folders or hub-layout parquet; a call that was killed is gone on with.

A written set has config.json, what it was made from, and manifest.jsonl, a line for each image.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from experiments.data.images import Item
from simulator.types import GenlossError

CONFIG, MANIFEST = "config.json", "manifest.jsonl"  # `datasets` passes the first over
SHARD, GROUP = 256 * 2**20, 16 * 2**20  # bytes of images in a parquet file, and in one of its row groups, about
_ROWS = 4096  # rows of a row group, at most


def claim(out: Path, config: dict[str, Any]) -> None:
    """Makes `out` the folder of the set that `config` describes, or raises where it holds anything else.

    Fields of the configuration whose names end in `path` are told and not compared: data may be moved.
    """
    check_claim(out, config)
    out.mkdir(parents=True, exist_ok=True)
    if not (out / CONFIG).exists():
        write_whole(out / CONFIG, (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode())


def check_claim(out: Path, config: dict[str, Any]) -> None:
    """Raises where `out` holds another set; fields that only one of the configurations has are not compared."""
    if not out.exists():
        return
    if not out.is_dir():
        raise GenlossError(f"{out} is a file; choose another folder for --out.")
    if not (out / CONFIG).exists():
        files = (entry.name for entry in out.iterdir())
        if left := sorted(name for name in files if not name.endswith(".part") and not name.startswith(".")):
            raise GenlossError(f"{out} holds other files, such as {left[0]}; choose another folder for --out.")
        return
    try:
        stored = dict(json.loads((out / CONFIG).read_text()))
    except (OSError, ValueError, TypeError):
        raise GenlossError(f"{out / CONFIG} cannot be read; choose another folder for --out.") from None
    for name in (name for name in config if name in stored and not name.endswith("path")):
        if stored[name] != config[name]:
            change = f"{name} is {json.dumps(stored[name])}, and {json.dumps(config[name])} is asked for"
            raise GenlossError(f"{out} holds another set ({change}); choose another folder for --out.")


def write_whole(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes a file so that it is there whole or not at all, whenever the process dies."""
    part = f"{os.fspath(path)}.part"
    with open(part, "wb", buffering=0) as file:  # noqa: PTH123
        file.write(data)
    os.replace(part, path)  # noqa: PTH105


def write_image(out: Path, item: Item) -> None:
    """Writes an item into the image folder `out`, as CLASS/NAME, whole or not at all.

    Give a class of your own by `escaped(name)`, so that it is one folder whatever is in its name.
    """
    path = out / item.file
    if item.file.startswith("/") or any(part.startswith(".") for part in item.file.split("/")):
        raise GenlossError(f"{item.where} cannot be written as {item.file} below {out}; rename its class.")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, item.read())


@contextlib.contextmanager
def manifest(out: Path) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Gives `note(row)`, which adds a line; manifest.jsonl is there once all are noted, or not at all."""
    part = out / f"{MANIFEST}.part"
    with part.open("w", encoding="utf-8") as file:
        yield lambda row: print(json.dumps(row, ensure_ascii=False), file=file)
    part.replace(out / MANIFEST)


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
) -> None:
    """Writes `count` items as `files` hub-layout parquet files, out/data/SPLIT-00000-of-00002.parquet.

    `classes` are the labels in the order of their numbers; () leaves them out; with None what an item has for a label
    is its caption.  A file is there whole or not at all, and items of what is there are passed over without being
    read: the same call after a kill goes on.
    """
    import pyarrow
    import pyarrow.parquet

    folder = out / "data"
    folder.mkdir(parents=True, exist_ok=True)
    number = {name: i for i, name in enumerate(classes or ())}
    schema = _schema(classes)
    stream, each = iter(items), -(-count // files)
    for i in range(files):
        path = folder / shard(i, files, split)
        rows = itertools.islice(stream, each)
        if path.exists():
            for _ in rows:
                pass
            continue
        part = path.with_suffix(".parquet.part")
        # Encoded images do not shrink, and dictionaries or statistics of them would be images again.
        with pyarrow.parquet.ParquetWriter(part, schema, use_dictionary=False, write_statistics=False) as writer:
            for names, labels, images in _groups(rows):
                pictures = pyarrow.StructArray.from_arrays(
                    [pyarrow.array(images, pyarrow.binary()), pyarrow.array(names, pyarrow.string())], ["bytes", "path"]
                )
                columns: list[Any] = [pictures]
                if classes:
                    columns.append(pyarrow.array([number[label] for label in labels], pyarrow.int64()))
                elif classes is None:
                    columns.append(pyarrow.array(labels, pyarrow.string()))
                writer.write_table(pyarrow.Table.from_arrays(columns, schema=schema))
        part.replace(path)


def _groups(items: Iterable[Item]) -> Iterator[tuple[list[str], list[str], list[bytes]]]:
    """Names, labels and encoded images of a row group at a time."""
    group: tuple[list[str], list[str], list[bytes]] = [], [], []
    size = 0
    for item in items:
        data = item.read()
        group[0].append(item.name)
        group[1].append(item.label)
        group[2].append(data)
        size += len(data)
        if size >= GROUP or len(group[0]) == _ROWS:
            yield group
            group, size = ([], [], []), 0
    if group[0]:
        yield group


def _schema(classes: tuple[str, ...] | None) -> Any:
    """The Arrow schema of image and label or caption, with the features that `datasets` reads from its metadata."""
    import pyarrow

    features: dict[str, Any] = {"image": {"_type": "Image"}}
    fields = [pyarrow.field("image", pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()}))]
    if classes:
        features["label"] = {"names": [name.replace("%2F", "/") for name in classes], "_type": "ClassLabel"}
        fields.append(pyarrow.field("label", pyarrow.int64()))
    elif classes is None:
        features["caption"] = {"dtype": "string", "_type": "Value"}
        fields.append(pyarrow.field("caption", pyarrow.string()))
    return pyarrow.schema(fields, {"huggingface": json.dumps({"info": {"features": features}})})
