"""Where does fresh real data hold a Gaussian, whatever it started from?  (MAD, arXiv:2307.01850, Fig. 10)

    genloss run mad_fresh

100 dimensions, a first fit on 100 real rows, then 900 rows of the last model, spoken from N(m, λΣ), and 100 fresh real
ones a fit, unbiased covariance; 8 chains a setting.  Result: W2² to the truth falls from 32 to
12.1 ± 0.1 for λ = 1 and to 20.55 ± 0.07 for λ = 0.8 at fit 100; variance there is 1.003 ± 0.005 and 0.3581 ± 0.0009
(the law: 1.0048 and 0.3577).

    genloss reproduce mad_fresh

First fits on 1,000 rows too, the mean of fits 61 to 100.  Result: 12.35 ± 0.08 and 12.35 ± 0.07
for λ = 1, 20.65 ± 0.02 and 20.63 ± 0.03 for λ = 0.8, from 100 and 1,000 rows: the limit forgets where it came from.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import jax
import numpy as np

from experiments.command.reproductions import Finding, Published, Reproduction
from generators.gaussian import Gaussian
from simulator import Chain, Record, Sweep, Truth, ensemble, theory
from simulator.probes import Moments, Wasserstein
from simulator.recipe import Replace
from simulator.types import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

measured = {
    "run": {"cpu_seconds": 54, "on": "two busy CPU cores", "date": "2026-11-27"},
    "reproduce": {"cpu_seconds": 13, "on": "two busy CPU cores", "date": "2026-11-27"},
}

DIM, SYNTHETIC, FRESH = 100, 900, 100
BIASES = {"λ = 1": 1.0, "λ = 0.8": 0.8}
PUBLISHED = {name: Published(w2, "Fig. 10", 0.03) for name, w2 in {"λ = 1": "12.3", "λ = 0.8": "20.6"}.items()}  # W2²
STARTS = {rows: Published(w2, "Fig. 10", 0.03) for rows, w2 in {100: "31.9", 1000: "2.67"}.items()}  # of the first fit

chain = Chain(
    source=Truth(Gaussian(DIM)),
    generator=Gaussian(DIM, ddof=1),
    recipe=Replace(),  # the latest data set: the last model's rows and this generation's fresh ones, none twice
    probes={"w2": Wasserstein(), "gaussian": Moments()},
    real=100,
    rows=SYNTHETIC,
    fresh=FRESH,
    held_out=0,
)
sweep = Sweep(chain, "generator.bias", BIASES)
generations = 100
replicates = 8
every = 100
SETTLED = 60  # generations after which means over generations are taken


def distances(real: int, replicates: int, generations: int, dim: int = DIM) -> Record:
    """The record of chains whose first fit eats `real` rows; leaves are [biases, replicates, generations]."""
    keys = jax.random.split(jax.random.key(0), replicates)

    def make(bias: Array) -> Chain:
        generator = Gaussian(dim, ddof=1, bias=bias)
        return replace(chain, source=Truth(Gaussian(dim)), generator=generator, real=real)

    return ensemble(make, np.array(list(BIASES.values()), np.float32), keys, generations)


def reproduce() -> Reproduction:
    """Both first fits and both sampling biases at d = 100, 100 generations, 8 chains each."""
    found = {real: distances(real, replicates, generations) for real in STARTS}
    n, share = SYNTHETIC + FRESH, FRESH / (SYNTHETIC + FRESH)
    findings = []
    for real, first in STARTS.items():
        values = found[real]["w2"][0, :, 0]  # [replicates]; the first fit knows no bias
        findings.append(Finding.of_mean(f"W2² of the first fit, {real} real rows", values, published=first))
    for i, (name, bias) in enumerate(BIASES.items()):
        law = [float(values[-1]) for values in theory.fresh_share(n, share, 1000, bias, ddof=1)]
        end = {real: _settled(record["w2"][i]) for real, record in found.items()}  # [replicates] each
        for real, values in end.items():
            what = f"W2² in the end, {name}, from {real} rows"
            findings.append(Finding.of_mean(what, values, published=PUBLISHED[name]))
        findings.append(Finding.of_mean(f"what the first fit leaves of it, {name}", end[100] - end[1000], theory=0.0))
        ours = [_settled(found[1000][f"gaussian.{what}"][i]) for what in ("variance", "mean_error")]
        findings.append(Finding.of_mean(f"variance in the end, {name}", ours[0], theory=law[0]))
        findings.append(Finding.of_mean(f"squared error of the mean, {name}", ours[1], theory=DIM * law[1]))
    return Reproduction(findings, _figure(found))


def _settled(values: Array) -> np.ndarray:
    """Each chain's mean over the last generations, [replicates], of values [replicates, generations]."""
    return np.asarray(values, np.float64)[:, SETTLED:].mean(1)


def _figure(found: dict[int, Record]) -> Figure:
    from matplotlib.figure import Figure

    from simulator.report.figures import COLOURS

    figure = Figure(figsize=(8.6, 3.9), layout="constrained")
    panels = figure.subplots(1, 2)
    t = np.arange(1, generations + 1)
    for i, (name, bias) in enumerate(BIASES.items()):
        for j, (real, record) in enumerate(found.items()):
            for panel, metric in zip(panels, ("w2", "gaussian.variance"), strict=True):
                values = np.asarray(record[metric][i])  # [replicates, generations]
                mean, error = values.mean(0), 2 * values.std(0, ddof=1) / np.sqrt(len(values))
                colour = COLOURS[2 * i + j]
                panel.plot(t, mean, color=colour, lw=1.8, label=f"{name}, first fit on {real} rows")
                panel.fill_between(t, mean - error, mean + error, color=colour, alpha=0.2, lw=0)
        label = ("the limit published", "the law's limit") if i == 0 else (None, None)
        panels[0].axhline(PUBLISHED[name].value, color="0.35", ls=":", lw=1.3, label=label[0])
        law = theory.fresh_share(SYNTHETIC + FRESH, FRESH / (SYNTHETIC + FRESH), 1000, bias, ddof=1)[0][-1]
        panels[1].axhline(law, color="black", ls="--", lw=1, label=label[1])
    panels[0].set_ylim(0)
    panels[0].set_title("W2² to the truth", fontsize=10)
    panels[1].set_title("tr Σ / d", fontsize=10)
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.set_xlabel("generation", fontsize=9)
        panel.tick_params(labelsize=8)
    known = {label: line for panel in panels for line, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    figure.legend(list(known.values()), list(known), loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure
