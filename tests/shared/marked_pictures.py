"""A source and a generator of pictures of chance, for marks."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from image_arrays import pictures

from simulator import Pool


@functools.cache
def clouds(side: int, c: int) -> jax.Array:
    with jax.ensure_compile_time_eval():  # kept beyond a trace that may ask for them first
        return jnp.asarray(pictures(100, side, side, c))


class Blank:
    """A generator that says pictures of chance, whatever it eats."""

    def init(self, key: jax.Array) -> Any:
        return jnp.zeros(())

    def fit(self, key: jax.Array, params: Any, pool: Pool) -> Any:
        return pool.weight.sum(), {}

    def sample(self, key: jax.Array, params: Any, n: int) -> Any:
        image = clouds(28, 1)[jax.random.randint(key, (n,), 0, 100)]
        return {"image": image, "label": jnp.zeros(n, jnp.int32)}


class Clouds:
    def draw(self, key: jax.Array, n: int, held_out: bool = False, skip: Any = 0) -> Any:
        return {"image": clouds(28, 1)[:n], "label": jnp.zeros(n, jnp.int32)}
