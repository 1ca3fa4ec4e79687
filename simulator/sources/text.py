"""Windows of a text as numbers of its tokens, with a held-out part."""

from __future__ import annotations

import functools
import hashlib
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from simulator.pool import Rows
from simulator.sources.split import Split, Stream, refuse_leak
from simulator.types import GenlossError

UNKNOWN = "�"  # stands for every token beyond a text's vocabulary


@dataclass(frozen=True)
class Text(Stream):
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
    def token_bytes(self) -> np.ndarray:
        """How many bytes each token spells, [vocabulary] int32: a word with the blank after it, the unknown one none.

        Beyond a limited vocabulary text costs nats and spells nothing, so that less is not told as better.
        """
        if self.level == "byte":
            return np.ones(256, np.int32)
        blank = int(self.level == "word")
        each = [0 if token == UNKNOWN else len(token.encode()) + blank for token in self.alphabet]
        return np.array(each, np.int32)

    @property
    def supply(self) -> str:
        return f"{self.path} has {self.size} windows of {self.length} tokens (a shorter `length` makes more)"

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
        said, alphabet = _numbered(split_words(text) if level == "word" else list(text), vocabulary)
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


def split_words(text: str) -> list[str]:
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
