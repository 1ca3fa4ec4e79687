"""Tokenizers: what the tokens of a text are, their numbers, and text again."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from simulator.types import GenlossError

UNKNOWN = "�"  # stands for every token beyond a text's vocabulary
BEGIN = "<|startoftext|>"  # before every text, of a network that has a token of its own for it
END = "<|endoftext|>"  # after every document
ENDS = (END, "</s>", "<eos>", "<|end_of_text|>", "<|im_end|>")  # what stored tokenizers call it


class Tokens(NamedTuple):
    """A tokenizer."""

    alphabet: tuple[str, ...]  # the tokens, by their numbers
    eos: int | None  # the token that ends a document, where there is one
    encode: Callable[[Sequence[Any]], list[np.ndarray]]  # documents -> their tokens, int32 [..] each
    decode: Callable[[np.ndarray], str]  # tokens [n] -> text
    spelled: tuple[int, ...]  # how many bytes of UTF-8 each token stands for; 0: it spells nothing
    tokenizer: Callable[[], Any]  # the same as a `tokenizers.Tokenizer`


def split_words(text: str) -> list[str]:
    """Runs of letters and digits, and single marks; white space is no word."""
    return re.findall(r"\w+|[^\w\s]", text)


def learn(units: str, train: Iterable[Any], held_out: Iterable[Any], vocabulary: int | None) -> str:
    """What tokens of these units are made of, from pieces of the training documents and of others: the text of a
    tokenizer.json, or a list of tokens in JSON, by frequency in training and then by name."""
    if units == "bytes":
        return ""
    if units in ("characters", "words"):
        return json.dumps(_by_frequency(split_words if units == "words" else iter, train, held_out, vocabulary))
    if units.startswith("bpe:"):
        return _learned(int(units[4:]), train)
    return stored(units)


def of(units: str, learned: str, ends: bool) -> Tokens:
    """The tokens of these units, an end among them where documents have one."""
    if units == "bytes":
        return _of_bytes(ends)
    if units in ("characters", "words"):
        return _counted(json.loads(learned), units == "words", ends)
    from tokenizers import Tokenizer

    return _of(Tokenizer.from_str(learned), complete=units.startswith("bpe:"))


def _by_frequency(units: Callable[[str], Iterable[str]], train: Iterable[str], held_out: Iterable[str],
                  vocabulary: int | None) -> list[str]:  # fmt: skip
    """Tokens by frequency in training, then by name; those beyond `vocabulary` are one, the last."""
    seen, every = Counter[str](), set[str]()
    for text in train:
        seen.update(units(text))
    for text in held_out:
        every.update(units(text))
    order = sorted(seen.keys() | every, key=lambda token: (-seen[token], token))
    return order if vocabulary is None or vocabulary >= len(order) else [*order[: vocabulary - 1], UNKNOWN]


def _counted(order: Sequence[str], words: bool, ends: bool) -> Tokens:
    """Tokens by their numbers; what has none is the last, but for the end."""
    units, join = (split_words, " ") if words else (iter, "")
    number, last = {token: i for i, token in enumerate(order)}, len(order) - 1
    encode = lambda text: np.array([number.get(token, last) for token in units(text)], np.int32)  # noqa: E731
    alphabet = [*order, *[END] * ends]
    eos = len(order) if ends else None
    spelled = tuple(0 if token in (UNKNOWN, END) else len((token + join).encode()) for token in alphabet)
    # A model may have tokens of its own, such as one that begins a text.
    decode = lambda row: join.join(alphabet[i] if i < len(alphabet) else UNKNOWN for i in row)  # noqa: E731
    same = lambda: _of_units(alphabet, order[-1], words, ends)  # noqa: E731
    return Tokens(tuple(alphabet), eos, lambda texts: list(map(encode, texts)), decode, spelled, same)


def _of_bytes(ends: bool) -> Tokens:
    """The 256 bytes, and the end; bytes that are no UTF-8 are said as �."""
    raw = lambda text: text if isinstance(text, bytes) else text.encode()  # noqa: E731
    encode = lambda text: np.frombuffer(raw(text), np.uint8).astype(np.int32)  # noqa: E731
    decode = lambda row: bytes(row[row < 256].astype(np.uint8)).decode("utf-8", "replace")  # noqa: E731
    alphabet = (*map(chr, range(256)), *[END] * ends)
    eos, spelled = (256, (*[1] * 256, 0)) if ends else (None, (1,) * 256)
    same = lambda: _of_single_bytes(ends)  # noqa: E731
    return Tokens(alphabet, eos, lambda texts: list(map(encode, texts)), decode, spelled, same)


def _learned(size: int, train: Iterable[str]) -> str:
    """Byte-level byte-pair encoding (Sennrich et al. 2016, arXiv:1508.07909) of `size` tokens, learned from the
    training documents alone; token 0 is the end."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer: Any = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer: Any = trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[END],
        show_progress=False,
    )
    tokenizer.train_from_iterator(train, trainer)
    return tokenizer.to_str()


