"""Mitigations that are not told where rows come from: what they find, what they drop, what they keep."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from simulator import Dataset, GenlossError, Pool
from simulator.numerics.selection import choose
from simulator.probes.detection import radial
from simulator.probes.mauve import HashedNgrams
from simulator.probes.memorisation import entropy
from simulator.recipe.suspects import Detector, DropSuspects, FarthestPoints, ReweighSuspects
from simulator.sources.text import Text

CHANCE = np.random.default_rng(0)
REAL, BLURRED = 300, 200
KEY = jax.random.key(0)


def mixed() -> Pool:
    """Digits, some of them blurred a little and called synthetic, in random order."""
    rows = Dataset.digits().draw(KEY, REAL + BLURRED)
    image = np.asarray(rows["image"], np.float32)
    soft = (image + np.roll(image, 1, 1) + np.roll(image, 1, 2)) / 3
    origin = CHANCE.permutation(np.repeat([0, 1], [REAL, BLURRED]))
    rows["image"] = jnp.asarray(np.where(origin[:, None, None, None] == 1, soft, image).astype(np.uint8))
    return Pool.of(rows).replace(origin=jnp.asarray(origin))


def points(n: int, d: int = 3) -> Pool:
    return Pool.of(jnp.asarray(CHANCE.normal(size=(n, d)), jnp.float32))


def itself(rows: Any) -> jax.Array:
    return rows


def test_a_detector_learns_from_known_rows_what_is_blurred():
    pool = mixed()
    found = np.asarray(jax.jit(Detector(known=0.3))(KEY, pool))
    right = (found > 0.5) == np.asarray(pool.synthetic)
    assert right.mean() > 0.9
    assert abs(found.sum() - BLURRED) < 0.1 * BLURRED  # probabilities add up to how many there are


def test_a_detector_is_the_logistic_regression_of_the_known_rows_and_sees_no_other_origin():
    pool = mixed()
    detector = Detector(known=0.2, penalty=2.0)
    found = jax.jit(detector)(KEY, pool)
    known = np.asarray(choose(KEY, pool.weight, jnp.float32(0.2 * (REAL + BLURRED))))
    x = np.asarray(radial(pool.rows), np.float64)
    x = (x - x[known].mean(0)) / x[known].std(0)
    # Its penalty is on one difference of coefficients c, and ours on both halves ±c/2: 2·2·(c/2)²/2 = 1·c²/2.
    reference = LogisticRegression(C=1.0, tol=1e-8, max_iter=1000).fit(x[known], np.asarray(pool.origin)[known])
    assert known.sum() == 100 and np.allclose(found, reference.predict_proba(x)[:, 1], atol=2e-3)
    other = pool.replace(origin=jnp.where(known, pool.origin, 1 - pool.origin))
    assert np.array_equal(jax.jit(detector)(KEY, other), found)


def test_nothing_is_suspected_where_only_one_kind_is_known():
    rows = Pool.of(Dataset.digits().draw(KEY, 100))
    assert (Detector(known=0.5)(KEY, rows) == 0).all()
    assert (Detector(known=0.0)(KEY, mixed()) == 0).all()


def test_suspects_are_dropped_whoever_wrote_them():
    pool = points(50).replace(origin=jnp.arange(50) % 2)
    score = lambda rows: rows[:, 0]  # noqa: E731
    weight = np.asarray(DropSuspects(score, 0.3)(KEY, jnp.int32(1), pool))
    assert np.array_equal(weight == 0, np.asarray(pool.rows[:, 0]) > 0.3)
    assert 0 < weight[np.asarray(pool.real)].sum() < 25 and 0 < weight[np.asarray(pool.synthetic)].sum() < 25


def test_suspects_weigh_what_they_are_likely_to_be():
    pool = mixed()
    pool = pool.weighed(jnp.where(pool.rows["label"] == 3, 0.0, 2.0))
    probability = Detector(known=0.3)(KEY, pool)
    weight = ReweighSuspects(Detector(known=0.3))(KEY, jnp.int32(1), pool)
    assert np.allclose(weight, pool.weight * (1 - probability))
    share = float((weight * pool.synthetic).sum() / weight.sum())
    assert share < 0.1 < BLURRED / (REAL + BLURRED)
    known = ReweighSuspects(lambda rows: jnp.where(rows["label"] < 5, 1.0, 0.25))(KEY, jnp.int32(1), pool)
    assert np.allclose(known, np.where(pool.rows["label"] < 5, 0, 0.75) * np.asarray(pool.weight))


def test_a_power_of_trust_is_what_suspects_weigh():
    pool, score = points(20), lambda rows: jnp.clip(rows[:, 0], 0, 1)
    trust = 1 - np.clip(np.asarray(pool.rows[:, 0]), 0, 1)
    assert (trust == 0).any() and ((trust > 0) & (trust < 1)).any()
    for power in (0.0, 1.0, 10.0):
        found = ReweighSuspects(score, power)(KEY, jnp.int32(1), pool)
        assert np.allclose(found, trust**power, rtol=1e-5)
    slope = jax.grad(lambda power: ReweighSuspects(score, power)(KEY, jnp.int32(1), pool).sum())(2.0)
    safe = np.where(trust > 0, trust, 1)
    assert float(slope) == pytest.approx(float((safe**2 * np.log(safe)).sum()), rel=1e-4)


def test_a_detector_tells_text_from_letters_without_an_order():
    text = Text(length=48).split.train
    real, shuffled = text[:300], CHANCE.permuted(text[300:600], axis=1)
    pool = Pool.of(jnp.asarray(np.concatenate([real, shuffled]))).replace(origin=jnp.repeat(jnp.arange(2), 300))
    found = np.asarray(jax.jit(Detector(known=0.5, features=HashedNgrams(2, 128)))(KEY, pool))
    assert ((found > 0.5) == np.asarray(pool.synthetic)).mean() > 0.8
    with pytest.raises(GenlossError, match="give other features"):
        Detector()(KEY, pool)


def test_farthest_points_by_hand():
    pool = points(30)
    pool = pool.weighed(pool.weight.at[::4].set(0.0))
    weight = np.asarray(FarthestPoints(0.5, itself)(KEY, jnp.int32(1), pool))
    x, there = np.asarray(pool.rows), np.flatnonzero(pool.weight)
    found = set(np.flatnonzero(weight).tolist())
    assert len(found) == round(0.5 * len(there)) and found <= set(there.tolist())
    hit = 0
    for start in there:  # from one of the rows, the same points follow
        kept = [start]
        while len(kept) < len(found):
            reach = [min(np.linalg.norm(x[i] - x[j]) for j in kept) for i in there]
            kept.append(there[int(np.argmax(reach))])
        hit += set(kept) == found
    assert hit >= 1


@pytest.mark.quick("0.5")
@pytest.mark.parametrize("share", [0.2, 0.5])
def test_farthest_points_have_more_entropy_than_others(share: float):
    pool = points(400)
    pool = pool.replace(rows=pool.rows.at[:200].multiply(0.05))  # half of the rows are nearly one
    weight = jax.jit(FarthestPoints(share, itself))(KEY, jnp.int32(1), pool)
    others = choose(jax.random.key(1), pool.weight, weight.sum()).astype(jnp.float32)
    assert entropy(pool.rows, weight, 1) > entropy(pool.rows, others, 1) + 1


def test_what_cannot_be_is_said():
    with pytest.raises(GenlossError, match="between 0 and 1"):
        Detector(known=2)
    with pytest.raises(GenlossError, match="above 0"):
        Detector(penalty=0)
    with pytest.raises(GenlossError, match="needs images"):
        Detector()(KEY, points(10))
