"""Long texts: encoded piece by piece as at once, and kept on disk until something else is asked."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulator.sources import encoded, text, tokens
from simulator.sources.encoded import pieces
from simulator.sources.text import Text

LINE = "It's 'so', said Ä. Müller;\nand -- 3.14 of them\twent:  away …\n\n  «Where to?»\n'Tis \n\r\x1cgone\n"
CHANCE = np.random.default_rng(0)
PROSE = "".join(CHANCE.permutation(list(LINE * 2)).tolist() + [LINE * 3] + ["x\ny's \n z"] * 9)


@pytest.fixture
def short_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoded, "PIECE", 7)
    monkeypatch.setattr(encoded, "_TOGETHER", 40)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder in which the tokens of all texts are kept."""
    monkeypatch.setenv("GENLOSS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(encoded, "LARGE", 1)
    return tmp_path / "cache" / "text"


def anew(*fields: Any, **more: Any) -> Text:
    """A text that no one has read."""
    text._read.cache_clear()
    return Text(*fields, **more)


@pytest.mark.parametrize("units", ["characters", "bytes", "words", "bpe:300", "prefix"])
def test_a_text_in_pieces_has_the_tokens_that_it_has_as_a_whole(units: str, short_pieces: None):
    """Of a tokenizer whose tokens depend on where a text begins, there is one piece."""
    if units == "prefix":
        from tokenizers import Tokenizer, models, pre_tokenizers

        letters = {letter: i for i, letter in enumerate(sorted({*PROSE, "▁"}))}
        made: Any = Tokenizer(models.BPE(letters, []))
        made.pre_tokenizer = pre_tokenizers.Metaspace()
        spoken = tokens._of(made, complete=False)
    else:
        learned = tokens.learn(units, [PROSE], [], None)
        parts = [piece for piece, _ in pieces(PROSE)]
        assert tokens.learn(units, parts, [], None) == learned and "".join(parts) == PROSE and len(parts) > 9
        spoken = tokens.of(units, learned, False)
    one = lambda piece: spoken.encode([piece])[0]  # noqa: E731
    cut = list(pieces(PROSE, one))
    assert np.array_equal(np.concatenate([one(piece) for piece, _ in cut]), one(PROSE))
    assert len(cut) == 1 if units == "prefix" else len(cut) > 9
    assert [last for _, last in cut] == [False] * (len(cut) - 1) + [True]


def test_windows_are_the_same_whatever_the_pieces(tmp_path: Path, short_pieces: None, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "a.txt").write_text(PROSE, encoding="utf-8")
    rows = [json.dumps({"text": part}) for part in re.split("(?<=o)", PROSE) if part.strip()]
    (tmp_path / "a.jsonl").write_text("\n".join(rows), encoding="utf-8")
    for name in ("a.txt", "a.jsonl"):
        for fields in ({"tokenizer": "bpe:280"}, {"level": "word", "stride": 2}, {"documents": "apart"}):
            some = anew(str(tmp_path / name), length=5, **fields).split
            with monkeypatch.context() as at_once:
                at_once.setattr(encoded, "PIECE", 10**9)
                whole = anew(str(tmp_path / name), length=5, **fields).split
            assert np.array_equal(some.train, whole.train) and np.array_equal(some.test, whole.test)
            assert some.digest == whole.digest and len(some.train) > 20


def test_tokens_are_made_once(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A second time nothing is learned or encoded, whatever the windows; another text or tokenizer is another entry."""
    file = tmp_path / "a.txt"
    file.write_text(PROSE * 3, encoding="utf-8")
    first = anew(str(file), tokenizer="bpe:300", length=9)
    split, alphabet, json_text = first.split, first.alphabet, first.json()
    calls: list[str] = []
    learn = tokens.learn
    monkeypatch.setattr(tokens, "learn", lambda *asked: calls.append(asked[0]) or learn(*asked))
    again = anew(str(file), tokenizer="bpe:300", length=9)
    assert np.array_equal(again.split.train, split.train) and np.array_equal(again.split.test, split.test)
    assert (again.alphabet, again.json(), again.fingerprint) == (alphabet, json_text, split.digest)
    assert anew(str(file), tokenizer="bpe:300", length=4, stride=2).size > first.size and not calls
    assert len(list(kept.iterdir())) == 1
    (tmp_path / "copy.txt").write_bytes(file.read_bytes())
    assert anew(str(tmp_path / "copy.txt"), tokenizer="bpe:300").fingerprint == split.digest and not calls
    others = ({"tokenizer": "bpe:301"}, {"level": "word"}, {"level": "word", "vocabulary": 5}, {"documents": "apart"})
    for i, fields in enumerate(others):
        assert anew(str(file), length=3, **fields).size and len(calls) == i + 1  # pyright: ignore[reportArgumentType]
        shown = anew(str(file), length=3, **fields)  # pyright: ignore[reportArgumentType]
        assert shown.decode(shown.split.test[:9]) and len(calls) == i + 1
    file.write_text(PROSE * 2, encoding="utf-8")
    assert anew(str(file), tokenizer="bpe:300").fingerprint != split.digest and len(calls) == len(others) + 1
    assert len(list(kept.iterdir())) == len(others) + 2


@pytest.mark.parametrize("damage", ["cut short", "another token", "another text", "empty"])
def test_what_is_damaged_is_made_anew(damage: str, kept: Path, tmp_path: Path):
    file = tmp_path / "a.txt"
    file.write_text(PROSE, encoding="utf-8")
    split = anew(str(file), length=5).split
    (entry,) = kept.iterdir()
    whole = entry.read_bytes()
    at = len(whole) - 9 if damage == "another token" else whole.index(b'\\"o\\"')
    wrong = {"cut short": whole[:-50], "empty": b""}.get(damage, whole[: at + 2] + b"7" + whole[at + 3 :])
    assert wrong != whole
    entry.write_bytes(wrong)
    assert encoded._load(entry) is None
    found = anew(str(file), length=5).split
    assert np.array_equal(found.train, split.train) and found.digest == split.digest
    assert encoded._load(entry) is not None and [one.name for one in kept.iterdir()] == [entry.name]


def test_nothing_is_kept_where_none_is_wanted(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "a.txt"
    file.write_text(PROSE, encoding="utf-8")
    monkeypatch.setenv("GENLOSS_CACHE", "off")
    assert anew(str(file), length=5).size and not kept.exists() and not Path("off").exists()
    monkeypatch.setenv("GENLOSS_CACHE", str(file))  # which is no folder
    with pytest.warns(
        UserWarning, match=r"a.txt are not kept for the next time: .* a file is where a folder should be"
    ):
        assert anew(str(file), length=6).size
