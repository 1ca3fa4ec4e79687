"""Lexical diversity and loops against reading aloud, and verbatim matches against Python's `in`."""

from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from generators import Gaussian, Ngram
from simulator import GenlossError, Pool, View
from simulator.probes.verbatim import Verbatim, matches, suffixes
from simulator.probes.words import Lexicon, looping, mtld
from simulator.sources.text import Text

CHANCE = np.random.default_rng(0)


def view_of(synthetic: Any, reference: Any = None, generator: Any = None, **more: Any) -> View:
    synthetic = jnp.asarray(synthetic)
    reference = synthetic if reference is None else jnp.asarray(reference)
    return View(jnp.int32(0), None, Pool.of(synthetic), synthetic, reference, generator or Ngram(30), **more)


def read(text: list[int], threshold: float) -> float:
    """Factors of one text read forwards, as McCarthy & Jarvis describe them."""
    factors, part = 0.0, []
    for token in text:
        part.append(token)
        if len(set(part)) / len(part) < threshold:
            factors, part = factors + 1, []
    return factors + ((1 - len(set(part)) / len(part)) / (1 - threshold) if part else 0)


def ended(rows: np.ndarray) -> list[list[int]]:
    """Each row up to its first 0, which ends it."""
    return [row[: row.index(0) + 1] if 0 in row else row for row in rows.tolist()]


ENDING = SimpleNamespace(vocabulary=30, eos=0)
ROWS = np.minimum(CHANCE.zipf(1.3, (40, 50)) - 1, 29).astype(np.int32)[:, ::-1]
ROWS = np.where(CHANCE.random((40, 50)) < 0.95, np.maximum(ROWS, 1), ROWS)


@pytest.mark.parametrize("model", [Ngram(30), ENDING], ids=["whole windows", "texts that end"])
def test_lexical_diversity_against_reading_aloud(model: Any):
    found = Lexicon()(jax.random.key(0), view_of(ROWS, generator=model))
    texts = ended(ROWS) if model is ENDING else ROWS.tolist()
    tokens = sum(map(len, texts))
    both = [sum(read(text[::way], 0.72) for text in texts) for way in (1, -1)]
    assert float(found["mtld"]) == pytest.approx(np.mean([tokens / f for f in both]), rel=1e-4)
    counts = np.bincount(np.concatenate(texts), minlength=30)
    spectrum = np.bincount(counts)  # how many types occur i times
    yule = 1e4 * (sum(i**2 * v for i, v in enumerate(spectrum)) - tokens) / tokens**2
    assert float(found["yule"]) == pytest.approx(yule, rel=1e-4)
    assert float(found["length"]) == pytest.approx(np.mean([len(text) for text in texts]))
    assert model is not ENDING or float(found["length"]) < 40


def test_the_example_of_the_paper():
    """ "of the people by the people for the people": a factor ends after the second "people"."""
    text = jnp.array([[0, 1, 2, 3, 1, 2, 4, 1, 2]])
    there = jnp.ones((1, 9), bool)
    backwards = 1 + 0  # people the for people the | by people the of: the rest has no token twice
    assert read([2, 1, 4, 2, 1, 3, 2, 1, 0], 0.72) == backwards
    assert float(mtld(text, there)) == pytest.approx((9 / 1 + 9 / backwards) / 2)
    assert float(mtld(jnp.arange(9)[None], there)) == np.inf


