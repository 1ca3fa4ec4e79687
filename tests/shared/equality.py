"""Two trees of arrays, compared."""

from typing import Any

import jax
import numpy as np


def same(a: Any, b: Any) -> bool:
    """Equal to the bit."""
    return jax.tree.all(jax.tree.map(lambda x, y: np.array_equal(x, y, equal_nan=True), a, b))


def close(a: Any, b: Any, rtol: float = 1e-4, atol: float = 1e-5) -> bool:
    return jax.tree.all(jax.tree.map(lambda x, y: np.allclose(x, y, rtol=rtol, atol=atol), a, b))
