"""What a generation of a diffusion costs by the steps of its sampler, and what its samples are worth: one step or many.

`python -m experiments.bench one_step`.  Digits: a fit to 1,000 rows and 1,000 samples, distances in pixels to 350
held-out rows, accuracy on them of a classifier trained on samples; ± is the standard error of three fits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np

from experiments.bench import say, spent, table
from generators.diffusion import Diffusion
from generators.meanflow import MeanFlow
from generators.nets.mlp import MLP
from generators.noise import Flow
from simulator import Dataset
from simulator.abilities import taught
from simulator.pool import Pool
from simulator.probes import Downstream, Fidelity
from simulator.types import Array, Rows, View

ROWS, SEEDS = 1000, 3
FITS = {"flow": (Flow(), (1500, 3000), (1, 4, 16, 50)), "mean flow": (MeanFlow(), (1000, 1500), (1, 2, 4))}


def main() -> None:
    found = table(
        f"digits, {SEEDS} fits: quality by the sampler's steps, processor seconds of a fit and of {ROWS:,} samples",
        "model", "steps of training", "of the sampler", "recall", "coverage", "precision", "Fréchet", "accuracy",
        "fit, CPU s", "samples, CPU s",
    )  # fmt: skip
    source, key = Dataset.digits(), jax.random.key(0)
    rows, reference = source.draw(key, ROWS), source.draw(key, 350, held_out=True)
    judged = judge(source, rows, reference)
    for name, (noise, trained, sampled) in FITS.items():
        for steps in trained:
            model = Diffusion(noise=noise, steps=steps, learning_rate=2e-3, average=0.99).shaped(rows)
            for taken, cells in measured(model, rows, sampled, judged).items():
                say(" ", name, steps, taken, *cells)
                found.add_row(name, f"{steps:,}", f"{taken}", *cells)
    say(found)


def judge(source: Any, rows: Rows, reference: Rows) -> Callable[[Rows], Array]:
    """A compiled function of samples: recall, coverage, precision, Fréchet distance and accuracy, [5]."""
    fidelity, downstream, key = Fidelity(), Downstream(partial(MLP, hidden=(64,))), jax.random.key(0)
    learned = taught({"fidelity": fidelity, "downstream": downstream}, key, source)

    def judged(said: Rows) -> Array:
        none: Any = None
        view = View(np.int32(0), none, Pool.of(rows), said, reference, none, None, learned)  # pyright: ignore[reportArgumentType]
        seen = fidelity(key, view)
        accuracy = downstream(key, view)["samples"]["accuracy"]
        return jax.numpy.stack([*(seen[k] for k in ("recall", "coverage", "precision", "frechet")), accuracy])

    return jax.jit(judged)


def measured(
    model: Diffusion, rows: Rows, sampled: tuple[int, ...], judged: Callable[[Rows], Array]
) -> dict[int, tuple[str, ...]]:
    """The cells of a line for each number of steps of the sampler, all of the same fits."""
    pool, key = Pool.of(rows), jax.random.key(1)
    init = jax.jit(model.init)
    start = init(key)
    fit = jax.jit(model.fit).lower(key, start, pool).compile()
    say_of = {
        taken: jax.jit(replace(model, sample_steps=taken).sample, static_argnums=2).lower(key, start, ROWS).compile()
        for taken in sampled
    }
    found: dict[int, list[Any]] = {taken: [] for taken in sampled}
    for seed in range(SEEDS):
        for_init, for_fit, for_sample = jax.random.split(jax.random.key(seed + 1), 3)
        begun = init(for_init)
        (fitted, _), training = spent(lambda b=for_fit, params=begun: fit(b, params, pool))
        for taken, sample in say_of.items():
            said, sampling = spent(lambda s=sample, p=fitted, k=for_sample: s(k, p))
            found[taken].append([*np.asarray(judged(said)), training, sampling])
    lines = {taken: (np.mean(runs, 0), np.std(runs, 0, ddof=1) / SEEDS**0.5) for taken, runs in found.items()}
    return {
        taken: (*(f"{m:.3f} ± {e:.3f}" for m, e in zip(mean[:5], error, strict=False)), *(f"{m:.2f}" for m in mean[5:]))
        for taken, (mean, error) in lines.items()
    }
