"""A folder in which diffusers keeps a model: where its parts lie, what its config.json means, and its weights.

Of a folder that somebody else made nothing is run: weights are safetensors, configurations are checked before anything
is built of them, and names in them are those of classes and files that are known.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from generators.nets.dit import DiT
from generators.nets.unet import UNet
from simulator.checks.foreign import file_in, is_file, is_folder, read_json, read_tensors, shown, typed
from simulator.types import GenlossError

State = dict[str, np.ndarray]  # a state dict: names and layouts are those of diffusers

NETWORKS: dict[str, type[UNet] | type[DiT]] = {
    "UNet2DModel": UNet,
    "DiTTransformer2DModel": DiT,
    "Transformer2DModel": DiT,  # the name that the first of them were stored under
}
# What diffusers takes a key for that is not in config.json, where a network made here has something else.
DEFAULTS: dict[type, dict[str, Any]] = {
    UNet: {
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        "block_out_channels": (224, 448, 672, 896),
        "attention_head_dim": 8,
        "norm_num_groups": 32,
        "in_channels": 3,
        "out_channels": 3,
    },
    DiT: {
        "patch_size": 2,
        "num_attention_heads": 16,
        "attention_head_dim": 72,
        "num_layers": 28,
        "in_channels": 4,
        "sample_size": 32,
        "num_embeds_ada_norm": 1000,
    },
}
ROWS = {UNet: "num_class_embeds", DiT: "num_embeds_ada_norm"}  # the key that says how many labels have a row
# Keys of other transformers, and what they say in the configuration of one that is a DiT.
ABSENT = {
    "cross_attention_dim": None,
    "num_vector_embeds": None,
    "only_cross_attention": False,
    "double_self_attention": False,
    "use_linear_projection": False,
    "attention_type": "default",
    "caption_channels": None,
    "interpolation_scale": None,
    "use_additional_conditions": None,
}
# What the average of a training (`unet_ema`) adds to its config.json: how it was taken.
AVERAGED = ("decay", "min_decay", "optimization_step", "update_after_step", "use_ema_warmup", "inv_gamma", "power")
OWN = ("convolution",)  # fields of ours that diffusers does not know
CLASSES = "_genloss_classes"  # written beside the keys of diffusers, which passes over names with an underscore
PARTS = [
    "model_index.json",
    *(f"{part}scheduler_config.json" for part in ("", "scheduler/")),
    *(f"{part}config.json" for part in ("", "unet/", "transformer/")),
    *(f"{part}diffusion_pytorch_model*.safetensors*" for part in ("", "unet/", "transformer/")),
]
LIBRARIES = ("diffusers", "transformers")  # whose classes the parts of a pipeline are
MOST = 2**20  # of anything that a config.json may ask for
FILE = "diffusion_pytorch_model.safetensors"
VERSION = "0.40.0"  # of diffusers, whose formats are written


def find(path: str) -> tuple[Path, dict[str, Any] | None]:
    """(folder of the model, scheduler_config.json where there is one) in a folder of diffusers or of a hub id."""
    folder = Path(path) if is_folder(path) else _download(path)
    index = read_json(folder / "model_index.json") if is_file(folder / "model_index.json") else {}
    found = [name for name in ("unet", "transformer") if name in index or is_file(folder / name / "config.json")]
    model, file = part(folder, found[0]) if found else folder, part(folder, "scheduler") / "scheduler_config.json"
    if not is_file(model / "config.json"):
        raise GenlossError(f"There is no config.json in {model}; give a folder that diffusers wrote{_below(folder)}.")
    for name in (*found[:1], "scheduler"):
        if name in index:
            of_library(index[name], name, folder, ("diffusers",))
    return model, read_json(file) if is_file(file) else None


def _download(name: str) -> Path:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise GenlossError(f"There is no folder {name}; give one that diffusers wrote, or a hub id such as owner/name.")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=PARTS, ignore_patterns=["*.fp16.*"]))
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        raise GenlossError(
            f"{name} is no folder, and the hub does not serve it ({type(error).__name__}); check the name, or give a "
            "folder."
        ) from None


def part(folder: Path, name: str) -> Path:
    """Where a part of a pipeline lies: its own folder, or the root where it has none."""
    return folder / name if is_folder(folder / name) else folder


def of_library(named: Any, name: str, folder: Path, libraries: Sequence[str]) -> None:
    """Raises where what a model_index.json says a part is, [library, class], is of none of these libraries."""
    known = isinstance(named, list) and len(named) == 2 and named[0] in libraries and isinstance(named[1], str)
    if not known:
        raise GenlossError(
            f"The model_index.json in {folder} names {shown(named)} for its {name}, and code that comes with a model "
            f"is not run; there are classes of {' and '.join(libraries)}."
        )


def _below(folder: Path) -> str:
    """The models that lie in folders of a folder, such as the checkpoints of a training."""
    known = ("config.json", "unet/config.json", "transformer/config.json")
    found = sorted({file.parents[len(Path(name).parts) - 1] for name in known for file in folder.glob(f"*/{name}")})
    return f", such as {found[-1]}" if found else ", or a hub id"


def network_of(
    config: dict[str, Any], folder: Path, weights: int
) -> tuple[UNet | DiT, tuple[int, int, int], int | None]:
    """(network, shape of a row, number of classes) of a config.json beside so many weights."""
    kind = config.get("_class_name")
    if not isinstance(kind, str) or kind not in NETWORKS:
        named = kind if isinstance(kind, str) and kind.isidentifier() else shown(kind)
        raise GenlossError(f"{folder} holds a {named}; there are {', '.join(NETWORKS)}.")
    network = NETWORKS[kind]
    table, known = ROWS[network], {f.name for f in dataclasses.fields(network)} - set(OWN)
    given = {name: tuple(v) if isinstance(v, list) else v for name, v in config.items() if not name.startswith("_")}
    given = {name: v for name, v in given.items() if name not in AVERAGED and (name not in ABSENT or v != ABSENT[name])}
    unknown = given.keys() - known - {table, "sample_size", "in_channels"}
    if unknown:
        names = ", ".join(f"{name} ({shown(given[name])})" for name in sorted(unknown)[:5])
        raise GenlossError(
            f"The config.json in {folder} has keys that are not supported: {names}; choose another model."
        )
    given = {**DEFAULTS[network], **given}
    size, channels, rows = given.pop("sample_size", None), given.pop("in_channels"), given.pop(table, None)
    if size is None or (isinstance(size, tuple) and len(size) != 2):
        raise GenlossError(f"The config.json in {folder} gives no `sample_size`; write the side of its images into it.")
    classes = config.get(CLASSES, rows)
    given = typed(network, given, f"the config.json in {folder}")
    labels = tuple(number for number in (rows, classes) if number is not None)
    for name, value in {**given, "sample_size": size, "in_channels": (channels,), table: labels}.items():
        for number in value if isinstance(value, tuple) else (value,):
            if name not in given or type(number) in (int, float):
                _check_number(number, name, name not in given, folder)
    layers = given.get("num_layers", 1) * given.get("layers_per_block", 1) * len(given.get("block_out_channels", "1"))
    if layers > weights:
        raise GenlossError(
            f"The config.json in {folder} asks for {layers} layers, and {weights} weights are stored there; give the "
            "weights and the configuration of one model."
        )
    outputs = given.pop("out_channels", None)
    if outputs is not None and outputs < channels:
        raise GenlossError(f"The model in {folder} makes {outputs} channels of {channels}; a denoiser makes them all.")
    built = network(**given, out_channels=None if outputs == channels else outputs)
    h, w = size if isinstance(size, tuple) else (size, size)
    return built, (h, w, channels), classes


def _check_number(value: Any, name: str, whole: bool, folder: Path) -> None:
    """Raises where a number is out of bounds, or none: before anything of that size is built."""
    least = 0 if type(value) is float or name == "downsample_padding" else 1
    if type(value) not in (int, *[float] * (not whole)) or not least <= value <= MOST:
        raise GenlossError(
            f"`{name}` is {shown(value)} in the config.json in {folder} and must be a number between {least} and "
            f"{MOST}; write it again."
        )


def weights_of(folder: Path) -> State:
    """All that the safetensors files of a model hold."""
    if is_file(folder / FILE):
        return read_tensors(folder / FILE)
    index = folder / f"{FILE}.index.json"
    if not is_file(index):
        raise GenlossError(
            f"There is no {FILE} in {folder}, and a pickle (.bin) is not opened; convert it once with diffusers, by "
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