def stored(file: str) -> str:
    """A tokenizer.json, or the one in a folder, as `tokenizers` writes it."""
    from tokenizers import Tokenizer

    path = Path(file).expanduser()
    path = path / "tokenizer.json" if path.is_dir() else path
    if not path.is_file():
        raise GenlossError(
            f"There is no tokenizer at {file}; give characters, bytes, words, bpe:4096 or such, or a tokenizer.json."
        )
    try:
        return Tokenizer.from_file(str(path)).to_str()
    except Exception as error:  # `tokenizers` raises plain ones
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise GenlossError(
            f"{file} is no tokenizer that `tokenizers` reads ({said[0]}); give a tokenizer.json."
        ) from None


def _of(tokenizer: Any, complete: bool) -> Tokens:
    """The tokens of a tokenizer, which has one for every text if it is `complete`."""
    tokenizer.encode_special_tokens = True  # a text that names the end does not say it
    tokenizer.no_padding()
    tokenizer.no_truncation()
    size = tokenizer.get_vocab_size()
    eos = next((number for name in ENDS if (number := tokenizer.token_to_id(name)) is not None), None)

    def encode(texts: Sequence[str]) -> list[np.ndarray]:
        by = tokenizer.encode_batch_fast if complete else tokenizer.encode_batch
        found = by(list(texts), add_special_tokens=False)
        if not complete:
            for text, one in zip(texts, found, strict=True):
                _check(text, one.offsets)
        return [np.array(one.ids, np.int32) for one in found]

    def decode(row: np.ndarray) -> str:
        return tokenizer.decode(row.tolist(), skip_special_tokens=False)

    alphabet = tuple(tokenizer.id_to_token(i) or UNKNOWN for i in range(size))
    special = {number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    by_bytes = "ByteLevel" in str(tokenizer.decoder)  # whose tokens are spelled with a letter for each byte
    spelled = tuple(0 if i in special else _bytes(token, by_bytes) for i, token in enumerate(alphabet))
    return Tokens(alphabet, eos, encode, decode, spelled, lambda: tokenizer)


def _of_units(alphabet: Sequence[str], unknown: str, words: bool, ends: bool) -> Any:
    """A tokenizer of words or characters, by their numbers; what has none is `unknown`."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    numbers = {token: i for i, token in enumerate(alphabet)}
    tokenizer: Any = Tokenizer(models.WordLevel(numbers, unk_token=unknown))
    word = r"[\p{L}\p{N}_]+|[^\p{L}\p{N}_\s\x1c-\x1f]"  # Python's \w+|[^\w\s]
    if words:
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(word), "removed", invert=True)
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens([END] * ends)
    return tokenizer


def _of_single_bytes(ends: bool) -> Any:
    """A tokenizer of bytes, by their values: a byte-level BPE that joins none."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    shown = {ord(mark) for mark in pre_tokenizers.ByteLevel.alphabet()}  # a byte that is no mark is one from 256 on
    others = iter(range(256, 512))
    numbers = {chr(byte if byte in shown else next(others)): byte for byte in range(256)}
    tokenizer: Any = Tokenizer(models.BPE(numbers | ({END: 256} if ends else {}), []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END] * ends)
    return tokenizer


def begun(tokenizer: Any) -> Any:
    """A tokenizer with one token more, BEGIN, which stands before every text."""
    from tokenizers import Tokenizer, processors

    found: Any = Tokenizer.from_str(tokenizer.to_str())
    found.add_special_tokens([BEGIN])
    found.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", special_tokens=[(BEGIN, found.token_to_id(BEGIN))]
    )
    return found


def _bytes(token: str, by_bytes: bool) -> int:
    """How many bytes a token of a stored tokenizer stands for: ▁ is a blank, and <0x0A> is a byte."""
    if by_bytes:
        return len(token)
    return 1 if re.fullmatch(r"<0x[0-9A-F]{2}>", token) else len(token.replace("▁", " ").encode())


def _check(text: str, offsets: Sequence[tuple[int, int]]) -> None:
    """Raises where characters of a text, other than white space, are in no token."""
    at = 0
    for start, stop in [*offsets, (len(text), len(text))]:
        if lost := text[at:start].strip():
            place = text.index(lost, at)
            raise GenlossError(
                f"The tokenizer has no token for {lost[:1]!r}, which follows {text[max(0, place - 20) : place]!r}; "
                "give one that was made for such text."
            )
        at = max(at, stop)
