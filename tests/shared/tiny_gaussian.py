"""A small ensemble of Gaussians with fresh rows, two generations per checkpoint."""

from generators.gaussian import Gaussian
from simulator import Chain, Truth
from simulator.probes import Diversity
from simulator.recipe import Window

chain = Chain(
    source=Truth(Gaussian(2)),
    generator=Gaussian(2),
    recipe=Window(3),
    probes={"diversity": Diversity()},
    real=20,
    rows=20,
    fresh=5,
)
generations = 24
replicates = 3
every = 2
