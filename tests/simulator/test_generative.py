"""`Generative`: a generator trained on the diet covers what the diet covers, by weight."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from generators import KDE, VAE, Archive, Gaussian
from simulator import Chain, Dataset, GenlossError, Pool, Sweep, Truth, View, ensemble
from simulator.pool import take
from simulator.probes import Generative, Pca
from simulator.probes.fidelity import frechet
from simulator.probes.neighbours import manifold
from simulator.recipe.contamination import Contaminate

REAL = jax.random.normal(jax.random.key(0), (600, 2))
TEST = jax.random.normal(jax.random.key(1), (600, 2))


def measured(probe: Generative, rows: jax.Array, weight: Any, key: int = 2) -> dict[str, np.ndarray]:
    diet = Pool.of(rows).weighed(jnp.asarray(weight, jnp.float32))
    view = View(jnp.int32(0), None, diet, REAL[:10], TEST, Gaussian(2))
    return jax.tree.map(np.asarray, jax.jit(lambda key: probe(key, view))(jax.random.key(key)))


def test_it_covers_what_the_diet_covers():
    """Half of the plane left out: real rows there, a half of them, have no sample near."""
    probe = Generative(KDE(2, 0.05, size=600))
    whole, half = (measured(probe, REAL, weight) for weight in (jnp.ones(600), REAL[:, 0] > 0))
    error = (0.25 / 600) ** 0.5
    assert whole["recall"] > 0.85 and whole["coverage"] > 0.9
    below = float((TEST[:, 0] > 0).mean())  # of the reference
    assert abs(half["recall"] - whole["recall"] * below) < 5 * error
    assert abs(half["coverage"] - whole["coverage"] * below) < 5 * error
    assert half["precision"] > 0.9 and half["rows"] == 600
    # The mean of half a normal is sqrt(2/π), its variance 1 - 2/π.
    expected = 2 / np.pi + (1 - (1 - 2 / np.pi) ** 0.5) ** 2
    assert abs(half["frechet"] - expected) < 0.15 and whole["frechet"] < 0.03


def test_it_is_the_fit_the_samples_and_the_measures():
    model = Gaussian(2)
    found = measured(Generative(model, rows=400), REAL, jnp.ones(600))
    keys = jax.random.split(jax.random.key(2), 4)
    params, _ = model.fit(keys[1], model.init(keys[0]), Pool.of(REAL))
    said = model.sample(keys[2], params, 400)
    by_hand = manifold(TEST[:400], said, 5)
    assert all(np.isclose(found[name], by_hand[name], atol=1e-6) for name in by_hand)
    assert np.isclose(found["frechet"], frechet(TEST[:400], said), rtol=1e-3)


def test_weight_two_is_the_row_twice():
    weight = np.random.default_rng(0).integers(0, 3, 600)
    probe = Generative(Gaussian(2))
    weighed, twice = (
        measured(probe, REAL, weight),
        measured(probe, take(REAL, jnp.repeat(jnp.arange(600), weight)), 1.0),
    )
    assert all(np.isclose(weighed[name], twice[name], rtol=1e-3, atol=2e-3) for name in weighed)


@pytest.mark.slow
def test_a_generator_trained_on_a_contaminated_set_runs_in_chains():
    """The one-step setting: the archive learns nothing, the generator judged is trained on each diet."""
    digits = Dataset.digits()
    probe = Generative(VAE(steps=30, chunk=10, batch=32, hidden=(32,), latent=4), Pca(8))
    chain = Chain(
        source=digits,
        generator=Archive(digits),
        recipe=Contaminate(0.5),
        probes={"new": probe},
        real=100,
        rows=100,
        held_out=100,
    )
    sweep = Sweep(chain, "recipe.ratio", {"none": 0.0, "all": 1.0})
    record = ensemble(sweep.make, sweep.grid, jax.random.split(jax.random.key(0), 2), 2)
    for name in ("precision", "recall", "density", "coverage", "frechet"):
        values = np.asarray(record[f"new.{name}"])  # [ratios, keys, generations]
        assert values.shape == (2, 2, 2) and np.isfinite(values).all()
        assert np.array_equal(values[0, :, 0], values[1, :, 0])  # fit 0 eats real rows at any ratio
    assert not np.array_equal(record["new.frechet"][0, :, 1], record["new.frechet"][1, :, 1])


@pytest.mark.parametrize("fields", [{"rows": 1}, {"neighbours": 0}])
def test_bad_input_is_one_sentence(fields: dict[str, Any]):
    with pytest.raises(GenlossError, match="at least"):
        Generative(Gaussian(2), **fields)


def test_points_of_a_truth():
    chain = Chain(
        source=Truth(Gaussian(2)), generator=Gaussian(2), probes={"new": Generative(Gaussian(2))}, real=50, rows=50
    )
    state, record = jax.jit(chain.step)(jax.random.key(0), chain.init(jax.random.key(1), 1))
    assert int(state.t) == 1 and np.isfinite(record["new.frechet"])
