"""What the experiments with text claim, at a size of seconds: differences between settings, in standard errors."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
from conftest import OPTIMISED

from experiments.text import decoding, gerstgrasser_language, shumailov_language
from experiments.text import shakespeare_transformer as shakespeare
from generators.nets.decoder import llama
from simulator import Chain, Sweep, ensemble
from simulator.probes import TextDiversity, TextLoss
from simulator.recipe import Mix
from simulator.sources.given import Prompts

TINY = llama(width=32, depth=1, heads=2, kv_heads=None)


def measured(
    chain: Chain, path: str, settings: dict[str, Any], generations: int, seeds: int, options: Any = OPTIMISED
) -> dict[str, Any]:
    """Setting -> its record, leaves [seeds, generations, ...], of a program compiled with these options."""
    keys = jax.random.split(jax.random.key(5), seeds)
    of = Sweep(chain, path, settings)
    work = lambda keys: ensemble(of.make, of.grid, keys, generations)  # noqa: E731
    record = (jax.jit(work, compiler_options=options) if options else work)(keys)
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
        probes={"real": TextLoss()},
        real=rows,
        rows=rows,
        held_out=200,
    )


@pytest.mark.slow
def test_shakespeare_is_lost_by_replace_and_held_by_half_of_it_being_real():
    chain = small(shakespeare.chain, 500)
    found = measured(chain, "recipe.real", {"replace": 0.0, "half": 0.5, "real only": 1.0}, 4, 4)
    loss = {name: np.log(read(found, name, "real.perplexity")) for name in found}
    assert_above(loss["replace"], loss["half"])
    assert_above(loss["half"], loss["real only"])


@pytest.mark.slow
def test_the_loss_of_accumulating_is_below_that_of_replace():
    chain = dataclasses.replace(small(gerstgrasser_language.chain, 500), recipe=shakespeare.regimes(500))
    found = measured(chain, "recipe.index", gerstgrasser_language.SETTINGS, 4, 4, options=None)
    loss = {name: np.log(read(found, name, "real.perplexity")) for name in found}
    assert_above(loss["replace"], loss["accumulate"])
    assert_above(loss["accumulate"], loss["real only"])


@pytest.mark.slow
def test_cutting_and_cooling_each_cost_more_than_saying_what_is_believed_and_both_together_most():
    chain = small(decoding.chain, 500)
    chain = dataclasses.replace(chain, probes={**chain.probes, "text": TextDiversity()})
    of = {(t, p): f"temperature {t:g}, top-p {p:g}" for t in (0.7, 1.0) for p in (0.9, 1.0)}
    found = measured(chain, decoding.FIELDS, {name: decoding.SETTINGS[name] for name in of.values()}, 3, 4)
    loss = {how: np.log(read(found, name, "real.perplexity")) for how, name in of.items()}
    variety = {how: read(found, name, "text.distinct_3") for how, name in of.items()}
    for one in ((0.7, 1.0), (1.0, 0.9)):
        for less, more in (((1.0, 1.0), one), (one, (0.7, 0.9))):
            assert_above(loss[more], loss[less])
            assert_above(variety[less], variety[more])


@pytest.mark.slow
def test_fine_tuning_on_ones_own_continuations_forgets_how_real_text_goes_on():
    chain = small(shumailov_language.chain, 300, beams=3, continuation=16)
    chain = dataclasses.replace(chain, probes={"real": shumailov_language.Continuation()}, given=Prompts(16, of="real"))
    found = measured(chain, "recipe.real", shumailov_language.SETTINGS, 3, 3)
    loss = {name: np.log(read(found, name, "real.perplexity")) for name in found}
    assert_above(loss["replace"], loss["10 % real"])
    assert_above(loss["10 % real"], loss["real only"])
