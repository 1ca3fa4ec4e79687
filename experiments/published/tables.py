"""What does a table lose that is learned from itself?  (Xu et al. 2019, arXiv:1907.00503; Kotelnikov et al. 2022, arXiv:2209.15421)

    genloss run tables
"""

from __future__ import annotations

from dataclasses import replace

from generators.copula import Copula
from generators.table_diffusion import TableDiffusion
from generators.tvae import TVAE
from simulator import Chain, Sweep, Table
from simulator.probes import Associations, Marginals, Memorisation, Mixed, RareKinds, Tabular, Utility
from simulator.recipe import Accumulate, Mix, Select

SPACE = Mixed()
ROWS = 140
chain = Chain(
    source=Table.wine(),
    generator=Copula(),
    recipe=Select((Mix(real=0.0, size=ROWS), Accumulate(), Mix(real=0.2, size=ROWS), Mix(real=1.0, size=ROWS)), 0),
    probes={
        "marginals": Marginals(),
        "pairs": Associations(),
        "rare": RareKinds(),
        "privacy": Memorisation(features=SPACE),
        "linear": Tabular(features=SPACE),
        "forest": Utility(),
    },
    real=ROWS,
    rows=ROWS,
)
