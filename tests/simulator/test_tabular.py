"""Regressions and classifications of tables against scikit-learn, and what they must be."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_mean
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.metrics import log_loss

from generators import Gaussian, PerClass
from generators.linear import Linear, LinearParams
from simulator import Chain, GenlossError, Pool, Truth, View, simulate
from simulator.probes.tabular import Regression, Tabular, logistic, regressed

CHANCE = np.random.default_rng(0)


def numbers(n: int, d: int = 4, noise: float = 0.5, seed: int = 0) -> dict[str, np.ndarray]:
    """y = 1 + x·(1, 2, ...) + noise, of x that are neither centred nor of one scale."""
    chance = np.random.default_rng(seed)
    x = chance.normal(size=(n, d)) * np.linspace(0.5, 3, d) + np.arange(d)
    y = 1 + x @ np.arange(1, d + 1) + noise * chance.normal(size=n)
    return {"x": x.astype(np.float32), "y": y.astype(np.float32)}


def blobs(n: int, kinds: int = 3, seed: int = 0, apart: float = 1.5) -> dict[str, np.ndarray]:
    """Overlapping classes about the corners of a simplex, in 3 dimensions."""
    chance = np.random.default_rng(seed)
    label = chance.integers(0, kinds, n).astype(np.int32)
    return {"x": (chance.normal(size=(n, 3)) + apart * np.eye(3)[label]).astype(np.float32), "label": label}


def probe(what: Any, synthetic: Any, reference: Any, diet: Pool | None = None) -> Any:
    """Compiled, the reference being a constant."""
    synthetic, reference = (jax.tree.map(jnp.asarray, rows) for rows in (synthetic, reference))

    @jax.jit
    def call(synthetic: Any, diet: Pool) -> Any:
        return what(jax.random.key(0), View(jnp.int32(0), None, diet, synthetic, reference, Linear(4)))

    return call(synthetic, Pool.of(synthetic) if diet is None else diet)


WEIGHT = CHANCE.uniform(0, 2, 150).astype(np.float32) * (CHANCE.random(150) > 0.3)


@pytest.mark.parametrize("ridge", [0.0, 30.0])
def test_regressions_against_scikit_learn(ridge: float):
    train, test = numbers(150), numbers(100, seed=1)
    judge = Ridge(ridge) if ridge else LinearRegression()
    expected = {}
    for sense, weight in (("diet", WEIGHT), ("samples", None)):
        guess = judge.fit(train["x"].astype(float), train["y"].astype(float), weight).predict(test["x"])
        expected[sense] = float(((guess - test["y"]) ** 2).mean())
    diet = Pool.of(jax.tree.map(jnp.asarray, train)).weighed(jnp.asarray(WEIGHT))
    found = probe(Regression(ridge), train, test, diet)
    assert "risk" not in found and (found["rows"], found["reference_rows"]) == (150, 100)
    for sense, value in expected.items():
        assert float(found[sense]) == pytest.approx(value, rel=1e-4)


def test_coefficients_against_scikit_learn_far_from_the_origin():
    """What cancels: x about 1,000 with a spread of 1."""
    train = numbers(150)
    x = (train["x"] + 1000).astype(np.float32)
    judge = LinearRegression().fit(x.astype(float), train["y"].astype(float), WEIGHT)
    coef, intercept = regressed(jnp.asarray(x), jnp.asarray(train["y"]), jnp.asarray(WEIGHT))
    assert np.allclose(coef, judge.coef_, rtol=1e-3)
    guess = x.astype(float) @ np.asarray(coef, float) + float(intercept)
    assert np.allclose(guess, judge.predict(x.astype(float)), atol=5e-3)  # of terms of 10,000: float32 resolves 0.001


def test_fewer_rows_than_features_and_no_spread():
    train = numbers(3, d=6)
    coef, intercept = regressed(jnp.asarray(train["x"]), jnp.asarray(train["y"]), jnp.ones(3))
    judge = LinearRegression().fit(train["x"].astype(float), train["y"].astype(float))
    assert np.allclose(coef, judge.coef_, rtol=1e-3, atol=1e-4)
    coef, intercept = regressed(jnp.ones((9, 2)), jnp.arange(9.0), jnp.ones(9))  # all rows alike: the mean
    assert np.allclose(coef, 0) and float(intercept) == 4


def test_the_risk_of_the_fitted_model():
    """On average noise² + ‖coef - truth‖²."""
    truth, coef = Truth(Linear(4, noise=0.5)), jnp.array([1.0, 0.0, 0.0, 0.0])
    rows = truth.draw(jax.random.key(0), 30)

    def once(key: jax.Array) -> Any:
        test = truth.draw(key, 50, held_out=True)
        return Regression()(key, View(jnp.int32(0), LinearParams(coef), Pool.of(rows), rows, test, Linear(4)))["risk"]

    assert_mean(jax.vmap(once)(jax.random.split(jax.random.key(0), 400)), 0.25 + float(((coef - 0.5) ** 2).sum()))


@pytest.mark.parametrize("kinds, penalty", [(3, 1.0), (2, 0.01), (3, 100.0)])
def test_classifiers_against_scikit_learn(kinds: int, penalty: float):
    train, test = blobs(150, kinds), blobs(100, kinds, seed=1)
    # Of two classes scikit-learn has one vector w, which is w/2 and -w/2 here and costs half as much.
    judge = LogisticRegression(C=(2 if kinds == 2 else 1) / penalty, tol=1e-10, max_iter=10_000)
    diet = Pool.of(jax.tree.map(jnp.asarray, train)).weighed(jnp.asarray(WEIGHT))
    found = probe(Tabular(penalty), train, test, diet)
    for sense, weight in (("diet", WEIGHT), ("samples", None)):
        shares = judge.fit(train["x"].astype(float), train["label"], weight).predict_proba(test["x"].astype(float))
        assert float(found[sense]["loss"]) == pytest.approx(log_loss(test["label"], shares), rel=2e-3)
        right = (shares.argmax(1) == test["label"]).mean()
        assert float(found[sense]["accuracy"]) == pytest.approx(right, abs=0.011)


def test_separable_classes_and_a_class_that_is_gone():
    train, test = blobs(150, apart=50.0), blobs(100, seed=1, apart=50.0)
    found = probe(Tabular(), train, test)
    assert float(found["samples"]["accuracy"]) == 1.0 and float(found["samples"]["loss"]) < 0.05
    few = {name: value[train["label"] != 1] for name, value in train.items()}
    found = probe(Tabular(), few, test)["samples"]
    assert float(found["accuracy"]) == pytest.approx((test["label"] != 1).mean()) and np.isfinite(found["loss"])


def test_real_rows_teach_most_and_wrong_ones_less():
    """Identical sets, a known sub-region, and labels that lie."""
    real, test = numbers(150), numbers(100, seed=1)
    lies = {"x": real["x"], "y": -real["y"]}
    part = {name: value[real["x"][:, 0] > 0.5][:10] for name, value in real.items()}
    best, less, worst = (float(probe(Regression(), rows, test)["samples"]) for rows in (real, part, lies))
    assert 0.15 < best < 0.4 and best < less < worst  # the noise is 0.25
    assert float(probe(Regression(), test, test)["samples"]) < best
    points, test = blobs(150), blobs(100, seed=1)
    lies = {**points, "label": (points["label"] + 1) % 3}
    right, wrong = (float(probe(Tabular(), rows, test)["samples"]["accuracy"]) for rows in (points, lies))
    assert right > 0.6 and wrong < 0.3


def test_each_sense_learns_from_its_own_rows_and_order_does_not_matter():
    real, test = numbers(150), numbers(100, seed=1)
    both = {name: jnp.concatenate([jnp.asarray(real[name]), -jnp.asarray(real[name])[:50] * 7]) for name in real}
    diet = Pool.of(both).weighed(jnp.concatenate([jnp.ones(150), jnp.zeros(50)]))  # weight 0 is a row's absence
    order = CHANCE.permutation(150)
    shuffled = {name: value[order] for name, value in real.items()}
    found = probe(Regression(), shuffled, test, diet)
    assert float(found["diet"]) == pytest.approx(float(found["samples"]), rel=1e-4)


CHAINS = {
    "regression": (Linear(3, noise=0.3), Truth(Linear(3, noise=0.3)), Regression()),
    "tabular": (PerClass(Gaussian(2), 2), Truth(PerClass(Gaussian(2), 2)), Tabular(steps=5)),
}


@pytest.mark.quick("regression")
@pytest.mark.parametrize("generator, source, what", CHAINS.values(), ids=CHAINS)
def test_in_chains(generator: Any, source: Any, what: Any):
    chain = Chain(source=source, generator=generator, probes={"found": what}, real=40, rows=40, held_out=30)
    found = jax.jit(jax.vmap(lambda key: simulate(chain, key, 2)))(jax.random.split(jax.random.key(0), 3))
    assert all(np.isfinite(value).all() for value in found.flat().values())
    if "found.risk" in found:  # 0.09 of noise, and no intercept to learn
        assert (found["found.risk"] < 0.25).all()


@pytest.mark.quick("regression")
@pytest.mark.parametrize(
    "what, make", [(Regression(), partial(numbers, d=3)), (Tabular(), blobs)], ids=["regression", "tabular"]
)
def test_sets_together_are_as_each_alone(what: Any, make: Any):
    test = jax.tree.map(jnp.asarray, make(100))
    sets = jax.tree.map(lambda *rows: jnp.stack(rows), *[make(60, seed=seed) for seed in (1, 2)])

    def measured(rows: Any) -> Any:
        return what(jax.random.key(0), View(jnp.int32(0), None, Pool.of(rows), rows, test, Linear(3)))

    together = jax.jit(jax.vmap(measured))(sets)
    for i in range(2):
        alone = probe(what, jax.tree.map(lambda rows, i=i: rows[i], sets), test)
        pairs = zip(jax.tree.leaves(alone), jax.tree.leaves(together), strict=True)
        assert all(np.allclose(a, b[i], rtol=1e-3) for a, b in pairs)


def test_compiled_is_as_eager():
    rows = {name: jnp.asarray(value) for name, value in blobs(150).items()}
    fit = partial(logistic, kinds=3)
    eager = fit(rows["x"], rows["label"], jnp.asarray(WEIGHT))
    assert np.allclose(jax.jit(fit)(rows["x"], rows["label"], jnp.asarray(WEIGHT)), eager, atol=1e-3)


@pytest.mark.parametrize(
    "build",
    [
        partial(Regression, -1.0),
        partial(Tabular, 0.0),
        partial(Tabular, steps=0),
        lambda: probe(Regression(), blobs(9), blobs(9)),
        lambda: probe(Tabular(), numbers(9), numbers(9)),
    ],
)
def test_bad_values_get_one_sentence(build: Any):
    with pytest.raises(GenlossError) as error:
        build()
    assert str(error.value).endswith(".") and "\n" not in str(error.value)
