"""What the last model thinks of a row: asked once a generation, for every recipe that wants to know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp

from simulator.abilities import Dense, Losing
from simulator.checks.fields import Range
from simulator.numerics.schedule import Number, at
from simulator.pool import Pool, Rows, count
from simulator.recipe.contract import judged
from simulator.types import Array, Generator, GenlossError, Key, Params

_DRAWS = 16  # of a loss that is drawn
_SIDE_BY_SIDE = 256  # rows


def check_scores(model: Generator) -> None:
    """Raises where a model has nothing to say of rows."""
    if not isinstance(model, Dense | Losing):
        raise GenlossError(
            f"The recipe asks what the last model thinks of rows, and {type(model).__name__} has neither `log_prob` "
            "nor `losses`; choose another generator, or another recipe."
        )


def scores(model: Generator, key: Key, params: Params, rows: Rows) -> Array:
    """[n] float32, higher for what a model finds likelier: its log-probability in nats, or less its loss.

    A loss that is drawn is the mean over 16 draws, the same for all rows, so that they can be compared.
    """
    if isinstance(model, Dense):
        return model.log_prob(params, rows).astype(jnp.float32)
    assert isinstance(model, Losing)
    losses, keys = model.losses, jax.random.split(key, _DRAWS)

    def one(row: Rows) -> Array:
        alone = jax.tree.map(lambda a: a[None], row)
        return -jax.vmap(lambda key: losses(key, params, alone).mean())(keys).mean()

    return jax.lax.map(one, rows, batch_size=min(_SIDE_BY_SIDE, count(rows))).astype(jnp.float32)


@dataclass(frozen=True)
class KeepLikely:
    """Of the n synthetic rows shown the round(share·n) that the last model finds likeliest; real rows pass.

    The generator as its own verifier: selection by its own perplexity, as of summaries in Feng et al. 2024,
    arXiv:2406.07515.  It needs nobody's judgement and narrows what is said.  Counts are whole, so the gradient in
    `share` is 0.

    >>> KeepLikely(0.34)(key, 1, pool).tolist()
    [1.0, 1.0, 0.0, 0.0, 1.0]
    """

    share: Annotated[Number, Range(0, 1)] = 0.5  # of synthetic rows, which are kept

    wants_scores: ClassVar[bool] = True

    def __call__(self, key: Key, t: Array, pool: Pool) -> Array:
        likely = judged("model", pool)  # [capacity]
        shown = pool.synthetic & (pool.weight > 0)  # [capacity]
        rank = jnp.argsort(jnp.argsort(jnp.where(shown, -likely, jnp.inf)))  # [capacity]: 0 for the likeliest
        kept = shown & (rank < jnp.round(at(self.share, t) * shown.sum()))
        # What a model cannot judge has no weight that is a number, and the run says so.
        return jnp.where(shown & jnp.isnan(likely), jnp.nan, pool.weight * (pool.real | kept))
