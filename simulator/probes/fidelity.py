"""How a generation's samples compare with held-out real rows, in a feature space."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from simulator.pool import Rows
from simulator.probes.features import flat, squared_distances
from simulator.types import Array, GenlossError, Key, View


@dataclass(frozen=True)
class Fidelity:
    """Precision, recall, density, coverage, Fréchet and energy distance to the reference.

    The sets compared are of equal size: the larger is cut to the first rows of the smaller.  precision, recall (share
    in [0, 1]; higher is better): Kynkäänniemi et al. 2019, arXiv:1904.06991; density (>= 0), coverage ([0, 1]):
    Naeem et al. 2020, arXiv:2002.09797; frechet: squared 2-Wasserstein distance between Gaussians with the sets'
    moments, squared units of the feature; energy: 2E‖X-Y‖ - E‖X-X'‖ - E‖Y-Y'‖, units of the feature.
    """

    features: Callable[[Rows], Array] = flat
    neighbours: int = 5  # k of the k-NN balls

    def __post_init__(self) -> None:
        if self.neighbours < 1:
            raise GenlossError(f"Fidelity(neighbours={self.neighbours}) must be at least 1.")

    def __call__(self, key: Key, view: View) -> dict[str, Array]:
        # The reference is a constant of the program: without the barrier the compiler would compute its distances.
        real = jax.lax.optimization_barrier(view.embed(self.features, view.reference))  # [n, d]
        fake = view.embed(self.features, view.synthetic)  # [m, d]
        n = min(real.shape[0], fake.shape[0])
        real, fake = real[:n], fake[:n]
        rr, ff, rf = squared_distances(real, real), squared_distances(fake, fake), squared_distances(real, fake)
        return {
            **manifold(rr, ff, rf, min(self.neighbours, n - 1)),
            "frechet": frechet(real, fake),
            "energy": energy(rr, ff, rf),
        }


def manifold(rr: Array, ff: Array, rf: Array, k: int) -> dict[str, Array]:
    """The four from squared distances real-real [n, n], fake-fake [m, m] and real-fake [n, m]."""
    real_radius, fake_radius = kth(rr, k), kth(ff, k)  # [n], [m]
    inside = rf < real_radius[:, None]  # [n, m]: fake j lies in the ball of real i
    return {
        "precision": inside.any(0).mean(),
        "recall": (rf < fake_radius).any(1).mean(),
        "density": inside.sum(0).mean() / k,
        "coverage": (rf.min(1) < real_radius).mean(),
    }


def kth(squared: Array, k: int) -> Array:
    """Squared distance of each row to its k-th nearest neighbour other than itself, [n], from distances [n, n]."""
    n = squared.shape[0]
    others = jnp.where(jnp.eye(n, dtype=bool), jnp.inf, squared)
    if k > 8:
        return jnp.sort(others, axis=1)[:, k - 1]
    # Removing the smallest k - 1 times is several times faster on a CPU than sorting or top_k.
    for _ in range(k - 1):
        first = jnp.argmin(others, axis=1)  # [n]
        others = jnp.where(jnp.arange(n) == first[:, None], jnp.inf, others)
    return others.min(1)


def frechet(a: Array, b: Array) -> Array:
    """‖μa - μb‖² + tr(Ca + Cb - 2(Ca^½ Cb Ca^½)^½), by two symmetric eigendecompositions; rows [n, d]."""
    cov_a, cov_b = jnp.atleast_2d(jnp.cov(a.T)), jnp.atleast_2d(jnp.cov(b.T))  # [d, d]
    values, vectors = jnp.linalg.eigh(cov_a)
    root = (vectors * jnp.sqrt(jnp.maximum(values, 0))) @ vectors.T  # [d, d]: Ca^½
    cross = jnp.linalg.eigvalsh(root @ cov_b @ root)  # [d]
    distance = ((a.mean(0) - b.mean(0)) ** 2).sum() + jnp.trace(cov_a) + jnp.trace(cov_b)
    return distance - 2 * jnp.sqrt(jnp.maximum(cross, 0)).sum()


def energy(aa: Array, bb: Array, ab: Array) -> Array:
    """2E‖X-Y‖ - E‖X-X'‖ - E‖Y-Y'‖ (Székely & Rizzo 2013) from squared distances, unbiased: without the diagonals."""

    def within(squared: Array) -> Array:
        n = squared.shape[0]
        return jnp.sqrt(squared * (1 - jnp.eye(n))).sum() / (n * (n - 1))

    return 2 * jnp.sqrt(ab).mean() - within(aa) - within(bb)
