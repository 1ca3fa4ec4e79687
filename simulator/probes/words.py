"""The words of samples: how many different ones, how evenly they are used, and whether a text goes in circles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from simulator.checks.fields import Count, InsideShare, Range, check
from simulator.probes.text import counted, vocabulary_of, windows
from simulator.types import Array, Key, View


@dataclass(frozen=True)
class Lexicon:
    """Lexical diversity of samples that does not depend on their number, their length, and loops that they end in.

    mtld: tokens per factor, the mean of reading forwards and backwards; a factor ends where different tokens per token
    fall below `threshold`, and a rest counts (1 - ratio)/(1 - threshold) (McCarthy & Jarvis 2010,
    doi:10.3758/BRM.42.2.381).  Each sample is a text of its own, and it is all tokens per all factors; inf where no
    sample says a token twice.  It means most for words, of which a text should have 100.  yule = 10⁴ (Σ c² - N)/N² of
    the counts c of tokens, N in all (Yule 1944).  looping: a sample loops that ends with one phrase of at least
    `phrase` tokens, said `times` times and nothing after (as in Holtzman et al. 2020, arXiv:1904.09751).  What follows
    the end of a text, where the generator knows one, is no part of it.

    mtld | measure of textual lexical diversity | tokens, >= 1, may be inf | higher is more diverse | O(N log length)
    yule | Yule's K, by which tokens repeat | >= 0 | lower is more diverse | O(N + V)
    looping | share of samples that end in a loop | [0, 1] | lower is better | O(N length)
    length | mean tokens of a sample up to its end | tokens | neither | O(N)
    rows | samples used | rows | neither | O(1)
    """

    vocabulary: Count | None = None  # V, tokens are below it; None takes the generator's
    threshold: InsideShare = 0.72  # different tokens per token at which a factor ends
    phrase: Count = 2  # tokens that are repeated, at least
    times: Annotated[int, Range(2)] = 3  # how often

    __post_init__ = check

    def __call__(self, key: Key, view: View) -> dict[str, Any]:
        said, size = windows(view.synthetic), vocabulary_of(self.vocabulary, view)  # [n, length]
        there = counted(view.generator, said)  # [n, length]
        counts = jnp.zeros(size).at[said].add(there)  # [V]
        total = counts.sum()
        return {
            "mtld": mtld(said, there, self.threshold),
            "yule": 1e4 * ((counts / total) @ counts - 1) / total,
            "looping": looping(said, there.sum(1), self.phrase, self.times).mean(),
            "length": there.sum(1).mean(),
            "rows": len(said),
        }


def mtld(rows: Array, there: Array, threshold: float = 0.72) -> Array:
    """Tokens per factor, the mean of both directions, [], of texts [n, length] of the tokens that are `there`."""
    total = there.sum()
    both = [factors(rows[:, way], there[:, way], threshold).sum() for way in (slice(None), slice(None, None, -1))]
    return sum((total / found for found in both), jnp.zeros(())) / 2


def factors(rows: Array, there: Array, threshold: float) -> Array:
    """Factors of each text read forwards, [n], the rest as its part of one."""
    last = last_said(jnp.where(there, rows, -1))  # [n, length]
    zero = jnp.zeros(rows.shape[0])

    def read(carry: tuple[Array, ...], x: tuple[Array, ...]) -> tuple[tuple[Array, ...], None]:
        start, tokens, types, found = carry  # [n] each: of the factor that is being read, and those before it
        i, known, here = x
        tokens, types = tokens + here, types + (here & (known < start))
        full = types < threshold * tokens  # [n]
        start = jnp.where(full | (tokens == 0), i + 1, start)
        return (start, jnp.where(full, 0, tokens), jnp.where(full, 0, types), found + full), None

    places = jnp.arange(rows.shape[1])
    begun = (jnp.zeros(rows.shape[0], jnp.int32), zero, zero, zero)
    (_, tokens, types, found), _ = jax.lax.scan(read, begun, (places, last.T, there.T))
    rest = jnp.where(tokens > 0, (1 - types / jnp.maximum(tokens, 1)) / (1 - threshold), 0.0)
    return found + rest


def last_said(rows: Array) -> Array:
    """Where the token of each place was last said before it in its row, [n, length] int32; -1 for nowhere."""
    order = jnp.argsort(rows, axis=1, stable=True)  # [n, length]: equal tokens together, by their places
    tokens = jnp.take_along_axis(rows, order, axis=1)
    before = jnp.where(tokens[:, 1:] == tokens[:, :-1], order[:, :-1], -1)  # [n, length - 1]
    before = jnp.pad(before, ((0, 0), (1, 0)), constant_values=-1).astype(jnp.int32)
    return jnp.zeros(rows.shape, jnp.int32).at[jnp.arange(rows.shape[0])[:, None], order].set(before)


def looping(rows: Array, length: Array, phrase: int = 2, times: int = 3) -> Array:
    """Which texts, the first `length` [n] tokens of rows [n, t], end with a phrase said `times` times, [n] bool."""
    t = rows.shape[1]
    back = jnp.maximum(length[:, None] - 1 - jnp.arange(t), 0)  # [n, t]: from the last token backwards
    text = jnp.take_along_axis(rows, back, axis=1)

    def of(size: Array) -> Array:
        """Whether one of so many tokens is repeated, [n]."""
        same = text == jnp.roll(text, -size, axis=1)  # [n, t]
        asked = jnp.arange(t) < (times - 1) * size  # [t]
        return (same | ~asked).all(1) & (times * size <= length)

    sizes = jnp.arange(phrase, t // times + 1)
    step = lambda found, size: (found | of(size), None)  # noqa: E731
    return jax.lax.scan(step, jnp.zeros(rows.shape[0], bool), sizes)[0]
