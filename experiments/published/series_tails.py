"""Do models of returns lose the tails that risk is measured by?  (Returns: Heston 1993; facts: Cont 2001,
doi:10.1080/713665670; regimes: Shumailov et al., arXiv:2305.17493, and Gerstgrasser et al., arXiv:2404.01413)

    genloss run series_tails

Daily returns of Heston's model, whose risk is known; a GARCH(1,1) fitted to 20 windows of 64 days, 20 fits, 20 chains
a setting; ± is two standard errors.
Result: a GARCH keeps the tails that it can say: at generation 19 the mean expected shortfall at 99 % is 0.91 ± 0.17 of
the truth's under replace and 0.87 ± 0.11 with real rows only.  What replace loses is memory, as a fit forgets how long
storms last: α + β falls from 0.976 ± 0.006 to 0.90 ± 0.09, where accumulating holds 0.975 ± 0.008, 20 % real rows
0.971 ± 0.012 and the control 0.976 ± 0.006.  And chains part: the interval of their volatility doubles (1.01 ± 0.13 of
the truth's; control 0.96 ± 0.06).
"""

from __future__ import annotations

from dataclasses import replace

from generators.autoregressive import Autoregressive
from generators.diffusion import Diffusion
from generators.edm import EDM
from generators.garch import Garch
from generators.prices import Heston
from simulator import Chain, Sweep, Truth
from simulator.probes import Stylised, Tails
from simulator.recipe import Accumulate, Mix, Select

measured = {
    "run": {"cpu_seconds": 107, "on": "two busy CPU cores", "date": "2026-11-28"},
}

WINDOWS = 20  # of 64 days each


def regimes(size: int) -> Select:
    return Select((Mix(real=0.0, size=size), Accumulate(), Mix(real=0.2, size=size), Mix(real=1.0, size=size)), 0)


NAMES = {"replace": 0, "accumulate": 1, "20 % real": 2, "real only": 3}
chain = Chain(
    source=Truth(Heston()),
    generator=Garch(),
    recipe=regimes(WINDOWS),
    probes={"tails": Tails(0.99, draws=1000), "ten_days": Tails(0.99, 10, draws=1000), "facts": Stylised(draws=1000)},
    real=WINDOWS,
    rows=WINDOWS,
    held_out=10,
)
sweep = Sweep(chain, "recipe.index", NAMES)
generations = 20
replicates = 20
every = 20

# The normal law by least squares, which has lost the tails at generation 0.
normal = replace(chain, generator=Autoregressive(order=1))

# A network on windows of 32 days.
network = replace(
    chain,
    source=Truth(Heston(length=32)),
    generator=Diffusion(noise=EDM(sigma_data=1.26), steps=2000, batch=64, learning_rate=2e-3, sample_steps=18),
    recipe=regimes(400),
    real=400,
    rows=400,
)
presets = {
    "normal": {"chain": normal, "sweep": Sweep(normal, "recipe.index", NAMES), "generations": 20, "replicates": 100},
    "network": {"chain": network, "sweep": Sweep(network, "recipe.index", NAMES), "generations": 5, "replicates": 2},
}
