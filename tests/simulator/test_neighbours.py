"""Nearest neighbours and the measures made of them against scikit-learn and prdc, and against what they must be."""

import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from prdc import compute_prdc
from sklearn.neighbors import NearestNeighbors

from simulator import GenlossError
from simulator.numerics import watched
from simulator.probes.neighbours import manifold, nearest, radii, smallest

CHANCE = np.random.default_rng(0)


def points(n: int, d: int, scale: float = 1.0, shift: float = 0.0) -> np.ndarray:
    return (CHANCE.normal(size=(n, d)) * scale + shift).astype(np.float32)


def whole(found: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in found.items()}


PAIRS = {
    "same law": (points(300, 5), points(300, 5)),
    "narrow": (points(250, 8), points(203, 8, 0.4)),
    "shifted and many": (points(101, 3), points(700, 3, 1.0, 1.0)),
    "one dimension": (points(150, 1), points(97, 1, 0.5)),
    "far from the origin": (points(150, 4, 1.0, 500.0), points(170, 4, 0.7, 500.0)),
}


compiled = jax.jit(manifold, static_argnums=(2, 3))
near = jax.jit(nearest, static_argnums=2, static_argnames=("same", "block"))


CASES = [
    ("same law", 1, None), ("same law", 5, 64), ("narrow", 10, 37), ("shifted and many", 30, None),
    ("shifted and many", 4, 64), ("one dimension", 1, 37), ("far from the origin", 5, None),
]  # fmt: skip


@pytest.mark.quick("same law-5-64", "narrow-10-37", "one dimension-1-37", "far from the origin-5-None")
@pytest.mark.parametrize("pair, k, block", CASES)
def test_manifold_against_prdc(pair: str, k: int, block: int | None):
    """Equal, that is by whole counts, for unequal sets and blocks that do not divide them."""
    real, fake = PAIRS[pair]
    expected = compute_prdc(real.astype(np.float64), fake.astype(np.float64), k)
    assert whole(compiled(real, fake, k, block)) == pytest.approx(whole(expected), abs=1e-6)


def test_manifold_of_rows_on_a_grid_against_prdc():
    """Ties and copies everywhere: an open ball leaves out what lies on its surface, whatever the rounding."""
    real = CHANCE.integers(0, 6, (200, 3)).astype(np.float32)
    fake = CHANCE.integers(1, 7, (150, 3)).astype(np.float32)
    for k in (1, 4):
        assert whole(compiled(real, fake, k)) == pytest.approx(whole(compute_prdc(real, fake, k)), abs=1e-6)


def test_identical_sets_fill_each_other():
    """Every row is in its own ball and in those of the k that it is among the nearest of, k on average."""
    x = jnp.asarray(points(200, 4))
    assert whole(compiled(x, x, 5)) == pytest.approx({"precision": 1, "recall": 1, "density": 1, "coverage": 1})


def test_disjoint_sets_do_not_meet():
    x = jnp.asarray(points(200, 4))
    assert whole(compiled(x, x + 100, 5)) == {"precision": 0, "recall": 0, "density": 0, "coverage": 0}


def test_a_known_part_of_two_regions():
    """Two clusters far apart, of which samples know one: faithful throughout, half of the real rows missed."""
    near, far = points(100, 4), points(100, 4, 1.0, 15.0)
    real, fake = np.concatenate([near, far]), points(200, 4)
    found, alone = whole(compiled(real, fake, 5)), whole(compute_prdc(near, fake, 5))
    assert found["precision"] == pytest.approx(alone["precision"]) and found["precision"] > 0.8
    assert found["recall"] == pytest.approx(alone["recall"] / 2) and found["recall"] > 0.4
    assert found["coverage"] == pytest.approx(alone["coverage"] / 2) and found["coverage"] > 0.4
    assert found["density"] == pytest.approx(alone["density"])


def test_order_of_rows_does_not_matter():
    real, fake = points(200, 4), points(200, 4, 0.6)
    a, b = (x[CHANCE.permutation(200)] for x in (real, fake))
    assert whole(compiled(a, b, 5)) == whole(compiled(real, fake, 5))


def test_blocks_traces_and_chains_do_not_matter():
    """Host blocks, scanned blocks and one block are equal, and so are chains side by side and one by one."""
    real, fake = jnp.asarray(points(90, 4)), jnp.asarray(points(3 * 70, 4)).reshape(3, 70, 4)

    def both(a: jax.Array, b: jax.Array, block: int | None = None) -> tuple[Any, Any]:
        return manifold(a, b, 3, block), nearest(a, b, 3, block=block)

    traced = jax.jit(both, static_argnums=2)
    chains = jax.jit(jax.vmap(lambda b: both(real, b, 32)))(fake)
    for i in range(3):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], chains)
        others = [traced(real, fake[i], 32)]
        if i == 0:
            others += [both(real, fake[0], 32), traced(real, fake[0])]
        for other in others:
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), one, other)


