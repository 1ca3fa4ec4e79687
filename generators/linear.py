"""Linear regression: the model whose collapse is proved in arXiv:2404.01413 (simulator/theory/regression.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer

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

    dim: int = 1  # d
    noise: float | Array = 1.0  # σ, the standard deviation of y given x; known, not fitted
    ridge: float | Array = 0.0  # penalty ridge·‖coef‖² on the weighted sum of squares

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise GenlossError(f"Linear(dim={self.dim}) must have at least 1 feature.")
        for name in ("noise", "ridge"):
            value = getattr(self, name)
            if not isinstance(value, Tracer) and value < 0:
                raise GenlossError(f"Linear({name}={value}) must be at least 0.")

    def init(self, key: Key) -> LinearParams:
        """A coefficient vector of norm 1, all features alike."""
        return LinearParams(jnp.full(self.dim, self.dim**-0.5, jnp.float32))

    def fit(self, key: Key, params: LinearParams, pool: Pool) -> tuple[LinearParams, dict[str, Array]]:
        x, y = pool.rows["x"], pool.rows["y"]  # [n, d], [n]
        weighted = pool.weight[:, None] * x  # [n, d]
        # Normal equations square the condition number: products must not be rounded to tensor-float on accelerators.
        with jax.default_matmul_precision("highest"):
            values, vectors = jnp.linalg.eigh(weighted.T @ x)  # [d], [d, d]
            seen = values > 4 * self.dim * jnp.finfo(values.dtype).eps * values[-1]  # [d]: directions with rows in them
            inverse = jnp.where(seen, 1 / jnp.where(seen, values + self.ridge, 1.0), 0.0)  # [d]

            def solve(right: Array) -> Array:
                return vectors @ (inverse * (vectors.T @ right))  # [d]

            coef = solve(weighted.T @ y)  # [d]
            # One refinement with the residuals of the rows wins back most of the digits that squaring costs.
            coef = coef + solve(weighted.T @ (y - x @ coef) - self.ridge * coef)
        return LinearParams(coef), {}

    def sample(self, key: Key, params: LinearParams, n: int) -> dict[str, Array]:
        """{"x": [n, d], "y": [n]}."""
        on_x, on_y = jax.random.split(key)
        x = jax.random.normal(on_x, (n, self.dim))
        return {"x": x, "y": x @ params.coef + self.noise * jax.random.normal(on_y, (n,))}

    def log_prob(self, params: LinearParams, rows: dict[str, Array]) -> Array:
        """[n], in nats: log p(x) + log p(y | x)."""
        normal = jax.scipy.stats.norm.logpdf
        return normal(rows["x"]).sum(-1) + normal(rows["y"], rows["x"] @ params.coef, self.noise)
