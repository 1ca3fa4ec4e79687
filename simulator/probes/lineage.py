"""Whose descendants are still here: rows followed back through the rows they were made from."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from simulator.checks.fields import Count, Whole, check
from simulator.numerics.selection import effective_size
from simulator.pool import NONE, aged
from simulator.probes.finite import where_finite
from simulator.types import Array, Key, View


@dataclass(frozen=True)
class Lineage:
    """The ancestry of the diet and of what is said (`samples`), where the generator says which row a row came from.

    survivors: real rows with descendants (or themselves) among them; effective: (Σa)²/Σa² of the masses a that descend
    from each, in rows; real: share of the mass that descends from a real row, in [0, 1], the rest having begun in a
    prior; time: fits since the last common ancestor of all of them, `follows` where that is as far back or was never;
    share [shares]: share of the mass that descends from each real row, in the order they were served.

    A chain with this probe keeps 4·(1 + follows) bytes more for every row, in the pool and in its checkpoints.
    (Kingman 1982, doi:10.1016/0304-4149(82)90011-4, for how such times are distributed when rows are drawn alike.)

    diet.survivors | real rows with descendants in the diet | rows | higher is more diverse | O(n log n)
    diet.effective | (Σa)²/Σa² of the masses that descend from each | rows | higher is more diverse | O(n log n)
    diet.real | share of the mass of the diet that descends from a real row | [0, 1] | neither | O(n)
    diet.time | fits since the last common ancestor of the diet | [0, follows] | higher is more diverse | O(n)
    diet.share | share that descends from each real row, with `shares` | [0, 1] | neither | O(n)
    samples.survivors | real rows with descendants in what is said | rows | higher is more diverse | O(n log n)
    samples.effective | (Σa)²/Σa² of the masses that descend from each | rows | higher is more diverse | O(n log n)
    samples.real | share of the mass of what is said that descends from a real row | [0, 1] | neither | O(n)
    samples.time | fits since the last common ancestor of what is said | [0, follows] | higher is more diverse | O(n)
    samples.share | share that descends from each real row, with `shares` | [0, 1] | neither | O(n)
    """

    follows: Count = 10  # fits back that the last common ancestor is looked for
    shares: Whole = 0  # real rows whose share is given

    __post_init__ = check

    def __call__(self, key: Key, view: View) -> dict[str, dict[str, Array]]:
        diet, said = view.diet, view.ancestors
        assert diet.ancestors is not None and said is not None, "a chain keeps ancestors where a probe follows them"
        return {
            "diet": self.of(aged(diet.ancestors, diet.age(view.t)), diet.weight),
            "samples": self.of(said, jnp.ones(said.shape[0])),
        }

    def of(self, lines: Array, weight: Array) -> dict[str, Array]:
        """Of rows with these lines of descent [n, 1 + follows] and weights [n]."""
        n, real, line = len(weight), lines[:, 0], lines[:, 1 : 1 + self.follows]  # [n], [n, follows]
        known = jnp.where(real != NONE, weight, 0.0)  # [n]
        together, masses = jax.lax.sort((real, known), num_keys=1)  # [n]: rows of one real ancestor side by side
        group = jnp.cumsum(jnp.diff(together, prepend=together[:1]) != 0)  # [n]: number of their ancestor
        mass = jnp.zeros(n).at[group].add(masses)  # [n]: of each ancestor
        first = line[jnp.argmax(weight > 0)]  # [follows]: ancestors of some row
        shared = ((line == first) | (weight <= 0)[:, None]).all(0) & (first != NONE)  # [follows]
        found = {
            "survivors": (mass > 0).sum(),
            "effective": effective_size(mass),
            "real": known.sum() / weight.sum(),
            "time": jnp.where(shared.any(), jnp.argmax(shared), self.follows),
        }
        if self.shares:
            place = jnp.where(real != NONE, real, self.shares)  # [n]: beyond the end, which drops it
            found["share"] = jnp.zeros(self.shares).at[place].add(known, mode="drop") / weight.sum()
        return where_finite(found, weight)
