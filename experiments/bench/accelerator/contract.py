"""Whether the core keeps its promises on this device: a law, one result however a chain is driven, and `digits`."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench.accelerator import TOY, Report, sized
from experiments.images import digits as experiment
from generators import Gaussian
from generators.nets.mlp import MLP
from generators.vae import VAE
from simulator import Chain, Dataset, Progress, Record, Sweep, Truth, ensemble, run, simulate
from simulator.probes import Downstream, Fidelity
from simulator.recipe import Mix, Replace
from simulator.theory.gaussian import replace_variance

N, FITS = 100, 50


class Stopped(Exception):
    """A run's end before its end."""


def variance(key: jax.Array, view: Any) -> jax.Array:
    return view.params.cov[0, 0]


def brightness(key: jax.Array, view: Any) -> jax.Array:
    return view.synthetic["image"].astype(jnp.float32).mean()


def contract(report: Report) -> None:
    """Each promise by itself: one that is broken, or cannot be tried, hides no other."""
    for promise in (law, one_loop, together, resumed):
        name = promise.__name__
        try:
            report.note("contract", **{name: promise()})
        except Exception as error:  # of whatever kind
            report.note("contract", **{name: {"error": " ".join(f"{type(error).__name__}: {error}".split())[:500]}})


def gaussian() -> Chain:
    model = Gaussian(1)
    return Chain(source=Truth(model), generator=model, recipe=Replace(), probes={"s": variance}, real=N, rows=N)


def law() -> dict[str, Any]:
    """E[S_t] = (1 - 1/n)^t under replace, in standard errors over many chains (Shumailov et al., arXiv:2305.17493)."""
    chains, chain = sized(65_536, 1024), gaussian()
    found = jax.jit(jax.vmap(lambda key: simulate(chain, key, FITS)["s"]))(jax.random.split(jax.random.key(0), chains))
    found = np.asarray(found, float)  # [chains, fits]
    errors = (found.mean(0) - replace_variance(N, FITS)) / (found.std(0) / chains**0.5)  # [fits]
    return {"holds": bool(abs(errors).max() < 5), "chains": chains, "largest error, standard errors": abs(errors).max()}


def one_loop() -> dict[str, Any]:
    """A scan and a loop from the host give the same bits."""
    return same(simulate(gaussian(), jax.random.key(1), FITS), run(gaussian(), jax.random.key(1), FITS))


def together() -> dict[str, Any]:
    """Chains of an ensemble are those that run alone."""

    def make(real: Any) -> Chain:
        return dataclasses.replace(gaussian(), recipe=Mix(real=real, size=N))

    shares, keys = (0.0, 0.5), jax.random.split(jax.random.key(2), 3)
    found = ensemble(make, jnp.asarray(shares), keys, 10)
    alone = [[simulate(chain, key, 10) for key in keys] for chain in map(make, shares)]
    stacked = [jax.tree.map(lambda *leaves: jnp.stack(leaves), *row) for row in alone]
    return same(found, jax.tree.map(lambda *leaves: jnp.stack(leaves), *stacked))


def resumed() -> dict[str, Any]:
    """A trained chain that is stopped inside its second fit and called again ends as the one that was not stopped."""
    chain = Chain(
        source=Dataset.digits(),
        generator=VAE(steps=60, chunk=20, batch=32, hidden=(24,), latent=4),
        probes={"brightness": brightness},
        real=100,
        rows=100,
    )
    drive = partial(run, chain, jax.random.key(3), 3, save_seconds=0.0)

    def stop(progress: Progress) -> None:
        if progress.done == 1 and progress.part > 0.5:
            raise Stopped

    with tempfile.TemporaryDirectory() as folder:
        with contextlib.suppress(Stopped):
            drive(f"{folder}/run", report=stop)
        return same(drive(), drive(f"{folder}/run"))


def same(one: Record, other: Record) -> dict[str, Any]:
    """Whether all that is recorded is the same to the bit, and by how much it differs at most, relative to its size."""
    pairs = [(np.asarray(a), np.asarray(b)) for a, b in zip(*map(jax.tree.leaves, (one, other)), strict=True)]
    apart = [np.abs(a - b).max() / max(np.abs(a).max(), 1e-30) for a, b in pairs]
    equal = all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)
    return {"holds": equal, "largest difference": float(np.nanmax(apart))}


def digits(report: Report) -> None:
    """`genloss run digits`: seconds by what they were spent on, and the figures of each setting at the last fit."""
    subject, generations, replicates = experiment.sweep, experiment.generations, experiment.replicates
    if TOY:
        subject, generations, replicates = toy(), 2, 1
    spent: list[dict[str, float]] = []
    note: Callable[[Progress], None] = lambda progress: spent.append(progress.seconds) if progress.seconds else None  # noqa: E731
    started = time.perf_counter()
    record = run(subject, jax.random.key(0), generations, replicates=replicates, report=note)
    total, each = time.perf_counter() - started, {name: np.mean([s[name] for s in spent[1:]]) for name in spent[0]}
    report.note(
        "digits",
        **{"generations": generations, "chains": len(subject.values) * replicates, "total, s": total},
        **{"a generation, s": {name: round(float(value), 4) for name, value in each.items()}},
        **{"compiling and starting, s": total - generations * float(sum(each.values()))},
    )
    for metric in ("downstream.samples.accuracy", "fidelity.recall"):
        last = np.asarray(record.flat()[metric], float)[..., -1].mean(-1)  # [settings]
        report.note("digits", **{metric: dict(zip(subject.values, np.round(last, 4).tolist(), strict=True))})


def toy() -> Sweep:
    """The same with small networks that are not trained to the end."""
    chain = dataclasses.replace(
        experiment.chain,
        generator=VAE(hidden=(16,), steps=20, chunk=20, batch=32),
        recipe=Mix(real=0.0, size=100),
        probes={"fidelity": Fidelity(), "downstream": Downstream(partial(MLP, hidden=(8,)), steps=10)},
        real=100,
        rows=100,
        held_out=50,
    )
    return Sweep(chain, "recipe.real", {"replace": 0.0, "real only": 1.0})
