"""Which mitigation keeps a mixture of Gaussians?

Nine equal modes on a grid, 2 apart, of standard deviation 0.3, fitted by expectation maximisation; judged by
KL(truth‖model) from held-out rows.  Verifier and reward know the true density: a row is good where it is above what 5 %
of real rows fall below.
"""

from __future__ import annotations

from experiments.league import mitigations
from experiments.league.world import World
from generators.mixture import Mixture, grid_modes
from simulator.chain import Chain
from simulator.pool import Rows
from simulator.probes import Centres, TrueLikelihood
from simulator.recipe import Replace
from simulator.sources.truth import Truth
from simulator.types import Array

GENERATIONS = 10
TRUTH = grid_modes(3, spacing=2.0, std=0.3)
FEW = -4.62  # nats: log(1/9) - log(2π 0.3²) - χ²/2, with 5 % of χ² (2 degrees of freedom) above 5.99

model = Mixture(2, 9, steps=15)


def density(rows: Rows) -> Array:
    """The true log-density of rows [n, 2], [n]."""
    return model.log_prob(TRUTH, rows)


chain = Chain(
    source=Truth(model, TRUTH),
    generator=model,
    recipe=Replace(),
    probes={"truth": TrueLikelihood(model), "modes": Centres()},
    real=300,
    rows=300,
    held_out=1000,
)
world = World(
    entries={
        **mitigations.diets(chain, GENERATIONS),
        **mitigations.judged(chain, density, FEW),
        **mitigations.by_itself(chain),
    },
    generations=GENERATIONS,
    replicates=16,
    metric="truth.forward",
    better="lower",
    beside=("modes.covered", "modes.quality"),
    every=GENERATIONS,
)
