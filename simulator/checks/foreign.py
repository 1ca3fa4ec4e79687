"""Files that somebody else made: JSON and safetensors, read within bounds; a path in them stays in its folder.

Nothing here runs or unpickles what it reads.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np

from simulator.types import GenlossError

LARGEST = 32  # MB of a JSON file; the index of a model's weights, a line for each, takes a few


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Whether it is a folder; what cannot be the name of one is none."""
    try:
        return Path(path).is_dir()
    except (OSError, ValueError):  # too long, behind a folder that may not be entered, with a NUL
        return False


def is_file(path: str | os.PathLike[str]) -> bool:
    """Whether it is a file; what cannot be the name of one is none, nor is a device or a pipe."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file; raises where it is none, or too large."""
    if not is_file(file):
        raise GenlossError(f"There is no {file.name} in {file.parent}; give a folder that diffusers wrote.")
    try:
        size = file.stat().st_size // 10**6
        if size > LARGEST:
            raise GenlossError(f"{file} has {size} MB, and {LARGEST} are the most; give the file that was meant.")
        found = json.loads(file.read_bytes())
    except GenlossError:
        raise
    except (OSError, ValueError, RecursionError):  # of what is nested a thousand deep
        found = None
    if not isinstance(found, dict):
        raise GenlossError(f"{file} cannot be read as JSON; download or write it again.")
    return found


def read_tensors(file: Path) -> dict[str, np.ndarray]:
    """The arrays in a safetensors file by name; raises where it is damaged or holds anything but real numbers."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not is_file(file):
        raise GenlossError(f"There is no file of weights at {file}; give the path of a safetensors file.")
    try:
        found = load_file(file)  # bfloat16 too, which jax has made a type of NumPy's
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, MemoryError) as error:
        raise GenlossError(
            f"{file} is no safetensors file ({_line(error)}); download it again, or convert the weights to one."
        ) from None
    for name, leaf in found.items():
        if leaf.dtype.kind == "c":
            raise GenlossError(f"{name} in {file} is of complex numbers; choose a model of real ones.")
    return found


def typed(kind: type, given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What is given, each in the type of its field of the dataclass `kind`; raises where it has another, or no end."""
    import msgspec

    hints, found = get_type_hints(kind), {}
    names = {field.name for field in dataclasses.fields(kind)}
    for name, value in given.items():
        try:
            found[name] = msgspec.convert(value, hints[name]) if name in names else value
        except msgspec.ValidationError as error:
            raise GenlossError(f"`{name}` is {shown(value)} in {where}: {_line(error)}; write it again.") from None
        numbers = value if isinstance(value, list | tuple) else [value]
        if any(isinstance(number, float) and not np.isfinite(number) for number in numbers):
            raise GenlossError(f"`{name}` is {shown(value)} in {where}, which is no finite number; write it again.")
    return found


def shown(value: Any) -> str:
    """A value in a sentence."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def file_in(folder: Path, name: Any, suffix: str) -> Path:
    """The file of a folder that something in it names; raises where that is no plain name of such a file."""
    plain = isinstance(name, str) and name == Path(name).name and "\\" not in name and name.isprintable()
    if not (plain and name.endswith(suffix)):
        raise GenlossError(f"An index in {folder} names {shown(name)}, which is no {suffix} file beside it; remove it.")
    if not is_file(folder / name):
        raise GenlossError(f"There is no {name} in {folder}, which an index there names; download the model again.")
    return folder / name


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:200]
