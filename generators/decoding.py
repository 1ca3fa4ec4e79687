"""How the next token is chosen of logits: temperature, what is cut off, and the likeliest of several continuations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from simulator.numerics.selection import fraction, locate, times, tree
from simulator.types import Array, Key


def is_number(value: Any, number: float) -> bool:
    """Whether a field holds this very number, and no value of a sweep."""
    return isinstance(value, int | float) and value == number


def penalised(logits: Array, seen: Array, penalty: float | Array) -> Array:
    """logits [n, vocabulary], those of tokens that are `seen` divided by the penalty, or times it if they are negative
    (Keskar et al. 2019, arXiv:1909.05858)."""
    return jnp.where(seen, jnp.where(logits > 0, logits / penalty, logits * penalty), logits)


def shares(
    logits: Array, temperature: float | Array, top_k: int | None, top_p: float | Array, min_p: float | Array
) -> Array:
    """The probability of each token, [n, vocabulary], which sum to what is not cut off.

    softmax(logits / temperature), of which are kept, one after the other: the `top_k` largest (Fan et al. 2018,
    arXiv:1805.04833); the fewest that have `top_p` of the mass of these (Holtzman et al. 2020, arXiv:1904.09751); those
    of at least `min_p` times the largest (Nguyen et al. 2024, arXiv:2407.01082).  Equals are kept together, and the
    largest always.  Temperature 0 is the limit: the largest alone.
    """
    gap = logits - logits.max(-1, keepdims=True)  # [n, vocabulary], 0 for the largest
    share = jax.nn.softmax(gap / jnp.maximum(temperature, 1e-30))
    if top_k is not None and top_k < share.shape[-1]:
        share = jnp.where(share >= jax.lax.top_k(share, top_k)[0][:, -1:], share, 0.0)
    if not is_number(top_p, 1):
        share = share / share.sum(-1, keepdims=True)
        falling = -jnp.sort(-share)  # [n, vocabulary]
        before = jnp.cumsum(falling, -1) - falling  # mass of those that are larger
        needed = (before < top_p).at[:, 0].set(True)
        share = jnp.where(share >= jnp.where(needed, falling, 2.0).min(-1, keepdims=True), share, 0.0)
    if not is_number(min_p, 0):
        share = jnp.where(share >= min_p * share.max(-1, keepdims=True), share, 0.0)
    return share


def drawn(keys: Key, share: Array) -> Array:
    """A token of each row, [n] int32, in proportion to `share` [n, vocabulary], by keys [n]; none of share 0 ever."""
    high, low = tree(share)  # [n, nodes] each
    at = lambda a, i: jnp.take_along_axis(a, i[:, None], 1)[:, 0]  # noqa: E731
    node = lambda i: (at(high, i), at(low, i))  # noqa: E731
    part = jax.vmap(lambda key: fraction(key, ()))(keys)  # [n] each
    return locate(node, share.shape[1], times(part, node(jnp.zeros(len(share), jnp.int32))))


def searched(
    extend: Callable[[Array, Any, Array], tuple[Array, Any]],
    logits: Array,
    cache: Any,
    given: Array,
    length: int,
    beams: int,
    eos: int | None,
) -> Array:
    """Rows [n, length] that go on from `given` [n, k] by beam search: of all continuations of the `beams` likeliest
    beginnings the `beams` likeliest, token by token, and the likeliest of these in the end.

    `extend(tokens [m, 1], cache, at) -> (logits [m, vocabulary], cache)`; `logits` and `cache` are those after `given`,
    of n rows, and m is n·beams.  After `eos` a row is certain.
    """
    n, k = given.shape
    whole = jnp.full((n, beams, length), -1, jnp.int32).at[:, :, :k].set(given[:, None])  # -1: not yet said
    logits, cache = jax.tree.map(lambda a: jnp.repeat(a, beams, 0), (logits, cache))  # [n beams, ...]
    score = jnp.full((n, beams), -jnp.inf).at[:, 0].set(0.0)  # all are the same as yet

    def choose(score: Array, whole: Array, logits: Array, cache: Any, place: Array) -> tuple[Array, Array, Any]:
        more = jax.nn.log_softmax(logits).reshape(n, beams, -1)  # [n, beams, vocabulary]
        size = more.shape[-1]
        if eos is not None:
            over = (whole == eos).any(-1)  # [n, beams]
            more = jnp.where(over[..., None], jnp.where(jnp.arange(size) == eos, 0.0, -jnp.inf), more)
        score, best = jax.lax.top_k((score[..., None] + more).reshape(n, -1), beams)  # [n, beams]
        beam, token = best // size, best % size
        whole = jnp.take_along_axis(whole, beam[..., None], 1)
        whole = jax.lax.dynamic_update_slice_in_dim(whole, token[..., None], place, 2)
        row = (jnp.arange(n)[:, None] * beams + beam).reshape(-1)  # [n beams]
        return score, whole, jax.tree.map(lambda a: a[row], cache)

    def step(carry: tuple[Array, Array, Any], place: Array) -> tuple[Any, None]:
        score, whole, cache = carry
        last = jax.lax.dynamic_slice_in_dim(whole, place - 1, 1, 2).reshape(-1, 1)  # [n beams, 1]
        logits, cache = extend(last, cache, place)
        return choose(score, whole, logits, cache, place), None

    if k == length:
        return given
    carry = choose(score, whole, logits, cache, jnp.int32(k))
    return jax.lax.scan(step, carry, jnp.arange(k + 1, length))[0][1][:, 0]
