"""When a generator and a classifier learn from an ever more contaminated data set, does real data heal them?  (The loop
of Hataya et al., arXiv:2211.08095)

    genloss run contamination_loop

A VAE and the classifier of each diet, over eight generations: the share of the first 1,000 real rows that the VAE's own
take the place of rises from 0 to 100 %; then four generations on real rows alone.  The VAE goes on from its last
weights, so that what it forgot it must learn again; the control is given other real rows instead.
Result: the control gets better at nearly every fit.  Under the VAE's own rows recall falls from 0.37 to
0.00, coverage, after two fits that still learn, from 0.66 to 0.21, accuracy of a classifier trained on the diet from
0.79 to 0.68.  Real rows heal the classifier at once (0.80) and the VAE by and by: coverage 0.68, 0.77, 0.81, 0.83 (the
control 0.88), recall 0.15, 0.22, 0.27, 0.30 (0.43); what it had forgotten it has not quite learned again in four fits.
"""

from __future__ import annotations

from functools import partial

from experiments.contamination.hataya_contamination import FASHION, FEATURES
from generators.nets.mlp import MLP
from generators.vae import VAE
from simulator import Chain, Sweep, schedule
from simulator.probes import Downstream, Manifold
from simulator.recipe import Select
from simulator.recipe.contamination import Contaminate

measured = {
    "run": {"cpu_seconds": 172, "on": "two busy CPU cores", "date": "2026-11-27"},
}

ROWS = 1000
# The first fit eats real rows; seven more an ever more contaminated set; the last four real rows alone.
RATIO = schedule("table", 0, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.0, 0, 0, 0, 0)
chain = Chain(
    source=FASHION,
    generator=VAE(hidden=(128,), latent=8, beta=4.0, steps=400, temperature=0.8),
    recipe=Select((Contaminate(RATIO), Contaminate(RATIO, by="real"), Contaminate(0.0)), 0),
    probes={"downstream": Downstream(partial(MLP, hidden=(64,)), steps=200), "fidelity": Manifold(FEATURES[FASHION])},
    real=ROWS,
    rows=ROWS,
    fresh=ROWS,
    held_out=ROWS,
    start="previous",  # a generator goes on from the last one: what it forgot it must learn again
)
sweep = Sweep(chain, "recipe.index", {"generated": 0, "other real": 1, "first real rows only": 2})
generations = 12
replicates = 2