@pytest.mark.parametrize(
    "n, m, d, k, block", [(53, 1000, 6, 1, None), (53, 1000, 6, 6, 20), (130, 70, 2, 20, 32), (100, 333, 40, 20, None)]
)
def test_nearest_against_scikit_learn(n: int, m: int, d: int, k: int, block: int | None):
    a, b = points(n, d, 1.0, 10.0), points(m, d, 2.0, 10.0)
    distance, index = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(b.astype(float)).kneighbors(a)
    squared, found = near(jnp.asarray(a), jnp.asarray(b), k, block=block)
    assert np.array_equal(found, index)
    np.testing.assert_allclose(np.sqrt(squared), distance, rtol=1e-5)


@pytest.mark.parametrize("n, block", [(300, 64)])
def test_a_row_is_not_its_own_neighbour(n: int, block: int | None):
    x = points(n, 5)
    distance, index = NearestNeighbors(n_neighbors=4).fit(x).kneighbors()  # without rows: of each among the others
    squared, found = near(jnp.asarray(x), jnp.asarray(x), 4, same=True, block=block)
    assert np.array_equal(found, index)
    np.testing.assert_allclose(np.sqrt(squared), distance, rtol=1e-5)
    np.testing.assert_allclose(radii(jnp.asarray(x), 4, block), squared[:, -1], rtol=1e-6)


def test_rows_that_are_not_there_are_not_found():
    a, b, there = points(40, 3), points(600, 3), CHANCE.random(600) < 0.1
    _, found = near(jnp.asarray(a), jnp.asarray(b), 5, jnp.asarray(there))
    index = NearestNeighbors(n_neighbors=5, algorithm="brute").fit(b[there]).kneighbors(a, return_distance=False)
    assert np.array_equal(found, np.flatnonzero(there)[index])
    few = near(jnp.asarray(a), jnp.asarray(b), 5, jnp.arange(600) % 200 == 7)[0]  # three of them
    assert np.isfinite(few[:, :3]).all() and np.isinf(few[:, 3:]).all()


def test_copies_are_at_distance_nothing():
    """Also far from the origin, where ‖a‖² + ‖b‖² - 2ab is noise."""
    x = points(300, 20, 1.0, 1000.0)
    a = x[CHANCE.integers(300, size=50)]
    assert (near(jnp.asarray(a), jnp.asarray(x), 1)[0] == 0).all()
    twice = np.concatenate([x, x])
    squared, found = near(jnp.asarray(twice), jnp.asarray(twice), 1, same=True)
    assert (squared == 0).all() and np.array_equal(found[:, 0], (np.arange(600) + 300) % 600)
    assert (near(jnp.asarray(twice), jnp.asarray(twice), 2, same=True)[0][:, 1] > 0.1).all()


def test_small_distances_between_far_clusters():
    """The noise of the matmul stays below the distances for clusters 500 times their size apart."""
    centres = points(10, 8, 5.0)
    x = (centres[CHANCE.integers(10, size=400)] + points(400, 8, 0.02)).astype(np.float32)
    distance, _ = NearestNeighbors(n_neighbors=3).fit(x.astype(float)).kneighbors()
    np.testing.assert_allclose(np.sqrt(near(jnp.asarray(x), jnp.asarray(x), 3, same=True)[0]), distance, rtol=1e-4)


@pytest.mark.parametrize("m, groups, k", [(640, 64, 7), (96, 96, 3), (800, 40, 30), (120, 24, 20)])
def test_the_smallest_against_sorting(m: int, groups: int, k: int):
    x = CHANCE.integers(0, 50, (30, m)).astype(np.float32)  # with ties
    found, place = smallest(jnp.asarray(x), k, groups)
    assert np.array_equal(found, np.sort(x, 1)[:, :k])
    assert np.array_equal(np.take_along_axis(x, np.asarray(place), 1), found)
    assert all(len(set(row)) == k for row in np.asarray(place).tolist())


def test_a_bar_is_shown_where_it_takes_long(monkeypatch: pytest.MonkeyPatch):
    from rich.progress import Progress

    shown, clock = [], iter(range(10_000))
    monkeypatch.setattr(Progress, "start", lambda self: shown.append([task.total for task in self.tasks]))
    x = jnp.asarray(points(64, 2))
    radii(x, 1, block=16)
    assert not shown
    monkeypatch.setattr(watched.time, "monotonic", lambda: float(next(clock)))
    radii(x, 1, block=16)
    assert shown and shown[0] == [4]


def test_what_cannot_be_found_is_refused():
    x = jnp.asarray(points(5, 2))
    for refused in (lambda: nearest(x, x, 0), lambda: nearest(x, x, 5, same=True), lambda: manifold(x, x[:3], 3)):
        with pytest.raises(GenlossError, match="k="):
            refused()


LARGE = """
import resource, time
import jax, jax.numpy as jnp
from simulator.probes.neighbours import manifold

a, b = jax.random.normal(jax.random.key(0), (2, 50_000, 64))
started = time.perf_counter()
found = {name: float(value) for name, value in manifold(a, b, 5).items()}
assert 0 < found["density"] < 2 and found["recall"] > 0, found
print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


@pytest.mark.slow
def test_fifty_thousand_rows_in_two_gigabytes():
    """The whole process, JAX included."""
    said = subprocess.run([sys.executable, "-c", LARGE], check=True, capture_output=True, text=True).stdout.split()
    assert float(said[-1]) < 2.0
