"""A verifier with stated rates: what it keeps, what a classifier learns of that, and from which rates on it pays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simulator import GenlossError, Pool, theory
from simulator.numerics.chance import normal
from simulator.recipe import Verify

N, DIM, MARGIN, WRONG = 250, 80, 1.3, 0.3
KEYS = jax.random.split(jax.random.key(0), 250)


def right(rows: dict[str, jax.Array]) -> jax.Array:
    return (rows["label"] == rows["truth"]).astype(jnp.float32)


def labelled(key: jax.Array, wrong: jax.Array | float) -> Pool:
    """Rows of two Gaussians at ±μ, written by a model whose labels are wrong in some."""
    for_y, for_z, for_label = jax.random.split(key, 3)
    y = jnp.where(jax.random.uniform(for_y, (N,)) < 0.5, -1, 1)
    x = normal(for_z, (N, DIM)).at[:, 0].add(MARGIN * y)
    label = jnp.where(jax.random.uniform(for_label, (N,)) < wrong, -y, y)
    return Pool.of({"x": x, "label": label, "truth": y}).replace(origin=jnp.ones(N, jnp.int32))


@jax.jit
def _errors(wrong: jax.Array, tpr: jax.Array, fpr: jax.Array) -> jax.Array:
    def one(key: jax.Array) -> jax.Array:
        for_rows, for_recipe = jax.random.split(key)
        pool = labelled(for_rows, wrong)
        weight = Verify(right, 0.5, tpr=tpr, fpr=fpr)(for_recipe, jnp.int32(1), pool)
        w = (weight * pool.rows["label"]) @ pool.rows["x"]  # [DIM]
        return jax.scipy.stats.norm.cdf(-MARGIN * w[0] / jnp.linalg.norm(w))

    return jax.vmap(one)(KEYS)


def errors(wrong: float, tpr: float, fpr: float) -> np.ndarray:
    """The error on right labels of classifiers that learn from verified rows, [keys]."""
    return np.asarray(_errors(*map(jnp.float32, (wrong, tpr, fpr))))


def test_a_verifier_keeps_good_and_bad_rows_at_its_rates_and_all_real_ones():
    pool = labelled(jax.random.key(1), WRONG)
    real = jnp.arange(N) < 50
    pool = pool.replace(origin=jnp.where(real, 0, 1))
    weigh = jax.vmap(lambda key: Verify(right, 0.5, tpr=0.8, fpr=0.25)(key, jnp.int32(1), pool))
    kept = np.asarray(weigh(KEYS))[:, 50:]  # [keys, synthetic]
    good = np.asarray(right(pool.rows))[50:] == 1
    for rows, rate in ((kept[:, good], 0.8), (kept[:, ~good], 0.25)):
        assert abs(rows.mean() - rate) < 5 * np.sqrt(rate * (1 - rate) / rows.size)
    assert np.asarray(weigh(KEYS))[:, :50].all()


def test_one_that_never_errs_is_the_threshold():
    pool = labelled(jax.random.key(1), WRONG)
    assert np.array_equal(Verify(right, 0.5)(KEYS[0], jnp.int32(1), pool), right(pool.rows))


@pytest.mark.parametrize("tpr, fpr", [(1.0, 1.0), (0.9, 0.2), (0.6, 0.6), (0.2, 0.8)])
def test_the_error_after_verification_is_the_law(tpr: float, fpr: float):
    found = errors(WRONG, tpr, fpr)
    law = theory.verified_error(N, DIM, MARGIN, WRONG, tpr, fpr)
    assert abs(found.mean() - law) < 4 * found.std() / np.sqrt(len(found))


def test_from_the_break_down_on_it_learns_the_opposite():
    tpr, fpr = 0.3, 0.6
    edge = theory.verification_breakdown(tpr, fpr)
    assert edge == pytest.approx(1 / 3)
    assert errors(edge - 0.15, tpr, fpr).mean() < 0.45 < 0.55 < errors(edge + 0.15, tpr, fpr).mean()
    assert theory.verified_error(N, DIM, MARGIN, edge, tpr, fpr) == pytest.approx(0.5, abs=1e-6)


def test_checking_pays_below_the_limit_and_not_above():
    tpr = 0.7
    limit = theory.verifier_limit(WRONG, tpr)
    assert 0.2 < limit < 0.6
    assert theory.verified_rows(WRONG, tpr, limit) == pytest.approx(theory.verified_rows(WRONG))
    plain, below, above = (errors(WRONG, *rates) for rates in ((1.0, 1.0), (tpr, limit - 0.2), (tpr, limit + 0.2)))
    for gain in (plain - below, above - plain):  # paired: one key, the same rows
        assert gain.mean() > 4 * gain.std() / np.sqrt(len(gain))


def test_no_verifier_pays_that_drops_too_many_right_rows():
    least = (1 - 2 * WRONG) ** 2 / (1 - WRONG)
    assert theory.verifier_limit(WRONG, least) == pytest.approx(0, abs=1e-9)
    assert theory.verified_rows(WRONG, 0.9 * least, 0.0) < theory.verified_rows(WRONG)
    assert theory.verifier_limit(0.2, 1.0) == pytest.approx(1)
    with pytest.raises(GenlossError, match="between 0 and a half"):
        theory.verifier_limit(0.5, 0.9)
    with pytest.raises(GenlossError, match="lie in"):
        theory.verification_breakdown(1.2, 0.1)
