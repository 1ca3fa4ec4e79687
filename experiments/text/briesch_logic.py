"""Does what a model says stay correct while it says less and less?  (Briesch et al. 2023, arXiv:2311.16822)

    genloss run briesch_logic

Of a language with an exact verifier, chains of logical operations, 2,000 rows are read and said a generation; at
temperature 0.8 errors are said less often than they are believed, and so is whatever is rare.
Result: after six fits of replace correct rows are 0.99 of what is said, as in generation 0 (0.999), and different
ones 0.38 (0.54) per sample; accumulating holds 0.51, 10 % fresh rows 0.42, the control, real rows only, 0.52.  At
temperature 1 errors are passed on: 0.93 correct, 0.47 different.  Two chains a setting: standard deviations of the
different rows are 0.09, 0.001, 0.05, 0.03 and 0.03 in this order.  After 600 steps in place of 1,200 fits do or do
not learn to reckon, and the control falls.
`--preset full`: 20,000 rows of 20 operations, 128 M parameters on one accelerator; 54.9 GB, and 4.1e18 operations
of training, 173 min at 40 % of an H100's 989 TFLOP/s, as `--dry-run` says.  It has not been run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from generators import Transformer
from generators.nets.decoder import gpt2
from simulator import Chain, Sweep
from simulator.checks.fields import Count, check
from simulator.numerics.chance import fold_in, uniform
from simulator.probes import TextDiversity, TextLoss
from simulator.probes.text import windows
from simulator.recipe import Accumulate, Mix, NoFresh, Select, Then
from simulator.types import Array, Key, Recipe, View

measured = {
    "run": {"cpu_seconds": 552, "on": "two busy CPU cores", "date": "2026-11-27"},
}

SYMBOLS = ("false", "true", "and", "or", "implies", "=", ".")
CONSTANTS, OPERATIONS = 2, 3
IS, END = 5, 6
TABLE = np.array([[[0, 0], [0, 1]], [[0, 1], [1, 1]], [[1, 1], [0, 1]]])  # [operation, left, right]


@dataclass(frozen=True)
class Logic:
    """Rows "true and false = false or true = true . .": each operation goes on from the result before it.

    The number of operations is uniform, from 1 to `most`, and so are operations and constants; ends fill a row up.
    A stream does not end: short rows are in it often, and held-out rows are other draws of the same.
    """

    most: Count = 5  # operations of a row

    __post_init__ = check

    @property
    def length(self) -> int:
        """Symbols of a row: a constant, four for each operation, an end."""
        return 4 * self.most + 2

    def draw(self, key: Key, n: int, held_out: bool = False, skip: Array | int = 0) -> Array:
        """[n, length] int32; independent rows for every `skip` and for `held_out`."""
        chance = uniform(fold_in(key, 2 * skip + held_out), (n, 2 * self.most + 2))
        number = 1 + jnp.floor(chance[:, 0] * self.most).astype(jnp.int32)  # [n]
        constant = jnp.floor(chance[:, 1 : self.most + 2] * CONSTANTS).astype(jnp.int32)  # [n, most + 1]
        operation = jnp.floor(chance[:, self.most + 2 :] * OPERATIONS).astype(jnp.int32)  # [n, most]
        said = [constant[:, 0]]
        for i in range(self.most):
            result = jnp.asarray(TABLE)[operation[:, i], said[-1], constant[:, i + 1]]  # [n]
            said += [CONSTANTS + operation[:, i], constant[:, i + 1], jnp.full(n, IS), result]
        rows = jnp.stack([*said, jnp.full(n, END)], 1)
        return jnp.where(jnp.arange(self.length) <= 4 * number[:, None], rows, END).astype(jnp.int32)

    def decode(self, rows: Any) -> list[str]:
        """Rows [n, length] as text, up to the first end."""
        return [" ".join(SYMBOLS[i] for i in row).partition(" .")[0] for row in np.asarray(rows).tolist()]


class Reading(NamedTuple):
    formed: Array  # [n] bool: a constant, one operation or more with their constants and results, and ends
    correct: Array  # [n] bool: formed, and all results are right
    operations: Array  # [n]: of those, how many


def read(rows: Array) -> Reading:
    """The exact verifier, of rows [n, 4 most + 2]."""
    n, length = rows.shape
    steps = rows[:, 1 : length - 1].reshape(n, -1, 4)  # [n, most, 4]: operation, constant, "=", result
    operation, right, equals, result = jnp.moveaxis(steps, 2, 0)  # [n, most] each
    left = jnp.concatenate([rows[:, :1], result[:, :-1]], 1)  # [n, most]
    is_constant = lambda symbol: symbol < CONSTANTS  # noqa: E731
    step = is_constant(left) & (operation >= CONSTANTS) & (operation < IS) & is_constant(right) & (equals == IS)
    step = step & is_constant(result)
    there = jnp.cumprod(step, 1) == 1  # [n, most]: operations from the first one on
    ended = (steps == END).all(2)
    formed = there[:, 0] & (there | ended).all(1) & (rows[:, -1] == END)
    truth = jnp.asarray(TABLE)[operation - CONSTANTS, left, right]  # [n, most]; of no meaning where there is no step
    return Reading(formed, formed & (~there | (result == truth)).all(1), there.sum(1))


@dataclass(frozen=True)
class Verified:
    """What an exact verifier says of samples.

    `formed` and `correct` are shares of the samples; `different` counts the different correct rows, per sample, and
    `varied` per correct one; `operations` is their mean number in a formed row.
    """

    def __call__(self, key: Key, view: View) -> dict[str, Array]:
        rows = windows(view.synthetic)  # [n, length]
        found = read(rows)
        known = jnp.where(found.correct[:, None], rows, -1)  # [n, length]
        known = known[jnp.lexsort(known.T)]  # equal rows are neighbours, and those that are not correct come first
        before = jnp.concatenate([jnp.full_like(known[:1], -1), known[:-1]])
        return {
            "formed": found.formed.mean(),
            "correct": found.correct.mean(),
            "different": (known != before).any(1).mean(),
            "varied": (known != before).any(1).sum() / found.correct.sum(),
            "operations": found.operations.mean(where=found.formed),
        }


def regimes(rows: int) -> tuple[Recipe, ...]:
    """What the settings eat: replace, accumulate, 10 % fresh, real only."""
    return (
        Mix(real=0.0, size=rows),
        Then(NoFresh(), Accumulate()),
        Mix(real=0.1, size=rows, fresh=True),
        Then(NoFresh(), Mix(real=1.0, size=rows)),
    )


SETTINGS = {
    "replace": (0, 0.8),
    "replace, temperature 1": (0, 1.0),
    "accumulate": (1, 0.8),
    "10 % fresh": (2, 0.8),
    "real only": (3, 0.8),
}
generator = Transformer(
    vocabulary=len(SYMBOLS),
    network=gpt2(width=32, depth=2, heads=4),
    eos=END,
    batch=32,
    steps=1200,
    learning_rate=1e-2,
    temperature=0.8,
    sample_batch=500,
)
chain = Chain(
    source=Logic(),
    generator=generator,
    recipe=Select(regimes(2000)),
    probes={"verified": Verified(), "text": TextDiversity(), "real": TextLoss(len(SYMBOLS))},
    real=2000,
    rows=2000,
    fresh=200,
    held_out=500,
)
sweep = Sweep(chain, "recipe.index, generator.temperature", SETTINGS)
generations = 6
replicates = 2

_full = replace(
    chain,
    source=Logic(most=20),
    generator=replace(generator, network=gpt2(depth=18), dtype="bfloat16", batch=128, steps=5000, learning_rate=3e-4),
    recipe=Select(regimes(20_000)),
    real=20_000,
    rows=20_000,
    fresh=2000,
)
presets = {"full": {"chain": _full, "sweep": Sweep(_full, sweep.path, SETTINGS), "generations": 20}}
