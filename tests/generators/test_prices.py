"""Prices of known law: risks against closed forms, series and integrals of scipy, samples against all of them."""

import math
from typing import Any

import jax
import numpy as np
import pytest
from conftest import assert_mean
from scipy.integrate import quad, solve_ivp
from scipy.optimize import brentq
from scipy.stats import norm, poisson

from generators.prices import DAYS, GeometricBrownian, Heston, JumpDiffusion, Prices

LEVELS = (0.95, 0.99, 0.999)
PRICES: dict[str, Prices] = {
    "brownian": GeometricBrownian(drift=0.3, volatility=0.3),
    "jumps": JumpDiffusion(drift=-0.2, rate=20.0, jump=-0.02),
    "heston": Heston(drift=0.4),
    "heston, v near 0": Heston(volatility=1.6, correlation=0.5),
    "heston, quick": Heston(reversion=50.0, volatility=1.6),  # so that a day more or less, or of v, is seen
}


@pytest.mark.parametrize("days", [1, 10])
def test_brownian_risk_is_the_normal_law_s(days: int):
    price = PRICES["brownian"]
    mean, scale = 100 * (0.3 - 0.045) * days / DAYS, 30 * math.sqrt(days / DAYS)
    for level in LEVELS:
        z = norm.ppf(1 - level)
        closed = -mean - scale * z, -mean + scale * norm.pdf(z) / (1 - level)
        assert np.allclose(price.risk(level, days), closed, rtol=1e-9)
    assert np.allclose(price.moments(days), (scale, 0), atol=1e-9)


def mixture(price: JumpDiffusion, days: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(shares, means, scales) of the normal laws of a return given 0, 1, ... jumps, in percent (Merton 1976)."""
    years, k = days / DAYS, np.arange(60)
    grown = price.rate * (math.exp(price.jump + price.spread**2 / 2) - 1)
    mean = (price.drift - price.volatility**2 / 2 - grown) * years + k * price.jump
    return (
        poisson.pmf(k, price.rate * years),
        100 * mean,
        100 * np.sqrt(price.volatility**2 * years + k * price.spread**2),
    )


@pytest.mark.parametrize("days", [1, 10])
def test_risk_of_jumps_is_merton_s_series(days: int):
    price: Any = PRICES["jumps"]
    share, mean, scale = mixture(price, days)
    for level in LEVELS:
        q: Any = brentq(lambda x: share @ norm.cdf((x - mean) / scale) - (1 - level), -99, 99, xtol=1e-12)  # noqa: B023
        z = (q - mean) / scale
        shortfall = -share @ (mean * norm.cdf(z) - scale * norm.pdf(z)) / (1 - level)
        assert np.allclose(price.risk(level, days), (-q, shortfall), rtol=1e-7)
    centre = share @ mean
    second = share @ (scale**2 + (mean - centre) ** 2)
    fourth = share @ (3 * scale**4 + 6 * scale**2 * (mean - centre) ** 2 + (mean - centre) ** 4)
    assert np.allclose(price.moments(days), (math.sqrt(second), float(fourth / second**2 - 3)), rtol=1e-6)


@pytest.mark.parametrize("name", ["heston", "heston, v near 0"])
def test_heston_s_characteristic_function_solves_its_equations(name: str):
    price: Any = PRICES[name]
    kappa, theta, xi, rho = price.reversion, price.variance, price.volatility, price.correlation
    for u, days in ((0.3, 1), (1.5, 1), (0.4, 20)):
        x = 100j * u

        def slopes(_: float, y: np.ndarray, x: complex = x) -> list[complex]:
            grows = (x * x - x) / 2 + (rho * xi * x - kappa) * y[1] + xi**2 / 2 * y[1] ** 2
            return [price.drift * x + kappa * theta * y[1], grows]

        a, b = solve_ivp(slopes, (0, days / DAYS), [0j, 0j], rtol=1e-10, atol=1e-12).y[:, -1]
        shape, rate = 2 * kappa * theta / xi**2, 2 * kappa / xi**2
        assert np.allclose(price.log_mgf(np.array([1j * u]), days), a - shape * np.log(1 - b / rate), rtol=1e-7)


@pytest.mark.parametrize("days", [1, 10])
def test_heston_s_risk_is_an_integral_of_its_characteristic_function(days: int):
    """Gil-Pelaez 1951 for F; the expected loss beyond q is q and the value of a put at q over F(q)."""
    price = PRICES["heston"]
    value = lambda u: complex(np.exp(price.log_mgf(np.array([1j * u]), days))[0])  # noqa: E731

    end = 60 / math.sqrt(days)

    def integral(of: Any) -> float:
        return quad(of, 0, end, limit=2000, epsabs=1e-10)[0] / math.pi

    for level in (0.95, 0.99):
        at, shortfall = price.risk(level, days)
        below = 0.5 - integral(lambda u: (np.exp(1j * u * at) * value(u)).imag / u)  # noqa: B023
        assert np.isclose(below, 1 - level, atol=1e-7)
        mean = float(price.log_mgf(np.array([1e-7]), days)[0].real) * 1e7
        # E max(q - X, 0) = (q - E X)/2 + ∫ Re[1 - exp(-iuq) φ(u)]/u² / π, of which 1/u² is left beyond the end
        put = (-at - mean) / 2 + integral(lambda u: (1 - np.exp(1j * u * at) * value(u)).real / u**2)  # noqa: B023
        put += 1 / (end * math.pi)
        assert np.isclose(shortfall, at + put / (1 - level), rtol=1e-4)


@pytest.mark.parametrize("name", PRICES)
def test_samples_have_their_law(name: str):
    """Means over windows in standard errors: moments, tails of a day and of ten, squares a day and a week apart."""
    price = PRICES[name]
    x = np.asarray(jax.jit(lambda key: price.sample(key, {}, 10_000))(jax.random.key(0)), np.float64)
    spans = x[:, :60].reshape(len(x), 6, 10).sum(2)
    scale, kurtosis = price.moments()
    mean = float(price.log_mgf(np.array([1e-7]))[0].real) * 1e7
    z = (x - mean) / scale
    assert_mean(z.mean(1), 0)
    assert_mean((z**2).mean(1), 1)
    assert_mean((z**4).mean(1), 3 + kurtosis)
    assert_mean((((spans - 10 * mean) / price.moments(10)[0]) ** 2).mean(1), 1)
    for days, gains in ((1, x), (10, spans)):
        for level in (0.95, 0.99):
            at, shortfall = price.risk(level, days)
            beyond = gains <= -at
            assert_mean(beyond.mean(1), 1 - level)
            assert_mean((beyond * -gains).mean(1), (1 - level) * shortfall)
    second = scale**2 + mean**2
    square = x**2 / second - 1
    for lag in (1, 5):
        assert_mean((square[:, lag:] * square[:, :-lag]).mean(1) - price.squares(lag) * (square**2).mean(), 0)
