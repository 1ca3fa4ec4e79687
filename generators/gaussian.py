"""The Gaussian: the one model whose collapse is known in closed form in every regime (simulator/theory/gaussian.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from simulator.pool import Pool
from simulator.types import Array, GenlossError, Key


class GaussianParams(NamedTuple):
    mean: Array  # [d]
    cov: Array  # [d, d]

    @property
    def variances(self) -> Array:
        """[d]."""
        return jnp.diagonal(self.cov, axis1=-2, axis2=-1)

    @property
    def log_det(self) -> Array:
        """[], in nats; -inf where a direction is lost."""
        return jnp.linalg.slogdet(self.cov)[1]


@dataclass(frozen=True)
class Gaussian:
    """Fits mean and covariance of weighted rows [n, d]; samples N(mean, bias·cov).

    m = Σ w x / W and S = Σ w (x - m)(x - m)ᵀ / (W - ddof), W = Σ w, so that weights count rows.
    """

    dim: int = 1  # d
    ddof: int = 0  # 0: maximum likelihood; 1: unbiased covariance
    bias: float | Array = 1.0  # λ: samples come from N(m, λS) (sampling bias, arXiv:2307.01850)

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise GenlossError(f"Gaussian(dim={self.dim}) must have at least 1 dimension.")

    def init(self, key: Key) -> GaussianParams:
        """The standard normal."""
        return GaussianParams(jnp.zeros(self.dim), jnp.eye(self.dim))

    def fit(self, key: Key, params: GaussianParams, pool: Pool) -> tuple[GaussianParams, dict[str, Array]]:
        w, x = pool.weight, pool.rows  # [n], [n, d]
        total = w.sum()
        mean = w @ x / total  # [d]
        centred = jnp.sqrt(w)[:, None] * (x - mean)  # [n, d]
        return GaussianParams(mean, centred.T @ centred / (total - self.ddof)), {}

    def sample(self, key: Key, params: GaussianParams, n: int) -> Array:
        """[n, d]."""
        noise = jax.random.normal(key, (n, self.dim))
        return params.mean + jnp.sqrt(self.bias) * noise @ factor(params.cov).T

    def log_prob(self, params: GaussianParams, rows: Array) -> Array:
        """[n], in nats."""
        return jnp.asarray(jax.scipy.stats.multivariate_normal.logpdf(rows, params.mean, params.cov))


def factor(cov: Array) -> Array:
    """Lower triangular L with L Lᵀ = cov, [d, d], also where cov is singular: a column without variance left is zero.

    Collapsed covariances are the subject here, and the library's Cholesky factor of one is NaN.
    """
    d = cov.shape[-1]
    if d == 1:
        return jnp.sqrt(cov)

    def column(j: Array, lower: Array) -> Array:
        rest = cov[:, j] - lower @ lower[j]  # [d]: what the columns before j leave of column j
        left = rest[j] > 4 * jnp.finfo(cov.dtype).eps * cov[j, j]
        scaled = rest / jnp.sqrt(jnp.where(left, rest[j], 1.0))
        return lower.at[:, j].set(jnp.where(left & (jnp.arange(d) >= j), scaled, 0.0))

    return jax.lax.fori_loop(0, d, column, jnp.zeros_like(cov))
