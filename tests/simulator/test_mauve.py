"""MAUVE against its formula with scikit-learn's area, its interval against many sets, and its clusters."""

from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics
from sklearn.cluster import KMeans

from generators import Ngram
from simulator import Chain, GenlossError, Pool, Store, View, run
from simulator.probes.language import Reader
from simulator.probes.mauve import HashedNgrams, Mauve, mauve, members, resampled
from simulator.sources.text import Text

CHANCE = np.random.default_rng(0)


def published(p: np.ndarray, q: np.ndarray, scale: float) -> float:
    """As the authors' package works it out of two histograms, in float64."""
    points = [(1.0, 0.0), (0.0, 1.0)]
    for weight in np.linspace(1e-6, 1 - 1e-6, 25):
        r = weight * p + (1 - weight) * q
        of_q, of_p = (sum(a * np.log(a / b) for a, b in zip(part, r, strict=True) if a > 0) for part in (q, p))
        points.append((np.exp(-scale * of_q), np.exp(-scale * of_p)))
    x, y = np.array(points).T
    i, j = np.lexsort((-y, x)), np.lexsort((-x, y))
    return (sklearn.metrics.auc(x[i], y[i]) + sklearn.metrics.auc(y[j], x[j])) / 2


def test_the_area_against_the_formula_in_double_precision():
    p, q = CHANCE.dirichlet(np.ones(12) / 2, (2, 30))
    q[:, :3] = 0
    p[:10, 4:] = 0
    p, q = (part / part.sum(1, keepdims=True) for part in (p, q))
    for scale in (1.0, 5.0):
        found = jax.jit(mauve)(jnp.asarray(p), jnp.asarray(q), scale)
        assert np.allclose(found, [published(a, b, scale) for a, b in zip(p, q, strict=True)], rtol=2e-3, atol=2e-5)
    assert np.allclose(mauve(jnp.asarray(p), jnp.asarray(p)), 1, atol=1e-5)
    apart = mauve(jnp.array([0.5, 0.5, 0, 0]), jnp.array([0, 0, 0.3, 0.7]))
    assert float(apart) == pytest.approx(published(np.array([0.5, 0.5, 0, 0]), np.array([0, 0, 0.3, 0.7]), 5), rel=2e-3)
    assert 0 < float(apart) < 0.1
    swapped = mauve(jnp.asarray(q), jnp.asarray(p))
    assert np.allclose(swapped, mauve(jnp.asarray(p), jnp.asarray(q)), atol=1e-5)  # it knows no order


def test_clusters_are_those_of_the_nearest_centre():
    x = CHANCE.normal(size=(300, 4)).astype(np.float32)
    means = [KMeans(7, n_init="auto", random_state=seed).fit(x) for seed in range(3)]
    found = members(jnp.asarray(x), jnp.asarray(np.stack([m.cluster_centers_ for m in means]), jnp.float32))
    assert np.array_equal(found.argmax(2), [m.predict(x) for m in means]) and (np.asarray(found).sum(2) == 1).all()


def test_the_bootstrap_has_the_error_of_many_sets():
    """Of 300 pairs of sets from two laws: the spread of their areas, and the mean of the bootstrap's errors."""
    p, q = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.2, 0.2, 0.3, 0.3])
    n = 100

    def one(key: Any) -> Any:
        keys = jax.random.split(key, 4)
        a, b = (jax.random.choice(k, 4, (1, n), p=law) for k, law in zip(keys[:2], (p, q), strict=True))
        a, b = jax.nn.one_hot(a, 4), jax.nn.one_hot(b, 4)  # [1, n, 4]
        drawn = mauve(resampled(keys[2], a, 60), resampled(keys[3], b, 60))[:, 0]
        return mauve(a.mean(1), b.mean(1))[0], drawn.std(ddof=1)

    areas, errors = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), 300))
    spread = float(np.std(areas, ddof=1))
    assert float(errors.mean()) == pytest.approx(spread, rel=5 / np.sqrt(2 * 299))  # five errors of a deviation
    assert 0.02 < spread < 0.2


