"""Linear regression: the model whose collapse is proved in arXiv:2404.01413 (simulator/theory/regression.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from simulator.checks.fields import Count, NonNegative, check
from simulator.numerics.chance import bartlett, normal
from simulator.numerics.linalg import cholesky, eigh
from simulator.numerics.selection import summed
from simulator.pool import Pool
from simulator.types import Array, GenlossError, Key


class LinearParams(NamedTuple):
    coef: Array  # [d]


@dataclass(frozen=True)
class Linear:
    """Fits weighted least squares to rows {"x": [n, d], "y": [n]}; samples x ~ N(0, I), y = x·coef + noise·N(0, 1).

    coef = (Σ w x xᵀ + ridge·I)⁺ Σ w x y; the pseudo-inverse makes it the solution of least norm where rows do not
    determine it (fewer rows than features).  The risk in excess of the noise is E‖coef - truth‖².
    """

    dim: Count = 1  # d
    noise: NonNegative | Array = 1.0  # σ, the standard deviation of y given x; known, not fitted
    ridge: NonNegative | Array = 0.0  # penalty ridge·‖coef‖² on the weighted sum of squares

    __post_init__ = check

    def init(self, key: Key) -> LinearParams:
        """A coefficient vector of norm 1, all features alike."""
        return LinearParams(jnp.full(self.dim, self.dim**-0.5, jnp.float32))

    def fit(self, key: Key, params: LinearParams, pool: Pool) -> tuple[LinearParams, dict[str, Array]]:
        # Normal equations square the condition number: products must not be rounded to tensor-float on accelerators.
        with jax.default_matmul_precision("highest"):
            gram = summed(lambda w, rows: (w[:, None] * rows["x"]).T @ rows["x"], pool.weight, pool.rows)  # [d, d]
            values, vectors = eigh(gram)  # [d], [d, d]
            seen = values > 4 * self.dim * jnp.finfo(values.dtype).eps * values[-1]  # [d]: directions with rows in them
            inverse = jnp.where(seen, 1 / jnp.where(seen, values + self.ridge, 1.0), 0.0)  # [d]

            def solve(coef: Array) -> Array:
                """What the residuals of the rows add to `coef`, [d]."""
                left = summed(
                    lambda w, rows: (w * (rows["y"] - rows["x"] @ coef)) @ rows["x"], pool.weight, pool.rows
                )  # [d]
                return vectors @ (inverse * (vectors.T @ (left - self.ridge * coef)))  # [d]

            coef = solve(jnp.zeros(self.dim))  # [d]
            coef = coef + solve(coef)  # one refinement wins back most of the digits that squaring costs
        return LinearParams(coef), {}

    def sample(self, key: Key, params: LinearParams, n: int) -> dict[str, Array]:
        """{"x": [n, d], "y": [n]}."""
        z = normal(key, (n, self.dim + 1))  # [n, d + 1]: covariates, and the noise of y
        x = z[:, :-1]  # [n, d]
        return {"x": x, "y": x @ params.coef + self.noise * z[:, -1]}

    @property
    def summary(self) -> LinearSummary:
        """For `Cohort`."""
        return LinearSummary(self)

    def log_prob(self, params: LinearParams, rows: dict[str, Array]) -> Array:
        """[n], in nats: log p(x) + log p(y | x)."""
        normal = jax.scipy.stats.norm.logpdf
        return normal(rows["x"]).sum(-1) + normal(rows["y"], rows["x"] @ params.coef, self.noise)


class LinearCohort(NamedTuple):
    """The normal equations of a cohort, whole and as a triangular factor: XᵀX = A Aᵀ, Xᵀy = A target."""

    gram: Array  # XᵀX [d, d]
    moment: Array  # Xᵀy [d]
    lower: Array  # A [d, d]
    target: Array  # [d]


@dataclass(frozen=True)
class LinearSummary:
    """Cohorts of rows x ~ N(0, I), y = x·coef + noise: XᵀX ~ Wishart(I, n), and Xᵀy = XᵀX coef + noise·A z.

    A is Bartlett's factor (`chance.bartlett`) and z standard normal: given X, Xᵀε is N(0, noise²·XᵀX).  Of one cohort
    the coefficients are the solution of Aᵀ coef = target, without squaring.
    """

    model: Linear

    def check(self, n: int) -> None:
        if n < self.model.dim:
            raise GenlossError(
                f"A cohort of {n} rows does not determine {self.model.dim} coefficients; give it at least "
                f"{self.model.dim}, or run the chain row by row."
            )

    def init(self, key: Key) -> LinearParams:
        return self.model.init(key)

    def draw(self, key: Key, params: LinearParams, n: Array) -> LinearCohort:
        below, square, z = bartlett(key, n - jnp.arange(self.model.dim, dtype=jnp.float32))  # [d, d], [d], [d]
        lower = below + jnp.diag(jnp.sqrt(square))  # [d, d]
        target = params.coef @ lower + self.model.noise * z  # [d]
        return LinearCohort(lower @ lower.T, lower @ target, lower, target)

    def merge(self, old: LinearCohort, new: LinearCohort, share: Array) -> LinearCohort:
        gram, moment = (a + share * (b - a) for a, b in ((old.gram, new.gram), (old.moment, new.moment)))
        return new._replace(gram=gram, moment=moment)

    def fit(self, params: LinearParams, pool: Pool) -> LinearParams:
        solve = jax.scipy.linalg.solve_triangular
        w, rows, ridge = pool.weight, pool.rows, self.model.ridge  # [cohorts]
        if w.shape[0] == 1 and isinstance(ridge, int | float) and ridge == 0:
            return LinearParams(solve(rows.lower[0], rows.target[0], trans="T", lower=True))
        with jax.default_matmul_precision("highest"):
            gram = jnp.tensordot(w, rows.gram, 1) + ridge * jnp.eye(self.model.dim)  # [d, d]
            lower = cholesky(gram)  # [d, d]
            half = solve(lower, w @ rows.moment, lower=True)  # [d]
        return LinearParams(solve(lower, half, trans="T", lower=True))
