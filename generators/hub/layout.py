"""A folder in which diffusers keeps a model: where its parts lie, what its config.json means, and its weights.

Of a folder that somebody else made nothing is run: weights are safetensors, configurations are checked before anything
is built of them, and names in them are those of classes and files that are known.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from generators.hub.files import check_depth, check_number, folder_of, refuse_keys
from generators.nets.dit import DiT
from generators.nets.unet import UNet
from simulator.checks.foreign import is_file, is_folder, read_json, shown, typed
from simulator.types import GenlossError

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
FILE = "diffusion_pytorch_model.safetensors"
VERSION = "0.40.0"  # of diffusers, whose formats are written


def find(path: str) -> tuple[Path, dict[str, Any] | None]:
    """(folder of the model, scheduler_config.json where there is one) in a folder of diffusers or of a hub id."""
    folder = folder_of(path, PARTS, "diffusers")
    index = read_json(folder / "model_index.json") if is_file(folder / "model_index.json") else {}
    found = [name for name in ("unet", "transformer") if name in index or is_file(folder / name / "config.json")]
    model, file = part(folder, found[0]) if found else folder, part(folder, "scheduler") / "scheduler_config.json"
    if not is_file(model / "config.json"):
        raise GenlossError(f"There is no config.json in {model}; give a folder that diffusers wrote{_below(folder)}.")
    for name in (*found[:1], "scheduler"):
        if name in index:
            of_library(index[name], name, folder, ("diffusers",))
    return model, read_json(file) if is_file(file) else None


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
    refuse_keys({name: given[name] for name in unknown}, folder)
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
                least = 0 if type(number) is float or name == "downsample_padding" else 1
                check_number(number, name, folder, least, whole=name not in given)
    layers = given.get("num_layers", 1) * given.get("layers_per_block", 1) * len(given.get("block_out_channels", "1"))
    check_depth(layers, weights, folder)
    outputs = given.pop("out_channels", None)
    if outputs is not None and outputs < channels:
        raise GenlossError(f"The model in {folder} makes {outputs} channels of {channels}; a denoiser makes them all.")
    built = network(**given, out_channels=None if outputs == channels else outputs)
    h, w = size if isinstance(size, tuple) else (size, size)
    return built, (h, w, channels), classes
