"""Windows of a text, or of many, as numbers of their tokens, with a held-out part."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from simulator.checks.foreign import is_file
from simulator.pool import Rows
from simulator.sources import tables, tokens
from simulator.sources.split import Split, Stream, refuse_leak
from simulator.sources.tokens import Tokens
from simulator.types import GenlossError


@dataclass(frozen=True)
class Text(Stream):
    """Windows of a text as numbers of its tokens, int32 [n, length]; the last fifth of the text is held out.

    A stream is one permutation of the windows of the first four fifths, so generation 0 and all fresh batches are
    disjoint, and no token of the held-out part is ever in them, nor of it in those: the text is cut before windows are.
    They do not overlap, unless `stride` is less than `length`.

    `path` is "english" (the text of the standard library's `pydoc_data.topics`, some 450,000 characters, which differs
    by Python version), a file of text, a table (jsonl, parquet) whose `column` has a document in each row, or a folder
    in hub layout or hub id of one, read through Hugging Face `datasets`.  Of several documents the last fifth is held
    out, or the split `test`; a held-out one that is also a training one is left out, and so are empty ones.

    Tokens are characters, bytes, words (runs of letters and digits, and single marks; white space is no token), those
    of a byte-level BPE that is learned from the training part alone, or those of a stored tokenizer.json.  All but the
    last two are numbered by how often the training part has them, the most frequent first; those beyond `vocabulary`
    are one unknown token, the last.

    Documents are packed, one after the other with an end between them, or kept apart: then no window has tokens of two,
    each ends with `eos`, and so does what fills its last window.  A file of text is one document, without an end, or
    one for each paragraph where they are kept apart.

    A byte order mark is left out, and every end of a line is "\\n", but of bytes, which are as they are.
    """

    path: str = "english"  # "english", a file of text, jsonl or parquet, a folder in hub layout, or a hub id
    length: int = 64  # tokens of a window
    level: Literal["character", "byte", "word"] = "character"  # what a token is, unless `tokenizer` says it
    vocabulary: int | None = None  # tokens told apart, the unknown one included; None keeps all; bytes are always 256
    reuse: bool = False  # start the permutation again when it runs out, instead of an error
    column: str = "text"  # of a table: that of its documents
    tokenizer: str | None = None  # characters, bytes, words, bpe:SIZE or a tokenizer.json; None takes `level`
    stride: int | None = None  # tokens from the beginning of a window to that of the next; None is `length`
    documents: Literal["packed", "apart"] = "packed"  # whether a window may have tokens of two
    train: str = "train"  # of a hub: split the chain eats from
    test: str = "20%"  # of tables: held-out split; a share is cut from the end of `train`

    def __post_init__(self) -> None:
        if self.length < 1:
            raise GenlossError(f"Text(length={self.length}) must be at least 1 token.")
        if self.level not in ("character", "byte", "word"):
            raise GenlossError(f"Text(level='{self.level}') must be character, byte or word.")
        if self.tokenizer is not None and self.level != "character":
            raise GenlossError(f"Text has the level '{self.level}' and a tokenizer; leave out one of them.")
        if self.vocabulary is not None and self.vocabulary < 2:
            raise GenlossError(
                f"Text(vocabulary={self.vocabulary}) needs a token beside the unknown one; give 2 or more."
            )
        if self.vocabulary is not None and self._units not in ("characters", "words"):
            many = "256 tokens" if self._units == "bytes" else "tokens of its own"
            raise GenlossError(f"Text({self._units!r}) has {many}; leave out `vocabulary`.")
        if self._units.startswith("bpe:") and not re.fullmatch(r"bpe:\d{3,7}", self._units):
            raise GenlossError(f"Text(tokenizer='{self._units}') must say how many tokens to learn, such as bpe:4096.")
        if self._units.startswith("bpe:") and int(self._units[4:]) < 257:
            raise GenlossError(f"Text(tokenizer='{self._units}') needs the 256 bytes and an end; give 257 or more.")
        if self.stride is not None and self.stride < 1:
            raise GenlossError(f"Text(stride={self.stride}) must be at least 1 token.")
        if self.documents not in ("packed", "apart"):
            raise GenlossError(f"Text(documents='{self.documents}') must be packed or apart.")
        tables.share_of(self.test)

    @property
    def split(self) -> Split:
        """The windows on the host, read once per process."""
        return _read(self).split

    @property
    def alphabet(self) -> tuple[str, ...]:
        """The tokens, by their numbers; `Ngram(len(text.alphabet))` has room for all."""
        return _read(self).tokens.alphabet

    @property
    def eos(self) -> int | None:
        """The token that ends each document and fills its last window; None where windows have no padding.

        `Transformer(eos=text.eos)` learns and says whole documents.
        """
        return _read(self).tokens.eos if self.documents == "apart" else None

    @property
    def token_bytes(self) -> np.ndarray:
        """How many bytes each token spells, [tokens] int32: a word with the blank after it, the unknown one none.

        Beyond a limited vocabulary text costs nats and spells nothing, so that less is not told as better.
        """
        return np.array(_read(self).tokens.spelled, np.int32)

    def json(self, begins: bool = False) -> str:
        """The text of a tokenizer.json of these tokens, as `tokenizers` reads it; with one more, the last, which
        `begins` every text."""
        found = _read(self).tokens.tokenizer()
        return (tokens.begun(found) if begins else found).to_str()

    @property
    def supply(self) -> str:
        return f"{self.path} has {self.size} windows of {self.length} tokens (a shorter `length` makes more)"

    def guard(self, rows: Rows) -> None:
        """Raises where one of `rows` [n, length] is a held-out window and no training window reads the same."""
        refuse_leak(rows, self.split.test, f"are held-out windows of {self.path}", self.split.train)

    def decode(self, rows: Rows) -> list[str]:
        """Windows [n, length] as text, up to the end of a document that is kept apart: words with a space between them,
        bytes that are no UTF-8 as �."""
        said, eos = _read(self).tokens.decode, self.eos
        texts = [row if eos is None else row[: np.append(row, eos).tolist().index(eos)] for row in np.asarray(rows)]
        return [said(row) for row in texts]

    @property
    def _units(self) -> str:
        return self.tokenizer or f"{self.level}s"


class _Windows(NamedTuple):
    split: Split
    tokens: Tokens


@functools.lru_cache(maxsize=4)
def _read(text: Text) -> _Windows:
    """The windows of a text, and its tokens."""
    as_bytes = text._units == "bytes"
    found, held_out, digest = _single(text, as_bytes) if _is_single(text.path) else _table(text)
    several = text.documents == "apart" or len(found) + len(held_out) > 2
    spoken = _tokens(text, found, held_out, several)
    if several and spoken.eos is None:
        raise GenlossError(f"{text.tokenizer} has no token that ends a text, such as {tokens.END}; add one to it.")
    end = np.array([spoken.eos] if several else [], np.int32)
    parts = [[np.append(one, end) for one in spoken.encode(part)] for part in (found, held_out)]
    if text.documents == "packed":
        parts = [[np.concatenate(part)] for part in parts]
    train, test = (_cut(part, text.length, text.stride or text.length, spoken.eos, text) for part in parts)
    if not (len(train) and len(test)):
        raise GenlossError(
            f"{text.path} has {sum(len(one) for part in parts for one in part)} tokens, too few for a training and a "
            f"held-out window of {text.length}; shorten `length` or give a longer text."
        )
    if text._units not in ("characters", "bytes", "words"):  # another tokenizer at the same path is another text
        told = [digest.encode(), *(one.tobytes() for part in parts for one in part)]
        digest = hashlib.blake2b(b"".join(told), digest_size=10).hexdigest()
    return _Windows(Split(train, test, (), digest), spoken)


def _cut(documents: Sequence[np.ndarray], length: int, stride: int, eos: int | None, text: Text) -> np.ndarray:
    """Windows [n, length]: those of whole text alone, or, where documents are kept apart, of all and filled up."""
    found = []
    for one in documents:
        if text.documents == "apart":
            last = max(0, -(-(len(one) - length) // stride)) * stride  # where the window begins that has the end
            one = np.pad(one, (0, last + length - len(one)), constant_values=eos or 0)
        if len(one) >= length:
            found.append(np.lib.stride_tricks.sliding_window_view(one, length)[::stride])
    return np.concatenate(found) if found else np.zeros((0, length), np.int32)


def _tokens(text: Text, train: Sequence[Any], held_out: Sequence[Any], ends: bool) -> Tokens:
    match text._units:
        case "bytes":
            return tokens.of_bytes(ends)
        case "characters":
            return tokens.counted(list, "", train, held_out, text.vocabulary, ends)
        case "words":
            return tokens.counted(tokens.split_words, " ", train, held_out, text.vocabulary, ends)
        case name if name.startswith("bpe:"):
            return tokens.learned(int(name[4:]), train)
        case name:
            return tokens.stored(name)


# Documents: (training, held out, checksum).

_Documents = tuple[list[Any], list[Any], str]


def _is_single(path: str) -> bool:
    """Whether it is one text, and no table or folder of several; what is not there is looked for as a file."""
    local = Path(path).expanduser()
    if is_file(path) or is_file(local):
        return local.suffix not in (".jsonl", ".parquet")
    return not local.is_dir() and (path.count("/") != 1 or path.startswith((".", "/", "~")))


def _single(text: Text, as_bytes: bool) -> _Documents:
    """One text: of its tokens the first four fifths, and the rest; or so of its paragraphs."""
    raw = _english() if text.path == "english" else _bytes(text.path)
    digest = hashlib.blake2b(raw, digest_size=10).hexdigest()
    if text.documents == "apart":
        found = [part for part in re.split(r"\n[ \t]*\n\s*", decoded(raw, text.path)) if part.strip()]
        return *_halves([part.strip("\n") for part in found], None, text), digest
    if as_bytes:
        cut = len(raw) * 4 // 5
        return [raw[:cut]], [raw[cut:]], digest
    whole = decoded(raw, text.path)
    if text._units == "words":
        starts = [word.start() for word in re.finditer(r"\w+|[^\w\s]", whole)]
        cut = starts[len(starts) * 4 // 5] if starts else 0
    else:
        cut = len(whole) * 4 // 5
    return [whole[:cut]], [whole[cut:]], digest


def _table(text: Text) -> _Documents:
    """The documents of a table, or of a data set's splits."""
    if text.path.endswith(".jsonl"):
        parts = [list(_lines(text))]
    else:
        dataset, share = tables.opened(text.path, text.train, text.test), tables.share_of(text.test)
        tables.column(text.path, dataset[text.train].features, text.column, "column")
        parts = [dataset[name][text.column] for name in ((text.train, text.test) if share is None else (text.train,))]
    found = [list(_cleaned(text, part)) for part in parts]
    train, held_out = _halves(found[0], found[1] if len(found) > 1 else None, text)
    total = hashlib.blake2b(digest_size=10)
    for one in (*train, *held_out):
        total.update(hashlib.blake2b(one.encode()).digest())
    return train, held_out, total.hexdigest()


