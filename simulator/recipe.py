"""Recipes: what the next generation eats.  Each maps `(key, t, pool)` to a weight for every row of the pool.

A recipe is shown weight 1 on everything kept, so accumulating is the identity, and every other recipe multiplies,
selects or rebalances the weights it is shown.  That is also why recipes compose: `Then(Window(3), Reweigh(real=0.5))`.
"Latest" rows are those first eaten at this fit: the last generation's synthetic rows and this generation's fresh
real ones; at fit 0 these are the real rows, so every recipe starts on real data.

A recipe of your own is a frozen dataclass with `__call__`, or any module-level function `(key, t, pool) -> weight`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from simulator.chance import exponential, uniform
from simulator.fields import Count, Range
from simulator.pool import Pool, choose
from simulator.schedule import Number, at, values_of
from simulator.types import Array, GenlossError, Key, Recipe, Rows

if TYPE_CHECKING:
    from simulator.chain import Chain


@dataclass(frozen=True)
class Accumulate:
    """Everything ever kept, with weight 1 (Gerstgrasser et al. 2024, arXiv:2404.01413)."""

    weighs_alike: ClassVar[bool] = True

    def __call__(self, key: Key, t: Array, pool: Pool) -> Array:
        return pool.weight


@dataclass(frozen=True)
class Window:
    """Rows of the last `generations` data sets only: those first eaten fewer than that many fits ago.

    Rows are in or out, so the gradient in `generations` is 0.
    """

    generations: Annotated[Number, Range(1)] = 3  # data sets kept in the diet

    forgets_real: ClassVar[bool] = True

    def __call__(self, key: Key, t: Array, pool: Pool) -> Array:
        return pool.weight * (pool.age(t) < at(self.generations, t))

    def horizon(self, chain: Chain) -> int | None:
        return max(1, int(np.ceil(self.generations))) if isinstance(self.generations, int | float) else None


@dataclass(frozen=True)
class Replace:
    """The latest data set only (Shumailov et al. 2024, doi:10.1038/s41586-024-07566-y)."""

    forgets_real: ClassVar[bool] = True

    def __call__(self, key: Key, t: Array, pool: Pool) -> Array:
        return pool.weight * (pool.age(t) == 0)

    def horizon(self, chain: Chain) -> int | None:
        return 1


@dataclass(frozen=True)
class Decay:
    """Exponential forgetting: a row first eaten a fits ago weighs rate^a."""

    rate: Annotated[Number, Range(0, 1)] = 0.5  # factor per generation, in [0, 1]

    def __call__(self, key: Key, t: Array, pool: Pool) -> Array:
        return pool.weight * at(self.rate, t) ** pool.age(t)


@dataclass(frozen=True)
class Mix:
    """A diet of constant size with a given share of real rows (the fixed share of arXiv:2410.16713 and 2310.00429).

    Exactly round(real·size) rows are drawn without replacement from the real rows kept (`fresh=True`: from those
    born this generation), the rest from the synthetic rows of the last `window` generations.  Fit 0 eats up to `size`
    real rows.  The counts are checked against the chain when it is built.  They are whole, so the gradient in `real` is
    0.
    """

    real: Annotated[Number, Range(0, 1)] = 0.1  # share of real rows, in [0, 1]
    size: Count = 1000  # rows in the diet
    fresh: bool = False  # take the real share from this generation's fresh rows only
    window: Count = 1  # generations whose synthetic rows may be drawn

    def __call__(self, key: Key, t: Array, pool: Pool) -> Array:
        first, second = jax.random.split(key)
        quota = jnp.where(t == 0, self.size, jnp.round(at(self.real, t) * self.size)).astype(jnp.int32)  # []
        real = pool.real & ((pool.birth == t) | (not self.fresh))  # [capacity]
        synthetic = pool.synthetic & (pool.age(t) < self.window)  # [capacity]
        chosen = choose(first, pool.weight * real, quota) | choose(second, pool.weight * synthetic, self.size - quota)
        return chosen.astype(jnp.float32)

    def check(self, chain: Chain) -> None:
        shares = values_of(self.real)
        if shares is None:
            return
        need, have = round(float(max(shares)) * self.size), chain.fresh if self.fresh else chain.real + chain.fresh
        if need > have:
            kind = "fresh real" if self.fresh else "real"
            raise GenlossError(
                f"Mix(real={self.real}, size={self.size}) asks for {need} {kind} rows a "
                f"generation and the chain has {have}; raise `{kind.split()[0]}` or lower the share."
            )
        need, have = self.size - round(float(min(shares)) * self.size), chain.rows
        if need > have:  # the first diet after fit 0 has one generation to draw from, whatever the window
            raise GenlossError(
                f"Mix(real={self.real}, size={self.size}) asks for {need} synthetic rows and a generation writes "
                f"{have}; raise `rows` or lower `size`."
            )

    def most(self, chain: Chain) -> int | None:
        return self.size

    def horizon(self, chain: Chain) -> int | None:
        return self.window if self.fresh or not chain.fresh else None  # fresh rows of the past stay eligible


@dataclass(frozen=True)
class NoFresh:
    """Leaves out fresh real rows: for the arms of an experiment that do not eat them, beside one that does."""

    def __call__(self, key: Key, t: Array, pool: Pool) -> Array:
        return jnp.where(pool.real & (pool.birth > 0), 0.0, pool.weight)


@dataclass(frozen=True)
class Augment:
    """All real rows and, of the last generation, ratio times as many (Bertrand et al. 2023, arXiv:2310.00429).

    Real rows are those shown with a weight.  Where fresh ones make them outgrow a generation's rows, all of those are
    eaten.  Counts are whole, so the gradient in `ratio` is 0.
    """

    ratio: Annotated[Number, Range(0)] = 1.0  # synthetic rows per real row

    def __call__(self, key: Key, t: Array, pool: Pool) -> Array:
        quota = jnp.round(at(self.ratio, t) * (pool.real & (pool.weight > 0)).sum()).astype(jnp.int32)  # []
        latest = pool.synthetic & (pool.age(t) == 0)  # [capacity]
        return pool.weight * pool.real + choose(key, pool.weight * latest, quota)

    def check(self, chain: Chain) -> None:
        shares = values_of(self.ratio)
        if shares is not None and (need := round(float(max(shares)) * (chain.real + chain.fresh))) > chain.rows:
            raise GenlossError(
                f"Augment(ratio={self.ratio}) asks for {need} synthetic rows and a generation writes {chain.rows}; "
                "raise `rows` or lower the ratio."
            )

    def horizon(self, chain: Chain) -> int | None:
        return None if chain.fresh else 1


@dataclass(frozen=True)
class Subsample:
    """Exactly `size` rows, drawn without replacement in proportion to weight (Kazdan et al. 2024, arXiv:2410.16713).

    The rows drawn weigh 1, so the gradient in `size`, and in whatever made the weights, is 0.
    """

    size: Annotated[Number, Range(1)] = 1000  # rows in the diet; all of them where fewer are kept

    def __call__(self, key: Key, t: Array, pool: Pool) -> Array:
        return choose(key, pool.weight, jnp.round(at(self.size, t))).astype(jnp.float32)

    def most(self, chain: Chain) -> int | None:
        sizes = values_of(self.size)
        return None if sizes is None else max(1, round(float(max(sizes))))


@dataclass(frozen=True)
class Reweigh:
    """The real rows of the diet carry total share `real` of its mass (golden ratio, He et al. 2025, arXiv:2502.18049).

    The mass of the diet is kept.  A diet of one kind only is left as it is.
    """

    real: Annotated[Number, Range(0, 1)] = 0.5  # share of the mass on real rows, in [0, 1]

    def __call__(self, key: Key, t: Array, pool: Pool) -> Array:
        share = at(self.real, t)  # []
        on_real, on_synthetic = (pool.weight * pool.real).sum(), (pool.weight * pool.synthetic).sum()  # []
        mixed = (on_real > 0) & (
            on_synthetic > 0
        )  # []; where not, nothing is divided by 0: gradients pass both branches
        total = jnp.where(mixed, on_real + on_synthetic, 1.0)
        real, synthetic = (jnp.where(mixed, mass, 1.0) for mass in (on_real, on_synthetic))
        factor = jnp.where(pool.real, share * total / real, (1 - share) * total / synthetic)  # [capacity]
        return jnp.where(mixed, pool.weight * factor, pool.weight)


@dataclass(frozen=True)
class Verify:
    """Keeps the synthetic rows whose score reaches the threshold; real rows pass (arXiv:2406.07515).

    Rows are in or out, so the gradient in `threshold` is 0.
    `score(rows) -> [n]`: a module-level function or a frozen dataclass with `__call__`.
    """

    score: Callable[[Rows], Array]
    threshold: Number = 0.0  # in the units of the score

    def __call__(self, key: Key, t: Array, pool: Pool) -> Array:
        return pool.weight * (pool.real | (self.score(pool.rows) >= at(self.threshold, t)))


@dataclass(frozen=True)
class Curate:
    """Of every `best_of` synthetic rows of the last generation one is kept, by reward (arXiv:2407.09499).

    Rows fall into random groups of K; one of each is chosen with probability softmax(strength·reward), the
    K-wise Bradley-Terry (Luce) model of a human's choice.  `best_of=None` is its limit for K -> infinity: every row
    weighs exp(strength·reward), scaled so that the mass is kept.  Real rows pass; older synthetic rows do not.
    The gradient in `strength` is that of the limit; with a K, which keeps rows or does not, it is 0.
    `reward(rows) -> [n]`: a module-level function or a frozen dataclass with `__call__`.
    """

    reward: Callable[[Rows], Array]
    best_of: Count | None = 2  # K; None is the limit of many
    strength: Number = 1.0  # inverse temperature of the choice

    def __call__(self, key: Key, t: Array, pool: Pool) -> Array:
        shown = jnp.where(pool.synthetic & (pool.age(t) == 0), pool.weight, 0.0)  # [capacity]
        log_odds = at(self.strength, t) * self.reward(pool.rows)  # [capacity]
        if self.best_of is None:
            there = shown > 0  # [capacity]
            masses = jnp.log(jnp.where(there, shown, 1.0))  # [capacity]
            tilt = jax.nn.softmax(jnp.where(there, log_odds + masses, jnp.finfo(jnp.float32).min))  # sums to 1
            kept = tilt * shown.sum()
        else:
            shuffle, choice = jax.random.split(key)
            order = jnp.argsort(jnp.where(shown > 0, uniform(shuffle, shown.shape), jnp.inf))
            group = jnp.zeros(shown.shape, jnp.int32).at[order].set(jnp.arange(pool.capacity) // self.best_of)
            noisy = jnp.where(shown > 0, log_odds - jnp.log(exponential(choice, shown.shape)), -jnp.inf)  # [capacity]
            best = jax.ops.segment_max(noisy, group, pool.capacity)  # [groups]: Gumbel-max is a draw of the softmax
            kept = shown * (noisy == best[group]) * jnp.isfinite(noisy)
        return pool.weight * pool.real + kept

    def check(self, chain: Chain) -> None:
        if self.best_of is not None and not 1 <= self.best_of <= chain.rows:
            raise GenlossError(f"Curate(best_of={self.best_of}) must lie between 1 and the {chain.rows} rows written.")

    def horizon(self, chain: Chain) -> int | None:
        return None if chain.fresh else 1


@dataclass(frozen=True, init=False)
class Then:
    """Recipes in sequence, each shown the weights of the one before: `Then(Accumulate(), Subsample(1000))`."""

    recipes: tuple[Recipe, ...]

    def __init__(self, *steps: Recipe, recipes: tuple[Recipe, ...] = ()) -> None:
        object.__setattr__(self, "recipes", (*steps, *recipes))

    def __call__(self, key: Key, t: Array, pool: Pool) -> Array:
        unsound = jnp.isnan(pool.weight)  # [capacity]
        for i, recipe in enumerate(self.recipes):
            pool = pool.weighed(recipe(jax.random.fold_in(key, i), t, pool))
            unsound |= jnp.isnan(pool.weight)  # which a recipe after it might pass over
        return jnp.where(unsound, jnp.nan, pool.weight)

    def check(self, chain: Chain) -> None:
        for recipe in self.recipes:
            check(recipe, chain)

    def most(self, chain: Chain) -> int | None:
        return min((n for n in (most(r, chain) for r in self.recipes) if n is not None), default=None)

    def horizon(self, chain: Chain) -> int | None:
        # Only the first is shown everything: what it gives weight 0, none after it can bring back.
        return horizon(self.recipes[0], chain) if self.recipes else None

    @property
    def forgets_real(self) -> bool:
        return bool(self.recipes) and forgets_real(self.recipes[0])


@dataclass(frozen=True)
class Select:
    """The recipe at `index`, which may be swept: different recipes under one compilation.

    Weights are cheap next to a fit, so where the index is swept all are computed and one is picked.
    """

    recipes: tuple[Recipe, ...]
    index: int | Array = 0  # which of the recipes

    def __call__(self, key: Key, t: Array, pool: Pool) -> Array:
        if not isinstance(self.index, Tracer):
            return self.recipes[int(self.index)](key, t, pool)
        return jnp.stack([recipe(key, t, pool) for recipe in self.recipes])[self.index]  # [recipes, capacity] -> one

    def check(self, chain: Chain) -> None:
        if not isinstance(self.index, Tracer) and not 0 <= int(self.index) < len(self.recipes):
            raise GenlossError(f"Select(index={self.index}) must lie between 0 and {len(self.recipes) - 1}.")
        for recipe in self.recipes:
            check(recipe, chain)

    def most(self, chain: Chain) -> int | None:
        needs = [most(recipe, chain) for recipe in self.recipes]
        return None if None in needs else max(n for n in needs if n is not None)

    def horizon(self, chain: Chain) -> int | None:
        needs = [horizon(recipe, chain) for recipe in self.recipes]
        return None if None in needs else max(n for n in needs if n is not None)

    @property
    def forgets_real(self) -> bool:
        return all(forgets_real(recipe) for recipe in self.recipes)


def check(recipe: Recipe, chain: Chain) -> None:
    """Raises `GenlossError` if the chain cannot satisfy the recipe; a recipe without `check` is taken at its word."""
    if own := getattr(recipe, "check", None):
        own(chain)


def horizon(recipe: Recipe, chain: Chain) -> int | None:
    """Past generations the recipe can still give weight to; None where it does not say."""
    own = getattr(recipe, "horizon", None)
    return own(chain) if own else None


def most(recipe: Recipe, chain: Chain) -> int | None:
    """The most rows the recipe ever gives weight to; None where it does not say."""
    own = getattr(recipe, "most", None)
    return own(chain) if own else None


def weighs_alike(recipe: Recipe) -> bool:
    """Whether all synthetic rows weigh the same at every fit, so that cohorts of them may be kept as one."""
    return getattr(recipe, "weighs_alike", False)


def forgets_real(recipe: Recipe) -> bool:
    """Whether generation 0's real rows fall out of reach like any other data set; False where it does not say."""
    return getattr(recipe, "forgets_real", False)
