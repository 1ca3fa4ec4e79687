"""Every measure against an independent implementation, and against what it must be."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import ot
import pytest
import scipy.linalg
import scipy.stats
from conftest import assert_mean
from prdc import compute_prdc

from generators import Gaussian
from simulator import Pool, View
from simulator.probes import Diet, Diversity, Fidelity
from simulator.probes.features import flat, squared_distances
from simulator.probes.fidelity import energy, frechet, kth

CHANCE = np.random.default_rng(0)


def view_of(synthetic: Any, reference: Any, diet: Pool | None = None, t: int = 0) -> View:
    diet = diet or Pool.of(synthetic)
    as_arrays = partial(jax.tree.map, jnp.asarray)
    return View(jnp.int32(t), None, diet, as_arrays(synthetic), as_arrays(reference), Gaussian(2))


def probe(what: Any, *arguments: Any, **more: Any) -> dict[str, Any]:
    return what(jax.random.key(0), view_of(*arguments, **more))


def points(n: int, d: int, scale: float = 1.0, shift: float = 0.0) -> np.ndarray:
    return (CHANCE.normal(size=(n, d)) * scale + shift).astype(np.float32)


PAIRS = {
    "same law": (points(300, 5), points(300, 5)),
    "narrow": (points(250, 8), points(250, 8, 0.4)),
    "shifted": (points(200, 3), points(200, 3, 1.0, 2.0)),
    "one dimension": (points(150, 1), points(150, 1, 0.5)),
}


@pytest.mark.parametrize("real, fake", PAIRS.values(), ids=PAIRS)
@pytest.mark.parametrize("k", [1, 5, 10])
def test_precision_recall_density_coverage_against_prdc(real: np.ndarray, fake: np.ndarray, k: int):
    found = probe(Fidelity(neighbours=k), fake, real)
    expected = compute_prdc(real, fake, nearest_k=k)
    for name, value in expected.items():
        assert float(found[name]) == pytest.approx(float(value), abs=1.01 / len(real))


@pytest.mark.parametrize("real, fake", PAIRS.values(), ids=PAIRS)
def test_frechet_against_scipy(real: np.ndarray, fake: np.ndarray):
    a, b = np.atleast_2d(np.cov(real.T)), np.atleast_2d(np.cov(fake.T))
    root = np.real(scipy.linalg.sqrtm(a @ b))
    expected = ((real.mean(0) - fake.mean(0)) ** 2).sum() + np.trace(a + b - 2 * root)
    assert float(frechet(jnp.asarray(real), jnp.asarray(fake))) == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_frechet_where_covariances_are_singular():
    """Collapsed samples on a line: the library's square root of a singular product is where others fail."""
    real = points(400, 4)
    fake = points(400, 1) * np.array([[1.0, 0, 0, 0]], np.float32)
    expected = frechet(jnp.asarray(real), jnp.asarray(fake))
    s, c = np.cov(real.T), float(np.var(fake[:, 0], ddof=1))
    # 2 tr (S^½ c e1 e1ᵀ S^½)^½ = 2 sqrt(c S_11)
    by_hand = ((real.mean(0) - fake.mean(0)) ** 2).sum() + np.trace(s) + c - 2 * np.sqrt(c * s[0, 0])
    assert float(expected) == pytest.approx(by_hand, rel=1e-4)


@pytest.mark.parametrize("real, fake", PAIRS.values(), ids=PAIRS)
def test_energy_distance_against_pot(real: np.ndarray, fake: np.ndarray):
    n = len(real)

    def mean_distance(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.sum(ot.dist(a.astype(float), b.astype(float), metric="euclidean")))

    expected = 2 * mean_distance(real, fake) / n**2
    expected -= (mean_distance(real, real) + mean_distance(fake, fake)) / (n * (n - 1))
    distances = [
        squared_distances(jnp.asarray(a), jnp.asarray(b)) for a, b in ((real, real), (fake, fake), (real, fake))
    ]
    assert float(energy(*distances)) == pytest.approx(expected, abs=2e-3)
    if real.shape[1] == 1:  # scipy's is the square root of the biased one, in one dimension
        biased = scipy.stats.energy_distance(real[:, 0], fake[:, 0]) ** 2
        correction = (mean_distance(real, real) + mean_distance(fake, fake)) * (1 / (n * (n - 1)) - 1 / n**2)
        assert float(energy(*distances)) == pytest.approx(biased - correction, abs=2e-3)


