"""What a generation of text has kept of its language.  Rows are windows of tokens, int32 [n, length]."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from simulator.abilities import Dense, Ending, Spoken, shaped
from simulator.checks.fields import Count, InsideShare, Range, check
from simulator.pool import Pool, Rows
from simulator.probes.features import training
from simulator.probes.finite import where_number
from simulator.probes.points import log_prob
from simulator.types import Array, Generator, GenlossError, Key, Params, Source, View


@dataclass(frozen=True)
class Perplexity:
    """Perplexity of held-out real text under the fitted model, exp(-Σ log p / tokens), which must have `log_prob`.

    A model that gives some window no probability has perplexity inf; `possible` says how many windows it does give
    some, and `finite` is the perplexity of those (NaN without any).

    perplexity | of held-out windows, per token | >= 1, may be inf | lower is better | one `log_prob`
    finite | the same over the windows that are possible at all | >= 1 | lower is better | one `log_prob`
    possible | share of held-out windows with a likelihood above 0 | [0, 1] | higher is more diverse | one `log_prob`
    rows | held-out windows used | rows | neither | O(1)
    """

    no_ceiling: ClassVar[tuple[str, ...]] = ("",)

    def __call__(self, key: Key, view: View) -> dict[str, Any]:
        rows = jax.lax.optimization_barrier(windows(view.reference))  # [m, length]
        return perplexities(log_prob(view.generator, view.params, rows), lengths(view.generator, rows))


@dataclass(frozen=True)
class ReferencePerplexity:
    """Perplexity of samples under a reference model: `model` fitted to real training rows before generation 0.

    One yardstick for all chains and generations, what generation 0 is for a single chain: how likely real text makes
    what is said.  It falls where samples repeat what is common, and rises where they are no language any more;
    compare it with that of real text, its floor, which the run measures.

    perplexity | of samples under the reference model, per token | >= 1, may be inf | neither | one `log_prob`
    finite | the same over the samples that are possible at all | >= 1 | neither | one `log_prob`
    possible | share of samples with a likelihood above 0 | [0, 1] | higher is better | one `log_prob`
    rows | samples used | rows | neither | O(1)
    """

    model: Generator  # has a log_prob, which gives every window some: smooth it
    rows: Count | None = None  # training windows it is fitted to, at most; None takes all

    def __post_init__(self) -> None:
        check(self)
        if not isinstance(self.model, Dense):
            raise GenlossError(f"{type(self.model).__name__} has no log_prob; give ReferencePerplexity another model.")

    def prepare(self, key: Key, source: Source) -> Params:
        """The reference model's parameters."""
        for_rows, for_init, for_fit = jax.random.split(key, 3)
        rows = training(for_rows, source, self.rows)
        model = shaped(self.model, rows)
        return model.fit(for_fit, model.init(for_init), Pool.of(rows))[0]

    def __call__(self, key: Key, view: View) -> dict[str, Any]:
        rows = windows(view.synthetic)  # [n, length]
        model = shaped(self.model, rows)
        return perplexities(log_prob(model, view.prepared[self], rows), lengths(model, rows))


