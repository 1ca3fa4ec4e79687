"""What all finite sources share: a stream without repetition, and held-out rows that never enter it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from simulator.abilities import Guarded
from simulator.numerics.processes import whole
from simulator.pool import Rows, count, take
from simulator.types import Array, GenlossError, Source


class Split(NamedTuple):
    """The decoded rows of a data set on the host: leaves [n, ...]."""

    train: Rows
    test: Rows
    classes: tuple[str, ...]
    digest: str  # checksum of all rows


@runtime_checkable
class Splitting(Protocol):
    """A source that shows the rows it serves."""

    @property
    def split(self) -> Split: ...


def split_of(source: Source) -> Split | None:
    """The rows of a source that shows them."""
    return source.split if isinstance(source, Splitting) and isinstance(source.split, Split) else None


def guard(source: Source, rows: Rows, which: Array | np.ndarray) -> None:
    """Raises where one of the rows, leaves [*shape, ...], that `which` [*shape] picks is held out by its source.

    Inside a compiled program nothing can be looked at.
    """
    if isinstance(source, Guarded) and not isinstance(which, Tracer):
        picked = whole(which)
        source.guard(jax.tree.map(lambda a: whole(a)[picked], rows))


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
