"""What a decoder says of each number of a row: its law, chosen by what the network told of it.

Each takes `told` [n, d·numbers], what the network told of each number of a row, side by side, and the numbers x [n, d]:
grey values in [0, 1], or any where `of_points` says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp

from simulator.checks.fields import Positive, Range, check
from simulator.numerics.chance import bernoulli, normal, uniform
from simulator.types import Array, Key

_ONE = math.log(math.expm1(1))  # what softplus makes 1 of


@dataclass(frozen=True)
class Bernoulli:
    """x log μ + (1 - x) log(1 - μ), μ the sigmoid of what is told (Kingma & Welling 2014, arXiv:1312.6114, eq. 11).

    A probability of black and white; of grey values, which it takes as probabilities, a loss that is smallest at μ = x.
    """

    of_points: ClassVar[bool] = False

    @property
    def numbers(self) -> int:
        """What a network tells of each number: the logit."""
        return 1

    def nll(self, told: Array, x: Array) -> Array:
        """Negative log-likelihoods, [n, d], nats."""
        return jax.nn.softplus(told) - x * told

    def mean(self, told: Array) -> Array:
        return jax.nn.sigmoid(told)

    def draw(self, key: Key, told: Array) -> Array:
        """Black or white, [n, d]."""
        return bernoulli(key, self.mean(told), told.shape).astype(jnp.float32)


@dataclass(frozen=True)
class Normal:
    """x ~ N(μ, σ²), a density of numbers as they are (grey values in [0, 1]) (Kingma & Welling 2014, eq. 12)."""

    scale: Positive | Array | None = None  # σ; None: told of each number, 1 of a network that tells 0
    least: Positive = 1e-2  # σ that is told is above it: at 0 a number that never varies would be worth everything

    of_points: ClassVar[bool] = True
    __post_init__ = check

    @property
    def numbers(self) -> int:
        """What a network tells of each number: μ, and σ where it is not fixed."""
        return 2 if self.scale is None else 1

    def nll(self, told: Array, x: Array) -> Array:
        """Negative log-likelihoods, [n, d], nats."""
        mean, scale = _read(self, told)
        return 0.5 * ((x - mean) / scale) ** 2 + jnp.log(scale) + 0.5 * math.log(2 * math.pi)

    def mean(self, told: Array) -> Array:
        return _read(self, told)[0]

    def draw(self, key: Key, told: Array) -> Array:
        """[n, d]."""
        mean, scale = _read(self, told)
        return mean + scale * normal(key, mean.shape)


@dataclass(frozen=True)
class DiscretisedLogistic:
    """P(x) = F(x + Δ/2) - F(x - Δ/2), F logistic about μ with scale s, for `levels` grey values Δ apart; the first and
    last take all that lies beyond (Kingma et al. 2016, arXiv:1606.04934, eq. 15; Salimans et al. 2017,
    arXiv:1701.05517, eq. 2).

    A probability of images themselves, so that bits can be compared with other models'.
    """

    levels: Annotated[int, Range(2, 256)] = 256  # that images are rounded to; the embedded digits have 17
    scale: Positive | Array | None = None  # s; None: told of each value, 1 of a network that tells 0
    least: Positive = 1e-3  # s that is told is above it

    of_points: ClassVar[bool] = False
    __post_init__ = check

    @property
    def numbers(self) -> int:
        """What a network tells of each number: μ, and s where it is not fixed."""
        return 2 if self.scale is None else 1

    def nll(self, told: Array, x: Array) -> Array:
        """Negative log-likelihoods, [n, d], nats."""
        (mean, scale), step = _read(self, told), 1 / (self.levels - 1)
        level = jnp.round(x * (self.levels - 1))
        off = level * step - mean
        first, last = level == 0, level == self.levels - 1
        # σ(a) - σ(b) = σ(a) σ(-b) (1 - exp(b - a)), in which nothing cancels; at an end two of the three are 1.
        up = jnp.where(last, 0.0, jax.nn.log_sigmoid((off + step / 2) / scale))
        down = jnp.where(first, 0.0, jax.nn.log_sigmoid((step / 2 - off) / scale))
        within = jnp.where(first | last, 0.0, jnp.log(-jnp.expm1(-step / scale)))
        return -(up + down + within)

    def mean(self, told: Array) -> Array:
        """μ, which is the mean but for what lies beyond the ends."""
        return jnp.clip(_read(self, told)[0], 0, 1)

    def draw(self, key: Key, told: Array) -> Array:
        """One of the levels, [n, d]."""
        mean, scale = _read(self, told)
        u = jnp.clip(uniform(key, mean.shape), 2.0**-31, 1 - 2.0**-24)
        x = mean + scale * (jnp.log(u) - jnp.log1p(-u))
        return jnp.clip(jnp.round(x * (self.levels - 1)), 0, self.levels - 1) / (self.levels - 1)


Likelihood = Bernoulli | Normal | DiscretisedLogistic


def _read(likelihood: Normal | DiscretisedLogistic, told: Array) -> tuple[Array, Array]:
    """Where each number is thought to lie, [n, d], and the scale of each, [n, d], or of all, []."""
    if likelihood.scale is not None:
        return told, jnp.asarray(likelihood.scale, jnp.float32)
    return told[:, ::2], likelihood.least + jax.nn.softplus(told[:, 1::2] + _ONE)
