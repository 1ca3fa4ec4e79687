"""Memorisation and the entropy of the diet, against scikit-learn and closed forms, and against what they must be."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from conftest import assert_mean
from sklearn.neighbors import NearestNeighbors

from generators import Gaussian
from simulator import Chain, Dataset, GenlossError, Pool, Truth, View, ensemble
from simulator.pool import take
from simulator.probes.memorisation import DietEntropy, Memorisation, distinct, entropy
from simulator.recipe import Accumulate

CHANCE = np.random.default_rng(0)


def points(n: int, d: int, scale: float = 1.0) -> np.ndarray:
    return (CHANCE.normal(size=(n, d)) * scale).astype(np.float32)


def measured(probe: Any, synthetic: Any, reference: Any, diet: Pool, training: Any = None) -> dict[str, Any]:
    said, held_out, kept = (jax.tree.map(jnp.asarray, x) for x in (synthetic, reference, training))

    def one(diet: Pool, said: Any, held_out: Any, kept: Any) -> Any:
        return probe(
            jax.random.key(0), View(jnp.int32(0), None, diet, said, held_out, Gaussian(2), prepared={probe: kept})
        )

    found = jax.jit(one)(diet, said, held_out, kept)
    return jax.tree.map(float, found)


def pool(x: np.ndarray, weight: Any = None) -> Pool:
    diet = Pool.of(jnp.asarray(x))
    return diet if weight is None else diet.weighed(jnp.asarray(weight))


def test_memorisation_against_scikit_learn():
    """On digits in storage type, with rows of the diet that weigh nothing."""
    source = Dataset.digits()
    probe = Memorisation(quantile=0.1)
    kept = probe.prepare(jax.random.key(0), source)
    assert kept["image"].dtype == jnp.uint8 and len(kept["image"]) == source.size
    held_out = source.draw(jax.random.key(1), 359, held_out=True)
    said, other = take(held_out, jnp.arange(150)), take(held_out, jnp.arange(150, 359))
    diet = Pool.of(take(kept, jnp.arange(400))).weighed(jnp.asarray(CHANCE.random(400) < 0.5))
    found = measured(probe, said, other, diet, kept)

    def features(rows: Any) -> np.ndarray:
        return np.asarray(rows["image"]).reshape(len(rows["image"]), -1) / 255

    eaten = features(diet.rows)[np.asarray(diet.weight) > 0]
    for name, trained in (("diet", eaten), ("training", features(kept))):
        tree = NearestNeighbors(n_neighbors=1).fit(trained)
        mine, theirs = (tree.kneighbors(features(x))[0][:, 0] for x in (said, other))
        expected = {
            "generalisation": mine.mean(),
            "low": np.quantile(mine, 0.1),
            "ratio": mine.mean() / theirs.mean(),
            "near": (mine <= np.quantile(theirs, 0.1)).mean(),
            "rows": len(trained),
        }
        assert found[name] == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert (found["rows"], found["reference_rows"]) == (150, 209)
    assert found["training"]["ratio"] == pytest.approx(1, abs=0.1) and found["training"]["near"] < 0.25


def test_copies_and_what_is_near_them():
    """Copies are at 0; rows moved by a step shorter than half the way to others are a step away."""
    kept, real = points(300, 6), points(200, 6)
    probe = Memorisation()
    copies = measured(probe, kept[:100], real, pool(kept[:50]), kept)
    assert {name: copies["training"][name] for name in ("generalisation", "low", "ratio", "near")} == {
        "generalisation": 0, "low": 0, "ratio": 0, "near": 1,
    }  # fmt: skip
    assert copies["diet"]["generalisation"] > 0  # half of them are not in the diet
    step = points(300, 6)
    step *= 0.01 / np.linalg.norm(step, axis=1, keepdims=True)
    moved = measured(probe, kept + step, real, pool(kept), kept)
    assert moved["diet"] == pytest.approx(moved["training"])
    assert moved["diet"]["generalisation"] == pytest.approx(0.01, rel=1e-3)
    assert moved["diet"]["low"] == pytest.approx(0.01, rel=1e-3)


def test_held_out_rows_are_their_own_measure():
    kept, real = points(300, 4), points(400, 4)
    found = measured(Memorisation(), real, real, pool(kept), kept)["training"]
    assert found["ratio"] == pytest.approx(1) and found["near"] == pytest.approx(0.05)


def test_an_empty_diet_has_no_distance():
    kept = points(30, 2)
    found = measured(Memorisation(), kept, kept, pool(kept, np.zeros(30)), kept)
    assert all(np.isnan(found["diet"][name]) for name in ("generalisation", "low", "ratio", "near"))
    assert found["diet"]["rows"] == 0 and found["training"]["near"] == 1


def test_no_more_rows_of_the_diet_than_asked_for():
    kept = points(500, 3)
    weight = np.arange(500) % 5 == 0
    found = measured(Memorisation(rows=60), kept[weight], kept, pool(kept, weight), kept[:60])
    assert found["diet"]["rows"] == 60
    assert found["diet"]["near"] > 0.5  # those chosen are found again
    assert measured(DietEntropy(rows=60), kept, kept, pool(kept, weight))["rows"] == 60
    assert measured(DietEntropy(rows=200), kept, kept, pool(kept, weight))["rows"] == 100


@pytest.mark.parametrize("k", [1, 4])
def test_entropy_against_scikit_learn_and_scipy(k: int):
    x = points(203, 7)
    distance = NearestNeighbors(n_neighbors=k).fit(x).kneighbors()[0][:, -1]
    ball = 3.5 * np.log(np.pi) - scipy.special.gammaln(4.5)
    expected = 7 * np.log(distance).mean() + ball + scipy.special.digamma(203) - scipy.special.digamma(k)
    found = measured(DietEntropy(neighbours=k), x, x, pool(x))
    assert found == pytest.approx({"entropy": expected, "copies": 0, "rows": 203}, rel=1e-5)


LAWS = {
    "normal": (1, lambda key: 3 * jax.random.normal(key, (2000, 1)), scipy.stats.norm(scale=3).entropy()),
    "correlated": (
        3,
        lambda key: jax.random.normal(key, (2000, 2)) @ jnp.array([[2.0, 0.5], [0.0, 0.3]]),
        scipy.stats.multivariate_normal([0, 0], [[4.0, 1.0], [1.0, 0.34]]).entropy(),  # pyright: ignore
    ),
    "uniform": (2, lambda key: jax.random.uniform(key, (2000, 1), maxval=5.0), scipy.stats.uniform(scale=5).entropy()),
}


@pytest.mark.parametrize("law", LAWS)
def test_entropy_of_known_laws(law: str):
    k, draw, expected = LAWS[law]
    keys = jax.random.split(jax.random.key(0), 40)
    assert_mean(
        jax.jit(lambda keys: jax.lax.map(lambda key: entropy(draw(key), jnp.ones(2000), k), keys))(keys), expected
    )


def test_entropy_of_weighted_rows_is_that_of_the_law_they_stand_for():
    """Rows of a wide normal law, weighted to a narrow one by the ratio of densities."""
    keys = jax.random.split(jax.random.key(1), 100)

    def once(key: jax.Array) -> jax.Array:
        x = 1.5 * jax.random.normal(key, (600, 1))
        weight = jnp.exp(-(x[:, 0] ** 2) / 2 * (1 - 1 / 1.5**2))
        return entropy(x, weight, 3)

    assert_mean(jax.jit(jax.vmap(once))(keys), scipy.stats.norm().entropy())


def test_entropy_honours_weight():
    """Weight 2 is the row twice, weight 0 its absence, and only ratios of weights matter."""
    x, twice = points(150, 3), CHANCE.random(150) < 0.3
    k = DietEntropy(neighbours=2)
    copied = measured(k, x, x, pool(np.concatenate([x, x[twice]])))
    weighed = measured(k, x, x, pool(x, 1 + twice))
    assert copied["entropy"] == pytest.approx(weighed["entropy"], rel=1e-5)
    assert copied["copies"] == pytest.approx(twice.sum() / (150 + twice.sum())) and weighed["copies"] == 0
    padded = np.concatenate([x, points(50, 3), x[:10]])
    scaled = measured(k, x, x, pool(padded, np.concatenate([3 * (1.0 + twice), np.zeros(60)])))
    assert scaled["entropy"] == pytest.approx(weighed["entropy"], rel=1e-5) and scaled["rows"] == 150


def test_entropy_of_few_rows():
    """Copies do not make it infinite; where no row has enough others, it is not a number."""
    x = np.repeat(points(3, 2), 40, axis=0)
    assert np.isfinite(measured(DietEntropy(neighbours=2), x, x, pool(x))["entropy"])
    assert np.isnan(measured(DietEntropy(neighbours=3), x, x, pool(x))["entropy"])
    one = measured(DietEntropy(), x, x, pool(x[:1]))
    assert np.isnan(one["entropy"]) and one["rows"] == 1


def test_entropy_moves_with_scale_and_not_with_place():
    x = points(200, 5)
    found = [measured(DietEntropy(neighbours=3), y, y, pool(y))["entropy"] for y in (x, 2 * x + 7, x[::-1])]
    assert found[1] - found[0] == pytest.approx(5 * np.log(2), abs=1e-4)
    assert found[2] == pytest.approx(found[0], rel=1e-6)


def test_distinct_rows_against_numpy():
    """On rows of few bits too, such as those of bytes; 0 and -0 are one number."""
    x = np.concatenate([CHANCE.integers(0, 4, (3000, 4)).astype(np.float32), np.array([[-0.0] * 4, [0.0] * 4])])
    weight = CHANCE.random(3002).astype(np.float32)
    rows, first, group = np.unique(x, axis=0, return_index=True, return_inverse=True)
    merged = np.asarray(distinct(jnp.asarray(x), jnp.asarray(weight)))
    assert set(np.flatnonzero(merged)) == set(first)
    np.testing.assert_allclose(merged[first], np.bincount(group, weight, len(rows)), rtol=1e-5)
    bytes_ = CHANCE.integers(0, 2, (20_000, 64)).astype(np.float32)
    assert (np.asarray(distinct(jnp.asarray(bytes_), jnp.ones(20_000))) == 1).all()


@pytest.mark.slow
def test_in_chains():
    chain = Chain(
        source=Truth(Gaussian(2)),
        generator=Gaussian(2),
        recipe=Accumulate(),
        probes={"memorisation": Memorisation(rows=80), "entropy": DietEntropy(rows=90, neighbours=2)},
        real=50,
        rows=50,
        held_out=40,
    )
    assert chain.prepared[chain.probes["memorisation"]].shape == (80, 2)
    record = ensemble(lambda _: chain, jnp.zeros(1), jax.random.split(jax.random.key(0), 2), generations=3)
    assert (record["memorisation.diet.rows"] == np.array([50, 80, 80])).all()
    assert (record["entropy.rows"] == np.array([50, 90, 90])).all()
    assert np.isfinite(record["entropy.entropy"]).all() and (record["memorisation.diet.generalisation"] > 0).all()


def test_chains_side_by_side_are_as_one_by_one():
    real, said, weight = points(40, 3), points(3 * 40, 3).reshape(3, 40, 3), CHANCE.random((3, 40)) < 0.7

    def both(said: jax.Array, weight: jax.Array) -> Any:
        diet, probes = Pool.of(jnp.asarray(real)).weighed(weight), (Memorisation(), DietEntropy(neighbours=2))
        kept = {probe: jnp.asarray(real) for probe in probes}
        view = View(jnp.int32(0), None, diet, said, jnp.asarray(real[:20]), Gaussian(3), prepared=kept)
        return [probe(jax.random.key(0), view) for probe in probes]

    chains = jax.jit(jax.vmap(both))(said, weight)
    for i in range(3):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], chains)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), one, jax.jit(both)(said[i], weight[i]))


def test_what_cannot_be_measured_is_refused():
    for refused in (
        lambda: Memorisation(rows=0),
        lambda: Memorisation(quantile=1.0),
        lambda: DietEntropy(neighbours=0),
        lambda: DietEntropy(neighbours=5, rows=5),
    ):
        with pytest.raises(GenlossError):
            refused()