def test_hashed_ngrams_keep_the_products_of_counts():
    """The inner products of hashed counts are those of counts, on average over hashes (Weinberger et al., lemma 2)."""
    rows = CHANCE.integers(0, 40, (30, 25)).astype(np.int32)
    wide = np.asarray(HashedNgrams(order=2, width=50_021)(jnp.asarray(rows)))
    grams = [[*row, *pairwise(row)] for row in rows.tolist()]
    names = {gram: i for i, gram in enumerate({g for row in grams for g in row})}
    counts = np.zeros((30, len(names)))
    for i, row in enumerate(grams):
        for gram in row:
            counts[i, names[gram]] += 1
    unit = counts / np.linalg.norm(counts, axis=1, keepdims=True)
    assert np.abs(wide @ wide.T - unit @ unit.T).max() < 0.1  # but for a few that fall together
    assert np.median(np.abs(wide @ wide.T - unit @ unit.T)) < 1e-6
    narrow = np.asarray(HashedNgrams(order=2, width=64)(jnp.asarray(rows)))
    off = ~np.eye(30, dtype=bool)
    error = (narrow @ narrow.T - unit @ unit.T)[off]
    assert abs(error.mean()) < 5 * error.std() / np.sqrt(30 * 15) and error.std() < 3 / np.sqrt(64)


TEXT = Text(length=16)
LETTERS = len(TEXT.alphabet)


class WithStates(Ngram):
    """An n-gram whose hidden states are what may follow each token."""

    def hidden(self, params: Any, rows: Any) -> Any:
        return params.next[rows, :8]


READER = Reader(WithStates(LETTERS, smoothing=0.1), rows=300)
PROBES = {
    "plain": Mauve(clusters=8, clusterings=3, draws=20, rows=400),
    "states": Mauve(READER, clusters=8, clusterings=3, draws=20, rows=400),
}


def chain() -> Chain:
    model = Ngram(LETTERS, smoothing=0.001)
    return Chain(source=TEXT, generator=model, probes=PROBES, real=300, rows=150, held_out=150)


def test_clusters_are_learned_in_a_space_that_is_learned_first():
    found, states = chain().prepared, PROBES["states"]
    assert list(found) == [PROBES["plain"], states, READER]
    key = jax.random.fold_in(jax.random.key(0), 2**32 - 2)  # of what probes learn
    x = READER(TEXT.draw(key, 400), found[READER])
    expected = KMeans(8, n_init="auto", random_state=1).fit(np.asarray(x)).cluster_centers_
    assert np.allclose(found[states][1], expected, atol=1e-4)


@pytest.mark.slow
def test_a_run_keeps_its_clusters(tmp_path: Any):
    first = chain()
    record = run(first, jax.random.key(0), 1, store=tmp_path / "run")
    for name in PROBES:
        low, value, high = (float(record[f"{name}.{part}"][0]) for part in ("low", "mauve", "high"))
        assert 0.3 < low < value < high <= 1
        assert float(record[f"{name}.noise"][0]) > 0 and float(record[f"{name}.error"][0]) > 0
    stored = Store(tmp_path / "run").prepared(chain())
    assert stored is not None
    for student, learned in first.prepared.items():
        for a, b in zip(*map(jax.tree.leaves, (stored[student], learned)), strict=True):
            assert np.array_equal(a, b)


def test_text_that_lost_half_of_its_letters_scores_lower():
    what = PROBES["plain"]
    known = {what: what.prepare_with(jax.random.key(0), TEXT, {})}
    real, said = (TEXT.draw(jax.random.key(1), 150, held_out=held_out) for held_out in (True, False))
    measure = jax.jit(lambda rows: what(jax.random.key(0), view_of(rows, real, known)))
    whole, half = measure(said), measure(said // 2 * 2)
    assert float(half["mauve"]) + 3 * float(half["error"]) < float(whole["mauve"]) - 3 * float(whole["noise"]) < 1


def view_of(rows: Any, real: Any, prepared: Any) -> View:
    return View(jnp.int32(0), None, Pool.of(rows), rows, real, Ngram(LETTERS), prepared=prepared)


@pytest.mark.parametrize(
    "build",
    [
        partial(Mauve, clusters=1),
        partial(Mauve, clusterings=1),
        partial(Mauve, scale=0.0),
        partial(HashedNgrams, 0),
        lambda: HashedNgrams()(jnp.zeros((3, 4))),
        partial(Mauve, rows=0),
    ],
)
def test_bad_values_get_one_sentence(build: Any):
    with pytest.raises(GenlossError) as error:
        build()
    assert str(error.value).endswith(".") and "\n" not in str(error.value)
