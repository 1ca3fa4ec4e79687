"""What the fields of a configuration may hold: types and ranges, declared beside each field and checked in one way.

    rows: Count = 1000                             # a whole number of at least 1
    beta: NonNegative | Array = 1.0                # a number of at least 0, which may be swept
    rate: Annotated[Number, Range(0, 1)] = 0.5     # a number or a schedule, between 0 and 1

A chain checks every dataclass in it when it is built (`check_tree`).  What is being traced has no value yet and passes.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple

import jax
import numpy as np
from jax.core import Tracer

from simulator.numerics.schedule import Schedule, values_of
from simulator.types import GenlossError


class Range(NamedTuple):
    """The numbers from `low` to `high`, both included unless `above` or `below` leave them out."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False  # low itself is not among them
    below: bool = False  # high itself is not among them

    def holds(self, values: np.ndarray) -> bool:
        low = values > self.low if self.above else values >= self.low
        high = values < self.high if self.below else values <= self.high
        return bool((low & high).all())

    def __str__(self) -> str:
        low, high = (f"{end:,.0f}" if 1e5 <= abs(end) < math.inf else f"{end:g}" for end in (self.low, self.high))
        if math.isinf(self.high):
            return f"above {low}" if self.above else f"at least {low}"
        if math.isinf(self.low):
            return f"below {high}" if self.below else f"at most {high}"
        if not (self.above or self.below):
            return f"between {low} and {high}"
        return f"{Range(self.low, above=self.above)} and {Range(high=self.high, below=self.below)}"


Whole = Annotated[int, Range(0)]
Count = Annotated[int, Range(1)]
Share = Annotated[float, Range(0, 1)]
Positive = Annotated[float, Range(0, above=True)]
NonNegative = Annotated[float, Range(0)]
InsideShare = Annotated[float, Range(0, 1, above=True, below=True)]
BelowOne = Annotated[float, Range(0, 1, below=True)]


def check_tree(thing: Any) -> None:
    """`check` of a dataclass and of every one it holds, in tuples and mappings too."""
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        check(thing)
    for child in _children(thing):
        check_tree(child)


def check(thing: Any) -> None:
    """Raises `GenlossError` where a field of a dataclass holds what its declaration does not allow."""
    for name, hint in _declared(type(thing)).items():
        value = getattr(thing, name)
        if _allowed(value, hint):
            continue
        what = f"{type(thing).__name__}({name}={_shown(value)})"
        if classes := [v for v in (value if isinstance(value, tuple) else (value,)) if isinstance(v, type)]:
            name = classes[0].__name__
            raise GenlossError(f"{what}: {name} is a class; give an object of it, such as {name}(...).")
        raise GenlossError(f"{what} must be {_described(hint)}{_missing(value, hint)}.")


def allowed(thing: Any, name: str) -> Range | None:
    """The range that the declaration of a dataclass's field gives its numbers; None where it gives none."""
    hints = [_declared(type(thing)).get(name)]
    while hints:
        hint = hints.pop()
        for note in getattr(hint, "__metadata__", ()):
            if isinstance(note, Range):
                return note
        hints += typing.get_args(hint)
    return None


@functools.cache
def _declared(cls: type) -> dict[str, Any]:
    """Field name -> its annotation."""
    try:
        hints = typing.get_type_hints(cls, include_extras=True)
    except (NameError, TypeError):  # a name imported for type checkers only: nothing is known of these fields
        return {}
    return {f.name: hints[f.name] for f in dataclasses.fields(cls) if f.name in hints}


def _children(thing: Any) -> Iterator[Any]:
    if isinstance(thing, functools.partial):
        yield from (*thing.args, *thing.keywords.values())
    elif dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        yield from (getattr(thing, f.name) for f in dataclasses.fields(thing))
    elif isinstance(thing, Mapping):
        yield from thing.values()
    elif isinstance(thing, tuple):
        yield from thing


