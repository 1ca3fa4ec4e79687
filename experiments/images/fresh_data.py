"""How much fresh real data stops the collapse of a diffusion model?  (MAD's three loops: Alemohammad et al. 2023,
arXiv:2307.01850)

    genloss run fresh_data

The loops of that paper: fully synthetic (nothing real after generation 0), augmentation (the first real rows are half
of every diet), and fresh data (new real rows are a tenth, a quarter or half of every diet).
The generator is that of `fashion_diffusion`, with 1,000 steps; 2,000 images a diet, two chains a loop.
Result: after five fits recall is 0.03 in the fully synthetic loop (0.51 at generation 0), 0.06, 0.17 and 0.29 with a
tenth, a quarter and half of fresh data, 0.24 with the first real rows as half, and 0.50 in the control, real rows only;
coverage 0.32 (0.75), 0.50, 0.58, 0.65, 0.64 and 0.74; Fréchet distance 27.2 (13.4; real against real 1.4, so the
generator has not converged), 23.6, 23.2, 20.0, 18.3 and 13.8; accuracy of a classifier trained on the diet 0.59 (0.83),
0.70, 0.77, 0.81, 0.80 and 0.83.  A tenth of fresh data slows the fall, half all but stops it after one fit, a quarter
lies between; over five fits half of the diet is about as good from the first real rows as from fresh ones.
`--preset full`: 10,000 images a diet, the transformer of `fashion_diffusion`; 48 fits.  It has not been run;
with `--dry-run` it says what it would take where that was measured.
"""

from __future__ import annotations

import dataclasses

from experiments.images import fashion_diffusion as base
from simulator import Sweep
from simulator.recipe import Mix, NoFresh, Select, Then
from simulator.types import Recipe

measured = {
    "run": {"cpu_seconds": 933, "on": "two busy CPU cores", "date": "2026-11-27"},
}


def loops(size: int) -> dict[str, Recipe]:
    """What each loop eats, by its name."""
    return {
        "fully synthetic": Mix(real=0.0, size=size),
        "augmentation, 50 %": Then(NoFresh(), Mix(real=0.5, size=size)),
        "fresh, 10 %": Mix(real=0.1, size=size, fresh=True),
        "fresh, 25 %": Mix(real=0.25, size=size, fresh=True),
        "fresh, 50 %": Mix(real=0.5, size=size, fresh=True),
        "real only": Then(NoFresh(), Mix(real=1.0, size=size)),
    }


SETTINGS = {name: i for i, name in enumerate(loops(1))}
generator = dataclasses.replace(base.generator, steps=1000)
chain = dataclasses.replace(
    base.chain, generator=generator, recipe=Select(tuple(loops(2000).values())), real=2000, rows=2000, fresh=1000
)
sweep = Sweep(chain, "recipe.index", SETTINGS)
generations = 5
replicates = 2

_full = dataclasses.replace(
    base.full, recipe=Select(tuple(loops(10_000).values())), real=10_000, rows=10_000, fresh=5000
)
presets = {"full": {"chain": _full, "sweep": Sweep(_full, "recipe.index", SETTINGS), "generations": 8}}
