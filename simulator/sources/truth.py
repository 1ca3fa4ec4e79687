"""A known truth: a generator with fixed parameters."""

from __future__ import annotations

from dataclasses import dataclass

import jax

from simulator.abilities import Ending
from simulator.numerics.chance import fold_in
from simulator.pool import Rows
from simulator.types import Array, Generator, Key, Params


@dataclass(frozen=True)
class Truth:
    """A generator with fixed parameters, taken as the real distribution: `Truth(Gaussian(2))`.

    `params=None` are the generator's own standard parameters, those of its `init`.
    """

    generator: Generator
    params: Params = None

    def draw(self, key: Key, n: int, held_out: bool = False, skip: Array | int = 0) -> Rows:
        """n rows; independent ones for every `skip` and for `held_out`."""
        params = self.generator.init(jax.random.key(0)) if self.params is None else self.params
        return self.generator.sample(fold_in(key, 2 * skip + held_out), params, n)

    @property
    def eos(self) -> int | None:
        """The token that ends a text, where the generator writes texts that end."""
        return self.generator.eos if isinstance(self.generator, Ending) else None
