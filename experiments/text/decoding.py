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

    GENLOSS_DATA=DIR genloss reproduce decoding

A finer grid: temperatures 0.6 to 1.2, top-p 0.8 to 1, drawn as two heat maps.  Result: perplexity after four fits is
least with plain sampling, 15.6 ± 0.4 (12.7 in generation 0), 19.1 ± 0.5 at temperature 1.2, and rises to 7,000 ± 3,500
at 0.6 with top-p 0.8; distinct trigrams of what is said are 0.25 with plain sampling, 0.60 at temperature 1.2, where
words fall apart, and 0.0002 at 0.6 with top-p 0.9 or 0.8.  A higher temperature makes up for a smaller top-p in part:
1.2 with 0.9 has 21 ± 1, 1 with 0.9 39 ± 13.
`--preset full`: GPT-2's 124 M parameters, for one accelerator; 35.8 GB, and 4.7e16 operations of training, 118 s at
40 % of an H100's 989 TFLOP/s, as `--dry-run` says.  It has not been run.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import jax
import numpy as np

from experiments.text import gerstgrasser_language as widths
from experiments.text import shakespeare_transformer as base
from simulator import Sweep, ensemble
from simulator.recipe import Mix

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from experiments.command.reproductions import Reproduction

measured = {
    "run": {"cpu_seconds": 330, "on": "two busy CPU cores", "date": "2026-11-27"},
    "reproduce": {"cpu_seconds": 738, "on": "two busy CPU cores", "date": "2026-11-27"},
}

FIELDS = "recipe.real, generator.temperature, generator.top_p"
SETTINGS = {f"temperature {t:g}, top-p {p:g}": (0.0, t, p) for t in (0.7, 1.0) for p in (0.9, 1.0)}
SETTINGS |= {"real only": (1.0, 1.0, 1.0)}
TEMPERATURES, NUCLEI = (0.6, 0.8, 1.0, 1.2), (0.8, 0.9, 1.0)
GRID = {f"temperature {t:g}, top-p {p:g}": (0.0, t, p) for t in TEMPERATURES for p in NUCLEI}

chain = dataclasses.replace(widths.wide(64, 200), recipe=Mix(real=0.0, size=1000), real=1000, rows=1000)
sweep = Sweep(chain, FIELDS, SETTINGS)
generations = 4
replicates = 2

_full = dataclasses.replace(base.published(base.GPT2), recipe=Mix(real=0.0, size=500))
presets = {"full": {"chain": _full, "sweep": Sweep(_full, FIELDS, SETTINGS), "generations": 6, "replicates": None}}


def reproduce() -> Reproduction:
    """A finer grid of both, after the last fit, as heat maps."""
    from matplotlib.figure import Figure

    from experiments.command.reproductions import Finding, Reproduction

    finer = dataclasses.replace(sweep, values=GRID)
    record = ensemble(finer.make, finer.grid, jax.random.split(jax.random.key(0), replicates), generations)
    measures = {
        "real.perplexity": "perplexity of held-out text",
        "text.distinct_3": "distinct trigrams of what is said",
    }
    found = {name: np.asarray(record[name]) for name in measures}  # [settings, replicates, generations]
    first = found["real.perplexity"][0, :, 0]  # [replicates]: generation 0, before anything that was said is eaten
    findings = [Finding.of_mean("perplexity of held-out text, generation 0", first)]
    for name, what in measures.items():
        findings += [Finding.of_mean(f"{what}, {k}", v[:, -1]) for k, v in zip(GRID, found[name], strict=True)]
    figure = Figure(figsize=(8.4, 3.6), layout="constrained")
    for panel, (name, what) in zip(figure.subplots(1, 2), measures.items(), strict=True):
        _map(panel, found[name][..., -1].mean(1).reshape(len(TEMPERATURES), len(NUCLEI)))
        panel.set_title(what + f" ({first.mean():.3g} in generation 0)" * (name == "real.perplexity"), fontsize=10)
    return Reproduction(findings, figure)


def _map(panel: Axes, cells: np.ndarray) -> None:
    """A heat map of cells [temperatures, top-p], coloured by their logarithms."""
    colour = np.log10(cells)
    panel.imshow(colour, cmap="viridis", origin="lower", aspect="auto")
    for (row, column), value in np.ndenumerate(cells):
        ink = "white" if colour[row, column] < (colour.min() + colour.max()) / 2 else "black"
        told = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
        panel.text(column, row, told, ha="center", va="center", color=ink, fontsize=9)
    panel.set_xticks(range(len(NUCLEI)), [f"{p:g}" for p in NUCLEI])
    panel.set_yticks(range(len(TEMPERATURES)), [f"{t:g}" for t in TEMPERATURES])
    panel.set_xlabel("top-p", fontsize=9)
    panel.set_ylabel("temperature", fontsize=9)
    panel.tick_params(labelsize=8, length=0)
    panel.spines[:].set_visible(False)
