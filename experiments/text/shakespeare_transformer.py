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
`--preset full`: GPT-2's 124 M parameters, 500 windows of 128 tokens (byte pairs) a generation, for one accelerator;
35.8 GB, and 6.2e16 operations of training, 157 s at 40 % of an H100's 989 TFLOP/s, as `--dry-run` says.  `--preset
smollm2`: SmolLM2's 135 M.  Neither has been run.
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
    "run": {"seconds": 759, "on": "two CPU cores", "date": "2026-11-28"},
}

DATA = os.environ.get("GENLOSS_DATA")
SETTINGS = {"replace": 0, "accumulate": 1, "10 % real": 2, "50 % real": 3, "real only": 4}


def text(length: int, tokenizer: str | None = None) -> Text:
    """Shakespeare, or the embedded text; by characters, unless said otherwise."""
    return Text(f"{DATA}/tinyshakespeare/input.txt" if DATA else "english", length=length, tokenizer=tokenizer)


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

# The published sizes, however many of their tokens the text has.
GPT2 = dataclasses.replace(
    generator,
    vocabulary=50_257,
    network=gpt2(),
    dtype="bfloat16",
    batch=32,
    steps=500,
    learning_rate=3e-4,
    sample_batch=250,
)
SMOLLM2 = dataclasses.replace(GPT2, vocabulary=49_152, network=llama())


def published(model: Transformer) -> Chain:
    """The chain of a model of published size."""
    return dataclasses.replace(
        chain,
        source=text(128, "bpe:4096"),
        generator=model,
        recipe=regimes(500),
        probes={"real": TextLoss(), "reader": SequencePerplexity(Reader(model)), "text": TextDiversity()},
        real=500,
        rows=500,
        held_out=100,
    )


def _sized(model: Transformer) -> dict[str, object]:
    full = published(model)
    return {"chain": full, "sweep": Sweep(full, "recipe.index", SETTINGS), "generations": 8}


presets = {"full": _sized(GPT2), "smollm2": _sized(SMOLLM2)}
