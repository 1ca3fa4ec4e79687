"""The keys that the layers of a network ask for in turn."""

from __future__ import annotations

from typing import Any

import jax
from flax import nnx


class Count(nnx.RngCount):
    """How many were asked for, set without a look at where that number lies.

    Of a number that is traced nobody knows, and jax says so in a message for which it goes through all that was traced
    so far: of the 0.9 s that the beginning of a small U-Net took to trace, 0.7.
    """

    def __setitem__(self, index: Any, value: Any) -> None:
        self.set_raw_value(value)


def streams(key: jax.Array | int) -> nnx.Rngs:
    """`nnx.Rngs(key)`, whose keys it gives."""
    made = nnx.Rngs(key)
    made.default.count = Count(made.default.count[...], tag="default")
    return made
