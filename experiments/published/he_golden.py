"""How much should fresh real data weigh against the last model's samples?  (He et al., arXiv:2502.18049, Fig. 8)

    genloss run he_golden

Two dimensions, 100 fresh real rows of weight w and 100 samples of weight 1 - w a fit, 200 fits, 200 chains a setting.
Result: the mean's squared error at fit 200 is 0.024 ± 0.002, 0.0134 ± 0.0010, 0.0120 ± 0.0009,
0.0136 ± 0.0009 and 0.0196 ± 0.0014 for w = 0.3, 0.5, 0.618, 0.8 and 1 (the law: 0.0227, 0.0133, 0.0124, 0.0142 and
0.02): least at the golden ratio.  The paper's covariance is unbiased for each kind of row; `Gaussian`, which fits all
rows about their common mean, would lower these by 1 % at w = 0.3 and by 0.2 % at 0.618.

    genloss reproduce he_golden

The paper's figure: 30 weights, 2,000 replicates, 200 fits, mean of fits 150 to 200.  Result: the
least loss is at w = 0.618 ± 0.001, and 0.01235 ± 0.00004 there (the law: 0.01236).
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from experiments.command.reproductions import Finding, Reproduction
from generators.gaussian import Gaussian, GaussianParams
from simulator import Chain, Pool, Sweep, Truth, ensemble, theory
from simulator.probes import Moments
from simulator.recipe import Replace, Reweigh, Then
from simulator.types import Array, Key

measured = {
    "run": {"cpu_seconds": 18, "on": "two busy CPU cores", "date": "2026-11-27"},
    "reproduce": {"cpu_seconds": 22, "on": "two busy CPU cores", "date": "2026-11-27"},
}


@dataclass(frozen=True)
class Blend(Gaussian):
    """The mean of the diet, and the unbiased covariances of its real and of its synthetic rows, mixed by their mass.

    The estimator of arXiv:2502.18049; `Gaussian` itself would fit the covariance of all rows about their common mean.
    """

    def fit(self, key: Key, params: GaussianParams, pool: Pool) -> tuple[GaussianParams, dict[str, Array]]:
        w, x = pool.weight, pool.rows  # [n], [n, d]
        kinds = jnp.stack([pool.real, pool.synthetic]) * w  # [2, n]
        mass = kinds.sum(1)  # [2]
        eaten = mass > 0
        centre = kinds @ x / jnp.where(eaten, mass, 1.0)[:, None]  # [2, d]
        freedom = mass - (kinds**2).sum(1) / jnp.where(eaten, mass, 1.0)  # [2]: (rows - 1) · weight of one
        factor = jnp.where(eaten, mass / jnp.where(eaten, freedom, 1.0), 0.0) @ kinds / w.sum()  # [n]
        centred = jnp.sqrt(factor)[:, None] * (x - jnp.where(pool.real[:, None], centre[0], centre[1]))  # [n, d]
        return GaussianParams(mass @ centre / w.sum(), centred.T @ centred), {}


chain = Chain(
    source=Truth(Gaussian(2)),
    generator=Blend(2),
    recipe=Then(Replace(), Reweigh(real=0.618)),
    probes={"gaussian": Moments()},
    real=100,
    rows=100,
    fresh=100,
)
sweep = Sweep(chain, "recipe.recipes.1.real", {f"w = {w:g}": w for w in (0.3, 0.5, 0.618, 0.8, 1.0)})
generations = 200
replicates = 200
every = 200

SHOWN = (0.3, 0.5, 0.618, 0.8)  # weights in the table
WEIGHTS = np.array([*np.arange(0.2, 0.55, 0.05), *np.arange(0.54, 0.7, 0.01), 0.618, *np.arange(0.7, 0.96, 0.05)])
WEIGHTS = np.unique(WEIGHTS.round(3))  # 30, close to each other about the golden ratio
SETTLED = 149  # fits before the 150th


def losses(weights: np.ndarray, replicates: int, generations: int) -> np.ndarray:
    """‖m_t - μ‖² of chains at each weight w on real rows, [weights, replicates, generations], float32.

    All weights see the same draws.  A few chains at a time go through all generations, so that their rows stay in the
    processor's cache.
    """

    def one(key: Key) -> Array:
        record = ensemble(sweep.make, jnp.asarray(weights, jnp.float32), key[None], generations)
        return record["gaussian.mean_error"][:, 0]  # [weights, generations]

    keys = jax.random.split(jax.random.key(0), replicates)
    found = jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=20))(keys)  # [replicates, weights, generations]
    return np.asarray(found).swapaxes(0, 1)


def reproduce() -> Reproduction:
    """30 weights, 200 generations, 2,000 chains each."""
    from matplotlib.figure import Figure

    from simulator.report.figures import COLOURS

    found = losses(WEIGHTS, 2000, generations)[:, :, SETTLED:].mean(2, dtype=np.float64)  # [weights, replicates]
    law = np.array([2 * theory.weighted_mean_error(100, 100, w, generations)[SETTLED:].mean() for w in WEIGHTS])
    findings = []
    for weight in SHOWN:
        i = int(np.flatnonzero(weight == WEIGHTS)[0])
        findings.append(Finding.of_mean(f"mean loss, w = {weight}", found[i], theory=float(law[i])))
    drawn = np.random.default_rng(0).multinomial(found.shape[1], np.full(found.shape[1], 1 / found.shape[1]), 500)
    best = WEIGHTS[np.argmin(found @ drawn.T, 0)]  # [bootstrap]
    ours = float(WEIGHTS[found.mean(1).argmin()])
    findings.append(Finding("best w, by steps of 0.01", ours, float(best.std()), theory.golden_share(1), within=0.01))
    figure = Figure(figsize=(5.6, 3.9), layout="constrained")
    panel = figure.subplots()
    mean, error = found.mean(1), 2 * found.std(1, ddof=1) / np.sqrt(found.shape[1])
    panel.plot(WEIGHTS, mean, color=COLOURS[0], lw=1.8, marker="o", ms=2.5, label="ours")
    panel.fill_between(WEIGHTS, mean - error, mean + error, color=COLOURS[0], alpha=0.2, lw=0)
    panel.plot(WEIGHTS, law, color="black", ls="--", lw=1, label="law")
    panel.axvline(theory.golden_share(1), color="0.35", ls=":", lw=1.3, label="golden ratio")
    panel.set_title("‖m - μ‖², mean of generations 150 to 200", fontsize=10)
    panel.set_xlabel("weight w of fresh real rows", fontsize=9)
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=8)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return Reproduction(findings, figure)
