"""What does guidance do to a loop: is precision bought with recall?  (MAD's sampling bias: Alemohammad et al. 2023,
arXiv:2307.01850)

    genloss run mad_guidance

TO BE MEASURED Result
"""

from __future__ import annotations

import dataclasses

from experiments import fashion_diffusion as base
from simulator import Sweep
from simulator.recipe import Mix

SETTINGS = {
    "replace, guidance 1": (0.0, 1.0),
    "replace, guidance 1.5": (0.0, 1.5),
    "replace, guidance 3": (0.0, 3.0),
    "real only, guidance 1": (1.0, 1.0),
    "real only, guidance 3": (1.0, 3.0),
}
generator = dataclasses.replace(base.chain.generator, steps=1000)
chain = dataclasses.replace(base.chain, generator=generator, recipe=Mix(real=0.0, size=2000), real=2000, rows=2000)
sweep = Sweep(chain, "recipe.real, generator.guidance", SETTINGS)
generations = 5
replicates = 2

_full = dataclasses.replace(base.full, recipe=Mix(real=0.0, size=50_000))
presets = {
    "full": {"chain": _full, "sweep": Sweep(_full, "recipe.real, generator.guidance", SETTINGS), "generations": 8}
}
