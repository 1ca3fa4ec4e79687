"""What a run would cost, without running it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from simulator.abilities import Stepped
from simulator.chain import Chain
from simulator.pool import with_those
from simulator.running import memory, spec
from simulator.running.ahead import calls, told
from simulator.running.drive import Drive, check
from simulator.running.pieces import kept
from simulator.running.sweep import Sweep
from simulator.running.work import products
from simulator.types import Key, State

_TIMED = 1e12  # FLOPs of an optimizer step of all chains that a CPU is asked for at most, some ten seconds


class Cost(NamedTuple):
    """What a run would take."""

    lines: dict[str, str]  # sizes and time, in words
    chains: int
    bytes: int  # of pools and parameters
    seconds: float | None  # of training or, of what does not train, all; None where nothing was timed


def estimate(
    chain: Chain | Sweep,
    key: Key,
    generations: int,
    replicates: int | None = None,
    every: int = 1,
    mesh: Mesh | None = None,
) -> dict[str, str]:
    """The lines of `cost`."""
    return cost(chain, key, generations, replicates, every, mesh).lines


def cost(
    chain: Chain | Sweep,
    key: Key,
    generations: int,
    replicates: int | None = None,
    every: int = 1,
    mesh: Mesh | None = None,
) -> Cost:
    """Sizes of a run and its expected time, from timing some of its work (which compiles it), on a mesh if given.

    Sizes are those of shapes: what would take a CPU too long is compiled, for its memory, and neither made nor timed.
    """
    check(key, generations, replicates, every)
    number = (replicates or 1) * (len(chain.values) if isinstance(chain, Sweep) else 1)
    memory.check(chain.chain if isinstance(chain, Sweep) else chain, generations, number, mesh.size if mesh else 1)
    drive = Drive(chain, key, generations, replicates, mesh)
    shaped = drive.trained is not None and drive.layout is None  # then shapes are enough
    state: State = told(drive.init, told(drive.new, jnp.int32(-1))) if shaped else drive.start()
    chains = drive.keys.size * (len(drive.settings) if drive.sweep else 1)
    table = memory.bytes_of(drive.table)
    pools = memory.bytes_of(state.pool) + table * (mesh.size if mesh else 1)
    weights = sum(leaf.size for leaf in jax.tree.leaves(state.params)) // chains
    own = jax.tree.leaves(kept(state.pool))
    row = memory.bytes_of(own) // (chains * own[0].shape[drive.axes])
    step, besides = "what a step needs", f"on {jax.devices()[0].device_kind}, and compiling, measuring, saving"
    if drive.trained:
        each, said, taken = _training(chain, drive, state, lambda cut: Drive(cut, key, generations, replicates, mesh))
        model: Any = drive.chain.model
        if each is not None:
            rows = f": {chains * model.steps * model.batch / each:,.0f} rows/s" if hasattr(model, "batch") else ""
            said = f"about {each * generations:.1f} s of training ({said}{rows}) {besides}"
        step = step if taken is None else f"{written(taken)} that a step takes"
    else:
        ts = jnp.arange(1)
        fresh = drive.serve(state.key, ts)
        state, _ = jax.block_until_ready(drive.scan(state, ts, fresh))  # on an accelerator the old one is given away
        each, timed = _timed(lambda: drive.scan(jax.tree.map(jnp.copy, state), ts, fresh))
        said = f"about {each * generations:.1f} s ({timed} generations were timed) {besides}"
    on = "" if mesh is None else f", shared by {mesh.shape['chain']} x {mesh.shape['batch']} devices"
    lines = {
        "chains": f"{chains}{on}",
        "generations": f"{generations}",
        "real rows": f"{drive.chain.real} at the start, {drive.chain.fresh} fresh a generation",
        "synthetic rows": f"{drive.chain.rows} a generation",
        "pool": f"{state.pool.weight.shape[-1]} rows of {row} B a chain"
        + (f", real ones held once for all: {written(table)}" if table else ""),
        "parameters": f"{weights:,} a chain",
        "memory": f"{written(pools)} of pools, {written(4 * weights * chains)} of parameters, and {step}",
        "disk": f"about {written(generations * chains * (drive.chain.rows * row + 4 * weights))} before compression",
        "time": said,
    }
    return Cost(lines, chains, pools + 4 * weights * chains, None if each is None else each * generations)


def _timed(work: Callable[[], Any], seconds: float = 1.0) -> tuple[float, int]:
    """(seconds of one call, calls timed): as many as fit into some time, and one at least."""
    started, calls = time.perf_counter(), 0
    while not calls or time.perf_counter() - started < seconds:
        jax.block_until_ready(work())
        calls += 1
    return (time.perf_counter() - started) / calls, calls


def _training(
    chain: Chain | Sweep, drive: Drive, state: State, driven: Callable[[Chain | Sweep], Drive]
) -> tuple[float | None, str, int | None]:
    """(seconds of a fit, what was timed, bytes of that): a call of many optimizer steps, or one where that takes long.

    None for seconds where nothing is timed; on a mesh the bytes are not known.
    """

    def traced(drive: Drive) -> Any:
        """The program of a call, from shapes alone."""
        advance: Any = drive.advance
        return next(advance.func.trace(*advance.args, *a) for piece, a in calls(drive, state) if piece is advance)

    def called(drive: Drive) -> tuple[float, int, int | None]:
        begun = drive.start()
        diet, training = drive.begin(begun, jnp.int32(0), begun.params)  # there are no fresh rows yet
        diet = with_those(diet, begun.pool)
        taken = None if drive.layout else memory.taken(traced(drive).lower().compile())
        training = jax.block_until_ready(drive.advance(diet, training))  # compiles
        return *_timed(lambda: drive.advance(diet, jax.tree.map(jnp.copy, training))), taken

    assert drive.trained is not None
    rounds, model = drive.trained.calls, drive.chain.generator
    if isinstance(model, Stepped):
        chunk = min(model.chunk, model.steps)
        if jax.default_backend() == "cpu" and drive.layout is None:
            program = traced(drive)
            if (work := products(program.jaxpr) / chunk) > _TIMED:
                taken = memory.taken(program.lower().compile())
                return None, f"not timed on a CPU: an optimizer step is {work:.1e} operations", taken
        one = spec.override(drive.chain, {"generator.chunk": 1})
        seconds, timed, taken = called(
            driven(dataclasses.replace(chain, chain=one) if isinstance(chain, Sweep) else one)
        )
        if seconds * chunk > 3:
            return seconds * chunk * rounds, f"{timed} optimizer steps of {chunk * rounds} were timed", taken
    seconds, timed, taken = called(drive)
    return seconds * rounds, f"{timed} calls of {rounds} were timed", taken


def written(n: float) -> str:
    """Bytes, in words."""
    for unit in ("B", "kB", "MB"):
        if n < 1000:
            return f"{n:.0f} {unit}"
        n /= 1000
    return f"{n:.1f} GB"
