"""Every family of trained models beside the same network in PyTorch: rates, seconds of compiling, quality of one fit.

`taskset -c 1 python -m experiments.bench families`.  Seconds are a processor's, so that a machine's other work does not
count, and PyTorch has one thread.  A family is a line of `FAMILIES` and its twin in `family_twins.py`; one without a
twin is timed alone.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np

from experiments.bench import say, spent, table
from experiments.published import shumailov_vae
from experiments.published.flow_moons import Moons
from generators.coupling import Affine
from generators.diffusion import Diffusion
from generators.edm import EDM
from generators.flow import Flow
from generators.games import Wasserstein
from generators.gan import GAN
from generators.likelihood import DiscretisedLogistic
from generators.meanflow import MeanFlow
from generators.mixture import Mixture, grid_modes
from generators.nets.autoencoder import mixers
from generators.nets.denoiser import Denoiser
from generators.prices import Heston
from generators.table_diffusion import TableDiffusion
from generators.tvae import TVAE
from generators.vae import VAE
from simulator import Dataset, Table, Truth
from simulator.abilities import taught
from simulator.pool import Pool, count
from simulator.probes import Fidelity, Mixed
from simulator.types import Source, View


@dataclass(frozen=True)
class Family:
    model: Any  # a `Trained` generator
    source: Source = Dataset.digits()
    real: int = 1000  # rows of the fit, and of the sample that is measured
    held_out: int = 300  # rows that it is measured against
    measure: Fidelity = Fidelity()


FEW = 30  # steps of the twin's fit that are timed
RETURNS = Diffusion(noise=EDM(sigma_data=1.26), steps=2000, batch=64, learning_rate=2e-3, sample_steps=18)
FAMILIES = {
    "VAE, digits": Family(VAE(hidden=(128, 128), beta=0.1, batch=64, learning_rate=4e-3)),
    "VAE, convolutional, digits": Family(shumailov_vae.chain.generator),
    "VAE, mixers, logistic, digits": Family(
        VAE(network=mixers, hidden=(32, 32), likelihood=DiscretisedLogistic(levels=17), batch=64, beta=0.3)
    ),
    "flow, affine, digits": Family(Flow(coupling=Affine(), hidden=(128,), levels=17, steps=400)),
    "flow, spline, moons": Family(Flow(pairs=3, hidden=(32, 32), steps=400), Truth(Moons())),
    "TVAE, tumours": Family(TVAE(), Table.breast_cancer(), 450, 113, Fidelity(features=Mixed())),
    "diffusion, tumours": Family(TableDiffusion(), Table.breast_cancer(), 450, 113, Fidelity(features=Mixed())),
    "diffusion, returns": Family(RETURNS, Truth(Heston(length=32))),
    "GAN, digits": Family(GAN(batch=64, steps=1000)),
    "WGAN-GP, points": Family(GAN(game=Wasserstein(), critic_steps=5, latent=2), Truth(Mixture(2, 25), grid_modes(5))),
    "diffusion, digits": Family(Diffusion(network=partial(Denoiser, width=128), steps=600)),
    "mean flow, one step, digits": Family(
        Diffusion(noise=MeanFlow(), steps=1000, learning_rate=2e-3, average=0.99, sample_steps=1)
    ),
}


def main() -> None:
    torch = importlib.util.find_spec("torch") is not None
    found = table(
        "one fit of each family, processor seconds: rates against PyTorch's with one thread",
        "family", "parameters", "steps", "batch", "steps / s", "PyTorch", "samples / s", "PyTorch", "compile, s",
        "fit, s", "recall", "Fréchet",
    )  # fmt: skip
    for name, family in FAMILIES.items():
        cells = measured(family, torch)
        say("  ".join((name, *cells)))
        found.add_row(name, *cells)
    say(found)


def measured(family: Family, torch: bool) -> tuple[str, ...]:
    """The cells of a family's line."""
    for_rows, key = jax.random.key(0), jax.random.key(1)
    rows = family.source.draw(for_rows, family.real)
    reference = family.source.draw(for_rows, family.held_out, held_out=True)
    model, pool = family.model.shaped(rows), Pool.of(rows)
    params = jax.jit(model.init)(key)
    begun = jax.jit(model.begin)(key, params, pool)
    started = time.process_time()
    advance = jax.jit(model.advance).lower(pool, begun).compile()
    sample = jax.jit(model.sample, static_argnums=2).lower(key, params, family.real).compile()
    compiling = time.process_time() - started

    training = begun
    for _ in range(model.calls):
        training = advance(pool, training)
    fitted, _ = model.finish(training)
    said = sample(key, fitted)
    learned = taught({"fidelity": family.measure}, key, family.source)
    view = View(np.int32(0), fitted, pool, said, reference, model, None, learned)  # pyright: ignore[reportArgumentType]
    quality = jax.jit(lambda view_rows: family.measure(key, view._replace(synthetic=view_rows)))(said)

    chunk, there = min(model.chunk, model.steps), _twin(model, params, rows) if torch else None
    ours, saying = least(lambda: advance(pool, begun)), least(lambda: sample(key, params))
    theirs = said_there = None
    if there is not None:
        theirs, said_there = least(_training(model, there, rows, FEW)), least(partial(there.sample, family.real))
    count = sum(leaf.size for leaf in jax.tree.leaves({k: v for k, v in params.items() if k not in model.still}))
    rates = (f"{of / took:,.0f}" if took else "" for of, took in (
        (chunk, ours), (FEW, theirs), (family.real, saying), (family.real, said_there)
    ))  # fmt: skip
    numbers = (f"{compiling:.1f}", f"{ours * model.calls:.1f}", f"{quality['recall']:.2f}", f"{quality['frechet']:.2f}")
    return f"{count:,}", f"{model.steps}", f"{model.batch}", *rates, *numbers


def least(work: Callable[[], Any], turns: int = 3) -> float:
    """The least of the processor seconds of a few turns, the first of which warms up."""
    return min(spent(work)[1] for _ in range(turns))


def _twin(model: Any, params: Any, rows: Any) -> Any:
    """The twin, on one thread, or None."""
    import torch

    from experiments.bench.family_twins import twin

    torch.set_num_threads(1)
    return twin(model, params, rows)


def _training(model: Any, there: Any, rows: Any, steps: int) -> Callable[[], None]:
    """So many steps of the twin's fit."""
    from experiments.bench import pytorch

    if hasattr(there, "steps"):
        return partial(there.steps, steps)
    return partial(pytorch.descent(model, there, count(rows), there.losses), steps)
