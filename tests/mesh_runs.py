"""Small runs on meshes, for tests that compare them with runs on one device.

    python mesh_runs.py FOLDER [ADDRESS PROCESSES INDEX]

stores each of `RUNS` in FOLDER, on a mesh of 8 devices, and in refused.json what was said to what cannot be.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from conftest import gaussian_chain, moments

from generators import Gaussian
from generators.train import Trained
from simulator import Chain, GenlossError, Progress, Store, Sweep, Truth, run, spec
from simulator.mesh import devices, join
from simulator.recipe import Accumulate, Window

KEY = jax.random.key(0)


@dataclass(frozen=True, kw_only=True)
class Bell(Trained):
    """A normal distribution on the line or plane, learned by gradient steps."""

    dim: int = 2

    def init(self, key: jax.Array) -> Any:
        return {"mean": jax.random.normal(key, (self.dim,)), "log_scale": jnp.zeros(self.dim)}

    def loss(self, key: jax.Array, params: Any, rows: jax.Array) -> jax.Array:
        """Negative log density of noised rows, less a constant, in nats a row."""
        x = rows + 0.1 * jax.random.normal(key, rows.shape)  # [n, dim]
        z = (x - params["mean"]) * jnp.exp(-params["log_scale"])
        return (z**2 / 2 + params["log_scale"]).sum(-1).mean()

    def sample(self, key: jax.Array, params: Any, n: int) -> jax.Array:
        return params["mean"] + jnp.exp(params["log_scale"]) * jax.random.normal(key, (n, self.dim))


def learned(key: jax.Array, view: Any) -> Any:
    return {**view.params, "said": view.synthetic.mean(0)}


gaussians = gaussian_chain(dim=2, recipe=Window(3), fresh=5)
network = Chain(
    source=Truth(Gaussian(2)),
    generator=Bell(steps=20, chunk=5, batch=16),
    recipe=Accumulate(),
    probes={"learned": learned},
    real=40,
    rows=40,
    held_out=0,
    start="previous",
)
biases = {f"{bias}": bias for bias in (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65)}

# name: (what is run, generations, replicates, every, devices of the axes "chain" and "batch")
RUNS: dict[str, tuple[Chain | Sweep, int, int | None, int, int, int]] = {
    "gaussians": (gaussians, 6, 8, 2, 4, 2),
    "settings": (Sweep(gaussians, "generator.bias", biases), 3, 3, 1, 8, 1),
    "networks": (network, 3, 4, 1, 2, 4),
    "network": (network, 3, None, 1, 1, 8),
}
