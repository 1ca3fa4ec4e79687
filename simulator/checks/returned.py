"""What plug-ins return: its shapes and types are checked where a program is traced, its values where a run looks."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from simulator.pool import Pool
from simulator.types import Array, GenlossError, Recipe, Record


@contextlib.contextmanager
def asked(who: str, params: Any = None) -> Iterator[None]:
    """What goes wrong in a plug-in for a reason that has a mend, in a sentence.

    It decides in Python by a number that is known only when the program runs, or reads what `params` do not have.
    """
    try:
        yield
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as error:
        own = [frame for frame in traceback.extract_tb(error.__traceback__) if "jax" not in Path(frame.filename).parts]
        raise GenlossError(
            f"{who} needs in Python a number that is known only when the program runs ({Path(own[-1].filename).name}, "
            f"line {own[-1].lineno}); use jax.numpy, and jnp.where in place of `if`."
        ) from error
    except AttributeError as error:
        if params is None or error.obj is not params:
            raise
        raise GenlossError(
            f"{who} reads `{error.name}` of what a generator has learned, which is {type(params).__name__} here and "
            "has none; leave it out, or measure with one of your own."
        ) from error


def fitted(who: str, found: Any) -> tuple[Any, Mapping[str, Any]]:
    """What `fit` returned, if that is parameters and a report."""
    if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[1], Mapping)):
        raise GenlossError(
            f"`fit` of {who} returned {type(found).__name__}; return two things, the parameters and a dict of what the "
            "fit says of itself, which may be empty: `return params, {}`."
        )
    return found


def named(plugin: Any) -> str:
    """A function's name, or an object's kind."""
    return getattr(plugin, "__name__", type(plugin).__name__)


def weights(recipe: Recipe, weight: Any, pool: Pool) -> Array:
    """What a recipe returned, if that is a number for each row."""
    shape, kind = np.shape(weight), _kind(weight)
    if shape != (pool.capacity,) or not _is_real(kind):
        raise GenlossError(
            f"The recipe {named(recipe)} returned {kind}{list(shape)} for a pool of {pool.capacity} rows; return one "
            f"weight >= 0 for each, float32[{pool.capacity}]."
        )
    return jnp.asarray(weight)


def metrics(who: str, said: Any) -> Any:
    """What a probe returned, float32, if that is numbers under names of their own."""
    names: set[str] = set()

    def read(found: Any, path: str) -> Any:
        where = f" as '{path}'" if path else ""
        if isinstance(found, Mapping):
            for name in found:
                if not isinstance(name, str) or not name:
                    raise GenlossError(f"{who} names a metric {name!r}{where}; names are text.")
            return {name: read(value, f"{path}.{name}" if path else name) for name, value in found.items()}
        if isinstance(found, tuple | list):
            raise GenlossError(f"{who} returned several values{where}; return a dict, which names them.")
        if path in names:
            raise GenlossError(f"{who} returned two metrics called '{path}'; give each a name of its own.")
        names.add(path)
        kind = _kind(found)
        if not _is_real(kind):
            raise GenlossError(
                f"{who} returned {found if found is None else type(found).__name__}{where}, of type {kind}; return "
                "numbers or arrays of numbers."
            )
        return jnp.asarray(found, jnp.float32)

    return read(said, "")


def _kind(value: Any) -> Any:
    return value.dtype if hasattr(value, "dtype") else np.asarray(value).dtype


def _is_real(kind: Any) -> bool:
    """Whether a type is one of real numbers."""
    return jnp.issubdtype(kind, np.bool_) or (
        jnp.issubdtype(kind, np.number) and not jnp.issubdtype(kind, np.complexfloating)
    )


def inspect(chunk: Record, first: int, axes: int) -> None:
    """Raises on weights that are none, an empty diet, or a loss that is not finite.

    `chunk` has leaves [*axes, generations], of which the first is generation `first`.
    """
    for name, bad, why in (
        ("fit.mass", np.isnan, _no_weights),
        ("fit.mass", lambda a: a <= 0, lambda t: f"The recipe left nothing to eat at generation {t}; loosen it."),
        ("fit.loss", lambda a: ~np.isfinite(a), lambda t: not_finite(t, 1)),
    ):
        if name in chunk:
            generations = chunk.t.shape[axes]
            wrong = np.moveaxis(bad(np.asarray(chunk[name])), axes, 0).reshape(generations, -1)
            if wrong.any():
                raise GenlossError(why(first + int(wrong.any(axis=1).argmax())))


def _no_weights(t: int) -> str:
    return (
        f"The recipe gave weights that are negative, infinite or NaN at generation {t}; a weight is a number >= 0, "
        "and 0 leaves a row out."
    )


def not_finite(t: int, share: float) -> str:
    return (
        f"The loss of generation {t} is not finite (seen {share:.0%} through its fit); "
        "lower the learning rate or look at the rows."
    )


def rows(who: str, t: int, said: Any) -> None:
    """Raises where a row that a generator wrote at generation t is NaN; `said` has leaves [...] of the host."""
    for leaf in jax.tree.leaves(said):
        if jnp.issubdtype(leaf.dtype, np.inexact) and np.isnan(leaf).any():
            raise GenlossError(
                f"{who} wrote rows that are NaN at generation {t}; look at its `fit` and `sample`, "
                "or at the rows it ate (slots not yet filled are rows of zeros at weight 0)."
            )
