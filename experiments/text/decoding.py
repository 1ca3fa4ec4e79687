"""What do temperature and top-p do to a language model's loop?  (Holtzman et al. 2020, arXiv:1904.09751)

    GENLOSS_DATA=DIR genloss run decoding

The text of `shakespeare_transformer`; networks 64 wide, from scratch in each of four fits of replace, which differ in
how they are sampled; the control eats real rows only.  Perplexity of held-out text is under the model itself, which
decoding does not change: what it loses, it loses by what it was fed.
Result: not yet measured.
`--preset full`: 128 M parameters, for one accelerator.  It has not been run; with `--dry-run` it says what it would
take where that was measured.
"""

from __future__ import annotations

import dataclasses

from experiments.text import gerstgrasser_language as widths
from experiments.text import shakespeare_transformer as base
from simulator import Sweep
from simulator.recipe import Mix

FIELDS = "recipe.real, generator.temperature, generator.top_p"
TEMPERATURES, NUCLEI = (0.7, 1.0), (0.9, 1.0)
SETTINGS = {f"temperature {t:g}, top-p {p:g}": (0.0, t, p) for t in TEMPERATURES for p in NUCLEI}
SETTINGS |= {"real only": (1.0, 1.0, 1.0)}

chain = dataclasses.replace(widths.wide(64, 200), recipe=Mix(real=0.0, size=1000), real=1000, rows=1000)
sweep = Sweep(chain, FIELDS, SETTINGS)
generations = 4
replicates = 2

_full = dataclasses.replace(base.full, recipe=Mix(real=0.0, size=1000))
presets = {"full": {"chain": _full, "sweep": Sweep(_full, FIELDS, SETTINGS), "generations": 6, "replicates": None}}
