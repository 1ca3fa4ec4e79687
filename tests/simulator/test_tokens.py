"""Tokenizers and documents: what windows hold of texts, and what is held out of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulator import GenlossError
from simulator.sources.text import Text

WORDS = [f"w{i}" for i in range(200)]  # each once: a token tells where it stood
DOCUMENTS = [f"{name} went to {place} and saw naïve birds.\n" * 3 for name, place in zip(WORDS[:40], WORDS[40:80], strict=True)]  # fmt: skip  # noqa: E501


def written(folder: Path, *documents: Any, column: str = "text") -> str:
    """A table of documents, a line each."""
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps({column: one}) + "\n" for one in documents), encoding="utf-8")
    return str(file)


@pytest.mark.parametrize("stride", [3, 10, 13])
def test_windows_begin_a_stride_apart_and_held_out_ones_share_no_text_with_others(stride: int, tmp_path: Path):
    (tmp_path / "words.txt").write_text(" ".join(WORDS))
    text = Text(str(tmp_path / "words.txt"), length=10, tokenizer="words", stride=stride)
    place = lambda rows: np.array([[int(text.alphabet[i][1:]) for i in row] for row in rows])  # noqa: E731
    train, test = place(text.split.train), place(text.split.test)
    assert train[:, 0].tolist() == list(range(0, 151, stride)) and (np.diff(train) == 1).all()
    assert test[:, 0].tolist() == list(range(160, 191, stride)) and train.max() < 160 <= test.min()


@pytest.mark.parametrize("tokenizer", ["characters", "bytes", "bpe:300"])
def test_documents_kept_apart_are_windows_that_read_as_they_do(tokenizer: str, tmp_path: Path):
    """No window has text of two; every document ends once, where what fills its last window begins."""
    text = Text(written(tmp_path, *DOCUMENTS), length=16, tokenizer=tokenizer, documents="apart")
    for rows, expected in ((text.split.train, DOCUMENTS[:32]), (text.split.test, DOCUMENTS[32:])):
        ends = (rows == text.eos).any(1)
        assert ends.sum() == len(expected)
        for row in rows[ends]:
            assert (row[np.argmax(row == text.eos) :] == text.eos).all()
        if tokenizer != "bytes":  # which may be cut inside of a letter
            said = [""]
            for part, end in zip(text.decode(rows), ends, strict=True):
                said[-1] += part
                said += [""] * bool(end)
            assert said[:-1] == expected
    over = Text(written(tmp_path, *DOCUMENTS), length=16, tokenizer=tokenizer, documents="apart", stride=5)
    assert over.size > 2 * text.size and ((over.split.train == over.eos).sum(1) > 0).sum() == 32


def test_packed_documents_have_an_end_between_them(tmp_path: Path):
    text = Text(written(tmp_path, *DOCUMENTS), length=7)
    whole = "".join(text.decode(text.split.train))
    joined = "".join(f"{one}<|endoftext|>" for one in DOCUMENTS[:32])
    assert whole == joined[: len(whole)] and len(joined) - len(whole) < 7 * len("<|endoftext|>")
    assert text.eos is None and "<|endoftext|>" in text.alphabet


def test_paragraphs_of_a_file_are_its_documents_where_they_are_kept_apart(tmp_path: Path):
    (tmp_path / "play.txt").write_text("\n\n".join(f"{a}:\nI say {b}." for a, b in zip(WORDS[:20], WORDS[20:40], strict=True)))  # fmt: skip  # noqa: E501
    text = Text(str(tmp_path / "play.txt"), length=40, documents="apart")
    assert text.decode(text.split.train[:2]) == ["w0:\nI say w20.", "w1:\nI say w21."]
    assert text.size == 16 and len(text.split.test) == 4


def test_byte_pairs_are_learned_from_the_training_part_alone(tmp_path: Path):
    plain = Text(written(tmp_path, *DOCUMENTS), length=16, tokenizer="bpe:300")
    assert len(plain.alphabet) == 300 and plain.alphabet[0] == "<|endoftext|>"
    (tmp_path / "other").mkdir()
    other = Text(
        written(tmp_path / "other", *DOCUMENTS[:32], *["zzzz qqqq ☃ " * 20] * 8), length=16, tokenizer="bpe:300"
    )
    assert other.alphabet == plain.alphabet and np.array_equal(other.split.train, plain.split.train)
    assert "zzzz qqqq ☃" in "".join(other.decode(other.split.test))
    assert plain.split.train.size < 0.7 * sum(map(len, DOCUMENTS[:32]))  # pairs there are


def test_a_stored_tokenizer_is_read_and_what_it_has_no_token_for_is_said(tmp_path: Path):
    from tokenizers import Tokenizer, models

    vocabulary = {"<|endoftext|>": 0, **{letter: i + 1 for i, letter in enumerate(sorted(set("".join(DOCUMENTS))))}}
    made: Any = Tokenizer(models.BPE(vocabulary, []))
    made.save(str(tmp_path / "tokenizer.json"))
    text = Text(written(tmp_path, *DOCUMENTS), length=16, tokenizer=str(tmp_path))
    assert text.alphabet == tuple(vocabulary) and text.split.train.max() < len(vocabulary)
    assert [text.alphabet[i] for i in text.split.train[0]] == list(DOCUMENTS[0][:16])
    with pytest.raises(GenlossError, match="no token for 'z', which follows 'w0'"):
        _ = Text(written(tmp_path, *[f"w{i}z" for i in range(9)]), length=2, tokenizer=str(tmp_path)).split
    before = text.fingerprint
    Tokenizer(models.BPE({**vocabulary, "w1": 90}, [("w", "1")])).save(str(tmp_path / "tokenizer.json"))
    assert Text(written(tmp_path, *DOCUMENTS), length=17, tokenizer=str(tmp_path)).fingerprint != before
    (tmp_path / "broken.json").write_text("{}")
    for wrong, mend in (("broken.json", "give a tokenizer.json"), ("none.json", "no tokenizer at")):
        with pytest.raises(GenlossError, match=mend):
            _ = Text(length=16, tokenizer=str(tmp_path / wrong)).split


def test_a_table_and_the_splits_of_a_folder_are_read_as_lines_are(tmp_path: Path):
    import datasets

    lines = Text(written(tmp_path, *DOCUMENTS, None, "  "), length=16)
    table = datasets.Dataset.from_dict({"said": DOCUMENTS, "other": range(40)})
    table.to_parquet(str(tmp_path / "rows.parquet"))
    found = Text(str(tmp_path / "rows.parquet"), length=16, column="said")
    assert np.array_equal(found.split.train, lines.split.train) and np.array_equal(found.split.test, lines.split.test)
    assert found.fingerprint == lines.fingerprint
    (tmp_path / "set").mkdir()
    for name, part in (("train", DOCUMENTS[:10]), ("test", [*DOCUMENTS[8:14]])):
        datasets.Dataset.from_dict({"text": part}).to_parquet(str(tmp_path / "set" / f"{name}.parquet"))
    split = Text(str(tmp_path / "set"), length=16, test="test", documents="apart")
    said = "".join(split.decode(split.split.test))
    assert said == "".join(DOCUMENTS[10:14])  # those of the training part, 8 and 9, are left out


def test_marks_of_byte_order_and_ends_of_lines_are_one_way(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + b"one\r\ntwo\rthree\n" * 20)
    (tmp_path / "b.txt").write_bytes(b"one\ntwo\nthree\n" * 20)
    a, b = (Text(str(tmp_path / f"{name}.txt"), length=5) for name in "ab")
    assert np.array_equal(a.split.train, b.split.train) and a.alphabet == b.alphabet and a.fingerprint != b.fingerprint
    raw = Text(str(tmp_path / "a.txt"), length=5, tokenizer="bytes")
    assert bytes(raw.split.train[0].astype(np.uint8)) == b"\xef\xbb\xbfon"


def test_what_is_wrong_with_documents_is_said(tmp_path: Path):
    def refused(mend: str, path: Any, **fields: Any) -> None:
        with pytest.raises(GenlossError, match=mend):
            _ = Text(str(path), **{"length": 4, **fields}).split

    (tmp_path / "nul.txt").write_bytes(b"abc\0def" * 20)
    refused("has a NUL, character 3", tmp_path / "nul.txt")
    (tmp_path / "wide.txt").write_bytes("text".encode("utf-16") * 20)
    refused("not text in UTF-8", tmp_path / "wide.txt")
    (tmp_path / "empty.txt").write_bytes(b"")
    refused("0 tokens, too few", tmp_path / "empty.txt")
    refused("0 documents to train on", tmp_path / "empty.txt", documents="apart")
    refused("0 documents to train on", written(tmp_path, "", " ", None))
    refused("row 1, has no text in 'text'", written(tmp_path, "one", 7))
    refused("has no 'text'; it has: said", written(tmp_path, "one", column="said"))
    (tmp_path / "rows.jsonl").write_text('{"text": "one"}\n{"text": ')
    refused("Line 2 of .* is no JSON object", tmp_path / "rows.jsonl")
    refused("too few for a training and a held-out window of 400", written(tmp_path, *DOCUMENTS[:5]), length=400)


@pytest.mark.parametrize(
    "fields",
    [
        {"tokenizer": "bpe:100"},
        {"tokenizer": "bpe:many"},
        {"tokenizer": "bpe:300", "vocabulary": 9},
        {"tokenizer": "words", "level": "word"},
        {"stride": 0},
        {"documents": "loose"},
        {"test": "0%"},
    ],
)
def test_fields_that_cannot_be_are_refused(fields: dict[str, Any]):
    with pytest.raises(GenlossError, match=r"\.$"):
        Text(**fields)


def test_tokens_of_a_models_own_are_told_as_unknown():
    text = Text(length=8)
    assert text.decode(np.array([[0, len(text.alphabet)]])) == [text.alphabet[0] + "\ufffd"]
