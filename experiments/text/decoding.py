"""What do temperature and top-p do to a language model's loop?  (Holtzman et al. 2020, arXiv:1904.09751)

    GENLOSS_DATA=DIR genloss run decoding

The text of `shakespeare_transformer`, 1,000 windows; networks 64 wide, from scratch in each of four fits of 200 steps
of replace, which differ in how they are sampled; the control eats real rows only.  Perplexity of held-out text is
under the model itself, which decoding does not change: what it loses, it loses by what it was fed.
Result: perplexity of held-out text, 12.7 in generation 0, is after four fits 16 at temperature 1, 37 with top-p 0.9,
49 at temperature 0.7, and 1,117 with both, where distinct trigrams fall from 0.056 to 0.0002 and 0.83 of what is said
are loops; the control stays (12.1).  Plain sampling loses least and is the only one whose words grow more varied
(0.207 to 0.250): its errors are passed on, where the others sharpen.  Two chains a setting, standard deviations 0.6,
11, 0.8, 473 and 0.7.
`--preset full`: GPT-2's 124 M parameters, for one accelerator.  It has not been run; `--dry-run` says what memory and
time it would take.
"""

from __future__ import annotations

import dataclasses

from experiments.text import gerstgrasser_language as widths
from experiments.text import shakespeare_transformer as base
from simulator import Sweep
from simulator.recipe import Mix

measured = {
    "run": {"seconds": 414, "on": "two CPU cores with other work beside: 330 CPU seconds", "date": "2026-11-27"},
}

FIELDS = "recipe.real, generator.temperature, generator.top_p"
TEMPERATURES, NUCLEI = (0.7, 1.0), (0.9, 1.0)
SETTINGS = {f"temperature {t:g}, top-p {p:g}": (0.0, t, p) for t in TEMPERATURES for p in NUCLEI}
SETTINGS |= {"real only": (1.0, 1.0, 1.0)}

chain = dataclasses.replace(widths.wide(64, 200), recipe=Mix(real=0.0, size=1000), real=1000, rows=1000)
sweep = Sweep(chain, FIELDS, SETTINGS)
generations = 4
replicates = 2

_full = dataclasses.replace(base.published(base.GPT2), recipe=Mix(real=0.0, size=500))
presets = {"full": {"chain": _full, "sweep": Sweep(_full, FIELDS, SETTINGS), "generations": 6, "replicates": None}}
