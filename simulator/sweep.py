"""One number of a chain, at several values: the settings of an experiment, run side by side as one program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from simulator import spec
from simulator.chain import Chain
from simulator.types import Array, GenlossError


@dataclass(frozen=True, eq=False)
class Sweep:
    """`Sweep(chain, "recipe.real", {"10 %": 0.1, "50 %": 0.5})`: the chain at each value of one of its fields.

    Several fields are swept together as `Sweep(chain, "recipe.real, generator.guidance", {"both": (1.0, 1.0)})`.  All
    settings share keys (common random numbers) and one compilation, so a field must be a number that no shape depends
    on.  Different recipes are swept as `Select((Replace(), Accumulate(), ...), 0)` over "recipe.index".
    """

    chain: Chain
    path: str  # dotted path of the field, or of several with commas between
    values: Mapping[str, Any]  # name of the setting -> a number, or a tuple of one for each field

    def __post_init__(self) -> None:
        if not self.values:
            raise GenlossError(f"The sweep over {self.path} has no values; give at least one.")
        for name, value in self.values.items():  # each setting alone must be a chain that can be built
            if np.size(value) != len(self.paths):
                raise GenlossError(
                    f"The setting '{name}' has {np.size(value)} values for {self.path}; give one a field."
                )
            self.make(value)

    @property
    def paths(self) -> list[str]:
        """Dotted paths of the fields."""
        return [path.strip() for path in self.path.split(",")]

    @property
    def grid(self) -> tuple[Array, ...]:
        """[settings] a field."""
        table = [value if isinstance(value, tuple | list) else (value,) for value in self.values.values()]
        return tuple(jnp.asarray(column) for column in zip(*table, strict=True))

    def make(self, value: Any) -> Chain:
        """The chain at one value, or at one value for each of several fields."""
        values = value if isinstance(value, tuple | list) else (value,)
        made = spec.override(self.chain, dict(zip(self.paths, values, strict=True)))
        if "prepared" in vars(self.chain) and not any(path.startswith(("source", "probes")) for path in self.paths):
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
