"""How well a model foretells text, token by token: its loss by byte and by frequency, and how likely samples are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from simulator.abilities import Foretelling, Hidden, Spelled, Spoken, Telling, shaped
from simulator.checks.fields import Count, Whole, check
from simulator.pool import Pool, Rows
from simulator.probes.classifier import in_blocks
from simulator.probes.features import training
from simulator.probes.finite import where_number
from simulator.probes.text import counted, tally, windows
from simulator.sources.truth import Truth
from simulator.types import Array, Generator, GenlossError, Key, Params, Source, View

DECILES = 10
PER_DOUBLING, DOUBLINGS = 4, 16  # bins of a histogram of perplexities: from 2^(i/4) to 2^((i+1)/4), up to 65,536
_SIDE_BY_SIDE = 64  # windows
_FEW = 16  # windows, of whose every place all tokens are weighed


@dataclass(frozen=True)
class TextLoss:
    """How well the fitted model foretells held-out real text, and which of its tokens it has forgotten.

    With p(x_i | x_<i) of each token: perplexity = exp(-Σ log p / tokens); bits_per_byte = -Σ log₂ p / bytes that the
    tokens spell, which compares tokenizers (Gao et al. 2020, arXiv:2101.00027, § 3.1), and where the source says how
    many; accuracy counts the tokens that are likeliest at their place, where the model weighs all of them.  Deciles
    are tenths of the real training text by the frequency of its tokens there, from the most frequent (0) to the rarest
    (9); a token on the border of two is of each in proportion.

    perplexity | of held-out tokens | >= 1, may be inf | lower is better | one forward pass
    finite | the same over the tokens that are possible at all | >= 1 | lower is better | one forward pass
    possible | share of held-out tokens with a probability above 0 | [0, 1] | higher is more diverse | one forward pass
    bits_per_byte | code length of held-out text per byte | bits, may be inf | lower is better | one forward pass
    accuracy | share of held-out tokens that the model holds likeliest | [0, 1] | higher is better | O(tokens · V)
    decile | mean loss of the possible tokens of each tenth of the text | nats, 10 values | lower is better | O(V)
    lost | share of each tenth's tokens that are impossible | [0, 1], 10 values | lower is more diverse | O(V)
    rows | held-out windows used | rows | neither | O(1)
    """

    no_ceiling: ClassVar[tuple[str, ...]] = ("",)

    vocabulary: Count | None = None  # V, tokens are below it; None takes the source's

    __post_init__ = check

    def prepare(self, key: Key, source: Source) -> dict[str, Array]:
        """{"counts": [V], of the real training text; "bytes": [V], where the source says what tokens spell}."""
        spells = source.token_bytes if isinstance(source, Spelled) else None
        model = source.generator if isinstance(source, Truth) else None
        said = len(spells) if spells is not None else model.vocabulary if isinstance(model, Spoken) else None
        size = self.vocabulary or said
        if size is None:
            raise GenlossError(
                f"{type(source).__name__} does not say how many tokens there are; give TextLoss its `vocabulary`."
            )
        text = windows(training(key, source))  # [m, length]
        counts = tally(text, size, counted(source, text))
        return {"counts": counts} if spells is None else {"counts": counts, "bytes": jnp.asarray(spells, jnp.int32)}

    def __call__(self, key: Key, view: View) -> dict[str, Any]:
        known, model = view.prepared[self], view.generator
        # The reference is a constant of the program: the barrier keeps the compiler from computing with it.
        rows = jax.lax.optimization_barrier(windows(view.reference))  # [m, length]
        loss, there = losses(model, view.params, rows)  # [m, length], [m, length]
        found = {
            **foretold(model, view.params, rows, loss, there),
            **by_decile(loss, rows, there, known["counts"]),
        }
        if "bytes" in known:
            found["bits_per_byte"] = loss.sum(where=there) / np.log(2) / known["bytes"][rows].sum(where=there)
        return {**where_number(found, loss), "rows": len(rows)}


@dataclass(frozen=True)
class FreshPerplexity:
    """How well a new language model foretells held-out real text that learned from what was said alone.

    What a generation does to those who learn from it: the classification accuracy score of Ravuri & Vinyals 2019
    (arXiv:1905.10887) with a language model in place of a classifier.  Its budget is that of its own fit, and it need
    not be the chain's model.  The measures are those of `TextLoss`.

    perplexity | of held-out tokens under the new model | >= 1, may be inf | lower is better | a fit
    finite | the same over the tokens that are possible at all | >= 1 | lower is better | a fit
    possible | share of held-out tokens with a probability above 0 | [0, 1] | higher is more diverse | a fit
    accuracy | share of held-out tokens that it holds likeliest | [0, 1] | higher is better | a fit, O(tokens · V)
    rows | samples that it learns from | rows | neither | O(1)
    reference_rows | held-out windows used | rows | neither | O(1)
    """

    model: Generator  # foretells tokens

    def __post_init__(self) -> None:
        check(self)
        if not isinstance(self.model, Telling):
            raise GenlossError(
                f"{type(self.model).__name__} has no token_log_prob; give FreshPerplexity another model."
            )

    def __call__(self, key: Key, view: View) -> dict[str, Any]:
        for_init, for_fit = jax.random.split(key)
        real, said = jax.lax.optimization_barrier(windows(view.reference)), windows(view.synthetic)
        model = shaped(self.model, real)
        params = model.fit(for_fit, model.init(for_init), Pool.of(said))[0]
        loss, there = losses(model, params, real)  # [m, length], [m, length]
        found = foretold(model, params, real, loss, there)
        return {**where_number(found, loss), "rows": len(said), "reference_rows": len(real)}


def foretold(model: Generator, params: Params, rows: Array, loss: Array, there: Array) -> dict[str, Array]:
    """Perplexity, possible tokens and accuracy, from the losses of those tokens [n, length] that are there."""
    possible = there & (loss < jnp.inf)
    found = {
        "perplexity": jnp.exp(loss.sum(where=there) / there.sum()),
        "finite": jnp.exp(loss.sum(where=possible) / possible.sum()),
        "possible": possible.sum() / there.sum(),
    }
    if isinstance(model, Foretelling):
        found["accuracy"] = (likeliest(model, params, rows) == rows).sum(where=there) / there.sum()
    return found


def by_decile(loss: Array, rows: Array, there: Array, counts: Array) -> dict[str, Array]:
    """{"decile", "lost"}, [10] each, of losses of those tokens [n, length] that are there; counts [V] of training."""
    member, size = deciles(counts), counts.shape[0]  # [V, 10]

    def summed(values: Array) -> Array:
        """Of each decile, [10]."""
        return jnp.zeros(size).at[rows].add(values) @ member

    possible = there & (loss < jnp.inf)
    known, all_of_it = summed(possible.astype(jnp.float32)), summed(there.astype(jnp.float32))
    return {"decile": summed(jnp.where(possible, loss, 0.0)) / known, "lost": 1 - known / all_of_it}


def deciles(counts: Array) -> Array:
    """Which share of a token's occurrences is of each tenth of a text, [V, 10], from its counts there [V].

    The tokens of a text side by side, the most frequent first, fill a line of length 1, which is cut in ten.  A token
    that it does not have is of the last.
    """
    order = jnp.argsort(-counts, stable=True)  # [V]
    end = jnp.cumsum(counts[order] / counts.sum())  # [V]
    start = jnp.concatenate([jnp.zeros(1), end[:-1]])  # [V]
    low = jnp.arange(DECILES) / DECILES  # [10]
    high = low + 1 / DECILES
    share = jnp.maximum(jnp.minimum(end[:, None], high) - jnp.maximum(start[:, None], low), 0)  # [V, 10]
    total = share.sum(1, keepdims=True)
    last = jnp.zeros(DECILES).at[-1].set(1)
    share = jnp.where(total > 0, share / jnp.where(total > 0, total, 1), last)
    return jnp.zeros_like(share).at[order].set(share)


@dataclass(frozen=True)
class Reader:
    """A language model fitted to real training text before generation 0: one yardstick for all chains and generations.

    As a feature space it is the mean over the tokens of a window of its hidden states, [n, width]: so
    `Frechet(Reader(model))` is the distance of texts in the hidden states of a generation 0.  Equal ones are fitted
    once, however many probes read with them.
    """

    model: Generator  # foretells tokens; its hidden states, where they are asked for
    rows: Whole | None = None  # training windows it is fitted to, at most; None takes all, 0 the model as it begins

    def __post_init__(self) -> None:
        check(self)
        if not isinstance(self.model, Telling):
            raise GenlossError(f"{type(self.model).__name__} has no token_log_prob; give Reader another model.")

    def prepare(self, key: Key, source: Source) -> Params:
        """The model's parameters."""
        for_rows, for_init, for_fit = jax.random.split(key, 3)
        rows = windows(training(for_rows, source, self.rows or None))
        model = shaped(self.model, rows)
        if self.rows == 0:
            return model.init(for_init)
        # Rows are an argument of the program: as constants of it they would be compiled in.
        return jax.jit(lambda rows: model.fit(for_fit, model.init(for_init), Pool.of(rows))[0])(rows)

    def __call__(self, rows: Rows, learned: Params) -> Array:
        model = shaped(self.model, windows(rows))
        if not isinstance(model, Hidden):
            raise GenlossError(
                f"{type(model).__name__} has no hidden states; give the probe other features, such as HashedNgrams()."
            )

        def mean(block: Array) -> Array:
            state, there = model.hidden(learned, block), counted(model, block)[..., None]  # [b, length, width]
            return jnp.where(there, state, 0.0).sum(1) / there.sum(1)

        return in_blocks(mean, rows, _SIDE_BY_SIDE)

    def losses(self, learned: Params, rows: Array) -> tuple[Array, Array]:
        """The loss of each token, and which there are, [n, length] each."""
        return losses(shaped(self.model, rows), learned, rows)


