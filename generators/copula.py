"""The Gaussian copula: every column as it is, and of how they hang together the correlations of normal scores."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jax.scipy.special import ndtr, ndtri

from generators.given import labels
from generators.marginals import even, layout_of, marginals, scores, unscored
from simulator.checks.fields import Count, check
from simulator.numerics.chance import fold_in, normal, uniform
from simulator.numerics.linalg import eigh
from simulator.pool import Pool, Rows
from simulator.sources.columns import Layout
from simulator.types import Array, GenlossError, Key


class CopulaParams(NamedTuple):
    at: Array  # [c, size]: quantiles of the columns of numbers
    shares: Array  # [s, K]: of the states of the others
    correlation: Array  # [c + s, c + s]


@dataclass(frozen=True, kw_only=True)
class Copula:
    """Fits rows of a table in closed form: (F_1⁻¹(Φ(g_1)), ...) with g ~ N(0, R) (Nelsen 2006; for tables with
    categories Patki et al. 2016, The Synthetic Data Vault).

    F_j are the weighted empirical distributions, at `size` quantiles, between which numbers are linear and whole
    numbers jump: none lies beyond those of the diet.  States follow their weighted shares, in the order of their
    numbers, which for kinds without an order means little; whether a number is missing is such a state.  R holds the
    weighted correlations of Φ⁻¹ of the middles of jumps, over rows where both are there; where that is no correlation
    matrix its negative eigenvalues are cut off.  Weights are rows: 2 is the row twice.
    """

    size: Count = 1000  # quantiles kept of each column: with as many rows in the diet, each of them
    layout: Layout | None = None  # of the rows; None takes the source's

    __post_init__ = check

    def shaped(self, rows: Rows) -> Copula:
        """The same for rows like these."""
        return dataclasses.replace(self, layout=Layout.of(rows)) if self.layout is None else self

    def init(self, key: Key) -> CopulaParams:
        """Independent standard normals, and states that are all as frequent."""
        layout = layout_of(self)
        c, shares = len(layout.whole), even(layout)  # [s, K]
        at = jnp.tile(ndtri((jnp.arange(self.size) + 0.5) / self.size), (c, 1))  # [c, size]
        return CopulaParams(at, shares, jnp.eye(c + len(shares)))

    def fit(self, key: Key, params: CopulaParams, pool: Pool) -> tuple[CopulaParams, dict[str, Array]]:
        layout, weight = layout_of(self), pool.weight  # [n]
        x, there, state = layout.read(pool.rows)  # [n, c], [n, c], [n, s]
        there = there & (weight > 0)[:, None]
        at, shares = marginals(layout, pool, self.size)  # [c, size], [s, K]
        middle = ndtri(jnp.clip(jnp.cumsum(shares, 1) - shares / 2, 1e-7, 1 - 1e-7))  # [s, K]
        told = jnp.take_along_axis(middle, state.T, 1).T  # [n, s]
        z = jnp.concatenate([scores(at, jnp.where(there, x, 0.0)), told], 1)  # [n, c + s]
        known = jnp.concatenate([there, jnp.ones_like(state, bool)], 1)  # [n, c + s]
        return CopulaParams(at, shares, correlations(z, known, weight)), {}

    @property
    def completes(self) -> bool:
        """Labels can be given, where rows have some."""
        return self.layout is not None and self.layout.classes > 0

    def sample(self, key: Key, params: CopulaParams, n: int, given: Rows | None = None) -> Rows:
        """Rows as the source serves them; their labels those of `given`, or drawn with all else.

        Given a label, g_l is a normal that lies within its share, and the rest follows the copula's law given g_l: what
        of g is uncorrelated with g_l stays as it was drawn.
        """
        layout, half = layout_of(self), root(params.correlation)  # [c + s, c + s]
        c, shares = len(layout.whole), params.shares  # [s, K]
        running = jnp.cumsum(shares, 1)  # [s, K]
        last = jnp.where(shares > 0, jnp.arange(layout.most), 0).max(1)  # [s]: sums end a rounding before 1
        stated = lambda g: jnp.minimum((ndtr(g)[..., None] >= running[:, :-1]).sum(-1), last)  # noqa: E731
        g = normal(key, (n, len(half))) @ half.T  # [n, c + s]
        state = stated(g[:, c:])  # [n, s]
        if given is not None:
            if not self.completes:
                raise GenlossError("These rows have no label, and nothing else can be given to a Copula.")
            label = labels(given, n, "A Copula")  # [n]
            share = running[-1, label] - shares[-1, label] * uniform(fold_in(key, 0), (n,))  # [n]
            told = jnp.where(label == state[:, -1], g[:, -1], ndtri(jnp.clip(share, 1e-7, 1 - 1e-7)))  # [n]
            g = g + (told - g[:, -1])[:, None] * (half @ half[-1])  # [n, c + s]
            state = stated(g[:, c:]).at[:, -1].set(label)
        return layout.written(unscored(params.at, g[:, :c], layout.whole), state)


def correlations(z: Array, known: Array, weight: Array) -> Array:
    """Weighted correlations [m, m] of columns z [n, m], each over rows that know both; 0 with one that is constant."""
    mass = weight[:, None] * known  # [n, m]
    mean = (mass * z).sum(0) / jnp.maximum(mass.sum(0), jnp.finfo(jnp.float32).tiny)  # [m]
    z = jnp.where(known & (weight > 0)[:, None], z - mean, 0.0)  # [n, m]
    both = jnp.matmul((weight[:, None] * z).T, z, precision="highest")  # [m, m]
    square = jnp.matmul((weight[:, None] * z * z).T, known.astype(jnp.float32), precision="highest")  # [m, m]
    varies = square > 1e-6 * jnp.maximum(mass.T @ known, jnp.finfo(jnp.float32).tiny)  # [m, m]: beyond rounding
    scale = jnp.sqrt(square * square.T)
    found = jnp.where(varies & varies.T, both / jnp.where(scale > 0, scale, 1.0), 0.0)
    return jnp.where(jnp.eye(len(found), dtype=bool), 1.0, found)


def root(correlation: Array) -> Array:
    """A [m, m] with A Aᵀ the correlation matrix nearest in its eigenvalues, whose rows have length 1."""
    spread, vectors = eigh(correlation)  # [m], [m, m]
    half = vectors * jnp.sqrt(jnp.maximum(spread, 0.0))  # [m, m]
    return half / jnp.linalg.norm(half, axis=1, keepdims=True)
