"""What of a long tail is a model never told, and how slowly does more text help?  (Dohmatob et al., arXiv:2402.07043)

    genloss run dohmatob_tails

Zipf's law with β = 1.5 over 10,000 words, 1,000 of them a fit, 30 fits, 50 chains a setting.
Result: 0.0933 ± 0.0006 of the truth is missing at the first fit (exactly: 0.0939); under replace
0.232 ± 0.003 at fit 30 (0.2356), while all rows together keep what the real ones said, 0.093, and never learn more.

    genloss reproduce dohmatob_tails

β = 1.5, 2 and 2.5, T = 10³ to 10⁵ words, 64 corpora of each size from the first 2^18 words; those beyond (0.15 % of all
at β = 1.5) count as missing.  Result: slopes of -0.3317 ± 0.0011, -0.496 ± 0.003 and
-0.600 ± 0.006; the law -(1 - 1/β): -0.333, -0.5 and -0.6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.command.reproductions import Finding, Reproduction
from generators.categorical import Categorical
from simulator import Chain, Sweep, Truth, ensemble, theory
from simulator.recipe import Accumulate, Replace, Select
from simulator.types import Array, Key, View

measured = {
    "run": {"cpu_seconds": 13, "on": "two busy CPU cores", "date": "2026-11-27"},
    "reproduce": {"cpu_seconds": 22, "on": "two busy CPU cores", "date": "2026-11-27", "memory": "2.2 GB"},
}


@dataclass(frozen=True)
class MissingMass:
    """How probable in the truth is what the model gives probability 0, in [0, 1].

    The truth is Zipf's law i^-β/ζ(β) over all ranks, of which the table of the generator holds the first, as its start;
    words beyond the table, ζ(β, size + 1)/ζ(β) of all, are missing too.  For β <= 1 there is no such law: the table is
    all there is.
    """

    def __call__(self, key: Key, view: View) -> Array:
        words: Any = view.generator
        zeta = jax.scipy.special.zeta
        beyond = jnp.where(words.zipf > 1, zeta(words.zipf, words.size + 1) / zeta(words.zipf, 1), 0.0)  # []
        lost = (words.init(key).probs * (view.params.probs == 0)).sum()  # [size] -> []
        return beyond + (1 - beyond) * lost


chain = Chain(
    source=Truth(Categorical(10_000, zipf=1.5)),
    generator=Categorical(10_000, zipf=1.5),
    recipe=Select((Replace(), Accumulate()), 0),
    probes={"missing_mass": MissingMass()},
    real=1000,
    rows=1000,
    held_out=0,
)
sweep = Sweep(chain, "recipe.index", {"replace": 0, "accumulate": 1})
generations = 30
replicates = 50
every = 30

EXPONENTS = (1.5, 2.0, 2.5)
ROWS = (1000, 3162, 10_000, 31_623, 100_000)
CORPORA, SIZE = 64, 2**18


def missing(exponents: Any, rows: int, chains: int, size: int, seed: int = 0) -> np.ndarray:
    """Missing mass of a fit on T rows of the first `size` words, [exponents, chains]."""

    def make(exponent: Any) -> Chain:
        words = Categorical(size, zipf=exponent)
        probes = {"missing_mass": MissingMass()}
        return Chain(
            source=Truth(words), generator=words, recipe=Replace(), probes=probes, real=rows, rows=1, held_out=0
        )

    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), rows), chains)
    return np.asarray(ensemble(make, np.asarray(exponents, np.float32), keys, 1)["missing_mass"])[..., 0]


def slope(rows: Any, mean: np.ndarray, error: np.ndarray) -> tuple[float, float]:
    """Least-squares slope of log mean [rows] against log T, and its standard error from those of the means."""
    x = np.log(rows) - np.log(rows).mean()  # [rows]
    return float(x @ np.log(mean) / (x @ x)), float(np.sqrt(((x * error / mean) ** 2).sum()) / (x @ x))


def reproduce() -> Reproduction:
    """Missing mass of 10³ to 10⁵ words and its power law -(1 - 1/β), from 64 corpora of each size."""
    from matplotlib.figure import Figure

    from simulator.report.figures import COLOURS

    found = np.stack([missing(EXPONENTS, rows, CORPORA, SIZE) for rows in ROWS], -1).astype(
        np.float64
    )  # [exponents, corpora, rows]
    figure = Figure(figsize=(5.4, 3.9), layout="constrained")
    panel = figure.subplots()
    line, findings = np.geomspace(ROWS[0], ROWS[-1], 50), []
    for exponent, masses, colour in zip(EXPONENTS, found, COLOURS, strict=False):
        mean, error = masses.mean(0), masses.std(0, ddof=1) / np.sqrt(len(masses))  # [rows], [rows]
        findings.append(Finding(f"slope, β = {exponent}", *slope(ROWS, mean, error), theory=1 / exponent - 1))
        for i in (0, -1):
            exact = float(theory.zipf_missing_mass(exponent, ROWS[i], head=10**5))
            what = f"missing mass, β = {exponent}, T = {ROWS[i]:,}"
            findings.append(Finding.of_mean(what, masses[:, i], theory=exact))
        panel.errorbar(ROWS, mean, 2 * error, color=colour, fmt="o", ms=4, label=f"β = {exponent}")
        law = theory.zipf_missing_mass(exponent, line)
        panel.plot(line, law, color="0.1", ls="--", lw=1, label="theory" if exponent == EXPONENTS[-1] else None)
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlabel("words in the corpus, T", fontsize=9)
    panel.set_ylabel("probability of words not in it", fontsize=9)
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=8)
    panel.legend(frameon=False, fontsize=9)
    return Reproduction(findings, figure)
