"""A bell that breaks where it is asked for 11 rows, and takes its time where it is asked for 13."""

import time
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from generators.gaussian import Gaussian
from simulator import Chain, Truth
from simulator.probes import Moments


@dataclass(frozen=True)
class Fragile(Gaussian):
    """A normal distribution."""

    def sample(self, key: Any, params: Any, n: int) -> Any:
        if n == 13:
            jax.debug.callback(lambda _: time.sleep(1), params.mean)
        return jnp.full((n, self.dim), jnp.nan) if n == 11 else super().sample(key, params, n)


chain = Chain(
    source=Truth(Gaussian(1)),
    generator=Fragile(1),
    probes={"moments": Moments()},
    real=20,
    rows=20,
    held_out=0,
)
generations = 2
