"""Which rows are eaten, of those shown: some at random, some by score, and how much the real ones weigh."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp

from simulator.checks.fields import Count, Range
from simulator.numerics.chance import exponential, split, uniform
from simulator.numerics.schedule import Number, at, values_of
from simulator.numerics.selection import choose
from simulator.pool import Pool
from simulator.recipe.contract import Score, Sizes, judged
from simulator.types import Array, GenlossError, Key


@dataclass(frozen=True)
class Subsample:
    """Exactly `size` rows, drawn without replacement in proportion to weight (Kazdan et al. 2024, arXiv:2410.16713).

    The rows drawn weigh 1, so the gradient in `size`, and in whatever made the weights, is 0.

    >>> Subsample(2)(key, 1, pool).sum().item()
    2.0
    """

    size: Annotated[Number, Range(1)] = 1000  # rows in the diet; all of them where fewer are kept

    def __call__(self, key: Key, t: Array, pool: Pool) -> Array:
        return choose(key, pool.weight, jnp.round(at(self.size, t))).astype(jnp.float32)

    def most(self, chain: Sizes) -> int | None:
        sizes = values_of(self.size)
        return None if sizes is None else max(1, round(float(max(sizes))))


@dataclass(frozen=True)
class Reweigh:
    """The real rows of the diet carry total share `real` of its mass (golden ratio, He et al. 2025, arXiv:2502.18049).

    The mass of the diet is kept.  A diet of one kind only is left as it is.

    >>> Reweigh(real=0.5)(key, 1, pool).round(4).tolist()[:2]
    [1.25, 1.25]
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

    Of a verifier that errs these are the rows that are good: it keeps one of them with probability `tpr` and another
    with `fpr`, each row by itself and anew at every fit (`simulator.theory.verifier_limit` says when that pays).
    Rows are in or out, so the gradient in `threshold` and in both rates is 0.
    `score(rows) -> [n]`: a module-level function or a frozen dataclass with `__call__`; "model": what the last model
    thinks of them (`pool.scores`).

    >>> Verify(jnp.ravel, 4.0)(key, 1, pool).tolist()
    [1.0, 1.0, 0.0, 1.0, 1.0]
    """

    score: Score
    threshold: Number = 0.0  # in the units of the score
    tpr: Annotated[Number, Range(0, 1)] = 1.0  # true-positive rate: of the rows that reach it, which are kept
    fpr: Annotated[Number, Range(0, 1)] = 0.0  # false-positive rate: of the others

    def __call__(self, key: Key, t: Array, pool: Pool) -> Array:
        good = judged(self.score, pool) >= at(self.threshold, t)  # [capacity]
        kept = uniform(key, good.shape) < jnp.where(good, at(self.tpr, t), at(self.fpr, t))  # [capacity]
        return pool.weight * (pool.real | kept)

    @property
    def wants_scores(self) -> bool:
        return self.score == "model"


@dataclass(frozen=True)
class Curate:
    """Of every `best_of` synthetic rows of the last generation one is kept, by reward (arXiv:2407.09499).

    Rows fall into random groups of K; one of each is chosen with probability softmax(strength·reward), the
    K-wise Bradley-Terry (Luce) model of a human's choice.  `best_of=None` is its limit for K -> infinity: every row
    weighs exp(strength·reward), scaled so that the mass is kept.  Real rows pass; older synthetic rows do not.
    The gradient in `strength` is that of the limit; with a K, which keeps rows or does not, it is 0.
    `reward(rows) -> [n]`: a module-level function or a frozen dataclass with `__call__`; "model": what the last model
    thinks of them (`pool.scores`).

    >>> Curate(jnp.ravel, best_of=3, strength=9.0)(key, 1, pool).tolist()
    [1.0, 1.0, 0.0, 0.0, 1.0]
    """

    reward: Score
    best_of: Count | None = 2  # K; None is the limit of many
    strength: Number = 1.0  # inverse temperature of the choice

    def __call__(self, key: Key, t: Array, pool: Pool) -> Array:
        shown = jnp.where(pool.synthetic & (pool.age(t) == 0), pool.weight, 0.0)  # [capacity]
        log_odds = at(self.strength, t) * judged(self.reward, pool)  # [capacity]
        if self.best_of is None:
            there = shown > 0  # [capacity]
            masses = jnp.log(jnp.where(there, shown, 1.0))  # [capacity]
            tilt = jax.nn.softmax(jnp.where(there, log_odds + masses, jnp.finfo(jnp.float32).min))  # sums to 1
            kept = tilt * shown.sum()
        else:
            shuffle, choice = split(key)
            order = jnp.argsort(jnp.where(shown > 0, uniform(shuffle, shown.shape), jnp.inf))  # [capacity]
            noisy = jnp.where(shown > 0, log_odds - jnp.log(exponential(choice, shown.shape)), -jnp.inf)  # [capacity]
            groups = -(-pool.capacity // self.best_of)
            slots = jnp.pad(order, (0, groups * self.best_of - pool.capacity), constant_values=pool.capacity)
            slots = slots.reshape(groups, self.best_of)  # [groups, K], past the end where a group is not full
            best = jnp.take(noisy, slots, mode="fill", fill_value=-jnp.inf).argmax(
                1
            )  # Gumbel-max: a draw of the softmax
            # By its slot: floats may be computed twice, and then one is not always equal to itself.
            chosen = jnp.zeros(pool.capacity, bool).at[slots[jnp.arange(groups), best]].set(True, mode="drop")
            kept = shown * (chosen & jnp.isfinite(noisy))
        return pool.weight * pool.real + kept

    def check(self, chain: Sizes) -> None:
        if self.best_of is not None and not 1 <= self.best_of <= chain.rows:
            raise GenlossError(f"Curate(best_of={self.best_of}) must lie between 1 and the {chain.rows} rows written.")

    def horizon(self, chain: Sizes) -> int | None:
        return None if chain.fresh else 1

    @property
    def wants_scores(self) -> bool:
        return self.reward == "model"
