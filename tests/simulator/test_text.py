"""Measures of text against hand counters, sacrebleu, zlib and numpy, and what they must be."""

import zlib
from collections import Counter
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sacrebleu
import scipy.stats

from generators import Gaussian, Ngram
from simulator import Chain, GenlossError, Pool, View, run, simulate
from simulator.probes.text import (
    Compression,
    Perplexity,
    ReferencePerplexity,
    TextDiversity,
    lost,
    ngrams,
    overlap,
    tally,
    zipf,
)
from simulator.sources.text import Text

CHANCE = np.random.default_rng(0)
ENGLISH = Text(length=20)
LETTERS = len(ENGLISH.alphabet)
REAL = np.asarray(ENGLISH.draw(jax.random.key(0), 60, held_out=True))  # [60, 20]
SAID = np.asarray(ENGLISH.draw(jax.random.key(1), 50))  # [50, 20]


def view_of(synthetic: Any, reference: Any, generator: Any = None, params: Any = None, **more: Any) -> View:
    synthetic, reference = jnp.asarray(synthetic), jnp.asarray(reference)
    return View(jnp.int32(0), params, Pool.of(synthetic), synthetic, reference, generator or Ngram(LETTERS), **more)


@partial(jax.jit, static_argnums=0)
def _diversity(what: TextDiversity, rows: jax.Array, reference: jax.Array) -> Any:
    return what(jax.random.key(0), view_of(rows, reference))


def diversity(rows: Any, reference: Any = REAL, what: TextDiversity = TextDiversity(LETTERS)) -> dict[str, float]:
    return {name: float(value) for name, value in _diversity(what, rows, reference).items()}


_ngrams = jax.jit(ngrams, static_argnums=(1, 2))
_overlap = jax.jit(lambda rows: overlap(ngrams(rows, 256, 4), rows.shape[1]))


def grams(row: list[int], n: int) -> list[tuple[int, ...]]:
    return [tuple(row[i : i + n]) for i in range(len(row) - n + 1)]


@pytest.mark.parametrize(
    "vocabulary, order, length", [(3, 5, 7), (103, 4, 9), (256, 4, 6), (50_257, 3, 5), (2**30, 4, 4)]
)
def test_ngrams_are_numbered_in_order(vocabulary: int, order: int, length: int):
    """Against sorting tuples: words of one, two and four, with tokens at either end of the vocabulary."""
    few = np.array([0, 1, vocabulary - 2, vocabulary - 1], np.int32)
    rows = few[CHANCE.integers(0, 4, (40, length))]
    for n, found in enumerate(_ngrams(rows, vocabulary, order), 1):
        each = [grams(row, n) for row in rows.tolist()]
        number = {gram: i for i, gram in enumerate(sorted({gram for row in each for gram in row}))}
        assert np.array_equal(found, [[number[gram] for gram in row] for row in each])


@pytest.mark.parametrize("n", [1, 2, 3])
def test_distinct_ngrams_against_counting(n: int):
    all_of_them = [gram for row in SAID.tolist() for gram in grams(row, n)]
    assert diversity(SAID)[f"distinct_{n}"] == pytest.approx(len(set(all_of_them)) / len(all_of_them), rel=1e-6)


def sentences(rows: np.ndarray) -> list[str]:
    return [" ".join(f"t{token}" for token in row) for row in rows]


