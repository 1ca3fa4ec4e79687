"""Whose code a chain is made of: the project's own, or a user's, told by its text and imported on trust only."""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import importlib
import inspect
import sys
import sysconfig
import types
from collections.abc import Collection, Iterator, Mapping
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from simulator.types import GenlossError

OWN = ("simulator", "generators", "experiments")  # packages of which stored chains may always be built
QUESTIONS = ("published", "images", "text", "contamination")  # rooms of experiments; the others hold no chains
_LIBRARY = ("simulator", "generators")  # told by their version; what others write is told by its text
# What a file of one's own gives to a run.  It is kept by value, so that a run may be extended by editing the file.
_GIVEN = {"chain", "sweep", "generations", "replicates", "every", "presets"}

Trust = bool | Collection[str]
"""Whether a stored chain may import what it names: True, or the modules that may be; the project's own always."""


def name(thing: Any) -> str:
    """`module:name` of a function or class, by which another process finds it.

    Of the project's own it is the public one, `simulator.recipe:Mix`, which stays when a file moves.
    """
    found = _named(thing) if hasattr(thing, "__qualname__") else repr(thing)
    named = isinstance(thing, type | types.FunctionType | types.BuiltinFunctionType) or hasattr(thing, "__wrapped__")
    if "<" in found or not named:
        raise GenlossError(
            f"{found} has no name that another process could import, so a run with it could be neither stored nor "
            "resumed; make it a module-level function or a frozen dataclass with __call__."
        )
    return found


def find(named: Any, trust: Trust = False) -> Any:
    """What `name` was given.

    Of modules that are not trusted nothing is imported, and of the project's own only what a chain is made of is found:
    a dataclass, a NamedTuple, a network or a module-level function, by the name under which it was defined.
    """
    module, colon, path = named.partition(":") if isinstance(named, str) else ("", "", "")
    if not colon or not all(part.isidentifier() for part in (*module.split("."), *path.split("."))):
        raise GenlossError(f"{named!r} in a stored chain is no name of code; restore its chain.json.")
    if not (trust is True or _allowed(module, trust)):
        raise GenlossError(f"{named} is not part of this project, and is imported on trust only.")
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        raise GenlossError(
            f"{named}, which the stored chain uses, cannot be imported here; is its file still there?"
        ) from None
    if trust is not True and not (_named(found) == named and (module.partition(".")[0] not in OWN or _is_part(found))):
        raise GenlossError(f"{named} in a stored chain is nothing that a chain is made of; restore its chain.json.")
    return found


def _allowed(module: str, trust: Trust) -> bool:
    root, *inner = module.split(".")
    own = root in OWN and (root != "experiments" or (len(inner) == 2 and inner[0] in QUESTIONS))
    return own or (not isinstance(trust, bool) and module in trust)


def _named(thing: Any) -> str:
    module, name = getattr(thing, "__module__", None) or "", getattr(thing, "__qualname__", "")
    return f"{_public(module, name, thing)}:{name}"


def _public(module: str, name: str, thing: Any) -> str:
    """The uppermost package of the project that shows a thing under its name; else the module that defines it."""
    parts = module.split(".")
    if parts[0] in OWN and name.isidentifier():
        for depth in range(1, len(parts)):
            package = ".".join(parts[:depth])
            if getattr(importlib.import_module(package), name, None) is thing:
                return package
    return module


def _is_part(thing: Any) -> bool:
    from flax import nnx

    if isinstance(thing, type):
        return dataclasses.is_dataclass(thing) or hasattr(thing, "_fields") or issubclass(thing, nnx.Module)
    return isinstance(inspect.unwrap(thing), types.FunctionType) if callable(thing) else False


def foreign(data: Any, trust: Trust = False) -> list[str]:
    """The modules that building an encoded chain would import, and that are neither the project's own nor trusted."""
    if trust is True:
        return []
    if isinstance(data, Mapping):
        named = [str(data[mark]).partition(":")[0] for mark in ("$type", "$name") if mark in data]
        inner = [module for value in data.values() for module in foreign(value, trust)]
        return list(dict.fromkeys([*(module for module in named if not _allowed(module, trust)), *inner]))
    if isinstance(data, list):
        return list(dict.fromkeys(module for value in data for module in foreign(value, trust)))
    return []


# A user's text.


