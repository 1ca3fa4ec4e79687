"""Measures of points against POT and scipy, closed forms, and what they must be."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import ot
import pytest
import scipy.stats
from conftest import assert_mean

from generators import Gaussian, Mixture
from generators.gaussian import GaussianParams
from generators.mixture import grid_modes
from simulator import Chain, GenlossError, Pool, Truth, View, run, simulate
from simulator.probes.points import (
    Centres,
    ExactWasserstein,
    Likelihood,
    Points,
    TrueLikelihood,
    ascending,
    directions,
    matched,
    quantile_cost,
    sliced,
)

CHANCE = np.random.default_rng(0)
GRID = Truth(Mixture(2, 25), grid_modes(5))


def points(n: int, d: int, scale: float = 1.0, shift: float = 0.0) -> np.ndarray:
    return (CHANCE.normal(size=(n, d)) * scale + shift).astype(np.float32)


@partial(jax.jit, static_argnums=(0, 1))
def _measured(what: Any, generator: Any, synthetic: Any, reference: Any, params: Any, prepared: Any, seed: int) -> Any:
    view = View(jnp.int32(0), params, Pool.of(synthetic), synthetic, reference, generator, None, {what: prepared})
    return what(jax.random.key(seed), view)


def probe(
    what: Any, synthetic: Any, reference: Any, params: Any = None, generator: Any = None, prepared: Any = None
) -> dict[str, float]:
    found = _measured(what, generator, synthetic, reference, params, prepared, 0)
    return {name: float(value) for name, value in found.items()}


PAIRS = {
    "same law": (points(120, 3), points(120, 3)),
    "fewer samples": (points(120, 3), points(77, 3, 0.4, 1.0)),
    "one dimension": (points(60, 1), points(90, 1, 0.5)),
}


_sliced = jax.jit(sliced, static_argnums=3)


@pytest.mark.parametrize("order", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("a, b", PAIRS.values(), ids=PAIRS)
def test_sliced_wasserstein_against_pot(a: np.ndarray, b: np.ndarray, order: float):
    theta = directions(jax.random.key(0), 40, a.shape[1])  # [40, d]
    expected = ot.sliced_wasserstein_distance(
        a.astype(float),
        b.astype(float),
        projections=np.asarray(theta, float).T,
        p=order,  # pyright: ignore[reportArgumentType]
    )
    assert float(_sliced(a, b, theta, order)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("n, m", [(50, 50), (50, 100), (51, 34), (7, 1), (1, 1)])
def test_one_direction_against_scipy(n: int, m: int):
    a, b = points(n, 1)[:, 0], points(m, 1, 2.0, 0.3)[:, 0]
    expected = scipy.stats.wasserstein_distance(a, b)
    assert float(quantile_cost(jnp.asarray(a), jnp.asarray(b), 1.0)) == pytest.approx(expected, rel=1e-5)


def test_sorted_as_integers_is_sorted():
    x = np.concatenate([points(500, 1, 100.0)[:, 0], [0.0, -0.0, np.inf, -np.inf, 1e-40, -1e-40]]).astype(np.float32)
    assert np.array_equal(ascending(jnp.asarray(x)), np.sort(x))


@pytest.mark.parametrize("order", [1.0, 2.0])
def test_exact_wasserstein_against_pot(order: float):
    a, b = PAIRS["same law"][0], points(120, 3, 0.5, 1.0)
    cost = ot.dist(a.astype(float), b.astype(float), metric="euclidean") ** order
    expected = float(ot.emd2([], [], cost)) ** (1 / order)  # pyright: ignore[reportArgumentType]
    found = probe(ExactWasserstein(order=order), b, a)
    assert found["distance"] == pytest.approx(expected, rel=1e-6) and found["rows"] == 120
    first = probe(ExactWasserstein(rows=30), b, a)
    assert first["rows"] == 30 and first["distance"] == pytest.approx(
        float(matched(jnp.asarray(b[:30]), jnp.asarray(a[:30]))), rel=1e-6
    )


def test_both_converge_to_the_distance_between_gaussians():
    """N(0, I) and N(μ, σ² I): W2² = ‖μ‖² + d(1-σ)², and (‖μ‖² + d(1-σ)²)/d on average over directions."""
    d, sigma, shift = 3, 0.5, 2.0
    squared = d * shift**2 + d * (1 - sigma) ** 2
    a, b = points(4000, d), points(4000, d, sigma, shift)
    theta = directions(jax.random.key(1), 500, d)
    # of these directions: (θ·μ)² + (1-σ)²
    expected = float((np.asarray(theta @ np.full(d, shift)) ** 2 + (1 - sigma) ** 2).mean()) ** 0.5
    assert float(_sliced(a, b, theta, 2.0)) == pytest.approx(expected, rel=0.02)
    assert expected**2 == pytest.approx(squared / d, rel=0.1)
    moved = probe(ExactWasserstein(rows=500), a[:500] * sigma + shift, a[:500])["distance"]
    gradient = ((a[:500] * (1 - sigma) - shift) ** 2).sum(1).mean() ** 0.5  # the map is a gradient, so it is the best
    assert moved == pytest.approx(gradient, rel=1e-5)
    assert moved == pytest.approx(squared**0.5, rel=0.05)


def test_directions_are_uniform():
    theta = np.asarray(directions(jax.random.key(0), 20_000, 3))
    assert np.allclose((theta**2).sum(1), 1, atol=1e-5)
    assert_mean(theta, np.zeros(3))
    assert_mean(theta[:, :, None] * theta[:, None], np.eye(3) / 3)


@pytest.mark.parametrize("what", [Points(projections=20), ExactWasserstein(rows=120)], ids=["points", "exact"])
def test_identical_shifted_and_shuffled_sets(what: Any):
    real, fake = points(120, 4), points(120, 4, 0.5)
    names = {"energy", "sliced", "distance"}
    for name in names & probe(what, real, real).keys():
        # Without its diagonal, the energy of a set with itself is below 0: -2·(mean distance)/n or so.
        assert abs(probe(what, real, real)[name]) < (0.1 if name == "energy" else 1e-5)
        far = probe(what, real + 100, real)[name]
        assert far > (90 if name != "sliced" else 40)  # ‖shift‖ = 200, half of it along a direction
        shuffled = float(probe(what, fake[CHANCE.permutation(120)], real)[name])
        assert shuffled == pytest.approx(probe(what, fake, real)[name], rel=1e-4)


def test_a_region_of_the_real_rows_is_nearer_than_none_and_farther_than_all():
    real, more = points(120, 3), points(120, 3)
    part = more[more[:, 0] > 0]
    for what, name in ((Points(), "energy"), (Points(), "sliced")):
        whole, half, far = (probe(what, rows, real)[name] for rows in (more, part, more + 5))
        assert whole < half < far
    said = probe(Points(), part, real)
    assert (said["rows"], said["reference_rows"]) == (len(part), 120)


def test_the_likelihood_of_held_out_rows_against_scipy():
    model, mean, cov = Gaussian(2), np.array([0.5, -1.0]), np.array([[2.0, 0.3], [0.3, 0.5]])
    fitted = GaussianParams(jnp.asarray(mean, jnp.float32), jnp.asarray(cov, jnp.float32))
    real = points(40, 2)
    expected = scipy.stats.multivariate_normal(mean, cov).logpdf(real)  # pyright: ignore[reportArgumentType]
    found = probe(Likelihood(), real, real, fitted, model)
    assert found["mean"] == pytest.approx(expected.mean(), rel=1e-4) == pytest.approx(found["finite"])
    assert found["possible"] == 1.0 and found["rows"] == 40


class Halves:
    """A model that gives points left of 0 no probability."""

    def log_prob(self, params: Any, rows: jax.Array) -> jax.Array:
        return jnp.where(rows[:, 0] > 0, -rows[:, 0], -jnp.inf)


def test_rows_that_are_impossible_are_counted():
    real = points(200, 2)
    right = real[:, 0] > 0
    found = probe(Likelihood(), real, real, None, Halves())
    assert found["mean"] == -np.inf and found["possible"] == pytest.approx(right.mean())
    assert found["finite"] == pytest.approx(-real[right, 0].mean(), rel=1e-5)
    assert np.isnan(float(probe(Likelihood(), real, real[~right], None, Halves())["finite"]))


def gaussian(mean: float, variance: float) -> GaussianParams:
    """N(mean, variance) in 2 dimensions."""
    return GaussianParams(jnp.full(2, mean), variance * jnp.eye(2))


def test_the_truth_says_how_far_the_model_is():
    """Divergences between N(0, I) and N(m, v I), estimated from 4,000 samples, against their closed forms."""
    model, what, n = Gaussian(2), TrueLikelihood(Gaussian(2)), 4000
    params = gaussian(0.5, 0.64)
    prepared = {what: what.prepare(jax.random.key(0), Truth(Gaussian(2)))}

    def once(key: jax.Array) -> Any:
        for_real, for_fake = jax.random.split(key)
        real, fake = Truth(model).draw(for_real, n), model.sample(for_fake, params, n)
        return what(key, View(jnp.int32(0), params, Pool.of(fake), fake, real, model, None, prepared))

    found = jax.jit(jax.vmap(once))(jax.random.split(jax.random.key(3), 20))
    d, v, square = 2, 0.64, 2 * 0.25
    assert_mean(found["samples"], -d / 2 * np.log(2 * np.pi) - (d * v + square) / 2)
    assert_mean(found["excess"], (d * v + square - d) / 2)
    assert_mean(found["reverse"], (d * v + square - d - d * np.log(v)) / 2)
    assert_mean(found["forward"], (d / v + square / v - d + d * np.log(v)) / 2)


def modes(rows: Any, source: Truth = GRID, radius: float = 3.0) -> dict[str, float]:
    return probe(Centres(radius), rows, rows, prepared=Centres(radius).prepare(jax.random.key(0), source))


def test_modes_of_the_truth_itself():
    """Within three standard deviations in two dimensions: 1 - exp(-9/2) of the rows."""
    found = [modes(GRID.draw(jax.random.key(i), 2000)) for i in range(10)]
    assert all(f["covered"] == 1 and f["rows"] == 2000 for f in found)
    assert_mean([f["quality"] for f in found], 1 - np.exp(-4.5))
    # plug-in entropy of 25 equal shares: log k - (k-1)/(2n) to first order
    assert_mean([f["entropy"] for f in found], np.log(25) - 24 / 4000)


def test_modes_that_are_lost_and_rows_between_modes():
    means = np.asarray(GRID.params.means)
    some = means[:10].repeat(7, 0)
    assert modes(some) == pytest.approx({"covered": 0.4, "quality": 1.0, "entropy": np.log(10), "rows": 70})
    between = np.concatenate([some, means[20:] + np.array([1.0, 0.0], np.float32)])  # 5 rows, each far from its mode
    found = modes(between)
    assert found["covered"] == pytest.approx(0.4) and found["quality"] == pytest.approx(70 / 75)


def test_modes_are_measured_in_their_own_standard_deviations():
    cov = np.array([[[4.0, 0.0], [0.0, 0.01]], [[1.0, 0.0], [0.0, 1.0]]], np.float32)
    truth = Truth(
        Mixture(2, 2),
        grid_modes(1)._replace(
            weights=np.full(2, 0.5), means=np.array([[0.0, 0.0], [20.0, 0.0]], np.float32), covs=cov
        ),
    )
    assert modes(np.array([[5.0, 0.0]], np.float32), truth)["quality"] == 1.0  # 2.5 of 2
    assert modes(np.array([[0.0, 0.5]], np.float32), truth)["quality"] == 0.0  # 5 of 0.1
    assert modes(np.array([[0.0, 0.5]], np.float32), truth, radius=6.0)["quality"] == 1.0


PROBES = {
    "points": Points(projections=10),
    "exact": ExactWasserstein(rows=40),
    "likelihood": Likelihood(),
    "true": TrueLikelihood(Mixture(2, 25)),
    "modes": Centres(),
}


def test_all_run_in_chains():
    chain = Chain(source=GRID, generator=Gaussian(2), probes=PROBES, real=60, rows=50, held_out=40)
    found = jax.jit(jax.vmap(lambda key: simulate(chain, key, 2)))(jax.random.split(jax.random.key(0), 3))
    assert all(np.isfinite(value).all() for value in found.flat().values())
    assert (found["exact.rows"] == 40).all() and (found["points.rows"] == 50).all()
    assert (found["modes.quality"] < 0.2).all() and (found["true.forward"] > 1).all()  # a Gaussian is no grid of modes


@pytest.mark.parametrize("what", [Points(projections=20), ExactWasserstein(rows=120)], ids=["points", "exact"])
def test_sets_together_are_as_each_alone(what: Any):
    real, sets = points(120, 4), np.stack([points(120, 4, 0.5), points(120, 4, 1.0, 1.0)])
    together = jax.jit(jax.vmap(lambda rows: _measured(what, None, rows, real, None, None, 0)))(sets)
    for i, rows in enumerate(sets):
        alone = probe(what, rows, real)
        assert alone == pytest.approx({name: float(value[i]) for name, value in together.items()}, rel=1e-4)


@pytest.mark.parametrize("what", [Points(projections=20), ExactWasserstein(rows=120)], ids=["points", "exact"])
def test_compiled_is_as_eager(what: Any):
    real, fake = points(120, 4), points(120, 4, 0.5)
    with jax.disable_jit():
        eager = what(jax.random.key(0), View(jnp.int32(0), None, None, jnp.asarray(fake), jnp.asarray(real), None))  # pyright: ignore[reportArgumentType]
    compiled = probe(what, fake, real)
    assert all(compiled[name] == pytest.approx(float(eager[name]), rel=1e-4, abs=1e-5) for name in compiled)


def test_a_run_stores_what_they_learned(tmp_path: Any):
    probes = {"modes": PROBES["modes"], "true": PROBES["true"]}
    chain = Chain(source=GRID, generator=Gaussian(2), probes=probes, real=60, rows=50, held_out=40)
    record = run(chain, jax.random.key(0), 1, store=tmp_path / "run")
    assert (tmp_path / "run" / "prepared.npz").exists()
    again = run(chain, jax.random.key(0), 2, store=tmp_path / "run")
    assert float(again["modes.quality"][0]) == float(record["modes.quality"][0])


@pytest.mark.parametrize(
    "build",
    [
        partial(Points, projections=0),
        partial(Points, order=0.5),
        partial(ExactWasserstein, rows=0),
        partial(ExactWasserstein, order=0.0),
        partial(Centres, radius=0.0),
        lambda: Centres().prepare(jax.random.key(0), Truth(Gaussian(2))),
        lambda: TrueLikelihood(Gaussian(2)).prepare(jax.random.key(0), GRID),
        lambda: TrueLikelihood(object()),  # pyright: ignore[reportArgumentType]
        lambda: probe(Likelihood(), points(5, 2), points(5, 2), None, object()),
    ],
)
def test_bad_values_get_one_sentence(build: Any):
    with pytest.raises(GenlossError) as error:
        build()
    assert str(error.value).endswith(".") and "\n" not in str(error.value)
