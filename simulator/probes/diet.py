"""What a generation was fed."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp

from simulator.checks.fields import Count
from simulator.numerics.selection import effective_size
from simulator.types import Array, Key, View


@dataclass(frozen=True)
class Diet:
    """Shares of the diet's mass, each in [0, 1], and its effective sample size in rows.

    real: share on real rows; birth [births]: share on synthetic rows by the generation that wrote them, the last
    entry holding all later ones too; effective_size: (Σw)²/Σw².

    real | share of the mass that is on real rows | [0, 1] | neither | O(n)
    effective_size | number of rows that would weigh as evenly, (Σw)²/Σw² | rows, [1, rows] | neither | O(n)
    birth | share of the mass on synthetic rows of each generation | [0, 1] | neither | O(n)
    rows | rows of the diet that weigh anything | rows | neither | O(n)
    """

    births: Count = 10  # generations told apart

    def __call__(self, key: Key, view: View) -> dict[str, Array]:
        diet = view.diet
        share = diet.weight / diet.weight.sum()  # [capacity]
        bins = jnp.clip(diet.birth, 0, self.births - 1)  # [capacity]
        return {
            "real": (share * diet.real).sum(),
            "effective_size": effective_size(diet.weight),
            "birth": jnp.zeros(self.births).at[bins].add(share * diet.synthetic),
            "rows": (diet.weight > 0).sum(),
        }
