"""Checkpoints of a stored run, computed again, each from those before it; nothing of it is written."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from simulator.abilities import students
from simulator.chain import Chain
from simulator.checks.code import Trust
from simulator.running import spec
from simulator.running.checkpoints import Chunk, maker
from simulator.running.drive import Drive
from simulator.running.files import Ceiling, Leaves, numbered
from simulator.running.here import here
from simulator.running.identity import identity
from simulator.running.pacing import Clock
from simulator.running.prepare import adopt
from simulator.running.store import Store
from simulator.running.sweep import Sweep
from simulator.types import Array, Record, State


class Kept(NamedTuple):
    """What of a checkpoint is known without its rows."""

    first: int
    last: int
    blocks: int  # generations whose rows it holds: the last ones
    record: Record


class Replay:
    """A stored run, to be computed again.

    A checkpoint is computed as the run did it: from the rows of as many generations before it as the pool has room for,
    and the parameters of the last of them; those up to where it was forked by the recipe that they had; with a pool of
    the size of then.
    """

    def __init__(
        self,
        store: Store,
        subject: Chain | Sweep,
        there: Mapping[int, Kept],
        trust: Trust = False,
        mesh: Mesh | None = None,
    ) -> None:
        self.store, self.subject, self.chain = store, subject, _chain(subject)
        self.there, self.trust, self.mesh = there, trust, mesh
        self.about = store.about()
        self.prepared = store.prepared(self.chain)
        self._drives: dict[str, Drive] = {}

    def changed(self, but: Sequence[str] = ()) -> list[str]:
        """What is here, and is not what the run was made of: data, code; places `but` may be others."""
        run = self.about["run"]
        now = identity(self.subject, spec.decode(run["key"]), run["replicates"], run["every"])
        found = spec.differences(run, json.loads(json.dumps(now)))
        return [one for one in found if not one.startswith(tuple(but))]

    def other(self, last: int) -> list[str]:
        """What computed a checkpoint and is not what is here; earlier versions did not note all of it."""
        now: dict[str, Any] = {**here(), "mesh": self._drive(last).how["mesh"]}
        then = self._stretch(last)
        return spec.differences({name: then.get(name, "not noted") for name in now}, now)

    def needed(self, last: int) -> list[int]:
        """The checkpoints that one is computed from; raises `ValueError` where they are not there."""
        first, drive = self.there[last].first, self._drive(last)
        ring = drive.chain.ring
        least = max(0, first - ring.blocks(ring.capacity(drive.generations)))
        found: list[int] = []
        while first > least:
            before = self.there.get(first - 1)
            if before is None or before.blocks < min(first - least, first - before.first):
                raise ValueError(f"it needs what generation {first - 1} said, which is not here")
            found, first = [before.last, *found], before.first
        return found

    def possible(self) -> tuple[list[int], dict[int, str]]:
        """The checkpoints that can be computed again, and of the others why not."""
        can, cannot = [], {}
        for last in self.there:
            try:
                self.needed(last)
                can.append(last)
            except ValueError as error:
                cannot[last] = str(error)
        return can, cannot

    def learned(self) -> dict[str, Leaves]:
        """What probes learn before generation 0, anew, by their places."""
        anew = dataclasses.replace(self.chain)
        return {place: numbered(anew.prepared[student]) for student, place in students(anew.probes).items()}

    def ceiling(self) -> Ceiling:
        """What the probes say of real rows, anew."""
        return self._drive(min(self.there)).ceiling()

    def states(self, chosen: Sequence[int]) -> Iterator[tuple[Chunk, Drive, State]]:
        """Of each of these checkpoints, what it holds, what computes it, and the state before it."""
        at: tuple[Drive, State, int] | None = None
        for last in sorted(chosen):
            drive = self._drive(last)
            state, done = at[1:] if at is not None and at[0] is drive else (drive.start(), -1)
            for step in self.needed(last):
                if step > done:
                    state, done = drive.refill(state, self.store.chunk(step)), step
            at = drive, state, done
            yield self.store.chunk(last), drive, jax.tree.map(jnp.copy, state)

    def _stretch(self, last: int) -> Mapping[str, Any]:
        """What chain.json says of who computed a checkpoint."""
        first = self.there[last].first
        before: Mapping[str, Any] = {name: self.about[name] for name in ("versions", "device")}
        for stretch in self.about.get("stretches", ()):
            before = stretch if stretch["first"] <= first else before
        return before

    def _drive(self, last: int) -> Drive:
        """What computes a checkpoint; those alike share one."""
        generations = self._stretch(last).get("generations", self.about["generations"])
        run, recipe = self.about["run"], recipe_of(self.about, last)
        name = json.dumps([generations, recipe])
        if name not in self._drives:
            subject = self.subject
            if recipe != run["chain"]["recipe"]:
                chain = spec.override(self.chain, {"recipe": spec.decode(recipe, self.trust)})
                subject = dataclasses.replace(subject, chain=chain) if isinstance(subject, Sweep) else chain
            if self.prepared is not None:
                adopt(_chain(subject), self.prepared)
            key = spec.decode(run["key"])
            self._drives[name] = Drive(subject, key, generations, run["replicates"], self.mesh)
        return self._drives[name]


def computed(drive: Drive, state: State, first: int, last: int) -> dict[str, Leaves]:
    """What the checkpoint of these generations would hold, from the state before them, whose memory is taken."""
    ts = jnp.arange(first, last + 1)
    state, record = drive.compute(state, ts, Clock())
    return held(Chunk(first, last, numbered(state.params), [numbered(b) for b in drive.kept(state, ts)], record))


def held(chunk: Chunk) -> dict[str, Leaves]:
    """What a checkpoint holds: the record by metric, rows by generation and leaf, parameters by leaf."""
    rows = {f"{i}.{name}": leaf for i, block in enumerate(chunk.rows) for name, leaf in block.items()}
    record = {"t": chunk.record.t, **chunk.record.flat()}
    return {
        "record": {name: np.asarray(leaf) for name, leaf in record.items()},
        "rows": rows,
        "parameters": chunk.params,
    }


def recipe_of(about: Mapping[str, Any], generation: int) -> Any:
    """The recipe of a generation, encoded; raises `ValueError` where it is that of another run that is not noted."""
    recipe, fork = about["run"]["chain"].get("recipe"), about.get("fork")
    while fork is not None and generation <= fork["generation"]:
        recipe, fork = fork.get("recipe"), fork.get("fork")
    run = about["run"]
    if spec.signature({**run, "chain": {**run["chain"], "recipe": recipe}}) != maker(about, generation):
        raise ValueError(
            f"it is of the run {maker(about, generation)}, whose recipe is not noted here; verify that one"
        )
    return recipe


def nudged(tree: Any, key: Array) -> Any:
    """Every number that is not whole, one unit in its last place up or down."""
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(key, len(leaves) + 1)

    def one(leaf: Any, key: Array) -> Any:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        return jnp.nextafter(leaf, jnp.inf * jax.random.rademacher(key, leaf.shape, leaf.dtype))

    return jax.tree.unflatten(structure, [one(leaf, key) for leaf, key in zip(leaves, keys, strict=False)])


def _chain(subject: Chain | Sweep) -> Chain:
    return subject.chain if isinstance(subject, Sweep) else subject
