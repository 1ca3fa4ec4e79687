"""Which mitigation keeps a language model of characters?

Pairs of characters of the embedded "english", counted; windows of 64, judged by the perplexity of held-out text.
Verifier and reward are such a model of all training text, nearly twenty times the budget: a window is good where that
finds it likelier than 5 % of real ones.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from experiments.league import mitigations
from experiments.league.world import World
from generators.ngram import Ngram
from simulator.chain import Chain
from simulator.pool import Pool, Rows
from simulator.probes import TextDiversity
from simulator.recipe import Replace
from simulator.sources.text import Text
from simulator.types import Array, Key, View

GENERATIONS = 10
source = Text("english", length=64)
model = Ngram(len(source.alphabet), order=2, smoothing=0.01, length=64)


@dataclass(frozen=True)
class LikeText:
    """Log-probability of windows under a model of all training text, less what 5 % of that are below, nats, [n]."""

    def __call__(self, rows: Rows) -> Array:
        params, low = _learned()
        return model.log_prob(params, rows) - low


@functools.lru_cache
def _learned():
    """(the model of all training text, its quantile 0.05 of log-probability there)."""
    with jax.ensure_compile_time_eval():  # whoever asks first may be within a trace, whose values must not be kept
        rows = jnp.asarray(source.split.train)
        params = model.fit(jax.random.key(0), model.init(jax.random.key(0)), Pool.of(rows))[0]
        return params, jnp.quantile(model.log_prob(params, rows), 0.05)


def perplexity(key: Key, view: View) -> Array:
    """Of held-out characters given the one before, [].

    The first of a window is left out: what no window begins with has probability 0 there.
    """
    rows = jax.lax.optimization_barrier(view.reference)  # a constant of the program, not to be computed with
    return jnp.exp(-model.token_log_prob(view.params, rows)[:, 1:].mean())


chain = Chain(
    source=source,
    generator=model,
    recipe=Replace(),
    probes={"perplexity": perplexity, "text": TextDiversity()},
    real=300,
    rows=300,
    held_out=500,
)
world = World(
    entries={
        **mitigations.diets(chain, GENERATIONS),
        **mitigations.judged(chain, LikeText(), 0.0),
        **mitigations.by_itself(chain),
    },
    generations=GENERATIONS,
    replicates=8,
    metric="perplexity",
    better="lower",
    beside=("text.distinct_3",),
    every=GENERATIONS,
)
