"""How far simulations are off the curves that are drawn as theory."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from simulator import Chain, Pool, Truth, simulate, theory
from simulator.numerics.selection import choose


def chain_of(model: Any, recipe: Any, probe: Any, truth: Any = None, n: int = 10, **fields: Any) -> Chain:
    probes = probe if isinstance(probe, dict) else {"mine": probe}
    source = truth if isinstance(truth, Truth) else Truth(truth or model)
    return Chain(
        source=source, generator=model, recipe=recipe, probes=probes, **{"real": n, "rows": n, "held_out": 0, **fields}
    )


def deviations(chain: Chain, metrics: set[str] | None, generations: int, chains: int, seed: int = 7) -> np.ndarray:
    """By how many standard errors the mean of what many chains record is off the overlay, for all its metrics at every
    generation; where a sentence gives the law a standard error, that counts too.
    """
    found = theory.overlay(chain, generations)
    assert metrics is None or (set(found.curves) == metrics and metrics <= set(found.why))
    keys = jax.random.split(jax.random.key(seed), chains)
    record = jax.jit(jax.vmap(lambda key: simulate(chain, key, generations)))(keys).flat()
    scores = []
    for metric, curve in found.curves.items():
        samples = np.asarray(record[metric], np.float64)
        assert np.isfinite(samples).all()
        same = np.ptp(samples, 0) < 1e-5 * np.abs(curve)
        # What has no spread is the law itself, up to what happens too seldom to be seen in so many chains: an event of
        # probability 12/chains is missed with probability exp(-12).
        assert np.allclose(samples[0, same], curve[same], rtol=1e-5, atol=12 / chains)
        said = re.search(r"standard error ([\d.]+)%", found.why[metric])
        own = float(said[1]) / 100 * curve if said else 0.0
        error = np.hypot(samples.std(0, ddof=1) / np.sqrt(chains), own)
        scores.append(((samples.mean(0) - curve) / np.where(same, 1, error))[~same])
    return np.concatenate(scores) if scores else np.zeros(0)


def every_other(key: Any, t: Any, pool: Pool) -> Any:
    """By place, the same rows at every fit."""
    return pool.weight * (jnp.arange(pool.capacity) % 2 == 0)


def mostly_early(key: Any, t: Any, pool: Pool) -> Any:
    """Eight rows of the last two data sets, at random, those in earlier places rather than others."""
    place = jnp.arange(pool.capacity)
    return choose(key, pool.weight * (pool.age(t) < 2) * jnp.where(place % 4 == 0, 10.0, 1.0), 8).astype(jnp.float32)
