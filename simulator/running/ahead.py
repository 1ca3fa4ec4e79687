"""The programs of a generation before they are called: with which shapes, and compiled while others run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp

from simulator.abilities import Portioned
from simulator.pool import with_those


def compiling(drive: Any) -> Callable[[], Any]:
    """Compiles what a generation ends with in a thread, while the caller's compiles and runs what it begins with.

    They are traced before this returns.  What is returned waits until all are compiled, and raises what went wrong;
    a piece that is called after that is not compiled again.  `drive` is a `drive.Drive`.
    """
    begun = (drive.scan, drive.take_in, drive.begin, drive.advance)
    state = told(drive.init, told(drive.new, jnp.int32(-1)))
    traced = [piece.func.lower(*piece.args, *a) for piece, a in calls(drive, state) if piece not in begun]
    thread = ThreadPoolExecutor(1, "compiling")
    done = thread.submit(lambda: [program.compile() for program in traced])
    thread.shutdown(wait=False)
    return done.result


def calls(drive: Any, state: Any) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Each piece of a generation and the shapes of its arguments, from those of a state."""
    ts = jnp.arange(1)
    fresh = told(drive.serve, state.key, ts)
    if drive.trained is None:
        yield drive.scan, (state, ts, fresh)
        return
    t, i = ts[0], jnp.int32(0)
    if fresh is not None:
        now = jax.eval_shape(lambda a: jax.tree.map(lambda b: jnp.take(b, 0, axis=drive.axes), a), fresh)
        yield drive.take_in, (state, t, now)
    yield drive.begin, (state, t, state.params)
    diet, training = told(drive.begin, state, t, state.params)
    diet = with_those(diet, state.pool)
    yield drive.advance, (diet, training)
    params, _ = told(drive.finish, training)
    given = None
    if drive.chain.given is not None:
        yield drive.told, (t, state.key, diet)
        given = told(drive.told, t, state.key, diet)
    rows = told(drive.speak, t, params, given)
    model = drive.chain.model
    if isinstance(model, Portioned) and model.portions(drive.chain.rows) > 1:
        yield drive.portion, (t, i, params, given)
    else:
        yield drive.speak, (t, params, given)
    lines = told(drive.trace, t, params, diet, rows)
    yield drive.measure, (t, params, diet, rows, lines)
    yield drive.remember, (state, t, params, rows, lines)


def told(piece: Any, *arguments: Any) -> Any:
    """The shapes of what a piece gives."""
    return piece.func.eval_shape(*piece.args, *arguments)
