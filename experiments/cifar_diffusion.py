"""Do natural images in colour collapse as garments do?  (CIFAR-10; Hataya et al., ICCV 2023)

    genloss run cifar_diffusion

TO BE MEASURED Result
"""

from __future__ import annotations

import dataclasses
import os
from functools import partial

from experiments import fashion_diffusion as base
from generators.nets.dit import DiT
from generators.nets.mixer import Mixer
from generators.nets.mlp import MLP
from simulator import Dataset, Sweep
from simulator.probes import Diet, Diversity, Downstream, Fidelity, Learned, Modes, Spectrum
from simulator.recipe import Mix

SETTINGS = {"replace": 0.0, "20 % real": 0.2, "real only": 1.0}
CLASSIFIER = Learned(Mixer, steps=1500, augment=True, flips=True)  # trained on all real training images
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
