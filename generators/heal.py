"""Cures in weight space after the fact: one model made of the parameters of several generations of a chain.

Each takes how strong it is, w, and the parameters of generations 0 to K, the last of which is to be healed.  Float
leaves are combined one by one; anything else is that of the model that w = 0 gives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from generators.train import Trained
from simulator.chain import Chain
from simulator.pool import Pool
from simulator.running.sweep import reached
from simulator.types import GenlossError, Params

Cure = Callable[
    [float, Sequence[np.ndarray]], np.ndarray
]  # (w, a leaf of each generation from 0 to K) -> the healed leaf


def neon(w: float, leaves: Sequence[np.ndarray]) -> np.ndarray:
    """(1 + w)·θ_0 - w·θ_K: generation 0, away from what became of it on its own samples (Alemohammad et al. 2025,
    arXiv:2510.03597)."""
    return (1 + w) * leaves[0] - w * leaves[-1]


def negate(w: float, leaves: Sequence[np.ndarray]) -> np.ndarray:
    """θ_K - w·(θ_K - θ_{K-1}): without the last generation's task vector (Ilharco et al. 2023, arXiv:2212.04089)."""
    return leaves[-1] - w * (leaves[-1] - leaves[-2])


def average(w: float, leaves: Sequence[np.ndarray]) -> np.ndarray:
    """(1 - w)·θ_K + w·(θ_0 + ... + θ_K)/(K + 1): for w = 1 the mean of all (Wortsman et al. 2022, arXiv:2203.05482)."""
    return (1 - w) * leaves[-1] + w * (sum(leaves[1:], leaves[0]) / len(leaves))


CURES: dict[str, tuple[Cure, int]] = {"neon": (neon, 0), "negate": (negate, -1), "average": (average, -1)}
"""Name -> (cure, the generation that w = 0 gives)."""


def check(chain: Chain) -> None:
    """Raises where parameters of several generations of a chain are no points of one space."""
    if chain.start == "scratch" and not _is_statistic(chain):
        raise GenlossError(
            f"Each generation of this run is a {type(chain.model).__name__} that was trained from new weights "
            '(start="scratch"), and a combination of networks that were trained apart means nothing; run it with '
            "--start previous or --start base."
        )


def _is_statistic(chain: Chain) -> bool:
    """Whether a fit owes nothing to chance and to the parameters it begins at."""
    key = jax.random.key(0)
    params, pool = _shapes(chain)
    program = jax.make_jaxpr(lambda key, params, pool: chain.model.fit(key, params, pool)[0])(key, params, pool)
    return not any(reached(program, 1 + len(jax.tree.leaves(params))))


def _shapes(chain: Chain) -> tuple[Params, Pool]:
    """Shapes of parameters, and of a diet."""
    params = jax.eval_shape(chain.model.init, jax.random.key(0))
    return params, jax.eval_shape(lambda: Pool.of(chain.source.draw(jax.random.key(0), chain.real)))


def healed(chain: Chain, by: str, w: float, generations: Sequence[Params]) -> Params:
    """The parameters that a cure makes of those of generations 0 to K, K > 0, leaves [..., *theirs].

    What a network's generator fits in closed form, such as the shares of labels, is taken from the model that w = 0
    gives.  Raises where shares of an exact model would fall below 0.
    """
    cure, plain = CURES[by]
    columns = [list(map(np.asarray, leaves)) for leaves in zip(*map(jax.tree.leaves, generations), strict=True)]
    found = [
        cure(w, leaves) if moves and jnp.issubdtype(leaves[0].dtype, jnp.floating) else leaves[plain]
        for leaves, moves in zip(columns, _weights(chain), strict=True)
    ]
    for leaf, leaves in zip(found, columns, strict=True):
        if all(map(_is_share, leaves)) and (leaf < 0).any():
            raise GenlossError(f"With w = {w:g} shares of the healed model would fall below 0; give a smaller --w.")
    return jax.tree.unflatten(jax.tree.structure(generations[0]), list(map(jnp.asarray, found)))


def _is_share(leaf: np.ndarray) -> bool:
    return leaf.ndim > 0 and bool((leaf >= 0).all() and np.allclose(leaf.sum(-1), 1, atol=1e-5))


def _weights(chain: Chain) -> list[bool]:
    """Of each leaf of the parameters, whether it is no part that a network's generator fits in closed form."""
    model, (params, pool) = chain.model, _shapes(chain)
    if not isinstance(model, Trained):
        return [True] * len(jax.tree.leaves(params))
    kept: list[bool] = []

    def follow(params: Params, pool: Pool) -> None:
        fitted = model.closed_form(params, pool)
        kept.extend(a is b for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(fitted), strict=True))

    jax.eval_shape(follow, params, pool)
    return kept