@dataclass(frozen=True)
class TextDiversity:
    """How varied samples are as text: their n-grams, and which of the reference's tokens they still say.

    distinct_n = different n-grams / n-grams of all samples (Li et al. 2016, arXiv:1510.03055), none across two windows.
    self_bleu = the mean over samples of BLEU-`order` with all other samples as references (Zhu et al. 2018,
    arXiv:1802.01886), where an order without a match counts as 0.1 of one (Chen & Cherry 2014, method 1), and brevity
    is against the sample whose length is nearest; a text shorter than `order` scores 0.  repetition = the mean over
    samples of 1 - different n-grams / n-grams within one, n = `order` (Welleck et al. 2019, arXiv:1908.04319), but for
    those that have none.  zipf = s where log count = c - s·log rank is fitted by least squares to the tokens that
    occur, all alike (as Holtzman et al. 2020, arXiv:1904.09751); NaN where only one does.  entropy is that of the
    samples' tokens, as counted.  kept, missing and tail compare tokens with those of the held-out rows: tail is the
    share that falls on the reference's rarest tokens, as many of them as make up at most the share `rare` of it, and on
    tokens it does not have.  What follows the end of a text, where the generator knows one, is no part of it.

    Nearly all depend on the number of rows: compare them with what real text scores at the same number.

    distinct_1 | different tokens per token | (0, 1] | higher is more diverse | O(N), N = n·length tokens
    distinct_2 | different bigrams per bigram | (0, 1] | higher is more diverse | O(N log N)
    distinct_3 | different trigrams per trigram | (0, 1] | higher is more diverse | O(N log N)
    self_bleu | mean BLEU of a sample against all others | [0, 1] | lower is more diverse | O(order·N log N)
    repetition | share of a sample's n-grams that it said before | [0, 1) | lower is more diverse | O(N log length)
    zipf | exponent of the rank-frequency curve of tokens | >= 0 | lower is more diverse | O(N + V log V)
    entropy | entropy of the samples' tokens | nats, [0, log V] | higher is more diverse | O(N)
    kept | share of the reference's different tokens that samples say | [0, 1] | higher is more diverse | O(N)
    missing | share of the reference's text in tokens that samples never say | [0, 1] | lower is more diverse | O(N)
    tail | share of the samples' text in the reference's rarest tokens | [0, 1] | higher is more diverse | O(N)
    rows | samples used | rows | neither | O(1)
    reference_rows | held-out windows used | rows | neither | O(1)
    """

    vocabulary: Count | None = None  # V, tokens are below it; None takes the generator's
    order: Annotated[int, Range(3)] = 4  # longest n-grams, of self_bleu and repetition; at least 3
    rare: InsideShare = 0.05  # share of the reference's text that is called its tail

    __post_init__ = check

    def __call__(self, key: Key, view: View) -> dict[str, Any]:
        real = jax.lax.optimization_barrier(windows(view.reference))  # [m, length]
        said, size = windows(view.synthetic), vocabulary_of(self.vocabulary, view)  # [n, length]
        if said.shape[1] < self.order:
            raise GenlossError(
                f"TextDiversity(order={self.order}) needs windows of as many tokens; these have {said.shape[1]}."
            )
        there, length = counted(view.generator, said), lengths(view.generator, said)  # [n, length], int or [n]
        ids = ngrams(said, size, self.order, there)
        ours = tally(said, size, there)  # [V]
        theirs = tally(real, size, counted(view.generator, real))  # [V]
        return {
            **{f"distinct_{n}": distinct(ids[n - 1], length) for n in (1, 2, 3)},
            **overlap(ids, length),
            "zipf": zipf(ours),
            "entropy": jax.scipy.special.entr(ours / ours.sum()).sum(),
            **lost(ours, theirs, self.rare),
            "rows": len(said),
            "reference_rows": len(real),
        }


@dataclass(frozen=True)
class Compression:
    """How far the samples' text can be compressed by zlib, bytes before / bytes after (Shaib et al. 2024,
    arXiv:2403.00553); text that repeats itself has a high ratio.

    Texts one after another, a token being one byte where there are at most 256, two where at most 65,536, or four.
    zlib runs on the host: the compiled step stops for it, chain after chain, some 0.1 s a megabyte, and a program that
    contains it is compiled anew in every process.

    ratio | bytes of the samples per byte of their compressed form | > 0 | lower is more diverse | O(N), on the host
    rows | samples used | rows | neither | O(1)
    """

    vocabulary: Count | None = None  # V, tokens are below it; None takes the generator's
    level: Annotated[int, Range(1, 9)] = 6  # of zlib, 1 to 9

    __post_init__ = check

    def __call__(self, key: Key, view: View) -> dict[str, Any]:
        said, size = windows(view.synthetic), vocabulary_of(self.vocabulary, view)
        kind = jnp.uint8 if size <= 256 else jnp.uint16 if size <= 65536 else jnp.int32

        def compressed(rows: Any, there: Any) -> np.ndarray:
            raw = np.asarray(rows)[np.asarray(there)].tobytes()
            return np.asarray(len(raw) / len(zlib.compress(raw, self.level)), np.float32)

        shape = jax.ShapeDtypeStruct((), jnp.float32)
        there = counted(view.generator, said)  # [n, length]
        ratio = jax.pure_callback(compressed, shape, said.astype(kind), there, vmap_method="sequential")
        return {"ratio": ratio, "rows": len(said)}


def windows(rows: Rows) -> Array:
    """Rows of text, [n, length], or the x of rows {"x", "label"}; anything else is refused."""
    rows = rows["x"] if isinstance(rows, dict) and "x" in rows else rows
    if isinstance(rows, dict) or rows.ndim != 2 or not jnp.issubdtype(rows.dtype, jnp.integer):
        raise GenlossError("This probe needs windows of tokens, [n, length] int32; give the chain a source of text.")
    return rows


