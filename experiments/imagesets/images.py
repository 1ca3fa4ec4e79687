"""Image sets on disk, as streams: image folders and hub-layout parquet, read without holding a set.

An image folder is CLASS/NAME.png; each folder that holds images is a class, named by its path.  Hub-layout parquet is
data/train-00000-of-00002.parquet with columns image {bytes, path} and label, as Hugging Face `datasets` writes them.
Images stay encoded until somebody asks.  What cannot be read is not skipped: readers tell it to `troubles`.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.imagesets.metadata import read_metadata, written
from experiments.imagesets.names import OWN, SPLITS, escaped, unfit, unfit_class, unfit_path
from simulator.sources import tables
from simulator.sources.images import Unreadable, decode, read
from simulator.types import GenlossError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
DEEPEST = 64  # folders within folders

Troubles = Callable[[str, str], None]
"""`troubles(where, why)`: told of each thing that should have been an image and cannot be used."""


class Item(NamedTuple):
    """An image of a set, still encoded."""

    label: str  # its class as a path below the root of an image folder (`escaped`); "" where the set has none
    name: str  # its file name within the class, such as "0001.png"
    where: str  # its path below the set's root, or FILE#ROW
    data: bytes | str  # the encoded image, or the path of the file that holds it
    folder: str | None = None  # where it lies below the root of an image folder; None: in that of its class
    said: str = ""  # further columns, a row as JSON

    @property
    def file(self) -> str:
        """Its path below the root of an image folder."""
        folder = self.label if self.folder is None else self.folder
        return f"{folder}/{self.name}" if folder else self.name

    def read(self) -> bytes:
        """The encoded image; raises `Unreadable` where its file cannot be read."""
        return self.data if isinstance(self.data, bytes) else read(self.data, self.where)

    def decode(self, side: int | None = None, channels: int | None = None) -> np.ndarray:
        """The image, uint8 [h, w, c]; see `simulator.sources.images.decode`."""
        return decode(self.data, self.where, side, channels)


@dataclass(frozen=True)
class Folder:
    """An image folder; where it has metadata, each image has its row."""

    root: Path
    metadata: Mapping[str, dict[str, Any]] = field(default_factory=dict)  # by path below the root
    label: str | None = None  # the column of metadata that holds labels; None: an image's folder is its class

    def items(self, troubles: Troubles, said: bool = False) -> Iterator[Item]:
        """Its images in the order of the file system; links are followed, but not in circles."""
        if not self.metadata:
            yield from self._below(self.root, "", (), troubles)
            return
        seen = set()
        for item in self._below(self.root, "", (), troubles):
            seen.add(item.where)
            try:
                yield self._labelled(item)
            except Unreadable as error:
                troubles(error.where, error.why)
        for name in sorted(self.metadata.keys() - seen):
            troubles(name, "has a row of metadata, and no image is there")

    def _labelled(self, item: Item) -> Item:
        if (row := self.metadata.get(item.where)) is None:
            raise Unreadable(item.where, "has no row in the metadata")
        named = item.label if self.label is None else escaped(str(tables.label(row.get(self.label), item.where)))
        return item._replace(label=named, folder=item.label, said=written(row))

    def _below(
        self, folder: Path, label: str, above: tuple[tuple[int, int], ...], troubles: Troubles
    ) -> Iterator[Item]:
        where = label or "."
        try:
            itself = folder.stat()
            if (identity := (itself.st_dev, itself.st_ino)) in above:
                troubles(where, "is a link to a folder that it lies in")
                return
            if len(above) > DEEPEST:
                troubles(where, f"lies below more than {DEEPEST} folders")
                return
            entries = os.scandir(folder)
        except OSError as error:
            troubles(where, f"cannot be opened ({error.strerror})")
            return
        found, folders = False, []
        with entries:
            for entry in entries:
                path = f"{label}/{entry.name}" if label else entry.name
                if entry.name.startswith("."):
                    continue
                if why := unfit(entry.name):
                    troubles(path, f"has a name that {why}")
                    continue
                try:
                    kind = entry.stat().st_mode
                except OSError as error:  # a link in circles, or to nothing
                    troubles(path, f"cannot be opened ({error.strerror})")
                    continue
                own = not label and entry.name in OWN
                if stat.S_ISDIR(kind) and own:
                    troubles(path, "is a folder, and has the name of a file which a set has for itself")
                elif stat.S_ISDIR(kind):
                    folders.append(entry.name)
                elif own:
                    continue
                elif os.path.splitext(entry.name)[1].lower() not in SUFFIXES:  # noqa: PTH122
                    troubles(path, "has no suffix of an image")
                elif not stat.S_ISREG(kind):
                    troubles(path, "is no regular file")
                else:
                    found = True
                    yield Item(label, entry.name, path, entry.path)
        for name in sorted(folders):
            yield from self._below(folder / name, f"{label}/{name}" if label else name, (*above, identity), troubles)
        if not (found or folders):
            troubles(where, "is an empty folder")

    def classes(self, seen: Iterable[str]) -> tuple[str, ...]:
        """The names of labels, sorted, as `datasets` numbers those of an image folder; see `Parquet` for metadata."""
        return tuple(sorted(seen)) if self.label is None else _numbered(seen)


@dataclass(frozen=True)
class Parquet:
    """Rows of parquet files with an image column, {bytes, path}, and maybe a label."""

    root: Path
    files: tuple[Path, ...]
    image: str
    label: str | None
    names: tuple[str, ...]  # of a ClassLabel; () where the label column says it itself
    others: tuple[str, ...] = ()  # columns of text and numbers
    features: Mapping[str, Any] = field(default_factory=dict)  # of those that name classes, as `datasets` notes them

    def items(self, troubles: Troubles, said: bool = False) -> Iterator[Item]:
        """Its images in the order of the rows, with what is `said` of them."""
        import pyarrow
        import pyarrow.parquet

        columns = [self.image, *([] if self.label is None else [self.label]), *(self.others if said else ())]
        before = 0  # rows
        for file in self.files:
            where, first = os.path.relpath(file, self.root) if file != self.root else file.name, before
            try:
                # Pages are read as they are asked for: a hub file may be one row group of gigabytes.
                with pyarrow.parquet.ParquetFile(file, buffer_size=2**20, pre_buffer=False) as table:
                    for batch in table.iter_batches(256, columns=columns, use_threads=False):
                        yield from self._rows(batch, where, first, before, troubles)
                        before += len(batch)
            except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
                troubles(where, f"cannot be read from row {before - first} on ({str(error).splitlines()[0]})")

    def _rows(self, batch: Any, where: str, first: int, before: int, troubles: Troubles) -> Iterator[Item]:
        names = batch.schema.names[1 + (self.label is not None) :]
        columns = [batch.column(name).to_pylist() for name in (self.image, *names)]
        labels = [None] * len(batch) if self.label is None else batch.column(self.label).to_pylist()
        for row, (cell, *said, label) in enumerate(zip(*columns, labels, strict=True), before):
            try:
                at = f"{where}#{row - first}"
                data = tables.encoded(cell, at, self.root)
                data = data if isinstance(data, bytes) else str(data)
                path = cell.get("path") if isinstance(cell, dict) else None if isinstance(cell, bytes) else cell
                named = "" if self.label is None else self._class(label, at)
                name = _named(path, row, data if isinstance(data, bytes) else b"")
                yield Item(named, name, at, data, None, written(dict(zip(names, said, strict=True))))
            except Unreadable as error:
                troubles(error.where, error.why)

    def _class(self, cell: Any, at: str) -> str:
        """The class, as a folder, of what stands in a cell of labels."""
        label = tables.label(cell, at, self.names)
        name = self.names[label] if self.names and isinstance(label, int) else str(label)
        if why := unfit_class(name):
            raise Unreadable(at, f"is of class {name!a}, a name that {why}")
        return escaped(name)

    def classes(self, seen: Iterable[str]) -> tuple[str, ...]:
        """The names of labels in their own order; plain numbers have all up to the highest."""
        return tuple(map(escaped, self.names)) if self.names else _numbered(seen)


def _numbered(seen: Iterable[str]) -> tuple[str, ...]:
    """Labels in the order of their numbers: names sorted, and of plain numbers all up to the highest."""
    seen = sorted(seen)
    return tuple(map(str, range(1 + max(map(int, seen))))) if all(map(str.isdecimal, seen)) else tuple(seen)


def open_set(path: str | os.PathLike[str], split: str | None = None, label: str | None = None) -> Folder | Parquet:
    """The image set at a folder or parquet file; of several splits, "train" where none is named.

    `label` names the label column where there are several.
    """
    try:
        return _open_set(path, split, label)
    except (OSError, RuntimeError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise GenlossError(f"The image set at {path} cannot be opened ({why}); give another folder.") from None


def _open_set(path: Any, split: str | None, label: str | None) -> Folder | Parquet:
    root = Path(path).expanduser()
    if not root.exists():
        raise GenlossError(f"There is no image set at {path}; give an image folder, or a folder or file of parquet.")
    if root.is_file() and root.suffix != ".parquet":
        raise GenlossError(f"{path} is a file and no parquet; give an image folder, or a folder or file of parquet.")
    if files := [root] if root.is_file() else _parquet_files(root):
        return _parquet(root, files, split, label)
    inside = {entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")}
    if inside == {"folder", "parquet"} and (root / "manifest.jsonl").exists():  # written in both formats
        return _open_set(root / "parquet", split, label)
    whole = root
    if split is not None or (inside and inside <= SPLITS):
        root = root / _chosen(path, inside, split)
    metadata = read_metadata(root) or (read_metadata(whole, f"{root.name}/") if root != whole else {})
    columns = {name for row in metadata.values() for name in row}
    if label is not None and label not in columns:
        raise GenlossError(f"{path} has no column '{label}' in a metadata.jsonl; it has: {', '.join(sorted(columns))}.")
    return Folder(root, metadata, label or ("label" if "label" in columns else None))


def _chosen(path: Any, splits: Iterable[str], wanted: str | None) -> str:
    splits = sorted(splits)
    chosen = wanted or (splits[0] if len(splits) == 1 else "train")
    if chosen not in splits:
        raise GenlossError(
            f"{path} has no split '{chosen}'; choose with --split one of: {', '.join(splits) or 'none'}."
        )
    return chosen


def _parquet_files(root: Path) -> list[Path]:
    """Those of a hub layout: in the folder itself, in data/, or in a folder per split."""
    own = [file for pattern in ("*.parquet", "data/*.parquet") for file in root.glob(pattern)]
    return sorted(own or [file for split in SPLITS for file in root.glob(f"{split}/*.parquet")])


def _parquet(root: Path, files: list[Path], split: str | None, label: str | None) -> Parquet:
    import pyarrow
    import pyarrow.parquet

    if not root.is_file():
        # train-00000-of-00002.parquet and train.parquet, or train/0000.parquet
        names = [re.sub(r"-\d+-of-\d+$", "", file.stem) for file in files]
        of = [file.parent.name if name.isdecimal() else name for name, file in zip(names, files, strict=True)]
        chosen = _chosen(root, set(of), split)
        files = [file for file, name in zip(files, of, strict=True) if name == chosen]
    schema: Any = None
    why = ""
    for file in files:  # a broken file is told of when it is read, if there is another
        try:
            schema = pyarrow.parquet.read_schema(file)
            break
        except (pyarrow.ArrowException, OSError) as error:
            why = str(error).splitlines()[0]
    if schema is None:
        raise GenlossError(f"{files[0]} cannot be read as parquet ({why}); write it again.")
    features = _features(schema)
    images = [name for name in schema.names if features.get(name, {}).get("_type") == "Image"] or [
        field.name for field in schema if _has(field.type, "bytes") or "binary" in str(field.type)
    ]
    images = images or [name for name in ("image",) if name in schema.names]
    if len(images) != 1:
        raise GenlossError(
            f"{files[0]} must have one column of images, {{bytes, path}}; it has: {', '.join(schema.names)}."
        )
    labels = [name for name in schema.names if features.get(name, {}).get("_type") == "ClassLabel"] or [
        name for name in schema.names if name == "label"
    ]
    if label is not None and label not in schema.names:
        raise GenlossError(f"{files[0]} has no column '{label}'; it has: {', '.join(schema.names)}.")
    if label is None and len(labels) > 1:
        raise GenlossError(
            f"{files[0]} has several columns of labels; choose with --label one of: {', '.join(labels)}."
        )
    label = label or (labels[0] if labels else None)
    names = features.get(label, {}).get("names") if label else None
    names = tuple(map(str, names)) if isinstance(names, list) else ()
    for i, name in enumerate(names):
        if name in names[:i]:
            raise GenlossError(
                f"{files[0]} names two labels '{name}', {names.index(name)} and {i}; give each class a name of its own."
            )
        if why := unfit_class(name):
            raise GenlossError(f"{files[0]} has a class {name!a}, a name that {why}; rename it.")
    others = tuple(name for name in schema.names if name not in (images[0], label) and _plain(schema.field(name).type))
    classes = {name: features[name] for name in others if features.get(name, {}).get("_type") == "ClassLabel"}
    return Parquet(root, tuple(files), images[0], label, names, others, classes)


def _features(schema: Any) -> dict[str, dict[str, Any]]:
    """What `datasets` notes of each column; {} where that is damaged."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        return {name: feature for name, feature in features.items() if isinstance(feature, dict)}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _plain(kind: Any) -> bool:
    """Whether values of an Arrow type are text, numbers, or lists or groups of such."""
    import pyarrow

    if pyarrow.types.is_struct(kind):
        return all(_plain(field.type) for field in kind)
    if pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind):
        return _plain(kind.value_type)
    tests = ("is_boolean", "is_integer", "is_floating", "is_string", "is_large_string", "is_null")
    return any(getattr(pyarrow.types, test)(kind) for test in tests)


def _has(kind: Any, field: str) -> bool:
    import pyarrow

    return pyarrow.types.is_struct(kind) and kind.get_field_index(field) >= 0


def _named(path: str | None, row: int, data: bytes) -> str:
    """The name of an image: the last part of its path, or, where there is none that can be a name, its row."""
    name = re.split(r"[/\\]", path or "")[-1]
    if unfit_path(name):
        name = f"{row:08d}"
    return name if os.path.splitext(name)[1].lower() in SUFFIXES else name + _suffix(data)  # noqa: PTH122


def _suffix(data: bytes) -> str:
    """The suffix of an encoded image by its first bytes."""
    if data[:3] == b"\xff\xd8\xff":
        return ".jpg"
    return ".webp" if data[8:12] == b"WEBP" else ".gif" if data[:3] == b"GIF" else ".png"
