"""Does a fine-tuned language model collapse on continuations of real text?  (Shumailov et al. 2024,
doi:10.1038/s41586-024-07566-y)

    GENLOSS_DATA=DIR genloss run shumailov_language

The text and the network of `shakespeare_transformer`.  Each generation is fine-tuned from the last, goes on with the
first half of the first real windows by a search with 5 beams, and is trained on what it said alone: the second halves.
With and without 10 % of the first real rows, and with these alone.  The paper's models are pretrained, its prompts and
continuations 64 tokens; here 32 characters each, and generation 0 begins at random.
`tail` is the paper's histogram of perplexities of what is said under a model of all real text, prompts included; `real`
is the perplexity of the second halves of held-out windows.
Result: the perplexity of second halves, 10.8 in generation 0, is 153 after one fit of replace and 1,850 after four;
10 % of the first real rows hold it at 14.8, these alone bring it to 8.6.  What is said drifts little: beams of a
model that has not converged say "the the the" from the start, so that 0.976 of generation 0's samples are likelier
than 95 % of real text (0.987 in the end, and 0.868 for the control); the paper's tail of nonsense does not come out.
Two chains a setting; the last values have standard deviations of 229, 0.6 and 0.4.
`--preset full`: GPT-2's 124 M parameters, prompts and continuations of 64 tokens, for one accelerator; 17.8 GB, and
3.9e16 operations of training, 100 s at 40 % of an H100's 989 TFLOP/s, as `--dry-run` says.  It has not been run.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from experiments.text import shakespeare_transformer as base
from generators import Transformer
from simulator import Chain, Sweep
from simulator.probes import Reader, SequencePerplexity, TextDiversity
from simulator.probes.text import windows
from simulator.recipe import Mix
from simulator.sources.given import Prompts
from simulator.types import Array, Key, View

measured = {
    "run": {"cpu_seconds": 493, "on": "two busy CPU cores", "date": "2026-11-27"},
}

SETTINGS = {"replace": 0.0, "10 % real": 0.1, "real only": 1.0}


@dataclass(frozen=True)
class Continuation:
    """The perplexity of what the fitted model is trained to go on with, in held-out windows."""

    no_ceiling: ClassVar[tuple[str, ...]] = ("",)  # it reads no samples

    def __call__(self, key: Key, view: View) -> dict[str, Array]:
        assert isinstance(view.generator, Transformer)
        rows = jax.lax.optimization_barrier(windows(view.reference))  # [m, length]
        return {"perplexity": jnp.exp(view.generator.losses(key, view.params, rows).mean())}  # of [m, continuation]


def prompted(of: Chain, generator: Transformer, half: int, rows: int) -> Chain:
    """The chain whose rows are `half` tokens of real text and as many that follow."""
    return dataclasses.replace(
        of,
        generator=dataclasses.replace(generator, continuation=half, beams=5),
        recipe=Mix(real=0.0, size=rows),
        probes={
            "real": Continuation(),
            "tail": SequencePerplexity(Reader(generator)),
            "text": TextDiversity(),
        },
        real=rows,
        rows=rows,
        start="previous",
        given=Prompts(half, of="real"),
    )


chain = prompted(base.chain, base.generator, 32, 1000)
sweep = Sweep(chain, "recipe.real", SETTINGS)
generations = 5
replicates = 2

_full = prompted(base.published(base.GPT2), base.GPT2, 64, 500)
presets = {"full": {"chain": _full, "sweep": Sweep(_full, "recipe.real", SETTINGS), "generations": 10}}
