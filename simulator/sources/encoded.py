"""The tokens of a text: learned and encoded piece by piece, and kept on disk, so that it is done once.

Those of a file of a million bytes or more, or of as long documents of a data set, are kept in the user's cache folder:
in ~/.cache/genloss/text, or in "text" below the folder that GENLOSS_CACHE names ("off": nowhere), under a checksum of
what was read and of how it is cut into tokens.  Windows of any length are cut out of the same tokens.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from simulator import disk
from simulator.errors import GenlossError, RunFailed
from simulator.numerics.watched import watched
from simulator.sources import tokens
from simulator.sources.documents import Asked, Documents, file_of, read, reading
from simulator.sources.tokens import Tokens

LARGE = 2**20  # bytes of a file, or characters of documents, from which on their tokens are kept
PIECE = 2**17  # characters of a piece
_TOGETHER = 2**20  # characters encoded side by side
_AROUND = 500  # characters before and after a cut, whose tokens must be the same as if there were none
_TRIES = 10  # lines that a piece may end with
_FORM = "1"  # of what is kept


class Part(NamedTuple):
    """The tokens of documents, one after the other."""

    numbers: np.ndarray  # [tokens], of the smallest type that holds them
    ends: np.ndarray  # [documents] int64: how many tokens there are up to the end of each


class Encoded(NamedTuple):
    train: Part
    test: Part  # held out
    learned: str  # what the tokens are made of
    several: bool  # whether documents have a token that ends them
    digest: str  # of all that was read and, where that does not say what its tokens are, of these


def encoded(asked: Asked) -> Encoded:
    """The tokens of a text: those that are kept, or else made."""
    what = file_of(asked) or read(asked)
    place = _place(asked, what)
    found = _load(place) if place else None
    if found is None:
        found = _encoded(asked, what if isinstance(what, Documents) else read(asked))
        if place:
            _save(place, asked.path, found)
    return found


def _encoded(asked: Asked, documents: Documents) -> Encoded:
    both = (documents.train, documents.test)
    total = sum(len(one) for part in both for one in part)
    with watched(f"learning the tokens of {asked.path}", total) as tell:
        train, test = (_told(_all(part), tell) for part in both)
        learned = tokens.learn(asked.units, train, test, asked.vocabulary)
    several = asked.documents == "apart" or sum(map(len, both)) > 2
    spoken = tokens.of(asked.units, learned, several)
    if several and spoken.eos is None:
        raise GenlossError(f"{asked.units} has no token that ends a text, such as {tokens.END}; add one to it.")
    with watched(f"cutting {asked.path} into tokens", total) as tell:
        end = np.array([spoken.eos] if several else [], np.int32)
        train, test = (_part(part, spoken, end, tell) for part in both)
    digest = documents.digest
    if asked.units not in ("characters", "bytes", "words"):  # another tokenizer at the same path is another text
        whole = hashlib.blake2b(digest.encode(), digest_size=10)
        for numbers in (train.numbers, test.numbers):
            for i in range(0, len(numbers), _TOGETHER):
                whole.update(numbers[i : i + _TOGETHER].astype(np.int32).data)
        digest = whole.hexdigest()
    return Encoded(train, test, learned, several, digest)


def _part(documents: list[Any], spoken: Tokens, end: np.ndarray, tell: Callable[[int], None]) -> Part:
    """The tokens of documents, each with what is its end."""
    kind = np.min_scalar_type(max(len(spoken.alphabet) - 1, 0))
    numbers, ends, total = [np.zeros(0, kind)], [], 0
    cut = ((piece, last) for one in documents for piece, last in pieces(one, lambda text: spoken.encode([text])[0]))
    for together in _together(cut):
        for (_, last), found in zip(together, spoken.encode([piece for piece, _ in together]), strict=True):
            numbers.append((np.append(found, end) if last else found).astype(kind))
            total += len(numbers[-1])
            if last:
                ends.append(total)
        tell(sum(len(piece) for piece, _ in together))
    return Part(np.concatenate(numbers), np.array(ends, np.int64))


def pieces(text: Any, encode: Callable[[Any], Any] | None = None) -> Iterator[tuple[Any, bool]]:
    """A text, or bytes, in pieces, and whether each is the last.

    One ends with a line, between characters that are no white space, where no token of characters, words or GPT-2's
    bytes goes on; and where those around it are the same without a cut, as `encode` says of any others.
    """
    line: Any = re.compile(r"(?<=\S)\n(?=\S)" if isinstance(text, str) else rb"(?<=\S)\n(?=\S)")
    start = 0

    def same(at: int) -> bool:
        if encode is None:
            return True
        before, after = text[max(0, at - _AROUND) : at], text[at : at + _AROUND]
        return np.array_equal(encode(before + after), np.concatenate([encode(before), encode(after)]))

    while len(text) - start > PIECE:
        lines = (found.end() for found in itertools.islice(line.finditer(text, start + PIECE), _TRIES))
        at = next((at for at in lines if same(at)), None)
        if at is None:
            break
        yield text[start:at], False
        start = at
    yield text[start:], True


def _all(documents: list[Any]) -> Iterator[Any]:
    return (piece for one in documents for piece, _ in pieces(one))


def _told(parts: Iterable[Any], tell: Callable[[int], None]) -> Iterator[Any]:
    for part in parts:
        yield part
        tell(len(part))


def _together(parts: Iterable[tuple[Any, bool]]) -> Iterator[list[tuple[Any, bool]]]:
    """The pieces, as many at once as are encoded side by side."""
    batch, size = [], 0
    for part in parts:
        batch.append(part)
        size += len(part[0])
        if size >= _TOGETHER:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


# What is kept.


def _place(asked: Asked, what: Path | Documents) -> Path | None:
    """The file for the tokens of a file or of documents; None where they are not kept."""
    home = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    folder = os.environ.get("GENLOSS_CACHE") or Path(home, "genloss")
    size = what.stat().st_size if isinstance(what, Path) else sum(len(one) for part in what[:2] for one in part)
    if folder == "off" or size < LARGE:
        return None
    if isinstance(what, Path):
        with reading(asked.path) as file:
            digest = hashlib.file_digest(file, hashlib.blake2b).hexdigest() + what.suffix
    else:
        digest = what.digest
    units = asked.units
    if units not in ("characters", "bytes", "words") and not units.startswith("bpe:"):
        units = tokens.stored(units)
    made_by = [_FORM, version("tokenizers"), unicodedata.unidata_version]  # others may cut in another way
    known = json.dumps([*made_by, digest, units, *asked[2:]])
    return Path(folder, "text", f"{hashlib.blake2b(known.encode(), digest_size=16).hexdigest()}.safetensors")


def _save(place: Path, path: str, found: Encoded) -> None:
    from safetensors.numpy import save

    arrays = {"train": found.train.numbers, "train_ends": found.train.ends}
    arrays |= {"test": found.test.numbers, "test_ends": found.test.ends}
    about = {"learned": found.learned, "several": "1" * found.several, "digest": found.digest}
    try:
        disk.write(place.parent, place.name, save(arrays, {**about, "checksum": _checksum(found)}))
    except (GenlossError, RunFailed) as error:
        warnings.warn(f"The tokens of {path} are not kept for the next time: {error}", stacklevel=2)


def _load(place: Path) -> Encoded | None:
    """What is kept in a file; None where there is none, or it is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(place, framework="np") as file:
            about = file.metadata()
            train, train_ends, test, test_ends = map(file.get_tensor, ("train", "train_ends", "test", "test_ends"))
        parts = Part(train, train_ends), Part(test, test_ends)
        found = Encoded(*parts, about["learned"], bool(about["several"]), about["digest"])
        return found if _checksum(found) == about["checksum"] else None
    except (SafetensorError, OSError, ValueError, KeyError, TypeError):
        return None


def _checksum(found: Encoded) -> str:
    whole = hashlib.blake2b(digest_size=16)
    for part in (*found.train, *found.test):
        whole.update(f"{part.dtype}{part.shape}".encode())
        whole.update(np.ascontiguousarray(part).data)
    for text in (found.learned, str(found.several), found.digest):
        whole.update(hashlib.blake2b(text.encode()).digest())
    return whole.hexdigest()
