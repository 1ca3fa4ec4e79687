"""A generation of a stored run, to speak and be measured again with other parameters."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from simulator.chain import Chain
from simulator.numerics.processes import whole
from simulator.pool import Pool
from simulator.running import files, spec
from simulator.running.drive import Drive
from simulator.running.prepare import adopt
from simulator.running.store import Store
from simulator.running.sweep import Sweep
from simulator.types import GenlossError, Params


class Again:
    """What generation `t` of a run was told and asked: its keys, its diet, its probes; nothing of it is written.

    With its own parameters it says and measures what is recorded of it, to the bit for a generator that trains step by
    step.  The run must have a checkpoint for each generation up to this one.
    """

    def __init__(self, store: Store, subject: Chain | Sweep, t: int) -> None:
        self.store, self.t = store, t
        about = store.about()
        run = about["run"]
        if (have := store.steps())[: t + 1] != list(range(t + 1)):
            raise GenlossError(
                f"{store.path} has checkpoints of generations {', '.join(map(str, have)) or 'none'}, and each up to "
                f"{t} is needed; run it with --every 1, or name an earlier one."
            )
        chain = subject.chain if isinstance(subject, Sweep) else subject
        if (learned := store.prepared(chain)) is not None:
            adopt(chain, learned)
        self.drive = Drive(subject, spec.decode(run["key"]), about["generations"], run["replicates"])
        begun = self.drive.start()
        self.like = begun.params
        _, state = self.drive.resume(store, begun, before=t)
        now = jnp.int32(t)
        fresh = self.drive.serve(state.key, now[None])  # leaves [.., 1, fresh, ...]
        if fresh is not None:
            fresh = jax.tree.map(lambda a: jnp.take(a, 0, axis=self.drive.axes), fresh)
            state = self.drive.take_in(state, now, fresh)
        self.diet: Pool = self.drive.eat(state, now)
        self.stream = state.key

    def params(self, t: int) -> Params:
        """The parameters of a generation, leaves [(settings, replicates,) ...]."""
        return files.shaped(self.store.params(t), self.like)

    def measured(self, params: Params) -> Any:
        """What the probes say with these parameters: a tidy data frame, as `Store.records`."""
        drive, t = self.drive, jnp.int32(self.t)
        given = None if drive.chain.given is None else drive.told(t, self.stream, self.diet)
        rows = drive.say(t, params, given, lambda progress: None)
        ancestors = drive.trace(t, params, self.diet, rows)
        record = whole(drive.measure(t, params, self.diet, rows, ancestors))
        one = jax.tree.map(lambda a: np.expand_dims(a, drive.axes), record)  # [.., 1 generation, ...]
        return files.tidy(one, drive.settings, drive.axes).to_pandas()
