"""Are modes lost without any loss of variance?  (Alemohammad et al., arXiv:2307.01850, the mixture of 25 modes)

    genloss run mad_mixture
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.reproductions import Finding, Reproduction
from generators.kde import KDE
from generators.mixture import Mixture, grid_modes
from simulator import Chain, Record, Sweep, Truth, ensemble, simulate, theory
from simulator.probes import Fidelity
from simulator.probes.features import squared_distances
from simulator.recipe import Replace
from simulator.types import Array, Key, Probe, View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS = 2000
TRUTH = grid_modes(5, spacing=2.0, std=0.05)
VARIANCE = 16 + 2 * 0.05**2  # tr Σ of the truth


@dataclass(frozen=True)
class Modes:
    """Which modes of the truth the estimate still holds, and how far it spreads.

    held: modes that are the nearest to some centre; captured: modes with a centre within three of their standard
    deviations; close: share of centres that are so close to one; variance: tr Σ of the estimate, in the truth's.
    """

    std: float = 0.05

    def __call__(self, key: Key, view: View) -> dict[str, Array]:
        rows = view.params.rows  # [size, 2]
        square = squared_distances(rows, TRUTH.means)  # [size, 25]
        close = square < (3 * self.std) ** 2  # [size, 25]: at most one each
        nearest = jnp.argmin(square, 1)  # [size]
        spread = rows.var(0).sum() + rows.shape[1] * view.generator.bandwidth**2
        return {
            "held": jnp.zeros(square.shape[1]).at[nearest].set(1.0).sum(),
            "captured": close.any(0).sum(),
            "close": close.any(1).mean(),
            "variance": spread / VARIANCE,
        }


@dataclass(frozen=True)
class Every:
    """Another probe at generations 1, k, 2k, ...; NaN between them, at no cost."""

    probe: Probe
    generations: int = 50  # k

    def __call__(self, key: Key, view: View) -> Any:
        def skipped() -> Any:
            shapes = jax.eval_shape(lambda: self.probe(key, view))
            return jax.tree.map(lambda a: jnp.full(a.shape, jnp.nan, a.dtype), shapes)

        due = (view.t == 0) | ((view.t + 1) % self.generations == 0)
        return jax.lax.cond(due, lambda: self.probe(key, view), skipped)


chain = Chain(
    source=Truth(Mixture(2, 25), TRUTH),
    generator=KDE(2, 0.0, size=ROWS),
    recipe=Replace(),
    probes={"modes": Modes(), "fidelity": Every(Fidelity())},
    real=ROWS,
    rows=ROWS,
    held_out=500,
)
sweep = Sweep(chain, "generator.bandwidth", {"copies": 0.0, "balanced": round(math.sqrt(VARIANCE / (2 * ROWS)), 4)})
generations = 2000
replicates = 32
every = 2000
