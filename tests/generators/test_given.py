"""Rows of which part is given."""

import dataclasses
from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import OPTIMISED, assert_mean

from generators import (
    VAE,
    Archive,
    Copula,
    Diffusion,
    Gaussian,
    Mixture,
    Ngram,
    PerClass,
    Prompted,
    Society,
    Watermarked,
)
from generators.nets.denoiser import Denoiser
from generators.ngram import NgramParams
from simulator import GenlossError, Pool
from simulator.abilities import completes
from simulator.sources.columns import Layout
from simulator.sources.given import Prompts, said
from simulator.sources.split import Split

KEY = jax.random.key(0)
IMAGES = {"image": jnp.arange(48 * 4, dtype=jnp.uint8).reshape(48, 2, 2, 1), "label": jnp.arange(48) % 3}
STORED: Any = SimpleNamespace(
    split=Split(jax.tree.map(np.asarray, IMAGES), jax.tree.map(np.asarray, IMAGES), ("a", "b", "c"), ""), fingerprint=""
)
POINTS = {"x": jnp.zeros((6, 2)), "label": jnp.arange(6) % 3}
SMALL = partial(Denoiser, width=4, depth=1)
TINY = VAE(latent=2, hidden=(3,)).shaped(IMAGES)
TOLD = {
    "vae": TINY,
    "diffusion": Diffusion(network=SMALL, sample_steps=2, sample_batch=4).shaped(IMAGES),
    "points": Diffusion(network=SMALL, sample_steps=2).shaped(POINTS),
    "per class": PerClass(Gaussian(2), 3),
    "copula": Copula(size=16, layout=Layout(numbers=2, kinds=(3,), classes=3)),
    "archive": Archive(STORED),
    "society": Society(TINY, 3),
}


@pytest.mark.parametrize("case", TOLD)
def test_rows_have_the_labels_that_are_given_and_are_those_that_would_be_said_with_them(case: str):
    """Given the labels that it would draw itself, a generator says the same rows, to the bit, where labels have a key
    of their own; an archive says stored rows of these labels, each before any twice."""
    model: Any = TOLD[case]
    params = model.init(KEY)
    sample = jax.jit(model.sample, static_argnums=2, compiler_options=OPTIMISED)
    own = sample(KEY, params, 10)
    again = sample(KEY, params, 10, {"label": own["label"]})
    if case != "archive":
        assert jax.tree.all(jax.tree.map(np.array_equal, own, again))
    label = jnp.array([2, 2, 0, 1, 2, 0, 0, 0, 1, 2], jnp.int32)
    rows = sample(KEY, params, 10, {"label": label})
    assert np.array_equal(rows["label"], label)
    assert jax.tree.map(lambda a: (a.shape, a.dtype), rows) == jax.tree.map(lambda a: (a.shape, a.dtype), own)
    if case == "archive":
        place = np.asarray(rows["image"])[:, 0, 0, 0] // 4  # of the archive's rows
        assert np.array_equal(place % 3, label) and len(set(place)) == 10


def test_a_portion_of_a_sample_with_labels_is_its_part():
    model: Any = TOLD["diffusion"]
    params, given = model.init(KEY), {"label": jnp.array([2, 0, 1, 1, 2, 0], jnp.int32)}
    whole = jax.jit(model.sample, static_argnums=2)(KEY, params, 6, given)
    last = jax.jit(model.portion, static_argnums=2)(KEY, params, 6, jnp.int32(1), given)
    assert jax.tree.all(jax.tree.map(lambda a, b: np.array_equal(a[4:], b[:2]), whole, last))


WINDOWS = Ngram(3, order=3, length=6)


def chance(params: NgramParams, windows: np.ndarray) -> np.ndarray:
    return np.exp(np.asarray(WINDOWS.log_prob(params, jnp.asarray(windows)), np.float64))


@pytest.mark.parametrize("k", [1, 2, 4])
def test_a_text_goes_on_as_texts_that_begin_so_do(k: int):
    """P(rest | first k tokens), by the law of whole windows: all that begin so, summed."""
    rng = np.random.default_rng(1)
    start, following = rng.dirichlet(np.ones(9)), rng.dirichlet(np.ones(3), 9)
    params = NgramParams(jnp.asarray(start, jnp.float32), jnp.asarray(following, jnp.float32))
    every = np.stack(np.meshgrid(*[np.arange(3)] * 6, indexing="ij"), -1).reshape(-1, 6)  # all windows
    first = np.array([2, 1, 0, 1])[:k]
    law = chance(params, every) * (every[:, :k] == first).all(1)
    given = jnp.broadcast_to(jnp.asarray(first, jnp.int32), (20_000, k))
    found = np.asarray(jax.jit(lambda key: WINDOWS.sample(key, params, 20_000, given))(KEY))
    assert (found[:, :k] == first).all()
    for place in range(k, 6):
        said = np.stack([found[:, place] == v for v in range(3)], 1)
        expected = np.array([law[every[:, place] == v].sum() for v in range(3)]) / law.sum()
        assert_mean(said[:, :2], expected[:2])


