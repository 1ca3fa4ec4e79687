"""What all finite sources share: a stream without repetition, and held-out rows that never enter it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from simulator.pool import Rows, count, take
from simulator.types import Array, GenlossError


class Split(NamedTuple):
    """The decoded rows of a data set on the host: leaves [n, ...]."""

    train: Rows
    test: Rows
    classes: tuple[str, ...]
    digest: str  # checksum of all rows


def served(rows: Rows, order: Array, n: int, skip: Array | int) -> Rows:
    """Rows skip..skip+n of a stream, the permutation `order` [size] of `rows` over and over."""
    index = (jnp.arange(n) + skip) % count(rows)  # [n]
    return take(jax.tree.map(jnp.asarray, rows), order[index])


def refuse_short(n: int, size: int, has: str, mend: str = "") -> None:
    """Raises where a stream of `size` rows, none of them twice, cannot serve n."""
    if n > size:
        raise GenlossError(
            f"The chain asks for {n} real rows and {has}; lower `real`, `fresh` or the number of generations, {mend}or "
            "set `reuse`."
        )


def refuse_leak(rows: Rows, held_out: Rows, what: str, train: Rows | None = None) -> None:
    """Raises where one of `rows` is byte for byte a held-out row, and none to train on."""
    known = set(digests(held_out)) - (set() if train is None else set(digests(train)))
    if leaked := sum(digest in known for digest in digests(rows)):
        raise GenlossError(f"{leaked} of the pool's real rows {what}; give the chain training rows only.")


def digests(rows: Rows) -> Iterator[bytes]:
    """A checksum of each row, leaves [n, ...]."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(rows)]
    for i in range(len(leaves[0])):
        yield hashlib.blake2b(b"".join(leaf[i].tobytes() for leaf in leaves), digest_size=16).digest()
