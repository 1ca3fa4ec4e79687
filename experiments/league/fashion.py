"""Which mitigation keeps a diffusion of Fashion-MNIST?

    GENLOSS_DATA=DIR genloss league --world fashion

The generator of the experiment `fashion_diffusion` with fewer steps, judged by its Fréchet distance to held-out images
in the features of a classifier.
1,665 CPU s on two busy cores.  Result: self-correction to centres of real rows, which are half of what is judged, has
9.5, real rows alone 17.9, augmenting 20.3 (with SIMS 20.7, and recall 0.37 for 0.16), Neon 27.4, replace 32.5 and SIMS
alone 33.5; a loss without its largest tenth learns nothing of noisy times (206).
"""

from __future__ import annotations

import dataclasses

from experiments.images import fashion_diffusion as base
from experiments.league import mitigations
from experiments.league.world import BASELINE, World
from generators.corrected import Corrected
from generators.finish import Average, Finish, Negate
from generators.objective import Truncated
from generators.self_improved import SelfImproved
from simulator.chain import Chain
from simulator.probes import Fidelity
from simulator.recipe import Augment, Replace
from simulator.types import Generator

GENERATIONS = 4
SOME = (BASELINE, "real rows alone", "accumulate", "50 % real", "augment", "half served fresh")

generator = dataclasses.replace(base.generator, steps=600)
chain = dataclasses.replace(
    base.chain,
    generator=generator,
    recipe=Replace(),
    probes={"fidelity": Fidelity(base.CLASSIFIER)},
    real=2000,
    rows=2000,
)


def cured(finish: Finish) -> Chain:
    """Each fit goes on from the last weights, and ends with other ones than those that it found."""
    return dataclasses.replace(chain, generator=dataclasses.replace(generator, finish=finish), start="previous")


def augmented(generator: Generator) -> Chain:
    """All real rows and as many of the last generation."""
    return dataclasses.replace(chain, generator=generator, recipe=Augment(1.0))


diets = mitigations.diets(chain, GENERATIONS)
truncated = dataclasses.replace(generator, objective=Truncated(0.1))
world = World(
    entries={
        **{name: diets[name] for name in SOME},
        "truncated loss": dataclasses.replace(chain, generator=truncated),  # arXiv:2004.14589
        "on from the last weights": cured(Average()),
        "Neon, w = 0.1": cured(Negate(1.1)),  # arXiv:2510.03597
        "SIMS, w = 0.5": dataclasses.replace(chain, generator=SelfImproved(generator, 0.5)),  # arXiv:2408.16333
        "augment, SIMS, w = 0.5": augmented(SelfImproved(generator, 0.5)),
        "augment, self-correction": augmented(Corrected(generator, centres=200)),  # arXiv:2402.07087
    },
    generations=GENERATIONS,
    replicates=3,
    metric="fidelity.frechet",
    better="lower",
    beside=("fidelity.recall", "fidelity.coverage"),
)
