"""Does a detector of what models wrote hold a language model's loop?  (Drayson et al. 2025, arXiv:2502.15654)

    GENLOSS_DATA=DIR genloss run drayson_detector

The protocol of the paper at a size for a CPU: each generation is fine-tuned from one base model, here 33,000 weights
pretrained on another text, by bytes, and goes on with the first 96 of real windows for 32, of which its loss is; rows
weigh (1 - p)^10.  The base is that of the embedded "english" for Shakespeare's text, and without the variable both are
"english".  The detector is a regression on n-grams that learned from real rows and what generations 0 and 1 of replace
said; all chains share it and the base, whose chance is in no error.  Diets are of 1,000 rows, three chains a setting.
Result: perplexity of held-out continuations, 13.2 in generation 0, is after two more fits 19.2 under replace, 14.3
where half is synthetic, 14.1 weighed by the detector, 13.3 where origins are known (the real half alone) and 13.1 for
the control, real rows only.  The detector tells generation 0 with AUROC 0.82 and lowers the synthetic share from 0.5 to
0.16 (standard error 0.01), but to 0.46 (0.02) in the next fit: models weighed by it say what it takes for real, and its
AUROC of them is 0.55, where it rises to 0.94 of the untouched half and 0.98 of replace.  That the loop is held does not
come out: weights gain 0.2 in perplexity (0.2), of the 1.0 (0.1) that knowing gains.  They leave 250 to 360 effective
rows, and text more varied than the control's: distinct trigrams 0.24 for 0.20, 0.15 untouched.
`--preset full`: GPT-2's 124 M parameters, ten generations, a detector that learns from a fifth of each diet, for one
accelerator; 26.5 GB, and 6.0e16 operations of training, 151 s at 40 % of an H100's 989 TFLOP/s, as `--dry-run` says.
`--preset smollm2`: SmolLM2's 135 M.  Neither has been run.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from experiments.text import shakespeare_transformer as base
from experiments.text.shumailov_language import Continuation
from generators import Transformer
from generators.nets.decoder import llama
from simulator import Chain, Pool, Sweep, Text, schedule
from simulator.checks.fields import Count, check
from simulator.numerics.chance import fold_in
from simulator.pool import Rows
from simulator.probes import Diet, HashedNgrams, Reader, TextDiversity
from simulator.probes.detection import auroc
from simulator.probes.tabular import logistic, with_one
from simulator.probes.text import windows
from simulator.recipe import Accumulate, Mix, Reweigh, Select, Then
from simulator.recipe.suspects import Detector, ReweighSuspects, Suspect
from simulator.sources.given import Prompts
from simulator.types import Array, Key, Params, Probe, View

measured = {
    "run": {"cpu_seconds": 168, "on": "two busy CPU cores", "date": "2026-11-27"},
}

PROMPT, SAID = 96, 32  # tokens of a row


@dataclass(frozen=True, kw_only=True)
class Pretrained(Transformer):
    """A model that every generation begins at: trained on other text, once in a process, the same for all chains."""

    text: Text
    pretraining: Count = 500  # steps, with the loss on all tokens

    def init(self, key: Key) -> Params:
        return _pretrained(self)


@functools.lru_cache
def _pretrained(model: Pretrained) -> Params:
    own = {field.name: getattr(model, field.name) for field in dataclasses.fields(Transformer)}
    plain = Transformer(**{**own, "steps": model.pretraining, "continuation": None})
    with jax.ensure_compile_time_eval():
        return Reader(plain).prepare(jax.random.key(0), model.text)


def ngrams(rows: Rows) -> Array:
    """What a detector reads of rows: the n-grams of their last tokens, [n, 256]."""
    return HashedNgrams(order=2, width=256)(windows(rows)[:, -SAID:])


@dataclass(frozen=True)
class EarlyDetector:
    """The probability that the end of a row is a model's, by a regression on n-grams learned before all chains.

    From `rows` real rows and what generations 0 and 1 of replace said of their beginnings, with another key.
    """

    source: Text
    generator: Transformer
    rows: Count = 1000

    __post_init__ = check

    def __call__(self, rows: Rows) -> Array:
        """[n], in [0, 1]."""
        return jax.nn.softmax(with_one(ngrams(rows)) @ _learned(self))[:, 1]


@functools.lru_cache
def _learned(detector: EarlyDetector) -> Array:
    with jax.ensure_compile_time_eval():  # whoever asks first may be within a trace, whose values must not be kept
        key, n = jax.random.key(1), detector.rows
        real = jnp.asarray(detector.source.draw(key, n))  # [n, length]
        model = detector.generator.shaped(real)
        fit = jax.jit(lambda key, rows: model.fit(key, model.init(key), Pool.of(rows))[0])
        say = jax.jit(lambda key, params: model.sample(key, params, n, real[:, :PROMPT]))
        early = [real]
        for t in range(2):
            early.append(say(fold_in(key, 2 * t), fit(fold_in(key, 2 * t + 1), early[-1])))
        x = jnp.concatenate([ngrams(rows) for rows in early])  # [3 n, 256]
        synthetic = jnp.repeat(jnp.array([0, 1]), jnp.array([n, 2 * n]), total_repeat_length=3 * n)
        return jax.jit(logistic, static_argnums=3)(x, synthetic, jnp.where(synthetic == 1, 0.5, 1.0), 2)  # [257, 2]


@dataclass(frozen=True)
class Detected:
    """How well a detector tells samples from held-out rows: `auroc`, and its mean probabilities of each."""

    detector: EarlyDetector

    def __call__(self, key: Key, view: View) -> dict[str, Array]:
        # The reference is a constant of the program: the barrier keeps the compiler from computing with it.
        real, said = (self.detector(jax.lax.optimization_barrier(rows)) for rows in (view.reference, view.synthetic))
        return {"auroc": auroc(real, said), "real": real.mean(), "said": said.mean()}


@dataclass(frozen=True)
class Ends:
    """A probe of the ends of rows alone: their beginnings are real."""

    probe: Probe

    def __call__(self, key: Key, view: View) -> dict[str, Array]:
        real, said = (
            windows(jax.lax.optimization_barrier(rows))[:, -SAID:] for rows in (view.reference, view.synthetic)
        )
        return self.probe(key, view._replace(reference=real, synthetic=said))


def diets(rows: int, suspect: Suspect) -> Select:
    """What the settings eat, in their order; all that is half synthetic draws the same rows."""
    half = Mix(real=0.5, size=rows)
    weighed = ReweighSuspects(suspect, power=schedule("step", 0.0, 10.0, 1))  # generation 0 is not weighed
    mixed = (Then(half, after) for after in (Accumulate(), weighed, Reweigh(real=1.0)))
    return Select((Then(Mix(real=0.0, size=rows), Accumulate()), *mixed, Then(Mix(real=1.0, size=rows), Accumulate())))


SETTINGS = {"replace": 0, "half synthetic": 1, "weighed by the detector": 2, "origin known": 3, "real only": 4}


def prompted(source: Text, generator: Transformer, suspect: Suspect, rows: int) -> Chain:
    """The chain whose rows are 96 tokens of real text and 32 that follow."""
    return Chain(
        source=source,
        generator=generator,
        recipe=diets(rows, suspect),
        probes={"real": Continuation(), "text": Ends(TextDiversity()), "diet": Diet()},
        real=rows,
        rows=rows,
        held_out=500,
        start="base",
        given=Prompts(PROMPT, of="real"),
    )


source = dataclasses.replace(base.text(PROMPT + SAID), level="byte")
generator = Pretrained(
    vocabulary=256,
    network=llama(width=32, depth=2, heads=2, kv_heads=None),
    text=Text("english", length=PROMPT + SAID, level="byte"),
    continuation=SAID,
    batch=16,
    steps=40,
    learning_rate=6e-3,
    temperature=0.8,
    sample_batch=500,
)
DETECTOR = EarlyDetector(source, generator)
chain = prompted(source, generator, DETECTOR, 1000)
chain = dataclasses.replace(chain, probes={**chain.probes, "detector": Detected(DETECTOR)})
sweep = Sweep(chain, "recipe.index", SETTINGS)
generations = 3
replicates = 3


def _published(model: Transformer) -> dict[str, object]:
    """A model of published size; its detector learns from a fifth of each diet, whose origin is known."""
    tuned = dataclasses.replace(model, continuation=SAID, temperature=0.8)
    of = prompted(base.text(PROMPT + SAID, "bpe:4096"), tuned, Detector(known=0.2, features=ngrams), 500)
    return {"chain": of, "sweep": Sweep(of, "recipe.index", SETTINGS), "generations": 10, "replicates": None}


presets = {"full": _published(base.GPT2), "smollm2": _published(base.SMOLLM2)}
