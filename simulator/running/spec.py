"""A chain as data: its tree of fields, overrides by dotted name, a JSON form, and the signature of it."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
import inspect
import json
import re
import typing
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeGuard

import jax
import numpy as np

from simulator.checks import code
from simulator.types import GenlossError

_THREEFRY = "threefry2x32"  # the kind of keys that is not written beside them
_KEYS = (_THREEFRY, "rbg", "unsafe_rbg")
_NUMBERS = (
    "bool", *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)),
    "bfloat16", "float16", "float32", "float64", "complex64", "complex128",
)  # fmt: skip


class Leaf(NamedTuple):
    """One field that can be overridden."""

    path: str  # "recipe.real"
    type: Any  # its annotation
    value: Any
    help: str  # the comment beside it in the source


def leaves(tree: Any, prefix: str = "") -> Iterator[Leaf]:
    """Every field of a tree of dataclasses, mappings and tuples that holds a plain value."""
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        hints, helps = _hints(type(tree)), _helps(type(tree))
        branches = [
            (f.name, getattr(tree, f.name), hints.get(f.name, Any), helps.get(f.name, ""))
            for f in dataclasses.fields(tree)
        ]
    elif isinstance(tree, Mapping):
        branches = [(str(name), value, type(value), "") for name, value in tree.items()]
    elif _plain_tuple(tree):
        branches = [(str(i), value, type(value), "") for i, value in enumerate(tree)]
    else:
        return
    for name, value, hint, text in branches:
        path = f"{prefix}.{name}" if prefix else name
        if _is_value(value):
            yield Leaf(path, hint, value, text)
        else:
            yield from leaves(value, path)


def override(tree: Any, changes: Mapping[str, Any]) -> Any:
    """The tree with fields replaced by dotted name, every dataclass on the way built anew (and so checked anew)."""
    if "" in changes:
        return changes[""]
    grouped: dict[str, dict[str, Any]] = {}
    for path, value in changes.items():
        head, _, rest = path.partition(".")
        grouped.setdefault(head, {})[rest] = value
    names = _names(tree)
    for head in grouped:
        if head not in names:
            raise GenlossError(unknown(head, names, f"{type(tree).__name__} has no field"))
    new = {head: override(child(tree, head), inner) for head, inner in grouped.items()}
    if dataclasses.is_dataclass(tree):
        return type(tree)(**{name: new.get(name, getattr(tree, name)) for name in names})
    if isinstance(tree, Mapping):
        return {name: new.get(name, value) for name, value in tree.items()}
    return tuple(new.get(str(i), value) for i, value in enumerate(tree))


def unknown(name: str, known: list[str], what: str) -> str:
    """A sentence for a name that is not there: the nearest one, and all there are."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; the nearest is '{near[0]}'" if near else ""
    return f"{what} '{name}'{hint}; there are: {', '.join(known) or 'none'}."


