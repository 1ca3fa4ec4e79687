"""A class-conditional generator that is told more than the class, as a richer prompt tells a text-to-image model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from simulator.abilities import shaped
from simulator.checks.fields import Count, check
from simulator.numerics.selection import draw
from simulator.pool import Pool, Rows
from simulator.probes.features import flat
from simulator.types import Array, Generator, GenlossError, Key, Params


@dataclass(frozen=True)
class Prompted:
    """The inner generator conditioned on (class, variant) in place of the class: prompt diversification.

    At every fit each class of the diet is cut into `variants` groups by k-means of its features, by weight (Lloyd 1982,
    doi:10.1109/TIT.1982.1056489, from rows drawn at random); a group stands for what the templates and synonyms of a
    prompt say beside the name of the class (Hataya et al. 2023, arXiv:2211.08095).  A sampler that says little but the
    likeliest image of each condition, by temperature or guidance, then has that many modes a class to say.  Variants
    are said in their share of the diet, and rows keep the label of their class.
    """

    generator: Generator  # of rows {"image" or others, "label"}
    variants: Count = 16  # prompts a class
    features: Callable[[Rows], Array] = flat  # rows -> [n, d], where groups are found
    steps: Count = 20  # of k-means
    classes: Count | None = None  # number of labels; None takes the source's

    __post_init__ = check

    def shaped(self, rows: Rows) -> Prompted:
        """The same for rows like these."""
        if not (isinstance(rows, dict) and "label" in rows):
            raise GenlossError("Prompted needs rows with a label; give it such a source.")
        classes = int(rows["label"].max()) + 1 if self.classes is None else self.classes
        # The inner generator learns the number of its labels from rows: from the last variant of each.
        told = {**rows, "label": rows["label"] * self.variants + self.variants - 1}
        return dataclasses.replace(self, generator=shaped(self.generator, told), classes=classes)

    def init(self, key: Key) -> Params:
        """The inner generator's own start."""
        return self.generator.init(key)

    def fit(self, key: Key, params: Params, pool: Pool) -> tuple[Params, dict[str, Array]]:
        for_groups, for_fit = jax.random.split(key)
        label = pool.rows["label"]  # [n]
        told = label * self.variants + self._groups(for_groups, pool)  # [n]
        return self.generator.fit(for_fit, params, pool.replace(rows={**pool.rows, "label": told.astype(label.dtype)}))

    def sample(self, key: Key, params: Params, n: int) -> Rows:
        """The inner generator's rows, leaves [n, ...], each with its class for a label."""
        rows = self.generator.sample(key, params, n)
        return {**rows, "label": rows["label"] // self.variants}

    def _groups(self, key: Key, pool: Pool) -> Array:
        """[n] int32: the variant of each row, of those of its class."""
        if self.classes is None:
            raise GenlossError("Prompted has no number of classes; give `classes`, or let a chain take it.")
        x, label = self.features(pool.rows), pool.rows["label"]  # [n, d], [n]
        kinds = jnp.arange(self.classes)
        weight = pool.weight * (label == kinds[:, None])  # [classes, n]
        seeds = jax.vmap(lambda c, w: draw(jax.random.fold_in(key, c), w, (self.variants,)))(kinds, weight)
        centres = x[seeds.reshape(-1)]  # [classes variants, d]

        def nearest(centres: Array) -> Array:
            square = (centres**2).sum(1) - 2 * jnp.matmul(x, centres.T, precision="highest")  # [n, classes variants]
            own = jnp.take_along_axis(square.reshape(-1, self.classes or 0, self.variants), label[:, None, None], 1)
            return own[:, 0].argmin(1).astype(jnp.int32)  # [n]

        def step(_: int, centres: Array) -> Array:
            member = label * self.variants + nearest(centres)  # [n]
            mass = jax.ops.segment_sum(pool.weight, member, len(centres))[:, None]  # [classes variants, 1]
            total = jax.ops.segment_sum(pool.weight[:, None] * x, member, len(centres))  # [classes variants, d]
            return jnp.where(mass > 0, total / jnp.where(mass > 0, mass, 1), centres)  # one without rows stays

        return nearest(jax.lax.fori_loop(0, self.steps, step, centres))
