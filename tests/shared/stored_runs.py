"""A run that is stored, and all that lies in a store."""

from pathlib import Path
from typing import Any

import jax
import tiny_gaussian

from simulator import Record, Store, run

KEY = jax.random.key(0)


def contents(store: Store) -> list[Any]:
    """Everything every checkpoint holds."""
    return [(first, last, params, rows, record) for first, last, params, rows, record in store.chunks()]


def run_gaussian(store: Store | Path, generations: int = 6) -> Record:
    return run(tiny_gaussian.chain, KEY, generations, store, replicates=2, every=2)
