"""One chain of a stored run: its parameters, the rows that were kept of a generation, and more of the same."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from simulator.chain import Chain
from simulator.checks import code
from simulator.numerics import compiling
from simulator.numerics.chance import fold_in
from simulator.pool import Pool, with_table
from simulator.running.again import Again
from simulator.running.files import shaped
from simulator.running.spec import unknown
from simulator.running.store import Store
from simulator.running.sweep import Sweep
from simulator.types import Array, GenlossError, Key, Params, Rows

_MORE = 2**32 - 3  # folded into a key to open the stream of rows sampled anew, where generations fold in 0, 1, ...


@dataclass(frozen=True, eq=False)
class StoredChain:
    """`StoredChain.of(Store(folder), "replace", 2)`: one replicate of one setting of a run."""

    store: Store
    subject: Chain | Sweep  # what was run
    setting: str  # as the records call it
    chain: Chain  # that of the setting
    at: tuple[int, ...]  # where it is along the axes that the run has: setting, replicate

    @classmethod
    def of(cls, store: Store, setting: str | None = None, replicate: int = 0, trust: code.Trust = False) -> StoredChain:
        """The chain of a setting (None: the first); `trust` is that of `Store.chain`."""
        subject, count = store.chain(trust), store.about()["run"]["replicates"]
        names = list(subject.values) if isinstance(subject, Sweep) else ["chain"]
        if setting not in (None, *names):
            raise GenlossError(unknown(str(setting), names, "The run has no setting"))
        if not 0 <= replicate < (count or 1):
            raise GenlossError(f"The run has no replicate {replicate}; there are 0 to {(count or 1) - 1}.")
        name = names[0] if setting is None else setting
        if isinstance(subject, Sweep):
            return cls(store, subject, name, subject.make(subject.values[name]), (names.index(name), replicate))
        return cls(store, subject, name, subject, () if count is None else (replicate,))

    def params(self, generation: int | None = None) -> Params:
        """The parameters of a generation whose checkpoint is there (None: the last)."""
        leaves = {name: leaf[self.at] for name, leaf in self.store.params(generation).items()}
        return shaped(leaves, jax.eval_shape(lambda: self.chain.model.init(jax.random.key(0))))

    @property
    def like(self) -> Rows:
        """Names, shapes and types of a row, leaves [1, ...]."""
        model, key = self.chain.speaker(0), jax.random.key(0)
        return jax.eval_shape(lambda: model.sample(key, model.init(key), 1))

    def kept(self, t: int) -> Rows | None:
        """The rows that the run kept of what generation t said, leaves [rows, ...]; None where it kept none of them.

        A checkpoint of several generations holds the rows of the last ones alone, as many as its recipe reaches back;
        and a chain that keeps all cohorts as one has none of a single generation.  Raises where the run has not come
        to generation t.
        """
        steps = self.store.steps()
        if not steps or t > steps[-1]:
            done = f"its last is {steps[-1]}" if steps else "it has none yet"
            raise GenlossError(f"{self.store.path} has no generation {t}; {done}.")
        chunk = self.store.checkpoint(min(step for step in steps if step >= t))
        block = t - (chunk.last + 1 - len(chunk.rows))
        if block < 0 or self.chain.merging:
            return None
        leaves = {name: leaf[self.at] for name, leaf in chunk.rows[block].items()}
        lines = None if self.chain.follows is None else jax.ShapeDtypeStruct((1,), jnp.int32)
        rows, _ = shaped(leaves, (self.like, lines))
        return jax.tree.map(np.asarray, rows)

    def anew(self, t: int, seed: int = 0) -> Iterator[Rows]:
        """More of what generation t says, sampled by its parameters: pieces of `rows` rows, without an end.

        All pieces are independent of each other, of those of other seeds, and of the rows that the run drew.  Where
        part of each row is given, that is drawn anew from the generation's diet, for which the run must have a
        checkpoint of each generation before (see `Again`).
        """
        chain, params, now = self.chain, self.params(t), jnp.int32(t)
        key = jax.random.key(seed)
        for number in (_MORE, t, *self.at[-1:]):  # settings share chance, as they do in the run
            key = fold_in(key, number)
        stream, diet = (None, None) if chain.given is None else self._diet(t)

        def piece(i: Array, params: Params, stream: Key | None, diet: Pool | None) -> Rows:
            own = fold_in(key, i)
            given = None if stream is None or diet is None else chain.told(own, stream, diet)
            return chain.speak(own, now, params, given)

        compiled = jax.jit(piece, compiler_options=compiling.options())
        for i in itertools.count():
            yield jax.tree.map(np.asarray, compiled(jnp.int32(i), params, stream, diet))

    def _diet(self, t: int) -> tuple[Key, Pool]:
        """(the chain's stream of real rows, what generation t was fitted on)."""
        again = Again(self.store, self.subject, t)
        one: Any = jax.tree.map(lambda leaf: leaf[self.at], (again.stream, again.diet))
        return with_table(one, again.drive.table)
