"""The documents of a text: read from a file, a table or a data set, cleaned, and some of them held out."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

from simulator.checks.foreign import is_file
from simulator.sources import tables
from simulator.types import GenlossError

EMBEDDED = "english"


class Asked(NamedTuple):
    """What the tokens of a text depend on: the fields of `Text`, but for those of its windows."""

    path: str
    units: str  # characters, bytes, words, bpe:SIZE or a tokenizer.json
    vocabulary: int | None
    documents: str  # packed or apart
    column: str
    train: str
    test: str


class Documents(NamedTuple):
    train: list[Any]  # text each, or bytes
    test: list[Any]  # held out
    digest: str  # of all that was read


def file_of(asked: Asked) -> Path | None:
    """The file that holds all of it, where there is one."""
    local = Path(asked.path).expanduser()
    return local if asked.path != EMBEDDED and is_file(local) else None


def read(asked: Asked) -> Documents:
    """The documents to train on and those that are held out; raises where there are none, or they are no text."""
    return _single(asked) if _is_single(asked.path) else _table(asked)


def _is_single(path: str) -> bool:
    """Whether it is one text, and no table or folder of several; what is not there is looked for as a file."""
    local = Path(path).expanduser()
    if is_file(path) or is_file(local):
        return local.suffix not in (".jsonl", ".parquet")
    return not local.is_dir() and (path.count("/") != 1 or path.startswith((".", "/", "~")))


def _single(asked: Asked) -> Documents:
    """One text: of its tokens the first four fifths, and the rest; or so of its paragraphs."""
    raw = _english() if asked.path == EMBEDDED else _bytes(asked.path)
    digest = hashlib.blake2b(raw, digest_size=10).hexdigest()
    if asked.documents == "apart":
        found = [part for part in re.split(r"\n[ \t]*\n\s*", decoded(raw, asked.path)) if part.strip()]
        return Documents(*_halves([part.strip("\n") for part in found], None, asked), digest)
    whole: Any = raw if asked.units == "bytes" else decoded(raw, asked.path)
    del raw
    if asked.units == "words":
        words = lambda: re.finditer(r"\w+|[^\w\s]", whole)  # noqa: E731
        fourth = sum(1 for _ in words()) * 4 // 5
        cut = next((word.start() for word in itertools.islice(words(), fourth, None)), 0)
    else:
        cut = len(whole) * 4 // 5
    return Documents([whole[:cut]], [whole[cut:]], digest)


def _table(asked: Asked) -> Documents:
    """The documents of a table, or of a data set's splits."""
    if asked.path.endswith(".jsonl"):
        parts = [_lines(asked)]
    else:
        dataset, share = tables.opened(asked.path, asked.train, asked.test), tables.share_of(asked.test)
        tables.column(asked.path, dataset[asked.train].features, asked.column, "column")
        names = (asked.train, asked.test) if share is None else (asked.train,)
        parts = [dataset[name][asked.column] for name in names]
    found = [list(_cleaned(asked, part)) for part in parts]
    train, test = _halves(found[0], found[1] if len(found) > 1 else None, asked)
    total = hashlib.blake2b(digest_size=10)
    for one in (*train, *test):
        total.update(hashlib.blake2b(one.encode()).digest())
    return Documents(train, test, total.hexdigest())


def _cleaned(asked: Asked, cells: Iterable[Any]) -> Iterator[str]:
    for i, cell in enumerate(cells):
        where = f"{asked.path}, row {i},"
        if not isinstance(cell, str | None):
            raise GenlossError(f"{where} has no text in '{asked.column}'; name a column of text with `column`.")
        if cell and cell.strip():
            yield decoded(cell.encode("utf-8", "surrogatepass"), where)


def _halves(found: list[str], held_out: list[str] | None, asked: Asked) -> tuple[list[str], list[str]]:
    """Documents to train on, and others that are held out."""
    if held_out is None:
        share = tables.share_of(asked.test) or 0.2
        cut = len(found) - max(1, round(share * len(found)))
        found, held_out = found[: max(cut, 0)], found[max(cut, 0) :]
    known = set(found)
    held_out = [one for one in held_out if one not in known]
    if not (found and held_out):
        raise GenlossError(
            f"{asked.path} has {len(found)} documents to train on and {len(held_out)} others to hold out; give it more."
        )
    return found, held_out


def _lines(asked: Asked) -> Iterator[str]:
    """The cells of a jsonl file, line by line."""
    number = 0
    with reading(asked.path) as file:
        for raw in file:
            for line in decoded(raw, f"Line {number + 1} of {asked.path}").removesuffix("\n").split("\n"):
                number += 1
                if line.strip():
                    yield _cell(line, f"Line {number} of {asked.path}", asked.column)


def _cell(line: str, where: str, column: str) -> Any:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise GenlossError(f"{where} is no JSON object; write one in each line.")
    if column not in row:
        raise GenlossError(f"{where} has no '{column}'; it has: {', '.join(row)}.")
    return row[column]


def decoded(raw: bytes, path: str) -> str:
    """Bytes as text, without a byte order mark, every end of a line as "\\n"."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise GenlossError(f"{path} is not text in UTF-8; convert it, or read it as level='byte'.") from None
    if (at := text.find("\0")) >= 0:
        raise GenlossError(f"{path} has a NUL, character {at}, and is no text; remove it, or read it as level='byte'.")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _english() -> bytes:
    from pydoc_data import topics

    return "\n\n".join(topics.topics[name] for name in sorted(topics.topics)).encode()


def _bytes(path: str) -> bytes:
    with reading(path) as file:
        return file.read()


@contextlib.contextmanager
def reading(path: str) -> Iterator[BufferedReader]:
    """Opens a text's file; raises where there is none, or it cannot be read."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise GenlossError(f"There is no text file at {path}; give a file, or 'english' for the embedded text.")
    try:
        with file.open("rb") as stream:
            yield stream
    except OSError as error:
        raise GenlossError(f"{path} cannot be read ({error.strerror}); give a file that can.") from None
