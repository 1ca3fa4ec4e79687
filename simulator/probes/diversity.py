"""How varied a generation's samples are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp

from simulator.pool import Rows
from simulator.probes.features import classes, flat
from simulator.types import Array, Key, View


@dataclass(frozen=True)
class Diversity:
    """Variance, its participation ratio, and the entropy of the labels; higher is more diverse.

    variance: trace of the covariance of the features, squared units of the feature; participation: (Σλ)²/Σλ² of its
    eigenvalues, the number of directions that share the variance, in [1, d]; label_entropy: of the label histogram,
    nats (for rows with a label).
    """

    features: Callable[[Rows], Array] = flat

    def __call__(self, key: Key, view: View) -> dict[str, Array]:
        x = view.embed(self.features, view.synthetic)  # [n, d]
        centred = x - x.mean(0)
        # tr C = Σ x² / (n-1), and tr C² = ‖C‖²_F = ‖Gram matrix‖²_F / (n-1)², whichever of C and Gram is smaller
        small = centred.T @ centred if x.shape[1] <= x.shape[0] else centred @ centred.T
        total, squares = (centred**2).sum(), (small**2).sum()
        found = {
            "variance": total / max(x.shape[0] - 1, 1),
            "participation": total**2 / jnp.maximum(squares, jnp.finfo(jnp.float32).tiny),
        }
        if isinstance(view.synthetic, dict) and "label" in view.synthetic:
            found["label_entropy"] = label_entropy(view.synthetic["label"], classes(view.reference))
        return found


def label_entropy(label: Array, kinds: int) -> Array:
    """-Σ p log p of the histogram of labels [n], nats."""
    share = jnp.zeros(kinds).at[label].add(1.0) / label.shape[0]  # [kinds]
    return -jnp.where(share > 0, share * jnp.log(jnp.where(share > 0, share, 1.0)), 0.0).sum()
