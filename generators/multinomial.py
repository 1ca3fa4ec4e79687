"""Multinomial diffusion: states that turn into any other, and back (Hoogeboom et al. 2021, arXiv:2102.05379).

States are one of K, or their probabilities, [..., s, K]; a column of s has its own number of states, and `even` [s, K]
is the same probability for each of them, 0 beyond.  ᾱ is the share that is still what it was.
"""

from __future__ import annotations

import jax.numpy as jnp

from simulator.types import Array


def noised(x: Array, kept: Array, even: Array) -> Array:
    """Probabilities of x_t given x_0, ᾱ x_0 + (1 - ᾱ)/K (eq. 12); or of any later state given one, by what is kept."""
    return kept * x + (1 - kept) * even


def posterior(xt: Array, x0: Array, now: Array, then: Array, even: Array) -> Array:
    """Probabilities of the state at the earlier time, ᾱ `then`, given that at ᾱ `now` and x_0 (eq. 13).

    ∝ [α x_t + (1 - α)/K] ⊙ [`then` x_0 + (1 - `then`)/K], α = `now`/`then` what is kept between the two, which need not
    be one step apart.  With probabilities for x_0 it is what the model says (eq. 14).
    """
    found = noised(xt, now / then, even) * noised(x0, then, even)
    return found / jnp.maximum(found.sum(-1, keepdims=True), jnp.finfo(jnp.float32).tiny)


def divergence(p: Array, q: Array) -> Array:
    """KL(p‖q) over states, [...], nats."""
    tiny = jnp.finfo(jnp.float32).tiny
    return (p * (jnp.log(jnp.maximum(p, tiny)) - jnp.log(jnp.maximum(q, tiny)))).sum(-1)
