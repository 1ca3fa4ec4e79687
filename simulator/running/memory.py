"""Whether a run fits into memory, asked before anything is made."""

from __future__ import annotations

import os
from typing import Any

import jax

from simulator.chain import Chain
from simulator.pool import without
from simulator.running.ahead import calls
from simulator.sources.split import table_of
from simulator.types import GenlossError, State

MOST = 2**31 - 1  # generations and slots are counted in 32 bits


def check(chain: Chain, generations: int, chains: int, devices: int = 1) -> None:
    """Raises where the pools of so many chains, or their records, could not be held."""
    if generations > MOST:
        raise GenlossError(f"`generations` is {generations:,} and must be at most {MOST:,}.")
    slots = chain.ring.capacity(generations)
    if max(slots, generations) * chains < 10**6:  # too few to be counted
        return
    if max(slots, chain.real, chain.rows) > MOST:
        raise GenlossError(
            f"{generations:,} generations need a pool of {slots:,} rows, and it holds at most {MOST:,}; give fewer "
            "generations or rows, or a recipe that forgets, such as Window."
        )
    one = jax.eval_shape(lambda: chain.speaker(0).sample(jax.random.key(0), chain.model.init(jax.random.key(0)), 1))
    table = table_of(chain.source)
    rows, beside = (slots, 12) if table is None else (chain.ring.own_slots(slots), 16)  # origin, birth, weight, place
    row, shared = bytes_of(one), bytes_of(table)
    record = 4 * (1 + len(chain.probes)) * generations  # a number a probe at least
    need, there = chains * (row * rows + beside * slots + record) + devices * shared, devices * _memory()
    if need > there:
        raise GenlossError(
            f"{generations:,} generations need {need / 1e9:,.0f} GB of pools ({rows:,} rows of {row:,} B a chain) and "
            f"records, and there are {there / 1e9:,.0f} GB; give fewer generations, rows or chains, or a recipe that "
            "forgets, such as Window."
        )


def bytes_of(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _memory() -> int:
    """Bytes of one device."""
    stats: dict[str, Any] = jax.local_devices()[0].memory_stats() or {}
    return int(stats.get("bytes_limit", 0)) or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def fits(drive: Any, state: State) -> None:
    """Raises where a piece of a generation would not fit on the device beside the pools, before any is computed.

    All generations have the same shapes, so what fits once fits to the end.  `drive` is a `drive.Drive`; its pieces
    are compiled by this, and not again when they are called.
    """
    shapes, there = jax.eval_shape(lambda: state), _memory()
    for piece, arguments in calls(drive, shapes):
        program = piece.func.lower(*piece.args, *arguments).compile()
        need = taken(program) + bytes_of(without(shapes, arguments))
        if need > there:
            raise GenlossError(
                f"A generation needs {need / 1e9:,.1f} GB to {piece.func.__name__}, and the device gives "
                f"{there / 1e9:,.1f} GB; lower the batch, the sample_batch, the rows or the number of chains."
            )


def taken(program: Any) -> int:
    """Bytes that a compiled program takes while it runs: arguments, results that are not their places, and between."""
    said = program.memory_analysis()
    return int(
        said.argument_size_in_bytes + said.output_size_in_bytes - said.alias_size_in_bytes + said.temp_size_in_bytes
    )