def _shown(value: Any) -> str:
    if isinstance(value, jax.Array) and not (isinstance(value, Tracer) or value.ndim):
        value = value.item()
    text = value.__name__ if isinstance(value, type) else str(value) if isinstance(value, Schedule) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _allowed(value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        inner, *marks = arguments
        if any(isinstance(mark, str) for mark in marks) and isinstance(value, type):
            return False  # a thing of that kind is built; a function that builds one is no such thing
        return _allowed(value, inner) and all(_in_range(value, mark) for mark in marks if isinstance(mark, Range))
    if origin in (typing.Union, types.UnionType):
        if jax.Array in arguments and isinstance(value, jax.Array) and not isinstance(value, Tracer) and not value.ndim:
            value = value.item()  # one value of a sweep
        return any(_allowed(value, one) for one in arguments)
    if origin is Literal:
        return any(value == one and type(value) is type(one) for one in arguments)
    if origin is tuple:
        return _allowed_tuple(value, arguments)
    if origin is not None and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(
            _allowed(k, arguments[0]) and _allowed(v, arguments[1]) for k, v in value.items()
        )
    if origin is Callable or hint is Callable:
        return callable(value) and not (isinstance(value, type) and dataclasses.is_dataclass(value))
    if hint in _NUMBERS:
        return _allowed_number(value, hint)
    if hint is None or hint is type(None):
        return value is None
    if hint is jax.Array:
        return isinstance(value, jax.Array) and (isinstance(value, Tracer) or _finite(value))
    if hint is Any or not isinstance(hint, type) or _is_silent(hint):
        return True
    return not isinstance(value, type) and isinstance(value, hint)


def _missing(value: Any, hint: Any) -> str:
    """Which functions of a protocol an object lacks."""
    asked = vars(hint) if getattr(hint, "_is_protocol", False) else {}
    lacks = [f"`{name}`" for name in asked if not name.startswith("_") and not hasattr(value, name)]
    return f", and has no {' and no '.join(lacks)}" if lacks else ""


def _is_silent(hint: type) -> bool:
    """Whether it is a protocol that nothing can be asked about when the program runs."""
    return getattr(hint, "_is_protocol", False) and not getattr(hint, "_is_runtime_protocol", False)


_NUMBERS = {bool: "true or false", int: "a whole number", float: "a number"}


def _allowed_number(value: Any, kind: type) -> bool:
    """A whole number is the same for all chains, since shapes depend on it; any other may be one that is swept."""
    if kind is bool or isinstance(value, bool | np.bool_):
        return kind is bool and isinstance(value, bool | np.bool_)
    if kind is int:
        return isinstance(value, int | np.integer)
    if isinstance(value, Tracer):
        return True
    plain = isinstance(value, int | float | np.number) or (isinstance(value, np.ndarray | jax.Array) and not value.ndim)
    return plain and np.asarray(value).dtype.kind in "iuf" and _finite(value)


def _finite(value: Any) -> bool:
    return bool(np.isfinite(np.asarray(value)).all()) if np.asarray(value).dtype.kind in "biuf" else True


def _allowed_tuple(value: Any, arguments: tuple[Any, ...]) -> bool:
    if not isinstance(value, tuple):
        return False
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return all(_allowed(one, arguments[0]) for one in value)
    return len(value) == len(arguments) and all(map(_allowed, value, arguments))


def _in_range(value: Any, allowed: Range) -> bool:
    if not isinstance(value, int | float | np.generic | np.ndarray | jax.Array | Schedule):
        return True
    values = values_of(value)  # pyright: ignore[reportArgumentType]
    return values is None or (bool(np.isfinite(values).all()) and allowed.holds(values))


def _described(hint: Any) -> str:
    """What an annotation allows, in words."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        if names := [mark for mark in arguments[1:] if isinstance(mark, str)]:
            return names[0]
        ranges = [str(mark) for mark in arguments[1:] if isinstance(mark, Range)]
        inner = _described(arguments[0])
        joint = " of " if ranges and ranges[0].startswith("at ") else " "
        return inner + (joint + " and ".join(ranges) if ranges else "")
    if origin in (typing.Union, types.UnionType):
        kinds = [
            a for a in arguments if a is not jax.Array or len(arguments) == 1
        ]  # an array is a number that is swept
        return " or ".join(dict.fromkeys(map(_described, kinds)))
    if origin is Literal:
        *first, last = map(str, arguments)
        return f"{', '.join(first)} or {last}" if first else last
    if origin is tuple:
        inner = _described(arguments[0])
        return (
            f"a tuple of {inner.removeprefix('a ').replace('number', 'numbers', 1)}"
            if "number" in inner
            else f"a tuple, each of {inner}"
        )
    if origin is not None and issubclass(origin, Mapping):
        return f"a mapping from names to values, each of which is {_described(arguments[1])}"
    if origin is Callable or hint is Callable:
        return "a function, or an object that can be called"
    if hint in _NUMBERS:
        return _NUMBERS[hint]
    named = {str: "text", None: "None", type(None): "None", Schedule: "a schedule"}
    return named.get(hint) or f"a {getattr(hint, '__name__', str(hint)).lower()}"
