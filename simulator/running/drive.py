"""Driving a chain, or a sweep of chains, from the host, with a checkpoint per generation."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from os import PathLike
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from simulator.abilities import Portioned, Trained, has_ceiling, students
from simulator.chain import Chain, with_info
from simulator.checks import returned
from simulator.numerics import compiling
from simulator.numerics.processes import whole
from simulator.pool import with_table, with_those
from simulator.running import ahead, memory, pieces
from simulator.running.checkpoints import Chunk
from simulator.running.files import Ceiling, joined, shaped
from simulator.running.identity import identity
from simulator.running.mesh import WHOLE, Layout
from simulator.running.pacing import Clock, Pace, Progress, doing
from simulator.running.prepare import adopt
from simulator.running.store import Store
from simulator.running.sweep import Sweep
from simulator.sources.split import guard, table_of
from simulator.types import Array, GenlossError, Key, Record, State


def run(
    chain: Chain | Sweep,
    key: Key,
    generations: int,
    store: Store | str | PathLike[str] | None = None,
    *,
    replicates: int | None = None,
    every: int = 1,
    save_seconds: float = 60.0,
    report: Callable[[Progress], None] | None = None,
    mesh: Mesh | None = None,
) -> Record:
    """Runs a chain, or a whole sweep, from the host, with a checkpoint after every `every` generations.

    Leaves of the record are [generations, ...] for one chain, [replicates, generations, ...] with `replicates`, and
    [settings, replicates, generations, ...] for a `Sweep`.  Replicate r's root key is `fold_in(key, r)`.
    With a store, a run that was stopped goes on where its last checkpoint is and equals the uninterrupted run to the
    bit; a finished one returns at once; more generations extend it, equal to a longer run up to rounding (the pool is
    larger, and its sums may be taken in another order).  A fit driven step by step that takes longer is also saved
    while it goes on, `save_seconds` apart, or further where saving would take more than a twentieth of the time.
    The devices of a mesh (`simulator.running.mesh.devices`) share the chains and each minibatch; a stored run may go on
    with another mesh, or without one.
    Raises `GenlossError` where the store holds another run, the diet is empty or the loss is not finite, and
    `RunFailed` where a checkpoint cannot be written.
    """
    check(key, generations, replicates, every)
    chains = (replicates or 1) * (len(chain.values) if isinstance(chain, Sweep) else 1)
    memory.check(chain.chain if isinstance(chain, Sweep) else chain, generations, chains, mesh.size if mesh else 1)
    if store is None:
        return Drive(chain, key, generations, replicates, mesh).go(None, every, save_seconds, report)
    store = store if isinstance(store, Store) else Store(store)
    with store.opened(identity(chain, key, replicates, every), generations):
        axes = 2 if isinstance(chain, Sweep) else int(replicates is not None)
        done = _finished(store, generations, axes)
        if done is None:
            _prepare(chain.chain if isinstance(chain, Sweep) else chain, store, report)
            return Drive(chain, key, generations, replicates, mesh).go(store, every, save_seconds, report)
        store.mend_records()  # it was killed after its last checkpoint, or its files were damaged since
        if not store.has_ceiling():
            _prepare(chain.chain if isinstance(chain, Sweep) else chain, store, report)
            Drive(chain, key, generations, replicates, mesh).measure_ceiling(store)
        return done


def _prepare(chain: Chain, store: Store, report: Callable[[Progress], None] | None) -> None:
    """What probes learn before generation 0: read where it is stored, else learned and stored."""
    learning = students(chain.probes)
    if not learning:
        return
    if report:
        report(Progress(0, 1, None, doing=f"preparing {', '.join(learning.values())}"))
    if (found := store.prepared(chain)) is not None:
        adopt(chain, found)
    else:
        store.write_prepared(chain)


def check(key: Any, generations: int, replicates: int | None, every: int) -> None:
    if not isinstance(key, jax.Array):
        raise GenlossError(f"The key of a run is a random key, not {key!r}; give jax.random.key({key!r}).")
    if generations < 1:
        raise GenlossError(f"A chain needs at least 1 generation; it was given {generations}.")
    if every < 1 or (replicates is not None and replicates < 1):
        raise GenlossError("`every` and `replicates` must be at least 1.")


def _finished(store: Store, generations: int, axes: int) -> Record | None:
    """The record of a run that has all its generations, read without compiling anything."""
    if (store.steps() or [-1])[-1] + 1 < generations:
        return None
    chunks = [record for *_, record in store.chunks()]
    if not chunks:  # the first is damaged
        return None
    record = joined(chunks, axes)
    return _first(record, generations, axes) if record.t.shape[axes] >= generations else None


class Drive:
    """The compiled pieces of a run and the loop over them.

    A piece works on one chain; `lift` maps it over the settings and replicates of the run.  A generator that trains
    by `begin`, `advance`, `finish` is driven through its fit, so that long generations report; any other runs
    `every` generations as one scan.
    """

    def __init__(
        self, chain: Chain | Sweep, key: Key, generations: int, replicates: int | None, mesh: Mesh | None = None
    ) -> None:
        self.sweep = chain if isinstance(chain, Sweep) else None
        self.chain = chain.chain if isinstance(chain, Sweep) else chain
        if self.sweep is not None:
            self.sweep.check()
            replicates = replicates or 1
        self.replicates = replicates
        self.axes = (self.sweep is not None) + (replicates is not None)  # leading axes of states and records
        self.keys = key
        if replicates is not None:
            self.keys = jax.vmap(lambda r: jax.random.fold_in(key, r))(jnp.arange(replicates))  # [replicates]
        self.layout = None
        if mesh is not None:
            self.layout = Layout.of(mesh, None if self.sweep is None else len(self.settings), replicates)
        self.generations = generations
        self.trained = self.chain.model if isinstance(self.chain.model, Trained) else None
        self.pace = Pace()  # of writing records.parquet
        self.compiled: Callable[[], Any] = lambda: None  # waits for what is being compiled
        self.nudge: Callable[[Any], Any] = lambda params: params  # of where a fit begins: what does rounding do to it?
        self.table = jax.tree.map(jnp.asarray, table_of(self.chain.source))  # of real rows, once for all chains
        if self.layout is not None:
            self.table = self.layout.placed(WHOLE, self.table)

        self.new = self.lift(pieces.new)
        self.init = self.lift(pieces.init, generations=generations)
        self.serve = self.lift(pieces.serve)
        self.scan = self.lift(pieces.scan)
        self.take_in = self.lift(pieces.take_in)
        self.eat = self.lift(pieces.eat)
        self.begin = self.lift(pieces.begin)
        self.advance = self.lift(pieces.advance)
        self.finish = self.lift(pieces.finish)
        self.told = self.lift(pieces.told)
        self.speak = self.lift(pieces.speak)
        self.portion = self.lift(pieces.portion)
        self.trace = self.lift(pieces.trace)
        self.measure = self.lift(pieces.measure)
        self.remember = self.lift(pieces.remember)
        self.restore = self.lift(pieces.restore)
        self.block = self.lift(pieces.block)
        self.perfect = self.lift(pieces.perfect, capacity=self.chain.ring.capacity(generations))

    def lift(self, piece: Callable[..., Any], **fixed: Any) -> Callable[..., Any]:
        """A piece as a compiled function, under its own name, of arguments with the axes that it declares."""
        declared = pieces.axes(piece)
        axes = [0 if axis.each else None for axis in declared]
        given = [i + 3 for i, axis in enumerate(declared) if axis.given]

        def one(value: Any, key: Key, table: Any, *arguments: Any) -> Any:
            chain = self.chain if self.sweep is None else self.sweep.make(value)
            return with_table(piece(chain, key, *with_table(arguments, table), **fixed), None)

        one.__name__ = piece.__name__
        mapped = one
        if self.replicates is not None:
            mapped = jax.vmap(mapped, (None, 0, None, *axes))
        if self.sweep is not None:
            mapped = self.sweep.over(mapped, (0, None, None, *axes))
        if self.layout is None:
            compiled = jax.jit(mapped, donate_argnums=given, compiler_options=compiling.options())
        else:
            compiled = self.layout.jit(mapped, [None, *axes], given, compiling.options())
        grid = jnp.int32(0) if self.sweep is None else self.sweep.grid
        return functools.partial(compiled, grid, self.keys, self.table)

    def start(self) -> State:
        """The states before the first fit."""
        return self.init(self.new(jnp.int32(-1)))

    def first(self, state: State, t: Array) -> Any:
        """The parameters that fit t begins at."""
        if self.chain.start == "previous":
            return state.params
        return self.new(t if self.chain.start == "scratch" else jnp.int32(-1))

    # The loop.

    def go(
        self, store: Store | None, every: int, save_seconds: float, report: Callable[[Progress], None] | None
    ) -> Record:
        tell = report or (lambda progress: None)
        if self.trained and self.layout is None and jax.default_backend() == "cpu":  # elsewhere `fits` compiles
            self.compiled = ahead.compiling(self)
        state = self.start()
        chunks, state = self.resume(store, state)
        guard(self.chain.source, state.pool.held, state.pool.real)
        if self.layout is None and jax.default_backend() != "cpu":
            memory.fits(self, state)
        done = sum(self.length(chunk) for chunk in chunks)
        if store is not None:
            if done:
                self.measure_ceiling(store)
            if done < self.generations:
                store.begin(done, self.how)
                store.drop_fit(but=done)
        tell(Progress(done, self.generations, joined(chunks, self.axes) if chunks else None))
        while done < self.generations:
            clock = Clock()
            ts = jnp.arange(done, min((done // every + 1) * every, self.generations))  # [chunk]
            state, chunk = self.compute(state, ts, clock, tell, store, save_seconds)
            done += len(ts)
            returned.inspect(chunk, done - len(ts), self.axes)
            if done == len(ts):
                self.inspect_rows(state, ts)
            chunks.append(chunk)
            if store is not None:
                rows = self.kept(state, ts)
                store.save(done - len(ts), done - 1, state.params, rows, chunk)
                store.drop_fit()
                self.pace(
                    lambda: store.write_records(joined(chunks, self.axes), self.settings, self.axes),
                    now=done >= self.generations,
                )
                store.picture(done - 1, rows[-1][0], self.axes, self.chain.source)
                clock.lap("save")
            tell(Progress(done, self.generations, chunk, seconds=clock.seconds))
            if store is not None:
                self.measure_ceiling(store)
        return _first(joined(chunks, self.axes), self.generations, self.axes)

    def compute(
        self,
        state: State,
        ts: Array,
        clock: Clock,
        tell: Callable[[Progress], None] = lambda progress: None,
        store: Store | None = None,
        save_seconds: float = math.inf,
    ) -> tuple[State, Record]:
        """Generations `ts` after a state, whose memory is taken; a store, where given, keeps the fit in flight."""
        fresh = self.serve(state.key, ts)  # leaves [.., chunk, fresh, ...]
        if fresh is not None:
            shape = jax.tree.leaves(fresh)[0].shape[: self.axes + 2]  # [.., chunk, fresh]
            guard(self.chain.source, fresh, np.ones(shape, bool))
        if self.trained:
            state, chunk = self.train(self.trained, state, ts, fresh, clock, tell, store, Pace(save_seconds))
        else:
            state, chunk = self.scan(state, ts, fresh)
            clock.lap("train", chunk)
        return state, whole(chunk)

    def kept(self, state: State, ts: Array) -> list[Any]:
        """What a checkpoint keeps of the rows of generations `ts`: of as many of the last as the pool has room for."""
        return [whole(self.block(state, t)) for t in ts[-self.blocks(state) :]]

    def measure_ceiling(self, store: Store) -> None:
        """ceiling.json, unless it is there."""
        if store.has_ceiling():
            return
        store.write_ceiling(self.ceiling())

    def ceiling(self) -> Ceiling:
        """What the probes say of real rows in place of samples."""
        found = self.measure(jnp.int32(0), self.new(jnp.int32(-1)), *self.perfect())
        return Ceiling.of(found, functools.partial(has_ceiling, self.chain.probes))

    def train(
        self,
        model: Trained,
        state: State,
        ts: Array,
        fresh: Any,
        clock: Clock,
        tell: Callable[[Progress], None],
        store: Store | None,
        pace: Pace,
    ) -> tuple[State, Record]:
        """Generations of a generator that trains step by step, driven through each fit; `pace` is of saving it."""
        records = []
        calls = model.calls
        for i, t in enumerate(ts):
            if fresh is not None:
                state = self.take_in(state, t, jax.tree.map(lambda a, i=i: jnp.take(a, i, axis=self.axes), fresh))
            diet, training = self.begin(state, t, self.nudge(self.first(state, t)))
            diet = with_those(diet, state.pool)
            first, training = (store and store.fit(int(t), training)) or (0, training)
            started = time.perf_counter()
            for call in range(first, calls):
                training = self.advance(diet, training)
                loss = whole(training.loss)
                if not np.isfinite(loss).all():
                    raise GenlossError(returned.not_finite(int(t), call / calls))
                if store is not None and call + 1 < calls:
                    pace(functools.partial(store.write_fit, int(t), call + 1, training))
                each = (time.perf_counter() - started) / (call + 1 - first)
                tell(
                    Progress(
                        int(t), self.generations, None, (call + 1) / calls, doing=doing(model, call + 1, loss, each)
                    )
                )
            params, info = clock.lap("train", self.finish(training))
            self.compiled()
            given = None if self.chain.given is None else self.told(t, state.key, diet)
            rows = clock.lap("sample", self.say(t, params, given, tell))
            ancestors = self.trace(t, params, diet, rows)
            records.append(with_info(clock.lap("measure", self.measure(t, params, diet, rows, ancestors)), info))
            state = self.remember(state, t, params, rows, ancestors)
        return state, jax.tree.map(lambda *leaves: jnp.stack(leaves, self.axes), *records)

    def say(self, t: Array, params: Any, given: Any, tell: Callable[[Progress], None]) -> Any:
        """What generation t says, of which part is given; in portions where the generator makes several of it."""
        model = self.chain.model
        portions = model.portions(self.chain.rows) if isinstance(model, Portioned) else 1
        if portions == 1:
            return self.speak(t, params, given)
        parts = []
        for i in range(portions):
            parts.append(jax.block_until_ready(self.portion(t, jnp.int32(i), params, given)))
            tell(Progress(int(t), self.generations, None, 1.0, doing=f"sampling, {(i + 1) / portions:.0%}"))
        return jax.tree.map(
            lambda *a: jax.lax.slice_in_dim(jnp.concatenate(a, self.axes), 0, self.chain.rows, axis=self.axes), *parts
        )

    def resume(self, store: Store | None, state: State, before: float = math.inf) -> tuple[list[Record], State]:
        """The stored records, and the state after the last of them: the pool is filled again, block by block.

        Of checkpoints that end before a generation alone, where one is given.
        """
        chunks: list[Record] = []
        for chunk in store.chunks() if store is not None else ():
            if chunk.last >= before:
                break
            state = self.refill(state, chunk)
            chunks.append(chunk.record)
        return chunks, state

    def refill(self, state: State, chunk: Chunk) -> State:
        """The state after the generations of a checkpoint, from one that lacks none before them within reach."""
        ts, rows = jnp.arange(chunk.first, chunk.last + 1), chunk.rows
        if len(rows) < min(len(ts), self.blocks(state)):
            raise GenlossError(
                f"The checkpoint of generation {chunk.last} holds the rows of {len(rows)} of its {len(ts)} generations "
                "and this recipe reaches further back; fork a run made with `every` 1."
            )
        fresh = self.serve(state.key, ts)  # by the same compiled piece, so to the bit
        for i, block in zip(range(len(ts) - len(rows), len(ts)), rows, strict=True):
            now = jax.tree.map(lambda a, i=i: jnp.take(a, i, axis=self.axes), fresh)
            state = self.restore(state, ts[i], now, shaped(block, pieces.kept(state.pool)))
        return state.replace(params=shaped(chunk.params, state.params))

    def inspect_rows(self, state: State, ts: Array) -> None:
        """Raises where rows of generation 0, or of the last where that is gone, are NaN."""
        t = ts[0] if self.blocks(state) >= len(ts) else ts[-1]
        returned.rows(type(self.chain.model).__name__, int(t), whole(self.block(state, t)[0]))

    # Small questions.

    @property
    def how(self) -> dict[str, Any]:
        """What the last bits of its numbers depend on, beside versions and device: room in the pool, and a mesh."""
        mesh = None if self.layout is None else [*self.layout.mesh.shape.values(), jax.process_count()]
        return {"generations": self.generations, "mesh": mesh}

    @property
    def settings(self) -> list[str]:
        return ["chain"] if self.sweep is None else list(self.sweep.values)

    def blocks(self, state: State) -> int:
        """Data sets the pool has room for."""
        return self.chain.ring.blocks(state.pool.weight.shape[-1])

    def length(self, chunk: Record) -> int:
        return chunk.t.shape[self.axes]


def _first(record: Record, generations: int, axes: int) -> Record:
    return jax.tree.map(lambda a: a[(slice(None),) * axes + (slice(generations),)], record)
