"""What does guidance do to a loop: is precision bought with recall?  (MAD's sampling bias: Alemohammad et al. 2023,
arXiv:2307.01850)

    genloss run mad_guidance

The generator is that of `fashion_diffusion`, with 1,000 steps; 2,000 images a diet, two chains a setting.
Result: yes, where guidance is mild.  At 1.5 precision goes from 0.986 to 1.000 in five fits of replace while recall
falls from 0.45 to 0.00, coverage from 0.78 to 0.06 and the variance within classes from 36 to 2.1; without guidance
precision is 0.97 -> 0.99, recall 0.51 -> 0.03, coverage 0.75 -> 0.32 and that variance 44 -> 25.  At 3 each class is a
single image after four fits (variance within classes 0.01), and what is left is not real: precision 0.95 -> 0.67.
The controls, real rows only, stay where they began at either guidance.  The generator has not converged (Fréchet
distance 13.4 at generation 0 without guidance, 10.1 at 1.5, real against real 1.4).
`--preset full`: 50,000 images, the transformer of `fashion_diffusion`; 40 fits, about 3.5 h on an H200 if 40 % of
700 TFLOP/s are reached.  It has not been run.
"""

from __future__ import annotations

import dataclasses

from experiments.images import fashion_diffusion as base
from simulator import Sweep
from simulator.recipe import Mix

measured = {
    "run": {"cpu_seconds": 799, "on": "two busy CPU cores", "date": "2026-11-27"},
}

SETTINGS = {
    "replace, guidance 1": (0.0, 1.0),
    "replace, guidance 1.5": (0.0, 1.5),
    "replace, guidance 3": (0.0, 3.0),
    "real only, guidance 1": (1.0, 1.0),
    "real only, guidance 3": (1.0, 3.0),
}
generator = dataclasses.replace(base.generator, steps=1000)
chain = dataclasses.replace(base.chain, generator=generator, recipe=Mix(real=0.0, size=2000), real=2000, rows=2000)
sweep = Sweep(chain, "recipe.real, generator.guidance", SETTINGS)
generations = 5
replicates = 2

_full = dataclasses.replace(base.full, recipe=Mix(real=0.0, size=50_000))
presets = {
    "full": {"chain": _full, "sweep": Sweep(_full, "recipe.real, generator.guidance", SETTINGS), "generations": 8}
}
