"""Which rows are eaten, by where they come from and how old they are: everything, the latest, shares and windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from simulator.checks.fields import Count, Range
from simulator.numerics.chance import split
from simulator.numerics.schedule import Number, at, values_of
from simulator.numerics.selection import choose
from simulator.pool import Pool
from simulator.recipe.contract import Sizes
from simulator.types import Array, GenlossError, Key


@dataclass(frozen=True)
class Accumulate:
    """Everything ever kept, with weight 1 (Gerstgrasser et al. 2024, arXiv:2404.01413).

    >>> Accumulate()(key, 1, pool).tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0]
    """

    weighs_alike: ClassVar[bool] = True

    def __call__(self, key: Key, t: Array, pool: Pool) -> Array:
        return pool.weight


@dataclass(frozen=True)
class Window:
    """Rows of the last `generations` data sets only: those first eaten fewer than that many fits ago.

    Rows are in or out, so the gradient in `generations` is 0.

    >>> Window(1)(key, 1, pool).tolist()
    [0.0, 0.0, 1.0, 1.0, 1.0]
    """

    generations: Annotated[Number, Range(1)] = 3  # data sets kept in the diet

    forgets_real: ClassVar[bool] = True

    def __call__(self, key: Key, t: Array, pool: Pool) -> Array:
        return pool.weight * (pool.age(t) < at(self.generations, t))

    def horizon(self, chain: Sizes) -> int | None:
        return max(1, int(np.ceil(self.generations))) if isinstance(self.generations, int | float) else None


@dataclass(frozen=True)
class Replace:
    """The latest data set only (Shumailov et al. 2024, doi:10.1038/s41586-024-07566-y).

    >>> Replace()(key, 1, pool).tolist()
    [0.0, 0.0, 1.0, 1.0, 1.0]
    """

    forgets_real: ClassVar[bool] = True

    def __call__(self, key: Key, t: Array, pool: Pool) -> Array:
        return pool.weight * (pool.age(t) == 0)

    def horizon(self, chain: Sizes) -> int | None:
        return 1


@dataclass(frozen=True)
class Decay:
    """Exponential forgetting: a row first eaten a fits ago weighs rate^a.

    >>> Decay(0.5)(key, 1, pool).tolist()
    [0.5, 0.5, 1.0, 1.0, 1.0]
    """

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

    >>> Mix(real=0.5, size=2)(key, 1, pool).sum().item()
    2.0
    """

    real: Annotated[Number, Range(0, 1)] = 0.1  # share of real rows, in [0, 1]
    size: Count = 1000  # rows in the diet
    fresh: bool = False  # take the real share from this generation's fresh rows only
    window: Count = 1  # generations whose synthetic rows may be drawn

    def __call__(self, key: Key, t: Array, pool: Pool) -> Array:
        first, second = split(key)
        quota = jnp.where(t == 0, self.size, jnp.round(at(self.real, t) * self.size)).astype(jnp.int32)  # []
        real = pool.real & ((pool.birth == t) | (not self.fresh))  # [capacity]
        synthetic = pool.synthetic & (pool.age(t) < self.window)  # [capacity]
        chosen = choose(first, pool.weight * real, quota) | choose(second, pool.weight * synthetic, self.size - quota)
        return chosen.astype(jnp.float32)

    def check(self, chain: Sizes) -> None:
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

    def step(self, name: str) -> float | None:
        return 1 / self.size if name == "real" else None

    def most(self, chain: Sizes) -> int | None:
        return self.size

    def horizon(self, chain: Sizes) -> int | None:
        return self.window if self.fresh or not chain.fresh else None  # fresh rows of the past stay eligible


@dataclass(frozen=True)
class NoFresh:
    """Leaves out fresh real rows: for the arms of an experiment that do not eat them, beside one that does.

    >>> NoFresh()(key, 1, pool).tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0]
    """

    def __call__(self, key: Key, t: Array, pool: Pool) -> Array:
        return jnp.where(pool.real & (pool.birth > 0), 0.0, pool.weight)


@dataclass(frozen=True)
class Fresh:
    """Of each generation's fresh real rows the first few; the others weigh 0, then and later.

    First in a `Then`, it gives a chain with `fresh` rows a generation a schedule of them.  Counts are whole, so the
    gradient in `rows` is 0.

    >>> Fresh(0)(key, 1, pool).tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0]
    """

    rows: Annotated[Number, Range(0)] = 0  # fresh rows served in each generation, at most `fresh` of the chain

    def __call__(self, key: Key, t: Array, pool: Pool) -> Array:
        new, place = pool.real & (pool.birth > 0), jnp.arange(pool.capacity)  # [capacity]
        on = new & jnp.roll(new, 1) & (pool.birth == jnp.roll(pool.birth, 1))  # [capacity]: as the row before it
        first = jax.lax.cummax(jnp.where(on & (place > 0), 0, place))  # [capacity]: where its block begins
        served = place - first < jnp.round(at(self.rows, pool.birth))  # [capacity]
        return jnp.where(new & ~served, 0.0, pool.weight)

    def check(self, chain: Sizes) -> None:
        numbers = values_of(self.rows)
        if numbers is not None and (need := round(float(max(numbers)))) > chain.fresh:
            raise GenlossError(
                f"Fresh({self.rows}) serves up to {need} fresh rows a generation and the chain has {chain.fresh}; "
                "raise `fresh`."
            )


@dataclass(frozen=True)
class Augment:
    """All real rows and, of the last generation, ratio times as many (Bertrand et al. 2023, arXiv:2310.00429).

    Real rows are those shown with a weight.  Where fresh ones make them outgrow a generation's rows, all of those are
    eaten.  Counts are whole, so the gradient in `ratio` is 0.

    >>> Augment(ratio=1.0)(key, 1, pool).sum().item()
    4.0
    """

    ratio: Annotated[Number, Range(0)] = 1.0  # synthetic rows per real row

    def __call__(self, key: Key, t: Array, pool: Pool) -> Array:
        quota = jnp.round(at(self.ratio, t) * (pool.real & (pool.weight > 0)).sum()).astype(jnp.int32)  # []
        latest = pool.synthetic & (pool.age(t) == 0)  # [capacity]
        return pool.weight * pool.real + choose(key, pool.weight * latest, quota)

    def check(self, chain: Sizes) -> None:
        shares = values_of(self.ratio)
        if shares is not None and (need := round(float(max(shares)) * (chain.real + chain.fresh))) > chain.rows:
            raise GenlossError(
                f"Augment(ratio={self.ratio}) asks for {need} synthetic rows and a generation writes {chain.rows}; "
                "raise `rows` or lower the ratio."
            )

    def horizon(self, chain: Sizes) -> int | None:
        return None if chain.fresh else 1
