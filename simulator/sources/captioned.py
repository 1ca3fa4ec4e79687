"""Images that have captions, from a folder, a parquet file or a hub: pairs like those of captioned scenes."""

from __future__ import annotations

import functools
import hashlib
import mimetypes
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from simulator.pool import Rows
from simulator.sources import tables
from simulator.sources.scenes import END, PAD, START, said
from simulator.sources.split import Split, Stream, digests, refuse_leak
from simulator.sources.tokens import UNKNOWN, split_words
from simulator.types import Array, GenlossError

_WORDS = ("<pad>", "<start>", "<end>", UNKNOWN)
_TEXT = ("string", "large_string")  # kinds of a column


@dataclass(frozen=True)
class Captioned(Stream):
    """Pairs {"image": uint8 [h, w, c], "caption": int32 [length]} of images and what is said of them.

    `path` is a folder of images with a `metadata.jsonl` of rows {"file_name", "caption"} (or `metadata.csv`), as
    `genloss synthesize --captions` writes it, a folder in hub layout, a parquet file or a hub id, read through Hugging
    Face `datasets`.  An image may have several captions, a row each.

    A caption's words are lower-cased runs of letters and digits, and single marks; it is numbered as those of `Scenes`
    are, "<start> a cat , asleep <end>", padded to one length.  Words are those of the training captions, the most
    frequent first, and any other is the unknown word �; `vocabulary` has the word of each number.

    A stream is one permutation of the training rows, so generation 0 and all fresh batches are disjoint, and no image
    of the held-out rows is ever in them, whatever its caption.
    """

    path: str  # a folder, a parquet file, or a hub id
    train: str = "train"  # split the chain eats from
    test: str = "test"  # held-out split; "20%" holds out the last fifth of a shuffle of the images of `train`
    image: str | None = None  # image column; None finds it from the features
    caption: str | None = None  # caption column; None takes "caption" or the only text
    side: int | None = None  # resize images to side x side pixels; None keeps them
    channels: Literal[1, 3] | None = None  # 1 makes all images grey, 3 gives all colours; None: colour if any has
    length: int | None = None  # numbers of a caption, where longer ones are cut; None has room for the longest
    words: int | None = None  # words told apart, the most frequent; None keeps all of the training captions
    reuse: bool = False  # start the permutation again when it runs out, instead of an error

    def __post_init__(self) -> None:
        tables.share_of(self.test)
        for name, low in (("side", 1), ("length", 3), ("words", 1)):
            value = getattr(self, name)
            if value is not None and value < low:
                raise GenlossError(f"Captioned({name}={value}) must be at least {low}.")
        if self.channels not in (None, 1, 3):
            raise GenlossError(f"Captioned(channels={self.channels}) must be 1, for grey images, or 3, for colour.")

    @property
    def split(self) -> Split:
        """The decoded pairs on the host, read once per process."""
        return _read(self)[0]

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The word of each number; a network of captions needs room for `len(vocabulary)`."""
        return _read(self)[1]

    @property
    def supply(self) -> str:
        return f"{self.path} has {self.size} pairs to train on"

    def guard(self, rows: Rows) -> None:
        """Raises where one of `rows` (leaves [n, ...]) has the image of a held-out pair."""
        refuse_leak(rows["image"], self.split.test["image"], f"have held-out images of {self.path}")

    def decode(self, captions: Array | np.ndarray) -> list[str]:
        """Captions [n, length] as text, without start, end and padding."""
        return said(np.asarray(captions), self.vocabulary)


@functools.lru_cache(maxsize=4)
def _read(pairs: Captioned) -> tuple[Split, tuple[str, ...]]:
    """The rows, and their vocabulary."""
    dataset, share = tables.opened(pairs.path, pairs.train, pairs.test), tables.share_of(pairs.test)
    features = dataset[pairs.train].features
    image = tables.column(pairs.path, features, pairs.image, "image", "Image", "bytes")
    caption = tables.column(pairs.path, features, _caption(pairs, features), "caption", *_TEXT)
    if getattr(features[caption], "dtype", None) not in _TEXT:
        raise GenlossError(
            f"The column '{caption}' of {pairs.path} is no text; name another with `caption`, or give each of several "
            "captions a row."
        )
    parts = [dataset[name] for name in ((pairs.train, pairs.test) if share is None else (pairs.train,))]
    images, texts = _decoded(pairs, parts, image, caption, _without_a_row(pairs.path, dataset))
    held_out = _held_out(pairs, images, len(parts[0]), share)  # [n] bool
    seen = Counter(word for text, out in zip(texts, held_out, strict=True) if not out for word in text)
    vocabulary = (*_WORDS, *sorted(seen.keys() - {UNKNOWN}, key=lambda word: (-seen[word], word))[: pairs.words])
    rows = {"image": images, "caption": _numbered(texts, vocabulary, pairs.length)}
    train, test = ({name: leaf[part] for name, leaf in rows.items()} for part in (~held_out, held_out))
    total = hashlib.blake2b("\0".join(vocabulary).encode(), digest_size=10)
    for leaf in (*train.values(), *test.values()):
        total.update(np.ascontiguousarray(leaf).tobytes())
    return Split(train, test, (), total.hexdigest()), vocabulary


def _caption(pairs: Captioned, features: Any) -> str | None:
    """The caption column, as far as names say it."""
    if pairs.caption is not None or "caption" in features:
        return pairs.caption or "caption"
    if not any(getattr(feature, "dtype", None) in _TEXT for feature in features.values()):
        raise GenlossError(
            f"{pairs.path} has images and no captions; write a metadata.jsonl beside the images with a row "
            '{"file_name": "0.png", "caption": "a cat"} for each.'
        )
    return None


def _decoded(
    pairs: Captioned, parts: list[Any], image: str, caption: str, troubles: list[str]
) -> tuple[np.ndarray, list[list[str]]]:
    """Images of all parts, uint8 [n, h, w, c], and the words of each caption."""
    texts: list[list[str]] = []

    def found() -> Iterator[tuple[str, Any]]:
        for where, cell, text in tables.cells(pairs.path, parts, image, caption):
            texts.append(split_words(text.lower()) if isinstance(text, str) else [])
            if not texts[-1]:
                troubles.append(f"{where} has no caption")
            yield where, cell

    images = tables.pictures(pairs.path, found(), pairs.side, pairs.channels, troubles)
    tables.refuse(pairs.path, troubles)
    return images, texts


def _without_a_row(path: str, dataset: Any) -> list[str]:
    """Images of a folder that no row of any split names, which `datasets` would pass over."""
    import datasets

    root, named = Path(path).expanduser().resolve(), set()
    for split in dataset.values():
        for name in (name for name, feature in split.features.items() if isinstance(feature, datasets.Image)):
            encoded = split.select_columns(name).cast_column(name, datasets.Image(decode=False))
            if len(encoded) and (encoded[0][name] or {}).get("bytes") is not None:
                return []  # rows hold their images themselves
            named |= {Path(row[name]["path"]).resolve() for row in encoded if row[name]}
    files = (file for file in sorted(root.rglob("*")) if (mimetypes.guess_type(file, False)[0] or "")[:6] == "image/")
    shown = [file for file in files if file not in named and file.resolve() not in named]
    inside = [file.relative_to(root) for file in shown]
    return [f"{file} has no row" for file in inside if not any(part.startswith(".") for part in file.parts)]


def _held_out(pairs: Captioned, images: np.ndarray, train: int, share: float | None) -> np.ndarray:
    """Which rows are held out, [n] bool: those after the first `train`, or a share of the images with all captions."""
    number: dict[bytes, int] = {}
    which = np.array([number.setdefault(digest, len(number)) for digest in digests(images)])  # [n]: of its image
    if share is None:
        if shared := len(np.intersect1d(which[:train], which[train:])):
            raise GenlossError(
                f"{shared} images of the '{pairs.train}' split of {pairs.path} are also in its '{pairs.test}' split; "
                "remove them from one, since images trained on cannot be held out."
            )
        held_out = np.arange(len(images)) >= train
    else:
        cut = round(len(number) * (1 - share))
        held_out = np.isin(which, np.random.default_rng(0).permutation(len(number))[cut:])
    if held_out.all() or not held_out.any():
        raise GenlossError(
            f"{pairs.path} has {len(number)} images, too few to train on some and hold out '{pairs.test}'; give more."
        )
    return held_out


def _numbered(texts: list[list[str]], vocabulary: tuple[str, ...], length: int | None) -> np.ndarray:
    """Words as numbers [n, length] int32, between start and end."""
    length = length or 2 + max(map(len, texts))
    number = {word: i for i, word in enumerate(vocabulary)}
    captions = np.full((len(texts), length), PAD, np.int32)
    for caption, text in zip(captions, texts, strict=True):
        numbers = [START, *(number.get(word, number[UNKNOWN]) for word in text[: length - 2]), END]
        caption[: len(numbers)] = numbers
    return captions