def vocabulary_of(given: int | None, view: View) -> int:
    """How many tokens there are: as given, or as the generator says."""
    found = view.generator.vocabulary if given is None and isinstance(view.generator, Spoken) else given
    if not isinstance(found, int):
        raise GenlossError(
            f"{type(view.generator).__name__} does not say how many tokens there are; give the probe its `vocabulary`."
        )
    return found


def counted(model: Generator | Source, rows: Array) -> Array:
    """Which tokens are part of a text, up to the one that ends it, [n, length] bool; all where no end is known."""
    return up_to(model.eos if isinstance(model, Ending) else None, rows)


def up_to(eos: int | None, rows: Array) -> Array:
    """Which tokens are not behind the first that ends a text, [n, length] bool."""
    ended = jnp.zeros(rows.shape, bool) if eos is None else rows == eos
    return jnp.cumsum(ended, axis=1) - ended == 0


def lengths(model: Generator, rows: Array) -> int | Array:
    """Tokens of each text: those of a window, or, where texts end before, [n]."""
    return rows.shape[1] if not isinstance(model, Ending) or model.eos is None else counted(model, rows).sum(1)


def perplexities(each: Array, length: int | Array) -> dict[str, Any]:
    """From log-likelihoods [n] of texts of `length` tokens, all alike or [n]."""
    mean_length = lambda where: length if isinstance(length, int) else length.mean(where=where)  # noqa: E731
    possible = each > -jnp.inf  # [n]
    mean = jnp.where(possible, each, 0.0).sum() / possible.sum()
    found = {
        "perplexity": jnp.exp(-each.mean() / mean_length(None)),
        "finite": jnp.exp(-mean / mean_length(possible)),
        "possible": possible.mean(),
    }
    return {**where_number(found, each), "rows": len(each)}


