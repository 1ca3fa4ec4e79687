"""One model per class: any generator made class-conditional."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from generators.given import labels
from simulator.abilities import shaped
from simulator.checks.fields import Count, check
from simulator.numerics.selection import draw
from simulator.pool import Pool, Rows
from simulator.types import Array, Generator, GenlossError, Key, Params


class PerClassParams(NamedTuple):
    share: Array  # [classes]: probability of each label
    models: Params  # leaves [classes, ...]: the inner generator of each

    @property
    def probs(self) -> Array:
        """[classes]: the shares, under the name that categories have."""
        return self.share


@dataclass(frozen=True)
class PerClass:
    """Rows are {"x": rows of the inner generator, "label": int32}; each class has its own inner model.

    Labels have their weighted share of the diet, and the model of class c eats the rows of label c with their weights.
    A class that has lost all its mass keeps the parameters the fit began at, and is never sampled again.
    """

    generator: Generator
    classes: Count  # number of labels

    completes: ClassVar[bool] = True

    __post_init__ = check

    def shaped(self, rows: Rows) -> PerClass:
        """The same for rows like these."""
        if not (isinstance(rows, dict) and rows.keys() == {"x", "label"}):
            raise GenlossError("PerClass needs rows with an x and a label; give it such a source.")
        if (top := int(rows["label"].max())) >= self.classes:
            raise GenlossError(f"PerClass(classes={self.classes}) was shown label {top}; give at least {top + 1}.")
        return dataclasses.replace(self, generator=shaped(self.generator, rows["x"]))

    def init(self, key: Key) -> PerClassParams:
        """Labels equally likely, each with the inner generator's own start."""
        models = jax.vmap(self.generator.init)(jax.random.split(key, self.classes))
        return PerClassParams(jnp.full(self.classes, 1 / self.classes, jnp.float32), models)

    def fit(self, key: Key, params: PerClassParams, pool: Pool) -> tuple[PerClassParams, dict[str, Array]]:
        """What the inner fits report has a leading axis [classes]."""
        weight = pool.weight * (pool.rows["label"] == jnp.arange(self.classes)[:, None])  # [classes, n]
        mass = weight.sum(1)  # [classes]

        def one(key: Key, before: Params, weight: Array) -> tuple[Params, dict[str, Array]]:
            after, info = self.generator.fit(key, before, pool.replace(rows=pool.rows["x"], weight=weight))
            return jax.tree.map(lambda new, old: jnp.where(weight.sum() > 0, new, old), after, before), info

        models, info = jax.vmap(one)(jax.random.split(key, self.classes), params.models, weight)
        return PerClassParams(mass / mass.sum(), models), info

    def sample(self, key: Key, params: PerClassParams, n: int, given: Rows | None = None) -> Rows:
        """{"x": leaves [n, ...], "label": [n]}; every class writes n rows and the label picks, so shapes are fixed.

        The label is that of `given`, or drawn by share.
        """
        first, second = jax.random.split(key)
        label = draw(first, params.share, (n,)) if given is None else labels(given, n, "PerClass")  # [n]
        keys = jax.random.split(second, self.classes)
        rows = jax.vmap(lambda k, p: self.generator.sample(k, p, n))(keys, params.models)  # leaves [classes, n, ...]
        return {"x": jax.tree.map(lambda a: a[label, jnp.arange(n)], rows), "label": label}

    def log_prob(self, params: PerClassParams, rows: Rows) -> Array:
        """log P(label) + log p(x | label), [n], in nats, where the inner generator has a density."""
        inner: Any = self.generator
        label = rows["label"]  # [n]
        each = jax.vmap(inner.log_prob, (0, None))(params.models, rows["x"])  # [classes, n]
        return jnp.log(params.share)[label] + each[label, jnp.arange(len(label))]
