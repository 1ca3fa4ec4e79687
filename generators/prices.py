"""Prices whose laws are known: geometric Brownian motion, jumps, and stochastic volatility, as truths of series.

A row is a window [length] of log-returns in percent, one a day.  All three are stationary, and windows are independent.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from simulator.checks.fields import Count, NonNegative, Positive, Range, check
from simulator.numerics import characteristic
from simulator.numerics.chance import fold_in, normal
from simulator.pool import Pool
from simulator.types import Array, Key

PERCENT = 100.0
DAYS = 252  # a year
Complex = Any  # a number or an array, complex128


@dataclass(frozen=True, kw_only=True)
class Prices(abc.ABC):
    """A price S with a law: `Truth(Heston())`.  Its numbers are its fields, in years; nothing is fitted."""

    length: Count = 64  # days of a window
    drift: float = 0.05  # of the mean of S, a year

    __post_init__ = check

    @abc.abstractmethod
    def log_mgf(self, z: Complex, days: int = 1) -> Complex:
        """log E exp(z X) of X = log S_days / S_0 in percent; of z = i·u it is that of the characteristic function."""

    @abc.abstractmethod
    def sample(self, key: Key, params: dict[str, Array], n: int) -> Array:
        """Log-returns in percent, [n, length]."""

    def squares(self, lag: int = 1) -> float:
        """The correlation of squared returns of days `lag` apart: none where days are independent."""
        return 0.0

    def risk(self, level: float, days: int = 1) -> tuple[float, float]:
        """(value at risk, expected shortfall) of log-returns over some days, in percent; a loss is above 0."""
        return characteristic.tail(lambda z: self.log_mgf(z, days), level)

    def moments(self, days: int = 1) -> tuple[float, float]:
        """(standard deviation in percent, excess kurtosis) of log-returns over some days."""
        _, variance, _, fourth = characteristic.cumulants(lambda z: self.log_mgf(z, days))
        return math.sqrt(variance), float(fourth / variance**2)

    def init(self, key: Key) -> dict[str, Array]:
        """Nothing."""
        return {}

    def fit(self, key: Key, params: dict[str, Array], pool: Pool) -> tuple[dict[str, Array], dict[str, Array]]:
        return params, {}


@dataclass(frozen=True, kw_only=True)
class GeometricBrownian(Prices):
    """dS/S = μ dt + σ dW: log-returns are independent N((μ - σ²/2) dt, σ² dt) (Black & Scholes 1973)."""

    volatility: Positive = 0.2  # σ, a root of a year

    def log_mgf(self, z: Complex, days: int = 1) -> Complex:
        x = z * PERCENT
        return days / DAYS * ((self.drift - self.volatility**2 / 2) * x + self.volatility**2 / 2 * x**2)

    def sample(self, key: Key, params: dict[str, Array], n: int) -> Array:
        mean, scale = (self.drift - self.volatility**2 / 2) / DAYS, self.volatility / math.sqrt(DAYS)
        return PERCENT * (mean + scale * normal(key, (n, self.length)))


@dataclass(frozen=True, kw_only=True)
class JumpDiffusion(Prices):
    """Geometric Brownian motion with jumps of log S, N(m, s²) each, at the times of a Poisson process of rate λ.

    Of a day, given k jumps, the log-return is normal, so that its law is a mixture with Poisson shares (Merton, J.
    Financial Economics 3 (1976) 125-144).
    """

    volatility: Positive = 0.16  # σ between jumps, a root of a year
    rate: NonNegative = 12.0  # λ, jumps a year
    jump: float = -0.01  # m
    spread: NonNegative = 0.03  # s

    @property
    def _centre(self) -> float:
        """The drift of log S between jumps, a year: that of the mean of S is μ, jumps included."""
        jumps = self.rate * math.expm1(self.jump + self.spread**2 / 2)
        return self.drift - self.volatility**2 / 2 - jumps

    def log_mgf(self, z: Complex, days: int = 1) -> Complex:
        x = z * PERCENT
        jumps = self.rate * np.expm1(self.jump * x + self.spread**2 / 2 * x**2)
        return days / DAYS * (self._centre * x + self.volatility**2 / 2 * x**2 + jumps)

    def sample(self, key: Key, params: dict[str, Array], n: int) -> Array:
        shape = (n, self.length)
        k = jax.random.poisson(fold_in(key, 0), self.rate / DAYS, shape).astype(jnp.float32)  # [n, length] jumps
        scale = jnp.sqrt(self.volatility**2 / DAYS + k * self.spread**2)  # [n, length]
        return PERCENT * (self._centre / DAYS + k * self.jump + scale * normal(fold_in(key, 1), shape))


@dataclass(frozen=True, kw_only=True)
class Heston(Prices):
    """d log S = (μ - v/2) dt + √v dW, dv = κ(θ - v) dt + ξ√v dB, d⟨W, B⟩ = ρ dt, v_0 from its stationary gamma law
    (Heston, Review of Financial Studies 6 (1993) 327-343).

    Days are drawn by the quadratic-exponential scheme (Andersen, J. Computational Finance 11(3) (2008), section 3.2.4
    and eq. 33), whose error over a day is below what a million of them show.
    """

    variance: Positive = 0.04  # θ, a year
    reversion: Positive = 8.0  # κ, a year
    volatility: Positive = 0.8  # ξ, of v
    correlation: Annotated[float, Range(-1, 1, above=True, below=True)] = -0.7  # ρ

    @property
    def _gamma(self) -> tuple[float, float]:
        """(shape, rate) of the stationary law of v."""
        rate = 2 * self.reversion / self.volatility**2
        return rate * self.variance, rate

    def _through(self, x: Complex, w: Complex, years: float) -> tuple[Complex, Complex]:
        """(A, B) of E[exp(x log S_t/S_0 + w v_t) | v_0] = exp(A + B v_0).

        B' = ξ²B²/2 + (ρξx - κ)B + (x² - x)/2 from B(0) = w, and A' = μx + κθB; roots so chosen that the logarithm
        stays on its branch (Albrecher et al., Wilmott Magazine, January 2007).
        """
        square = self.volatility**2
        b = self.reversion - self.correlation * self.volatility * x
        d = np.sqrt(b * b - square * (x * x - x) + 0j)
        low, high = (b - d) / square, (b + d) / square
        g = (w - low) / (w - high)
        fading = g * np.exp(-d * years)
        after = (low - high * fading) / (1 - fading)
        total = low * years - 2 / square * np.log((1 - fading) / (1 - g))  # ∫ B
        return self.drift * x * years + self.reversion * self.variance * total, after

    def _at_rest(self, w: Complex) -> Complex:
        """log E exp(w v) of the stationary law."""
        shape, rate = self._gamma
        return -shape * np.log1p(-w / rate)

    def log_mgf(self, z: Complex, days: int = 1) -> Complex:
        a, b = self._through(np.asarray(z * PERCENT), 0.0, days / DAYS)
        return a + self._at_rest(b)

    def squares(self, lag: int = 1) -> float:
        """Read off the joint law of two days, which is affine in v from one to the next."""
        radius = 0.3 / self.moments()[0]
        z = radius * np.exp(2j * np.pi * np.arange(32) / 32)  # [32]
        a2, b2 = self._through(PERCENT * z, 0.0, 1 / DAYS)  # [32]: the later day
        a0, b0 = self._through(np.zeros(32), b2, (lag - 1) / DAYS)  # days between
        a1, b1 = self._through(PERCENT * z[:, None], b0, 1 / DAYS)  # [32, 32]: the earlier day
        both = np.fft.fft2(np.exp(a0 + a1 + a2 + self._at_rest(b1))).real / 32**2  # [32, 32]: coefficients
        both *= radius ** -np.add.outer(np.arange(32.0), np.arange(32.0))
        second = 2 * both[0, 2]  # E r²
        fourth = np.fft.fft(np.exp(self.log_mgf(z))).real[4] / 32 * 24 / radius**4  # E r⁴
        return float((4 * both[2, 2] - second**2) / (fourth - second**2))

    def sample(self, key: Key, params: dict[str, Array], n: int) -> Array:
        kappa, theta, xi, rho, dt = self.reversion, self.variance, self.volatility, self.correlation, 1 / DAYS
        shape, rate = self._gamma
        fade = math.exp(-kappa * dt)
        own, shared = xi**2 * fade * (1 - fade) / kappa, theta * xi**2 * (1 - fade) ** 2 / (2 * kappa)
        part, lean = dt * (kappa * rho / xi - 0.5) / 2, rho / xi

        def day(v: Array, z: Array) -> tuple[Array, Array]:
            """(the next v [n], the log-return [n]) from v [n] and two normals a row, [n, 2]."""
            mean = theta + (v - theta) * fade  # [n]
            ratio = (own * v + shared) / mean**2  # [n]
            near = 2 / jnp.minimum(ratio, 1.5)
            square = near - 1 + jnp.sqrt(near * (near - 1))  # [n]: a moved normal, squared, has these two moments
            quadratic = mean / (1 + square) * (jnp.sqrt(square) + z[:, 0]) ** 2
            p = jnp.maximum((ratio - 1) / (ratio + 1), 0)  # [n]: a point at 0 and an exponential, where v is near it
            left = jnp.maximum(-jax.scipy.special.log_ndtr(-z[:, 0]) + jnp.log1p(-p), 0)
            after = jnp.where(ratio <= 1.5, quadratic, mean / (1 - p) * left)
            centre = self.drift * dt - lean * kappa * theta * dt + (part - lean) * v + (part + lean) * after
            return after, centre + jnp.sqrt((1 - rho**2) * dt * (v + after) / 2) * z[:, 1]

        v = jax.random.gamma(fold_in(key, 0), shape, (n,)) / rate  # [n]
        z = normal(fold_in(key, 1), (self.length, n, 2))
        return PERCENT * jax.lax.scan(day, v, z)[1].T  # [n, length]
