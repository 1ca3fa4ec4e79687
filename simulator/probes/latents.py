"""What a generator that encodes rows has left of its code, and how likely it finds rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from simulator.abilities import Encoding
from simulator.checks.fields import Count, Positive, check
from simulator.numerics.chance import fold_in
from simulator.pool import Rows, count
from simulator.probes.finite import where_finite, where_number
from simulator.types import Array, GenlossError, Key, View


@dataclass(frozen=True)
class Latents:
    """How far the means of q(z|x) of a fitted VAE lie apart: where a code says nothing of x they are all 0.

    The standard deviation is over rows, of all dimensions together: √ of their mean variance, at most about 1 where
    q(z|x) averaged over x is the prior.  That of samples falls as an autoencoder eats what it said (Shumailov et al.
    2023, arXiv:2305.17493); `active` counts dimensions whose variance is above `least` (Burda et al.
    2016, arXiv:1509.00519, section 5.2).

    std | standard deviation of encoded held-out real rows | of the prior's, 0 to about 1 | neither | one `encode`
    said | that of encoded samples | of the prior's, 0 to about 1 | neither | one `encode`
    active | dimensions that vary over held-out real rows | dimensions | neither | one `encode`
    rows | samples used | rows | neither | O(1)
    reference_rows | held-out rows used | rows | neither | O(1)
    """

    no_ceiling: ClassVar[tuple[str, ...]] = ("",)  # real rows in place of samples have no model

    least: Positive = 0.01  # variance from which a dimension counts as active

    __post_init__ = check

    def __call__(self, key: Key, view: View) -> dict[str, Any]:
        real, said = (_variance(view, rows) for rows in (view.reference, view.synthetic))  # [latent] each
        return {
            "std": jnp.sqrt(real.mean()),
            "said": jnp.sqrt(said.mean()),
            "active": where_finite((real > self.least).sum().astype(jnp.float32), real),
            "rows": count(view.synthetic),
            "reference_rows": count(view.reference),
        }


@dataclass(frozen=True)
class Evidence:
    """How likely a fitted VAE finds held-out real rows, and its own: bounds from below on log p(x), given the label.

    Of one draw of z the evidence lower bound, of many the importance-weighted one, which lies nearer (Burda et al.
    2016, arXiv:1509.00519, theorem 1).  Of Bernoulli pixels neither is a probability of grey values.

    elbo | mean evidence lower bound of held-out real rows | nats per row | higher is better | one pass
    real | mean importance-weighted bound of held-out real rows | nats per row | higher is better | `draws` decodings
    said | that of samples | nats per row | neither | `draws` decodings
    rows | samples used | rows | neither | O(1)
    reference_rows | held-out rows used | rows | neither | O(1)
    """

    no_ceiling: ClassVar[tuple[str, ...]] = ("",)

    draws: Count = 50  # K, of z for each row

    __post_init__ = check

    def __call__(self, key: Key, view: View) -> dict[str, Any]:
        model = _encoding(view)
        elbo = model.elbo(fold_in(key, 0), view.params, jax.lax.optimization_barrier(view.reference))  # [n]
        real, said = (
            model.importance_bound(fold_in(key, i), view.params, rows, self.draws)
            for i, rows in ((1, jax.lax.optimization_barrier(view.reference)), (2, view.synthetic))
        )
        return {
            "elbo": where_number(elbo.mean(), elbo),
            "real": where_number(real.mean(), real),
            "said": where_number(said.mean(), said),
            "rows": count(view.synthetic),
            "reference_rows": count(view.reference),
        }


def _encoding(view: View) -> Encoding:
    if not isinstance(view.generator, Encoding):
        raise GenlossError(f"{type(view.generator).__name__} encodes no rows; leave the probe out, or use a VAE.")
    return view.generator


def _variance(view: View, rows: Rows) -> Array:
    """Of the means of q(z|x) over rows, [latent]."""
    # Held-out rows are a constant of the program: without the barrier the compiler would transform them.
    return _encoding(view).encode(view.params, jax.lax.optimization_barrier(rows))[0].var(0)
