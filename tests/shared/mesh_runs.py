"""Small runs on meshes of 8 devices, for tests that compare them with runs on one."""

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from conftest import gaussian_chain

from generators import Gaussian
from generators.train import Trained
from simulator import Chain, GenlossError, Pool, Progress, Sweep, Truth, ensemble, run
from simulator.recipe import Accumulate, Window
from simulator.running import spec
from simulator.running.mesh import Layout, devices

KEY = jax.random.key(0)


@dataclass(frozen=True, kw_only=True)
class Bell(Trained):
    """A normal distribution on the line or plane, learned by gradient steps."""

    dim: int = 2

    def init(self, key: jax.Array) -> Any:
        return {"mean": jax.random.normal(key, (self.dim,)), "log_scale": jnp.zeros(self.dim)}

    def losses(self, key: jax.Array, params: Any, rows: jax.Array) -> jax.Array:
        """Negative log density of noised rows, less a constant, in nats a row."""
        x = rows + 0.1 * jax.random.normal(key, rows.shape)  # [n, dim]
        z = (x - params["mean"]) * jnp.exp(-params["log_scale"])
        return (z**2 / 2 + params["log_scale"]).sum(-1)

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
    "settings": (Sweep(gaussians, "generator.bias", biases), 4, 3, 2, 4, 2),
    "networks": (network, 3, 4, 1, 2, 4),
    "network": (network, 3, None, 1, 1, 8),
}


class Stopped(Exception):
    pass


def stop(progress: Progress) -> None:
    if progress.done == 1 and progress.part > 0.6:
        raise Stopped


def stored(name: str, folder: Path, **more: Any) -> Any:
    subject, generations, replicates, every, chain, batch = RUNS[name]
    mesh = devices(chain, batch)
    return run(subject, KEY, generations, folder, replicates=replicates, every=every, mesh=mesh, **more)


def same_as_two_at_a_time() -> bool:
    """Whether 4 chains on 2 devices are, to the bit, those of one device that computes two at a time."""
    keys = jax.random.split(KEY, 4)
    over = lambda keys, mesh=None: ensemble(lambda _: gaussians, jnp.zeros(1), keys, 4, mesh)  # noqa: E731
    found, parts = over(keys, devices(2)), [over(keys[:2]), over(keys[2:])]
    return jax.tree.all(jax.tree.map(lambda a, *b: np.array_equal(a, np.concatenate(b, 1)), found, *parts))


def refused(work: Callable[[], Any]) -> str:
    try:
        work()
    except GenlossError as error:
        return str(error)
    return ""


def fitted(value: jax.Array, key: jax.Array) -> Any:
    model = Bell(steps=20, chunk=5, batch=12)
    return model.fit(key, model.init(key), Pool.of(jnp.zeros((40, 2))))


def main(folder: Path, names: list[str]) -> None:
    """Stores these runs in a folder, and what was found on the way in said0.json, or said1.json of a second process."""
    said = {}
    for name in names:
        if name == "stopped":
            with contextlib.suppress(Stopped):
                stored("network", folder / name, save_seconds=0, report=stop)
            said["saved"] = (folder / name / "fit.npz").exists()
            stored("network", folder / name, save_seconds=0)
        elif name == "ensemble":
            said["same"] = same_as_two_at_a_time()
        else:
            stored(name, folder / name)
    other = spec.override(network, {"generator.batch": 12})
    said["another run"] = refused(lambda: run(other, KEY, 3, folder / "network", mesh=devices(1, 8)))
    said["batch"] = refused(lambda: Layout.of(devices(1, 8), None, None).jit(fitted, ())(jnp.zeros(1), KEY))
    said["chains"] = refused(lambda: run(gaussians, KEY, 3, replicates=7, mesh=devices(8)))
    said["devices"] = refused(lambda: devices(8, 2))
    (folder / f"said{jax.process_index()}.json").write_text(json.dumps(said))
