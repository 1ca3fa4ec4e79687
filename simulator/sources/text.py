"""Windows of a text, or of many, as numbers of their tokens, with a held-out part."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from simulator.pool import Rows
from simulator.sources import tables, tokens
from simulator.sources.documents import Asked
from simulator.sources.encoded import Part, encoded
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

    The tokens of a long text are kept in the user's cache folder (`simulator/sources/encoded.py`).
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
    asked = Asked(text.path, text._units, text.vocabulary, text.documents, text.column, text.train, text.test)
    found = encoded(asked)
    spoken = tokens.of(text._units, found.learned, found.several)
    train, test = (
        _cut(part, text.length, text.stride or text.length, text.documents == "apart", spoken.eos or 0)
        for part in (found.train, found.test)
    )
    if not (len(train) and len(test)):
        raise GenlossError(
            f"{text.path} has {len(found.train.numbers) + len(found.test.numbers)} tokens, too few for a training and "
            f"a held-out window of {text.length}; shorten `length` or give a longer text."
        )
    return _Windows(Split(train, test, (), found.digest), spoken)


def _cut(part: Part, length: int, stride: int, apart: bool, fill: int) -> np.ndarray:
    """Windows [n, length] int32: those of whole text alone, or, where documents are kept apart, of all and filled up.

    They are copied once, out of the tokens as these are kept.
    """
    found = [np.zeros((0, length), part.numbers.dtype)]
    for one in np.split(part.numbers, part.ends[:-1]) if apart else [part.numbers]:
        if apart:
            last = max(0, -(-(len(one) - length) // stride)) * stride  # where the window begins that has the end
            one = np.pad(one, (0, last + length - len(one)), constant_values=fill)
        if len(one) >= length:
            found.append(np.lib.stride_tricks.sliding_window_view(one, length)[::stride])
    return np.concatenate(found, dtype=np.int32, casting="unsafe")
