"""What chains that accumulate on the 50,000 rows of a Fashion-MNIST need: each with its own, and real rows held once.

`python -m experiments.bench memory` compiles the beginning, the steps and the end of a generation and asks the
compiler; nothing is run.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench import say, table
from generators import VAE
from simulator import Chain
from simulator.pool import Rows
from simulator.recipe import Accumulate
from simulator.running import ahead, memory
from simulator.running.drive import Drive
from simulator.sources.split import Split, Stream
from simulator.types import Array, Key

REAL, WRITTEN, GENERATIONS = 50_000, 1000, 5


@functools.cache
def pictures() -> Split:
    """Random pictures of 28x28 pixels: their bytes matter, and not what they show."""
    chance = np.random.default_rng(0)
    train, test = (
        {"image": chance.integers(0, 256, (n, 28, 28, 1), np.uint8), "label": np.arange(n, dtype=np.int32) % 10}
        for n in (REAL, 1000)
    )
    return Split(train, test, tuple("0123456789"), "random")


@dataclass(frozen=True)
class Once(Stream):
    """Serves rows of one table."""

    reuse: bool = False

    @property
    def split(self) -> Split:
        return pictures()

    @property
    def supply(self) -> str:
        return f"there are {REAL:,}"


@dataclass(frozen=True)
class Each(Once):
    """The same by a `draw` of its own, whose rows every chain holds for itself, as before they were shared."""

    def draw(self, key: Key, n: int, held_out: bool = False, skip: Array | int = 0) -> Rows:
        return super().draw(key, n, held_out, skip)


def needed(source: Stream, chains: int) -> tuple[int, int]:
    """Bytes of the pools of so many chains with what they share, and of the one of three programs that needs most."""
    model = VAE(steps=2, chunk=1, batch=128, hidden=(32,), latent=4)
    chain = Chain(source=source, generator=model, recipe=Accumulate(), real=REAL, rows=WRITTEN, held_out=1000)
    drive = Drive(chain, jax.random.key(0), GENERATIONS, chains)
    state = ahead.told(drive.init, ahead.told(drive.new, jnp.int32(-1)))
    programs = {piece.func.__name__: piece.func.lower(*piece.args, *a) for piece, a in ahead.calls(drive, state)}
    quickly = {"xla_backend_optimization_level": 0}  # memory is laid out before
    needs = [
        memory.taken(programs[name].compile(compiler_options=quickly)) for name in ("begin", "advance", "remember")
    ]
    return memory.bytes_of(state.pool) + memory.bytes_of(drive.table), max(needs)


def main() -> None:
    found = table(
        f"{GENERATIONS} generations of {WRITTEN:,} rows on {REAL:,} real ones of 28x28 pixels, MB",
        "chains",
        "pools, rows of each its own",
        "a program",
        "pools, real rows once",
        "a program",
    )
    for chains in (1, 8, 64):
        numbers = (*needed(Each(), chains), *needed(Once(), chains))
        found.add_row(f"{chains}", *(f"{n / 1e6:,.0f}" for n in numbers))
    say(f"\n{found}")
