"""A small sweep of a network, for tests that stop and resume it."""

from functools import partial

from generators.nets.mlp import MLP
from generators.vae import VAE
from simulator import Chain, Dataset, Sweep
from simulator.probes import Diet, Diversity, Downstream, Fidelity
from simulator.recipe import Accumulate, Replace, Select

chain = Chain(
    source=Dataset.digits(),
    generator=VAE(steps=60, chunk=10, batch=32, hidden=(24,), latent=4),
    recipe=Select((Replace(), Accumulate()), 0),
    probes={
        "diversity": Diversity(),
        "fidelity": Fidelity(),
        "diet": Diet(births=4),
        "downstream": Downstream(partial(MLP, hidden=(16,)), steps=20),
    },
    real=100,
    rows=100,
    fresh=10,
)
sweep = Sweep(chain, "recipe.index", {"replace": 0, "accumulate": 1})
generations = 8
replicates = 2
