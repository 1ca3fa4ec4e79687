"""One number of a chain, at several values: the settings of an experiment, run side by side as one program."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

from simulator.abilities import taught
from simulator.chain import Chain
from simulator.recipe.combine import Select
from simulator.running import spec
from simulator.running.prepare import adopt, adopted
from simulator.types import Array, GenlossError


class Apart(GenlossError):
    """The settings of a sweep are no one program: they are runs of their own."""


@dataclass(frozen=True, eq=False)
class Sweep:
    """`Sweep(chain, "recipe.real", {"10 %": 0.1, "50 %": 0.5})`: the chain at each value of one of its fields.

    Several fields are swept together as `Sweep(chain, "recipe.real, generator.guidance", {"both": (1.0, 1.0)})`.  All
    settings share keys (common random numbers) and one compilation, so a field must be a number that no shape depends
    on.  Different recipes are swept as `Select((Replace(), Accumulate(), ...), 0)` over "recipe.index".
    """

    chain: Chain
    path: str  # dotted path of the field, or of several with commas between
    values: Mapping[str, Any]  # name of the setting -> a number, or a tuple of one for each field
    at_once: int | None = None  # settings computed side by side, where all would take too much memory; None: all

    def __post_init__(self) -> None:
        if not self.values:
            raise GenlossError(f"The sweep over {self.path} has no values; give at least one.")
        if self.at_once is not None and self.at_once < 1:
            raise GenlossError(f"`at_once` of a sweep is {self.at_once} and must be at least 1, or None for all.")
        for name, value in self.values.items():  # each setting alone must be a chain that can be built
            if np.size(value) != len(self.paths):
                raise GenlossError(
                    f"The setting '{name}' has {np.size(value)} values for {self.path}; give one a field."
                )
            self.make(value)

    @property
    def paths(self) -> list[str]:
        """Dotted paths of the fields."""
        return [path.strip() for path in self.path.split(",")]

    @property
    def grid(self) -> tuple[Array, ...]:
        """[settings] a field."""
        table = [value if isinstance(value, tuple | list) else (value,) for value in self.values.values()]
        return tuple(jnp.asarray(column) for column in zip(*table, strict=True))

    def over(self, piece: Callable[..., Any], axes: Sequence[int | None]) -> Callable[..., Any]:
        """A function of one setting as one of all: arguments whose axis is 0 have one of settings, the others none."""
        if self.at_once is None:
            return jax.vmap(piece, axes)

        def in_turn(*arguments: Any) -> Any:
            own = [a for a, axis in zip(arguments, axes, strict=True) if axis == 0]

            def one(own: list[Any]) -> Any:
                left = iter(own)
                return piece(*(a if axis is None else next(left) for a, axis in zip(arguments, axes, strict=True)))

            return jax.lax.map(one, own, batch_size=None if self.at_once == 1 else self.at_once)

        return in_turn

    def make(self, value: Any) -> Chain:
        """The chain at one value, or at one value for each of several fields."""
        values = value if isinstance(value, tuple | list) else (value,)
        made = spec.override(self.chain, dict(zip(self.paths, values, strict=True)))
        known = adopted(self.chain)
        if known is not None and not any(path.startswith(("source", "probes")) for path in self.paths):
            adopt(made, known)
        return made

    def check(self) -> None:
        """Raises where the field cannot be swept in one program (`Apart`), or changes nothing; found out once."""
        return self._checked

    @functools.cached_property
    def _checked(self) -> None:
        jax.eval_shape(lambda: self.chain.init(jax.random.key(0), 1).t)  # wrong without a sweep, too
        moves: list[bool] = []
        try:
            jax.eval_shape(lambda grid: jax.vmap(lambda v: self.make(v).init(jax.random.key(0), 1).t)(grid), self.grid)
            moves = self._moves()
        except (jax.errors.JAXTypeError, TypeError, GenlossError) as error:  # each value alone was fine
            jax.eval_shape(lambda: [_once(spec.override(self.chain, {}), measured) for measured in (False, True)])
            raise Apart(
                f"`{self.path}` cannot be swept in one program, since shapes or choices made in Python depend on it; "
                "run one chain a value."
            ) from error
        for path, moved in zip(self.paths, moves, strict=True):
            if not moved:
                raise GenlossError(f"`{path}` changes nothing that is computed: {_why_not(self.chain, path)}.")

    def _moves(self) -> list[bool]:
        """Whether anything that is computed depends on each field.  Nothing is run for that."""
        first = tuple(column[0] for column in self.grid)
        found = [False] * len(first)
        for measured in (False, True):
            if not all(found):
                program = jax.make_jaxpr(lambda v, m=measured: _once(self.make(v), m))(first)
                found = [a or b for a, b in zip(found, reached(program, len(first)), strict=True)]
        return found


def _once(chain: Chain, measured: bool) -> Any:
    """What a chain computes: its beginning and a generation, or what is measured of that."""
    key = jax.random.key(0)
    begun = chain.init(key, 2)
    state, diet = chain.eat(key, begun, chain.serve(begun.key, begun.t))
    params, info = chain.learn(key, state, diet)
    synthetic = chain.speak(key, state.t, params, chain.told(key, begun.key, diet))
    if not measured:
        return begun, params, info, synthetic
    if adopted(chain) is None:  # what probes learn is followed, not learned
        adopt(chain, taught(chain.probes, key, chain.source))
    ancestors = chain.trace(key, state.t, params, diet, synthetic)
    return chain.measure(key, state.t, params, diet, synthetic, ancestors)


def reached(program: ClosedJaxpr, n: int) -> list[bool]:
    """Whether any output may depend on each of the first n inputs."""
    found = []
    for number in program.jaxpr.invars[:n]:
        moved = {number}
        for equation in program.jaxpr.eqns:
            if any(v in moved for v in equation.invars if not isinstance(v, Literal)):
                moved.update(equation.outvars)
        found.append(any(v in moved for v in program.jaxpr.outvars if not isinstance(v, Literal)))
    return found


def _why_not(chain: Chain, path: str) -> str:
    node: Any = chain
    parts = path.split(".")
    for i, part in enumerate(parts):
        if isinstance(node, Select) and part == "recipes" and int(node.index) != int(parts[i + 1]):
            where = ".".join([*parts[:i], "index"])
            return f"its arm is not selected; select it with {where}={parts[i + 1]} (--{where} {parts[i + 1]})"
        node = spec.child(node, part)
    return "all settings would be one; sweep another field"
