"""The smallest generator that trains step by step, for tests of what is made of its weights."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from generators.train import Trained


@dataclass(frozen=True, kw_only=True)
class Middle(Trained):
    """A point on the line, with the squared distance of each row for a loss, and a share fitted in closed form."""

    def init(self, key: Any) -> Any:
        return {"at": jnp.float32(0.5), "share": jnp.zeros(2)}

    def closed_form(self, params: Any, pool: Any) -> Any:
        return {**params, "share": jnp.array([0.25, 0.75])}

    def losses(self, key: Any, params: Any, rows: jax.Array) -> jax.Array:
        return (rows - params["at"]) ** 2  # [n, 1]: of each value

    def sample(self, key: Any, params: Any, n: int) -> jax.Array:
        return params["at"] + jax.random.normal(key, (n, 1))

    @staticmethod
    def where(key: Any, view: Any) -> jax.Array:
        """A probe."""
        return view.params["at"]
