"""A chain as data: its tree of fields, overrides by dotted name, a JSON form, and the signature of it."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
import importlib
import inspect
import json
import re
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeGuard

import jax
import numpy as np

from simulator.types import GenlossError

_LIBRARY = ("simulator", "generators")  # told by their version; what others write is told by its text


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
    new = {head: override(_child(tree, head), inner) for head, inner in grouped.items()}
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
        return {"$key": np.asarray(jax.random.key_data(value)).tolist()}
    if isinstance(value, jax.Array | np.ndarray):
        array = np.asarray(value)
        return {"$array": array.tolist(), "dtype": str(array.dtype)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"$type": _name(type(value)), **_source_hash(type(value)), **fields}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {"$type": _name(type(value)), **{k: encode(v) for k, v in value._asdict().items()}}  # pyright: ignore
    if isinstance(value, tuple | list):
        return [encode(v) for v in value]
    if isinstance(value, Mapping):
        return {str(k): encode(v) for k, v in value.items()}
    if isinstance(value, functools.partial):
        return {"$partial": encode(value.func), "args": encode(value.args), "keywords": encode(value.keywords)}
    if callable(value):
        return {"$name": _name(value), **_source_hash(value)}
    raise GenlossError(
        f"A {type(value).__name__} cannot be written into chain.json; use numbers, arrays or dataclasses."
    )


def decode(data: Any) -> Any:
    """What `encode` was given.  Only names of importable modules are looked up; nothing is ever unpickled."""
    if isinstance(data, list):
        return tuple(decode(v) for v in data)
    if not isinstance(data, Mapping):
        return data
    if "$key" in data:
        return jax.random.wrap_key_data(jax.numpy.asarray(data["$key"], jax.numpy.uint32))
    if "$array" in data:
        return jax.numpy.asarray(np.asarray(data["$array"], data["dtype"]))
    if "$partial" in data:
        return functools.partial(decode(data["$partial"]), *decode(data["args"]), **decode(data["keywords"]))
    if "$name" in data:
        return _find(data["$name"])
    fields = {k: decode(v) for k, v in data.items() if k not in ("$type", "$source")}
    return _find(data["$type"])(**fields) if "$type" in data else fields


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
    from simulator.schedule import Schedule

    if _plain_tuple(value):
        return all(isinstance(v, int | float | str) for v in value)
    return value is None or isinstance(value, bool | int | float | str | Schedule)


def _names(tree: Any) -> list[str]:
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return [f.name for f in dataclasses.fields(tree)]
    if isinstance(tree, Mapping):
        return [str(name) for name in tree]
    return [str(i) for i in range(len(tree))] if _plain_tuple(tree) else []


def _child(tree: Any, name: str) -> Any:
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


def _name(thing: Any) -> str:
    name = f"{thing.__module__}:{thing.__qualname__}" if hasattr(thing, "__qualname__") else repr(thing)
    named = isinstance(thing, type | types.FunctionType | types.BuiltinFunctionType) or hasattr(thing, "__wrapped__")
    if "<" in name or not named:
        raise GenlossError(
            f"{name} has no name that another process could import, so a run with it could be neither stored nor "
            "resumed; make it a module-level function or a frozen dataclass with __call__."
        )
    return name


def _source_hash(thing: Any) -> dict[str, str]:
    """The text of a user's function or class is part of the chain: when it changes, so does the signature."""
    if thing.__module__.partition(".")[0] in _LIBRARY or isinstance(thing, types.BuiltinFunctionType):
        return {}
    try:
        return {"$source": hashlib.sha256(inspect.getsource(inspect.unwrap(thing)).encode()).hexdigest()[:10]}
    except (OSError, TypeError):
        return {}


def _find(name: str) -> Any:
    module, _, path = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        raise GenlossError(
            f"{name}, which the stored chain uses, cannot be imported here; is its file still there?"
        ) from None
    return found