def ngrams(rows: Array, vocabulary: int, order: int, there: Array | None = None) -> list[Array]:
    """For n = 1, ..., order: which n-gram begins at each place of rows [rows, length], [rows, length - n + 1] int32.

    Different n-grams have the numbers 0, 1, ..., in lexicographic order; -1 is none, where a text, the tokens that are
    `there`, has ended.  One sort serves all orders: of the `order`
    tokens from each place on, packed into as few words of 32 bits as hold them, in which equal n-grams are neighbours.
    """
    n, length = rows.shape
    bits = vocabulary.bit_length()  # of a token plus 1: 0 is the end of a window
    each = 32 // bits  # tokens in a word
    known = rows + 1 if there is None else jnp.where(there, rows + 1, 0)  # [n, length]
    padded = jnp.pad(known, ((0, 0), (0, order - 1))).astype(jnp.uint32)  # [n, length + order - 1]
    words = []
    for first in range(0, order, each):
        word = jnp.zeros((n, length), jnp.uint32)
        for k in range(first, min(first + each, order)):
            word = (word << bits) | padded[:, k : k + length]
        words.append(word.reshape(-1))
    place = jnp.arange(n * length)
    *words, place = jax.lax.sort((*words, place), num_keys=len(words))  # [n·length]
    found, new = [], jnp.zeros(n * length, bool).at[0].set(True)
    for k in range(order):
        word, left = words[k // each], min(each, order - k // each * each) - 1 - k % each  # tokens after it in the word
        token = (word >> (bits * left)) & ((1 << bits) - 1)  # [n·length]: the k-th of the n-gram
        new = new | (token != jnp.roll(token, 1))  # an n-gram that differs from the one before
        number = jnp.where(token > 0, jnp.cumsum(new & (token > 0)) - 1, -1)  # [n·length]
        back = jnp.zeros(n * length, jnp.int32).at[place].set(number.astype(jnp.int32), unique_indices=True)
        found.append(back.reshape(n, length)[:, : length - k])
    return found


def distinct(ids: Array, length: int | Array) -> Array:
    """Different n-grams per n-gram, from their numbers, of texts that fill their windows, or are of lengths [n]."""
    return (ids.max() + 1) / (ids.size if isinstance(length, int) else (ids >= 0).sum())


class _Runs(NamedTuple):
    ids: Array  # [n, p]: n-grams of each row, sorted
    counts: Array  # [n, p]: how often the row has the n-gram, at its first place; 0 at the others, and for none


def _runs(ids: Array) -> _Runs:
    """The n-grams of each row and how often it has them, from their numbers [n, p]."""
    ids = jnp.sort(ids, axis=1)
    p = ids.shape[1]
    first = jnp.concatenate([jnp.ones_like(ids[:, :1], bool), ids[:, 1:] != ids[:, :-1]], 1)  # [n, p]
    start = jnp.where(first, jnp.arange(p), p)  # [n, p]
    following = jnp.concatenate([start[:, 1:], jnp.full_like(start[:, :1], p)], 1)  # [n, p]
    end = jax.lax.cummin(following, axis=1, reverse=True)  # [n, p]: where the next n-gram begins
    return _Runs(ids, jnp.where(first & (ids >= 0), end - jnp.arange(p), 0))


def overlap(ids: list[Array], length: int | Array) -> dict[str, Array]:
    """Self-BLEU and repetition from the numbers of n-grams of all orders, of texts of `length` tokens."""
    n = ids[0].shape[0]
    logs, any_match = jnp.zeros(n), jnp.zeros(n, bool)
    repetition = jnp.zeros(())
    for k, numbers in enumerate(ids):
        total = length - k  # n-grams of each text; of a short one there are none
        sorted_ids, counts = _runs(numbers)  # [n, p]
        # The largest count of an n-gram in any other row is the largest of all, unless this row alone has that.
        most = jnp.zeros(numbers.size, jnp.int32).at[sorted_ids].max(counts)  # [n·p]
        top = most[sorted_ids]  # [n, p]
        having = jnp.zeros(numbers.size, jnp.int32).at[sorted_ids].add((counts == top) & (counts > 0))  # rows with it
        second = jnp.zeros(numbers.size, jnp.int32).at[sorted_ids].max(jnp.where(counts < top, counts, 0))
        others = jnp.where((counts < top) | (having[sorted_ids] > 1), top, second[sorted_ids])  # [n, p]
        matches = jnp.minimum(counts, others).sum(1)  # [n]
        logs = logs + jnp.log(jnp.maximum(matches, 0.1) / total)
        any_match = any_match | (matches > 0)
        different = (counts > 0).sum(1)  # [n]
        one = different.mean() / total if isinstance(total, int) else (different / total).mean(where=total > 0)
        repetition = 1 - one
    each = jnp.where(any_match & (length >= len(ids)), jnp.exp(logs / len(ids)) * brevity(length), 0.0)  # [n]
    return {"self_bleu": each.mean(), "repetition": repetition}


def brevity(length: int | Array) -> float | Array:
    """BLEU's penalty of each text, of lengths [n], against the other whose length is nearest, the shorter of two."""
    if isinstance(length, int):
        return 1.0
    order, far = jnp.argsort(length), jnp.full(1, 2**30)
    rising = length[order]  # [n]
    below, above = jnp.concatenate([far, jnp.diff(rising)]), jnp.concatenate([jnp.diff(rising), far])  # [n] each
    nearest = jnp.where(below <= above, rising - below, rising + above)  # [n]
    return jnp.zeros(len(length)).at[order].set(jnp.exp(jnp.minimum(1 - nearest / rising, 0)))


def tally(rows: Array, vocabulary: int, there: Array | int = 1) -> Array:
    """How often each token occurs among those that are `there`, [vocabulary] float32."""
    return jnp.zeros(vocabulary, jnp.int32).at[rows].add(there).astype(jnp.float32)


def zipf(counts: Array) -> Array:
    """-slope of log count over log rank, by least squares over the tokens that occur; counts [V]."""
    ranked = -jnp.sort(-counts)  # [V]: falling
    there = ranked > 0  # [V]
    x, y = jnp.log(jnp.arange(1.0, len(counts) + 1)), jnp.log(jnp.where(there, ranked, 1.0))  # [V]
    x = jnp.where(there, x - x.sum(where=there) / there.sum(), 0.0)  # [V], about the mean
    return -(x @ y) / (x @ x)


def lost(ours: Array, theirs: Array, rare: float) -> dict[str, Array]:
    """What samples have kept of the reference, from counts of tokens [V] of each."""
    there, said = theirs > 0, ours > 0
    order = jnp.argsort(theirs, stable=True)  # [V]: the rarest first
    in_tail = jnp.zeros(len(theirs), bool).at[order].set(jnp.cumsum(theirs[order]) <= rare * theirs.sum())  # [V]
    return {
        "kept": (there & said).sum() / there.sum(),
        "missing": (theirs * ~said).sum() / theirs.sum(),
        "tail": (ours * in_tail).sum() / ours.sum(),
    }
