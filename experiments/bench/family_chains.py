"""Every family in a chain: processor seconds a generation, recall of generations 0 and 5 under replace and accumulate.

`python -m experiments.bench family_chains`.  One chain of each, so differences of a few hundredths say nothing.
"""

from __future__ import annotations

import time
from typing import Any

import jax
import numpy as np

from experiments.bench import say, table
from experiments.bench.families import FAMILIES, Family
from simulator import Chain, simulate
from simulator.recipe import Accumulate, Replace
from simulator.types import Recipe

GENERATIONS = 6
RECIPES = {"replace": Replace(), "accumulate": Accumulate()}


def main() -> None:
    found = table(
        f"one chain of {GENERATIONS} generations", "family", "parameters", "rows", "CPU s a generation",
        *(f"{name}, recall {t}" for name in RECIPES for t in (0, GENERATIONS - 1)),
    )  # fmt: skip
    for name, family in FAMILIES.items():
        cells = measured(family)
        say("  ".join((name, *cells)))  # minutes may pass until the table is whole
        found.add_row(name, *cells)
    say(found)


def measured(family: Family, generations: int = GENERATIONS) -> tuple[str, ...]:
    """The cells of a family's line."""
    key, recalls, spent = jax.random.key(0), [], []
    for recipe in RECIPES.values():
        chain = chain_of(family, recipe)
        program = jax.jit(lambda key, chain=chain: simulate(chain, key, generations)).lower(key).compile()
        started = time.process_time()
        recall = np.asarray(program(key).flat()["is.recall"])  # [generations]
        spent.append((time.process_time() - started) / generations)
        recalls += [f"{recall[t]:.2f}" for t in (0, -1)]
    params = jax.eval_shape(family.model.shaped(family.source.draw(key, family.real)).init, key)
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    return f"{count:,}", f"{family.real:,}", f"{spent[0]:.1f}", *recalls


def chain_of(family: Family, recipe: Recipe) -> Chain:
    sizes: dict[str, Any] = {"real": family.real, "rows": family.real, "held_out": family.held_out}
    return Chain(source=family.source, generator=family.model, recipe=recipe, probes={"is": family.measure}, **sizes)
