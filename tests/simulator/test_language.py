"""Losses by token, byte and decile, and perplexities of single samples, against loops in numpy."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from generators import Gaussian, Ngram
from simulator import GenlossError, Pool, Truth, View
from simulator.probes.fidelity import Frechet, frechet
from simulator.probes.language import (
    FreshPerplexity,
    Reader,
    SequencePerplexity,
    TextLoss,
    counted,
    deciles,
    histogram,
    mean_loss,
)
from simulator.sources.text import Text
from simulator.sources.tokens import UNKNOWN

CHANCE = np.random.default_rng(0)
ENGLISH = Text(length=20)
LETTERS = len(ENGLISH.alphabet)
REAL = np.asarray(ENGLISH.draw(jax.random.key(0), 60, held_out=True))  # [60, 20]
SAID = np.asarray(ENGLISH.draw(jax.random.key(1), 50))  # [50, 20]
MODEL = Ngram(LETTERS, 3, length=20)
FITTED = jax.jit(lambda rows: MODEL.fit(jax.random.key(0), MODEL.init(jax.random.key(0)), Pool.of(rows))[0])(SAID)


def view_of(synthetic: Any, reference: Any, generator: Any = MODEL, params: Any = FITTED, **more: Any) -> View:
    synthetic, reference = jnp.asarray(synthetic), jnp.asarray(reference)
    return View(jnp.int32(0), params, Pool.of(synthetic), synthetic, reference, generator, **more)


def told(rows: np.ndarray) -> np.ndarray:
    """log p of each token under FITTED, by counting in the windows it was fitted to, [n, length] float64."""
    found = np.zeros(rows.shape)
    starts = SAID[:, :2].tolist()
    grams = [tuple(row[i : i + 3]) for row in SAID.tolist() for i in range(18)]
    with np.errstate(divide="ignore"):
        for r, row in enumerate(rows.tolist()):
            for i in range(20):
                if i < 2:
                    among = [s for s in starts if s[:i] == row[:i]] or starts
                    found[r, i] = np.log(sum(s[i] == row[i] for s in among) / len(among))
                else:
                    after = [g[2] for g in grams if g[:2] == tuple(row[i - 2 : i])] or [g[2] for g in grams]
                    found[r, i] = np.log(after.count(row[i]) / len(after))
    return found


TOLD = told(REAL)


def test_an_ngram_tells_each_token_by_its_counts():
    own, following = jax.jit(lambda p, r: (MODEL.token_log_prob(p, r), MODEL.next_log_prob(p, r)))(FITTED, REAL)
    assert np.allclose(own, TOLD, rtol=1e-4, atol=1e-5) and np.isinf(TOLD).any()
    assert np.allclose(np.take_along_axis(np.asarray(following), REAL[..., None], 2)[..., 0], own)
    assert np.allclose(np.exp(following).sum(2), 1, atol=1e-4)
    possible = np.isfinite(TOLD).all(1)
    whole = np.asarray(MODEL.log_prob(FITTED, jnp.asarray(SAID)))
    parts = np.asarray(MODEL.token_log_prob(FITTED, jnp.asarray(SAID))).sum(1)
    assert np.allclose(whole, parts, rtol=1e-4) and possible.sum() < 60


class Held(NamedTuple):
    """A model whose every text ends at the first blank, and that tells tokens by a table."""

    table: Any  # [V]
    eos: int = 0

    def token_log_prob(self, params: Any, rows: Any) -> Any:
        return self.table[rows]


def test_losses_by_token_byte_and_decile_against_loops():
    what = TextLoss()
    known = what.prepare(jax.random.key(0), ENGLISH)
    found = jax.jit(lambda v: what(jax.random.key(0), v._replace(generator=MODEL, prepared={what: known})))(
        view_of(SAID, REAL, None)
    )
    possible = np.isfinite(TOLD)
    assert float(found["perplexity"]) == np.inf == float(found["bits_per_byte"])
    assert float(found["finite"]) == pytest.approx(np.exp(-TOLD[possible].mean()), rel=1e-4)
    assert float(found["possible"]) == pytest.approx(possible.mean(), rel=1e-5)
    # By decile: the training text sorted by the rank of its tokens, cut in ten, which tokens on a border are shared by.
    train = np.asarray(ENGLISH.split.train).reshape(-1)
    counts = np.bincount(train, minlength=LETTERS)
    rank = np.argsort(np.argsort(-counts, kind="stable"), kind="stable")
    line = np.sort(rank[train])  # the text, most frequent tokens first
    loss, lost, mass, seen = (np.zeros(10) for _ in range(4))
    for d, part in enumerate(np.array_split(line, 10)):
        for r, c in zip(*np.unique(part, return_counts=True), strict=True):
            token = int(np.flatnonzero(rank == r)[0])
            share, mine = c / counts[token], np.equal(token, REAL)
            loss[d] -= share * TOLD[mine & possible].sum()
            seen[d] += share * np.sum(mine & possible)
            mass[d] += share * np.sum(mine)
            lost[d] += share * np.sum(mine & ~possible)
    assert np.allclose(found["decile"], loss / seen, rtol=2e-3)
    assert np.allclose(found["lost"], lost / mass, atol=2e-3) and float(found["lost"][9]) > float(found["lost"][0])
    guessed = np.asarray(MODEL.next_log_prob(FITTED, jnp.asarray(REAL))).argmax(2)
    assert float(found["accuracy"]) == pytest.approx((guessed == REAL).mean(), rel=1e-5)
    # All letters alike: log V nats a token, and so many bits a byte.
    flat = jax.tree.map(lambda a: jnp.ones_like(a) / a.shape[-1], FITTED)
    even = what(jax.random.key(0), view_of(SAID, REAL, MODEL, flat, prepared={what: known}))
    size = len("".join(ENGLISH.decode(REAL)).encode())
    assert float(even["bits_per_byte"]) == pytest.approx(np.log2(LETTERS) * REAL.size / size, rel=1e-4)
    assert np.allclose(even["decile"], np.log(LETTERS), rtol=1e-4) and not np.asarray(even["lost"]).any()


@pytest.mark.parametrize("units", ["characters", "bytes", "words", "bpe:400"])
def test_tokens_spell_the_bytes_of_their_text(units: str, tmp_path: Any):
    file = tmp_path / "text.txt"
    file.write_text("Ein Bär, zwei Bären – und 3 Äpfel? Nöö! " * 60)
    text = Text(str(file), length=30, tokenizer=units)
    rows = np.asarray(text.split.train)
    said = text.decode(rows.reshape(1, -1))[0].rstrip(UNKNOWN) + " " * (units == "words")
    cut = np.asarray(text.token_bytes)[rows].sum() - len(said.encode())  # of a letter that the last token parts
    assert 0 <= cut < 3 * (units in ("bytes", "bpe:400")) + 1 and len(said.encode()) > 1.05 * len(said) > 1000
    few = Text(str(file), length=30, tokenizer="words", vocabulary=5)
    assert few.token_bytes[-1] == 0 < min(few.token_bytes[:-1])


def test_what_follows_the_end_of_a_text_is_not_counted():
    model = Held(-jnp.arange(1.0, LETTERS + 1) / 10)
    there = np.asarray(counted(model, jnp.asarray(REAL)))  # pyright: ignore[reportArgumentType]
    for row, kept in zip(REAL.tolist(), there.tolist(), strict=True):
        assert sum(kept) == (row.index(0) + 1 if 0 in row else 20) and kept == sorted(kept, reverse=True)
    what = TextLoss(LETTERS)
    known = {"counts": jnp.asarray(np.bincount(REAL.reshape(-1), minlength=LETTERS), jnp.float32)}
    found = what(jax.random.key(0), view_of(SAID, REAL, model, prepared={what: known}))
    assert float(found["perplexity"]) == pytest.approx(np.exp((REAL[there] + 1).mean() / 10), rel=1e-5)
    assert "bits_per_byte" not in found and "accuracy" not in found


def test_deciles_are_tenths_of_the_text():
    counts = CHANCE.integers(0, 50, 200).astype(np.float32) ** 2
    share = np.asarray(deciles(jnp.asarray(counts)))
    assert np.allclose(share.sum(1), 1, atol=1e-5) and np.allclose(counts @ share, counts.sum() / 10, rtol=1e-4)
    assert (share[counts == 0, 9] == 1).all()
    place = share @ np.arange(10)
    assert (np.diff(place[np.argsort(-counts, kind="stable")]) > -1e-4).all()  # the more frequent, the earlier


def test_single_perplexities_and_their_histogram_against_numpy():
    what = SequencePerplexity(Reader(MODEL))
    prepared = {what.reader: FITTED}
    found = what(jax.random.key(0), view_of(REAL, SAID, prepared=prepared))
    each = np.exp(-TOLD.mean(1))
    edges = 2 ** (np.arange(65) / 4)
    expected = np.histogram(np.clip(each, 1, 2**15.99), edges)[0] / 60
    assert np.allclose(found["histogram"], expected, atol=1e-5) and expected[63] > 0.1
    for name, q in (("low", 0.05), ("median", 0.5), ("high", 0.95)):
        assert float(found[name]) == pytest.approx(np.quantile(each, q, method="nearest"), rel=1e-4)
    real = np.exp(-told(SAID).mean(1))
    assert float(found["strange"]) == pytest.approx((each > np.quantile(real, 0.95, method="nearest")).mean())
    same = what(jax.random.key(0), view_of(SAID, SAID, prepared=prepared))
    assert 0 < float(same["common"]) <= 0.05 and 0 < float(same["strange"]) <= 0.05
    assert float(same["low"]) < float(same["median"]) < float(same["high"])
    none = jax.tree.map(lambda a: a.at[0].set(jnp.nan), FITTED)
    wrong = what(jax.random.key(0), view_of(SAID, SAID, prepared={what.reader: none}))
    assert all(np.isnan(value).all() for name, value in wrong.items() if not name.endswith("rows"))
    assert float(histogram(mean_loss(jnp.zeros((3, 2)), jnp.ones((3, 2), bool)))[0]) == pytest.approx(1)


class WithStates(Ngram):
    """An n-gram whose hidden states are squares of its tokens."""

    def hidden(self, params: Any, rows: Any) -> Any:
        return jnp.stack([rows, rows**2], -1) * params.start[0]


def test_a_reader_is_fitted_once_and_is_a_space_for_distances():
    reader = Reader(WithStates(LETTERS, smoothing=0.1))
    params = reader.prepare(jax.random.key(0), ENGLISH)
    counts, train = np.full((LETTERS, LETTERS), 0.1), np.asarray(ENGLISH.split.train)
    np.add.at(counts, (train[:, :-1], train[:, 1:]), 1)
    assert np.allclose(params.next, counts / counts.sum(1, keepdims=True), atol=1e-5)
    begun = Reader(reader.model, rows=0).prepare(jax.random.key(0), ENGLISH)
    assert np.allclose(begun.next, 1 / LETTERS)  # as it begins
    found = Frechet(reader)(jax.random.key(0), view_of(SAID, REAL, prepared={reader: params}))
    scale = float(params.start[0])
    ours, theirs = (np.stack([rows.mean(1), (rows**2).mean(1)], 1) * scale for rows in (SAID, REAL[:50]))
    assert float(found["frechet"]) == pytest.approx(float(frechet(jnp.asarray(theirs), jnp.asarray(ours))), rel=1e-3)


def test_a_new_model_learns_from_what_was_said_alone():
    """The perplexity of held-out text under one fitted by hand, and that samples of few letters teach less."""
    plain = Ngram(LETTERS, smoothing=0.1, length=20)
    what = FreshPerplexity(Ngram(LETTERS, smoothing=0.1))
    measure = jax.jit(lambda rows: what(jax.random.key(0), view_of(rows, REAL, None)))
    found, few = measure(SAID), measure(SAID // 2 * 2)
    fitted = plain.fit(jax.random.key(9), plain.init(jax.random.key(0)), Pool.of(jnp.asarray(SAID)))[0]
    each = np.asarray(plain.token_log_prob(fitted, jnp.asarray(REAL)))
    assert float(found["finite"]) == pytest.approx(np.exp(-each[np.isfinite(each)].mean()), rel=1e-4)
    assert float(few["finite"]) > 1.5 * float(found["finite"]) and float(few["accuracy"]) < float(found["accuracy"])


@pytest.mark.parametrize(
    "build",
    [
        partial(Reader, Gaussian(2)),
        partial(FreshPerplexity, Gaussian(2)),
        partial(Reader, MODEL, rows=-1),
        partial(TextLoss, 0),
        lambda: TextLoss().prepare(jax.random.key(0), Truth(Gaussian(2))),
        lambda: Reader(MODEL)(jnp.asarray(SAID), FITTED),
        lambda: TextLoss(5)(jax.random.key(0), view_of(SAID, REAL, Gaussian(2), prepared={TextLoss(5): {}})),
    ],
)
def test_bad_values_get_one_sentence(build: Any):
    with pytest.raises(GenlossError) as error:
        build()
    assert str(error.value).endswith(".") and "\n" not in str(error.value)
