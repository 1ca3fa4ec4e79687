"""Do natural images in colour collapse as garments do?  (CIFAR-10; Hataya et al., ICCV 2023)

    genloss run cifar_diffusion

The generator is the MLP of `fashion_diffusion`, with 800 steps; 2,000 images a diet, two chains a setting.
Result: they do, and faster.  In four fits of replace recall falls from 0.53 to 0.04, coverage from 0.53 to 0.24, the
variance of samples from 19.7 to 13.2 and the accuracy of a classifier trained on the diet from 0.33 to 0.17; images
grow smooth and their colours fade.  20 % real rows help little: 0.08, 0.27, 13.6 and 0.24.  The control, real rows
only, stays: 0.52, 0.50, 19.5 and 0.33.  The generator is far from converged (Fréchet distance 8.2 at generation 0,
real against real 0.3; 21.0 in the end, 8.9 in the control).
`--preset full`: 50,000 images, a diffusion transformer with patches of 2 x 2 pixels, 8 generations; 24 fits of 2.5e17
operations.  It has not been run; with `--dry-run` it says what it would take where that was measured.
"""

from __future__ import annotations

import dataclasses
import os
from functools import partial

from experiments.images import fashion_diffusion as base
from generators.nets.dit import DiT
from generators.nets.mixer import Mixer
from generators.nets.mlp import MLP
from simulator import Dataset, Sweep
from simulator.probes import Diet, Diversity, Downstream, Fidelity, Learned, Modes, Spectrum
from simulator.recipe import Mix

measured = {
    "run": {"cpu_seconds": 1229, "on": "two busy CPU cores", "date": "2026-11-27"},
}

SETTINGS = {"replace": 0.0, "20 % real": 0.2, "real only": 1.0}
CLASSIFIER = Learned(Mixer, steps=700, augment=True, flips=True)  # trained on all real training images
chain = dataclasses.replace(
    base.chain,
    source=Dataset(os.environ.get("GENLOSS_DATA", "uoft-cs") + "/cifar10"),
    generator=dataclasses.replace(base.generator, steps=800, flips=True),
    recipe=Mix(real=0.0, size=2000),
    probes={
        "fidelity": Fidelity(CLASSIFIER),
        "diversity": Diversity(CLASSIFIER),
        "modes": Modes(CLASSIFIER),
        "spectrum": Spectrum(),
        "diet": Diet(),
        "downstream": Downstream(partial(MLP, hidden=(128,)), steps=600),
    },
    real=2000,
    rows=2000,
)
sweep = Sweep(chain, "recipe.real", SETTINGS)
generations = 4
replicates = 2

_full = dataclasses.replace(
    base.full,
    source=chain.source,
    generator=dataclasses.replace(
        base.transformer,
        network=DiT(patch_size=2, num_attention_heads=6, attention_head_dim=64, num_layers=12),
        flips=True,
        batch=128,
    ),
    recipe=Mix(real=0.0, size=50_000),
    probes=chain.probes,
)
presets = {"full": {"chain": _full, "sweep": Sweep(_full, "recipe.real", SETTINGS), "generations": 8}}
