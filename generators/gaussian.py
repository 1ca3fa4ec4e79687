"""The Gaussian: the one model whose collapse is known in closed form in every regime (simulator/theory/gaussian.py)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from simulator.checks.fields import Count, NonNegative, check
from simulator.numerics.chance import bartlett, normal
from simulator.numerics.linalg import COLUMNS, cholesky, moment, scatter, solve_lower
from simulator.numerics.selection import summed
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
        lower = cholesky(self.cov) if self.cov.shape[-1] > 1 else jnp.sqrt(self.cov)  # [d, d]
        root = jnp.diagonal(lower, axis1=-2, axis2=-1)  # [d]
        return jnp.where(jnp.isnan(root).any(-1), -jnp.inf, 2 * jnp.log(root).sum(-1))


@dataclass(frozen=True)
class Gaussian:
    """Fits mean and covariance of weighted rows [n, d]; samples N(mean, bias·cov).

    m = Σ w x / W and S = Σ w (x - m)(x - m)ᵀ / (W - ddof), W = Σ w, so that weights count rows.
    """

    dim: Count = 1  # d
    ddof: int = 0  # 0: maximum likelihood; 1: unbiased covariance
    bias: NonNegative | Array = 1.0  # λ: samples come from N(m, λS) (sampling bias, arXiv:2307.01850)

    __post_init__ = check

    def init(self, key: Key) -> GaussianParams:
        """The standard normal."""
        return GaussianParams(jnp.zeros(self.dim), jnp.eye(self.dim))

    def fit(self, key: Key, params: GaussianParams, pool: Pool) -> tuple[GaussianParams, dict[str, Array]]:
        total = pool.weight.sum()
        block = 4096 if self.dim <= COLUMNS else 2048  # by columns, wider blocks are faster
        mean = summed(moment, pool.weight, pool.rows, block=block) / total  # [d]
        square = summed(lambda w, x: scatter(w, x - mean), pool.weight, pool.rows, block=block)  # [d, d]
        return GaussianParams(mean, square / (total - self.ddof)), {}

    def sample(self, key: Key, params: GaussianParams, n: int) -> Array:
        """[n, d]."""
        noise = normal(key, (n, self.dim))
        return params.mean + jnp.sqrt(self.bias) * noise @ factor(params.cov).T

    @property
    def summary(self) -> GaussianSummary:
        """For `Cohort`."""
        return GaussianSummary(self)

    def log_prob(self, params: GaussianParams, rows: Array) -> Array:
        """[n], in nats."""
        lower = cholesky(params.cov)  # [d, d]
        z = solve_lower(lower, (rows - params.mean).T)  # [d, n]
        scale = jnp.log(jnp.diagonal(lower)).sum() + 0.5 * self.dim * math.log(2 * math.pi)
        return -0.5 * (z**2).sum(0) - scale


class FactoredParams(NamedTuple):
    """Σ = U diag(exp 2s) Uᵀ: exact long after the covariance itself underflows."""

    mean: Array  # [d]
    unit: Array  # U [d, d], lower triangular with ones on its diagonal
    log_scale: Array  # s [d]; -inf in a direction that is lost

    @property
    def lower(self) -> Array:
        """The triangular factor of the covariance, [d, d]."""
        return self.unit * jnp.exp(self.log_scale)

    @property
    def cov(self) -> Array:
        """[d, d]."""
        return self.lower @ self.lower.T

    @property
    def variances(self) -> Array:
        """[d]."""
        return (self.lower**2).sum(-1)

    @property
    def log_det(self) -> Array:
        """[], in nats."""
        return 2 * self.log_scale.sum(-1)


class GaussianCohort(NamedTuple):
    """The sufficient statistic of a cohort; its scatter Σ (x - mean)(x - mean)ᵀ both whole and as U diag(exp 2s) Uᵀ."""

    n: Array  # [] rows in the cohort
    mean: Array  # [d]
    scatter: Array  # [d, d]
    unit: Array  # U [d, d]
    log_scale: Array  # s [d]


@dataclass(frozen=True)
class GaussianSummary:
    """Cohorts of normal rows: mean ~ N(m, Σ/n) and scatter ~ Wishart(Σ, n - 1), independent of each other.

    The scatter of n rows is L A Aᵀ Lᵀ with L Lᵀ = Σ and Bartlett's triangular A (`chance.bartlett`).  So a chain under
    replace is a product of Bartlett factors, and no covariance is ever decomposed.
    """

    model: Gaussian

    def check(self, n: int) -> None:
        if n <= self.model.dim:
            raise GenlossError(
                f"A cohort of {n} rows does not span {self.model.dim} dimensions; give it at least "
                f"{self.model.dim + 1}, or run the chain row by row."
            )

    def init(self, key: Key) -> FactoredParams:
        d = self.model.dim
        return FactoredParams(jnp.zeros(d), jnp.eye(d), jnp.zeros(d))

    def draw(self, key: Key, params: FactoredParams, n: Array) -> GaussianCohort:
        below, square, z = bartlett(key, n - 1 - jnp.arange(self.model.dim, dtype=jnp.float32))  # [d, d], [d], [d]
        scale = 0.5 * jnp.log(jnp.asarray(self.model.bias, jnp.float32)) + params.log_scale  # [d]
        mean = params.mean + params.unit @ (jnp.exp(scale) * z) / jnp.sqrt(n)  # [d]
        after = scale + 0.5 * jnp.log(square)  # [d]
        # U' = U B with B_ij = exp(s_i) A_ij exp(-s'_j): unit triangular again, whatever the scale
        ratio = jnp.exp(scale[:, None] - jnp.where(jnp.isneginf(after), jnp.inf, after))  # [d, d]
        unit = params.unit @ jnp.where(below != 0, below * ratio, jnp.eye(self.model.dim))  # [d, d]
        lower = unit * jnp.exp(after)  # [d, d]
        return GaussianCohort(jnp.asarray(n, jnp.float32), mean, lower @ lower.T, unit, after)

    def merge(self, old: GaussianCohort, new: GaussianCohort, share: Array) -> GaussianCohort:
        """A cohort of the same count that carries `share` of `new` in mean and second moment."""
        apart = new.mean - old.mean  # [d]
        between = share * (1 - share) * new.n * jnp.outer(apart, apart)  # [d, d]
        scatter = (1 - share) * old.scatter + share * new.scatter + between
        return new._replace(mean=old.mean + share * apart, scatter=scatter)

    def fit(self, params: FactoredParams, pool: Pool) -> FactoredParams:
        w, rows = pool.weight, pool.rows  # [cohorts]
        if w.shape[0] == 1:  # one data set of one cohort: its own factor serves
            scale = 0.5 * (jnp.log(w[0]) - jnp.log(w[0] * rows.n[0] - self.model.ddof))
            return FactoredParams(rows.mean[0], rows.unit[0], rows.log_scale[0] + scale)
        mass = w * rows.n  # [cohorts]
        mean = mass @ rows.mean / mass.sum()  # [d]
        within = jnp.tensordot(w, rows.scatter, 1)  # [d, d]
        cov = (within + scatter(mass, rows.mean - mean)) / (mass.sum() - self.model.ddof)
        # Raised by what rounding leaves uncertain, so that a covariance of cohorts has a factor.
        variances = jnp.diagonal(cov) * (self.model.dim * jnp.finfo(cov.dtype).eps)  # [d]
        lower = cholesky(cov + jnp.diag(variances)) if self.model.dim > 1 else jnp.sqrt(cov)
        diagonal = jnp.diagonal(lower)  # [d]
        return FactoredParams(mean, lower / diagonal, jnp.log(diagonal))


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
