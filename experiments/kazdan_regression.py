"""Does the error of linear regressions on their own labels grow without bound?  (Gerstgrasser et al.,
arXiv:2404.01413; Kazdan et al. 2024, arXiv:2410.16713)

    genloss run kazdan_regression

Two shared CPU cores: 85 s (100 rows and 10 features a generation, 100 generations, 100 replicates of each recipe).
Result: from 0.111 at the first fit the excess risk grows to 11.1 ± 0.5 under replace (law: 11.24), stays at
0.173 ± 0.007 when all rows are kept (0.178), and at 0.351 ± 0.015 when 100 of them are drawn (0.326 for
rows >> features).
"""

from generators.linear import Linear
from simulator import Chain, Sweep, Truth
from simulator.probes import Risk
from simulator.recipe import Accumulate, Replace, Select, Subsample, Then

chain = Chain(
    source=Truth(Linear(10)),
    generator=Linear(10),
    recipe=Select((Replace(), Accumulate(), Then(Accumulate(), Subsample(100))), 0),
    probes={"excess_risk": Risk()},
    real=100,
    rows=100,
    held_out=1,
)
sweep = Sweep(chain, "recipe.index", {"replace": 0, "accumulate": 1, "accumulate, subsample": 2})
generations = 100
replicates = 100
every = 10
