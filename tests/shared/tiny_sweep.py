"""A Gaussian under two recipes, for tests of sweeps."""

from generators.gaussian import Gaussian
from simulator import Chain, Sweep, Truth
from simulator.probes import Moments
from simulator.recipe import Accumulate, Replace, Select

chain = Chain(
    source=Truth(Gaussian(1)),
    generator=Gaussian(1),
    recipe=Select((Replace(), Accumulate()), 0),
    probes={"moments": Moments()},
    real=20,
    rows=20,
)
sweep = Sweep(chain, "recipe.index", {"replace": 0, "accumulate": 1})
generations = 2