def _cleaned(text: Text, cells: Sequence[Any]) -> Iterator[str]:
    for i, cell in enumerate(cells):
        where = f"{text.path}, row {i},"
        if not isinstance(cell, str | None):
            raise GenlossError(f"{where} has no text in '{text.column}'; name a column of text with `column`.")
        if cell and cell.strip():
            yield decoded(cell.encode("utf-8", "surrogatepass"), where)


def _halves(found: list[str], held_out: list[str] | None, text: Text) -> tuple[list[str], list[str]]:
    """Documents to train on, and others that are held out."""
    if held_out is None:
        share = tables.share_of(text.test) or 0.2
        cut = len(found) - max(1, round(share * len(found)))
        found, held_out = found[: max(cut, 0)], found[max(cut, 0) :]
    known = set(found)
    held_out = [one for one in held_out if one not in known]
    if not (found and held_out):
        raise GenlossError(
            f"{text.path} has {len(found)} documents to train on and {len(held_out)} others to hold out; give it more."
        )
    return found, held_out


def _lines(text: Text) -> Iterator[Any]:
    for i, line in enumerate(decoded(_bytes(text.path), text.path).split("\n")):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise GenlossError(f"Line {i + 1} of {text.path} is no JSON object; write one in each line.")
        if text.column not in row:
            raise GenlossError(f"Line {i + 1} of {text.path} has no '{text.column}'; it has: {', '.join(row)}.")
        yield row[text.column]


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
    file = Path(path).expanduser()
    if not file.is_file():
        raise GenlossError(f"There is no text file at {path}; give a file, or 'english' for the embedded text.")
    try:
        return file.read_bytes()
    except OSError as error:
        raise GenlossError(f"{path} cannot be read ({error.strerror}); give a file that can.") from None
