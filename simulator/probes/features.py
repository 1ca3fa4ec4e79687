"""Feature spaces: maps from rows to vectors [n, d] in which distances are taken.

A feature space is a function `rows -> [n, d]`, or a frozen dataclass with `prepare(key, source) -> learned`, called
once per run before generation 0, and `__call__(rows, learned) -> [n, d]`.  Probes ask for it by
`view.embed(features, rows)`.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from simulator.pool import Rows
from simulator.types import Array, GenlossError, Key, Source


def flat(rows: Rows) -> Array:
    """The row itself as a float32 vector, [n, d]: the image of {"image", ...}, with uint8 scaled to [0, 1]."""
    x = rows["image"] if isinstance(rows, dict) else rows
    scale = 255 if x.dtype == jnp.uint8 else 1
    return x.reshape(x.shape[0], -1).astype(jnp.float32) / scale


def pictures(rows: Rows) -> Array:
    """Images as float32 [n, h, w, c], bytes scaled to [0, 1]; points as they are, [n, d]."""
    x = rows["image"] if isinstance(rows, dict) else rows
    return x.astype(jnp.float32) / (255 if x.dtype == jnp.uint8 else 1)


@dataclass(frozen=True)
class Pca:
    """The first `dim` principal components of real training rows, [n, dim], in the units of the row."""

    dim: int = 32
    rows: int = 10_000  # training rows they are found from, at most

    def __post_init__(self) -> None:
        if self.dim < 1 or self.rows < 2:
            raise GenlossError(f"Pca(dim={self.dim}, rows={self.rows}) needs a component and two rows.")

    def prepare(self, key: Key, source: Source) -> dict[str, Array]:
        """{"mean": [d], "basis": [d, dim]}."""
        x = flat(training(key, source, self.rows))  # [rows, d]
        if self.dim > x.shape[1]:
            raise GenlossError(f"Pca(dim={self.dim}) asks for more components than the rows have: {x.shape[1]}.")
        mean = x.mean(0)
        _, vectors = jnp.linalg.eigh((x - mean).T @ (x - mean))  # [d, d], eigenvalues ascending
        return {"mean": mean, "basis": vectors[:, ::-1][:, : self.dim]}

    def __call__(self, rows: Rows, learned: dict[str, Array]) -> Array:
        return (flat(rows) - learned["mean"]) @ learned["basis"]


def training(key: Key, source: Source, most: int | None = None) -> Rows:
    """Real training rows, leaves [<= most, ...]: all of a data set for None, and 10,000 of an endless source."""
    size = getattr(source, "size", None)
    split = getattr(source, "split", None)
    n = min(most or size or 10_000, size or most or 10_000)
    if split is not None and n == size:
        return jax.tree.map(jnp.asarray, split.train)
    return source.draw(key, n)


def squared_distances(a: Array, b: Array) -> Array:
    """‖a_i - b_j‖², [n, m], by one matmul; never below 0."""
    return jnp.maximum((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T, 0)


def classes(rows: Rows) -> int:
    """Number of classes among labelled rows, which must be concrete (a probe's reference is)."""
    if not (isinstance(rows, dict) and "label" in rows):
        raise GenlossError("This probe needs rows with a label; give the chain such a source, or leave the probe out.")
    return int(np.asarray(rows["label"]).max()) + 1
