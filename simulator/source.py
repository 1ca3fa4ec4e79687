"""Where real rows come from: a known truth, or a data set or a text with its held-out split."""

from __future__ import annotations

import functools
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from simulator import tables
from simulator.chance import fold_in
from simulator.images import Unreadable
from simulator.pool import Rows, count, take
from simulator.types import Array, Generator, GenlossError, Key, Params

UNKNOWN = "�"  # stands for every token beyond a text's vocabulary


@dataclass(frozen=True)
class Truth:
    """A generator with fixed parameters, taken as the real distribution: `Truth(Gaussian(2))`.

    `params=None` are the generator's own standard parameters, those of its `init`.
    """

    generator: Generator
    params: Params = None

    def draw(self, key: Key, n: int, held_out: bool = False, skip: Array | int = 0) -> Rows:
        """n rows; independent ones for every `skip` and for `held_out`."""
        params = self.generator.init(jax.random.key(0)) if self.params is None else self.params
        return self.generator.sample(fold_in(key, 2 * skip + held_out), params, n)


class Split(NamedTuple):
    """The decoded rows of a data set on the host: leaves [n, ...]."""

    train: Rows
    test: Rows
    classes: tuple[str, ...]
    digest: str  # checksum of all rows


@dataclass(frozen=True)
class Dataset:
    """Real rows `{"image": uint8 [h, w, c], "label": int32}` with a held-out split.

    A stream is one permutation of the train split, so generation 0 and all fresh batches are disjoint, and no row of
    the test split is ever in it.  `path` is "digits" (scikit-learn's 1,797 8x8 digits, embedded), or a hub id, a
    folder in hub layout, an image folder or a parquet file, read through Hugging Face `datasets`.  Images are in colour
    if any is, and read as `simulator.images.decode` says; labels are names or numbers of classes.
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
    def fingerprint(self) -> str:
        """Checksum of the rows: other data at the same path is another run."""
        return self.split.digest

    @property
    def size(self) -> int:
        return count(self.split.train)

    def draw(self, key: Key, n: int, held_out: bool = False, skip: Array | int = 0) -> Rows:
        """Rows skip..skip+n of the permutation that `key` opens; held-out rows come from the test split alone.

        The permutation of held-out rows is stratified: one row of each class comes first, then all in proportion.
        """
        rows = self.split.test if held_out else self.split.train
        order = jax.random.permutation(key, count(rows))  # [size]
        if held_out:
            order = order[_stratified(jnp.asarray(rows["label"])[order], len(self.split.classes))]
        return served(rows, order, n, skip)

    def check(self, n: int) -> None:
        """Raises where a stream cannot serve n rows."""
        if not self.reuse:
            refuse_short(n, self.size, f"the '{self.train}' split of {self.path} has {self.size}")

    def guard(self, rows: Rows) -> None:
        """Raises where one of `rows` (leaves [n, ...]) is byte for byte a held-out row."""
        refuse_leak(rows, self.split.test, f"are held-out rows of {self.path}")


@dataclass(frozen=True)
class Text:
    """Windows of a text as numbers of its tokens, int32 [n, length]; the last fifth of the text is held out.

    Windows do not overlap, and a stream is one permutation of those of the first four fifths, so generation 0 and all
    fresh batches are disjoint, and no token of the held-out part is ever in them.  Tokens are numbered by how often
    the training part has them, the most frequent first; those beyond `vocabulary` are one unknown token, the last.

    `path` is "english" (the text of the standard library's `pydoc_data.topics`, some 450,000 characters, which differs
    by Python version) or a file.  Words are runs of letters and digits, and single marks; white space is no token.
    """

    path: str = "english"  # "english", or a text file in UTF-8
    length: int = 64  # tokens of a window
    level: Literal["character", "byte", "word"] = "character"  # what a token is
    vocabulary: int | None = None  # tokens told apart, the unknown one included; None keeps all; bytes are always 256
    reuse: bool = False  # start the permutation again when it runs out, instead of an error

    def __post_init__(self) -> None:
        if self.length < 1:
            raise GenlossError(f"Text(length={self.length}) must be at least 1 token.")
        if self.level not in ("character", "byte", "word"):
            raise GenlossError(f"Text(level='{self.level}') must be character, byte or word.")
        if self.vocabulary is not None and self.vocabulary < 2:
            raise GenlossError(
                f"Text(vocabulary={self.vocabulary}) needs a token beside the unknown one; give 2 or more."
            )
        if self.vocabulary is not None and self.level == "byte":
            raise GenlossError("Text(level='byte') has 256 tokens; leave out `vocabulary`.")

    @property
    def split(self) -> Split:
        """The windows on the host, read once per process."""
        return _read_text(self.path, self.length, self.level, self.vocabulary)[0]

    @property
    def alphabet(self) -> tuple[str, ...]:
        """The tokens, by their numbers; `Ngram(len(text.alphabet))` has room for all."""
        return _read_text(self.path, self.length, self.level, self.vocabulary)[1]

    @property
    def fingerprint(self) -> str:
        """Checksum of the text: another text at the same path is another run."""
        return self.split.digest

    @property
    def size(self) -> int:
        """Training windows."""
        return count(self.split.train)

    def draw(self, key: Key, n: int, held_out: bool = False, skip: Array | int = 0) -> Rows:
        """Windows skip..skip+n of the permutation that `key` opens, [n, length] int32."""
        rows = self.split.test if held_out else self.split.train
        return served(rows, jax.random.permutation(key, count(rows)), n, skip)

    def check(self, n: int) -> None:
        """Raises where a stream cannot serve n windows."""
        if not self.reuse:
            has = f"{self.path} has {self.size} windows of {self.length} tokens"
            refuse_short(n, self.size, has, "shorten `length`, ")

    def guard(self, rows: Rows) -> None:
        """Raises where one of `rows` [n, length] is a held-out window and no training window reads the same."""
        refuse_leak(rows, self.split.test, f"are held-out windows of {self.path}", self.split.train)

    def decode(self, rows: Rows) -> list[str]:
        """Windows [n, length] as text: words with a space between them, bytes that are no UTF-8 as �."""
        numbers = np.asarray(rows)
        if self.level == "byte":
            return [bytes(row.astype(np.uint8)).decode("utf-8", "replace") for row in numbers]
        tokens = np.array(self.alphabet, object)
        return [(" " if self.level == "word" else "").join(row) for row in tokens[numbers]]


def served(rows: Rows, order: Array, n: int, skip: Array | int) -> Rows:
    """Rows skip..skip+n of a stream, the permutation `order` [size] of `rows` over and over."""
    index = (jnp.arange(n) + skip) % count(rows)  # [n]
    return take(jax.tree.map(jnp.asarray, rows), order[index])


def refuse_short(n: int, size: int, has: str, mend: str = "") -> None:
    """Raises where a stream of `size` rows, none of them twice, cannot serve n."""
    if n > size:
        raise GenlossError(
            f"The chain asks for {n} real rows and {has}; lower `real`, `fresh` or the number of generations, {mend}or "
            "set `reuse`."
        )


def refuse_leak(rows: Rows, held_out: Rows, what: str, train: Rows | None = None) -> None:
    """Raises where one of `rows` is byte for byte a held-out row, and none to train on."""
    known = set(digests(held_out)) - (set() if train is None else set(digests(train)))
    if leaked := sum(digest in known for digest in digests(rows)):
        raise GenlossError(f"{leaked} of the pool's real rows {what}; give the chain training rows only.")


def _stratified(label: Array, classes: int) -> Array:
    """A reordering of labels [n] whose every beginning holds the classes in proportion, after one of each."""
    members = jax.nn.one_hot(label, classes, dtype=jnp.int32)  # [n, classes]
    rank = jnp.take_along_axis(jnp.cumsum(members, 0), label[:, None], 1)[:, 0] - 1  # [n]: place within its class
    return jnp.argsort(rank / members.sum(0)[label], stable=True)


def digests(rows: Rows) -> Iterator[bytes]:
    """A checksum of each row, leaves [n, ...]."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(rows)]
    for i in range(len(leaves[0])):
        yield hashlib.blake2b(b"".join(leaf[i].tobytes() for leaf in leaves), digest_size=16).digest()


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
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    pixels = np.round(bunch.images * (255 / 16)).astype(np.uint8)[..., None]  # [1797, 8, 8, 1]
    return _shuffle_split({"image": pixels, "label": bunch.target.astype(np.int32)}, 0.2), tuple("0123456789")


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