@dataclass(frozen=True)
class SequencePerplexity:
    """Perplexities of single samples under a reader of real text, exp(-mean log p(x_i | x_<i)), and how they spread.

    The figure of Shumailov et al. 2024 (doi:10.1038/s41586-024-07566-y, fig. 1): what is said under generation 0.  The
    mass moves to what is likely, and a tail grows of what no real text is like.  Bin i of the histogram holds
    perplexities from 2^(i/4) to 2^((i+1)/4), and the last, of 64, all above.  common and strange are shares of samples
    below the 5 % quantile, and above the 95 % quantile, of held-out real windows.

    histogram | share of samples in each bin of perplexity | [0, 1], 64 values | neither | one forward pass
    median | median perplexity of a sample | >= 1, may be inf | neither | one forward pass
    low | the 5 % quantile of that perplexity | >= 1, may be inf | neither | one forward pass
    high | the 95 % quantile of that perplexity | >= 1, may be inf | neither | one forward pass
    common | share of samples likelier than 95 % of real text | [0, 1], perfect is 0.05 | neither | two forward passes
    strange | share less likely than 95 % of real text | [0, 1], perfect is 0.05 | neither | two forward passes
    rows | samples used | rows | neither | O(1)
    reference_rows | held-out windows used | rows | neither | O(1)
    """

    reader: Reader

    __post_init__ = check

    def __call__(self, key: Key, view: View) -> dict[str, Any]:
        real = jax.lax.optimization_barrier(windows(view.reference))  # [m, length]
        said, known = windows(view.synthetic), view.prepared[self.reader]  # [n, length]
        ours, theirs = (mean_loss(*self.reader.losses(known, rows)) for rows in (said, real))  # [n], [m]
        bounds = jnp.quantile(theirs, jnp.array([0.05, 0.95]), method="nearest")  # of what may be infinite
        low, median, high = jnp.exp(jnp.quantile(ours, jnp.array([0.05, 0.5, 0.95]), method="nearest"))
        found = {
            "histogram": histogram(ours),
            "median": median,
            "low": low,
            "high": high,
            "common": (ours < bounds[0]).mean(),
            "strange": (ours > bounds[1]).mean(),
        }
        return {**where_number(found, jnp.concatenate([ours, theirs])), "rows": len(said), "reference_rows": len(real)}


