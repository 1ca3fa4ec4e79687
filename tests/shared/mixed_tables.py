"""Rows of tables with columns of every sort."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from simulator.sources.columns import Layout

MIXED = Layout(numbers=2, wholes=1, kinds=(3, 2), gaps=True, classes=2)


def mixed(n: int, seed: int = 0, target: str = "label") -> dict[str, Any]:
    """Numbers that hang together, one skewed, one with an atom at 0, with gaps; kinds, one rare; a target."""
    chance = np.random.default_rng(seed)
    base = chance.normal(size=n)
    numbers = np.stack([np.exp(base), np.maximum(base + chance.normal(size=n), 0)], 1)
    wholes = np.round(3 * base + chance.normal(size=n))[:, None]
    missing = chance.random((n, 3)) < [0.2, 0.0, 0.3]
    first = np.where(chance.random(n) < 0.04, 2, base + chance.normal(size=n) > 0).astype(int)
    second = (base + first + chance.normal(size=n) > 1).astype(int)
    rows = {
        "numbers": np.where(missing[:, :2], 0, numbers).astype(np.float32),
        "wholes": np.where(missing[:, 2:], 0, wholes).astype(np.int32),
        "kinds": (np.eye(3, dtype=bool)[first], np.eye(2, dtype=bool)[second]),
        "missing": missing,
    }
    y = base + chance.normal(size=n)
    rows[target] = (y > 0.5).astype(np.int32) if target == "label" else y.astype(np.float32)
    return jax.tree.map(jnp.asarray, rows)
