"""Distances between sets of rows against independent implementations, closed forms, and what they must be."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import ot
import pytest
import scipy.linalg
import scipy.stats
from conftest import assert_mean, reference, scattered
from prdc import compute_prdc

from generators import Gaussian
from simulator import GenlossError, Pool, Truth, View
from simulator.probes import Fidelity
from simulator.probes.features import Pca
from simulator.probes.fidelity import Frechet, Kid, Manifold, cubic, energy, frechet, frechet_infinite, mmd

CHANCE = np.random.default_rng(0)


def view_of(synthetic: Any, reference: Any, prepared: dict[Any, Any] | None = None) -> View:
    synthetic, reference = jnp.asarray(synthetic), jnp.asarray(reference)
    diet = Pool.of(synthetic)
    return View(jnp.int32(0), None, diet, synthetic, reference, Gaussian(2), prepared=prepared or {})


def probe(what: Any, *arguments: Any) -> dict[str, Any]:
    return compiled(what)(*arguments)


@functools.cache
def compiled(what: Any) -> Callable[..., dict[str, Any]]:
    """One program for all sets of one size."""
    return jax.jit(lambda *arguments: what(jax.random.key(0), view_of(*arguments)))


def points(n: int, d: int, scale: float = 1.0, shift: float = 0.0) -> np.ndarray:
    return (CHANCE.normal(size=(n, d)) * scale + shift).astype(np.float32)


PAIRS = {
    "same law": (points(150, 5), points(150, 5)),
    "narrow": (points(150, 5), points(150, 5, 0.4)),
    "shifted": (points(150, 5), points(150, 5, 1.0, 2.0)),
    "one dimension": (points(150, 1), points(150, 1, 0.5)),
}
pairs = pytest.mark.parametrize("real, fake", PAIRS.values(), ids=PAIRS)


@pairs
def test_precision_recall_density_coverage_against_prdc(real: np.ndarray, fake: np.ndarray):
    found = probe(Manifold(neighbours=5), fake, real)
    for name, value in compute_prdc(real, fake, nearest_k=5).items():
        assert float(found[name]) == pytest.approx(float(value), abs=1.01 / len(real))


# The Fréchet distance.


def by_sqrtm(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(float), b.astype(float)
    c, d = np.atleast_2d(np.cov(a.T)), np.atleast_2d(np.cov(b.T))
    root = np.real(scipy.linalg.sqrtm(c @ d))
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(c + d - 2 * root))


@pairs
def test_frechet_against_scipy(real: np.ndarray, fake: np.ndarray):
    rounding = 1e-6 * (np.trace(np.atleast_2d(np.cov(real.T))) + np.trace(np.atleast_2d(np.cov(fake.T))))
    expected = by_sqrtm(real, fake)
    assert float(frechet(jnp.asarray(real), jnp.asarray(fake))) == pytest.approx(expected, rel=1e-5, abs=rounding)


def test_frechet_where_covariances_are_singular():
    """Collapsed samples on a line: the library's square root of a singular product is where others fail."""
    real = points(400, 4)
    fake = points(400, 1) * np.array([[1.0, 0, 0, 0]], np.float32)
    expected = frechet(jnp.asarray(real), jnp.asarray(fake))
    s, c = np.cov(real.T), float(np.var(fake[:, 0], ddof=1))
    # 2 tr (S^½ c e1 e1ᵀ S^½)^½ = 2 sqrt(c S_11)
    by_hand = ((real.mean(0) - fake.mean(0)) ** 2).sum() + np.trace(s) + c - 2 * np.sqrt(c * s[0, 0])
    assert float(expected) == pytest.approx(by_hand, rel=1e-5)


def test_frechet_of_collapsed_and_of_constant_features():
    """All samples one point: tr C and the distance of means.  Features that are 0 everywhere change nothing."""
    real = points(300, 64)
    real[:, 20:] = 0
    one = np.repeat(points(1, 64), 300, axis=0)
    expected = ((real.mean(0) - one[0]) ** 2).sum() + np.trace(np.cov(real.T))
    assert float(frechet(jnp.asarray(real), jnp.asarray(one))) == pytest.approx(expected, rel=1e-5)
    assert float(frechet(jnp.asarray(real), jnp.asarray(real))) < 1e-6 * np.trace(np.cov(real.T))
    other = points(300, 64)
    other[:, 20:] = 0
    part = float(frechet(jnp.asarray(real[:, :20]), jnp.asarray(other[:, :20])))
    assert float(frechet(jnp.asarray(real), jnp.asarray(other))) == pytest.approx(part, rel=1e-4)


