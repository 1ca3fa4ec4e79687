"""What follows the end of a text is no part of it: other padding changes no measure."""

import dataclasses
import inspect
from functools import partial
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sacrebleu

from simulator import Pool, View
from simulator.abilities import taught
from simulator.probes import Frechet, language, mauve, text, verbatim, words
from simulator.probes.language import FreshPerplexity, Reader, SequencePerplexity, TextLoss
from simulator.probes.mauve import HashedNgrams, Mauve
from simulator.probes.text import Compression, Perplexity, ReferencePerplexity, TextDiversity, counted, lengths
from simulator.probes.verbatim import Verbatim
from simulator.probes.words import Lexicon

TOKENS, LENGTH, EOS = 12, 16, 3
CHANCE = np.random.default_rng(0)


@dataclasses.dataclass(frozen=True)
class Bigrams:
    """A language model that tells texts up to their end: counts of pairs of tokens."""

    vocabulary: int = TOKENS
    eos: int | None = EOS

    def init(self, key: Any) -> Any:
        return jnp.ones((TOKENS, TOKENS))

    def fit(self, key: Any, params: Any, pool: Pool) -> Any:
        rows, there = pool.rows, counted(self, pool.rows)[:, 1:] * pool.weight[:, None]
        return params.at[rows[:, :-1], rows[:, 1:]].add(there), {}

    def sample(self, key: Any, params: Any, n: int) -> Any:
        raise AssertionError

    def next_log_prob(self, params: Any, rows: Any) -> Any:
        before = jnp.pad(rows, ((0, 0), (1, 0)))[:, :-1]
        return jnp.log(params / params.sum(1, keepdims=True))[before]

    def token_log_prob(self, params: Any, rows: Any) -> Any:
        own = jnp.take_along_axis(self.next_log_prob(params, rows), rows[..., None], 2)[..., 0]
        return jnp.where(counted(self, rows), own, 0.0)

    def log_prob(self, params: Any, rows: Any) -> Any:
        return self.token_log_prob(params, rows).sum(1)

    def hidden(self, params: Any, rows: Any) -> Any:
        return jnp.cumsum(jax.nn.one_hot(rows, TOKENS), 1)


class Served:
    """Rows as a source, whose texts end."""

    eos, token_bytes = EOS, np.arange(TOKENS)

    def __init__(self, rows: Any):
        self.rows, self.size = rows, len(rows)

    def draw(self, key: Any, n: int, held_out: bool = False) -> Any:
        return self.rows[:n]


MODEL = Bigrams()
PROBES = {
    "perplexity": Perplexity(),
    "reference": ReferencePerplexity(MODEL),
    "diversity": TextDiversity(),
    "compression": Compression(),
    "loss": TextLoss(),
    "fresh": FreshPerplexity(MODEL),
    "sequence": SequencePerplexity(Reader(MODEL)),
    "lexicon": Lexicon(),
    "verbatim": Verbatim(lengths=(1, 2, 4), longest=8),
    "mauve": Mauve(HashedNgrams(eos=EOS), clusters=4, clusterings=2, draws=5),
    "hidden": Frechet(Reader(MODEL)),
    "ngrams": Frechet(HashedNgrams(width=8, eos=EOS)),
}


def rows_of(n: int) -> np.ndarray:
    return np.minimum(CHANCE.zipf(1.4, (n, LENGTH)) - 1, TOKENS - 1).astype(np.int32)


def padded(rows: np.ndarray, by: Any) -> np.ndarray:
    """The rows with other tokens behind their first end."""
    return np.where(np.asarray(counted(MODEL, jnp.asarray(rows))), rows, by).astype(np.int32)


ROWS = [rows_of(n) for n in (40, 30, 50)]  # said, held out, to train on


@partial(jax.jit, static_argnums=0)
def _measured(probe: Any, said: Any, real: Any, train: Any) -> Any:
    prepared = taught({"": probe}, jax.random.key(0), Served(train))
    params = MODEL.fit(None, MODEL.init(None), Pool.of(said))[0]
    view = View(jnp.int32(0), params, Pool.of(said), said, real, MODEL, prepared=prepared)
    return probe(jax.random.key(0), view)


def measured(probe: Any, rows: list[np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.asarray(value) for name, value in _measured(probe, *rows).items()}


@pytest.mark.parametrize("probe", PROBES.values(), ids=PROBES)
def test_other_padding_changes_nothing(probe: Any):
    ended = sum((rows == EOS).any(1).mean() for rows in ROWS) / 3
    first, *others = (
        measured(probe, [padded(rows, by(rows)) for rows in ROWS])
        for by in (lambda _: EOS, lambda _: 0, lambda rows: CHANCE.integers(0, TOKENS, rows.shape))
    )
    assert 0.3 < ended < 0.9 and any(np.isfinite(value).all() for value in first.values())
    for other in others:
        assert all(np.array_equal(first[name], value, equal_nan=True) for name, value in other.items())


def test_every_probe_of_text_is_among_them():
    def probes(room: ModuleType) -> set[type]:
        found = {thing for _, thing in inspect.getmembers(room, inspect.isclass) if thing.__module__ == room.__name__}
        return {one for one in found if list(inspect.signature(one.__call__).parameters)[1:] == ["key", "view"]}

    known = {type(probe) for probe in PROBES.values()}
    assert set().union(*map(probes, (text, language, verbatim, words, mauve))) <= known


TEXTS = [row[: row.index(EOS) + 1] if EOS in row else row for row in ROWS[0].tolist()]


def grams(row: list[int], n: int) -> list[tuple[int, ...]]:
    return [tuple(row[i : i + n]) for i in range(len(row) - n + 1)]


def test_ngrams_of_texts_that_end_against_counting():
    found = measured(TextDiversity(), ROWS)
    for n in (1, 2, 3):
        every = [gram for row in TEXTS for gram in grams(row, n)]
        assert float(found[f"distinct_{n}"]) == pytest.approx(len(set(every)) / len(every), rel=1e-5)
    each = [1 - len(set(grams(row, 4))) / len(grams(row, 4)) for row in TEXTS if len(row) >= 4]
    assert len(each) < len(TEXTS) and float(found["repetition"]) == pytest.approx(np.mean(each), rel=1e-4)


def test_self_bleu_of_unequal_texts_against_sacrebleu():
    """Some are shorter than four tokens, and some than the text nearest in length."""
    judge = sacrebleu.BLEU(smooth_method="floor", smooth_value=0.1, tokenize="none", effective_order=False)
    said = [" ".join(f"t{token}" for token in row) for row in TEXTS]
    each = [judge.sentence_score(s, said[:i] + said[i + 1 :]).score / 100 for i, s in enumerate(said)]
    assert float(measured(TextDiversity(), ROWS)["self_bleu"]) == pytest.approx(np.mean(each), rel=1e-4)
    penalties = text.brevity(lengths(MODEL, jnp.asarray(ROWS[0])))
    expected = [judge.sentence_score(s, said[:i] + said[i + 1 :]).bp for i, s in enumerate(said)]
    assert np.allclose(penalties, expected, atol=1e-6) and min(expected) < 1
