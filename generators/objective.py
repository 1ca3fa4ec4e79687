"""What a fit makes small: the loss of a `Trained` generator as an argument.

An objective `(model, key, params, rows) -> losses` gives the loss of each row of a batch, [n], or of each of its values
(pixels, tokens), [n, ...]; gradient steps go down their mean.  Rows are drawn in proportion to their weight, so that an
objective knows no weights.  `model.losses(key, params, rows)` is the model's own, which others wrap.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import jax.numpy as jnp

from simulator.checks.fields import BelowOne, Range, check
from simulator.pool import Rows
from simulator.types import Array, GenlossError, Key, Params

Objective = Annotated[Callable[[Any, Key, Params, Rows], Array], "an objective, such as Plain() or Truncated(0.1)"]


@dataclass(frozen=True)
class Plain:
    """The model's own loss."""

    def __call__(self, model: Any, key: Key, params: Params, rows: Rows) -> Array:
        return model.losses(key, params, rows)


@dataclass(frozen=True)
class Truncated:
    """The mean over a batch but for the round(share·n) rows of largest loss (Kang & Hashimoto 2020, arXiv:2004.14589).

    What is dropped has no gradient, so that rows a model finds least likely, noise and outliers, do not move it; rare
    rows that are real are dropped with them.  The paper compares with a quantile of the losses of many batches, and
    begins after some plain steps; here each batch is sorted by itself, from the first.  Where a loss is drawn, as at
    the random time of a diffusion, it is the draw that is compared.  The gradient in `share` is 0.
    """

    share: BelowOne | Array = 0.1  # c: of a batch's rows, those of largest loss, which are dropped
    of: Objective = Plain()  # the losses that are compared

    __post_init__ = check

    def __call__(self, model: Any, key: Key, params: Params, rows: Rows) -> Array:
        losses = self.of(model, key, params, rows)  # [n, ...]
        if not losses.ndim:
            raise GenlossError("Truncated drops rows by their losses and was given a mean; let `of` give one a row.")
        n = losses.shape[0]
        rank = jnp.argsort(jnp.argsort(losses.reshape(n, -1).mean(1)))  # [n]: 0 for the smallest
        most = jnp.maximum(n - jnp.round(self.share * n), 1)  # []: rows that are kept
        factor = (rank < most) * (n / most)  # [n]; a product, so that a loss that is NaN is not dropped in silence
        return losses * factor.reshape(-1, *[1] * (losses.ndim - 1))


@dataclass(frozen=True)
class TruncatedTokens:
    """Cross-entropy of the tokens that a model is not sure of: TCE(p) = [p <= γ]·(-log p), p = exp(-loss) (ForTIFAI,
    Zibakhsh Shabgahi et al. 2025, arXiv:2509.08972).

    A model is surer of what it said than of real text; what it is sure of has no gradient, and what is rare weighs
    more.  It is for losses of each token that are -log p in nats, as a `Transformer` gives them; of its mean all tokens
    are counted, those left out with 0.  threshold=1 leaves out none.  The gradient in `threshold` is 0.
    """

    threshold: Annotated[float, Range(0, 1)] | Array = 0.9  # γ: tokens more probable than this are left out
    of: Objective = Plain()  # the losses, one for each token

    __post_init__ = check

    def __call__(self, model: Any, key: Key, params: Params, rows: Rows) -> Array:
        losses = self.of(model, key, params, rows)  # [n, length]
        if losses.ndim != 2:
            raise GenlossError(
                f"TruncatedTokens leaves out tokens by their losses, [n, length], and {type(model).__name__} gives "
                f"losses {list(losses.shape)}; choose a language model, or Truncated, which leaves out rows."
            )
        return losses * (jnp.exp(-losses) <= self.threshold)  # a product: a loss that is NaN is not left out in silence
