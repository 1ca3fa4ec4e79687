"""How fast does a Gaussian forget its spread when each fit eats the last one's samples?  (Shumailov et al.,
arXiv:2305.17493 and doi:10.1038/s41586-024-07566-y)

    genloss run shumailov_gaussian

n = 100 rows a fit, maximum likelihood, 1,000 fits, 200 chains a setting.
Result: under replace log σ falls to -10.0 ± 0.2 (the law: -10.09), so that the median σ is 4e-5; with 10 of the 100
real rows in every diet it stays at -0.05 ± 0.01.

    genloss reproduce shumailov_gaussian

The paper's n = 100, 500, 1,000 and 10,000 rows a fit, replace, 3,000, 800, 400 and 40 chains; the median over chains,
since the mean of σ is that of a few lucky chains.  Result: median σ at fit 1000 of
4.3e-5 ± 0.2e-5, 0.132 ± 0.006, 0.38 ± 0.01 and 0.89 ± 0.07; the law: 4.15e-5, 0.135, 0.368 and 0.905.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from experiments.command.reproductions import Finding, Reproduction
from generators.gaussian import Gaussian
from simulator import Chain, Sweep, Truth, simulate, theory
from simulator.probes import Moments
from simulator.recipe import Mix, Replace
from simulator.types import Array, Key, View

measured = {
    "run": {"cpu_seconds": 32, "on": "two busy CPU cores", "date": "2026-11-27"},
    "reproduce": {"cpu_seconds": 34, "on": "two busy CPU cores", "date": "2026-11-27"},
}


def log_std(key: Key, view: View) -> Array:
    """log σ of the fit, in nats; a random walk under replace."""
    return jnp.log(view.params.variances[0]) / 2


chain = Chain(
    source=Truth(Gaussian(1)),
    generator=Gaussian(1),
    recipe=Mix(real=0.0, size=100),
    probes={"moments": Moments(), "log_std": log_std},
    real=100,
    rows=100,
    held_out=0,
)
sweep = Sweep(chain, "recipe.real", {"replace": 0.0, "10 % real": 0.1})
generations = 1000
replicates = 200
every = 1000

CHAINS = {100: 3000, 500: 800, 1000: 400, 10_000: 40}  # rows a fit -> chains, so that each costs about the same


def log_stds(n: int, chains: int, generations: int, seed: int = 0) -> np.ndarray:
    """log σ_t of chains that are replaced, n rows a fit, [chains, generations]."""
    cell = Chain(
        source=Truth(Gaussian(1)),
        generator=Gaussian(1),
        recipe=Replace(),
        probes={"log_std": log_std},
        real=n,
        rows=n,
        held_out=0,
    )
    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), n), chains)
    return np.asarray(jax.jit(jax.vmap(lambda key: simulate(cell, key, generations)["log_std"]))(keys), np.float64)


def median(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Median over axis 0 of [chains, ...] and its standard error, half the distance of the order statistics √chains
    apart around it (each is half a √chains off, one standard deviation of the rank of the true median).
    """
    chains, ranked = len(samples), np.sort(samples, 0)
    away = np.sqrt(chains) / 2
    low, high = (ranked[int(np.clip(round(chains / 2 + s * away), 1, chains)) - 1] for s in (-1, 1))
    return np.median(samples, 0), (high - low) / 2


def reproduce() -> Reproduction:
    """Median σ after 1,000 fits by maximum likelihood, and its decay, for each number of rows a fit."""
    from matplotlib.figure import Figure

    from simulator.report.figures import COLOURS

    figure = Figure(figsize=(6.2, 3.9), layout="constrained")
    panel = figure.subplots()
    fits, findings = np.arange(1, 1001), []
    for (n, chains), colour in zip(CHAINS.items(), COLOURS, strict=False):
        middle, error = median(log_stds(n, chains, 1000))  # [fits], [fits]
        law = theory.replace_median_std(n, 1000)
        sigma = float(np.exp(middle[-1]))
        what = f"median σ at fit 1000, n = {n:,}"
        findings.append(Finding(what, sigma, sigma * float(error[-1]), theory=law[-1]))
        panel.plot(fits, np.exp(middle), color=colour, lw=1.8, label=f"n = {n:,}")
        panel.fill_between(fits, np.exp(middle - 2 * error), np.exp(middle + 2 * error), color=colour, alpha=0.2, lw=0)
        panel.plot(fits, law, color="0.1", ls="--", lw=1, label="theory" if n == max(CHAINS) else None)
    panel.set_yscale("log")
    panel.set_xlabel("fit", fontsize=9)
    panel.set_ylabel("median σ of the fits (truth: 1)", fontsize=9)
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=8)
    panel.legend(frameon=False, fontsize=9)
    return Reproduction(findings, figure)
