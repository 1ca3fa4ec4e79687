"""What the experiments with text claim, at a size of seconds: differences between settings, in standard errors."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
from conftest import OPTIMISED

from experiments.text import briesch_logic, decoding, drayson_detector, gerstgrasser_language, shumailov_language
from experiments.text import shakespeare_transformer as shakespeare
from generators import Transformer
from generators.nets.decoder import gpt2, llama
from simulator import Chain, Sweep, ensemble
from simulator.probes import Diet, TextDiversity, TextLoss
from simulator.recipe import Mix, Select
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


@pytest.mark.slow
def test_what_is_said_of_logic_stays_correct_while_it_grows_poorer():
    chain = dataclasses.replace(
        briesch_logic.chain,
        source=briesch_logic.Logic(most=2),
        generator=dataclasses.replace(
            briesch_logic.generator,
            network=gpt2(width=32, depth=1, heads=4),
            steps=1000,
            learning_rate=3e-3,
            sample_batch=250,
        ),
        recipe=Select(briesch_logic.regimes(500)),
        probes={"verified": briesch_logic.Verified()},
        real=500,
        rows=500,
        fresh=50,
        held_out=100,
    )
    settings = {name: briesch_logic.SETTINGS[name] for name in ("replace", "real only")}
    # Eight seeds: rounding, which training amplifies, has put one of four at 0.946, on one kind of processor.
    found = measured(chain, "recipe.index, generator.temperature", settings, 3, 8)
    said = lambda setting, metric: read(found, setting, f"verified.{metric}")  # noqa: E731
    assert_above(said("replace", "correct"), 0.95)
    assert_above(read(found, "replace", "verified.different", 0), said("replace", "different"))
    assert_above(said("real only", "different"), said("replace", "different"))


@pytest.mark.slow
def test_a_detector_learned_early_lowers_the_share_of_synthetic_text_that_is_trained_on(monkeypatch: Any):
    of = drayson_detector
    monkeypatch.setattr(of, "PROMPT", 16)
    source = dataclasses.replace(of.source, length=of.PROMPT + of.SAID)
    own = {name: getattr(of.generator, name) for name in ("vocabulary", "continuation", "batch", "temperature")}
    generator = Transformer(**own, network=TINY, steps=60, learning_rate=1e-2, sample_batch=300)
    detector = of.EarlyDetector(source, generator, 300)
    chain = of.prompted(source, generator, detector, 300)
    chain = dataclasses.replace(chain, probes={"diet": Diet(), "detector": of.Detected(detector)}, held_out=300)
    settings = {name: of.SETTINGS[name] for name in ("half synthetic", "weighed by the detector", "origin known")}
    found = measured(chain, "recipe.index", settings, 2, 4)
    share = {name: 1 - read(found, name, "diet.real") for name in settings}
    assert np.allclose(share["half synthetic"], 0.5) and np.allclose(share["origin known"], 0, atol=1e-6)
    assert_above(share["half synthetic"], share["weighed by the detector"], 5)
    assert_above(read(found, "half synthetic", "detector.auroc", 0), 0.5, 5)
