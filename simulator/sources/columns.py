"""Rows of a table: its columns side by side, by what they hold, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from simulator.checks.fields import Count, Whole, check
from simulator.pool import Rows, count
from simulator.types import Array, GenlossError

LEAVES = {"numbers", "wholes", "kinds", "missing", "y", "label"}


class Columns(NamedTuple):
    """Columns of n rows; all numbers, y too, are columns alike, and so are all that have states, the label too."""

    x: Array  # [n, c] float32: numbers, whole numbers, y; 0 where missing
    there: Array  # [n, c] bool: not missing
    state: Array  # [n, s] int32: which kind, whether each number is missing, which label


@dataclass(frozen=True)
class Layout:
    """Which columns a table has.  Its rows have a leaf for each sort of column that there is:

    numbers: float32 [n, d]; wholes, whole numbers: int32 [n, m]; kinds: for each column of categories one of K, bool
    [n, K]; missing: which of numbers and wholes are not there, bool [n, d + m], whose values are 0; and the target,
    label: int32 [n], or y: float32 [n].
    """

    numbers: Whole = 0  # d
    wholes: Whole = 0  # m
    kinds: tuple[Count, ...] = ()  # K of each column of categories
    gaps: bool = False  # whether numbers may be missing
    y: bool = False  # whether the target is a number
    classes: Whole = 0  # labels that the target may have; 0: it is none

    __post_init__ = check

    @classmethod
    def of(cls, rows: Rows) -> Layout:
        """That of rows of which at least the label is concrete."""
        refuse_other(rows)
        width = lambda leaf: rows[leaf].shape[1] if leaf in rows else 0  # noqa: E731
        kinds = tuple(leaf.shape[1] for leaf in rows.get("kinds", ()))
        classes = int(np.asarray(rows["label"]).max()) + 1 if "label" in rows else 0
        return cls(width("numbers"), width("wholes"), kinds, "missing" in rows, "y" in rows, classes)

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many states each of the columns that have some may be in, [s]."""
        gaps, label = (2,) * (self.gaps * self._values), (self.classes,) * bool(self.classes)
        return (*self.kinds, *gaps, *label)

    @property
    def most(self) -> int:
        """K: the most states of a column."""
        return max(self.sizes, default=1)

    @property
    def inside(self) -> np.ndarray:
        """Which of K states each column has, [s, K] bool."""
        return np.arange(self.most) < np.array(self.sizes, int)[:, None]

    @property
    def whole(self) -> np.ndarray:
        """Which columns of numbers are whole ones, [c] bool."""
        place = np.arange(self._values + self.y)
        return (place >= self.numbers) & (place < self._values)

    @property
    def _values(self) -> int:
        return self.numbers + self.wholes

    def read(self, rows: Rows) -> Columns:
        """The columns of rows."""
        x, there, flags = values(rows)
        states = [jnp.argmax(leaf, -1)[:, None] for leaf in rows.get("kinds", ())]  # [n, 1] each
        states += [flags.astype(jnp.int32)] if self.gaps else []
        if self.y:
            x = jnp.concatenate([x, rows["y"][:, None].astype(jnp.float32)], 1)
            there = jnp.concatenate([there, jnp.ones_like(there, shape=(len(x), 1))], 1)
        states += [rows["label"][:, None]] if self.classes else []
        none = jnp.zeros((count(rows), 0), jnp.int32)
        return Columns(x, there, jnp.concatenate([none, *states], 1).astype(jnp.int32))

    def one_of_k(self, state: Array) -> Array:
        """States [n, s] as float32 [n, s, K], 1 for the one that is."""
        return jax.nn.one_hot(state, self.most)

    def flat(self, of_k: Array) -> Array:
        """[..., s, K] without the states that a column does not have, [..., Σ K]."""
        return of_k.reshape(*of_k.shape[:-2], -1)[..., np.flatnonzero(self.inside)]

    def padded(self, flat: Array, value: float) -> Array:
        """[..., Σ K] as [..., s, K], `value` for the states that a column does not have."""
        place = np.where(self.inside, np.cumsum(self.inside).reshape(self.inside.shape) - 1, 0)  # [s, K]
        return jnp.where(self.inside, flat[..., place] if flat.shape[-1] else 0.0, value)

    def written(self, x: Array, state: Array) -> Rows:
        """Rows of columns x [n, c] and state [n, s], as the source serves them."""
        k, d, v = len(self.kinds), self.numbers, self._values
        rows: dict[str, Any] = {}
        missing = state[:, k : k + v] == 1 if self.gaps else jnp.zeros((len(x), v), bool)  # [n, d + m]
        shown = jnp.where(missing, 0.0, x[:, :v])  # [n, d + m]
        if self.numbers:
            rows["numbers"] = shown[:, :d]
        if self.wholes:
            rows["wholes"] = jnp.round(shown[:, d:]).astype(jnp.int32)
        if self.kinds:
            rows["kinds"] = tuple(jax.nn.one_hot(state[:, i], K, dtype=bool) for i, K in enumerate(self.kinds))
        if self.gaps:
            rows["missing"] = missing
        if self.y:
            rows["y"] = x[:, v]
        if self.classes:
            rows["label"] = state[:, -1]
        return rows


def values(rows: Rows) -> tuple[Array, Array, Array]:
    """(numbers and whole numbers [n, c] float32, which are there [n, c], which are missing [n, c]) but for a y."""
    parts = [rows[leaf].astype(jnp.float32) for leaf in ("numbers", "wholes") if leaf in rows]
    x = jnp.concatenate([jnp.zeros((count(rows), 0)), *parts], 1)  # [n, c]
    missing = rows["missing"] if "missing" in rows else jnp.zeros(x.shape, bool)
    return jnp.where(missing, 0.0, x), ~missing, missing


def refuse_other(rows: Rows) -> None:
    """Raises where rows are none of a table."""
    names = set(rows) if isinstance(rows, dict) else set()
    if not (names and names <= LEAVES and names - {"missing", "label", "y"}):
        raise GenlossError("This needs rows of a table; give the chain a Table, such as Table.wine().")
