"""Text as a Markov chain: the smallest language model, with tables instead of a network."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from simulator.checks.fields import Count, NonNegative, check
from simulator.numerics.selection import draw, fraction, locate, times, tree
from simulator.pool import Pool, Rows
from simulator.types import Array, GenlossError, Key

_LARGEST = 2**26  # counts in a table: 256 MiB


class NgramParams(NamedTuple):
    start: Array  # [contexts], probability of the first order - 1 tokens; contexts = vocabulary^(order - 1)
    next: Array  # [contexts, vocabulary], probability of a token after a context


@dataclass(frozen=True)
class Ngram:
    """Fits how often a token follows the order - 1 before it, in windows [n, length] of tokens, int32 in
    0..vocabulary-1; samples windows token by token.

    start(c) = Σ w [window begins with c] / W;  next(v | c) = (N(c, v) + β) / (N(c) + vocabulary·β), N the weighted
    counts over all positions.  A context is the number whose digits, base `vocabulary`, are its tokens, oldest first.
    One that nothing ever followed (β = 0) is followed by tokens at the rate of all counted positions, so that a token
    that is lost stays lost.  order=1 draws tokens independently, as `Categorical` does with n·length rows.
    """

    vocabulary: Count  # number of tokens
    order: Count = 2  # tokens of an n-gram: the one drawn and the order - 1 it depends on
    smoothing: NonNegative | Array = 0.0  # β >= 0: Laplace's pseudo-count of every token after every context
    length: Count | None = None  # tokens of a window, at least `order`; None takes it from the source

    completes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check(self)
        if self.vocabulary**self.order > _LARGEST:
            raise GenlossError(
                f"Ngram(vocabulary={self.vocabulary}, order={self.order}) needs a table of vocabulary^order counts, "
                f"more than {_LARGEST:,}; lower one of them."
            )
        if self.length is not None and self.length < self.order:
            raise GenlossError(
                f"Ngram(order={self.order}) cannot learn from windows of {self.length} tokens; "
                "give windows at least as long as the order."
            )

    def shaped(self, rows: Rows) -> Ngram:
        """The same model for windows as long as these."""
        return self if self.length is not None else dataclasses.replace(self, length=rows.shape[1])

    def init(self, key: Key) -> NgramParams:
        """Every token equally likely."""
        contexts = self.vocabulary ** (self.order - 1)
        start = jnp.full(contexts, 1 / contexts, jnp.float32)
        return NgramParams(start, jnp.full((contexts, self.vocabulary), 1 / self.vocabulary, jnp.float32))

    def fit(self, key: Key, params: NgramParams, pool: Pool) -> tuple[NgramParams, dict[str, Array]]:
        context, token = self._contexts(pool.rows)  # [n, drawn + 1], [n, drawn]
        start = jnp.zeros_like(params.start).at[context[:, 0]].add(pool.weight)  # [contexts]
        weight = jnp.broadcast_to(pool.weight[:, None], token.shape)  # [n, drawn]
        counts = jnp.zeros_like(params.next).at[context[:, :-1], token].add(weight) + self.smoothing
        seen, overall = counts.sum(1, keepdims=True), counts.sum(0)  # [contexts, 1], [vocabulary]
        following = jnp.where(seen > 0, counts / jnp.where(seen > 0, seen, 1.0), overall / overall.sum())
        return NgramParams(start / start.sum(), following), {}

    def sample(self, key: Key, params: NgramParams, n: int, given: Array | None = None) -> Array:
        """[n, length] int32; what has probability 0 is never drawn.

        With `given`, the first tokens of each, [n, 1..length], the rest follows these, as it does in all windows that
        begin so.  Where none begins so, what is missing of the first context is drawn from all.
        """
        if self.length is None:
            raise GenlossError("This Ngram has no length; give `length`, or let a chain take it from its source.")
        high, low = tree(params.next)  # [contexts, nodes] each

        def following(context: Array, key: Key) -> tuple[Array, Array]:
            node = lambda i: (high[context, i], low[context, i])  # noqa: E731
            token = locate(node, self.vocabulary, times(fraction(key, (n,)), node(0)))  # [n]
            return self._shifted(context, token), token

        for_start, for_rest = jax.random.split(key)
        first = (
            draw(for_start, params.start, (n,)) if given is None else self._begun(for_start, params, n, given)
        )  # [n]
        known = (
            self._tokens(first)
            if given is None
            else jnp.concatenate([given, self._tokens(first)[:, given.shape[1] :]], axis=1)
        )  # [n, max(order - 1, k)]
        keys = jax.random.split(for_rest, self.length - known.shape[1])  # [drawn]
        rest = jax.lax.scan(following, first, keys)[1]  # [drawn, n]
        return jnp.concatenate([known, rest.T], axis=1)

    def _begun(self, key: Key, params: NgramParams, n: int, given: Array) -> Array:
        """The context [n] that the next token depends on: the last tokens given, [n, k], or those and some drawn."""
        width = self.order - 1
        if given.ndim != 2 or len(given) != n or not 1 <= given.shape[1] <= (self.length or 0):
            raise GenlossError(
                f"Ngram can be given the first tokens of {n} windows, [{n}, 1..{self.length}]; it was given "
                f"{list(given.shape)}."
            )
        own = given[:, max(0, given.shape[1] - width) :]  # [n, <= width]
        prefix = jnp.zeros(n, jnp.int32)
        for i in range(own.shape[1]):
            prefix = prefix * self.vocabulary + own[:, i]
        ends = self.vocabulary ** (width - own.shape[1])  # contexts that begin with the same tokens
        if ends == 1:
            return prefix
        start = params.start.reshape(-1, ends)  # [prefixes, ends]
        start = jnp.where(start.sum(1, keepdims=True) > 0, start, start.sum(0))
        high, low = tree(start)  # [prefixes, nodes] each
        node = lambda i: (high[prefix, i], low[prefix, i])  # noqa: E731
        return prefix * ends + locate(node, ends, times(fraction(key, (n,)), node(0)))

    def log_prob(self, params: NgramParams, rows: Array) -> Array:
        """[n], in nats per window; -inf for a window with an n-gram that was lost."""
        context, token = self._contexts(rows)  # [n, drawn + 1], [n, drawn]
        return jnp.log(params.start)[context[:, 0]] + jnp.log(params.next)[context[:, :-1], token].sum(1)

    def token_log_prob(self, params: NgramParams, rows: Array) -> Array:
        """[n, length], in nats, of each token given those before it in the window; -inf for one that was lost."""
        context, token = self._contexts(rows)  # [n, drawn + 1], [n, drawn]
        first = [
            jnp.take_along_axis(share, rows[:, i : i + 1], axis=1) for i, share in enumerate(self._firsts(params, rows))
        ]  # [n, 1] each
        return jnp.log(jnp.concatenate([*first, params.next[context[:, :-1], token]], axis=1))

    def next_log_prob(self, params: NgramParams, rows: Array) -> Array:
        """[n, length, vocabulary], in nats, of every token at each place given those before it in the window."""
        first = [share[:, None] for share in self._firsts(params, rows)]  # [n, 1, vocabulary] each
        return jnp.log(jnp.concatenate([*first, params.next[self._contexts(rows)[0][:, :-1]]], axis=1))

    def _firsts(self, params: NgramParams, rows: Array) -> list[Array]:
        """The probability of every token at each of the first order - 1 places, given those before, [n, vocabulary].

        After what no window began with, as after any beginning.
        """
        found, prefix = [], jnp.zeros(rows.shape[0], jnp.int32)
        for i in range(self.order - 1):
            joint = params.start.reshape(self.vocabulary**i, self.vocabulary, -1).sum(2)  # [prefixes, vocabulary]
            joint = jnp.where(joint.sum(1, keepdims=True) > 0, joint, joint.sum(0))
            found.append((joint / joint.sum(1, keepdims=True))[prefix])
            prefix = prefix * self.vocabulary + rows[:, i]
        return found

    # Contexts as numbers.

    def _contexts(self, rows: Array) -> tuple[Array, Array]:
        """The context of every token drawn, and the one after the last, [n, drawn + 1]; the tokens, [n, drawn]."""
        width = self.order - 1
        drawn = rows.shape[1] - width
        context = jnp.zeros((rows.shape[0], drawn + 1), jnp.int32)
        for i in range(width):
            context = context * self.vocabulary + rows[:, i : i + drawn + 1]
        return context, rows[:, width:]

    def _shifted(self, context: Array, token: Array) -> Array:
        """The context after one more token."""
        return (context * self.vocabulary + token) % self.vocabulary ** (self.order - 1)

    def _tokens(self, context: Array) -> Array:
        """The tokens of contexts [n], [n, order - 1]."""
        places = jnp.array([self.vocabulary**i for i in reversed(range(self.order - 1))], jnp.int32)  # [order - 1]
        return context[:, None] // places % self.vocabulary
