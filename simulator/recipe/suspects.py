"""Mitigations for a diet whose rows do not say where they come from: drop suspects, weigh them less, keep what differs.

They act on real rows as on synthetic ones, and follow whatever made the diet: `Then(Contaminate(0.4), DropSuspects())`.
What is suspected is told by a function `score(rows) -> [n]`, or learned by `Detector` from rows of known origin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import jax
import jax.numpy as jnp

from simulator.checks.fields import Positive, Range, Share, check
from simulator.numerics.schedule import Number, at
from simulator.numerics.selection import choose, draw
from simulator.pool import Pool, Rows
from simulator.probes.detection import radial
from simulator.probes.features import flat
from simulator.probes.tabular import logistic, with_one
from simulator.recipe.contract import Score, judged
from simulator.types import Array, Key

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Detector:
    """The probability that rows of a diet are synthetic, learned from a share of them whose origin is known.

    A logistic regression on standardised features, trained at every fit on round(known·n) of the n rows that weigh
    something, chosen at random: what it says of them is about what a curator of part of the data could know.  0 for
    all rows where those known are of one kind only.
    """

    known: Share = 0.1  # share of the diet's rows whose origin is known, in [0, 1]
    features: Callable[[Rows], Array] = radial  # rows -> [n, d]
    penalty: Positive = 1.0  # of the regression, above 0

    __post_init__ = check

    def __call__(self, key: Key, pool: Pool) -> Array:
        """[capacity], in [0, 1]."""
        there = pool.weight > 0  # [capacity]
        chosen = choose(key, there.astype(jnp.float32), jnp.round(self.known * there.sum()))  # [capacity]
        share = chosen / jnp.maximum(chosen.sum(), 1)  # [capacity]
        x = self.features(pool.rows)  # [capacity, d]
        mean = share @ x  # [d]
        x = (x - mean) / jnp.sqrt(jnp.maximum(share @ (x - mean) ** 2, 1e-12))
        coef = logistic(x, pool.synthetic.astype(jnp.int32), chosen.astype(jnp.float32), 2, self.penalty)  # [d + 1, 2]
        found = jax.nn.softmax(with_one(x) @ coef)[:, 1]  # [capacity]
        both = (chosen & pool.synthetic).any() & (chosen & pool.real).any()
        return jnp.where(both & there, found, 0.0)


Suspect = Detector | Score


def _suspicion(suspect: Suspect, key: Key, pool: Pool) -> Array:
    return suspect(key, pool) if isinstance(suspect, Detector) else judged(suspect, pool)


@dataclass(frozen=True)
class DropSuspects:
    """Leaves out rows whose score is above the threshold, real ones too.

    Rows are in or out, so the gradient in `threshold` is 0.
    `suspect` is a `Detector`, whose scores are probabilities, or a function `rows -> [n]` in any units, higher for what
    is taken for synthetic: the reading of a watermark, say.

    >>> DropSuspects(jnp.ravel, 3.0)(key, 1, pool).tolist()
    [1.0, 1.0, 1.0, 0.0, 0.0]
    """

    suspect: Suspect = Detector()
    threshold: Number = 0.5  # in the units of the score

    def __call__(self, key: Key, t: Array, pool: Pool) -> Array:
        return jnp.where(_suspicion(self.suspect, key, pool) > at(self.threshold, t), 0.0, pool.weight)


@dataclass(frozen=True)
class ReweighSuspects:
    """Rows weigh (1 - p)^power, p their probability of being synthetic as a `Detector` or a function `rows -> [n]`
    gives it.

    With a detector of text, `Detector(features=HashedNgrams())`, it is the importance sampling of Drayson et al. 2025
    (arXiv:2502.15654), whose published code draws in proportion to it.

    >>> ReweighSuspects(lambda rows: (rows[:, 0] - 1) / 4, power=2.0)(key, 1, pool).tolist()
    [1.0, 0.5625, 0.25, 0.0625, 0.0]
    """

    suspect: Suspect = Detector()
    power: Annotated[Number, Range(0)] = 1.0  # how far it goes: 0 leaves all weights as they are

    def __call__(self, key: Key, t: Array, pool: Pool) -> Array:
        trust = 1 - jnp.clip(_suspicion(self.suspect, key, pool), 0, 1)  # [capacity]
        power, some = at(self.power, t), jnp.where(trust > 0, trust, 1.0)  # gradients pass both branches
        return pool.weight * jnp.where(trust > 0, some**power, power == 0)


@dataclass(frozen=True)
class FarthestPoints:
    """Keeps round(share·n) of the n rows of the diet, far from each other, so that its entropy stays high.

    One after the other, from a row drawn by weight, the row furthest from all those kept is kept (farthest-point
    traversal, Gonzalez 1985, doi:10.1016/0304-3975(85)90224-5), which is the greedy selection by nearest-neighbour
    entropy of Shi et al. 2025, arXiv:2509.16499.  O(share·n²·d).
    Counts are whole, so the gradient in `share` is 0.

    >>> FarthestPoints(0.4)(key, 1, pool).sum().item()
    2.0
    """

    share: Annotated[Number, Range(0, 1)] = 0.5  # of the rows that weigh something, in (0, 1]
    features: Callable[[Rows], Array] = flat  # rows -> [n, d], where distances are taken

    def __call__(self, key: Key, t: Array, pool: Pool) -> Array:
        x, there = self.features(pool.rows), pool.weight > 0  # [capacity, d], [capacity]
        n = jnp.maximum(jnp.round(at(self.share, t) * there.sum()), 1).astype(jnp.int32)  # []

        def keep(_: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            kept, reach, row = carry
            kept = kept.at[row].set(True)
            reach = jnp.minimum(reach, ((x - x[row]) ** 2).sum(1))  # [capacity]: to the nearest kept
            return kept, reach, jnp.argmax(jnp.where(there & ~kept, reach, -1.0))

        start = jnp.zeros(pool.capacity, bool), jnp.full(pool.capacity, jnp.inf), draw(key, pool.weight, ())
        return pool.weight * jax.lax.fori_loop(0, n, keep, start)[0]
