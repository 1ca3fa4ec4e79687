"""How a token is chosen of logits, against the same written out in NumPy."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_mean

from generators.decoding import drawn, penalised, searched, shares

LOGITS = np.random.default_rng(0).normal(size=(4, 9)).astype(np.float32) * 2


def reference(logits: np.ndarray, temperature: float, top_k: int | None, top_p: float, min_p: float) -> np.ndarray:
    """The probabilities of one row's tokens, [vocabulary], a token at a time."""
    chance = np.exp(logits.astype(np.float64) / temperature)
    chance /= chance.sum()
    order = [int(i) for i in np.argsort(-chance)][:top_k]
    mass, total, kept = 0.0, sum(chance[i] for i in order), []
    for i in order:
        if kept and mass >= top_p * total:
            break
        kept.append(i)
        mass += chance[i]
    kept = [i for i in kept if chance[i] >= min_p * chance[order[0]]]
    return np.array([chance[i] if i in kept else 0.0 for i in range(len(chance))]) / sum(chance[i] for i in kept)


CHOICES: list[tuple[float, Any, float, float]] = [
    (1.0, None, 1.0, 0.0),
    (0.5, None, 1.0, 0.0),
    (1.5, 3, 1.0, 0.0),
    (1.0, 20, 1.0, 0.0),
    (1.0, None, 0.8, 0.0),
    (1.0, None, 0.0, 0.0),
    (2.0, None, 1.0, 0.3),
    (1.3, 6, 0.9, 0.1),
]


@pytest.mark.parametrize(("temperature", "top_k", "top_p", "min_p"), CHOICES)
def test_shares_are_those_of_the_papers_one_after_the_other(temperature: float, top_k: Any, top_p: float, min_p: float):
    found = np.asarray(shares(jnp.asarray(LOGITS), temperature, top_k, top_p, min_p))
    for row, logits in zip(found, LOGITS, strict=True):
        expected = reference(logits, temperature, top_k, top_p, min_p)
        assert np.array_equal(row > 0, expected > 0)
        assert np.allclose(row / row.sum(), expected, atol=1e-6)


def test_numbers_that_are_swept_are_the_same_as_those_that_are_written():
    given = jnp.array([[0.7, 0.9, 0.05], [1.4, 1.0, 0.0], [1.0, 0.5, 0.2]])
    found = jax.vmap(lambda g: shares(jnp.asarray(LOGITS), g[0], 7, g[1], g[2]))(given)
    for one, (temperature, top_p, min_p) in zip(found, given.tolist(), strict=True):
        expected = shares(jnp.asarray(LOGITS), temperature, 7, top_p, min_p)
        assert np.allclose(one / one.sum(1, keepdims=True), expected / expected.sum(1, keepdims=True), atol=1e-6)


def test_temperature_0_says_the_likeliest_and_equals_by_turns():
    share = np.asarray(shares(jnp.array([[1.0, 3.0, 2.0], [5.0, -1.0, 5.0]]), 0.0, None, 1.0, 0.0))
    assert np.allclose(share, [[0, 1, 0], [0.5, 0, 0.5]])


def test_tokens_are_drawn_by_their_shares_and_one_without_any_never():
    share = jnp.array([[0.2, 0.0, 0.5, 0.1, 0.0], [0.0, 0.0, 0.0, 0.0, 3.0]])  # not all sum to 1
    keys = jax.random.split(jax.random.key(0), 40_000)
    found = np.asarray(jax.jit(lambda keys: drawn(keys, jnp.tile(share, (20_000, 1))))(keys)).reshape(-1, 2)
    assert (found[:, 1] == 4).all()
    assert_mean(np.stack([found[:, 0] == v for v in range(5)], 1)[:, [0, 2, 3]], np.array([0.2, 0.5, 0.1]) / 0.8)
    assert not np.isin(found[:, 0], [1, 4]).any()


def test_a_penalty_makes_what_was_said_less_likely_whatever_its_sign():
    found = penalised(jnp.array([[2.0, -2.0, 1.0, -1.0]]), jnp.array([[True, True, False, False]]), 1.6)
    assert np.allclose(found, [[1.25, -3.2, 1.0, -1.0]])


@pytest.mark.parametrize("eos", [None, 0])
def test_beams_find_the_likeliest_row_of_all_where_they_are_wide_and_greedily_go_on_where_they_are_one(eos: Any):
    """In a Markov chain of the last two tokens: the cache holds the last one.  Of four tokens, one or none is given."""
    rng = np.random.default_rng(3)
    table = np.log(rng.dirichlet(np.full(3, 0.7), (3, 3)))  # [before, last, next]
    given = np.array([[1], [2], [0]])

    def extend(tokens: jax.Array, cache: jax.Array, at: Any) -> tuple[jax.Array, jax.Array]:
        return jnp.asarray(table)[cache, tokens[:, 0]], tokens[:, 0]

    def score(row: tuple[int, ...]) -> float:
        before, last, total = 0, row[0], 0.0
        for token in row[1:]:
            over = eos is not None and last == eos
            total += (0.0 if token == eos else -np.inf) if over else table[before, last, token]
            before, last = last, token
        return total

    logits, cache = jnp.asarray(table)[0, given[:, 0]], jnp.asarray(given[:, 0])
    wide, narrow = (np.asarray(searched(extend, logits, cache, jnp.asarray(given), 4, b, eos)) for b in (27, 1))
    for i, (first,) in enumerate(given.tolist()):
        every = [(first, *rest) for rest in itertools.product(range(3), repeat=3)]
        assert tuple(wide[i]) == max(every, key=score)
        row = [first]
        for _ in range(3):
            row.append(max(range(3), key=lambda token: score((*row, token))))
        assert narrow[i].tolist() == row
