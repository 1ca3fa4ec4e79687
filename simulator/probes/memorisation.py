"""Whether samples are copies of what was learned from, and how much there was to learn: distances to nearest rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import digamma

from simulator.checks.fields import Count, InsideShare, check
from simulator.numerics.chance import fold_in
from simulator.numerics.selection import choose, nth
from simulator.pool import Pool, Rows
from simulator.probes.features import flat, training
from simulator.probes.finite import counted, where_finite
from simulator.probes.neighbours import nearest
from simulator.types import Array, GenlossError, Key, Source, View


@dataclass(frozen=True)
class Memorisation:
    """How near samples are to the rows that were learned from, beside how near held-out real rows are to them.

    With D a training set of m rows of n features, ε(x) = min_{z ∈ D} ‖φ(x) - φ(z)‖, G the samples, R the held-out
    real rows, and q the `quantile` of ε over R:
      generalisation: mean of ε over G, the generalisation score of Shi et al. 2025 (arXiv:2509.16499, with κ the
      Euclidean distance; their published code takes its square, per feature); low: the `quantile` of ε over G;
      ratio: mean of ε over G / mean of ε over R, 1 for a perfect generator and 0 for copies;
      near: share of G with ε <= q, about `quantile` for a perfect generator and 1 for copies.
    Each for two D: `diet`, the rows of weight > 0 that this generation was fitted on, and `training`, the real training
    set (of an endless source other rows of the same law).  NaN where the diet is empty; ratio is inf or NaN where
    held-out rows are all copies of D.

    Metrics:
      diet.generalisation | samples' mean distance to the diet (GS) | feature units | higher is more diverse | O(n m d)
      diet.low | the lower quantile of that distance | feature units | higher is more diverse | O(n m d)
      diet.ratio | that mean over the one of held-out rows | >= 0, perfect is 1 | higher is more diverse | O(n m d)
      diet.near | share of samples nearer to it than nearly all held-out rows | [0, 1] | lower is better | O(n m d)
      diet.rows | rows of the diet compared with | rows | neither | O(m)
      training.generalisation | the same to real training rows | feature units | higher is more diverse | O(n m d)
      training.low | the lower quantile of that distance | feature units | higher is more diverse | O(n m d)
      training.ratio | that mean over the one of held-out rows | >= 0, perfect is 1 | neither | O(n m d)
      training.near | share of samples nearer than nearly all held-out rows | [0, 1] | lower is better | O(n m d)
      training.rows | real training rows compared with | rows | neither | O(1)
      rows | samples | rows | neither | O(1)
      reference_rows | held-out real rows | rows | neither | O(1)
    """

    no_ceiling: ClassVar[tuple[str, ...]] = ("training",)  # real rows are training rows themselves

    features: Callable[..., Array] = flat
    rows: Count = 10_000  # real training rows, and rows of the diet, at most
    quantile: InsideShare = 0.05

    __post_init__ = check

    def prepare(self, key: Key, source: Source) -> Rows:
        """Real training rows as the source serves them, leaves [<= rows, ...]."""
        return training(key, source, self.rows)

    def __call__(self, key: Key, view: View) -> dict[str, Array | dict[str, Array]]:
        # Constants of the program: without the barrier the compiler would compute their distances.
        real, reference = jax.lax.optimization_barrier((view.prepared[self], view.reference))
        samples, held_out, trained = (view.embed(self.features, x) for x in (view.synthetic, reference, real))
        diet, weight = eaten(key, view.diet, self.rows)
        there = weight > 0  # [m]
        n, m = samples.shape[0], trained.shape[0]
        return {
            "diet": self.of(samples, held_out, view.embed(self.features, diet), there) | {"rows": there.sum()},
            "training": self.of(samples, held_out, trained) | {"rows": jnp.asarray(m)},
            "rows": jnp.asarray(n),
            "reference_rows": jnp.asarray(held_out.shape[0]),
        }

    def of(self, samples: Array, held_out: Array, trained: Array, there: Array | None = None) -> dict[str, Array]:
        """The four of samples [n, d] and held-out rows [r, d] against those rows of trained [m, d] that are `there`."""
        both = nearest(jnp.concatenate([samples, held_out]), trained, 1, there)[0][:, 0]  # [n + r]
        distance = jnp.sqrt(jnp.where(both < jnp.inf, both, jnp.nan))  # [n + r]
        said, real = distance[: samples.shape[0]], distance[samples.shape[0] :]  # [n], [r]
        bound = jnp.quantile(real, self.quantile)  # []
        return {
            "generalisation": said.mean(),
            "low": jnp.quantile(said, self.quantile),
            "ratio": said.mean() / real.mean(),
            "near": jnp.where(jnp.isnan(said) | jnp.isnan(bound), jnp.nan, said <= bound).mean(),
        }


@dataclass(frozen=True)
class DietEntropy:
    """k-NN differential entropy of the diet, which falls before samples turn into copies (Shi et al. 2025,
    arXiv:2509.16499; Kozachenko & Leonenko 1987).

    Of the N distinct rows of weight > 0, with shares p_i of the diet's mass (copies add to the share of one row),
    ε_i the distance to the k-th nearest of the others and P_i the share of those k among the others:
      H = d Σ p_i log ε_i + log V_d + ψ(N) - ψ(k) + Σ p_i log(k / ((N - 1) P_i)),  V_d the volume of the unit ball.
    Where rows weigh alike the last term is 0 and H is the estimator of the paper.  A row twice is a row of weight 2;
    without that, one pair of copies would give -∞ (the paper's code floors ε at 1e-10 instead, -23 d nats for each
    copy).  Beware of comparing feature spaces: H is of a density, in nats, and may be negative.  NaN where the
    diet has no more than k distinct rows.  Where the pool has room for more than `rows`, as many are chosen at random
    without replacement, with their weights.

    Metrics:
      entropy | k-NN differential entropy of the diet's density | nats | higher is more diverse | O(n² d)
      copies | share of its rows that are copies of others of them | [0, 1] | lower is more diverse | O(n log n)
      rows | rows of the diet used, copies too | rows | neither | O(n)
    """

    features: Callable[..., Array] = flat
    neighbours: Count = 1  # k
    rows: Count = 10_000  # rows of the diet, at most

    def __post_init__(self) -> None:
        check(self)
        if self.rows <= self.neighbours:
            raise GenlossError(f"DietEntropy(rows={self.rows}) must be more than its {self.neighbours} neighbours.")

    def __call__(self, key: Key, view: View) -> dict[str, Array]:
        diet, weight = eaten(key, view.diet, self.rows)
        x = view.embed(self.features, diet)  # [n, d]
        merged = distinct(x, weight)  # [n]
        used = (weight > 0).sum()
        found = {"entropy": entropy(x, merged, self.neighbours), "copies": 1 - (merged > 0).sum() / used}
        return {**where_finite(found, counted(x, weight)), "rows": used}


def eaten(key: Key, diet: Pool, most: int) -> tuple[Rows, Array]:
    """Rows of the diet, leaves [<= most, ...], and their weights, 0 for empty ones: all, or `most` by chance."""
    if diet.capacity <= most:
        return diet.rows, diet.weight
    index = nth(choose(fold_in(key, 0), (diet.weight > 0).astype(jnp.float32), most), jnp.arange(most))  # [most]
    there = index < diet.capacity
    index = jnp.where(there, index, 0)
    return diet.take(index), jnp.where(there, diet.weight[index], 0.0)


def entropy(x: Array, weight: Array, k: int) -> Array:
    """H of `DietEntropy` in nats, of distinct rows x [n, d] with weights [n]; those of weight 0 are not there."""
    n, d = x.shape
    if n <= k:
        return jnp.float32(jnp.nan)
    there = weight > 0  # [n]
    share = weight / weight.sum()  # [n]
    squared, index = nearest(x, x, k, there, same=True)  # [n, k]
    tiny = jnp.finfo(jnp.float32).tiny
    reach = 0.5 * jnp.log(jnp.maximum(squared[:, -1], tiny))  # [n]: log ε
    count = there.sum()
    among = share[index].sum(1) / jnp.maximum(1 - share, tiny)  # [n]: P
    tilt = jnp.log(k / ((count - 1) * among))  # [n]: 0 where rows weigh alike
    ball = d / 2 * math.log(math.pi) - math.lgamma(d / 2 + 1)  # log V_d
    mean = (share * jnp.where(there, d * reach + tilt, 0.0)).sum()  # []
    found = mean + ball + digamma(count.astype(jnp.float32)) - digamma(jnp.float32(k))
    return jnp.where(count > k, found, jnp.nan)


def distinct(x: Array, weight: Array) -> Array:
    """Weights [n] of rows x [n, d] with those of equal rows gathered on the first of them, the others 0."""
    n, d = x.shape
    # Two sums of scrambled bits stand for a row: of whole numbers, so that equal rows have equal sums in any order.
    odd = np.random.default_rng(0).integers(2**31, size=(2, d), dtype=np.uint32) * 2 + 1  # [2, d]
    bits = jax.lax.bitcast_convert_type(jnp.where(x == 0, 0.0, x), jnp.uint32)  # [n, d]: -0 is 0
    bits = bits * jnp.uint32(0x9E3779B1)
    first, second = ((bits ^ (bits >> 16)) * odd[:, None]).sum(-1, dtype=jnp.uint32)  # [n], [n]
    first, second, order = jax.lax.sort((first, second, jnp.arange(n)), num_keys=2)  # [n]: equal rows side by side
    new = (jnp.diff(first, prepend=~first[:1]) != 0) | (jnp.diff(second, prepend=~second[:1]) != 0)  # [n]
    group = jnp.cumsum(new) - 1  # [n]
    total = jnp.zeros(n).at[group].add(weight[order])  # [n]: of each distinct row
    return jnp.zeros(n).at[order].set(jnp.where(new, total[group], 0.0))
