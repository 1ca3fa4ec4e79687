"""Does the loss of a language model stay bounded where data accumulate, whatever its width?  (Gerstgrasser et al.,
arXiv:2404.01413)

    GENLOSS_DATA=DIR genloss run gerstgrasser_language
    GENLOSS_DATA=DIR genloss run gerstgrasser_language --preset narrow
    GENLOSS_DATA=DIR genloss run gerstgrasser_language --preset wide

The text of `shakespeare_transformer`; networks 64 wide, 32 and 128 by preset, from scratch in every generation.  All
fits have the same number of steps, so that accumulating sees no more rows than the others, only more different ones.
Result, at width 64: perplexity of held-out text, 10.9 in generation 0, is 12.0, 12.7, 13.3 and 13.7 under replace,
11.6, 11.7, 12.0 and 12.2 accumulating, and 11.2 for the control, real rows only: the rise is slower by half, and over
five fits does not end.  Two chains a setting, standard deviations 0.4, 0.2 and 0.1.  The other widths have not been
run.
`--preset full`: SmolLM2's 135 M parameters, for one accelerator; 26.9 GB, and 2.6e16 operations of training, 65 s at
40 % of an H100's 989 TFLOP/s, as `--dry-run` says.  It has not been run.
"""

from __future__ import annotations

import dataclasses

from experiments.text import shakespeare_transformer as base
from generators.nets.decoder import llama
from simulator import Chain, Sweep
from simulator.probes import TextDiversity, TextLoss

measured = {
    "run": {"cpu_seconds": 337, "on": "two busy CPU cores", "date": "2026-11-27"},
}

SETTINGS = {"replace": 0, "accumulate": 1, "real only": 4}


def wide(width: int, steps: int) -> Chain:
    """The chain of networks of this width."""
    network = llama(width=width, depth=2, heads=4, kv_heads=None)
    generator = dataclasses.replace(base.generator, network=network, steps=steps)
    probes = {"real": TextLoss(), "text": TextDiversity()}
    return dataclasses.replace(base.chain, generator=generator, probes=probes)


def _sized(of: Chain) -> dict[str, object]:
    return {"chain": of, "sweep": Sweep(of, "recipe.index", SETTINGS), "generations": 5, "replicates": 2}


chain = wide(64, 300)
sweep = Sweep(chain, "recipe.index", SETTINGS)
generations = 5
replicates = 2
presets = {
    "narrow": _sized(wide(32, 300)),
    "wide": _sized(wide(128, 300)),
    "full": {**_sized(base.published(base.SMOLLM2)), "replicates": None},
}