@pytest.mark.parametrize("n, d", [(40, 100), (60, 2048)])
def test_frechet_with_fewer_rows_than_dimensions(n: int, d: int):
    """tr(CD)^½ is then the sum of singular values of the rows' products, here in float64."""
    a, b = points(n, d), points(n, d, 0.5, 0.1)
    x, y = ((z - z.mean(0)) / np.sqrt(n - 1) for z in (a.astype(float), b.astype(float)))
    expected = ((a.mean(0, dtype=float) - b.mean(0, dtype=float)) ** 2).sum() + (x**2).sum() + (y**2).sum()
    expected -= 2 * np.linalg.svd(x @ y.T, compute_uv=False).sum()
    assert float(frechet(jnp.asarray(a), jnp.asarray(b))) == pytest.approx(expected, rel=1e-5)


def test_frechet_of_many_rows_far_from_zero():
    """50,000 rows in float32, at 1,000 times their spread, against float64 on the same numbers."""
    real, fake = points(50_000, 8, 1.0, 1000.0), points(50_000, 8, 0.9, 1000.02)
    expected = by_sqrtm(real, fake)
    assert float(frechet(jnp.asarray(real), jnp.asarray(fake))) == pytest.approx(expected, rel=1e-3)


def test_frechet_in_the_limit_is_the_closed_form_between_gaussians():
    """From samples of N(0, I) and N(0.1, 0.49 I) the limit has less than a fifth of the bias of the distance itself."""
    n, d = 200, 12
    expected = d * (0.1**2 + 0.3**2)

    def once(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        real, fake = jax.random.normal(key, (2, n, d))
        fake = 0.7 * fake + 0.1
        whole = frechet(real, fake)
        return whole, frechet_infinite(real, fake, whole)

    whole, limit = (np.asarray(a) for a in jax.jit(jax.vmap(once))(jax.random.split(jax.random.key(1), 250)))
    bias, error = limit.mean() - expected, limit.std() / np.sqrt(len(limit))
    assert abs(bias) + 5 * error < (whole.mean() - expected) / 5
    assert np.sqrt(((limit - expected) ** 2).mean()) < np.sqrt(((whole - expected) ** 2).mean())


def test_the_limit_is_where_the_line_through_parts_ends():
    n = 64
    a, b = points(n, 2), points(n, 2, 3.0, 5.0)
    found = frechet_infinite(jnp.asarray(a), jnp.asarray(b), jnp.float32(by_sqrtm(a, b)))
    a, b = (x[np.random.default_rng(i).permutation(n)] for i, x in enumerate((a, b)))
    parts = [list(zip(np.split(a, p), np.split(b, p), strict=True)) for p in (1, 2, 4)]
    values = [np.mean([by_sqrtm(x, y) for x, y in part]) for part in parts]
    assert float(found) == pytest.approx(np.polyfit([1 / n, 2 / n, 4 / n], values, 1)[1], rel=1e-4)


# Kernel and energy distances.


def kid_by_hand(a: np.ndarray, b: np.ndarray) -> float:
    n, d = a.shape
    xx, yy, xy = ((u.astype(float) @ v.astype(float).T / d + 1) ** 3 for u, v in ((a, a), (b, b), (a, b)))
    return float((xx.sum() - np.trace(xx) + yy.sum() - np.trace(yy)) / (n * (n - 1)) - 2 * xy.mean())


@pairs
def test_kid_against_numpy(real: np.ndarray, fake: np.ndarray):
    assert float(probe(Kid(), fake, real)["kid"]) == pytest.approx(kid_by_hand(real, fake), rel=1e-4, abs=1e-6)


def test_standard_error_against_its_definition():
    """The mean of h_ij h_kl over all distinct i, j, k, l, one by one."""
    n = 7
    a, b = points(n, 2), points(n, 2, 1.0, 1.5)
    u, v = jnp.asarray(a), jnp.asarray(b)
    h = cubic(u, u) + cubic(v, v) - cubic(u, v) - cubic(v, u)
    h = np.asarray(h, float)
    every = np.array(np.meshgrid(*[range(n)] * 4)).reshape(4, -1)
    every = every[:, [len(set(index)) == 4 for index in every.T]]
    i, j, k, m = every
    u = (h.sum() - np.trace(h)) / (n * (n - 1))
    expected = u**2 - (h[i, j] * h[k, m]).mean()
    assert expected > 0
    assert float(mmd(cubic, jnp.asarray(a), jnp.asarray(b))[1]) == pytest.approx(np.sqrt(expected), rel=1e-3)


def test_the_standard_error_is_never_below_the_second_order_term():
    """Half of it, Var h / n(n-1), is in every variance; the unbiased estimate may chance to lie below, even below 0."""
    n = 8
    a, b = CHANCE.normal(size=(2, 300, n, 3)).astype(np.float32)
    error = np.asarray(jax.jit(jax.vmap(lambda a, b: mmd(cubic, a, b)[1]))(a, b))  # [300]
    k = lambda x, y: (np.einsum("cid,cjd->cij", x, y, dtype=float) / 3 + 1) ** 3  # noqa: E731
    h = (k(a, a) + k(b, b) - k(a, b) - k(b, a)) * (1 - np.eye(n))  # [300, n, n]
    pairs = n * (n - 1)
    mean = h.sum((1, 2)) / pairs  # [300]
    scatter = (h**2).sum((1, 2)) - pairs * mean**2
    centred = ((h.sum(2) - (n - 1) * mean[:, None]) ** 2).sum(1)
    whole = (4 * centred - 2 * scatter) / (pairs * (n - 2) * (n - 3))
    low = whole < scatter / pairs**2
    assert 20 < low.sum() < 280  # so both sides of it are seen
    assert error[low] == pytest.approx(np.sqrt(scatter[low]) / pairs, rel=1e-3)
    assert error[~low] == pytest.approx(np.sqrt(whole[~low]), rel=1e-2)


LAWS: dict[str, Callable[[jax.Array], jax.Array]] = {"one law": lambda y: y, "two laws": lambda y: 0.6 * y}


@pytest.mark.quick("two laws")
@pytest.mark.parametrize("law", LAWS)
def test_kid_is_unbiased_and_its_error_is_its_spread(law: str):
    """Between N(0, I) and N(0, s² I) it is 3(1 - s²)²/d; the square of the stated error is the variance on average."""
    d, scale = 16, {"one law": 1.0, "two laws": 0.6}[law]

    def once(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        a, b = jax.random.normal(key, (2, 32, d))
        return mmd(cubic, a, LAWS[law](b))

    value, error = (np.asarray(a) for a in jax.jit(jax.vmap(once))(jax.random.split(jax.random.key(2), 3000)))
    assert_mean(value, 3 * (1 - scale**2) ** 2 / d)
    assert_mean((value - value.mean()) ** 2 - error**2, 0.0)
    assert np.sqrt((error**2).mean()) == pytest.approx(value.std(), rel=0.1)


@pairs
def test_energy_distance_against_pot(real: np.ndarray, fake: np.ndarray):
    fake = fake[: len(fake) - 20]  # sets of two sizes
    n, m = len(real), len(fake)

    def total(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.sum(ot.dist(a.astype(float), b.astype(float), metric="euclidean")))

    within = [total(a, a) for a in (real, fake)]
    expected = 2 * total(real, fake) / (n * m) - within[0] / (n * (n - 1)) - within[1] / (m * (m - 1))
    found = float(energy(jnp.asarray(real), jnp.asarray(fake)))
    assert found == pytest.approx(expected, rel=1e-5, abs=2e-5)
    if real.shape[1] == 1:  # scipy's is the square root of the biased one, in one dimension
        biased = scipy.stats.energy_distance(real[:, 0], fake[:, 0]) ** 2
        correction = within[0] / (n**2 * (n - 1)) + within[1] / (m**2 * (m - 1))
        assert found == pytest.approx(biased - correction, rel=1e-5, abs=2e-5)


def test_energy_distance_is_unbiased():
    """Zero on average between samples of one law, of unequal sizes."""

    def once(key: jax.Array) -> jax.Array:
        x = jax.random.normal(key, (50, 3))
        return energy(x[:20], x[20:])

    assert_mean(jax.jit(jax.vmap(once))(jax.random.split(jax.random.key(0), 2000)), 0.0)


@pytest.mark.quick("sizes1")
@pytest.mark.parametrize("sizes", [(60, 60), (60, 41)])
def test_tiles_change_nothing(sizes: tuple[int, int]):
    x, y = (jnp.asarray(points(n, 3, 1.0, 0.2 * n / 60)) for n in sizes)
    whole = mmd(cubic, x, y)
    for block in (60, 16, 7):
        found = mmd(cubic, x, y, block)
        assert np.allclose(found, whole, rtol=1e-5, equal_nan=True)
    assert np.isnan(whole[1]) == (sizes[0] != sizes[1])


def test_memory_does_not_grow_with_the_square_of_the_rows():
    """At 50,000 rows the table of distances would be 10 GB."""
    rows = jax.ShapeDtypeStruct((50_000, 64), jnp.float32)
    for what in (energy, lambda a, b: mmd(cubic, a, b)):
        memory = jax.jit(what).lower(rows, rows).compile().memory_analysis()
        assert memory is not None and memory.temp_size_in_bytes < 150e6


# Against libraries of torch.


def two_sets() -> tuple[np.ndarray, np.ndarray]:
    """(images uint8 [2, 120, 3, 6, 6], a matrix [108, 12] that makes features of their pixels)."""
    images = np.clip(127 + 60 * scattered(2, 120, 3, 6, 6), 0, 255).astype(np.uint8)
    images[1] //= 2
    return images, (0.1 * scattered(108, 12, seed=1)).astype(np.float32)


def torchmetrics_say() -> tuple[float, float]:
    """(Fréchet distance, kernel distance) of the two."""
    import torch
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance

    torch.set_num_threads(1)
    images, matrix = two_sets()

    class Features(torch.nn.Module):
        num_features = 12

        def forward(self, x: Any) -> Any:
            return x.reshape(x.shape[0], -1).float() / 255 @ torch.from_numpy(matrix)

    def metric(kind: Any, **options: Any) -> Any:
        found = kind(Features(), **options)
        found.update(torch.from_numpy(images[0]), real=True)
        found.update(torch.from_numpy(images[1]), real=False)
        return found.compute()

    kid, _ = metric(KernelInceptionDistance, subsets=1, subset_size=120)
    return float(metric(FrechetInceptionDistance)), float(kid)


def test_frechet_and_kid_are_what_torchmetrics_said():
    images, matrix = two_sets()
    real, fake = images.reshape(2, 120, -1).astype(np.float32) / 255 @ matrix
    found, expected = probe(Fidelity(), fake, real), reference("fidelity")
    assert float(found["frechet"]) == pytest.approx(expected["frechet"], rel=1e-3)
    assert float(found["kid"]) == pytest.approx(expected["kid"], rel=1e-3)


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
def test_torchmetrics_say_what_is_stored():
    expected = reference("fidelity")
    assert torchmetrics_say() == pytest.approx((expected["frechet"], expected["kid"]), rel=1e-4)


# What all of them must be.


def test_identical_disjoint_and_partial_sets():
    real = points(150, 5)
    same = probe(Fidelity(), real, real)
    assert float(same["frechet"]) == pytest.approx(0, abs=1e-5)
    assert float(same["precision"]) == float(same["recall"]) == float(same["coverage"]) == 1.0
    assert float(same["kid"]) < 0 and float(same["energy"]) < 0  # unlike two samples, copies are too close
    far = probe(Fidelity(), real + 100, real)
    assert [float(far[m]) for m in ("precision", "recall", "density", "coverage")] == [0, 0, 0, 0]
    assert float(far["frechet"]) == pytest.approx(5 * 100**2, rel=1e-4)
    assert float(far["kid"]) > 1e3 and float(far["energy"]) > 100
    many = points(2000, 2)
    half = many[many[:, 0] > 0.5]  # a sub-region: faithful, not diverse
    part = probe(Manifold(), half[:500], many[-500:])
    assert float(part["precision"]) > 0.85 and float(part["recall"]) < 0.85 and float(part["coverage"]) < 0.85


def test_order_of_rows_does_not_matter():
    """But to the error of kid and to the limit, whose pairs and parts are other ones then."""
    real, fake = PAIRS["narrow"]
    shuffled = fake[CHANCE.permutation(len(fake))]
    a, b = probe(Fidelity(), fake, real), probe(Fidelity(), shuffled, real)
    loose = {"kid_error": 0.05, "frechet_infinite": 0.05}
    assert all(float(a[m]) == pytest.approx(float(b[m]), rel=loose.get(m, 1e-4), abs=1e-5) for m in a)


def test_all_of_it_is_its_parts():
    real, fake = PAIRS["shifted"]
    found = probe(Fidelity(), fake, real)
    parts = probe(Manifold(), fake, real) | probe(Frechet(), fake, real) | probe(Kid(), fake, real)
    assert found.keys() == parts.keys() | {"energy"}
    assert all(float(found[m]) == pytest.approx(float(parts[m]), rel=1e-6) for m in parts)


def test_sets_are_cut_to_the_smaller():
    real, fake = points(150, 5), points(50, 5)
    a, b = probe(Kid(), fake, real), probe(Kid(), fake, real[:50])
    assert float(a["rows"]) == 50 and all(float(a[m]) == float(b[m]) for m in a)


def test_too_few_rows_are_nan_where_documented():
    four = {"precision", "recall", "density", "coverage"}
    gone = {
        1: {*four, "kid", "kid_error", "energy", "frechet_infinite"},
        3: {"kid_error", "frechet_infinite"},
        8: set(),
    }
    for n, missing in gone.items():
        found = probe(Fidelity(), points(n, 2), points(n, 2))
        assert {m for m in found if not np.isfinite(found[m])} == missing


@pytest.mark.parametrize("law", [np.zeros((50, 5), np.float32), np.ones((50, 5), np.float32)], ids=["0", "1"])
def test_a_collapse_to_one_row_is_measured(law: np.ndarray):
    found = probe(Fidelity(), law, points(50, 5))
    assert all(np.isfinite(value) for value in found.values()) and float(found["recall"]) == 0


def test_chains_side_by_side_equal_one_by_one_and_compiled_equals_eager():
    real, fakes = jnp.asarray(points(150, 5)), jnp.asarray(np.stack([points(150, 5), points(150, 5, 0.3, 1.0)]))
    together = jax.jit(jax.vmap(lambda fake: Fidelity()(jax.random.key(0), view_of(fake, real))))(fakes)
    eager = Fidelity()(jax.random.key(0), view_of(fakes[0], real))
    for i in range(2):
        alone = probe(Fidelity(), fakes[i], real)
        assert all(np.allclose(together[m][i], alone[m], rtol=1e-4, atol=1e-5) for m in together)
        assert i or all(np.allclose(eager[m], alone[m], rtol=1e-4, atol=1e-5) for m in alone)


def test_features_that_were_prepared_are_used():
    source, space = Truth(Gaussian(6)), Pca(dim=2, rows=100)
    learned = space.prepare(jax.random.key(0), source)
    real, fake = points(50, 6), points(50, 6, 0.5)
    found = probe(Frechet(space), fake, real, {space: learned})
    expected = probe(Frechet(), *(space(jnp.asarray(x), learned) for x in (fake, real)))
    assert all(float(found[m]) == pytest.approx(float(expected[m]), rel=1e-5, abs=1e-6) for m in found)


@pytest.mark.parametrize("by", [1e-6, 1e4])
def test_units(by: float):
    """What has the features' unit changes with it, whatever its size; shares do not change."""
    real, fake = PAIRS["shifted"]
    a, b = probe(Fidelity(), fake, real), probe(Fidelity(), fake * np.float32(by), real * np.float32(by))
    powers = {"frechet": 2, "frechet_infinite": 2, "energy": 1}
    for m in a.keys() - {"kid", "kid_error"}:
        assert float(b[m]) == pytest.approx(float(a[m]) * by ** powers.get(m, 0), rel=1e-3)


@pytest.mark.parametrize("kind", [Fidelity, Manifold])
def test_neighbours_are_at_least_one(kind: Any):
    with pytest.raises(GenlossError, match="at least 1"):
        kind(neighbours=0)
