"""What all finite sources share: a stream without repetition, and held-out rows that never enter it."""

from __future__ import annotations

import abc
import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from simulator.abilities import Guarded
from simulator.numerics.processes import whole
from simulator.pool import Rows, Shared, count, take
from simulator.types import Array, GenlossError, Key, Source


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


class Stream(abc.ABC):
    """A source of finitely many rows, one of which is held out or eaten: a permutation, over and over if it may."""

    reuse: bool  # start the permutation again when it runs out, instead of an error

    @property
    @abc.abstractmethod
    def split(self) -> Split:
        """The decoded rows on the host, read once per process."""

    @property
    @abc.abstractmethod
    def supply(self) -> str:
        """How much there is to eat, as a sentence ends."""

    @property
    def fingerprint(self) -> str:
        """Checksum of the rows: other data at the same path is another run."""
        return self.split.digest

    @property
    def size(self) -> int:
        """Rows to train on."""
        return count(self.split.train)

    def draw(self, key: Key, n: int, held_out: bool = False, skip: Array | int = 0) -> Rows:
        """Rows skip..skip+n of the permutation that `key` opens; held-out ones come from the test split alone."""
        rows = self.split.test if held_out else self.split.train
        return take(jax.tree.map(jnp.asarray, rows), self.places(key, n, held_out, skip))

    def places(self, key: Key, n: int, held_out: bool = False, skip: Array | int = 0) -> Array:
        """Where in its split each of the rows is that `draw` serves, [n] int32."""
        rows = self.split.test if held_out else self.split.train
        index = (jnp.arange(n) + skip) % count(rows)  # [n]
        return self.permuted(key, rows, held_out)[index]

    def permuted(self, key: Key, rows: Rows, held_out: bool) -> Array:
        """The order [size] in which rows are served."""
        return jax.random.permutation(key, count(rows))

    def check(self, n: int) -> None:
        """Raises where a stream cannot serve n rows."""
        if not self.reuse:
            refuse_short(n, self.size, self.supply)


def stratified(label: Array, classes: int) -> Array:
    """A reordering of labels [n] whose every beginning holds the classes in proportion, after one of each."""
    members = jax.nn.one_hot(label, classes, dtype=jnp.int32)  # [n, classes]
    rank = jnp.take_along_axis(jnp.cumsum(members, 0), label[:, None], 1)[:, 0] - 1  # [n]: place within its class
    return jnp.argsort(rank / members.sum(0)[label], stable=True)


def split_of(source: Source) -> Split | None:
    """The rows of a source that shows them."""
    return source.split if isinstance(source, Splitting) and isinstance(source.split, Split) else None


def table_of(source: Source) -> Rows:
    """The rows, leaves [size, ...] on the host, among which are all that a source serves; None where it says of none.

    A stream that serves them in a way of its own may change them.
    """
    return source.split.train if isinstance(source, Stream) and type(source).draw is Stream.draw else None


def served(source: Source, key: Key, n: int, **skip: Any) -> Rows | Shared:
    """What `draw` serves, leaves [n, ...], or where that is in the source's table."""
    table = table_of(source)
    if table is None:
        return source.draw(key, n, **skip)
    return Shared(jax.tree.map(jnp.asarray, table), None, cast(Stream, source).places(key, n, **skip))


def guard(source: Source, rows: Rows | Shared, which: Array | np.ndarray) -> None:
    """Raises where one of the rows, leaves [*shape, ...], that `which` [*shape] picks is held out by its source.

    Inside a compiled program nothing can be looked at.
    """
    if isinstance(source, Guarded) and not isinstance(which, Tracer):
        picked = whole(which)
        if isinstance(rows, Shared):
            source.guard(take(table_of(source), jnp.asarray(np.unique(whole(rows.place)[picked]))))
        else:
            source.guard(jax.tree.map(lambda a: whole(a)[picked], rows))


def refuse_short(n: int, size: int, has: str) -> None:
    """Raises where a stream of `size` rows, none of them twice, cannot serve n."""
    if n > size:
        raise GenlossError(
            f"The chain asks for {n} real rows and {has}; lower `real`, `fresh` or the number of generations, or "
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
