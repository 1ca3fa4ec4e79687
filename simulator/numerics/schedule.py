"""Numbers that change over generations.  Any number of a recipe may be one, and of how a generator speaks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from simulator.errors import GenlossError


@dataclass(frozen=True)
class Schedule:
    """A named schedule with its arguments; calling it with t gives the value at generation t.

    >>> round(Schedule('linear', (1.0, 0.0, 4.0))(2).item(), 4)
    0.5
    """

    kind: str
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise GenlossError(f"There is no schedule '{self.kind}'; there are: {', '.join(_KINDS)}.")
        _, names = _KINDS[self.kind]
        if not self.values:
            raise GenlossError(f"The schedule '{self.kind}' was given no values; it takes {', '.join(names)}.")
        if self.kind != "table" and len(self.values) != len(names):
            raise GenlossError(
                f"The schedule '{self.kind}' takes {', '.join(names)}; it was given {len(self.values)} numbers."
            )
        if "generations" in names and self.values[-1] < 1:
            raise GenlossError(
                f"The schedule '{self.kind}' goes on for {self.values[-1]:g} generations; give at least 1."
            )

    def __call__(self, t: jax.Array | int) -> jax.Array:
        build, _ = _KINDS[self.kind]
        return build(*self.values)(t)

    def __str__(self) -> str:
        return f"{self.kind}:" + ",".join(f"{v:g}" for v in self.values)


def _table(*values: float):
    return lambda t: jnp.asarray(values)[jnp.clip(t, 0, len(values) - 1)]


_KINDS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "constant": (optax.schedules.constant_schedule, ("value",)),
    "linear": (optax.schedules.linear_schedule, ("start", "end", "generations")),
    "cosine": (lambda a, b, n: lambda t: b + (a - b) * optax.schedules.cosine_decay_schedule(1.0, int(n))(t),
               ("start", "end", "generations")),
    "exponential": (lambda a, r: lambda t: a * r ** jnp.asarray(t, jnp.float32), ("start", "rate")),
    "step": (lambda a, b, at: lambda t: jnp.where(jnp.asarray(t) < at, a, b), ("before", "after", "generation")),
    "table": (_table, ("value at each generation; the last one holds",)),
}  # fmt: skip

Number = float | Schedule | jax.Array

_FAR = 1000  # generations of a schedule that are looked at before a chain is built


def values_of(number: Number) -> np.ndarray | None:
    """All the values a number takes, or None where it is being traced (a swept value is checked by its sweep).

    >>> np.round(values_of(0.5), 4).tolist()
    [0.5]
    """
    if isinstance(number, Tracer):
        return None
    if isinstance(number, Schedule):
        if any(isinstance(v, Tracer) for v in number.values):
            return None
        with jax.ensure_compile_time_eval():
            return np.asarray(jax.vmap(number)(jnp.arange(1, _FAR)))  # fit 0 eats real rows whatever the schedule says
    return np.asarray(number, np.float64).reshape(-1)


def schedule(kind: str, *values: float, **named: float) -> Schedule:
    """A schedule by name: `schedule("linear", 1.0, 0.1, 10)`, or with `start=`, `end=`, `generations=`.

    linear, cosine (start, end, generations); exponential (start, rate): start·rate^t; step (before, after,
    generation); table (one value a generation, the last one holds); constant (value).  On the command line:
    `linear:1,0.1,10`.  Raises `GenlossError` for an unknown name or the wrong number of values.

    >>> round(schedule('exponential', 2.0, 0.5)(3).item(), 4)
    0.25
    """
    if named and kind in _KINDS:
        names = _KINDS[kind][1][len(values) :]
        if set(named) != set(names):
            raise GenlossError(f"The schedule '{kind}' takes {', '.join(_KINDS[kind][1])}.")
        values = (*values, *(named[name] for name in names))
    return Schedule(kind, tuple(float(v) for v in values))


def at(number: Number | int, t: jax.Array | int) -> jax.Array:
    """The value of a number or schedule at generation t, float32.

    >>> round(at(schedule('step', 1.0, 0.0, 2), 5).item(), 4)
    0.0
    """
    return jnp.asarray(number(t) if isinstance(number, Schedule) else number, jnp.float32)


def settled_number(number: Number) -> float | jax.Array:
    """A number that is no schedule, as those of a generator are where it speaks in a chain."""
    if isinstance(number, Schedule):
        raise GenlossError(f"The schedule {number} has a value in a chain alone; give a number.")
    return number


def settled(thing: Any, t: jax.Array | int) -> Any:
    """A configuration with every schedule in it at its value at generation t; the same object where it has none.

    >>> settled((1.5, schedule('step', 1.0, 0.0, 2)), 1)[1].item()
    1.0
    """
    if isinstance(thing, Schedule):
        return at(thing, t)
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        inside: dict[str, Any] = {field.name: getattr(thing, field.name) for field in dataclasses.fields(thing)}
        make = lambda new: dataclasses.replace(thing, **new)  # noqa: E731
    elif type(thing) is tuple:
        inside, make = dict(enumerate(thing)), lambda new: tuple({**inside, **new}.values())  # pyright: ignore
    elif isinstance(thing, Mapping):
        inside, make = dict(thing), lambda new: {**inside, **new}
    else:
        return thing
    new = {name: found for name, part in inside.items() if (found := settled(part, t)) is not part}
    return make(new) if new else thing


def parse(text: str) -> float | Schedule:
    """`0.1` or `linear:1,0.1,10`.

    >>> parse('linear:1,0.1,10')
    Schedule(kind='linear', values=(1.0, 0.1, 10.0))
    """
    kind, colon, values = text.partition(":")
    try:
        return schedule(kind, *map(float, values.split(","))) if colon else float(text)
    except GenlossError:
        raise
    except ValueError:
        raise GenlossError(f"'{text}' is neither a number nor a schedule such as linear:1,0.1,10.") from None
