"""What a league is held in: a chain, what of it is judged, and who takes part."""

from __future__ import annotations

import dataclasses
import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulator.analysis.league import Better
from simulator.chain import Chain
from simulator.running import spec
from simulator.types import GenlossError

BASELINE = "replace"  # doing nothing: each generation eats what the last one said


@dataclass(frozen=True, kw_only=True)
class World:
    """Chains that differ in their mitigation alone and see the same number of real rows in all.

    Only recipe, generator, `start`, `given`, and when real rows are served (`real`, `fresh`), may differ.
    """

    entries: Mapping[str, Chain]  # the baseline among them
    generations: int
    replicates: int
    metric: str  # that is judged, at the last generation
    better: Better
    beside: tuple[str, ...] = ()  # told beside it
    every: int = 1  # generations a checkpoint

    def __post_init__(self) -> None:
        for name, chain in self.entries.items():
            self.admit(name, chain)

    @property
    def baseline(self) -> Chain:
        return self.entries[BASELINE]

    def budget(self, chain: Chain | None = None) -> int:
        """Real rows that a chain sees in all: those of generation 0 and every fresh one."""
        chain = chain or self.baseline
        return chain.real + chain.fresh * (self.generations - 1)

    def admit(self, name: str, chain: Any) -> Chain:
        """The chain, if it may take part; raises `GenlossError` where it sees more rows or is judged otherwise."""
        if not isinstance(chain, Chain):
            raise GenlossError(
                f"The entry '{name}' is no chain; let entry(chain) return one, as dataclasses.replace does."
            )
        if (seen := self.budget(chain)) != self.budget():
            raise GenlossError(
                f"The entry '{name}' sees {seen} real rows (`real` and {self.generations - 1} times `fresh`) and the "
                f"others {self.budget()}; give it as many."
            )
        for field in ("source", "probes", "rows", "held_out"):
            own, its = getattr(chain, field), getattr(self.baseline, field)
            if own is not its and spec.encode(own) != spec.encode(its):  # arrays in them have no ==
                raise GenlossError(f"The entry '{name}' changes `{field}`, which is the world's; leave it as it is.")
        return chain

    def added(self, name: str, module: Any) -> Chain:
        """The entry of somebody's file: the baseline with its `recipe`, or what its `entry(chain)` makes of it."""
        if hasattr(module, "entry"):
            return self.admit(name, module.entry(self.baseline))
        if hasattr(module, "recipe"):
            return self.admit(name, dataclasses.replace(self.baseline, recipe=module.recipe))
        raise GenlossError(f"{name} defines neither `recipe` nor `entry`; give it a recipe, or entry(chain) -> Chain.")


def files() -> dict[str, Path]:
    """Name -> file of every world, found without importing it."""
    found = sorted(Path(__file__).parent.glob("*.py"))
    return {file.stem: file for file in found if re.search(r"^world = ", file.read_text(), re.M)}


def load(name: str) -> World:
    """A world by its name."""
    if name not in files():
        raise GenlossError(spec.unknown(name, list(files()), "There is no world"))
    return importlib.import_module(f"experiments.league.{name}").world
