"""Recipes made of recipes: one after the other, or one of several."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from jax.core import Tracer

from simulator.numerics.chance import fold_in
from simulator.pool import Pool
from simulator.recipe.contract import Sizes, check, forgets_real, horizon, most, wants_scores
from simulator.types import Array, GenlossError, Key, Recipe


@dataclass(frozen=True, init=False)
class Then:
    """Recipes in sequence, each shown the weights of the one before: `Then(Accumulate(), Subsample(1000))`.

    >>> Then(Window(1), Subsample(2))(key, 1, pool).sum().item()
    2.0
    """

    recipes: tuple[Recipe, ...]

    def __init__(self, *steps: Recipe, recipes: tuple[Recipe, ...] = ()) -> None:
        object.__setattr__(self, "recipes", (*steps, *recipes))

    def __call__(self, key: Key, t: Array, pool: Pool) -> Array:
        unsound = jnp.isnan(pool.weight)  # [capacity]
        for i, recipe in enumerate(self.recipes):
            pool = pool.weighed(recipe(fold_in(key, i), t, pool))
            unsound |= jnp.isnan(pool.weight)  # which a recipe after it might pass over
        return jnp.where(unsound, jnp.nan, pool.weight)

    def check(self, chain: Sizes) -> None:
        for recipe in self.recipes:
            check(recipe, chain)

    def most(self, chain: Sizes) -> int | None:
        return min((n for n in (most(r, chain) for r in self.recipes) if n is not None), default=None)

    def horizon(self, chain: Sizes) -> int | None:
        # Only the first is shown everything: what it gives weight 0, none after it can bring back.
        return horizon(self.recipes[0], chain) if self.recipes else None

    @property
    def forgets_real(self) -> bool:
        return bool(self.recipes) and forgets_real(self.recipes[0])

    @property
    def wants_scores(self) -> bool:
        return any(map(wants_scores, self.recipes))


@dataclass(frozen=True)
class Select:
    """The recipe at `index`, which may be swept: different recipes under one compilation.

    Weights are cheap next to a fit, so where the index is swept all are computed and one is picked.

    >>> Select((Accumulate(), Replace()), 1)(key, 1, pool).tolist()
    [0.0, 0.0, 1.0, 1.0, 1.0]
    """

    recipes: tuple[Recipe, ...]
    index: int | Array = 0  # which of the recipes

    def __call__(self, key: Key, t: Array, pool: Pool) -> Array:
        if not isinstance(self.index, Tracer):
            return self.recipes[int(self.index)](key, t, pool)
        return jnp.stack([recipe(key, t, pool) for recipe in self.recipes])[self.index]  # [recipes, capacity] -> one

    def check(self, chain: Sizes) -> None:
        if not isinstance(self.index, Tracer) and not 0 <= int(self.index) < len(self.recipes):
            raise GenlossError(f"Select(index={self.index}) must lie between 0 and {len(self.recipes) - 1}.")
        for recipe in self.recipes:
            check(recipe, chain)

    def most(self, chain: Sizes) -> int | None:
        needs = [most(recipe, chain) for recipe in self.recipes]
        return None if None in needs else max(n for n in needs if n is not None)

    def horizon(self, chain: Sizes) -> int | None:
        needs = [horizon(recipe, chain) for recipe in self.recipes]
        return None if None in needs else max(n for n in needs if n is not None)

    @property
    def forgets_real(self) -> bool:
        return all(forgets_real(recipe) for recipe in self.recipes)

    @property
    def wants_scores(self) -> bool:
        return any(map(wants_scores, self.recipes))
