"""Which measures see a collapse first, on real images?  (Fashion-MNIST; the measures are those of the literature)

    genloss run fashion_vae

The data are the hub's, or those in the folder that the variable GENLOSS_DATA names.  4,000 images a generation, 800
fresh ones a generation for the arm that eats them, two chains an arm; the classifier whose features are used learns
from all 60,000.  All measures are drawn in report/measures.png.
Result: after five generations of replace the Fréchet distance is 36.7 (8.2 at generation 0, real against real 1.7),
recall 0.02 (0.42), coverage 0.42 (0.89), variance within classes 12 (37), accuracy of a classifier trained on the diet
0.74 (0.84); accumulating holds 19.0, 0.13, 0.69, 27 and 0.80; 20 % of the first real rows 23.5, 0.09, 0.61, 21 and
0.81; 20 % fresh ones 22.9, 0.07, 0.61, 21 and 0.81; the control, real rows only, 9.4, 0.32, 0.85, 36 and 0.84.
Distances to the diet, its entropy, the spectrum, energy and Fréchet distances see it at once; precision, label entropy
and the number of modes hardly, or not at all.
"""

from __future__ import annotations

import os
from functools import partial

from generators.nets.mlp import MLP
from generators.vae import VAE
from simulator import Chain, Dataset, Sweep
from simulator.probes import (
    Diet,
    DietEntropy,
    Diversity,
    Downstream,
    Fidelity,
    Learned,
    Memorisation,
    Modes,
    Spectrum,
)
from simulator.recipe import Accumulate, Mix, NoFresh, Select, Then

measured = {
    "run": {"seconds": 542, "on": "two CPU cores", "date": "before 2026-11-27", "cache": "of compiled programs, empty"},
}

ROWS = 4000


CLASSIFIER = Learned(partial(MLP, hidden=(256, 64)), steps=3000)  # trained on all real training images
RECIPES = {
    "replace": Mix(real=0.0, size=ROWS),
    "accumulate": Then(NoFresh(), Accumulate()),
    "20 % real": Then(NoFresh(), Mix(real=0.2, size=ROWS)),
    "20 % fresh": Mix(real=0.2, size=ROWS, fresh=True),
    "real only": Then(NoFresh(), Mix(real=1.0, size=ROWS)),
}
chain = Chain(
    source=Dataset(os.environ.get("GENLOSS_DATA", "zalando-datasets") + "/fashion_mnist"),
    generator=VAE(hidden=(256, 256), latent=8, beta=4.0, steps=1500),
    recipe=Select(tuple(RECIPES.values()), 0),
    probes={
        "fidelity": Fidelity(CLASSIFIER),
        "pixels": Fidelity(),
        "diversity": Diversity(CLASSIFIER),
        "modes": Modes(CLASSIFIER),
        "spectrum": Spectrum(),
        "memory": Memorisation(CLASSIFIER, rows=4000),
        "entropy": DietEntropy(CLASSIFIER, rows=4000),
        "diet": Diet(),
        "downstream": Downstream(partial(MLP, hidden=(128,)), steps=600),
    },
    real=ROWS,
    rows=ROWS,
    fresh=ROWS // 5,
)
sweep = Sweep(chain, "recipe.index", {name: i for i, name in enumerate(RECIPES)})
generations = 6
replicates = 2
