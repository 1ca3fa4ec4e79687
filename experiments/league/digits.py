"""Which mitigation keeps a VAE of digits?

The generator of the experiment `digits`, judged by its Fréchet distance to held-out digits, in pixels.  Cures inside
the fit are tried where they have most to do, under replace.
"""

from __future__ import annotations

import dataclasses

from experiments.images import digits
from experiments.league import mitigations
from experiments.league.world import World
from generators.corrected import Corrected
from generators.finish import Average, Finish, Merge, Negate
from generators.objective import Truncated
from generators.vae import VAE
from simulator.chain import Chain
from simulator.probes import Fidelity
from simulator.recipe import Accumulate, Augment, DropSuspects, Replace, Then

GENERATIONS = 5

assert isinstance(digits.chain.generator, VAE)
vae: VAE = digits.chain.generator
chain = dataclasses.replace(digits.chain, recipe=Replace(), probes={"fidelity": Fidelity()})


def cured(finish: Finish) -> Chain:
    """Each fit goes on from the last weights, and ends with other ones than those that it found."""
    return dataclasses.replace(chain, generator=dataclasses.replace(vae, finish=finish), start="previous")


truncated = dataclasses.replace(vae, objective=Truncated(0.1))
inside = {
    "truncated loss": dataclasses.replace(chain, generator=truncated),  # arXiv:2004.14589
    "on from the last weights": cured(Average()),
    "half-way back to them": cured(Merge(0.5)),  # arXiv:2109.01903
    "negate half of what was learned": cured(Negate(0.5)),  # arXiv:2212.04089
    "Neon, w = 0.1": cured(Negate(1.1)),  # arXiv:2510.03597
    "augment, self-correction": dataclasses.replace(
        chain, generator=Corrected(vae), recipe=Augment(1.0)
    ),  # arXiv:2402.07087
}
world = World(
    entries={
        **mitigations.diets(chain, GENERATIONS),
        **mitigations.by_itself(chain),
        **mitigations.eating(chain, {"accumulate, drop suspects": Then(Accumulate(), DropSuspects())}),
        **inside,
    },
    generations=GENERATIONS,
    replicates=3,
    metric="fidelity.frechet",
    better="lower",
    beside=("fidelity.recall", "fidelity.coverage"),
)