def source(thing: Any) -> dict[str, str]:
    """{"$source": digits} of a user's function or class: of the text of its file, and of the user's files it imports.

    Comments, docstrings and layout do not count, nor what the file gives a run by value (`chain`, `generations`, ...).
    """
    if thing.__module__.partition(".")[0] in _LIBRARY or isinstance(thing, types.BuiltinFunctionType):
        return {}
    texts = [_text(file, file.stat().st_size, file.stat().st_mtime_ns) for file in _files(thing.__module__).values()]
    if not texts:  # of an installed package, or of no file
        try:
            texts = [inspect.getsource(inspect.unwrap(thing))]
        except (OSError, TypeError):
            return {}
    return {"$source": hashlib.sha256("\0".join(sorted(texts)).encode()).hexdigest()[:10]}


def users(module: str) -> list[str]:
    """A user's module and all modules in files of the user's that it imports."""
    return list(_files(module))


def _files(module: str) -> dict[str, Path]:
    """Module -> file, of the user's modules reached from one by import statements."""
    found: dict[str, Path] = {}
    left = [module]
    while left:
        file = None if (one := left.pop()) in found else _file(one)
        own = one.partition(".")[0] in OWN
        if file is not None and (one == module if own else not _installed(file)):
            found[one] = file
            left += [] if own else _imports(file, one)
    return found


def _file(module: str) -> Path | None:
    """The file of a module, imported or not."""
    loaded = sys.modules.get(module)
    found = _spec(module) if loaded is None else None
    where = getattr(loaded, "__file__", None) or getattr(found, "origin", None)
    return Path(where).resolve() if where and where.endswith(".py") and Path(where).exists() else None


def _spec(module: str) -> Any:
    """Where a module would be found; its packages are not imported for that."""
    package = module.rpartition(".")[0]
    path = getattr(_spec(package), "submodule_search_locations", None) or [] if package else None
    return PathFinder.find_spec(module, path)


def _installed(file: Path) -> bool:
    return bool({"site-packages", "dist-packages"} & set(file.parts)) or any(map(file.is_relative_to, _libraries()))


@functools.cache
def _libraries() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    return tuple({Path(paths[kind]).resolve() for kind in ("stdlib", "platstdlib", "purelib", "platlib")})


def _imports(file: Path, module: str) -> Iterator[str]:
    """Every module that the import statements of a file may mean."""
    package = (module if file.name == "__init__.py" else module.rpartition(".")[0]).split(".")
    for node in ast.walk(_parsed(file)):
        if isinstance(node, ast.Import):
            bases, names = [alias.name for alias in node.names], []
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            bases, names = [".".join([*above, *filter(None, [node.module])])], [alias.name for alias in node.names]
        else:
            continue
        for base in filter(None, bases):
            parts = base.split(".")
            yield from (".".join(parts[: i + 1]) for i in range(len(parts)))
            yield from (f"{base}.{one}" for one in names if one != "*")


def _parsed(file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_bytes())
    except SyntaxError as error:
        raise GenlossError(f"{file} cannot be read ({error.msg}, line {error.lineno}); mend it first.") from None


@functools.lru_cache(maxsize=256)
def _text(file: Path, size: int, changed: int) -> str:
    """What a file does: its syntax, but for docstrings, what it does as a script, and what it gives by value."""
    tree = _parsed(file)
    tree.body = [node for node in tree.body if not (isinstance(node, ast.If) and "__name__" in _reads(node.test))]
    given = [node for node in tree.body if (bound := _binds(node)) and bound <= _GIVEN]
    kept = [node for node in tree.body if node not in given]
    while used := [node for node in given if any(_binds(node) & _reads(other) for other in kept)]:
        kept += used  # what the rest reads is part of it
        given = [node for node in given if node not in used]
    tree.body = [node for node in tree.body if node in kept]
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        first = body[0] if isinstance(body, list) and body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            del body[0]  # pyright: ignore[reportOptionalSubscript]
    return ast.dump(tree)


def _reads(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}


def _binds(node: ast.stmt) -> set[str]:
    """Names that an assignment binds; none where it binds anything else."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    names = [n for target in targets for n in (target.elts if isinstance(target, ast.Tuple) else [target])]
    return {n.id for n in names if isinstance(n, ast.Name)} if all(isinstance(n, ast.Name) for n in names) else set()
