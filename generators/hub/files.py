"""Folders in which libraries keep models: fetched from the hub, their safetensors read, names and shapes compared."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simulator.checks.foreign import file_in, is_file, is_folder, read_json, read_tensors, shown
from simulator.types import GenlossError

State = dict[str, np.ndarray]  # a state dict: names and layouts are those of the library that wrote it
MOST = 2**20  # of anything that a config.json may ask for


def folder_of(path: str, parts: Sequence[str], library: str) -> Path:
    """The folder at a path; or of a hub id, such as "owner/name", of which the files named by `parts` are fetched."""
    if is_folder(path):
        return Path(path)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", path):
        raise GenlossError(f"There is no folder {path}; give one that {library} wrote, or a hub id such as owner/name.")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(path, allow_patterns=list(parts), ignore_patterns=["*.fp16.*"]))
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        raise GenlossError(
            f"{path} is no folder, and the hub does not serve it ({type(error).__name__}); check the name, or give a "
            "folder."
        ) from None


def weights_of(folder: Path, file: str, library: str) -> State:
    """All that the safetensors files of a model hold: one of this name, or the shards that its index names."""
    if is_file(folder / file):
        return read_tensors(folder / file)
    index = folder / f"{file}.index.json"
    if not is_file(index):
        raise GenlossError(
            f"There is no {file} in {folder}, and a pickle (.bin) is not opened; convert it once with {library}, by "
            "`from_pretrained(...).save_pretrained(...)`."
        )
    where = read_json(index).get("weight_map")
    if not isinstance(where, dict):
        raise GenlossError(f"{index} has no `weight_map`; download the model again.")
    files = {name: file_in(folder, name, ".safetensors") for name in where.values() if isinstance(name, str)}
    if len(files) < len(set(map(str, where.values()))):
        raise GenlossError(f"{index} names files by what is no text; download the model again.")
    state: State = {}
    for name in sorted(files):
        state |= read_tensors(files[name])
    return state


def check_names(state: State, wanted: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Raises where names or shapes of a state dict are not the wanted ones."""
    absent, unasked = wanted.keys() - state.keys(), state.keys() - wanted.keys()
    if absent:
        raise GenlossError(
            f"{where} lacks {len(absent)} of the network's {len(wanted)} weights, such as {min(absent)}; give the "
            "weights and the configuration of one model."
        )
    if unasked:
        raise GenlossError(
            f"{where} has {len(unasked)} weights that the network has no place for, such as {min(unasked)}; give the "
            "weights and the configuration of one model."
        )
    for name, shape in wanted.items():
        if state[name].shape != shape:
            raise GenlossError(
                f"{name} is {list(state[name].shape)} in {where} and {list(shape)} in the network; give the weights "
                "and the configuration of one model."
            )


def check_number(value: Any, name: str, folder: Path, least: int = 1, whole: bool = True) -> None:
    """Raises where a number of a config.json is out of bounds, or none: before anything of that size is built."""
    if type(value) not in (int, *[float] * (not whole)) or not least <= value <= MOST:
        raise GenlossError(
            f"`{name}` is {shown(value)} in the config.json in {folder} and must be a number between {least} and "
            f"{MOST}; write it again."
        )


def check_depth(layers: int, weights: int, folder: Path) -> None:
    """Raises where a config.json asks for more layers than there are weights: before they are built."""
    if layers > weights:
        raise GenlossError(
            f"The config.json in {folder} asks for {layers} layers, and {weights} weights are stored there; give the "
            "weights and the configuration of one model."
        )


def refuse_keys(unknown: Mapping[str, Any], folder: Path) -> None:
    """Raises where a config.json says something that would have to be heeded and is not."""
    if unknown:
        names = ", ".join(f"{name} ({shown(unknown[name])})" for name in sorted(unknown)[:5])
        raise GenlossError(
            f"The config.json in {folder} has keys that are not supported: {names}; choose another model."
        )
