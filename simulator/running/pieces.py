"""The pieces of a run: each a pure function of one chain `c`, its root key `k` and arrays, for `drive.Drive` to map."""

from __future__ import annotations

from typing import Any

import jax

from simulator.chain import Chain, key_for
from simulator.pool import Pool
from simulator.types import Array, Key, Record, State


def scan(c: Chain, k: Key, state: State, ts: Array, fresh: Any) -> tuple[State, Record]:
    def step(state: State, x: tuple[Array, Any]) -> tuple[State, Record]:
        return c.step(jax.random.fold_in(k, x[0]), state, x[1])

    return jax.lax.scan(step, state.replace(t=ts[0]), (ts, fresh))


def begin(c: Chain, k: Key, state: State, t: Array, fresh: Any) -> tuple[State, Pool, Any]:
    k = jax.random.fold_in(k, t)
    state, diet = c.eat(k, state.replace(t=t), fresh)
    return state, diet, c.model.begin(key_for(k, "fit"), c.first(k, state), diet)  # pyright: ignore


def portion(c: Chain, k: Key, t: Array, i: Array, params: Any) -> Any:
    return c.model.portion(key_for(jax.random.fold_in(k, t), "sample"), params, c.rows, i)  # pyright: ignore


def trace(c: Chain, k: Key, t: Array, params: Any, diet: Pool, rows: Any) -> Array | None:
    return c.trace(jax.random.fold_in(k, t), t, params, diet, rows)


def measure(c: Chain, k: Key, t: Array, params: Any, diet: Pool, rows: Any, ancestors: Array | None) -> Record:
    return c.measure(jax.random.fold_in(k, t), t, params, diet, rows, ancestors)


def remember(c: Chain, k: Key, state: State, t: Array, params: Any, rows: Any, ancestors: Array | None) -> State:
    return c.remember(state.replace(t=t), params, rows, ancestors)


def restore(c: Chain, k: Key, state: State, t: Array, fresh: Any, block: tuple[Any, Array | None]) -> State:
    return c.keep(c.take_in(state.replace(t=t), fresh), state.params, *block)


def kept(pool: Pool) -> tuple[Any, Array | None]:
    """What a checkpoint keeps of rows: themselves and, where followed, their ancestors."""
    return pool.rows, pool.ancestors


def block(c: Chain, k: Key, state: State, t: Array) -> tuple[Any, Array | None]:
    """The synthetic rows of generation t and their ancestors, out of the pool."""
    start = c.slot(t + 1, state.pool.capacity)
    return jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, start, c.rows), kept(state.pool))
