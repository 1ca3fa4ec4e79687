"""How fast does a Poisson rate die out when every fit eats the last model's counts?  (Suresh et al., arXiv:2412.17646)

    genloss run suresh_poisson

n = 10 rows a fit, true rate 1, 1,000 chains a setting.  Two CPU cores, shared with other work: 34 s.
Result: under replace the rate is above 0 in 0.822 ± 0.012 of chains at fit 10 and in 0.170 ± 0.012 at fit 100 (the law
1 - exp(-n g_t): 0.8214 and 0.1775), though its mean stays 1.09 ± 0.12; with one fresh real row of ten it is above 0 in
0.987 ± 0.004 at fit 100.
"""

from generators.poisson import Poisson
from simulator import Chain, Sweep, Truth
from simulator.probes import Rate
from simulator.recipe import Mix

chain = Chain(
    source=Truth(Poisson()),
    generator=Poisson(),
    recipe=Mix(real=0.0, size=10, fresh=True),
    probes={"poisson": Rate()},
    real=10,
    rows=10,
    fresh=1,
)
sweep = Sweep(chain, "recipe.real", {"replace": 0.0, "10 % fresh": 0.1})
generations = 100
replicates = 1000
every = 100
