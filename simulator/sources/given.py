"""Conditional speech: what of each row is given before a generator says the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal, cast

import jax.numpy as jnp

from simulator.abilities import Completing, completes
from simulator.checks.fields import Count, check
from simulator.numerics.selection import draw
from simulator.pool import Pool, Rows, count, take
from simulator.types import Array, Generator, GenlossError, Key, Params


def said(generator: Generator, key: Key, params: Params, n: int, given: Rows | None) -> Rows:
    """n rows of a generator, leaves [n, ...], with what is `given` of each."""
    if given is None:
        return generator.sample(key, params, n)
    if not completes(generator):
        raise GenlossError(
            f"{type(generator).__name__} makes whole rows and cannot be given part of them; leave `given` out."
        )
    return cast(Completing, generator).sample(key, params, n, given)


Given = Annotated[Callable[[Key, int, Pool, Rows], Rows], "a function of what is given, such as Prompts('label')"]
"""`(key, n, diet, real) -> given`, the part of each of n rows; `real` are the first real rows of the chain."""


@dataclass(frozen=True)
class Prompts:
    """Part of other rows: of rows drawn from the diet, by weight and with replacement, or from what of it is synthetic
    (at generation 0 nothing is, and all are drawn from); or of the first real rows, in their order and over again where
    there are too few.

    With the labels of real rows the labels of all generations stay theirs, so that no class is lost by chance; with the
    first tokens of real texts each generation goes on with the same texts (Shumailov et al. 2024,
    doi:10.1038/s41586-024-07566-y).
    """

    part: str | Count = "label"  # of a row: a name in it, or how many of its first tokens
    of: Literal["diet", "real", "synthetic"] = "diet"

    __post_init__ = check

    def __call__(self, key: Key, n: int, diet: Pool, real: Rows) -> Rows:
        """{part: leaves [n, ...]}, or tokens [n, part]."""
        if self.of == "real":
            return self._cut(take(real, jnp.arange(n) % count(real)))
        weight, own = diet.weight, diet.weight * diet.synthetic  # [capacity] each
        if self.of == "synthetic":
            weight = jnp.where(own.sum() > 0, own, weight)
        return self._cut(diet.take(draw(key, weight, (n,))))

    def _cut(self, rows: Rows) -> Rows:
        if isinstance(self.part, str):
            if not (isinstance(rows, dict) and self.part in rows):
                names = f"rows of {', '.join(rows)}" if isinstance(rows, dict) else "rows without names"
                raise GenlossError(f"Prompts gives the '{self.part}' of {names}; give a part that there is.")
            return {self.part: rows[self.part]}
        if not (isinstance(rows, Array) and rows.ndim == 2 and jnp.issubdtype(rows.dtype, jnp.integer)):
            raise GenlossError(f"Prompts({self.part}) gives first tokens, and these rows are no texts; name a part.")
        return rows[:, : self.part]
