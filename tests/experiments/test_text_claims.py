"""What the experiments with text claim, at a size of seconds: differences between settings, in standard errors."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from experiments.text import gerstgrasser_language
from experiments.text import shakespeare_transformer as shakespeare
from generators.nets.decoder import llama
from simulator import Chain, Sweep, ensemble
from simulator.probes import TextDiversity, TextLoss
from simulator.recipe import Mix

TINY = llama(width=32, depth=1, heads=2, kv_heads=None)


def measured(chain: Chain, path: str, settings: dict[str, Any], generations: int, seeds: int) -> dict[str, Any]:
    """Setting -> its record, leaves [seeds, generations, ...]."""
    keys = jax.random.split(jax.random.key(5), seeds)
    of = Sweep(chain, path, settings)
    record = ensemble(of.make, of.grid, keys, generations)
    return {name: jax.tree.map(lambda leaf, i=i: np.asarray(leaf)[i], record) for i, name in enumerate(settings)}


def assert_above(higher: Any, lower: Any, sigmas: float = 3.0) -> None:
    """That the mean over seeds [n] of differences is above 0 by so many standard errors of it."""
    apart = np.asarray(higher, np.float64) - np.asarray(lower, np.float64)
    error = apart.std(ddof=1) / np.sqrt(len(apart))
    assert apart.mean() > sigmas * error, f"{apart.mean():.4g} ± {error:.2g}"


def read(found: dict[str, Any], setting: str, metric: str, t: int = -1) -> np.ndarray:
    return found[setting][metric][:, t]


def small(chain: Chain, rows: int, **fields: Any) -> Chain:
    """The chain with fewer rows, and a generator of one narrow layer."""
    generator = dataclasses.replace(chain.generator, **{"network": TINY, "steps": 60, **fields})  # pyright: ignore[reportArgumentType]
    return dataclasses.replace(
        chain,
        source=shakespeare.text(32),
        generator=generator,
        recipe=Mix(real=0.0, size=rows),
        probes={"real": TextLoss(), "text": TextDiversity()},
        real=rows,
        rows=rows,
        held_out=200,
    )


@pytest.mark.slow
def test_the_loss_of_accumulating_is_below_that_of_replace():
    chain = dataclasses.replace(small(gerstgrasser_language.chain, 500), recipe=shakespeare.regimes(500))
    found = measured(chain, "recipe.index", gerstgrasser_language.SETTINGS, 4, 4)
    loss = {name: np.log(read(found, name, "real.perplexity")) for name in found}
    assert_above(loss["replace"], loss["accumulate"])
    assert_above(loss["accumulate"], loss["real only"])
