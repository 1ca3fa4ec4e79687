"""Experiments with text: all can be built, and the verifier is exact."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.command.loading import files, load_module
from experiments.text.briesch_logic import END, IS, SYMBOLS, Logic, read
from generators.transformer import Transformer
from simulator import Sweep

NAMES = [name for name, file in files().items() if file.parent.name == "text"]
MEANING = {
    "and": lambda a, b: a and b,
    "or": lambda a, b: a or b,
    "implies": lambda a, b: not a or b,
}


def checked(text: str) -> tuple[bool, bool]:
    """Whether words are a chain of operations, and whether its results are right; by reading it word by word."""
    words = text.split()
    constant = {"false": False, "true": True}
    if len(words) < 5 or len(words) % 4 != 1 or words[0] not in constant:
        return False, False
    value, right = constant[words[0]], True
    for i in range(1, len(words), 4):
        operation, operand, equals, result = words[i : i + 4]
        if operation not in MEANING or operand not in constant or equals != "=" or result not in constant:
            return False, False
        right &= constant[result] == MEANING[operation](value, constant[operand])
        value = constant[result]
    return True, right


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_and_preset_has_a_control_of_real_rows_only(name: str):
    module = load_module(name)
    for of in ({"chain": module.chain, "sweep": module.sweep}, *module.presets.values()):
        assert isinstance(of["sweep"], Sweep) and of["sweep"].chain is of["chain"] and "real only" in of["sweep"].values
    sizes = {part: sum(a.size for a in jax.tree.leaves(shapes(chain))) for part, chain in parts(module).items()}
    assert 120e6 < sizes["full"] < 140e6 and sizes["chain"] < 1e6


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_setting_is_one_program_that_can_be_traced(name: str):
    load_module(name).sweep.check()


def parts(module: Any) -> dict[str, Any]:
    return {"chain": module.chain, "full": module.presets["full"]["chain"]}


def shapes(chain: Any) -> Any:
    """Those of new weights, also of a model that would begin with trained ones."""
    return jax.eval_shape(lambda: Transformer.init(chain.model, jax.random.key(0)))


def test_the_verifier_agrees_with_reading_word_by_word():
    """On all rows of one operation, right, wrong and without form, and on long ones with a symbol changed."""
    short = np.array(list(itertools.product(range(len(SYMBOLS)), repeat=5)))
    short = np.concatenate([short, np.full((len(short), 1), END)], 1)
    chance = np.random.default_rng(0)
    long = np.array(Logic().draw(jax.random.key(0), 2000))
    long[np.arange(2000), chance.integers(0, long.shape[1], 2000)] = chance.integers(0, len(SYMBOLS), 2000)
    for rows in (short, long):
        found = read(jnp.asarray(rows, jnp.int32))
        ends = [bool((row[row.tolist().index(END) :] == END).all()) if END in row else False for row in rows]
        said = [checked(text) if end else (False, False) for text, end in zip(Logic().decode(rows), ends, strict=True)]
        assert np.array_equal(np.stack([found.formed, found.correct], 1), said)
        assert 0 < np.mean(found.correct) < np.mean(found.formed) < 1


def test_real_rows_of_logic_are_correct_and_their_parts_uniform():
    rows = Logic().draw(jax.random.key(1), 20_000)
    found = read(rows)
    assert bool(found.correct.all())
    assert not np.array_equal(rows, Logic().draw(jax.random.key(1), 20_000, held_out=True))
    for counts in (np.bincount(found.operations)[1:], np.bincount(np.ravel(rows[:, 1]))[2:IS]):
        expected = counts.sum() / len(counts)
        assert ((counts - expected) ** 2 / expected).sum() < len(counts) - 1 + 5 * np.sqrt(2 * (len(counts) - 1))
