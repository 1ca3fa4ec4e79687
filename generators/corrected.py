"""A generator whose rows are corrected before anybody eats them: moved to the nearest centre of real rows."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from simulator.abilities import completes, shaped
from simulator.checks.fields import Count, Share, check
from simulator.numerics.chance import fold_in, uniform
from simulator.numerics.selection import draw
from simulator.pool import Pool, Rows
from simulator.sources.given import said
from simulator.types import Array, Generator, Key, Params

_APART = 1e4  # between rows of neighbouring labels, which so have centres of their own


@dataclass(frozen=True)
class Corrected:
    """Any generator of points or images, a share γ/(1 + γ) of whose rows are corrected (Gillman et al. 2024,
    arXiv:2402.07087, whose idealised correction is (p + γ p*)/(1 + γ) of the model's law p and the truth p*).

    A row is moved to the nearest of the centres of the diet's real rows, those of its label where it has one: k-means
    with weights (Lloyd 1982, doi:10.1109/TIT.1982.1056489) from seeds by squared distance (Arthur & Vassilvitskii
    2007).  Where a diet has no real row the centres are those of the parameters that the fit began at
    (`start="previous"`), and where there are none either, nothing is corrected.
    """

    generator: Generator
    centres: Count = 100  # k
    share: Share | Array = 0.5  # γ/(1 + γ) of the rows, which are corrected: 0.5 for γ = 1
    steps: Count = 10  # of k-means

    __post_init__ = check

    def shaped(self, rows: Rows) -> Corrected:
        """The same for rows like these."""
        return dataclasses.replace(self, generator=shaped(self.generator, rows))

    def init(self, key: Key) -> dict[str, Any]:
        """{"own": the inner generator's start, "centres": [k, d] of none, "known": whether there are some}."""
        own = self.generator.init(key)
        d = jax.eval_shape(lambda: _points(self.generator.sample(key, own, 1))).shape[1]
        return {"own": own, "centres": jnp.zeros((self.centres, d)), "known": jnp.bool_(False)}

    def fit(self, key: Key, params: Params, pool: Pool) -> tuple[dict[str, Any], dict[str, Array]]:
        own, info = self.generator.fit(key, params["own"], pool)
        weight = pool.weight * pool.real  # [capacity]
        real = weight.sum() > 0
        found = self._means(fold_in(key, 1), jnp.where(real, weight, 1.0), _points(pool.rows))  # [k, d]
        centres = jnp.where(real, found, params["centres"])
        return {"own": own, "centres": centres, "known": real | params["known"]}, info

    @property
    def completes(self) -> bool:
        return completes(self.generator)

    def sample(self, key: Key, params: Params, n: int, given: Rows | None = None) -> Rows:
        """The inner generator's rows, leaves [n, ...], a share of them corrected."""
        rows = said(self.generator, key, params["own"], n, given)
        nearest = params["centres"][_distances(_points(rows), params["centres"]).argmin(0)]  # [n, d]
        chosen = (uniform(fold_in(key, 1), (n,)) < self.share) & params["known"]  # [n]
        name = _name(rows)
        values = rows[name] if name else rows  # [n, ...]
        moved = nearest[:, : values[0].size].reshape(values.shape)
        if jnp.issubdtype(values.dtype, jnp.integer):
            moved = jnp.round(moved)
        values = jnp.where(chosen.reshape(-1, *[1] * (values.ndim - 1)), moved.astype(values.dtype), values)
        return {**rows, name: values} if name else values

    def _means(self, key: Key, weight: Array, x: Array) -> Array:
        """Centres [k, d] of rows x [n, d]."""

        def seed(square: Array, key: Key) -> tuple[Array, Array]:
            potential = weight * jnp.where(jnp.isfinite(square), square, 1.0)  # [n]; the first seed is drawn by weight
            new = x[draw(key, jnp.where(potential.sum() > 0, potential, weight), ())]  # [d]
            return jnp.minimum(square, ((x - new) ** 2).sum(1)), new

        def step(_: Array, centres: Array) -> Array:
            near = _distances(x, centres).argmin(0)  # [n]
            mass = jax.ops.segment_sum(weight, near, self.centres)[:, None]  # [k, 1]
            total = jax.ops.segment_sum(weight[:, None] * x, near, self.centres)  # [k, d]
            return jnp.where(mass > 0, total / jnp.where(mass > 0, mass, 1.0), centres)

        keys = jax.vmap(lambda i: fold_in(key, i))(jnp.arange(self.centres))
        seeds = jax.lax.scan(seed, jnp.full(len(x), jnp.inf), keys)[1]  # [k, d]
        return jax.lax.fori_loop(0, self.steps, step, seeds)


def _name(rows: Rows) -> str:
    """Of what is corrected; "" for rows that are points."""
    return ("image" if "image" in rows else "x") if isinstance(rows, dict) else ""


def _points(rows: Rows) -> Array:
    """Rows as points, [n, d], in their own units; with the label, far apart, as one coordinate more."""
    name = _name(rows)
    values = rows[name] if name else rows
    x = values.reshape(values.shape[0], -1).astype(jnp.float32)  # [n, values]
    if not (name and "label" in rows):
        return x
    return jnp.concatenate([x, _APART * rows["label"][:, None].astype(jnp.float32)], axis=1)


def _distances(x: Array, centres: Array) -> Array:
    """Squared, [k, n]: one centre after the other, so that nothing of [k, n, d] is held."""
    return jax.lax.map(lambda centre: ((x - centre) ** 2).sum(1), centres)
