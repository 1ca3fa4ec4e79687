"""What does a table lose that is learned from itself?  (TVAE, Xu et al. 2019, arXiv:1907.00503; TabDDPM, Kotelnikov et
al. 2022, arXiv:2209.15421)

    genloss run tables

The 178 wines of three cultivars, 13 numbers and a label each; TabDDPM's diffusion of numbers and categories, 140 rows
a fit, 4 chains a setting.  Result (± one standard error over chains; ceilings are those of real rows): a forest trained
on what is said after six fits of replace tells 0.89 ± 0.03 of the cultivars of held-out wines (0.99 ± 0.01 after the
first, ceiling 1.00), columns are 0.226 ± 0.003 from real ones (Kolmogorov-Smirnov; 0.143 ± 0.006, ceiling 0.127), and
samples lie at 0.73 ± 0.02 of the distance from their diet that held-out wines have (1.01 ± 0.01), while they get no
nearer to real wines (1.08 ± 0.02): what is copied is copied from samples.  Accumulating holds accuracy 0.96 ± 0.01 and
columns 0.152 ± 0.007, 20 % real rows 0.93 ± 0.01 and 0.192 ± 0.009, the control, real rows only, 0.99 ± 0.01 and
0.149 ± 0.008.

    genloss run tables --preset wine-tvae
    genloss run tables --preset wine-copula

The same by a TVAE and by a Gaussian copula.  Result: the forest's accuracy falls from 0.94 ± 0.03 to 0.73 ± 0.07 and
from 0.81 ± 0.01 to 0.60 ± 0.06 under replace, and holds 0.93 ± 0.04 and 0.82 ± 0.01 accumulating (0.95 ± 0.01 and 0.87
± 0.02 on real rows only).  What goes first differs: correlations of the TVAE's samples are 0.61 ± 0.01 of real ones at
first and 0.30 ± 0.02 in the end (ceiling 0.86; the diffusion's stay at 0.87 ± 0.02), the copula's columns and
correlations (0.83 ± 0.03, 0.77 ± 0.05) are good and its labels hang on them by a line, where three cultivars need more.

Presets are other tables, too (`--preset cancer-diffusion`), and have not been run; `--source.path my.csv --source.label
column` is any file.
"""

from __future__ import annotations

from typing import Any

from generators.copula import Copula
from generators.table_diffusion import TableDiffusion
from generators.tvae import TVAE
from simulator import Chain, Sweep, Table
from simulator.probes import Associations, Marginals, Memorisation, Mixed, RareKinds, Utility
from simulator.recipe import Accumulate, Mix, Select

measured = {
    "run": {"cpu_seconds": 212, "on": "two busy CPU cores", "date": "2026-11-28"},
    "run --preset wine-tvae": {"cpu_seconds": 153, "on": "two busy CPU cores", "date": "2026-11-28"},
    "run --preset wine-copula": {"cpu_seconds": 84, "on": "two busy CPU cores", "date": "2026-11-28"},
}

MODELS = {"diffusion": TableDiffusion(), "tvae": TVAE(), "copula": Copula()}
TABLES = {"wine": (Table.wine(), 140), "cancer": (Table.breast_cancer(), 450), "diabetes": (Table.diabetes(), 350)}


def chain_of(table: str, model: str) -> Chain:
    """All rows of a table that are not held out, but for what makes a round number."""
    source, rows = TABLES[table]
    mixes = (Mix(real=0.0, size=rows), Accumulate(), Mix(real=0.2, size=rows), Mix(real=1.0, size=rows))
    return Chain(
        source=source,
        generator=MODELS[model],
        recipe=Select(mixes, 0),
        probes={
            "columns": Marginals(),
            "pairs": Associations(),
            "rare": RareKinds(),
            "near": Memorisation(features=Mixed()),
            "forest": Utility(),
            "linear": Utility("linear"),
        },
        real=rows,
        rows=rows,
    )


chain = chain_of("wine", "diffusion")
sweep = Sweep(chain, "recipe.index", {"replace": 0, "accumulate": 1, "20 % real": 2, "real only": 3})
generations = 6
replicates = 4


def preset(table: str, model: str) -> dict[str, Any]:
    other = chain_of(table, model)
    more = {"generations": generations, "replicates": replicates}
    return {"chain": other, "sweep": Sweep(other, "recipe.index", sweep.values), **more}


presets = {
    "-".join((table, model)): preset(table, model)
    for table in TABLES
    for model in MODELS
    if (table, model) != ("wine", "diffusion")
}
