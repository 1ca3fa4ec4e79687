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
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.data.names import OWN, SPLITS, escaped, unfit, unfit_class, unfit_path
from simulator.images import decode, read
from simulator.types import GenlossError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
DEEPEST = 64  # folders within folders
MOST_CLASSES = 2**20

Troubles = Callable[[str, str], None]
"""`troubles(where, why)`: told of each thing that should have been an image and cannot be used."""


class Item(NamedTuple):
    """An image of a set, still encoded."""

    label: str  # its class as a path below the root of an image folder (`escaped`); "" where the set has none
    name: str  # its file name within the class, such as "0001.png"
    where: str  # its path below the set's root, or FILE#ROW
    data: bytes | str  # the encoded image, or the path of the file that holds it

    @property
    def file(self) -> str:
        """Its path below the root of an image folder."""
        return f"{self.label}/{self.name}" if self.label else self.name

    def read(self) -> bytes:
        """The encoded image; raises `Unreadable` where its file cannot be read."""
        return self.data if isinstance(self.data, bytes) else read(self.data, self.where)

    def decode(self, side: int | None = None, channels: int | None = None) -> np.ndarray:
        """The image, uint8 [h, w, c]; see `simulator.images.decode`."""
        return decode(self.data, self.where, side, channels)


@dataclass(frozen=True)
class Folder:
    """An image folder."""

    root: Path

    def items(self, troubles: Troubles) -> Iterator[Item]:
        """Its images in the order of the file system; links are followed, but not in circles."""
        yield from self._below(self.root, "", (), troubles)

    def _below(
        self, folder: Path, label: str, above: tuple[tuple[int, int], ...], troubles: Troubles
    ) -> Iterator[Item]:
        where = label or "."
        try:
            itself = folder.stat()
            entries = os.scandir(folder)
        except OSError as error:
            troubles(where, f"cannot be opened ({error.strerror})")
            return
        if (identity := (itself.st_dev, itself.st_ino)) in above:
            troubles(where, "is a link to a folder that it lies in")
            return
        if len(above) > DEEPEST:
            troubles(where, f"lies below more than {DEEPEST} folders")
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
        """The names of labels, sorted, as `datasets` numbers those of an image folder."""
        return tuple(sorted(seen))


@dataclass(frozen=True)
class Parquet:
    """Rows of parquet files with an image column, {bytes, path}, and maybe a label."""

    root: Path
    files: tuple[Path, ...]
    image: str
    label: str | None
    names: tuple[str, ...]  # of a ClassLabel; () where the label column says it itself

    def items(self, troubles: Troubles) -> Iterator[Item]:
        """Its images in the order of the rows."""
        import pyarrow
        import pyarrow.parquet

        columns = [self.image] if self.label is None else [self.image, self.label]
        before = 0  # rows
        for file in self.files:
            where, first = os.path.relpath(file, self.root) if file != self.root else file.name, before
            try:
                # Pages are read as they are asked for: a hub file may be one row group of gigabytes.
                with pyarrow.parquet.ParquetFile(file, buffer_size=2**20, pre_buffer=False) as table:
                    for batch in table.iter_batches(256, columns=columns, use_threads=False):
                        yield from self._rows(batch, where, first, before, troubles)
                        before += len(batch)
            except (pyarrow.ArrowException, OSError) as error:
                troubles(where, f"cannot be read from row {before - first} on ({str(error).splitlines()[0]})")

    def _rows(self, batch: Any, where: str, first: int, before: int, troubles: Troubles) -> Iterator[Item]:
        images = batch.column(self.image)
        paths = images.field("path").to_pylist() if _has(images.type, "path") else [None] * len(batch)
        labels: list[Any] = [""] * len(batch) if self.label is None else batch.column(self.label).to_pylist()
        rows = zip(images.field("bytes").to_pylist(), paths, labels, strict=True)
        for row, (data, path, label) in enumerate(rows, before):
            at = f"{where}#{row - first}"
            if self.names and label is not None:
                label = self.names[label] if 0 <= label < len(self.names) else None
            if data is None:
                troubles(at, "holds no image")
            elif label is None:
                troubles(at, "has a label that is no class")
            elif self.label is not None and (why := unfit_class(str(label))):
                troubles(at, f"is of class {str(label)!a}, a name that {why}")
            else:
                yield Item(escaped(str(label)), _named(path, row, data), at, data)

    def classes(self, seen: Iterable[str]) -> tuple[str, ...]:
        """The names of labels in their own order; plain numbers have all up to the highest."""
        if self.names:
            return tuple(map(escaped, self.names))
        seen = sorted(seen)
        if not all(map(str.isdecimal, seen)):
            return tuple(seen)
        last = max(map(int, seen))
        if last >= MOST_CLASSES:
            raise GenlossError(f"{self.root} has the label {last}, and numbers below {MOST_CLASSES:,} are classes.")
        return tuple(map(str, range(1 + last)))


def open_set(path: str | os.PathLike[str], split: str | None = None, label: str | None = None) -> Folder | Parquet:
    """The image set at a folder or parquet file; of several splits, "train" where none is named.

    `label` names the label column where parquet has several.
    """
    root = Path(path).expanduser()
    if not root.exists():
        raise GenlossError(f"There is no image set at {path}; give an image folder, or a folder or file of parquet.")
    if root.is_file() and root.suffix != ".parquet":
        raise GenlossError(f"{path} is a file and no parquet; give an image folder, or a folder or file of parquet.")
    if files := [root] if root.is_file() else _parquet_files(root):
        return _parquet(root, files, split, label)
    inside = {entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")}
    if inside == {"folder", "parquet"} and (root / "manifest.jsonl").exists():  # written in both formats
        return open_set(root / "parquet", split, label)
    if split is not None or (inside and inside <= SPLITS):
        root = root / _chosen(path, inside, split)
    return Folder(root)


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
    features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    images = [field.name for field in schema if _has(field.type, "bytes")]
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
    return Parquet(root, tuple(files), images[0], label, tuple(features.get(label, {}).get("names", ())))


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
