"""Which of MAD's three loops does a WGAN-GP outlive?  (MAD, arXiv:2307.01850; WGAN-GP, arXiv:1704.00028)

    genloss run mad_wgan

Nine modes of standard deviation 0.1 that are 2 apart, λ = 0.1 in standard deviations of the diet, three steps of the
critic to one of the generator; diets of 1,000 rows: all of the last generation, or half of them from it and half fixed
real rows (augmentation) or fresh ones.  3 chains a setting; ± is half of a 95 % interval by Student's t.
Result: after five fits the fully synthetic loop has coverage 0.55 ± 0.18 of 0.67 at generation 0 and puts 0.41 ± 0.23
of its samples within three standard deviations of a mode (0.52); augmentation holds 0.70 ± 0.06 and 0.52 ± 0.08, fresh
rows 0.68 ± 0.12 and 0.50 ± 0.04, the control, real rows only, 0.74 ± 0.14 and 0.57 ± 0.11.  No mode is lost (entropy
2.15 ± 0.10 of log 9 = 2.20), recall stays (0.96 ± 0.02 of 0.97), variance 4.9 ± 0.9 of 5.1.  MAD's order is there, but
three chains of five fits do not tell the loops from each other: what goes first is the sharpness of modes.
`--preset 25-modes` (149 CPU s): MAD's own 25 of standard deviation 0.05, 2,500 rows, 2,000 steps, 2 chains.  Of the 25
21.5 are covered at generation 0; after five fits the fully synthetic loop covers 16.5 ± 6.3, the others 23 each.
`--preset 25-modes-relativistic` (110 CPU s), R3GAN's game, γ = 0.01, 4,000 steps: 23, 17.5, and 24 to 25.
"""

from __future__ import annotations

from functools import partial

from generators.games import Relativistic, Wasserstein
from generators.gan import GAN
from generators.mixture import Mixture, grid_modes
from generators.nets.mlp import MLP
from simulator import Chain, Sweep, Truth
from simulator.probes import Centres, Diversity, Fidelity
from simulator.recipe import Mix, NoFresh, Select, Then

measured = {
    "run": {"cpu_seconds": 174, "on": "two busy CPU cores", "date": "2026-11-28"},
}

PLAYER = partial(MLP, hidden=(64, 64, 64))


def loops(side: int, std: float, rows: int, steps: int, game: Wasserstein | Relativistic, critic_steps: int) -> Chain:
    """MAD's loops on side² modes of standard deviation `std`, a fit of so many steps to so many rows."""
    return Chain(
        source=Truth(Mixture(2, side**2), grid_modes(side, std=std)),
        generator=GAN(
            game=game, critic_steps=critic_steps, network=PLAYER, critic=PLAYER, latent=2, steps=steps, batch=64
        ),
        recipe=Select(
            (
                Mix(real=0.0, size=rows),
                Then(NoFresh(), Mix(real=0.5, size=rows)),
                Mix(real=0.5, size=rows, fresh=True),
                Then(NoFresh(), Mix(real=1.0, size=rows)),
            ),
            0,
        ),
        probes={"modes": Centres(), "fidelity": Fidelity(), "diversity": Diversity()},
        real=rows,
        rows=rows,
        fresh=rows // 2,
        held_out=1000,
    )


def swept(chain: Chain) -> Sweep:
    return Sweep(chain, "recipe.index", {"fully synthetic": 0, "augmentation": 1, "fresh": 2, "real only": 3})


chain = loops(3, 0.1, 1000, 1000, Wasserstein(penalty=0.1), 3)
sweep = swept(chain)
generations = 5
replicates = 3

grid = loops(5, 0.05, 2500, 2000, Wasserstein(penalty=0.1), 3)
relativistic = loops(5, 0.05, 2500, 4000, Relativistic(gamma=0.01), 1)
presets = {
    "25-modes": {"chain": grid, "sweep": swept(grid), "generations": 5, "replicates": 2},
    "25-modes-relativistic": {"chain": relativistic, "sweep": swept(relativistic), "generations": 5, "replicates": 2},
}
