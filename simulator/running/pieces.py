"""The pieces of a run: each a pure function of one chain `c`, its root key `k` and arrays, for `drive.Drive` to map.

Each argument after the two says at its place whether every chain of the run has its own (`Each`, or `Given`, where
nobody needs it any more and its memory may be taken for the result) or all share one (`Same`).  `t` is shared by all
and is not read from the state: mapped, each chain would have a t of its own, and the writing of a block would turn into
a scatter.  What is passed by keyword is no array, and fixed for the run.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, get_type_hints

import jax
import jax.numpy as jnp

from simulator.abilities import Portioned, Trained
from simulator.chain import Chain, key_for, params_key, stream_key
from simulator.numerics.chance import fold_in
from simulator.pool import Pool, Shared, table_in, with_table, without
from simulator.running import prepare
from simulator.types import Array, Key, Params, Record, Rows, State


@dataclass(frozen=True)
class Axis:
    """What an argument of a piece has in front of its own axes."""

    each: bool  # the axes of the run's chains
    given: bool = False  # whether its memory may be taken


T = TypeVar("T")
Each = Annotated[T, Axis(each=True)]
Given = Annotated[T, Axis(each=True, given=True)]
Same = Annotated[T, Axis(each=False)]


def axes(piece: Callable[..., Any]) -> list[Axis]:
    """What each argument of a piece, after its chain and key, declares; raises `TypeError` where one does not."""
    hints = get_type_hints(piece, include_extras=True)
    found = []
    for name, argument in list(inspect.signature(piece).parameters.items())[2:]:
        if argument.kind is not argument.KEYWORD_ONLY:
            declared = [said for said in getattr(hints.get(name), "__metadata__", ()) if isinstance(said, Axis)]
            if len(declared) != 1:
                raise TypeError(f"`{name}` of the piece `{piece.__name__}` must be Each, Given or Same.")
            found += declared
    return found


def new(c: Chain, k: Key, t: Same[Array]) -> Params:
    """New parameters: those of fit t or, for t = -1, those that the chain starts with."""
    first, later = params_key(stream_key(k)), key_for(fold_in(k, t), "init")
    return c.new(jnp.where(t < 0, first, later))


def init(c: Chain, k: Key, params: Each[Params], *, generations: int) -> State:
    return c.init(k, generations, params)


def serve(c: Chain, k: Key, stream: Each[Key], ts: Same[Array]) -> Rows | None:
    """The fresh rows of generations `ts`, leaves [chunk, fresh, ...]."""
    return jax.vmap(lambda t: with_table(c.fetch(stream, t), None))(ts)


def scan(c: Chain, k: Key, state: Given[State], ts: Same[Array], fresh: Each[Any]) -> tuple[State, Record]:
    table = table_in(state)

    def step(state: State, x: tuple[Array, Any]) -> tuple[State, Record]:
        state, fresh = with_table((state, x[1]), table)
        return with_table(c.step(fold_in(k, x[0]), state, fresh), None)

    return jax.lax.scan(step, with_table(state.replace(t=ts[0]), None), (ts, with_table(fresh, None)))


def take_in(c: Chain, k: Key, state: Given[State], t: Same[Array], fresh: Each[Any]) -> State:
    return c.take_in(state.replace(t=t), fresh)


def eat(c: Chain, k: Key, state: Each[State], t: Same[Array]) -> Pool:
    """The diet of generation t, whose fresh rows have been taken in."""
    return c.weigh(fold_in(k, t), state.replace(t=t))


def begin(c: Chain, k: Key, state: Each[State], t: Same[Array], first: Each[Params]) -> tuple[Pool, Any]:
    """(the diet without what of it is the pool's, which stays where it is; a training at its start)."""
    k = fold_in(k, t)
    diet = c.weigh(k, state.replace(t=t))
    assert isinstance(c.model, Trained)
    return without(diet, state.pool), c.model.begin(key_for(k, "fit"), first, diet)


def advance(c: Chain, k: Key, diet: Each[Pool], training: Given[Any]) -> Any:
    assert isinstance(c.model, Trained)
    return c.model.advance(diet, training)


def finish(c: Chain, k: Key, training: Each[Any]) -> tuple[Params, dict[str, Array]]:
    assert isinstance(c.model, Trained)
    return c.model.finish(training)


def told(c: Chain, k: Key, t: Same[Array], stream: Each[Key], diet: Each[Pool]) -> Rows | None:
    return c.told(fold_in(k, t), stream, diet)


def speak(c: Chain, k: Key, t: Same[Array], params: Each[Params], given: Each[Rows | None]) -> Rows:
    return c.speak(fold_in(k, t), t, params, given)


def portion(c: Chain, k: Key, t: Same[Array], i: Same[Array], params: Each[Params], given: Each[Rows | None]) -> Rows:
    model, more = c.speaker(t), () if given is None else (given,)
    assert isinstance(model, Portioned)
    return model.portion(key_for(fold_in(k, t), "sample"), params, c.rows, i, *more)


def trace(c: Chain, k: Key, t: Same[Array], params: Each[Params], diet: Each[Pool], rows: Each[Rows]) -> Array | None:
    return c.trace(fold_in(k, t), t, params, diet, rows)


def measure(
    c: Chain,
    k: Key,
    t: Same[Array],
    params: Each[Params],
    diet: Each[Pool],
    rows: Each[Rows],
    ancestors: Each[Array | None],
) -> Record:
    return c.measure(fold_in(k, t), t, params, diet, rows, ancestors)


def remember(
    c: Chain,
    k: Key,
    state: Given[State],
    t: Same[Array],
    params: Each[Params],
    rows: Each[Rows],
    ancestors: Each[Array | None],
) -> State:
    return c.remember(state.replace(t=t), params, rows, ancestors)


def restore(
    c: Chain, k: Key, state: Given[State], t: Same[Array], fresh: Each[Any], block: Each[tuple[Rows, Array | None]]
) -> State:
    return c.keep(c.take_in(state.replace(t=t), fresh), state.params, *block)


def kept(pool: Pool) -> tuple[Rows, Array | None]:
    """What a checkpoint keeps of rows a chain wrote: themselves and, where followed, their ancestors."""
    return pool.held.own if isinstance(pool.held, Shared) else pool.held, pool.ancestors


def block(c: Chain, k: Key, state: Each[State], t: Same[Array]) -> tuple[Rows, Array | None]:
    """The synthetic rows of generation t and their ancestors, out of the pool."""
    slots = c.ring.synthetic(t + 1, state.pool.capacity) + jnp.arange(c.rows)  # [rows]
    return state.pool.take(slots), jax.tree.map(lambda a: a[slots], state.pool.ancestors)


def perfect(c: Chain, k: Key, *, capacity: int) -> tuple[Pool, Rows, Array | None]:
    return prepare.perfect(c, k, capacity)
