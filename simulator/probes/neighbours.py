"""Nearest neighbours, and what they say of two sets of rows."""

from __future__ import annotations

import jax.numpy as jnp

from simulator.probes.features import squared_distances
from simulator.types import Array


def radii(x: Array, k: int) -> Array:
    """Squared distance of each row of x [n, d] to its k-th nearest neighbour other than itself, [n]."""
    n = x.shape[0]
    others = jnp.where(jnp.eye(n, dtype=bool), jnp.inf, squared_distances(x, x))
    if k > 8:
        return jnp.sort(others, axis=1)[:, k - 1]
    # Removing the smallest k - 1 times is several times faster on a CPU than sorting or top_k.
    for _ in range(k - 1):
        first = jnp.argmin(others, axis=1)  # [n]
        others = jnp.where(jnp.arange(n) == first[:, None], jnp.inf, others)
    return others.min(1)


def manifold(real: Array, fake: Array, k: int) -> dict[str, Array]:
    """Precision, recall, density and coverage of fake [m, d] against real [n, d] by balls of k nearest neighbours."""
    between = squared_distances(real, fake)  # [n, m]
    real_radius, fake_radius = radii(real, k), radii(fake, k)  # [n], [m]
    inside = between < real_radius[:, None]  # [n, m]: fake j lies in the ball of real i
    return {
        "precision": inside.any(0).mean(),
        "recall": (between < fake_radius).any(1).mean(),
        "density": inside.sum(0).mean() / k,
        "coverage": (between.min(1) < real_radius).mean(),
    }
