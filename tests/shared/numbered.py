"""Chains whose every row can be told: real ones are numbered, and what is said is drawn from a range no row repeats."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from generators.train import Trained
from simulator import Chain, Pool
from simulator.sources.split import Split, Stream

REAL, WRITTEN, FRESH = 30, 8, 5


@dataclass(frozen=True)
class Numbers(Stream):
    """Rows {"x": int32 [width] of numbers of their own, "label": int32}, and as many held out."""

    size_: int = 70
    width: int = 2
    reuse: bool = False

    @property
    def split(self) -> Split:
        x = 1 + np.arange(2 * self.size_ * self.width, dtype=np.int32).reshape(2, self.size_, self.width)
        train, test = ({"x": part, "label": part[:, 0] % 3} for part in x)
        return Split(train, test, (), "numbers")

    @property
    def supply(self) -> str:
        return f"there are {self.size_} numbers"


@dataclass(frozen=True)
class Apart(Numbers):
    """The same rows by a `draw` of its own, so that nobody may know where they lie and each chain holds its own."""

    def draw(self, key: Any, n: int, held_out: bool = False, skip: Any = 0) -> Any:
        return super().draw(key, n, held_out, skip)


def said(key: Any, params: Any, n: int, width: int = 2) -> Any:
    x = jax.random.randint(key, (n, width), 10**6, 2**24)
    x = x + params["sum"].astype(jnp.int32) % 2
    return {"x": x, "label": x[:, 0] % 3}


@dataclass(frozen=True)
class Sum:
    """Learns a weighted sum of all rows, exactly; what it says are numbers that no real row has."""

    def init(self, key: Any) -> Any:
        return {"sum": jnp.float32(0)}

    def fit(self, key: Any, params: Any, pool: Pool) -> Any:
        found = pool.weight.astype(jnp.uint32) @ pool.rows["x"].astype(jnp.uint32)  # [width], modulo 2^32
        return {"sum": (found.sum() % 2**20).astype(jnp.float32)}, {}

    def sample(self, key: Any, params: Any, n: int) -> Any:
        return said(key, params, n)


@dataclass(frozen=True, kw_only=True)
class Steps(Trained):
    """Learns nothing by steps, whose loss says which rows they saw, exactly."""

    width: int = 2

    def init(self, key: Any) -> Any:
        return {"sum": jnp.float32(0)}

    def losses(self, key: Any, params: Any, rows: Any) -> Any:
        return (rows["x"] % 1024).sum(-1).astype(jnp.float32) + 0 * params["sum"]

    def sample(self, key: Any, params: Any, n: int) -> Any:
        return said(key, params, n, self.width)


def seen(key: Any, view: Any) -> Any:
    """Every slot of the diet, and what is said."""
    diet = view.diet
    return {
        "x": diet.rows["x"],
        "label": diet.rows["label"],
        "some": diet.take(jnp.array([3, 0, 31]))["x"],
        "origin": diet.origin,
        "birth": diet.birth,
        "weight": diet.weight,
        "said": view.synthetic["x"],
        **view.params,
    }


def summed(key: Any, view: Any) -> Any:
    """A number that depends on every slot of the diet, and on some that are read alone, exactly."""
    diet, odd = view.diet, 2 * jnp.arange(view.diet.capacity)[:, None] + 1  # [capacity, 1]
    some = diet.take(jnp.arange(0, diet.capacity, 3))["x"]
    parts = {"rows": diet.rows["x"] * odd, "some": some * odd[: len(some)], "weight": diet.weight[:, None] * odd}
    return {**{name: (part.astype(jnp.uint32).sum() % 2**20) for name, part in parts.items()}, **view.params}


def chain(**fields: Any) -> Chain:
    usual = {"source": Numbers(), "generator": Sum(), "probes": {"seen": seen}, "held_out": 10}
    return Chain(**{**usual, "real": REAL, "rows": WRITTEN, **fields})
