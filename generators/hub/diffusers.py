"""The bridge to diffusers: its `UNet2DModel` and `DiTTransformer2DModel` in and out, as folders and without torch.

A model is `config.json` and safetensors files; nothing is unpickled.  Names in them are the paths of the modules'
parameters, but for the leaves: kernels, scales and tables are all called weight, and matrices and convolutions are
stored outputs first.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from generators.hub import layout
from generators.hub.files import State, check_names, weights_of
from generators.hub.layout import CLASSES, FILE, OWN, VERSION
from generators.nets.dit import DiT
from generators.nets.unet import UNet, UNetModule
from simulator import disk
from simulator.checks.foreign import read_json
from simulator.numerics.streams import streams
from simulator.types import GenlossError, Params

TABLE = re.compile(r"class_embedding\.weight|.*\.class_embedder\.embedding_table\.weight")  # where the rows are
NULL = 1000  # the label that `DiTPipeline` takes for no label
OLD = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
UNUSED = ("pos_embed.pos_embed", "time_proj.W")  # constants that some versions stored
LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight", "bias": "bias"}


class Loaded(NamedTuple):
    """A stored model: `network(shape, classes, rngs=...)` builds the module that `params` belong to."""

    network: UNet | DiT
    shape: tuple[int, int, int]  # of a row, (h, w, c); of a latent model, that of its latents
    classes: int | None
    params: Params
    scheduler: dict[str, Any] | None  # scheduler_config.json, where there is one


def load(path: str, classes: int | None = None) -> Loaded:
    """The model in a folder of diffusers (of a pipeline or of a model alone), or of a hub id such as "owner/name".

    A part of a pipeline, `unet` or `scheduler`, lies in its own folder or, as in the first ones, in the root.  Where
    `unet_ema`, the average of a training, lies beside `unet` it is `unet` that is read, as diffusers does; for the
    average give the folder `unet_ema` itself.

    The label `classes` is the null label of classifier-free guidance.  A table with more rows than `classes` has the
    null label in its last; where a `UNet2DModel` has a row for every class and none more, a row of zeros is added,
    which tells nothing of a class.  `classes` is needed only where such a table has more rows than classes.
    Offline (`HF_HUB_OFFLINE=1`) a hub id is looked up among what was downloaded before.
    """
    model, scheduler = layout.find(path)
    state = {_renamed(name): leaf for name, leaf in weights_of(model, FILE, "diffusers").items() if name not in UNUSED}
    network, shape, stored = layout.network_of(read_json(model / "config.json"), model, len(state))
    labelled = isinstance(network, DiT) or any(name.startswith("class_embedding.") for name in state)
    if classes is not None and stored is None and not labelled:
        raise GenlossError(f"The model in {model} knows no labels; leave `classes` out.")
    classes = stored if classes is None else classes
    if classes is None and labelled and isinstance(network, UNet):
        raise GenlossError(f"The model in {model} takes labels as numbers; give how many it knows, `classes`.")
    tables = [name for name in state if TABLE.fullmatch(name)]
    if classes is None:
        state = {name: leaf for name, leaf in state.items() if name not in tables}
    else:
        state |= {name: _cut(state[name], classes, model) for name in tables}
    params = _params(state, skeleton(network, shape, classes)[1], str(model))
    return Loaded(network, shape, classes, params, scheduler)


@dataclass(frozen=True)
class Stored:
    """A network whose parameters begin as those of a stored model: `Diffusion(network=Stored("owner/name"))`.

    Each fit of a chain then begins there, or with `start="previous"` the first.  Times and noise are those of
    `noise.read`, which reads the scheduler's configuration beside it.
    """

    path: str  # a folder of diffusers, or a hub id

    def __call__(self, shape: tuple[int, ...], classes: int | None, *, dtype: Any = jnp.float32, rngs: nnx.Rngs) -> Any:
        found = _kept(self.path, classes)
        if tuple(shape) != found.shape:
            raise GenlossError(f"The model {self.path} makes rows of {found.shape}; the source's are {tuple(shape)}.")
        graph, like = nnx.split(found.network(shape, found.classes, dtype=dtype, rngs=rngs), nnx.Param)
        # Asked for when the program runs: as constants the weights would be compiled in.
        shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), nnx.as_pure(like))
        return nnx.merge(graph, jax.pure_callback(lambda: found.params, shapes, vmap_method="sequential"))

    @property
    def network(self) -> UNet | DiT:
        """What the stored model is."""
        return _kept(self.path, None).network


@functools.cache
def _kept(path: str, classes: int | None) -> Loaded:
    with jax.ensure_compile_time_eval():  # whoever asks first may be within a trace, whose values must not be kept
        return load(path, classes)


def save(
    folder: str | Path,
    network: UNet | DiT | Stored,
    params: Params,
    shape: tuple[int, ...],
    classes: int | None,
    scheduler: Mapping[str, Any],
    label: int | None = None,
) -> None:
    """Writes a model of images in [-1, 1] as a pipeline of diffusers: `load` gives it back.

    A UNet without classes is opened and sampled by `DDPMPipeline` and `DDIMPipeline`.  These know no labels: of one
    with classes, give the `label` to be written (`classes` is the null label), or none, and call `unet` yourself.
    A DiT is opened and sampled by `DiTPipeline`, whose null label is 1000: labels that were not trained are told as
    none.  Its autoencoder passes pixels through.
    `scheduler` is what scheduler_config.json is to hold, with `_class_name`.
    """
    if isinstance(network, Stored):
        network = network.network
    if not isinstance(network, UNet | DiT):
        raise GenlossError(f"diffusers has no network like {network!r}; only a UNet or a DiT can be written for it.")
    if "_class_name" not in scheduler:
        raise GenlossError(
            "The scheduler's configuration names no class; give it `_class_name`, such as DDPMScheduler."
        )
    graph, like = skeleton(network, shape, classes)
    state = state_dict(params)
    _check(state, like, "What is to be written")
    config = {f.name: getattr(network, f.name) for f in dataclasses.fields(network) if f.name not in OWN}
    h, w, c = shape
    config |= {"in_channels": c, "out_channels": network.out_channels or c, CLASSES: classes}
    if isinstance(network, UNet):
        if label is not None:
            state, classes = _of_one_class(nnx.merge(graph, params), state, label), None
        tables = network.class_embed_type is None and classes is not None
        config |= {
            "sample_size": h if h == w else [h, w],
            "down_block_types": network.down,
            "up_block_types": network.up,
            "num_class_embeds": (classes or 0) + 1 if tables else None,
            "class_embed_type": None if classes is None else network.class_embed_type,
            CLASSES: classes,
        }
        name, kind, pipeline = "unet", "UNet2DModel", "DDPMPipeline"
    else:
        if label is not None:
            raise GenlossError("A DiT is written with all its labels, which DiTPipeline asks for; leave `label` out.")
        state = _for_pipeline(state, classes)
        config |= {"sample_size": h, "num_embeds_ada_norm": NULL}
        name, kind, pipeline = "transformer", "DiTTransformer2DModel", "DiTPipeline"
    folder = Path(folder)
    _write(folder / name, {"_class_name": kind, **config}, state)
    parts = {"scheduler": ["diffusers", scheduler["_class_name"]], name: ["diffusers", kind]}
    if isinstance(network, DiT):
        _write(folder / "vae", *_passing(c, h))
        parts["vae"] = ["diffusers", "AutoencoderKL"]
    _dump(folder, "scheduler/scheduler_config.json", {"_diffusers_version": VERSION, **scheduler})
    _dump(folder, "model_index.json", {"_class_name": pipeline, "_diffusers_version": VERSION, **parts})


def skeleton(network: Any, shape: tuple[int, ...], classes: int | None) -> tuple[Any, Params]:
    """(structure, shapes of the parameters) of a network, without making any."""
    module = nnx.eval_shape(lambda: network(shape, classes, rngs=streams(0)))
    graph, params = nnx.split(module, nnx.Param)
    return graph, nnx.as_pure(params)


# Names and layouts.


def _renamed(name: str) -> str:
    """A name of today for one of a version that called the parts of attention otherwise."""
    return ".".join(OLD.get(part, part) for part in name.split(".")) if ".attentions." in name else name


def _cut(table: np.ndarray, classes: int, folder: Path) -> np.ndarray:
    """The rows of the classes and of the null label, [classes + 1, width]."""
    if classes > len(table):
        raise GenlossError(f"The model in {folder} has {len(table)} labels; {classes} `classes` are too many.")
    null = np.zeros_like(table[:1]) if classes == len(table) else table[-1:]  # [1, width]
    return np.concatenate([table[:classes], null])


def _paths(params: Params) -> list[tuple[str, str, Any]]:
    """(name in the state dict, kind of the leaf, leaf), in the order of `jax.tree.leaves`."""
    found = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        *front, kind = jax.tree_util.keystr(path, simple=True, separator=".").split(".")
        found.append((".".join([*front, LEAVES[kind]]), kind, leaf))
    return found


def _params(state: State, like: Params, where: str) -> Params:
    """Parameters in the structure of `like`, float32, from a state dict."""
    _check(state, like, where)
    leaves = []
    for name, kind, leaf in _paths(like):
        axes = np.argsort(_axes(kind, len(leaf.shape)))
        leaves.append(jnp.asarray(np.asarray(state[name]).astype(np.float32).transpose(axes)))
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def state_dict(params: Params) -> State:
    """The state dict of parameters."""
    return {name: np.asarray(leaf, np.float32).transpose(_axes(kind, leaf.ndim)) for name, kind, leaf in _paths(params)}


def _axes(kind: str, ndim: int) -> tuple[int, ...]:
    """Where the axes of a stored leaf are here: kernels are stored outputs, inputs, height, width."""
    return (ndim - 1, ndim - 2, *range(ndim - 2)) if kind == "kernel" else tuple(range(ndim))


def _check(state: State, like: Params, where: str) -> None:
    """Raises where names or shapes of a state dict are not those of the parameters `like`."""
    wanted = {name: tuple(leaf.shape[i] for i in _axes(kind, len(leaf.shape))) for name, kind, leaf in _paths(like)}
    check_names(state, wanted, where)


# Writing.


def _of_one_class(module: UNetModule, state: State, label: int) -> State:
    """A state dict without classes that says what the module says of one label, told with every time."""
    if module.classes is None or not 0 <= label <= module.classes:
        raise GenlossError(f"Label {label} is none of a UNet of {module.classes} classes; choose one that it knows.")
    state = {name: leaf for name, leaf in state.items() if not name.startswith("class_embedding")}
    told = np.asarray(module.told(jnp.array([label]))[0], np.float32)  # [time]
    return {**state, "time_embedding.linear_2.bias": state["time_embedding.linear_2.bias"] + told}


def _for_pipeline(state: State, classes: int | None) -> State:
    """The state dict of a DiT with as many labels as `DiTPipeline` asks for, those it has no row for told as none."""
    if classes is None:
        front = [name.removesuffix("timestep_embedder.linear_2.bias") for name in state if "linear_2.bias" in name]
        width = state["proj_out_1.weight"].shape[1]
        tables = {f"{name}class_embedder.embedding_table.weight": np.zeros((NULL + 1, width)) for name in front}
        return state | {name: table.astype(np.float32) for name, table in tables.items()}
    if classes > NULL:
        raise GenlossError(f"DiTPipeline takes label {NULL} for none, so that {classes} classes cannot be written.")
    wide = {}
    for name, leaf in state.items():
        if TABLE.fullmatch(name):
            wide[name] = np.concatenate([leaf[:-1], np.repeat(leaf[-1:], NULL + 1 - classes, 0)])  # [1001, width]
    return state | wide


def _passing(colours: int, side: int) -> tuple[dict[str, Any], State]:
    """(configuration, weights) of an `AutoencoderKL` whose latents are the pixels, to 1e-6.

    Encoder and decoder end in a normalisation and silu, neither of which is the identity.  But silu(x) - silu(-x) = x,
    and where channels hold x, -x and two constants ±A, all normalised together, the mean is 0 and the variance is
    2A²/channels but for a share of (x/A)², which a scale takes back.
    """
    width, constant = 2 * colours + 2, 4096.0
    config = {
        "in_channels": colours,
        "out_channels": colours,
        "latent_channels": colours,
        "block_out_channels": [width],
        "layers_per_block": 0,
        "norm_num_groups": 1,
        "sample_size": side,
        "scaling_factor": 1.0,
        "mid_block_add_attention": False,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
    }
    state: State = {}

    def conv(name: str, matrix: np.ndarray, bias: np.ndarray) -> None:
        """Every pixel by itself: `matrix` [outputs, inputs] in the middle of the kernel."""
        state[f"{name}.weight"] = np.pad(matrix[:, :, None, None], [(0, 0)] * 2 + [(1, 1)] * 2).astype(np.float32)
        state[f"{name}.bias"] = bias.astype(np.float32)

    def norm(name: str, scale: float) -> None:
        state[f"{name}.weight"], state[f"{name}.bias"] = np.full(width, scale, np.float32), np.zeros(width, np.float32)

    both = np.concatenate([np.eye(colours), -np.eye(colours), np.zeros((2, colours))])  # [width, colours]: x, -x, 0, 0
    constants = np.concatenate([np.zeros(2 * colours), [constant, -constant]])  # [width]
    spread = np.repeat([0.0, -30.0], colours)  # [2·colours]: the encoder's log-variance is as small as it can be
    for part, layers, more in (("encoder", (), colours), ("decoder", ("up_blocks.0.resnets.0",), 0)):
        conv(f"{part}.conv_in", both, constants)
        for layer in (*layers, "mid_block.resnets.0", "mid_block.resnets.1"):  # residual, and 0 beside the residue
            for i in (1, 2):
                norm(f"{part}.{layer}.norm{i}", 1.0)
                conv(f"{part}.{layer}.conv{i}", np.zeros((width, width)), np.zeros(width))
        norm(f"{part}.conv_norm_out", constant * (2 / width) ** 0.5)
        conv(f"{part}.conv_out", np.pad(both.T, ((0, more), (0, 0))), spread[: colours + more])
    return {"_class_name": "AutoencoderKL", **config}, state


def _write(folder: Path, config: dict[str, Any], state: State) -> None:
    """A model: its configuration and its weights."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    _dump(folder, "config.json", {"_diffusers_version": VERSION, **config})
    # safetensors writes an array's memory as it lies, whatever the order of its axes.
    state = {name: np.ascontiguousarray(leaf) for name, leaf in state.items()}
    with disk.writing(f"{folder / FILE} could not be written", SafetensorError):  # as it calls a full disk
        save_file(state, folder / FILE, metadata={"format": "pt"})


def _dump(folder: Path, name: str, content: Mapping[str, Any]) -> None:
    disk.write(folder, name, (json.dumps(content, indent=2, sort_keys=True) + "\n").encode())