def histogram(loss: Array) -> Array:
    """Shares of losses [n], in nats a token, in bins of a fourth of a doubling of perplexity, [64]."""
    bins = PER_DOUBLING * DOUBLINGS
    place = jnp.clip(jnp.floor(loss / np.log(2) * PER_DOUBLING), 0, bins - 1).astype(jnp.int32)  # [n]
    return jnp.zeros(bins).at[place].add(1 / loss.shape[0])


def mean_loss(loss: Array, there: Array) -> Array:
    """Of each row's tokens, [n]."""
    return jnp.where(there, loss, 0.0).sum(1) / there.sum(1)


def losses(model: Generator, params: Params, rows: Array) -> tuple[Array, Array]:
    """-log p(x_i | x_<i) in nats, and which tokens are part of a text, [n, length] each."""
    if not isinstance(model, Telling):
        raise GenlossError(
            f"{type(model).__name__} does not say how likely each token is; this probe needs a generator that has "
            "`token_log_prob`."
        )
    return -in_blocks(lambda block: model.token_log_prob(params, block), rows, _SIDE_BY_SIDE), counted(model, rows)


def likeliest(model: Foretelling, params: Params, rows: Array) -> Array:
    """The token that is likeliest at each place, [n, length]."""
    return in_blocks(lambda block: model.next_log_prob(params, block).argmax(-1), rows, _FEW)
