"""How much variance is left of a Gaussian under three regimes, whatever its dimension and the rows it eats?  (Kazdan et
al., arXiv:2410.16713)

    genloss run kazdan_gaussian

The paper's grid: d in 1, 3, 10, 31, 100, n in 10, 32, 100, 316, 1,000 (n > d), 100 iterations, 100 seeds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from experiments.reproductions import Finding, Reproduction
from generators.cohort import Cohort
from generators.gaussian import Gaussian
from simulator import Chain, Sweep, Truth, ensemble, simulate, theory
from simulator.probes import LogDet, Moments
from simulator.recipe import Accumulate, Replace, Select, Subsample, Then
from simulator.types import Array, Key, Record, Recipe

N = 100
chain = Chain(
    source=Truth(Gaussian(3)),
    generator=Gaussian(3),
    recipe=Select((Replace(), Accumulate(), Then(Accumulate(), Subsample(N))), 0),
    probes={"fit": Moments(), "log_det": LogDet()},
    real=N,
    rows=N,
    held_out=1,
)

DIMS = (1, 3, 10, 31, 100)
ROWS = (10, 32, 100, 316, 1000)