@functools.lru_cache(maxsize=4)
def _read_text(path: str, length: int, level: str, vocabulary: int | None) -> tuple[Split, tuple[str, ...]]:
    """The windows of a text, and its tokens by number."""
    raw = _english() if path == "english" else _bytes(path)
    if level == "byte":
        said, alphabet = np.frombuffer(raw, np.uint8).astype(np.int32), tuple(map(chr, range(256)))
    else:
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            raise GenlossError(f"{path} is not text in UTF-8; convert it, or read it as level='byte'.") from None
        said, alphabet = _numbered(words(text) if level == "word" else list(text), vocabulary)
    cut = len(said) * 4 // 5  # the first held-out token
    train, test = (part[: len(part) // length * length].reshape(-1, length) for part in (said[:cut], said[cut:]))
    if not (len(train) and len(test)):
        raise GenlossError(
            f"{path} has {len(said)} tokens, too few for a training and a held-out window of {length}; shorten "
            "`length` or give a longer text."
        )
    return Split(train, test, (), hashlib.blake2b(raw, digest_size=10).hexdigest()), alphabet


def _english() -> bytes:
    from pydoc_data import topics

    return "\n\n".join(topics.topics[name] for name in sorted(topics.topics)).encode()


def _bytes(path: str) -> bytes:
    file = Path(path).expanduser()
    if not file.is_file():
        raise GenlossError(f"There is no text file at {path}; give a file, or 'english' for the embedded text.")
    try:
        return file.read_bytes()
    except OSError as error:
        raise GenlossError(f"{path} cannot be read ({error.strerror}); give a file that can.") from None


def words(text: str) -> list[str]:
    """Runs of letters and digits, and single marks; white space is no word."""
    return re.findall(r"\w+|[^\w\s]", text)


def _numbered(tokens: list[str], vocabulary: int | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Tokens as numbers [n] int32, and the tokens by number: by frequency in the training part, then by name."""
    seen = Counter(tokens[: len(tokens) * 4 // 5])
    order = sorted(set(tokens), key=lambda token: (-seen[token], token))
    if vocabulary is not None and vocabulary < len(order):
        order = [*order[: vocabulary - 1], UNKNOWN]
    number = {token: i for i, token in enumerate(order)}
    return np.array([number.get(token, len(order) - 1) for token in tokens], np.int32), tuple(order)
