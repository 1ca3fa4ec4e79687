"""Does a loop that begins at a stored model collapse slower than one from scratch?  (Hataya et al., ICCV 2023: the
generators that contaminate are pretrained)

    genloss run pretrained_start --preset base --out runs/base
    genloss export runs/base --to models/fashion_dit
    genloss run pretrained_start

Every fit of the loop begins at the weights of a stored model of diffusers and is short: it is fine-tuned on its diet.
The first two commands make such a model, a small patch transformer that has seen all real images; the variable
GENLOSS_MODEL names another, as a folder or a hub id.
1,500 images a diet, one chain a setting, 200 steps of 64 images a fit.
Result: no.  Fine-tuned from the same stored model in every generation, replace loses recall 0.72 -> 0.28 in five fits,
coverage 0.70 -> 0.28, and the Fréchet distance goes from 15.8 to 65.6 (real against real 1.7, so the stored model has
not converged either); 20 % real rows hold 0.54, 0.47 and 46.2.  The control, real rows only, stays: 0.79, 0.71, 15.4.
Recall falls more slowly than that of the networks from scratch in `fresh_data` (0.51 -> 0.03), which are of another
kind, and the Fréchet distance grows faster (13.4 -> 27.2).
`--preset full`: CIFAR-10 from google/ddpm-cifar10-32, 5,000 steps a fit; 24 fits of 1.1e17 operations.  It has not
been run; with `--dry-run` it says what it would take where that was measured.
"""

from __future__ import annotations

import dataclasses
import os

from experiments.images import fashion_diffusion as base
from generators.diffusion import Diffusion
from generators.hub.diffusers import Stored
from generators.nets.dit import DiT
from generators.noise import Noise
from simulator import Dataset, Sweep
from simulator.probes import Fidelity
from simulator.recipe import Mix

measured = {
    "run": {"cpu_seconds": 527, "on": "two busy CPU cores", "date": "2026-11-27"},
    "run --preset base": {"cpu_seconds": 227, "on": "two busy CPU cores", "date": "2026-11-27"},
}

MODEL = os.environ.get("GENLOSS_MODEL", "models/fashion_dit")
SETTINGS = {"replace": 0.0, "20 % real": 0.2, "real only": 1.0}
tuned = Diffusion(
    network=Stored(MODEL),
    noise=Noise(sampler="ddim", beta_schedule="squaredcos_cap_v2", prediction_type="sample"),
    learning_rate=5e-4,
    batch=64,
    steps=200,
    sample_steps=25,
)
chain = dataclasses.replace(
    base.chain, generator=tuned, recipe=Mix(real=0.0, size=1500), real=1500, rows=1500, start="base"
)
sweep = Sweep(chain, "recipe.real", SETTINGS)
generations = 5

_base = dataclasses.replace(
    chain,
    generator=dataclasses.replace(
        tuned,
        network=DiT(patch_size=7, num_attention_heads=4, attention_head_dim=24, num_layers=3),
        learning_rate=2e-3,
        steps=2000,
    ),
    recipe=Mix(real=1.0, size=50_000),
    real=50_000,
)
_full = dataclasses.replace(
    base.full,
    source=Dataset(os.environ.get("GENLOSS_DATA", "uoft-cs") + "/cifar10"),
    generator=dataclasses.replace(
        base.transformer, network=Stored("google/ddpm-cifar10-32"), noise=Noise(), conditional=False, steps=5000
    ),
    recipe=Mix(real=0.0, size=50_000),
    # That model knows no labels, so none are told and nothing that needs them is measured.
    probes={name: base.chain.probes[name] for name in ("spectrum", "diet")} | {"fidelity": Fidelity()},
    start="base",
)
presets = {
    "base": {"chain": _base, "sweep": None, "generations": 1},
    "full": {"chain": _full, "sweep": Sweep(_full, "recipe.real", SETTINGS), "generations": 8},
}
