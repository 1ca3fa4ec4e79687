"""Which measures see a collapse first, on real images?  (Fashion-MNIST; the measures are those of the literature)

    genloss run fashion_vae

The data are the hub's, or those in the folder that the variable GENLOSS_DATA names.  4,000 images a generation, 800
fresh ones a generation for the arm that eats them, two chains an arm; the classifier whose features are used learns
from all 60,000.  All measures are drawn in report/measures.png.
Result: after five generations of replace the Fréchet distance is 31.1 (8.1 at generation 0, real against real 1.5),
recall 0.02 (0.36), coverage 0.49 (0.87), variance within classes 13 (35), accuracy of a classifier trained on the diet
0.73 (0.84); accumulating holds 16.5, 0.16, 0.74, 25 and 0.80; 20 % of the first real rows 20.0, 0.09, 0.64, 21 and
0.80; 20 % fresh ones 20.8, 0.07, 0.63, 21 and 0.80; the control, real rows only, 8.9, 0.38, 0.87, 34 and 0.84.
With a false alarm in a hundred measures, distances to the diet and its entropy tell all four arms from the control at
once, energy and Fréchet distances and the spectrum tell replace at once or a generation later, and the variance at the
end; recall, which falls furthest, two chains cannot tell, nor precision, label entropy and the number of modes.  At
a chance of 5 % that any is false, only the distances to the diet are told.
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
    "run": {"cpu_seconds": 1121, "on": "two busy CPU cores", "date": "2026-11-27"},
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
