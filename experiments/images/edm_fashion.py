"""Does EDM, sampled by Heun's method, collapse on its own images?  (Karras et al., arXiv:2206.00364; Fashion-MNIST)

    genloss run edm_fashion

The data are the hub's, or those in the folder that the variable GENLOSS_DATA names.  A small MLP, 400 steps of 128
images; 1,000 images a fit, 12 steps of Heun's method, distances in pixels, one chain a setting, so that differences
have no intervals.
Result: it has not converged (Fréchet distance 11.1 at generation 0, real against real 4.0; recall 0.52), but the
control, real rows only, stays where it was (11.1 and 0.51 after four fits).  Replace: recall 0.16, coverage 0.40 ->
0.08, precision 0.58 -> 0.29, Fréchet 22.1, variance 53 -> 45.  Accumulating holds 0.40, 0.17, 0.40, 16.2 and 47; 20 %
real rows 0.36, 0.13, 0.34, 18.8 and 47.
`--preset longer`: 1,500 steps, 3,000 images, two chains a setting.  It has not been run.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial

from experiments.images.fashion_diffusion import SETTINGS, regimes
from generators.diffusion import Diffusion
from generators.edm import EDM
from generators.nets.denoiser import Denoiser
from simulator import Chain, Dataset, Sweep
from simulator.probes import Diversity, Fidelity

measured = {
    "run": {"cpu_seconds": 144, "on": "two busy CPU cores", "date": "2026-11-28"},
}

generator = Diffusion(
    network=partial(Denoiser, width=256, depth=2),
    noise=EDM(),
    learning_rate=2e-3,
    average=0.99,
    steps=400,
    sample_steps=12,
)
chain = Chain(
    source=Dataset(os.environ.get("GENLOSS_DATA", "zalando-datasets") + "/fashion_mnist"),
    generator=generator,
    recipe=regimes(1000),
    probes={"fidelity": Fidelity(), "diversity": Diversity()},
    real=1000,
    rows=1000,
    held_out=1000,
)
sweep = Sweep(chain, "recipe.index", SETTINGS)
generations = 4
replicates = 1

longer = replace(
    chain, generator=replace(generator, steps=1500, average=0.999), recipe=regimes(3000), real=3000, rows=3000
)
presets = {"longer": {"chain": longer, "sweep": Sweep(longer, "recipe.index", SETTINGS), "replicates": 2}}
