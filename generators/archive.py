"""A stored synthetic set as a generator: what was once generated is said again, and nothing is learned from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from generators.given import labels
from simulator.numerics.chance import uniform
from simulator.pool import Pool, Rows, take
from simulator.sources.split import Split
from simulator.types import Array, GenlossError, Key


class StoredRows(Protocol):
    """What an archive is kept in, such as `Dataset`: its training rows are leaves [size, ...] on the host."""

    @property
    def split(self) -> Split: ...
    @property
    def fingerprint(self) -> str: ...


@dataclass(frozen=True)
class Archive:
    """Says the training rows of a stored set {"image": uint8 [h, w, c], "label": int32}, by label.

    It is frozen: a fit learns how much each label weighs in the diet, and nothing else.  Of n rows label c has
    n·(its share), rounded up or down at random; no row is said twice before every row of its label is said once.  So
    the one-step setting (Hataya et al. 2023, arXiv:2211.08095) is a chain of two generations, and with a live generator
    in the archive's place it is the loop.
    """

    dataset: StoredRows

    completes: ClassVar[bool] = True

    def shaped(self, rows: Rows) -> Archive:
        """Itself, if it can stand in for rows like these."""
        stored = self.dataset.split.train
        if not (isinstance(rows, dict) and rows.keys() == stored.keys()):
            raise GenlossError(
                f"{self._name} holds rows of {', '.join(stored)}; give the chain a source of the same kind."
            )
        for part, leaf in stored.items():
            if leaf.shape[1:] != rows[part].shape[1:] or leaf.dtype != rows[part].dtype:
                raise GenlossError(
                    f"{self._name} has a row's {part} as {leaf.dtype}{list(leaf.shape[1:])} and the source as "
                    f"{rows[part].dtype}{list(rows[part].shape[1:])}; convert one of them, or set `side` to resize it."
                )
        if (top := int(np.asarray(rows["label"]).max())) >= len(self._sizes):
            raise GenlossError(
                f"{self._name} has {len(self._sizes)} classes and the source has a label {top}; choose an archive of "
                "the same classes."
            )
        return self

    @property
    def fingerprint(self) -> str:
        """Checksum of the stored set: another set at the same path is another run."""
        return self.dataset.fingerprint

    def init(self, key: Key) -> Array:
        """The mass of each label, [classes]: as the archive has them."""
        return jnp.asarray(self._sizes, jnp.float32)

    def fit(self, key: Key, params: Array, pool: Pool) -> tuple[Array, dict[str, Array]]:
        return jnp.zeros(params.shape).at[pool.rows["label"]].add(pool.weight), {}

    def sample(self, key: Key, params: Array, n: int, given: Rows | None = None) -> Rows:
        """Leaves [n, ...], in random order, or of the labels that are given, in theirs."""
        for_labels, for_rows, for_order = jax.random.split(key, 3)
        told = None if given is None else labels(given, n, self._name)  # [n]
        if told is None:
            edges = jnp.cumsum(params) * (n / params.sum())  # [classes]: whole numbers stay whole
            turn = jnp.arange(n, dtype=jnp.float32)
            aim = jnp.minimum(turn + uniform(for_labels, ()), jnp.nextafter(turn + 1, turn))  # [n]: evenly spaced
            label = jnp.minimum(jnp.searchsorted(edges, aim, side="right"), len(params) - 1)  # [n], rising
        else:
            label = jnp.sort(told)
        place = jnp.arange(n) - jnp.searchsorted(label, label)  # [n]: among those of its label
        sizes, stored = jnp.asarray(self._sizes), self.dataset.split.train
        chance = uniform(for_rows, stored["label"].shape)  # [size]
        by_label = jnp.lexsort((chance, jnp.asarray(stored["label"])))  # [size]: shuffled within each label
        first = jnp.cumsum(sizes) - sizes  # [classes]
        index = by_label[first[label] + place % sizes[label]]  # [n]
        if told is None:
            said = jax.random.permutation(for_order, index)  # [n]
        else:
            said = jnp.zeros_like(index).at[jnp.argsort(told)].set(index)  # [n]
        return take(jax.tree.map(jnp.asarray, stored), said)

    @property
    def _sizes(self) -> np.ndarray:
        """[classes]: rows of each label; every one has some."""
        split = self.dataset.split
        if not (isinstance(split.train, dict) and "label" in split.train):
            raise GenlossError(f"{self._name} holds rows without labels; give a set that was stored with them.")
        sizes = np.bincount(split.train["label"], minlength=len(split.classes))
        if not sizes.all():
            missing = int(np.flatnonzero(sizes == 0)[0])
            raise GenlossError(f"{self._name} has no row of class {missing}; generate some, or leave the class out.")
        return sizes

    @property
    def _name(self) -> str:
        return f"The archive {getattr(self.dataset, 'path', type(self.dataset).__name__)}"
