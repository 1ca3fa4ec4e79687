"""Several processes that share a run: all run the same program, started with the same arguments.

Files are shared: all read them, the first alone writes them, and between two writes all see the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from simulator.errors import GenlossError, RunFailed


def whole(tree: Any) -> Any:
    """Leaves as arrays of the host.  Where they lie in several processes, each is given all; all must ask."""

    def fetch(leaf: Any) -> np.ndarray:
        if isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated):
            leaf = multihost_utils.process_allgather(leaf, tiled=True)
        return np.asarray(leaf)

    return jax.tree.map(fetch, tree)


def join(address: str | None = None, processes: int | None = None, index: int | None = None) -> None:
    """Makes this process one of several that share a run; before anything is computed.

    `address` is HOST:PORT of process 0, which all must reach; `index` is 0, 1, ...  What is not given is taken from the
    environment, as `jax.distributed.initialize` finds it (SLURM, MPI, JAX_COORDINATOR_ADDRESS).
    """
    if processes is not None and index is not None and not 0 <= index < processes:
        raise GenlossError(f"There is no process {index} of {processes}; give an index from 0 to {processes - 1}.")
    try:
        jax.distributed.initialize(address, processes, index)
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise GenlossError(
            f"This process could not join the others ({reason.rstrip('.')}); give all of them the address of the "
            "first, how many they are, and which each is."
        ) from error


def leads() -> bool:
    """Whether this is the process that writes files, reports and decides."""
    return jax.process_index() == 0


def agreed(decision: bool) -> bool:
    """What the first process decided."""
    return decision if jax.process_count() == 1 else bool(multihost_utils.broadcast_one_to_all(np.array(decision)))


def alone(work: Callable[[], Any]) -> None:
    """Work on files: the first process does it once all are here, and they go on when it is done.

    Where it fails with a sentence, all fail with it.
    """
    if jax.process_count() == 1:
        work()
        return
    multihost_utils.sync_global_devices("before work on files")
    failure, said = None, b""
    if leads():
        try:
            work()
        except (GenlossError, RunFailed) as error:
            failure = error
            said = bytes([isinstance(error, RunFailed)]) + str(error).encode()[:4000]
    told = multihost_utils.broadcast_one_to_all(np.frombuffer(said.ljust(4096, b"\0"), np.uint8))
    if failure is not None:
        raise failure
    if text := bytes(told).rstrip(b"\0"):
        raise (RunFailed if text[0] else GenlossError)(text[1:].decode(errors="ignore"))