def test_energy_distance_is_unbiased():
    """Zero on average between samples of one law."""
    keys = jax.random.split(jax.random.key(0), 2000)

    def once(key: jax.Array) -> jax.Array:
        a, b = jax.random.normal(key, (2, 20, 3))
        return energy(squared_distances(a, a), squared_distances(b, b), squared_distances(a, b))

    assert_mean(jax.vmap(once)(keys), 0.0)


def test_identical_disjoint_and_partial_sets():
    real = points(200, 4)
    same = probe(Fidelity(), real, real)
    assert float(same["frechet"]) == pytest.approx(0, abs=1e-4)
    assert float(same["precision"]) == float(same["recall"]) == float(same["coverage"]) == 1.0
    far = probe(Fidelity(), real + 100, real)
    assert [float(far[m]) for m in ("precision", "recall", "density", "coverage")] == [0, 0, 0, 0]
    half = real[real[:, 0] > 0]  # a sub-region: faithful, not diverse
    part = probe(Fidelity(), half[:90], real[:90])
    assert float(part["precision"]) > 0.85 and float(part["recall"]) < 0.85 and float(part["coverage"]) < 0.85


def test_order_of_rows_does_not_matter():
    real, fake = PAIRS["narrow"]
    shuffled = fake[CHANCE.permutation(len(fake))]
    a, b = probe(Fidelity(), fake, real), probe(Fidelity(), shuffled, real)
    assert all(float(a[m]) == pytest.approx(float(b[m]), rel=1e-4, abs=1e-5) for m in a)


@pytest.mark.parametrize("k", [1, 3, 9])
def test_kth_neighbour_against_sorting(k: int):
    x = points(60, 3)
    x[10] = x[11]  # a duplicate is a neighbour at distance 0
    distances = ((x[:, None] - x[None]) ** 2).sum(-1)
    np.fill_diagonal(distances, np.inf)
    assert np.allclose(
        kth(squared_distances(jnp.asarray(x), jnp.asarray(x)), k), np.sort(distances, 1)[:, k - 1], atol=1e-4
    )


@pytest.mark.parametrize("shape", [(100, 6), (5, 40)])
def test_variance_and_participation_against_numpy(shape: tuple[int, int]):
    x = points(*shape) * np.linspace(0.1, 2, shape[1], dtype=np.float32)
    found = probe(Diversity(), x, x)
    eigenvalues = np.linalg.eigvalsh(np.cov(x.T))
    assert float(found["variance"]) == pytest.approx(eigenvalues.sum(), rel=1e-4)
    assert float(found["participation"]) == pytest.approx(eigenvalues.sum() ** 2 / (eigenvalues**2).sum(), rel=1e-4)


def test_label_entropy_against_scipy():
    label = CHANCE.integers(0, 5, 200).astype(np.int32)
    label[label == 3] = 2  # an empty class
    rows = {"image": points(200, 4), "label": label}
    reference = {**rows, "label": np.arange(200, dtype=np.int32) % 6}
    expected = scipy.stats.entropy(np.bincount(label, minlength=6))
    assert float(probe(Diversity(), rows, reference)["label_entropy"]) == pytest.approx(expected, rel=1e-5)


def test_features_scale_bytes():
    images = CHANCE.integers(0, 256, (3, 2, 2, 1)).astype(np.uint8)
    assert np.allclose(flat({"image": jnp.asarray(images), "label": None}), images.reshape(3, 4) / 255)
    assert np.allclose(flat(jnp.ones((3, 2))), 1)


def test_diet_against_counting():
    pool = Pool(
        rows=jnp.zeros((6, 1)),
        origin=jnp.array([0, 0, 1, 1, 1, 0]),
        birth=jnp.array([0, 0, 0, 1, 7, -1]),
        weight=jnp.array([1.0, 0.5, 2.0, 1.0, 0.5, 0.0]),
    )
    found = probe(Diet(births=3), np.zeros((4, 1), np.float32), np.zeros((4, 1), np.float32), diet=pool)
    assert float(found["real"]) == pytest.approx(1.5 / 5)
    assert np.allclose(found["birth"], [2 / 5, 1 / 5, 0.5 / 5])
    assert float(found["effective_size"]) == pytest.approx(25 / 6.5)
