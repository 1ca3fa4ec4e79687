"""How long until one of many categories is all that is said?  (Kazdan et al., arXiv:2410.16713)

    genloss run kazdan_discrete

100 equally likely categories, M = 20 rows a fit, 1,000 chains a setting.
Result: under replace one category is left after 37.9 ± 0.6 fits on average (exactly: 38.07; the rule 2M(1-1/M): 38),
and in every chain by fit 149; with 10 % fresh real rows none is fixed at fit 250, 8.08 ± 0.04 categories are left, and
heterozygosity stays at 0.781 ± 0.003 (the law: 0.7794).

    genloss reproduce kazdan_discrete

M = 10 to 100 rows of K = 10 to 1,000 >= M categories, 4,000 to 200 chains; the paper's grid goes on to M = 10⁶, with
100 chains.  Result: fixed after 18.3 ± 0.2 fits (M = 10, K = 100), 38.2 ± 0.5 (20),
98 ± 2 (50) and 200 ± 4 (100); exactly 18.40, 38.07, 97.47 and 196.74.  The rule 2M(1-1/M) is within
5 % of the exact mean from M = 8 on, and a third below it at M = 2.
"""

from __future__ import annotations

import jax
import numpy as np

from experiments.command.reproductions import Finding, Reproduction
from generators.categorical import Categorical
from simulator import Chain, State, Sweep, Truth, theory
from simulator.probes import Categories
from simulator.recipe import Mix, Replace
from simulator.types import Array, Key

measured = {
    "run": {"cpu_seconds": 49, "on": "two busy CPU cores", "date": "2026-11-27"},
    "reproduce": {"cpu_seconds": 28, "on": "two busy CPU cores", "date": "2026-11-27"},
}

chain = Chain(
    source=Truth(Categorical(100)),
    generator=Categorical(100),
    recipe=Mix(real=0.0, size=20, fresh=True),
    probes={"categories": Categories()},
    real=20,
    rows=20,
    fresh=2,
)
sweep = Sweep(chain, "recipe.real", {"replace": 0.0, "10 % fresh": 0.1})
generations = 250
replicates = 1000
every = 250

# (rows a fit M, categories K) -> chains, never fewer than the paper's 100.
CELLS = {(10, 10): 4000, (10, 100): 4000, (20, 100): 2000, (50, 100): 1000, (100, 100): 800, (100, 1000): 200}


def fixation_times(size: int, rows: int, keys: Key) -> Array:
    """The first fit at which one of `size` equal categories has all, under replace, [keys] int32."""
    cell = Chain(
        source=Truth(Categorical(size)),
        generator=Categorical(size),
        recipe=Replace(),
        real=rows,
        rows=rows,
        held_out=0,
    )

    def one(key: Key) -> Array:
        def several(state: State) -> Array:
            return (state.t == 0) | (state.params.probs.max() < 1)

        def step(state: State) -> State:
            return cell.step(jax.random.fold_in(key, state.t), state)[0]

        return jax.lax.while_loop(several, step, cell.init(key, 1)).t

    return jax.lax.map(one, keys)  # in turn: side by side, all would go on until the last is fixed


def times(rows: int, size: int, chains: int, seed: int = 0) -> np.ndarray:
    """Fixation times of independent chains, [chains]."""
    keys = jax.random.split(jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), rows), size), chains)
    return np.asarray(jax.jit(lambda keys: fixation_times(size, rows, keys))(keys))


def reproduce() -> Reproduction:
    """Mean fits until one category is left, beside the exact law and the rule 2M(1-1/M) for K >= M."""
    from matplotlib.figure import Figure

    from simulator.report.figures import COLOURS

    figure = Figure(figsize=(5.4, 3.9), layout="constrained")
    panel = figure.subplots()
    findings: dict[tuple[int, int], Finding] = {}
    for (rows, size), chains in CELLS.items():
        exact = theory.mean_fixation_time(np.full(size, 1 / size), rows)
        what = f"mean fits until fixed, M = {rows}, K = {size}"
        findings[rows, size] = Finding.of_mean(what, times(rows, size, chains), theory=exact)
    for size, colour in zip(dict.fromkeys(size for _, size in CELLS), COLOURS, strict=False):
        cells = {rows: found for (rows, k), found in findings.items() if k == size}
        ours, errors = [f.ours for f in cells.values()], [2 * f.error for f in cells.values()]
        panel.errorbar(list(cells), ours, errors, color=colour, fmt="o", ms=4, label=f"K = {size:,}")
        line = np.unique(np.geomspace(2, min(size, 100), 30).round().astype(int))  # K >= M
        law = [theory.mean_fixation_time(np.full(size, 1 / size), int(m)) for m in line]
        panel.plot(line, law, color="0.1", ls="--", lw=1, label="theory" if size == 1000 else None)
    line = np.geomspace(2, 100, 50)
    panel.plot(line, 2 * (line - 1), color="0.5", ls=":", lw=1.3, label="2M(1 - 1/M)")
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlabel("rows a fit, M", fontsize=9)
    panel.set_ylabel("mean fits until one category is left", fontsize=9)
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=8)
    panel.legend(frameon=False, fontsize=9)
    return Reproduction(list(findings.values()), figure)
