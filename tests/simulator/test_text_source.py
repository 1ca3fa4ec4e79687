"""Text: read, numbered, split, served and refused."""

from pathlib import Path

import jax
import numpy as np
import pytest

from generators import Ngram
from simulator import Chain, GenlossError, Pool
from simulator.probes.features import training
from simulator.sources.text import Text

POEM = "the cat saw the dog; the dog saw a bird, and the bird – naïve – saw the cat.\n" * 40


@pytest.fixture
def poem(tmp_path: Path) -> str:
    (tmp_path / "poem.txt").write_text(POEM, encoding="utf-8")
    return str(tmp_path / "poem.txt")


def test_windows_do_not_overlap_and_held_out_ones_come_after(poem: str):
    """Training windows, then held-out ones, are the text itself, but for the ends of either part."""
    text = Text(poem, length=50)
    cut = len(POEM) * 4 // 5
    assert "".join(text.decode(text.split.train)) == POEM[: cut // 50 * 50]
    held_out = "".join(text.decode(text.split.test))
    assert held_out == POEM[cut : cut + len(held_out)] and len(POEM) - cut - len(held_out) < 50


def test_a_stream_is_one_permutation():
    text = Text(length=512)
    whole = np.asarray(text.draw(jax.random.key(0), text.size))  # [size, 512]
    assert np.array_equal(whole[40:60], text.draw(jax.random.key(0), 20, skip=40))
    assert not np.array_equal(whole, text.draw(jax.random.key(1), text.size))
    order = lambda rows: rows[np.lexsort(rows.T)]  # noqa: E731
    assert np.array_equal(order(whole), order(text.split.train))
    held_out = np.asarray(text.draw(jax.random.key(0), 9, held_out=True))
    assert all((text.split.test == row).all(1).any() for row in held_out)
    assert np.array_equal(np.asarray(training(jax.random.key(0), text)), text.split.train)


@pytest.mark.parametrize("level", ["character", "byte", "word"])
def test_what_is_decoded_is_what_was_read(poem: str, level: str):
    text = Text(poem, length=10, level=level)  # pyright: ignore[reportArgumentType]
    assert text.split.train.dtype == np.int32 and text.split.train.max() < len(text.alphabet)
    if level == "byte":
        assert bytes(text.split.train.reshape(-1).astype(np.uint8)) == POEM.encode()[: text.split.train.size]
        assert text.decode(text.split.train[:1]) == [POEM[:10]]
        assert text.decode(np.array([[0xC3], [0x41]])) == ["�", "A"]  # half a letter of two bytes, and a whole one
    elif level == "character":
        assert "".join(text.decode(text.split.train)) == POEM[: text.split.train.size]
    else:
        words = POEM.replace(";", " ;").replace(",", " ,").replace(".", " .").split()
        assert " ".join(text.decode(text.split.train)) == " ".join(words[: text.split.train.size])


def test_tokens_are_numbered_by_frequency(poem: str):
    text = Text(poem, length=10, level="word")
    counts = np.bincount(text.split.train.reshape(-1), minlength=len(text.alphabet))
    assert text.alphabet[0] == "the" and counts[0] == counts.max()
    assert counts[0] > counts[4] > counts[-1] > 0


def test_beyond_the_vocabulary_tokens_are_unknown(poem: str):
    text = Text(poem, length=13, level="word", vocabulary=4)
    assert text.alphabet[:2] == ("the", "saw") and len(text.alphabet) == 4
    whole = Text(poem, length=13, level="word")
    assert np.array_equal(text.split.train, np.minimum(whole.split.train, 3))
    assert "the �" in text.decode(text.split.train)[0]
    assert Text(poem, vocabulary=1000).alphabet == Text(poem).alphabet  # room for all: none is unknown


def test_a_token_of_the_held_out_part_alone_has_a_number(tmp_path: Path):
    (tmp_path / "z.txt").write_text("ab" * 40 + "zz" * 10)
    text = Text(str(tmp_path / "z.txt"), length=5)
    assert text.alphabet == ("a", "b", "z") and (text.split.test == 2).all()


def test_the_embedded_text_is_english():
    text = Text(level="word", length=32)
    assert text.alphabet[:1] == ("the",) or "the" in text.alphabet[:4]
    assert text.split.train.size > 50_000 and text.size > 4 * len(text.split.test) - 8


def test_the_fingerprint_is_that_of_the_text(poem: str, tmp_path: Path):
    (tmp_path / "other.txt").write_text(POEM.replace("bird", "fish"), encoding="utf-8")
    assert Text(poem).fingerprint == Text(poem, length=20).fingerprint != Text(str(tmp_path / "other.txt")).fingerprint


def test_what_is_wrong_with_a_text_is_said(tmp_path: Path, poem: str):
    with pytest.raises(GenlossError, match="no text file at /nowhere/at/all"):
        _ = Text("/nowhere/at/all").split
    (tmp_path / "latin.txt").write_bytes("naïve ".encode("latin-1") * 100)
    with pytest.raises(GenlossError, match="not text in UTF-8; convert it, or read it as level='byte'"):
        _ = Text(str(tmp_path / "latin.txt")).split
    assert Text(str(tmp_path / "latin.txt"), level="byte").size == 7
    (tmp_path / "short.txt").write_text("short")
    with pytest.raises(GenlossError, match=r"5 tokens, too few .* shorten `length`"):
        _ = Text(str(tmp_path / "short.txt")).split
    for fields in ({"length": 0}, {"level": "letter"}, {"vocabulary": 1}, {"vocabulary": 9, "level": "byte"}):
        with pytest.raises(GenlossError, match=r"\.$"):
            Text(**fields)  # pyright: ignore[reportArgumentType]
    with pytest.raises(GenlossError, match=r"asks for 100 real rows and .* has 49 windows of 50 tokens"):
        chain(Text(poem, length=50), real=100)
    assert chain(Text(poem, length=50, reuse=True), real=100).real == 100


def test_held_out_windows_in_the_pool_are_found():
    text = Text(length=64)
    text.guard(text.draw(jax.random.key(0), 200))
    planted = np.concatenate([text.split.train[:5], text.split.test[3:6]])
    with pytest.raises(GenlossError, match="3 of the pool's real rows are held-out windows"):
        text.guard(planted)


def chain(text: Text, **fields: int) -> Chain:
    fields = {"real": 10, "rows": 10, **fields}
    return Chain(source=text, generator=Ngram(len(text.alphabet)), **fields)  # pyright: ignore[reportArgumentType]


def test_an_ngram_eats_it(poem: str):
    """Its windows have the length of the source's, its tables the pairs of all that generation 0 is served."""
    text = Text(poem, length=50)
    eater = chain(text, real=49)
    assert eater.model.length == 50 and text.size == 49  # pyright: ignore[reportAttributeAccessIssue]
    fit = jax.jit(lambda rows: eater.model.fit(jax.random.key(0), eater.model.init(jax.random.key(0)), Pool.of(rows)))
    params, _ = fit(text.draw(jax.random.key(3), 49))
    pairs = np.zeros((len(text.alphabet),) * 2)
    np.add.at(pairs, (text.split.train[:, :-1], text.split.train[:, 1:]), 1)
    assert np.allclose(params.next, pairs / pairs.sum(1, keepdims=True), atol=1e-6)


@pytest.mark.data
def test_tinyshakespeare(real_data: Path):
    text = Text(str(real_data / "tinyshakespeare" / "input.txt"))
    assert len(text.alphabet) == 65 and text.decode(text.split.train[:1])[0].startswith("First Citizen:")
