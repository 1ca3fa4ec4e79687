"""What a run would cost, without running it."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from simulator.chain import Chain
from simulator.drive import Drive, check, kept
from simulator.sweep import Sweep
from simulator.types import Key


def estimate(
    chain: Chain | Sweep,
    key: Key,
    generations: int,
    replicates: int | None = None,
    every: int = 1,
    mesh: Mesh | None = None,
) -> dict[str, str]:
    """Sizes of a run and its expected time, from timing some of its work (which compiles it), on a mesh if given."""
    check(key, generations, replicates, every)
    drive = Drive(chain, key, generations, replicates, mesh)
    state = drive.init()
    chains = drive.keys.size * (len(drive.settings) if drive.sweep else 1)
    pool = sum(leaf.nbytes for leaf in jax.tree.leaves(state.pool))
    weights = sum(leaf.size for leaf in jax.tree.leaves(state.params)) // chains
    row = sum(leaf.nbytes for leaf in jax.tree.leaves(kept(state.pool))) // (chains * state.pool.weight.shape[-1])
    if drive.trained:
        fresh = jax.tree.map(lambda a: jnp.take(a, 0, axis=drive.axes), drive.serve(state.key, jnp.arange(1)))
        _, diet, training = drive.begin(state, jnp.int32(0), fresh)
        work: Callable[[], Any] = functools.partial(drive.advance, diet)
        training = jax.block_until_ready(work(training))
        started = time.perf_counter()
        jax.block_until_ready(work(training))
        each = (time.perf_counter() - started) * drive.chain.model.calls  # pyright: ignore[reportAttributeAccessIssue]
    else:
        ts = jnp.arange(min(every, generations))
        fresh = drive.serve(state.key, ts)
        state, _ = jax.block_until_ready(drive.scan(state, ts, fresh))
        started = time.perf_counter()
        jax.block_until_ready(drive.scan(state, ts, fresh))
        each = (time.perf_counter() - started) / len(ts)
    on = "" if mesh is None else f", shared by {mesh.shape['chain']} x {mesh.shape['batch']} devices"
    return {
        "chains": f"{chains}{on}",
        "generations": f"{generations}",
        "real rows": f"{drive.chain.real} at the start, {drive.chain.fresh} fresh a generation",
        "synthetic rows": f"{drive.chain.rows} a generation",
        "pool": f"{state.pool.weight.shape[-1]} rows of {row} B a chain",
        "parameters": f"{weights:,} a chain",
        "memory": f"{_bytes(pool)} of pools, {_bytes(4 * weights * chains)} of parameters, and what a step needs",
        "disk": f"about {_bytes(generations * chains * (drive.chain.rows * row + 4 * weights))} before compression",
        "time": f"about {each * generations:.1f} s of training on {jax.devices()[0].device_kind}, "
        "and compiling, measuring, saving",
    }


def _bytes(n: float) -> str:
    for unit in ("B", "kB", "MB"):
        if n < 1000:
            return f"{n:.0f} {unit}"
        n /= 1000
    return f"{n:.1f} GB"