def test_a_whole_window_that_is_given_is_said_and_one_that_never_began_goes_on_as_any():
    params = NgramParams(jnp.zeros(9).at[jnp.array([3, 5])].set(0.5), jnp.full((9, 3), 1 / 3))
    whole = jnp.array([[0, 1, 2, 0, 1, 2]], jnp.int32)
    assert np.array_equal(WINDOWS.sample(KEY, params, 1, whole), whole)
    found = np.asarray(WINDOWS.sample(KEY, params, 500, jnp.full((500, 1), 2, jnp.int32)))
    assert set(found[:, 1]) == {0, 2}  # second tokens of all that began, 1 0 and 1 2


@pytest.mark.parametrize("of", ["diet", "real"])
def test_prompts_are_parts_of_the_diet_by_weight_or_of_real_rows_in_order(of: Any):
    pool = Pool.of(POINTS).weighed(jnp.array([0.0, 1.0, 0.0, 0.0, 3.0, 0.0]))
    real = {"x": jnp.zeros((4, 2)), "label": jnp.array([2, 0, 1, 1])}
    found = Prompts("label", of)(KEY, 2000 if of == "diet" else 6, pool, real)
    assert found.keys() == {"label"}
    if of == "real":
        assert found["label"].tolist() == [2, 0, 1, 1, 2, 0]
    else:
        assert (found["label"] == 1).all()
        tokens = Pool.of(jnp.arange(12).reshape(3, 4)).weighed(jnp.array([1.0, 0.0, 3.0]))
        first = np.asarray(Prompts(2)(KEY, 2000, tokens, tokens.rows))
        assert {tuple(row) for row in first.tolist()} == {(0, 1), (8, 9)}
        assert_mean(first[:, 0] == 8, 0.75)


def test_prompts_of_what_is_synthetic_are_of_all_where_nothing_is():
    pool = Pool.of(POINTS).weighed(jnp.array([4.0, 1.0, 0.0, 1.0, 0.0, 3.0]))
    mixed = pool.replace(origin=jnp.array([0, 0, 1, 1, 1, 1]))
    told = lambda pool: np.asarray(Prompts("label", "synthetic")(KEY, 2000, pool, IMAGES)["label"])  # noqa: E731
    assert_mean(told(mixed) == 0, 0.25)  # of the fourth and the sixth row, whose labels are 0 and 2
    assert set(told(mixed)) == {0, 2}
    assert_mean(np.stack([told(pool) == label for label in (0, 1)], 1), np.array([5 / 9, 1 / 9]))


def test_who_cannot_be_told_says_so():
    assert completes(Watermarked(TINY)) and completes(Society(Ngram(3), 2)) and not completes(Diffusion(shape=(2,)))
    for model in (Gaussian(2), Mixture(2, 3), Prompted(TINY), Society(Gaussian(2)), Watermarked(Gaussian(2))):
        assert not completes(model)
        with pytest.raises(GenlossError, match="cannot be given part of them"):
            said(model, KEY, None, 3, {"label": jnp.zeros(3, jnp.int32)})


@pytest.mark.parametrize(
    ("model", "given"),
    [
        (TINY, {"label": jnp.zeros(4, jnp.int32)}),
        (TINY, {"image": jnp.zeros((3, 2, 2, 1))}),
        (TOLD["per class"], jnp.zeros(3)),
        (WINDOWS, jnp.zeros((3, 7), jnp.int32)),
        (WINDOWS, jnp.zeros((2, 2), jnp.int32)),
    ],
)
def test_what_cannot_be_completed_is_refused(model: Any, given: Any):
    with pytest.raises(GenlossError, match="can be given"):
        model.sample(KEY, model.init(KEY), 3, given)


def test_parts_that_rows_do_not_have_are_refused():
    pool = Pool.of(jnp.zeros((4, 2)))
    for part in ("label", 3):
        with pytest.raises(GenlossError, match="Prompts"):
            Prompts(part)(KEY, 2, pool, pool.rows)
    with pytest.raises(GenlossError, match="at least 1"):
        dataclasses.replace(Prompts(), part=0)
