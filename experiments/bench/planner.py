"""How often a plan's interval holds the law's answer, and how wide it is: `python -m experiments.bench planner`.

Gaussian chains which eat n fresh rows with a share w of the mass and m of their own; n, m, the dimension, the
generations and the answer w are drawn, nothing is tuned to them.  The ideal has as many chains, all at the answer, and
knows the slope there: its interval is 2·1.645·s/(|dm/dw|·√chains) wide.  Answers that are less than three ideal
intervals away from an end of the range are left out: so many chains can hardly tell them from the end.
"""

from __future__ import annotations

import time
from typing import Any

import jax
import numpy as np

from experiments.bench import say, table
from generators import Gaussian
from simulator import Chain, Truth
from simulator.analysis.planner import plan
from simulator.probes import Moments
from simulator.recipe import Reweigh, Then, Window
from simulator.running.scan import each
from simulator.types import GenlossError

PLANS, WORLDS, CONFIDENCE = 96, 8, 0.9


def main(plans: int = PLANS, sizes: tuple[int, ...] = (1000,)) -> None:
    found = table(
        f"{plans} plans, {CONFIDENCE:.0%} intervals", "chains", "coverage", "width / ideal", "median", "CPU s a plan"
    )
    for chains in sizes:
        covers, widths, seconds = judged(chains, plans)
        error = np.sqrt(covers.mean() * (1 - covers.mean()) / len(covers))
        found.add_row(
            f"{chains:,}", f"{covers.mean():.3f} ± {error:.3f}", f"{widths.mean():.2f}", f"{np.median(widths):.2f}",
            f"{seconds:.1f}",
        )  # fmt: skip
    say(found)


def judged(chains: int, plans: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, float]:
    """(whether the interval holds the law's answer [plans], width over the ideal's [plans], CPU seconds a plan)."""
    random = np.random.default_rng(seed)
    covers, widths, spent = [], [], 0.0
    for world in range(WORLDS):
        make, of, known, ideals = a_world(random, chains)
        for number in range(world, plans, WORLDS):
            key = jax.random.fold_in(jax.random.key(seed), number)
            i = random.choice(len(known))
            answer, ideal = float(known[i]), ideals[i]
            bound = float(law(*of, answer).min())
            began = time.process_time()
            try:
                made = plan(make, (0, 1), f"moments.variance >= {bound!r}", key, generations=of[2], chains=chains,
                            confidence=CONFIDENCE, law=False)  # fmt: skip
                covers.append(made.low <= answer <= made.high)
                widths.append((made.high - made.low) / ideal)
            except GenlossError:  # it says that no value is the answer
                covers.append(False)
            spent += time.process_time() - began
    return np.array(covers), np.array(widths), spent / plans


def a_world(random: np.random.Generator, chains: int) -> tuple[Any, tuple[int, int, int], np.ndarray, np.ndarray]:
    """(what makes its chains, what its law is of, answers that so many chains can tell, the ideal's width at each)."""
    while True:
        real, rows, dim = (int(k) for k in random.integers((20, 20, 1), (200, 200, 10)))
        of = (real, rows, int(random.integers(10, 40)))
        make, known = chain_of(real, rows, dim), np.geomspace(0.01, 0.9, 20)
        ideals = np.array([ideal_width(make, *of, w, chains) for w in known])
        inside = ideals < np.minimum(known, 1 - known) / 3
        if inside.any():
            return make, of, known[inside], ideals[inside]


def chain_of(real: int, rows: int, dim: int = 1) -> Any:
    """What makes a chain of the share of mass of `real` fresh rows beside `rows` of its own."""

    def make(share: Any) -> Chain:
        return Chain(
            source=Truth(Gaussian(dim)), generator=Gaussian(dim), recipe=Then(Window(1), Reweigh(real=share)),
            probes={"moments": Moments()}, real=real, rows=rows, fresh=real, held_out=0,
        )  # fmt: skip

    return make


def law(real: int, rows: int, generations: int, share: Any) -> np.ndarray:
    """E S_t of each fitted variance (ddof 0) of N(0, I), [generations], with q_t = E m_t² of the mean:

    S_0 = 1 - 1/n, q_0 = 1/n;  q' = w²/n + (1 - w)²(q + S/m);  S' = w + (1 - w)(S + q) - q'.
    """
    n, m, w = real, rows, share
    s, q = 1 - 1 / n, 1 / n
    curve = [s]
    for _ in range(generations - 1):
        after = w**2 / n + (1 - w) ** 2 * (q + s / m)
        s, q = w + (1 - w) * (s + q) - after, after
        curve.append(s)
    return np.array(curve)


def ideal_width(make: Any, real: int, rows: int, generations: int, answer: float, chains: int) -> float:
    """Of the interval of chains that are all at the answer, by one that knows the slope there."""
    keys = jax.random.split(jax.random.key(2**31), 200)
    curve = law(real, rows, generations, answer)
    worst = int(curve.argmin())
    spread = float(np.asarray(each(make, np.full(200, answer), keys, generations)["moments.variance"])[:, worst].std())
    slope = (law(real, rows, generations, answer + 1e-5) - law(real, rows, generations, answer - 1e-5))[worst] / 2e-5
    return 2 * 1.6449 * spread / (max(abs(slope), 1e-12) * np.sqrt(chains))
