"""Whether samples say what training text says, word for word: every match of any length, exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from simulator.checks.fields import Count, Range, check
from simulator.pool import count
from simulator.probes.classifier import in_blocks
from simulator.probes.features import training
from simulator.probes.text import counted, windows
from simulator.types import Array, GenlossError, Key, Source, View

_AT_ONCE = 2**22  # tokens compared


@dataclass(frozen=True)
class Verbatim:
    """How much of samples is in the real training text word for word, beside how much of held-out real text is.

    copied_N = the share of the samples' N-grams that a training window has (as memorised text is counted: Carlini et
    al. 2023, arXiv:2202.07646, N = 50; Lee et al. 2022, arXiv:2107.06499, § 6.2); longest is the longest match of any
    sample and longest_mean that of each sample on average; held_out_N and held_out_mean are the same of held-out real
    windows.  N goes through `lengths`, but for those that a window is too short for.

    Matches are found in the sorted suffixes of the training windows (Manber & Myers 1993), exactly and of all lengths
    at once; one is counted up to `longest` tokens.  What follows the end of a text is no part of it.

    copied_N | share of the samples' N-grams that training text has | [0, 1] | lower is better | O(tokens · L log T)
    held_out_N | that share of held-out real text | [0, 1] | neither | O(tokens · L log T)
    longest | the longest match of a sample with training text | tokens, <= L | lower is better | as copied_N
    longest_mean | mean over samples of their longest match | tokens, <= L | lower is better | as copied_N
    held_out_mean | mean over held-out windows of theirs | tokens, <= L | neither | as copied_N
    rows | samples used | rows | neither | O(1)
    reference_rows | held-out windows used | rows | neither | O(1)
    """

    no_ceiling: ClassVar[tuple[str, ...]] = ("",)  # real rows are training rows themselves

    lengths: tuple[Count, ...] = (8, 16, 32, 50)  # N
    rows: Count | None = None  # training windows, at most; None takes all
    longest: Annotated[int, Range(2)] = 128  # L, tokens of a match, at most

    def __post_init__(self) -> None:
        check(self)
        if not self.lengths or max(self.lengths) > self.longest:
            raise GenlossError(
                f"Verbatim counts n-grams of lengths up to longest={self.longest}, and was given {self.lengths}."
            )

    def prepare(self, key: Key, source: Source) -> dict[str, Array]:
        """{"text": [m, length] int32, training windows, -1 after the end of a text; "order": [m·length] int32, their
        suffixes in order}."""
        text = windows(training(key, source, self.rows)).astype(jnp.int32)
        text = jnp.where(counted(source, text), text, -1)
        return {"text": text, "order": jax.jit(suffixes, static_argnums=1)(text, self.longest)}

    def __call__(self, key: Key, view: View) -> dict[str, Any]:
        known = view.prepared[self]
        real, said = jax.lax.optimization_barrier(windows(view.reference)), windows(view.synthetic)
        found: dict[str, Any] = {}
        for share, mean, rows in (("copied", "longest_mean", said), ("held_out", "held_out_mean", real)):
            left = ends(counted(view.generator, rows))  # [n, length]: tokens from each place to the end of its text
            match = jnp.minimum(matches(rows, known["text"], known["order"], self.longest), left)  # [n, length]
            for n in self.lengths:
                if n <= rows.shape[1]:
                    found[f"{share}_{n}"] = (match >= n).sum() / (left >= n).sum()
            found[mean] = match.max(1).mean()
            if rows is said:
                found["longest"] = match.max()
        return {**found, "rows": count(said), "reference_rows": count(real)}


def ends(there: Array) -> Array:
    """How many tokens of its text there are from each place on, [n, length] int32."""
    return jnp.cumsum(there[:, ::-1], axis=1, dtype=jnp.int32)[:, ::-1] * there


def suffixes(text: Array, most: int) -> Array:
    """The places of text [m, length], numbered row by row, in the order of what follows in the row, [m·length] int32;
    -1 is no token.

    Ordered by at least `most` tokens; a text that ends comes before one that goes on.  Prefix doubling: the order by
    2^(k+1) tokens is that of pairs of orders by 2^k.
    """
    m, length = text.shape
    rank, place = text + 1, jnp.arange(m * length, dtype=jnp.int32)  # [m, length]: 0 stands for the end
    k = 0
    while True:
        second = jnp.pad(rank[:, k:], ((0, 0), (0, min(k, length)))) if k else jnp.zeros_like(rank)
        first, second, order = jax.lax.sort((rank.reshape(-1), second.reshape(-1), place), num_keys=2)
        k = max(1, 2 * k)
        if k >= min(most, length):
            return order
        new = jnp.zeros(m * length, bool).at[1:].set((jnp.diff(first) != 0) | (jnp.diff(second) != 0))
        ranks = 1 + jnp.cumsum(new, dtype=jnp.int32)  # [m·length]
        rank = jnp.zeros(m * length, jnp.int32).at[order].set(ranks, unique_indices=True).reshape(m, length)


def matches(rows: Array, text: Array, order: Array, most: int) -> Array:
    """How many tokens from each place of rows [n, length] on are somewhere in text [m, t], at most `most`, [n, length].

    Nothing in the text shares more with them than the suffixes next to where they would be in its order.
    """
    length, t = rows.shape[1], text.shape[1]
    most = min(most, length, t)
    flat = jnp.pad(text + 1, ((0, 0), (0, most))).reshape(-1)  # [m (t + most)]: 0 is the end
    reach = jnp.arange(most)

    def of(block: Array) -> Array:
        padded = jnp.pad(block + 1, ((0, 0), (0, most)))  # [b, length + most]
        asked = padded[:, jnp.arange(length)[:, None] + reach]  # [b, length, most]

        def against(i: Array) -> tuple[Array, Array]:
            """(shared tokens, whether suffix i of the order is less) of each place, i [b, length]."""
            place = order[jnp.clip(i, 0, order.size - 1)]
            other = flat[(place // t * (t + most) + place % t)[..., None] + reach]  # [b, length, most]
            same = (other == asked) & (asked > 0)
            shared = jnp.cumprod(same, axis=-1, dtype=jnp.int32).sum(-1)  # [b, length]
            at = jnp.minimum(shared, most - 1)[..., None]
            less = jnp.take_along_axis(other, at, -1) < jnp.take_along_axis(asked, at, -1)  # [b, length, 1]
            return shared, less[..., 0]

        def halve(_: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = bounds  # the first suffix that is not less is in low..high
            middle = (low + high) // 2
            less = against(middle)[1] & (low < high)
            return jnp.where(less, middle + 1, low), jnp.where(less, high, jnp.minimum(middle, high))

        start = jnp.zeros(block.shape, jnp.int32), jnp.full(block.shape, order.size, jnp.int32)
        steps = int(np.ceil(np.log2(order.size + 1)))
        at = jax.lax.fori_loop(0, steps, halve, start)[0]  # [b, length]
        return jnp.maximum(against(at)[0], jnp.where(at > 0, against(at - 1)[0], 0))

    return in_blocks(of, rows, max(1, _AT_ONCE // (length * most)))
