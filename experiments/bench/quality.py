"""How good small images get on two cores: generators beside real rows, by one yardstick.

`GENLOSS_DATA=DIR python -m experiments.bench quality`; `quality.digits` needs no folder, `quality.fashion` is the rest.
A generator learns from all training rows of a data set and says as many.  The budget of a fit, compiling included, is
two cores for 5 minutes (digits) and 20 (Fashion-MNIST); processor seconds are counted; no model takes half of it.
Measures (`genloss list metrics` has them) are of samples and held-out rows, k = 5, in a space that a classifier of real
rows learned, and in pixels; accuracy is that of a new classifier trained on samples alone, asked about held-out rows;
near is the share of samples that are nearer to a training row, in pixels, than 95 % of held-out rows are.  Sets as
large as the held-out one are compared, and where samples make more than one their mean is told.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench import say, table
from experiments.images import digits as first_run
from generators.diffusion import Diffusion
from generators.edm import EDM
from generators.gan import GAN
from generators.nets.denoiser import Denoiser
from generators.nets.mlp import MLP
from generators.nets.patch_denoiser import PatchDenoiser
from generators.noise import Flow
from simulator import Dataset
from simulator.pool import Pool, Rows, count
from simulator.probes import Learned, Memorisation
from simulator.probes.classifier import merged, train
from simulator.probes.features import flat, pictures
from simulator.probes.fidelity import frechet
from simulator.probes.neighbours import manifold
from simulator.types import Array

NEIGHBOURS = 5  # k of the k-NN balls
MOST = 10_000  # samples compared with held-out rows, in sets as large as theirs
COPIES = 2000  # samples whose distance to training rows is held against that of as many held-out rows


@dataclass(frozen=True)
class World:
    """A data set, and how rows that claim to be like it are judged."""

    source: Dataset
    features: Learned  # a feature space, of a classifier that learned from all training rows
    judge: Learned  # a classifier that learns from rows, and is asked about held-out real ones
    models: dict[str, Any]  # `Trained` generators

    @cached_property
    def real(self) -> Rows:
        """All training rows, in an order of their own, leaves [n, ...]."""
        return self.source.draw(jax.random.key(0), self.source.size)

    @cached_property
    def held_out(self) -> Rows:
        """All held-out rows, leaves [m, ...]."""
        return self.source.draw(jax.random.key(0), count(self.source.split.test), held_out=True)

    @cached_property
    def judged(self) -> Callable[[Rows], dict[str, np.ndarray]]:
        """What the yardstick says of rows as many as `real`: {measure: [sets], or [] where all rows count}."""
        return partial(jax.jit(self._measures), self.real, self.held_out, self._learned)

    @cached_property
    def _learned(self) -> Any:
        return self.features.prepare(jax.random.key(0), self.source)

    def _measures(self, real: Rows, held_out: Rows, learned: Any, rows: Rows) -> dict[str, Array]:
        m, n = count(held_out), count(rows)
        embed = partial(self.features, learned=learned)
        own, pixels = embed(held_out), flat(held_out)  # [m, features], [m, h·w·c]

        def one(i: Array) -> dict[str, Array]:
            part = jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, i * m, m), rows)  # leaves [m, ...]
            found, raw = manifold(own, embed(part), NEIGHBOURS), manifold(pixels, flat(part), NEIGHBOURS)
            return {**found, "frechet": frechet(own, embed(part)), **{f"pixel {name}": raw[name] for name in raw}}

        sets = jax.lax.map(one, jnp.arange(max(1, min(n, MOST) // m)))  # leaves [sets]
        kinds = len(self.source.split.classes)
        params = train(self.judge, jax.random.key(0), rows, jnp.ones(n), pictures, kinds)
        classifier = merged(self.judge.network, pictures(held_out).shape[1:], kinds, params)
        right = classifier(pictures(held_out)).argmax(-1) == held_out["label"]  # [m]
        copies = Memorisation(quantile=0.05).of(flat(rows)[:COPIES], pixels[:COPIES], flat(real))
        return {**sets, "accuracy": right.mean(), "near": copies["near"]}


def digits() -> World:
    return World(
        Dataset.digits(),
        Learned(partial(MLP, hidden=(128, 32))),
        Learned(partial(MLP, hidden=(128,)), steps=1000),
        {
            "VAE of `digits`": first_run.chain.generator,
            "GAN": GAN(
                network=partial(MLP, hidden=(256, 256)),
                critic=partial(MLP, hidden=(256, 256)),
                steps=5000,
                learning_rate=1e-3,
            ),
            "EDM": Diffusion(
                network=partial(Denoiser, width=256), noise=EDM(), steps=6000, learning_rate=2e-3, sample_steps=18
            ),
        },
    )


def fashion() -> World:
    from experiments.images import fashion_diffusion, fashion_vae  # they read the folder

    return World(
        Dataset.load(os.environ.get("GENLOSS_DATA", "zalando-datasets") + "/fashion_mnist"),
        fashion_diffusion.CLASSIFIER,
        Learned(partial(MLP, hidden=(256,)), steps=4000, batch=128),
        {
            "VAE of `fashion_vae`": fashion_vae.chain.generator,
            "diffusion, an MLP": Diffusion(
                network=partial(Denoiser, width=1024),
                noise=Flow(prediction_type="sample"),  # of images: an MLP leaves noise in what it tells of noise
                steps=12_000,
                learning_rate=1e-3,
                drop=0.0,
                sample_steps=40,
            ),
            "diffusion, patches": Diffusion(
                network=partial(PatchDenoiser, width=96),
                # Rows of this spread; noise at which garments take shape is trained at more often than EDM does.
                noise=EDM(sampler="euler", sigma_max=20.0, sigma_data=0.8, p_mean=-0.2),
                steps=16_000,
                batch=32,
                learning_rate=5e-3,
                sample_steps=16,
                guidance=1.5,
                sample_batch=50,
            ),
        },
    )


WORLDS = {"digits": digits, "fashion": fashion}
COLUMNS = {
    "precision": 2,
    "recall": 2,
    "density": 2,
    "coverage": 2,
    "frechet": 1,
    "pixel precision": 2,
    "pixel recall": 2,
    "pixel coverage": 2,
    "near": 3,
    "accuracy": 3,
}  # measures and their decimals
SHOWN = 24  # images a line of the figure


def main(names: tuple[str, ...] = tuple(WORLDS)) -> None:
    for name in names:
        drawn(compared(name, WORLDS[name]())).savefig(f"quality-{name}.png", dpi=150)
        say(f"quality-{name}.png: the first samples of the last model, below held-out real rows")


PARTS = {name: partial(main, (name,)) for name in WORLDS}


def compared(name: str, world: World) -> dict[str, np.ndarray]:
    """Prints a line for real training rows and one for each model; images of held-out rows and of the last model."""
    found = table(
        f"{name}: {count(world.real):,} rows to learn from, {count(world.held_out):,} held out",
        "samples", "parameters", "fit, CPU s", "sampling, CPU s", *COLUMNS,
    )  # fmt: skip
    rows = world.real
    for of, model in {"real training rows": None, **world.models}.items():
        costs = ("", "", "")
        if model is not None:
            rows, *spent = fitted(model, world)
            costs = tuple(f"{cost:,.0f}" for cost in spent)
        measures = world.judged(rows)
        cells = (*costs, *(f"{np.mean(measures[measure]):.{digits}f}" for measure, digits in COLUMNS.items()))
        say("  ".join((of, *cells)))  # minutes may pass until the table is whole
        found.add_row(of, *cells)
    say(found)
    lines = {f"{name}: real": world.held_out, f"{name}: {list(world.models)[-1]}": rows}
    return {line: np.asarray(of["image"][:SHOWN]) for line, of in lines.items()}


def drawn(shown: dict[str, np.ndarray]) -> Any:
    """A line of images [n, h, w, c] for each name."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 0.75 * len(shown)), layout="constrained")
    for panel, (name, images) in zip(figure.subplots(len(shown), 1), shown.items(), strict=True):
        framed = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=255)
        panel.imshow(np.concatenate(list(framed), 1), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        panel.set_title(name, fontsize=8, loc="left")
        panel.axis("off")
    return figure


def fitted(model: Any, world: World) -> tuple[Rows, int, float, float]:
    """(as many samples as there are training rows, number of parameters, processor seconds of the fit and of them)."""
    started = time.process_time()
    model, pool, key = model.shaped(world.real), Pool.of(world.real), jax.random.key(1)
    training = jax.jit(model.begin)(key, jax.jit(model.init)(key), pool)
    advance = jax.jit(model.advance, donate_argnums=1)
    for _ in range(model.calls):
        training = advance(pool, training)
    params, _ = jax.block_until_ready(model.finish(training))
    fit, started = time.process_time() - started, time.process_time()
    rows = jax.block_until_ready(jax.jit(model.sample, static_argnums=2)(key, params, count(world.real)))
    size = sum(leaf.size for leaf in jax.tree.leaves({k: v for k, v in params.items() if k not in model.still}))
    return rows, size, fit, time.process_time() - started