OWN = np.arange(240, dtype=np.int32).reshape(12, 20)  # no token in two rows
TEXTS = {
    "english": SAID[:12],
    "two letters": CHANCE.integers(0, 2, (12, 20)).astype(np.int32),
    "no token in common": OWN,
    "a bigram in common": np.concatenate([np.full((12, 1), 7), np.full((12, 1), 8), OWN[:, 2:]], 1),
    "some orders without a match": np.where(OWN % 20 == 5, 0, np.where(OWN // 20 % 5 == 3, OWN % 4, OWN)),
    "twice the same": np.repeat(SAID[:6], 2, axis=0),
}


@pytest.mark.parametrize("rows", TEXTS.values(), ids=TEXTS)
def test_self_bleu_against_sacrebleu(rows: np.ndarray):
    judge = sacrebleu.BLEU(smooth_method="floor", smooth_value=0.1, tokenize="none", effective_order=False)
    said = sentences(rows)
    each = [judge.sentence_score(s, said[:i] + said[i + 1 :]).score / 100 for i, s in enumerate(said)]
    found = _overlap(rows.astype(np.int32))
    assert float(found["self_bleu"]) == pytest.approx(np.mean(each), rel=1e-5, abs=1e-7)


def test_repetition_against_counting():
    rows = CHANCE.integers(0, 3, (12, 20)).astype(np.int32)
    each = [1 - len(set(grams(row, 4))) / 17 for row in rows.tolist()]
    assert float(_overlap(rows)["repetition"]) == pytest.approx(np.mean(each), rel=1e-5)


def test_the_zipf_exponent_against_numpy():
    counts = np.sort(np.bincount(SAID.reshape(-1)))[::-1]
    counts = counts[counts > 0]
    slope = np.polyfit(np.log(np.arange(1, len(counts) + 1)), np.log(counts), 1)[0]
    assert diversity(SAID)["zipf"] == pytest.approx(-slope, rel=1e-4)
    assert float(zipf(jnp.asarray(np.round(1e6 / np.arange(1, 50) ** 1.3)))) == pytest.approx(1.3, abs=1e-3)


def test_entropy_and_lost_tokens_against_counting():
    found, ours, theirs = diversity(SAID), Counter(SAID.reshape(-1).tolist()), Counter(REAL.reshape(-1).tolist())
    assert found["entropy"] == pytest.approx(scipy.stats.entropy(list(ours.values())), rel=1e-5)
    assert found["kept"] == pytest.approx(len(set(ours) & set(theirs)) / len(theirs), rel=1e-6)
    missing = sum(count for token, count in theirs.items() if token not in ours)
    assert found["missing"] == pytest.approx(missing / REAL.size, rel=1e-5)
    tail, mass = set(), 0
    for token in sorted(range(LETTERS), key=lambda token: (theirs[token], token)):
        mass += theirs[token]
        if mass > 0.05 * REAL.size:
            break
        tail.add(token)
    assert found["tail"] == pytest.approx(sum(ours[token] for token in tail) / SAID.size, rel=1e-5)
    assert len(tail) > 5 and found["tail"] > 0 and (found["rows"], found["reference_rows"]) == (50, 60)


def test_the_tail_of_the_reference_is_at_most_what_it_is_called():
    counts = tally(jnp.asarray(REAL), LETTERS)
    for rare in (0.01, 0.05, 0.3):
        found = lost(counts, counts, rare)
        assert 0 < float(found["tail"]) <= rare and (float(found["kept"]), float(found["missing"])) == (1, 0)


def test_identical_disjoint_constant_and_shuffled_text():
    same = diversity(REAL)
    assert (same["kept"], same["missing"]) == (1, 0)
    other = diversity(np.full_like(SAID, LETTERS - 1), np.minimum(REAL, LETTERS - 2))
    assert (other["kept"], other["missing"], other["tail"]) == (0, 1, 1)  # a token the reference does not have is rare
    assert (other["self_bleu"], other["entropy"]) == (pytest.approx(1), 0) and np.isnan(other["zipf"])
    assert other["distinct_1"] == pytest.approx(1 / SAID.size) and other["repetition"] == pytest.approx(16 / 17)
    shuffled = diversity(SAID[CHANCE.permutation(50)])
    assert shuffled == pytest.approx(diversity(SAID), rel=1e-5)


def test_a_part_of_the_language_is_less_diverse():
    """The letters of half of the text's own, and twice the same rows."""
    whole, part = diversity(SAID), diversity(np.where(SAID % 2, SAID - 1, SAID))
    twice = diversity(np.repeat(SAID[:25], 2, axis=0))
    assert part["entropy"] < whole["entropy"] and part["kept"] < whole["kept"] and part["missing"] > whole["missing"]
    assert part["self_bleu"] > whole["self_bleu"] and twice["self_bleu"] == pytest.approx(1)
    assert all(twice[f"distinct_{n}"] < whole[f"distinct_{n}"] for n in (2, 3))


@pytest.mark.parametrize(
    "vocabulary, kind", [(LETTERS, np.uint8), (256, np.uint8), (300, np.uint16), (70_000, np.int32)]
)
def test_compression_against_zlib(vocabulary: int, kind: Any):
    raw = SAID.astype(kind).tobytes()
    what = Compression(vocabulary)
    found = what(jax.random.key(0), view_of(SAID, REAL))
    assert float(found["ratio"]) == pytest.approx(len(raw) / len(zlib.compress(raw, 6))) and found["rows"] == 50
    constant = what(jax.random.key(0), view_of(np.zeros_like(SAID), REAL))
    assert float(constant["ratio"]) > 10 * float(found["ratio"])


def test_perplexity_against_the_tables():
    model = Ngram(LETTERS, 2, smoothing=0.1, length=20)
    params = model.fit(jax.random.key(0), model.init(jax.random.key(0)), Pool.of(jnp.asarray(SAID)))[0]
    start, following = np.asarray(params.start, float), np.asarray(params.next, float)
    possible = start[REAL[:, 0]] > 0  # a first letter no window began with has no probability
    logs = np.log(start[REAL[possible, 0]]) + np.log(following[REAL[possible, :-1], REAL[possible, 1:]]).sum(1)
    found = Perplexity()(jax.random.key(0), view_of(SAID, REAL, model, params))
    assert 0 < possible.mean() < 1 and float(found["possible"]) == pytest.approx(possible.mean())
    assert float(found["perplexity"]) == np.inf
    assert float(found["finite"]) == pytest.approx(np.exp(-logs.mean() / 20), rel=1e-4)
    uniform = Perplexity()(jax.random.key(0), view_of(SAID, REAL, model, model.init(jax.random.key(0))))
    assert float(uniform["perplexity"]) == pytest.approx(LETTERS, rel=1e-4) == pytest.approx(float(uniform["finite"]))


class Ends(NamedTuple):
    """A model of texts that end at the first blank: each token up to there has the probability of its table."""

    table: Any  # [V]: log p
    eos: int = 0

    def log_prob(self, params: Any, rows: Any) -> Any:
        there = jnp.cumsum(rows == 0, axis=1) - (rows == 0) == 0
        return jnp.where(there, self.table[rows], 0.0).sum(1)


def test_the_tokens_of_a_text_that_ends_are_those_up_to_its_end():
    table = np.where(np.arange(LETTERS) == 7, -np.inf, -np.arange(1.0, LETTERS + 1) / 10)
    found = Perplexity()(jax.random.key(0), view_of(SAID, REAL, Ends(jnp.asarray(table))))
    texts = [row[: row.index(0) + 1] if 0 in row else row for row in REAL.tolist()]
    possible = [text for text in texts if 7 not in text]
    expected = np.exp(-sum(table[token] for text in possible for token in text) / sum(map(len, possible)))
    assert 0 < len(possible) < 60 and float(found["finite"]) == pytest.approx(expected, rel=1e-4)
    assert float(found["perplexity"]) == np.inf


def test_the_reference_model_is_fitted_to_real_rows():
    model = Ngram(LETTERS, 2, smoothing=0.1)
    what = ReferencePerplexity(model)
    params = what.prepare(jax.random.key(0), ENGLISH)
    whole = model.fit(jax.random.key(0), model.init(jax.random.key(0)), Pool.of(jnp.asarray(ENGLISH.split.train)))[0]
    assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(params, whole, strict=True))
    real, noise = (
        what(jax.random.key(0), view_of(rows, REAL, prepared={what: params}))["finite"]
        for rows in (SAID, CHANCE.integers(0, LETTERS, SAID.shape).astype(np.int32))
    )
    common = what(jax.random.key(0), view_of(np.zeros_like(SAID), REAL, prepared={what: params}))["finite"]
    assert float(common) < float(real) < float(noise)  # blanks alone are likelier than text, and noise less likely
    jax.eval_shape(lambda: what.prepare(jax.random.key(0), ENGLISH))


PROBES = {
    "perplexity": Perplexity(),
    "reference": ReferencePerplexity(Ngram(LETTERS, 2, smoothing=0.1), rows=500),
    "diversity": TextDiversity(),
    "compression": Compression(),
}


def chain() -> Chain:
    generator = Ngram(LETTERS, 2, smoothing=0.01)
    return Chain(source=ENGLISH, generator=generator, probes=PROBES, real=60, rows=50, held_out=60)


def test_all_run_in_chains():
    found = jax.jit(jax.vmap(lambda key: simulate(chain(), key, 2)))(jax.random.split(jax.random.key(0), 3))
    assert (found["diversity.rows"] == 50).all() and (found["perplexity.rows"] == 60).all()
    for name in ("perplexity.finite", "reference.finite", "compression.ratio", "diversity.zipf"):
        assert np.isfinite(found[name]).all() and (found[name] > 1).all()
    assert (found["reference.possible"] > 0.8).all() and (found["perplexity.finite"] < LETTERS).all()


def test_sets_together_are_as_each_alone():
    sets = np.stack([SAID, SAID[:, ::-1], np.where(SAID % 2, SAID - 1, SAID)])  # [3, 50, 20]
    together = jax.jit(jax.vmap(lambda rows: TextDiversity()(jax.random.key(0), view_of(rows, REAL))))(sets)
    shrunk = jax.vmap(lambda rows: Compression()(jax.random.key(0), view_of(rows, REAL))["ratio"])(sets)
    for i, rows in enumerate(sets):
        assert diversity(rows) == pytest.approx({name: float(value[i]) for name, value in together.items()}, rel=1e-5)
        assert float(shrunk[i]) == float(Compression()(jax.random.key(0), view_of(rows, REAL))["ratio"])


@pytest.mark.slow
def test_compiled_is_as_eager():
    eager = TextDiversity()(jax.random.key(0), view_of(SAID, REAL))
    assert diversity(SAID) == pytest.approx({name: float(value) for name, value in eager.items()}, rel=1e-5)


@pytest.mark.slow
def test_a_run_goes_on_with_the_reference_model_it_learned(tmp_path: Any):
    small = replace(chain(), probes={"reference": PROBES["reference"]})
    run(small, jax.random.key(0), 1, store=tmp_path / "run")
    assert (tmp_path / "run" / "prepared.npz").exists()
    again = run(replace(small), jax.random.key(0), 2, store=tmp_path / "run")
    whole = run(small, jax.random.key(0), 2)
    assert again["reference.finite"].tolist() == pytest.approx(whole["reference.finite"].tolist(), rel=1e-5)


@pytest.mark.parametrize(
    "build",
    [
        partial(TextDiversity, 0),
        partial(TextDiversity, order=2),
        partial(TextDiversity, rare=1.0),
        partial(Compression, 0),
        partial(Compression, level=10),
        partial(ReferencePerplexity, Ngram(5), rows=0),
        lambda: ReferencePerplexity(object()),  # pyright: ignore[reportArgumentType]
        lambda: TextDiversity()(jax.random.key(0), view_of(SAID, REAL, Gaussian(2))),
        lambda: TextDiversity()(jax.random.key(0), view_of(SAID[:, :3], REAL)),
        lambda: TextDiversity()(jax.random.key(0), view_of(SAID.astype(np.float32), REAL)),
        lambda: Perplexity()(jax.random.key(0), view_of(SAID, REAL[0])),
    ],
)
def test_bad_values_get_one_sentence(build: Any):
    with pytest.raises(GenlossError) as error:
        build()
    assert str(error.value).endswith(".") and "\n" not in str(error.value)
