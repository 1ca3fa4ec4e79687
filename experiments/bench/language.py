"""A small language model on characters: training, its loss, sampling, and many at once, against plain PyTorch.

`python -m experiments.bench language`, or one part: `language.train`, `language.loss`, `language.sample`,
`language.ensemble`.  The sizes are those that nanoGPT gives for a CPU: 4 layers, 4 heads, 128 channels, 64 tokens of
context, batches of 12, 2,000 steps; its validation loss is 1.88.  The loss needs tinyshakespeare, in the folder of data
sets named by GENLOSS_DATA; speed does not depend on what is read.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench import say, table
from generators.nets.decoder import gpt2
from generators.transformer import Transformer
from simulator.pool import Pool
from simulator.sources.text import Text

# 65 tokens of which 64 are predicted, each from at least one before it, as nanoGPT counts.
MODEL = Transformer(
    vocabulary=65, length=65, continuation=64, network=gpt2(128, 4, 4), steps=2000, chunk=50, batch=12,
    learning_rate=2e-3, average=0.99,
)  # fmt: skip
ROWS, MODELS, ROUNDS = 64, 16, 3


def main() -> None:
    for part in PARTS.values():
        part()


def noise(n: int = 4096) -> np.ndarray:
    """Rows of any tokens."""
    return np.random.default_rng(0).integers(0, MODEL.vocabulary, (n, MODEL.length or 0)).astype(np.int32)


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """(seconds, seconds of processors) of one call."""
    clock = lambda: sum(resource.getrusage(resource.RUSAGE_SELF)[:2])  # noqa: E731
    started, before = time.perf_counter(), clock()
    jax.block_until_ready(work())
    return time.perf_counter() - started, clock() - before


def compared(title: str, unit: str, much: float, works: dict[str, Callable[[], Any]]) -> None:
    """The best of a few rounds, in each of which all take their turn; speeds against the first."""
    best = {name: (float("inf"), float("inf")) for name in works}
    for work in works.values():
        work()
    for _ in range(ROUNDS):
        for name, work in works.items():
            best[name] = tuple(map(min, best[name], timed(work)))  # pyright: ignore[reportArgumentType]
    found = table(title, "", f"{unit} / s", "times the first", f"{unit} / processor s", "times the first")
    (wall, busy), *_ = best.values()
    for name, (took, used) in best.items():
        shown = (much / took, wall / took, much / used, busy / used)
        found.add_row(name, f"{shown[0]:,.1f}", f"{shown[1]:.2f}", f"{shown[2]:,.1f}", f"{shown[3]:.2f}")
    say(found)


def of_torch(work: Callable[[Any], Callable[[], Any]], name: str = "PyTorch") -> dict[str, Callable[[], Any]]:
    """The same in PyTorch, by one thread and by one for each core, where it is installed."""
    if not importlib.util.find_spec("torch"):
        say("PyTorch is not installed: pip install genloss[torch]")
        return {}
    import torch

    from experiments.bench import nanogpt

    job = work(nanogpt)

    def by(threads: int) -> Callable[[], Any]:
        def run() -> None:
            torch.set_num_threads(threads)
            job()

        return run

    cores = os.cpu_count() or 1
    return {f"{name}, {n} thread{'s' * (n > 1)}": by(n) for n in sorted({1, cores})}


def train() -> None:
    """Steps a second: rows drawn, a gradient, clipping, AdamW."""
    rows, key = noise(), jax.random.key(0)
    pool, params = Pool.of(jnp.asarray(rows)), jax.jit(MODEL.init)(key)
    begun = jax.jit(MODEL.begin)(key, params, pool)
    advance = jax.jit(MODEL.advance).lower(pool, begun).compile()

    def job(nanogpt: Any) -> Callable[[], Any]:
        steps = nanogpt.training(MODEL, rows)
        return lambda: steps(MODEL.chunk)

    here = {"here": lambda: advance(pool, begun)}
    compared("training, batches of 12 x 64 tokens", "steps", MODEL.chunk, {**of_torch(job), **here})


def sample() -> None:
    """Tokens a second, drawn and greedy: with a cache here and in transformers, without one in nanoGPT."""
    drawing = dataclasses.replace(MODEL, length=64, continuation=None, sample_batch=ROWS)
    params, key = jax.jit(drawing.init)(jax.random.key(0)), jax.random.key(1)
    for what, model in (("drawn", drawing), ("greedy", dataclasses.replace(drawing, temperature=0.0))):
        said = jax.jit(model.sample, static_argnums=2).lower(key, params, ROWS).compile()

        def job(nanogpt: Any, model: Transformer = model) -> Callable[[], Any]:
            return functools.partial(nanogpt.built(model).say, ROWS, 64, model.temperature == 0)

        def generate(nanogpt: Any, model: Transformer = model) -> Callable[[], Any]:
            return nanogpt.generating(model, ROWS, 64)

        others = {**of_torch(job), **of_torch(generate, "transformers, with a cache")}
        here = {"here, with a cache": functools.partial(said, key, params)}
        compared(f"sampling, {ROWS} rows of 64 tokens, {what}", "tokens", ROWS * 64, {**others, **here})


def ensemble() -> None:
    """Steps a second of each of many models in one program, against one model alone."""
    pool, keys = Pool.of(jnp.asarray(noise())), jax.random.split(jax.random.key(0), MODELS)
    model = dataclasses.replace(MODEL, chunk=10)

    def work(keys: jax.Array, lift: Callable[..., Any]) -> Callable[[], Any]:
        begun = jax.jit(lift(lambda key: model.begin(key, model.init(key), pool)))(keys)
        advance = jax.jit(lift(lambda begun: model.advance(pool, begun))).lower(begun).compile()
        return lambda: jax.block_until_ready(advance(begun))

    one, many = work(keys[0], lambda f: f), work(keys, jax.vmap)
    works = {
        "one model, one after the other": lambda: [one() for _ in range(MODELS)],
        f"{MODELS} in one program, side by side": many,
        f"{MODELS} in one program, in turn": work(keys, lambda f: lambda each: jax.lax.map(f, each)),
    }
    compared("many models", "steps of all", MODELS * model.chunk, works)


def loss() -> None:
    """The validation loss after 2,000 steps, in nats per character."""
    folder = os.environ.get("GENLOSS_DATA")
    if not folder:
        say("language.loss: GENLOSS_DATA names no folder of data sets")
        return
    text = Text(str(Path(folder) / "tinyshakespeare" / "input.txt"), length=MODEL.length or 0)
    assert len(text.alphabet) == MODEL.vocabulary
    pool, key = Pool.of(jnp.asarray(text.split.train)), jax.random.key(0)
    started = time.perf_counter()
    params, _ = jax.block_until_ready(jax.jit(MODEL.fit)(key, MODEL.init(key), pool))
    took = time.perf_counter() - started
    held_out = jnp.asarray(text.split.test)
    found = -jax.jit(MODEL.token_log_prob)(params, held_out)[:, 1:]  # [m, 64]
    error = float(found.mean(1).std() / len(found) ** 0.5)
    say(
        f"validation loss {float(found.mean()):.3f} ± {error:.3f} nats per character of the last fifth of "
        f"tinyshakespeare, after {MODEL.steps:,} steps in {took:.0f} s, compiling included"
    )


PARTS: dict[str, Callable[[], None]] = {"train": train, "sample": sample, "ensemble": ensemble, "loss": loss}

if __name__ == "__main__":
    main()
