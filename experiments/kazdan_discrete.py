"""How long until one of many categories is all that is said?  (Kazdan et al., arXiv:2410.16713)

    genloss run kazdan_discrete

100 equally likely categories, M = 20 rows a fit, 1,000 chains a setting.  Two CPU cores, shared with other work: 42 s.
Result: under replace one category is left after 38.0 ± 0.7 fits on average (exactly: 38.07; the rule 2M(1-1/M): 38),
and in every chain by fit 250; with 10 % fresh real rows none is fixed at fit 250, 8.08 ± 0.05 categories are left, and
heterozygosity stays at 0.779 (the law: 0.7794).
"""

from generators.categorical import Categorical
from simulator import Chain, Sweep, Truth
from simulator.probes import Categories
from simulator.recipe import Mix

chain = Chain(
    source=Truth(Categorical(100)),
    generator=Categorical(100),
    recipe=Mix(real=0.0, size=20, fresh=True),
    probes={"categories": Categories()},
    real=20,
    rows=20,
    fresh=2,
)
sweep = Sweep(chain, "recipe.real", {"replace": 0.0, "10 % fresh": 0.1})
generations = 250
replicates = 1000
every = 250
