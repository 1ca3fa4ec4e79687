"""The Gaussian mixture, fitted by expectation maximisation: the simplest model with modes to lose."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from simulator.checks.fields import Count, Positive, check
from simulator.numerics.linalg import cholesky, scatter, solve_lower
from simulator.numerics.selection import draw
from simulator.pool import Pool
from simulator.types import Array, GenlossError, Key


class MixtureParams(NamedTuple):
    weights: Array  # [k], sum to 1
    means: Array  # [k, d]
    covs: Array  # [k, d, d]


@dataclass(frozen=True)
class Mixture:
    """Fits Σ_k π_k N(μ_k, Σ_k) with full covariances to weighted rows [n, d]; samples from it.

    Expectation maximisation (Dempster, Laird & Rubin 1977) with responsibilities times weights, from greedy k-means++
    seeds (Arthur & Vassilvitskii 2007) of the rows at hand: a fit owes nothing to the parameters it is shown.  Each
    covariance has `floor` added to its diagonal, so the fit has the mean of the rows and their covariance plus
    floor·I, whatever the number of components.
    """

    dim: Count = 2  # d
    components: Count = 8  # k
    steps: Count = 50  # of expectation maximisation
    floor: Positive | Array = 1e-3  # variance added to each diagonal, in squared units of the rows

    __post_init__ = check

    def init(self, key: Key) -> MixtureParams:
        """Equal modes of standard deviation 0.1 on the unit circle of the first two axes; on [-1, 1] where d = 1."""
        angle = 2 * math.pi * jnp.arange(self.components, dtype=jnp.float32) / self.components  # [k]
        means = jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1)  # [k, 2]
        if self.dim == 1:
            means = jnp.linspace(-1, 1, self.components)[:, None]  # [k, 1]
        return _equal(jnp.pad(means, ((0, 0), (0, max(0, self.dim - 2)))), 0.1)

    def fit(self, key: Key, params: MixtureParams, pool: Pool) -> tuple[MixtureParams, dict[str, Array]]:
        w, x = pool.weight, pool.rows  # [n], [n, d]

        def step(_: int, now: MixtureParams) -> MixtureParams:
            member = w[:, None] * jax.nn.softmax(_joint(now, x))  # [n, k]: rows of each component
            mass = member.sum(0)  # [k]
            share = member / jnp.maximum(mass, jnp.finfo(jnp.float32).tiny)  # [n, k], columns sum to 1
            means = share.T @ x  # [k, d]

            def spread(share: Array, mean: Array) -> Array:
                return scatter(share, x - mean) + self.floor * jnp.eye(self.dim)  # [d, d]

            return MixtureParams(mass / mass.sum(), means, jax.vmap(spread, (1, 0))(share, means))

        return jax.lax.fori_loop(0, self.steps, step, self._seeds(key, w, x)), {}

    def _seeds(self, key: Key, w: Array, x: Array) -> MixtureParams:
        """Rows far from each other as means: each the best of a few drawn in proportion to w·(distance to seeds)²."""
        trials = 2 + int(math.log(self.components))
        first = x[draw(jax.random.fold_in(key, self.components), w, ())]  # [d]

        def add(square: Array, key: Key) -> tuple[Array, Array]:
            potential = w * square  # [n]
            left = jnp.where(potential.sum() > 0, potential, w)  # every row is a seed already: draw any
            tried = x[draw(key, left, (trials,))]  # [trials, d]
            squares = jnp.minimum(square, ((x - tried[:, None]) ** 2).sum(-1))  # [trials, n]
            best = jnp.argmin(squares @ w)  # []
            return squares[best], tried[best]

        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(self.components - 1))
        square, others = jax.lax.scan(add, ((x - first) ** 2).sum(-1), keys)  # [n], [k - 1, d]
        variance = w @ square / (w.sum() * self.dim) + self.floor  # []: about the nearest seed
        return _equal(jnp.concatenate([first[None], others]), jnp.sqrt(variance))

    def sample(self, key: Key, params: MixtureParams, n: int) -> Array:
        """[n, d]."""
        first, second = jax.random.split(key)
        component = self._drawn(first, params, n)  # [n]
        noise = jax.random.normal(second, (n, self.dim))
        lower = jax.vmap(cholesky)(params.covs)[component]  # [n, d, d]
        return params.means[component] + jnp.einsum("nij,nj->ni", lower, noise)

    def _drawn(self, key: Key, params: MixtureParams, n: int) -> Array:
        """[n]: the component that each row is drawn from."""
        return draw(key, params.weights, (n,))

    def parents(self, key: Key, params: MixtureParams, pool: Pool, rows: Array, fit: Key, sample: Key) -> Array:
        """[n] int32: drawn in proportion to weight times responsibility of the component a row was drawn from."""
        component = self._drawn(jax.random.split(sample)[0], params, len(rows))  # [n]
        member = pool.weight[:, None] * jax.nn.softmax(_joint(params, pool.rows))  # [capacity, k]
        keys = jax.random.split(key, self.components)
        each = jax.vmap(lambda key, weight: draw(key, weight, (len(rows),)))(keys, member.T)  # [k, n]
        return each[component, jnp.arange(len(rows))]

    def log_prob(self, params: MixtureParams, rows: Array) -> Array:
        """[n], in nats."""
        return jax.nn.logsumexp(_joint(params, rows), axis=-1)


def _joint(params: MixtureParams, x: Array) -> Array:
    """log π_k + log N(x; μ_k, Σ_k), [n, k]."""

    def density(mean: Array, lower: Array) -> Array:
        white = solve_lower(lower, (x - mean).T)  # [d, n]
        return -0.5 * (white**2).sum(0) - jnp.log(jnp.diagonal(lower)).sum() - 0.5 * len(mean) * math.log(2 * math.pi)

    each = jax.vmap(density)(params.means, jax.vmap(cholesky)(params.covs))  # [k, n]
    return (jnp.log(params.weights)[:, None] + each).T


def _equal(means: Array, std: Array | float) -> MixtureParams:
    """Modes of equal weight and isotropic standard deviation at `means` [k, d]."""
    k, d = means.shape
    covs = jnp.broadcast_to(jnp.square(std) * jnp.eye(d), (k, d, d))
    return MixtureParams(jnp.full(k, 1 / k, jnp.float32), means, covs)


def grid_modes(side: int = 5, spacing: float = 2.0, std: float = 0.05) -> MixtureParams:
    """side² equal modes on a square grid about the origin, of standard deviation `std`.

    `Truth(Mixture(2, 25), grid_modes(5))` is the 25-mode mixture of MAD (arXiv:2307.01850).
    """
    if side < 1 or std <= 0:
        raise GenlossError(f"grid_modes(side={side}, std={std}) has no modes; give a side of at least 1 and a std > 0.")
    axis = (jnp.arange(side, dtype=jnp.float32) - (side - 1) / 2) * spacing  # [side]
    means = jnp.stack(jnp.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)  # [side², 2]
    return _equal(means, std)
