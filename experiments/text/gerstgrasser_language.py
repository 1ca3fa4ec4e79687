"""Does the loss of a language model stay bounded where data accumulate, whatever its width?  (Gerstgrasser et al.,
arXiv:2404.01413)

    GENLOSS_DATA=DIR genloss run gerstgrasser_language
    GENLOSS_DATA=DIR genloss run gerstgrasser_language --preset narrow
    GENLOSS_DATA=DIR genloss run gerstgrasser_language --preset wide

The text of `shakespeare_transformer`; networks 64 wide, 32 and 128 by preset, from scratch in every generation.  All
fits have the same number of steps, so that accumulating sees no more rows than the others, only more different ones.
Result: not yet measured.
`--preset full`: 128 M parameters, for one accelerator.  It has not been run; with `--dry-run` it says what it would
take where that was measured.
"""

from __future__ import annotations

import dataclasses

from experiments.text import shakespeare_transformer as base
from generators.nets.decoder import llama
from simulator import Chain, Sweep
from simulator.probes import TextDiversity, TextLoss

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
    "full": {**_sized(base.full), "replicates": None},
}
