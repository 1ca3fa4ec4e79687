"""One number of a chain, at several values: the settings of an experiment, run side by side as one program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from simulator import spec
from simulator.chain import Chain
from simulator.types import Array, GenlossError


@dataclass(frozen=True, eq=False)
class Sweep:
    """`Sweep(chain, "recipe.real", {"10 %": 0.1, "50 %": 0.5})`: the chain at each value of one of its fields.

    All settings share keys (common random numbers) and one compilation, so the field must be a number that no shape
    depends on.  Different recipes are swept as `Select((Replace(), Accumulate(), ...), 0)` over "recipe.index".
    """

    chain: Chain
    path: str  # dotted path of the field
    values: Mapping[str, float | int]  # name of the setting -> value

    def __post_init__(self) -> None:
        if not self.values:
            raise GenlossError(f"The sweep over {self.path} has no values; give at least one.")
        for value in self.values.values():  # each setting alone must be a chain that can be built
            self.make(value)

    @property
    def grid(self) -> Array:
        """[settings]."""
        return jnp.asarray(list(self.values.values()))

    def make(self, value: float | int | Array) -> Chain:
        made = spec.override(self.chain, {self.path: value})
        if "prepared" in vars(self.chain) and not self.path.startswith(("source", "probes")):
            made.adopt(self.chain.prepared)
        return made

    def check(self) -> None:
        """Raises where the field cannot be swept in one program."""
        jax.eval_shape(lambda: self.chain.init(jax.random.key(0), 1).t)  # wrong without a sweep, too
        try:
            jax.eval_shape(lambda grid: jax.vmap(lambda v: self.make(v).init(jax.random.key(0), 1).t)(grid), self.grid)
        except (jax.errors.JAXTypeError, TypeError, GenlossError) as error:  # each value alone was fine
            raise GenlossError(
                f"`{self.path}` cannot be swept in one program, since shapes or choices made in Python depend on it; "
                "run one chain a value."
            ) from error
