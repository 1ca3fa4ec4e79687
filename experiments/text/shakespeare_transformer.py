"""What does a language model forget of Shakespeare, and what holds it?  (Shumailov et al. 2024; Gerstgrasser et al.,
arXiv:2404.01413)

    GENLOSS_DATA=DIR genloss run shakespeare_transformer

Characters of DIR/tinyshakespeare/input.txt, or, without the variable, of the embedded "english".  A Llama of 103,000
parameters, from scratch in each of five fits of 400 steps; 2,000 windows of 64 characters a generation, three chains a
setting.  `real` is the loss of held-out text, of which decile 9 is that of the rarest characters; `reader` is how
likely a model of all real text holds what is said.
Result: no fit has converged; perplexity of held-out text per character, 9.7 in generation 0, is 12.5 after five fits
of replace, 12.0 with 10 % real rows, 11.2 accumulating, 10.7 with half of them real and 9.6 for the control, real
rows only.  The tail goes with the rest: the loss of the rarest tenth rises by 0.28 nats under replace, that of the
commonest by 0.28, too.  What is said turns to nonsense: 0.94 of samples are less likely to the reader than 95 % of
real text (0.37 in generation 0; 0.78 accumulating, 0.36 for the control), and varies more, not less (distinct
trigrams 0.149 for 0.122).  Standard deviations of three chains are 0.2 to 0.4 in perplexity.
`--preset full`: 128 M parameters, 256 characters, for one accelerator.  It has not been run; with `--dry-run` it says
what it would take where that was measured.
"""

from __future__ import annotations

import dataclasses
import os

from generators import Transformer
from generators.nets.decoder import gpt2, llama
from simulator import Chain, Sweep, Text
from simulator.probes import Reader, SequencePerplexity, TextDiversity, TextLoss
from simulator.recipe import Accumulate, Mix, Select

measured = {
    "run": {"seconds": 1604, "on": "two CPU cores with other work beside: 1,107 CPU seconds", "date": "2026-11-27"},
}

DATA = os.environ.get("GENLOSS_DATA")
SETTINGS = {"replace": 0, "accumulate": 1, "10 % real": 2, "50 % real": 3, "real only": 4}


def text(length: int) -> Text:
    """Shakespeare, or the embedded text."""
    return Text(f"{DATA}/tinyshakespeare/input.txt" if DATA else "english", length=length)


def regimes(rows: int) -> Select:
    """What the settings eat, in their order."""
    shares = (Mix(real=share, size=rows) for share in (0.1, 0.5, 1.0))
    return Select((Mix(real=0.0, size=rows), Accumulate(), *shares))


generator = Transformer(
    vocabulary=len(text(64).alphabet),
    network=llama(width=64, depth=2, heads=4, kv_heads=None),
    batch=16,
    steps=400,
    learning_rate=6e-3,
    sample_batch=500,
)
chain = Chain(
    source=text(64),
    generator=generator,
    recipe=regimes(2000),
    probes={"real": TextLoss(), "reader": SequencePerplexity(Reader(generator)), "text": TextDiversity()},
    real=2000,
    rows=2000,
    held_out=500,
)
sweep = Sweep(chain, "recipe.index", SETTINGS)
generations = 5
replicates = 3

large = dataclasses.replace(
    generator, network=gpt2(depth=18), dtype="bfloat16", batch=64, steps=2000, learning_rate=3e-4
)
full = dataclasses.replace(
    chain,
    source=text(256),
    generator=large,
    recipe=regimes(1000),
    probes={"real": TextLoss(), "reader": SequencePerplexity(Reader(large)), "text": TextDiversity()},
    real=1000,
    rows=1000,
    held_out=200,
)
presets = {"full": {"chain": full, "sweep": Sweep(full, "recipe.index", SETTINGS), "generations": 8}}
