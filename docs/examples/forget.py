# forget.py: only every second data set is eaten
from dataclasses import dataclass

from generators import Gaussian
from simulator import Chain, Truth
from simulator.probes import Moments


@dataclass(frozen=True)
class EveryOther:
    def __call__(self, key, t, pool):
        return pool.weight * (pool.age(t) % 2 == 0)


model, probes = Gaussian(1), {"moments": Moments()}
chain = Chain(source=Truth(model), generator=model, recipe=EveryOther(), probes=probes, real=100, rows=100)
generations, replicates = 50, 2000