def encode(value: Any) -> Any:
    """The JSON form of a configuration, from which `decode` builds it again.

    Raises `GenlossError` for lambdas, closures and objects of unknown kind: they have no name another process knows.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, jax.Array) and jax.numpy.issubdtype(value.dtype, jax.dtypes.prng_key):
        kind = str(jax.random.key_impl(value))
        named = {} if kind == _THREEFRY else {"impl": kind}
        return {"$key": np.asarray(jax.random.key_data(value)).tolist(), **named}
    if isinstance(value, jax.Array | np.ndarray):
        array = np.asarray(value)
        return {"$array": array.tolist(), "dtype": str(array.dtype)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"$type": code.name(type(value)), **code.source(type(value)), **fields}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        fields = {k: encode(v) for k, v in value._asdict().items()}  # pyright: ignore[reportAttributeAccessIssue]
        return {"$type": code.name(type(value)), **code.source(type(value)), **fields}
    if isinstance(value, tuple | list):
        return [encode(v) for v in value]
    if isinstance(value, Mapping):
        return {str(k): encode(v) for k, v in value.items()}
    if isinstance(value, functools.partial):
        return {"$partial": encode(value.func), "args": encode(value.args), "keywords": encode(value.keywords)}
    if callable(value):
        return {"$name": code.name(value), **code.source(value)}
    raise GenlossError(
        f"A {type(value).__name__} cannot be written into chain.json; use numbers, arrays or dataclasses."
    )


def decode(data: Any, trust: code.Trust = False) -> Any:
    """What `encode` was given; nothing is ever unpickled.

    Only names of this project are looked up, and nothing is imported that they do not come from, but with `trust`:
    True, or the modules that may be imported.  Raises `GenlossError` where data is nothing that `encode` gave.
    """
    if strange := code.foreign(data, trust):
        raise GenlossError(
            f"The stored chain names code that is not of this project and would import {', '.join(strange)}; "
            "if you trust whoever made it, say so (trust=True)."
        )
    try:
        return _decoded(data, trust)
    except GenlossError:
        raise
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise GenlossError(f"The stored chain cannot be built ({reason[:200]}); restore its chain.json.") from error


def _decoded(data: Any, trust: code.Trust) -> Any:
    if isinstance(data, list):
        return tuple(_decoded(v, trust) for v in data)
    if not isinstance(data, Mapping):
        return data
    if "$key" in data:
        kind = data.get("impl", _THREEFRY)
        if kind not in _KEYS:
            raise GenlossError(f"There are no random keys of the kind {kind!r}; there are: {', '.join(_KEYS)}.")
        return jax.random.wrap_key_data(jax.numpy.asarray(np.asarray(data["$key"], np.uint32)), impl=kind)
    if "$array" in data:
        if data["dtype"] not in _NUMBERS:
            raise GenlossError(f"There are no arrays of the type {data['dtype']!r}; there are: {', '.join(_NUMBERS)}.")
        return jax.numpy.asarray(np.asarray(data["$array"], jax.numpy.dtype(data["dtype"])))
    if "$partial" in data:
        function, given = _decoded(data["$partial"], trust), [data["args"], data["keywords"]]
        if trust is not True and _acts(function) and _has_text(given):
            # Text names files, addresses and code: a function that is given it may be made to do anything.
            raise GenlossError("The stored chain gives text to a function of this project; it is built on trust only.")
        return functools.partial(function, *_decoded(given[0], trust), **_decoded(given[1], trust))
    if "$name" in data:
        return code.find(data["$name"], trust)
    fields = {k: _decoded(v, trust) for k, v in data.items() if k not in ("$type", "$source")}
    return code.find(data["$type"], trust)(**fields) if "$type" in data else fields


def _acts(function: Any) -> bool:
    """Whether it is no class, and the project's own."""
    while isinstance(function, functools.partial):
        function = function.func
    return not isinstance(function, type) and str(function.__module__).partition(".")[0] in code.OWN


def _has_text(data: Any) -> bool:
    """Whether there is text among encoded values, names of what they are made of apart."""
    if isinstance(data, Mapping):
        return any(
            _has_text(value) for name, value in data.items() if name not in ("$type", "$source", "$name", "dtype")
        )
    return any(map(_has_text, data)) if isinstance(data, list | tuple) else isinstance(data, str)


def signature(data: Any) -> str:
    """Ten hexadecimal digits of the encoded configuration."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:10]


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """The leaves in which two encoded configurations differ, as `path: old -> new`."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = [*old, *(k for k in new if k not in old)]
        return [d for k in keys for d in differences(old.get(k), new.get(k), f"{path}.{k}" if path else str(k))]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [d for i in range(len(old)) for d in differences(old[i], new[i], f"{path}.{i}")]
    return [] if old == new else [f"{path.removesuffix('.$type')}: {_short(old)} -> {_short(new)}"]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _plain_tuple(value: Any) -> TypeGuard[tuple[Any, ...]]:
    return isinstance(value, tuple) and not hasattr(value, "_fields")


def _is_value(value: Any) -> bool:
    """A plain value, or a schedule, or a tuple of plain values: something a command line can spell."""
    from simulator.numerics.schedule import Schedule

    if _plain_tuple(value):
        return all(isinstance(v, int | float | str) for v in value)
    return value is None or isinstance(value, bool | int | float | str | Schedule)


def _names(tree: Any) -> list[str]:
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return [f.name for f in dataclasses.fields(tree)]
    if isinstance(tree, Mapping):
        return [str(name) for name in tree]
    return [str(i) for i in range(len(tree))] if _plain_tuple(tree) else []


def child(tree: Any, name: str) -> Any:
    """The branch of a tree that one part of a dotted name means."""
    if dataclasses.is_dataclass(tree):
        return getattr(tree, name)
    return tree[name] if isinstance(tree, Mapping) else tree[int(name)]


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls)
    except NameError:  # a name imported for type checkers only: such fields are told by their value
        return {}


@functools.cache
def _helps(cls: type) -> dict[str, str]:
    """Field name -> the comment on its line in the source."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        try:
            text = inspect.getsource(base) if base is not object else ""
        except (OSError, TypeError):
            continue
        found.update(re.findall(r"^ {4}(\w+): .*?  # (.+)$", text, re.MULTILINE))
    return found
