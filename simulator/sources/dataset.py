"""Images with labels, and a held-out split: the embedded digits, a folder, a parquet file or a hub id."""

from __future__ import annotations

import functools
import gzip
import hashlib
import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from simulator.pool import Rows
from simulator.sources import tables
from simulator.sources.images import Unreadable
from simulator.sources.split import Split, Stream, digests, refuse_leak, stratified
from simulator.types import Array, GenlossError, Key


@dataclass(frozen=True)
class Dataset(Stream):
    """Real rows `{"image": uint8 [h, w, c], "label": int32}` with a held-out split.

    A stream is one permutation of the train split, so generation 0 and all fresh batches are disjoint, and no row of
    the test split is ever in it.  `path` is "digits" (scikit-learn's 1,797 8x8 digits, embedded), or a hub id, a
    folder in hub layout, an image folder or a parquet file, read through Hugging Face `datasets`.  Images are in colour
    if any is, and read as `simulator.sources.images.decode` says; labels are names or numbers of classes.
    """

    path: str = "digits"  # "digits", a hub id, a folder, or a parquet file
    train: str = "train"  # split the chain eats from
    test: str = "test"  # held-out split; "20%" holds out the last fifth of a shuffle of `train`
    image: str | None = None  # image column; None finds it from the features
    label: str | None = None  # label column; None finds it from the features
    side: int | None = None  # resize images to side x side pixels; None keeps them
    reuse: bool = False  # start the permutation again when it runs out, instead of an error

    def __post_init__(self) -> None:
        options = (self.train, self.test, self.image, self.label, self.side)
        if self.path == "digits" and options != ("train", "test", None, None, None):
            raise GenlossError("The embedded digits have one split and one size; only `reuse` can be changed.")
        if self.side is not None and self.side < 1:
            raise GenlossError(f"`side` is {self.side} and must be at least 1 pixel.")
        tables.share_of(self.test)

    @classmethod
    def digits(cls) -> Dataset:
        """1,438 training and 359 held-out handwritten digits, 8x8, grey values 0..255."""
        return cls()

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        train: str = "train",
        test: str = "test",
        image: str | None = None,
        label: str | None = None,
        side: int | None = None,
        reuse: bool = False,
    ) -> Dataset:
        """A data set by hub id or path, read at once, so that whatever is wrong with it is said now."""
        dataset = cls(os.fspath(path), train, test, image, label, side, reuse)
        _ = dataset.split
        return dataset

    @property
    def split(self) -> Split:
        """The decoded data, read once per process."""
        return _read(self.path, self.train, self.test, self.image, self.label, self.side)

    @property
    def supply(self) -> str:
        return f"the '{self.train}' split of {self.path} has {self.size}"

    def permuted(self, key: Key, rows: Rows, held_out: bool) -> Array:
        """Held-out rows are stratified: one row of each class comes first, then all in proportion."""
        order = super().permuted(key, rows, held_out)  # [size]
        if held_out:
            order = order[stratified(jnp.asarray(rows["label"])[order], len(self.split.classes))]
        return order

    def guard(self, rows: Rows) -> None:
        """Raises where one of `rows` (leaves [n, ...]) is byte for byte a held-out row."""
        refuse_leak(rows, self.split.test, f"are held-out rows of {self.path}")


@functools.lru_cache(maxsize=4)
def _read(path: str, train: str, test: str, image: str | None, label: str | None, side: int | None) -> Split:
    parts, classes = _digits() if path == "digits" else _huggingface(path, train, test, image, label, side)
    trained, held_out = parts
    for name, rows in ((train, trained), (test, held_out)):
        empty = np.flatnonzero(np.bincount(rows["label"], minlength=len(classes)) == 0) if "label" in rows else []
        if len(empty):
            raise GenlossError(
                f"Class {empty[0]} ('{classes[empty[0]]}') has no rows in the '{name}' split of {path}; "
                "leave the class out of the data set or choose another split."
            )
    if shared := len(set(digests(trained)) & set(digests(held_out))):
        raise GenlossError(
            f"{shared} rows of the '{train}' split of {path} are also in its '{test}' split; remove them from one, "
            "since rows trained on cannot be held out."
        )
    total = hashlib.blake2b(digest_size=10)
    for leaf in jax.tree.leaves((trained, held_out)):
        total.update(np.ascontiguousarray(leaf).tobytes())
    return Split(trained, held_out, classes, total.hexdigest())


def _digits() -> tuple[tuple[Rows, Rows], tuple[str, ...]]:
    """scikit-learn's file, read without its modules, whose import takes longer than all else until the first step."""
    home = importlib.util.find_spec("sklearn")
    assert home is not None and home.origin is not None
    with gzip.open(Path(home.origin).parent / "datasets/data/digits.csv.gz", "rt") as file:
        table = np.loadtxt(file, delimiter=",")  # [1797, 65]: 64 pixels in 0..16 and a label
    pixels = np.round(table[:, :-1].reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    return _shuffle_split({"image": pixels, "label": table[:, -1].astype(np.int32)}, 0.2), tuple("0123456789")


def _shuffle_split(rows: dict[str, np.ndarray], share: float) -> tuple[Rows, Rows]:
    order = np.random.default_rng(0).permutation(len(rows["image"]))
    cut = round(len(order) * (1 - share))
    return {k: v[order[:cut]] for k, v in rows.items()}, {k: v[order[cut:]] for k, v in rows.items()}


def _huggingface(
    path: str, train: str, test: str, image: str | None, label: str | None, side: int | None
) -> tuple[tuple[Rows, Rows], tuple[str, ...]]:
    dataset, share = tables.opened(path, train, test), tables.share_of(test)
    features = dataset[train].features
    image = tables.column(path, features, image, "image", "Image", "bytes")
    label = tables.column(path, features, label, "label", "ClassLabel")
    names = tuple(getattr(features[label], "names", ()))
    parts = [dataset[name] for name in ((train, test) if share is None else (train,))]
    labels, troubles = [], []

    def found() -> Iterator[tuple[str, Any]]:
        for where, cell, said in tables.cells(path, parts, image, label):
            try:
                labels.append(tables.label(said, where, names))
            except Unreadable as error:
                troubles.append(f"{where} {error.why}")
            yield where, cell

    images = tables.pictures(path, found(), side, None, troubles)
    tables.refuse(path, troubles)
    numbers, classes = tables.numbered(labels, names)
    rows = {"image": images, "label": numbers}
    if share is not None:
        return _shuffle_split(rows, share), classes
    cut = len(parts[0])
    return ({k: v[:cut] for k, v in rows.items()}, {k: v[cut:] for k, v in rows.items()}), classes
