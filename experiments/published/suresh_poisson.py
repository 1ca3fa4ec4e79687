"""How fast does a Poisson rate die out when every fit eats the last model's counts?  (Suresh et al., arXiv:2412.17646)

    genloss run suresh_poisson

n = 10 rows a fit, true rate 1, 1,000 chains a setting.
Result: under replace the rate is above 0 in 0.818 ± 0.012 of chains at fit 10 and in 0.172 ± 0.012 at fit 100 (the law
1 - exp(-n g_t): 0.8214 and 0.1775), though its mean stays 1.09 ± 0.11; with one fresh real row of ten it is above 0 in
0.987 ± 0.004 at fit 100.

    genloss reproduce suresh_poisson

The same Poisson counts, and coins with p = 0.01, n = 100; 20,000 chains of each.
Result: the coin's p is above 0 in 0.635 ± 0.003, 0.164 ± 0.003 and 0.043 ± 0.001 of chains at fits 1, 10 and 50
(exactly: 0.6340, 0.1614 and 0.0411), the Poisson rate in 0.821 ± 0.003 and 0.175 ± 0.003 at fits 10 and 100.
"""

from __future__ import annotations

import jax
import numpy as np

from experiments.command.reproductions import Finding, Reproduction
from generators.bernoulli import Bernoulli
from generators.poisson import Poisson
from simulator import Chain, Sweep, Truth, simulate, theory
from simulator.probes import Rate
from simulator.recipe import Mix, Replace

measured = {
    "run": {"cpu_seconds": 30, "on": "two busy CPU cores", "date": "2026-11-27"},
    "reproduce": {"cpu_seconds": 23, "on": "two busy CPU cores", "date": "2026-11-27"},
}

chain = Chain(
    source=Truth(Poisson()),
    generator=Poisson(),
    recipe=Mix(real=0.0, size=10, fresh=True),
    probes={"poisson": Rate()},
    real=10,
    rows=10,
    fresh=1,
)
sweep = Sweep(chain, "recipe.real", {"replace": 0.0, "10 % fresh": 0.1})
generations = 100
replicates = 1000
every = 100

# Model -> true mean, generator, rows a fit, fits reported; chains of each.
MODELS: dict[str, tuple[float, type[Poisson] | type[Bernoulli], int, tuple[int, ...]]] = {
    "Poisson, λ = 1, n = 10": (1.0, Poisson, 10, (10, 100)),
    "Bernoulli, p = 0.01, n = 100": (0.01, Bernoulli, 100, (1, 10, 50)),
}
CHAINS = 20_000


def alive(model: Poisson | Bernoulli, n: int, chains: int, generations: int, seed: int = 0) -> np.ndarray:
    """Whether the fitted mean is above 0, under replace with n rows a fit, [chains, generations]."""
    cell = Chain(
        source=Truth(model),
        generator=model,
        recipe=Replace(),
        probes={"mean": Rate()},
        real=n,
        rows=n,
        held_out=0,
    )
    keys = jax.random.split(jax.random.key(seed), chains)
    return np.asarray(jax.jit(jax.vmap(lambda key: simulate(cell, key, generations)["mean.alive"]))(keys))


def law(model: Poisson | Bernoulli, n: int, generations: int) -> np.ndarray:
    """The chance that it is, [generations]."""
    if isinstance(model, Poisson):
        return theory.poisson_survival(n, float(model.rate), generations)
    return theory.category_survival(float(model.p), n, generations)


def reproduce() -> Reproduction:
    """How often a rare event is still known after t fits: Poisson counts and coins, 20,000 chains of each."""
    from matplotlib.figure import Figure

    from simulator.report.figures import COLOURS

    figure = Figure(figsize=(5.4, 3.9), layout="constrained")
    panel = figure.subplots()
    findings = []
    for (name, (mean, kind, n, shown)), colour in zip(MODELS.items(), COLOURS, strict=False):
        model, fits = kind(mean), np.arange(1, max(shown) + 1)
        found, expected = alive(model, n, CHAINS, len(fits)), law(model, n, len(fits))
        for t in shown:
            what = f"{name}: above 0 at fit {t}"
            findings.append(Finding.of_mean(what, found[:, t - 1], theory=float(expected[t - 1])))
        share = found.mean(0)
        error = 2 * np.sqrt(share * (1 - share) / len(found))
        panel.plot(fits, share, color=colour, lw=1.8, label=name)
        panel.fill_between(fits, share - error, share + error, color=colour, alpha=0.2, lw=0)
        panel.plot(fits, expected, color="0.1", ls="--", lw=1, label="theory" if kind is Bernoulli else None)
    panel.set_xscale("log")
    panel.set_ylim(0, 1.02)
    panel.set_xlabel("fit", fontsize=9)
    panel.set_ylabel("share of chains whose rate is above 0", fontsize=9)
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=8)
    panel.legend(frameon=False, fontsize=9)
    return Reproduction(findings, figure)
