"""Every row that a chain ever writes, in the order of time, and what its recipe makes of them.

The chain forgets what its recipe cannot reach, in a ring of slots.  This room keeps books of its own, in which nothing
is forgotten and ages are counted anew, so that a fault in the chain's memory is not in the law it is held against.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from simulator.pool import Pool
from simulator.recipe.combine import Select, Then
from simulator.sources.truth import Truth
from simulator.types import Array, Key, Recipe, Rows

if TYPE_CHECKING:
    from simulator.chain import Chain

Values = np.ndarray
TRUTH = -1  # the parent of a real row


@dataclass(frozen=True)
class Ledger(Pool):
    """A pool with room for every row ever written, as a recipe is shown it at one fit."""

    first: Array | None = None  # [capacity] int32: the fit that could eat the row first; -1 where it is yet to come

    def age(self, t: Array | int) -> Array:
        """How many fits ago a row could first be eaten, [capacity]."""
        return t - self.first  # pyright: ignore[reportOperatorIssue]


class Table:
    """The rows of a chain of T fits: data set i is what fit i is the first to eat.

    Data set 0 is the `real` first rows; data set i > 0 is the `rows` that fit i - 1 wrote, then `fresh` real ones.
    """

    def __init__(self, chain: Chain, generations: int) -> None:
        self.fits = generations
        later = np.repeat(np.arange(1, generations), chain.rows + chain.fresh)
        synthetic = np.tile(np.arange(chain.rows + chain.fresh) < chain.rows, generations - 1)
        self.first = np.concatenate([np.zeros(chain.real, int), later])  # [rows]: data set
        self.synthetic = np.concatenate([np.zeros(chain.real, bool), synthetic])  # [rows]
        self.parent = np.where(self.synthetic, self.first - 1, TRUTH)  # [rows]: the fit that wrote it
        self.birth = self.first - self.synthetic  # [rows]
        truth = chain.source.generator if isinstance(chain.source, Truth) else None
        real, written = seen_through(truth)[1], seen_through(chain.generator)[1]
        self.each = np.where(self.synthetic, written, real)  # [rows]: rows that it stands for; 1 but for cohorts
        self._rows = jax.eval_shape(lambda: chain.source.draw(jax.random.key(0), chain.real))

    def __len__(self) -> int:
        return len(self.first)

    @property
    def blank(self) -> Rows:
        """Rows of the right shapes with nothing in them."""
        return jax.tree.map(lambda a: jnp.zeros((len(self), *a.shape[1:]), a.dtype), self._rows)

    def shown(self, t: Array, rows: Rows) -> Ledger:
        """What a recipe is shown at fit t, with weight 1 on all that is there."""
        first = jnp.asarray(self.first, jnp.int32)
        there = first <= t  # [rows]
        return Ledger(
            rows,
            jnp.asarray(self.synthetic, jnp.int32),
            jnp.where(there, jnp.asarray(self.birth, jnp.int32), -1),
            there.astype(jnp.float32),
            first=jnp.where(there, first, -1),
        )

    def weight(self, recipe: Recipe, key: Key, t: Array) -> Array:
        """The weight of every row at fit t, [rows]."""
        shown = self.shown(t, self.blank)
        return jnp.where(shown.filled, recipe(key, t, shown), 0.0).astype(jnp.float32)

    def weights(self, recipe: Recipe) -> Callable[[Key], Array]:
        """A compiled function of keys [draws]: the weights of all fits under each, [draws, T, rows]."""

        def fit(keys: Key, t: Array) -> Array:
            return jax.vmap(lambda key: self.weight(recipe, jax.random.fold_in(key, t), t))(keys)  # [draws, rows]

        return jax.jit(lambda keys: jnp.moveaxis(jax.lax.map(lambda t: fit(keys, t), jnp.arange(self.fits)), 0, 1))

    def several(self, recipe: Recipe, draws: int, seed: int = 0) -> Iterator[Array]:
        """The weights under `draws` keys, some at a time, [some, T, rows]."""
        keys, weights = jax.random.split(jax.random.key(seed), draws), self.weights(recipe)
        some = max(1, min(draws, 2_000_000 // (self.fits * len(self))))
        for i in range(0, draws, some):
            yield weights(keys[i : i + some])

    def alike(self, recipe: Recipe) -> Values:
        """Classes of the rows of one data set and writer that a recipe without chance weighs alike at every fit,
        [rows] int: rows of one class have one number.
        """
        start = jnp.asarray(self.first * 2 + self.synthetic, jnp.uint32)

        def mix(marks: tuple[Array, Array], t: Array) -> tuple[tuple[Array, Array], None]:
            bits = jax.lax.bitcast_convert_type(self.weight(recipe, jax.random.key(0), t), jnp.uint32)
            a, b = marks  # two marks of 32 bits: that different histories agree in both is a matter of 2^-64
            return (a * jnp.uint32(2654435761) + bits, (b ^ bits) * jnp.uint32(2246822519) + (b >> 15)), None

        a, b = jax.jit(lambda: jax.lax.scan(mix, (start, ~start), jnp.arange(self.fits))[0])()
        marks = np.asarray(a).astype(np.uint64) << np.uint64(32) | np.asarray(b)  # [rows]
        return np.unique(marks, return_inverse=True)[1]

    def reads(self, recipe: Recipe) -> tuple[bool, bool]:
        """Whether the weights depend on the recipe's key, and whether they depend on what is in the rows."""

        def weigh(key: Key, rows: Rows, t: Array) -> Array:
            return recipe(key, t, self.shown(t, rows))

        rows = jax.eval_shape(lambda: self.blank)
        traced = jax.make_jaxpr(weigh)(jax.random.key(0), rows, jnp.int32(0)).jaxpr

        def reach_the_weights(variables: Sequence[Any]) -> bool:
            reached = set(map(id, variables))
            for equation in traced.eqns:
                if any(id(variable) in reached for variable in equation.invars):
                    reached |= set(map(id, equation.outvars))
            return any(id(variable) in reached for variable in traced.outvars)

        return reach_the_weights(traced.invars[:1]), reach_the_weights(traced.invars[1:-1])


def seen_through(model: Any) -> tuple[Any, int]:
    """(the generator, rows each of its rows stands for): a `Cohort` of n rows is the sufficient statistic of them, and
    the members of a `Society` that each eat the whole diet are one model.
    """
    if type(model).__name__ == "Society" and not model.share:
        return seen_through(model.generator)
    return (model.generator, int(model.n)) if type(model).__name__ == "Cohort" else (model, 1)


def plain(recipe: Recipe) -> Recipe:
    """The recipe with every `Select` replaced by what it selects."""
    if isinstance(recipe, Select):
        return plain(recipe.recipes[int(recipe.index)])
    return Then(*map(plain, recipe.recipes)) if isinstance(recipe, Then) else recipe