def circles(text: list[int], phrase: int, times: int) -> bool:
    sizes = range(phrase, len(text) // times + 1)
    return any(text[-size * times :] == text[-size:] * times for size in sizes)


@pytest.mark.parametrize("phrase, times", [(2, 3), (1, 2), (3, 4)])
def test_loops_against_slicing(phrase: int, times: int):
    rows = CHANCE.integers(0, 2, (200, 25)).astype(np.int32)
    for i in range(100):  # loops of all sizes, and ones that were broken at the very end
        size = 1 + i % (25 // times)
        rows[i, 25 - times * size :] = np.tile(rows[i, :size], times)
    rows[80:100, -1] ^= 1
    length = np.where(CHANCE.random(200) < 0.5, 25, CHANCE.integers(1, 26, 200))
    found = np.asarray(looping(jnp.asarray(rows), jnp.asarray(length), phrase, times))
    expected = [circles(row[:n], phrase, times) for row, n in zip(rows.tolist(), length, strict=True)]
    assert found.tolist() == expected and 10 < sum(expected) < 190


_suffixes, _matches = jax.jit(suffixes, static_argnums=1), jax.jit(matches, static_argnums=3)


def longest_in(row: list[int], text: list[list[int]]) -> list[int]:
    """From each place on, how many tokens are in one of the texts: by looking for ever longer strings."""
    joined = ["".join(chr(65 + v) for v in t) for t in text]
    found = []
    for i in range(len(row)):
        n = 0
        while i + n < len(row) and any("".join(chr(65 + v) for v in row[i : i + n + 1]) in j for j in joined):
            n += 1
        found.append(n)
    return found


@pytest.mark.parametrize("letters, shape", [(2, (30, 12)), (5, (3, 40)), (3, (1, 1))])
def test_matches_against_looking_for_strings(letters: int, shape: tuple[int, int]):
    text = CHANCE.integers(0, letters, shape).astype(np.int32)
    rows = CHANCE.integers(0, letters, (20, 17)).astype(np.int32)
    rows[0, 3 : 3 + min(10, shape[1])] = text[0, :10]
    order = _suffixes(text, 99)
    tails = [text.reshape(-1)[i : i - i % shape[1] + shape[1]].tolist() for i in np.asarray(order)]
    assert tails == sorted(tails) and sorted(np.asarray(order)) == list(range(text.size))
    found = np.asarray(_matches(rows, text, order, 99))
    assert found.tolist() == [longest_in(row, text.tolist()) for row in rows.tolist()]
    few = _matches(rows, text, _suffixes(text, 4), 4)
    assert np.array_equal(few, np.minimum(found, 4))


def test_copied_text_is_counted():
    text = Text(length=16)
    what = Verbatim(lengths=(4, 8, 50), rows=400, longest=50)
    known = what.prepare(jax.random.key(0), text)
    train = np.asarray(known["text"])
    real = np.asarray(text.draw(jax.random.key(1), 20, held_out=True))
    said = np.concatenate([train[:5], real[:15]])
    found = jax.jit(lambda v: what(jax.random.key(0), v._replace(generator=None, prepared={what: known})))(
        view_of(said, real)._replace(generator=None)
    )
    grams = {tuple(row[i : i + 4]) for row in train.tolist() for i in range(13)}
    for name, rows in (("copied_4", said), ("held_out_4", real)):
        share = np.mean([tuple(row[i : i + 4]) in grams for row in rows.tolist() for i in range(13)])
        assert float(found[name]) == pytest.approx(share) and 0.1 < share < 1
    assert float(found["longest"]) == 16 and float(found["longest_mean"]) > float(found["held_out_mean"])
    assert "copied_50" not in found and len(train) == 400
    said[:, 5] = 0  # ends all texts after six tokens
    short = what(jax.random.key(0), view_of(said, real, ENDING, prepared={what: known}))
    assert float(short["longest"]) <= 6 and np.isnan(short["copied_8"])  # no text has 8 tokens


@pytest.mark.parametrize(
    "build",
    [
        partial(Lexicon, times=1),
        partial(Lexicon, threshold=1.0),
        partial(Verbatim, lengths=()),
        partial(Verbatim, lengths=(200,)),
        partial(Verbatim, rows=0),
        lambda: Lexicon()(jax.random.key(0), view_of(ROWS, generator=Gaussian(2))),
    ],
)
def test_bad_values_get_one_sentence(build: Any):
    with pytest.raises(GenlossError) as error:
        build()
    assert str(error.value).endswith(".") and "\n" not in str(error.value)
