"""Models of series: autoregression against least squares of numpy, GARCH against a recursion and a search of scipy."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_mean
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from generators import Autoregressive, Garch, Gaussian
from generators.autoregressive import AutoregressiveParams
from generators.garch import GarchParams
from generators.prices import GeometricBrownian, Heston
from simulator import Chain, GenlossError, Pool, Truth, simulate, theory
from simulator.recipe import Accumulate, Replace

KEY = jax.random.key(0)
TRUE = GarchParams(*(jnp.float32(x) for x in (0.1, 2.0, 0.12, 0.8)))
AR2 = AutoregressiveParams(
    jnp.array([0.2, 0.5, -0.3]), jnp.float32(1.5), jnp.array([1.0, -1.0]), jnp.array([[2.0, 0.6], [0.6, 1.0]])
)
RETURNS = Heston(length=20).sample(KEY, {}, 300)  # [300, 20]
WEIGHT: Any = np.random.default_rng(0).integers(0, 4, 300).astype(np.float32)


@pytest.mark.parametrize("order", [0, 1, 3])
def test_an_autoregression_is_weighted_least_squares(order: int):
    model = Autoregressive(order=order, length=20)
    found, _ = model.fit(KEY, model.init(KEY), Pool.of(RETURNS).weighed(WEIGHT))
    x, root = np.asarray(RETURNS, np.float64), np.sqrt(WEIGHT, dtype=np.float64)
    design, value, scale = [], [], []
    for row, r in zip(x, root, strict=True):
        for t in range(order, 20):
            design.append(np.array([1, *row[t - order : t][::-1]]) * r)
            value.append(row[t] * r)
            scale.append(r**2)
    coef, *_ = np.linalg.lstsq(np.array(design), np.array(value), rcond=None)
    residual = np.array(value) - np.array(design) @ coef
    assert np.allclose(found.coef, coef, atol=2e-5)
    assert np.allclose(found.variance, (residual**2).sum() / np.sum(scale), rtol=1e-5)
    if order:
        first = x[:, :order]
        assert np.allclose(found.mean, np.average(first, 0, WEIGHT), atol=1e-5)
        assert np.allclose(found.cov, np.cov(first.T, aweights=WEIGHT, ddof=0), atol=1e-5)


def law(length: int) -> tuple[np.ndarray, Any]:
    """Mean and covariance of a window of AR2, value by value."""
    mean, root = np.zeros(length), np.zeros((length, length))  # x = mean + root z
    mean[:2], root[:2, :2] = AR2.mean, np.linalg.cholesky(np.asarray(AR2.cov))
    c, first, second = map(float, AR2.coef)
    for t in range(2, length):
        mean[t] = c + first * mean[t - 1] + second * mean[t - 2]
        root[t] = first * root[t - 1] + second * root[t - 2]
        root[t, t] = np.sqrt(AR2.variance)
    return mean, root @ root.T


def test_windows_of_an_autoregression_have_its_law():
    model = Autoregressive(order=2, length=6)
    x = np.asarray(model.sample(KEY, AR2, 20_000), np.float64)
    mean, cov = law(6)
    assert_mean(x, mean)
    assert_mean(np.einsum("ni,nj->nij", x - mean, x - mean), cov)
    assert np.allclose(
        model.log_prob(AR2, jnp.asarray(x[:50])), multivariate_normal(mean, cov).logpdf(x[:50]), atol=1e-3
    )
    narrow = Autoregressive(order=2, length=6, temperature=0.5).sample(KEY, AR2, 20_000)
    assert np.allclose(narrow - mean, (x - mean) / 2, atol=1e-4)


@pytest.mark.parametrize("recipe", [Replace(), Accumulate()], ids=["replace", "accumulate"])
def test_order_0_loses_variance_by_the_law_of_its_values(recipe: Any):
    """Of n windows of L values it is a Gaussian fitted on n L: (1 - 1/nL)^t when replaced (LAWS F1), F8 when kept."""
    truth = GeometricBrownian(length=3)
    chain = Chain(
        source=Truth(truth), generator=Autoregressive(order=0), recipe=recipe, real=4, rows=4, held_out=0,
        probes={"variance": lambda key, view: view.params.variance},
    )  # fmt: skip
    found = jax.jit(jax.vmap(lambda key: simulate(chain, key, 8)["variance"]))(jax.random.split(KEY, 4000))
    expected = theory.replace_variance(12, 8) if isinstance(recipe, Replace) else theory.accumulate_variance(12, 8)
    assert_mean(np.asarray(found) / truth.moments()[0] ** 2, expected)


def log_likelihood(params: Any, x: np.ndarray) -> np.ndarray:
    """Of windows [n, length] under GARCH(1,1), value by value, [n]."""
    mean, variance, alpha, beta = params
    total, h = np.zeros(len(x)), np.full(len(x), variance)
    for t in range(x.shape[1]):
        e = x[:, t] - mean
        total += -0.5 * (np.log(2 * np.pi) + np.log(h) + e**2 / h)
        h = variance * (1 - alpha - beta) + alpha * e**2 + beta * h
    return total


def test_garch_likelihood_is_a_plain_recursion():
    found = Garch(length=20).log_prob(TRUE, RETURNS)
    assert np.allclose(found, log_likelihood(map(float, TRUE), np.asarray(RETURNS, np.float64)), atol=1e-4)


def test_a_garch_fit_is_the_weighted_maximum_of_its_likelihood():
    """Which scipy finds, too, without derivatives; beside it the likelihood is flat to what float32 tells."""
    x = np.asarray(RETURNS, np.float64)
    model = Garch(length=20)
    found, told = model.fit(KEY, model.init(KEY), Pool.of(RETURNS).weighed(WEIGHT))

    def loss(params: np.ndarray) -> float:
        _, variance, alpha, beta = params
        if variance <= 0 or min(alpha, beta) < 0 or alpha + beta >= 1:
            return np.inf
        return -float(WEIGHT @ log_likelihood(params, x)) / WEIGHT.sum()

    best = minimize(
        loss, [0.0, 1.5, 0.1, 0.8], method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9, "maxiter": 4000}
    )
    assert loss(np.array(found, np.float64)) <= best.fun + 1e-5
    assert np.allclose(np.array(found), best.x, atol=2e-3)
    assert np.isclose(told["persistence"], found.alpha + found.beta)


def test_garch_finds_its_own_parameters_within_standard_errors():
    """(θ̂ - θ)ᵀ N I (θ̂ - θ) is χ² of 4, I from derivatives of the plain recursion."""
    model, n = Garch(length=64, steps=20), 100

    def fit(key: jax.Array) -> tuple[Any, jax.Array]:
        x = model.sample(key, TRUE, n)
        return model.fit(KEY, TRUE, Pool.of(x))[0], x

    found, x = jax.jit(jax.vmap(fit))(jax.random.split(KEY, 40))
    theta, true = np.array(found, np.float64).T, np.array(TRUE, np.float64)  # [40, 4]
    step = 1e-4 * np.maximum(true, 0.1)
    windows = np.asarray(x, np.float64)[:20].reshape(-1, 64)  # [2000, 64]
    score = [
        (log_likelihood(true + s, windows) - log_likelihood(true - s, windows)) / (2 * s.sum()) for s in np.diag(step)
    ]
    information = n * np.cov(score)  # [4, 4]: of a fit, from the score of each window
    apart = theta - true
    assert_mean(np.einsum("ni,ij,nj->n", apart, information, apart), 4)
    assert (np.abs(apart.mean(0)) < 5 * apart.std(0) / np.sqrt(len(apart)) + 0.01).all()


def test_garch_samples_have_its_variance_and_clusters():
    """h of the second value is known given the first; squares of neighbours are correlated as α and β say."""
    model = Garch(length=3)
    x = np.asarray(model.sample(KEY, TRUE, 40_000), np.float64) - float(TRUE.mean)
    assert_mean(x, 0)
    assert_mean(x**2, float(TRUE.variance))
    h = 2 * (1 - 0.92) + 0.12 * x[:, 0] ** 2 + 0.8 * 2
    assert_mean((x[:, 1] ** 2 - h) * x[:, 0] ** 2, 0)
    after = 2 * (1 - 0.92) + 0.12 * x[:, 1] ** 2 + 0.8 * h
    assert_mean((x[:, 2] ** 2 - after) * x[:, 0] ** 2, 0)
    assert_mean((x[:, 2] ** 2 / after - 1) * x[:, 1] ** 2, 0)


def test_what_is_no_window_is_refused():
    for source, model, said in (
        (Truth(Gaussian(2)), Autoregressive(order=2), "lower `order`"),
        (Truth(Heston()), Garch(length=3), "leave `length` open"),
    ):
        with pytest.raises(GenlossError, match=said):
            _ = Chain(source=source, generator=model, held_out=4).model
    with pytest.raises(GenlossError, match="windows of a series"):
        Garch().shaped({"x": RETURNS})
    with pytest.raises(GenlossError, match="no length"):
        Garch().sample(KEY, TRUE, 3)
