"""Contamination: real rows of a data set replaced by synthetic ones, its size and its labels kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import jax
import jax.numpy as jnp

from simulator.checks.fields import Range
from simulator.numerics.chance import fold_in, words
from simulator.numerics.schedule import Number, at
from simulator.pool import Pool, Rows
from simulator.recipe.contract import Sizes
from simulator.types import Array, GenlossError, Key

RATIOS = (0.0, 0.2, 0.4, 0.8, 1.0)  # those of the paper

By = Literal["generated", "real", "nothing"]


@dataclass(frozen=True)
class Contaminate:
    """The chain's first real rows, a share of them replaced (Hataya et al. 2023, arXiv:2211.08095).

    Of the n_c first real rows of class c round(ratio·n_c) lose their weight, or, where not `stratified`, round(ratio·N)
    of all N.  It goes to as many rows of the same class, so that size and labels are kept: to rows that the last
    generation wrote (`by="generated"`), to this generation's fresh real rows, the control ("real"), or to none
    ("nothing").  Where a class has fewer rows to give, each weighs more; where it has none its weight is lost, which
    `fit.mass` shows.  Rows without labels are of one class.  Counts are whole, so the gradient in `ratio` is 0.

    Rows are replaced, and replace, in one order, which depends on neither ratio nor generation nor `by`: what 20 %
    replaces 40 % replaces too, and all three arms replace the same.  With `nested=False` every generation and every
    ratio has an order of its own, still the same for all three.

    >>> Contaminate(0.5)(key, 1, pool).sum().item()
    2.0
    """

    ratio: Annotated[Number, Range(0, 1)] = 0.4  # share of the first real rows that is replaced, in [0, 1]
    stratified: bool = True  # the same share of every class
    nested: bool = True  # a smaller ratio replaces some of the rows that a larger one does
    by: By = "generated"  # what takes their place: "generated", "real" or "nothing"

    def __call__(self, key: Key, t: Array, pool: Pool) -> Array:
        ratio = jnp.where(t == 0, 0.0, at(self.ratio, t))  # []
        own = jax.random.key(0) if self.nested else fold_in(key, jax.lax.bitcast_convert_type(ratio, jnp.uint32))
        chance = words(own, (pool.capacity,))  # [capacity]: slot by slot the same whatever the room after them
        kind = _classes(pool.rows, pool.capacity)  # [capacity]
        part = kind if self.stratified else jnp.zeros_like(kind)  # [capacity]

        def total(values: Array, of: Array) -> Array:
            return jax.ops.segment_sum(values.astype(jnp.float32), of, pool.capacity)  # [classes]

        first = pool.real & (pool.birth == 0) & (pool.weight > 0)  # [capacity]
        replaced = first & (_rank(first, part, chance) < jnp.round(ratio * total(first, part))[part])
        others = {
            "generated": pool.synthetic & (pool.age(t) == 0),
            "real": pool.real & (pool.birth > 0) & (pool.age(t) == 0),
            "nothing": jnp.zeros_like(first),
        }[self.by] & (pool.weight > 0)  # [capacity]
        taken = others & (_rank(others, kind, chance) < total(replaced, kind)[kind])
        lost, found = total(pool.weight * replaced, kind), total(pool.weight * taken, kind)  # [classes]
        factor = lost / jnp.where(found > 0, found, 1.0)  # [classes]: 1 where there are enough of the class
        return jnp.where(taken, pool.weight * factor[kind], jnp.where(first & ~replaced, pool.weight, 0.0))

    def check(self, chain: Sizes) -> None:
        if self.by == "real" and not chain.fresh:
            raise GenlossError("Contaminate(by='real') replaces real rows by fresh ones; set `fresh` of the chain.")

    def most(self, chain: Sizes) -> int | None:
        return chain.real

    def horizon(self, chain: Sizes) -> int | None:
        return 1


def _classes(rows: Rows, capacity: int) -> Array:
    """Rows of one label have one number below `capacity`, whatever the labels are, [capacity] int32."""
    if not (isinstance(rows, dict) and "label" in rows):
        return jnp.zeros(capacity, jnp.int32)
    return jnp.unique(rows["label"], return_inverse=True, size=capacity)[1].astype(jnp.int32)


def _rank(there: Array, part: Array, chance: Array) -> Array:
    """Of rows that are `there` [n], how many of their part [n] come before them in the order of chance [n]."""
    n = there.shape[0]
    order = jnp.lexsort((chance, ~there, part))  # [n]: part after part, those that are there first
    place = jnp.zeros(n, jnp.int32).at[order].set(jnp.arange(n))  # [n]
    return place - jax.ops.segment_min(place, part, n)[part]
