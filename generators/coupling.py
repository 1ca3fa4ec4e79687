"""Increasing maps of one number, chosen by a network: what the coupling layers of a flow move half of a row by.

Each takes `told` [..., numbers], what the network told of a number, and maps the number x [...] to y [...]; all zeros
are the identity, which a new network so begins at.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp

from simulator.checks.fields import Positive, Range, check
from simulator.types import Array, GenlossError


@dataclass(frozen=True, kw_only=True)
class Affine:
    """y = x·exp(s) + t, |s| below `limit` (Dinh et al. 2017, arXiv:1605.08803, eq. 4)."""

    limit: Positive = 3.0  # largest logarithm of a scale, which a hyperbolic tangent bends to

    __post_init__ = check

    @property
    def numbers(self) -> int:
        """What a network tells of each number: s and t."""
        return 2

    def forward(self, told: Array, x: Array) -> tuple[Array, Array]:
        """(y, log dy/dx), each the shape of x."""
        s = self._scale(told)
        return x * jnp.exp(s) + told[..., 1], s

    def inverse(self, told: Array, y: Array) -> Array:
        """x, the shape of y."""
        return (y - told[..., 1]) * jnp.exp(-self._scale(told))

    def _scale(self, told: Array) -> Array:
        return self.limit * jnp.tanh(told[..., 0] / self.limit)


@dataclass(frozen=True, kw_only=True)
class Spline:
    """A monotone rational-quadratic spline on [-bound, bound], the identity outside (Durkan et al. 2019,
    arXiv:1906.04032, eq. 4 to 8; its slope is 1 at both ends).
    """

    bins: Annotated[int, Range(2)] = 8  # K
    bound: Positive = 4.0  # B, in standard deviations of the base
    least: Annotated[float, Range(0, 1, above=True, below=True)] = (
        1e-3  # share of a bin of [-B, B], and slope at a knot
    )

    def __post_init__(self) -> None:
        check(self)
        if self.bins * self.least >= 1:
            raise GenlossError(f"{self.bins} bins of at least {self.least} do not fit into 1; lower `least` or `bins`.")

    @property
    def numbers(self) -> int:
        """What a network tells of each number: K widths, K heights, K - 1 slopes."""
        return 3 * self.bins - 1

    def forward(self, told: Array, x: Array) -> tuple[Array, Array]:
        """(y, log dy/dx), each the shape of x."""
        inside = jnp.abs(x) < self.bound
        at = jnp.where(inside, x, 0.0)
        knots = self.knots(told)
        left, width, low, height, slope, after = self._bin(knots, at, knots[0])
        steep = height / width
        u = (at - left) / width  # [...], in [0, 1]: ξ
        bend = u * (1 - u)
        divisor = steep + (slope + after - 2 * steep) * bend
        y = low + height * (steep * u * u + slope * bend) / divisor
        rise = after * u * u + 2 * steep * bend + slope * (1 - u) ** 2
        log_slope = 2 * jnp.log(steep) + jnp.log(rise) - 2 * jnp.log(divisor)
        return jnp.where(inside, y, x), jnp.where(inside, log_slope, 0.0)

    def inverse(self, told: Array, y: Array) -> Array:
        """x, the shape of y: of the quadratic equation the root in the bin, without cancellation."""
        inside = jnp.abs(y) < self.bound
        at = jnp.where(inside, y, 0.0)
        knots = self.knots(told)
        left, width, low, height, slope, after = self._bin(knots, at, knots[1])
        steep, up = height / width, at - low
        curved = up * (slope + after - 2 * steep)
        a, b, c = height * (steep - slope) + curved, height * slope - curved, -steep * up
        u = -2 * c / (b + jnp.sqrt(jnp.maximum(b * b - 4 * a * c, 0.0)))  # b > 0 wherever the spline rises
        return jnp.where(inside, left + jnp.clip(u, 0, 1) * width, y)

    def knots(self, told: Array) -> tuple[Array, Array, Array]:
        """(x, y, slopes) of the knots, [..., K + 1] each, from what a network told [..., 3 K - 1]."""
        widths, heights, slopes = jnp.split(told, [self.bins, 2 * self.bins], -1)
        one = math.log(math.expm1(1 - self.least))  # what softplus makes a slope of 1 of
        inner = self.least + jax.nn.softplus(slopes + one)  # [..., K - 1]
        ends = jnp.ones_like(inner[..., :1])
        return self._edges(widths), self._edges(heights), jnp.concatenate([ends, inner, ends], -1)

    def _edges(self, told: Array) -> Array:
        """[..., K + 1] from -B to B."""
        share = self.least + (1 - self.bins * self.least) * jax.nn.softmax(told, -1)  # [..., K], sums to 1
        inner = 2 * self.bound * jnp.cumsum(share, -1)[..., :-1] - self.bound  # [..., K - 1]
        end = jnp.full_like(inner[..., :1], self.bound)
        return jnp.concatenate([-end, inner, end], -1)

    def _bin(self, knots: tuple[Array, Array, Array], at: Array, edges: Array) -> tuple[Array, ...]:
        """(left, width, low, height, slope, next slope), each [...], of the bin between whose edges a number lies."""
        x, y, slopes = knots
        above = at[..., None] >= edges[..., 1:-1]  # [..., K - 1]
        first = jnp.ones_like(above[..., :1])
        # One of K is chosen by a mask, whose derivative is a product; that of an index would be a scatter.
        chosen = jnp.concatenate([first, above], -1) & ~jnp.concatenate([above, ~first], -1)  # [..., K]

        def pick(a: Array) -> Array:
            return jnp.where(chosen, a, 0.0).sum(-1)

        columns = x[..., :-1], jnp.diff(x), y[..., :-1], jnp.diff(y), slopes[..., :-1], slopes[..., 1:]
        return tuple(pick(a) for a in columns)
