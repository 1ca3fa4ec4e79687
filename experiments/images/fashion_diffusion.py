"""Does a diffusion model collapse on its own images, and what holds it?  (Fashion-MNIST; Hataya et al., ICCV 2023)

    genloss run fashion_diffusion

The generator is a small MLP, class-conditional, 1,500 steps of 128 images; 3,000 real images and as many a generation,
two chains a setting.
Result: it has not converged (Fréchet distance 14.6 at generation 0, real against real 1.8), but the control, real rows
only, stays where it was (16.1 after five fits, recall 0.54).  Replace: recall 0.58 -> 0.08, coverage 0.78 -> 0.37,
Fréchet 32.5, accuracy of a classifier trained on the diet 0.84 -> 0.59, while precision stays at 0.97.  Accumulating
holds recall 0.32, Fréchet 23.1 and accuracy 0.81; 20 % real rows 0.25, 24.2 and 0.75.  The variance of samples sees
little of it (130 -> 123): classes drift apart as they empty.
`--preset full`: 50,000 images, a diffusion transformer of 35 M parameters, 8 generations; 32 fits of 6.7e16 operations.
It has not been run; with `--dry-run` it says what it would take where that was measured.
"""

from __future__ import annotations

import os
from functools import partial

from generators.diffusion import Diffusion
from generators.nets.denoiser import Denoiser
from generators.nets.dit import DiT
from generators.nets.mlp import MLP
from generators.noise import Flow, Noise
from simulator import Chain, Dataset, Sweep
from simulator.probes import Diet, Diversity, Downstream, Fidelity, Learned, Modes, Spectrum
from simulator.recipe import Accumulate, Mix, Select

measured = {
    "run": {"cpu_seconds": 882, "on": "two busy CPU cores", "date": "2026-11-27"},
}

CLASSIFIER = Learned(partial(MLP, hidden=(256, 64)), steps=3000)  # trained on all real training images
SETTINGS = {"replace": 0, "accumulate": 1, "20 % real": 2, "real only": 3}


def regimes(rows: int) -> Select:
    """What the four settings eat, in their order."""
    return Select((Mix(real=0.0, size=rows), Accumulate(), Mix(real=0.2, size=rows), Mix(real=1.0, size=rows)))


generator = Diffusion(
    network=partial(Denoiser, width=256, depth=2),
    noise=Flow(prediction_type="sample"),  # a network narrower than an image can tell images, not noise
    learning_rate=2e-3,
    steps=1500,
)
chain = Chain(
    source=Dataset(os.environ.get("GENLOSS_DATA", "zalando-datasets") + "/fashion_mnist"),
    generator=generator,
    recipe=regimes(3000),
    probes={
        "fidelity": Fidelity(CLASSIFIER),
        "diversity": Diversity(CLASSIFIER),
        "modes": Modes(CLASSIFIER),
        "spectrum": Spectrum(),
        "diet": Diet(),
        "downstream": Downstream(partial(MLP, hidden=(128,)), steps=600),
    },
    real=3000,
    rows=3000,
)
sweep = Sweep(chain, "recipe.index", SETTINGS)
generations = 5
replicates = 2

transformer = Diffusion(
    network=DiT(num_attention_heads=6, attention_head_dim=64, num_layers=12),
    noise=Noise(sampler="ddim", beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction"),
    dtype="bfloat16",
    steps=40_000,
    batch=256,
    learning_rate=3e-4,
    average=0.9995,
    sample_steps=100,
    sample_batch=2000,
)
full = Chain(
    source=chain.source,
    generator=transformer,
    recipe=regimes(50_000),
    probes=chain.probes,
    real=50_000,
    rows=50_000,
    held_out=10_000,
)
presets = {"full": {"chain": full, "sweep": Sweep(full, "recipe.index", SETTINGS), "generations": 8}}
