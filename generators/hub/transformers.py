"""The bridge to transformers: language models that a `Decoder` can be, in and out, as folders and without torch.

A model is config.json, safetensors files and, for its text, tokenizer.json; nothing is unpickled, and no code that
comes with a model is run.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from generators.hub.families import Family, apart, config_of, family_of, joined, network_of, places
from generators.hub.files import State, check_names, folder_of, weights_of
from generators.nets.decoder import Decoder
from simulator import disk
from simulator.checks.foreign import is_file, read_json
from simulator.numerics.streams import streams
from simulator.types import GenlossError, Params

FILE = "model.safetensors"
PARTS = ("config.json", "tokenizer.json", FILE, f"{FILE}.index.json", "model-*.safetensors")
VERSION = "5.24.0"  # of transformers, whose formats are written
UNUSED = re.compile(r".*\.(attn|attention)\.(bias|masked_bias)|.*\.rotary_emb\.inv_freq")  # constants, once stored too


class Loaded(NamedTuple):
    """A stored model: `network(vocabulary, length, rngs=...)` builds the module that `params` belong to."""

    network: Decoder
    vocabulary: int  # rows of its table of tokens
    length: int  # tokens of the longest row
    params: Params
    tokenizer: Path | None  # its tokenizer.json, where there is one
    bos: int | None  # the token that begins a text
    eos: int | None  # the one that ends it, the first where there are several


def load(path: str) -> Loaded:
    """The model in a folder of transformers, or of a hub id such as "owner/name": one of `families.FAMILIES`.

    Weights of any precision become float32, layer by layer; of shards, one file after another.  Offline
    (`HF_HUB_OFFLINE=1`) a hub id is looked up among what was downloaded before.
    """
    folder = folder_of(path, PARTS, "transformers")
    if not is_file(folder / "config.json"):
        raise GenlossError(f"There is no config.json in {folder}; give a folder that transformers wrote, or a hub id.")
    config = read_json(folder / "config.json")
    state = weights_of(folder, FILE, "transformers")
    family, network, vocabulary, length = network_of(config, folder, len(state))
    state = _renamed(state, family, network.tied, folder)
    params = _params(state, family, network, skeleton(network, vocabulary, length)[1], str(folder))
    tokenizer = folder / "tokenizer.json"
    bos, eos = (_token(config.get(f"{name}_token_id"), vocabulary) for name in ("bos", "eos"))
    return Loaded(network, vocabulary, length, params, tokenizer if is_file(tokenizer) else None, bos, eos)


@dataclass(frozen=True)
class Stored:
    """A network whose parameters begin as those of a stored model: `Transformer(network=Stored("owner/name"))`.

    A chain with `start="base"` begins each fit there, and with `start="previous"` the first.
    """

    path: str  # a folder of transformers, or a hub id

    def __call__(self, vocabulary: int, length: int, *, dtype: Any = jnp.float32, rngs: nnx.Rngs) -> Any:
        found = _kept(self.path)
        if vocabulary != found.vocabulary:
            raise GenlossError(
                f"The model {self.path} has {found.vocabulary} tokens, and {vocabulary} are asked for; give "
                f"`vocabulary={found.vocabulary}` and one of them as `bos`, such as {found.bos or 0}."
            )
        if length > found.length:
            raise GenlossError(
                f"The model {self.path} reads {found.length} tokens, and {length} are too many; lower `length`."
            )
        graph, like = nnx.split(found.network(vocabulary, length, dtype=dtype, rngs=rngs), nnx.Param)
        shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), nnx.as_pure(like))
        # Asked for when the program runs: as constants the weights would be compiled in.
        given = lambda: jax.tree.map(lambda a, like: a[: like.shape[0]], found.params, shapes)  # noqa: E731
        return nnx.merge(graph, jax.pure_callback(given, shapes, vmap_method="sequential"))

    @property
    def network(self) -> Decoder:
        """What the stored model is."""
        return _kept(self.path).network


@functools.cache
def _kept(path: str) -> Loaded:
    with jax.ensure_compile_time_eval():  # whoever asks first may be within a trace, whose values must not be kept
        return load(path)


def save(
    folder: str | Path,
    network: Decoder | Stored,
    params: Params,
    vocabulary: int,
    length: int,
    *,
    bos: int | None = None,
    eos: int | None = None,
    never: Sequence[int] = (),
    tokenizer: str | None = None,
) -> None:
    """Writes a model for `AutoModelForCausalLM.from_pretrained`: `load` gives it back.

    Tokens that `never` are said are kept from its `generate`.  `tokenizer` is the text of a tokenizer.json, which
    `AutoTokenizer.from_pretrained` opens.
    """
    if isinstance(network, Stored):
        network = network.network
    if not isinstance(network, Decoder):
        raise GenlossError(
            f"transformers has no language model like {network!r}; only a Decoder can be written for it."
        )
    family = family_of(network)
    own, wanted = (_named(tree) for tree in (params, skeleton(network, vocabulary, length)[1]))
    check_names(own, {name: leaf.shape for name, leaf in wanted.items()}, "What is to be written")
    state = state_dict(family, network, params)
    said = {"bos_token_id": bos, "eos_token_id": eos, "transformers_version": VERSION}
    _dump(folder, "config.json", {**config_of(family, network, vocabulary, length), "dtype": "float32", **said})
    _dump(folder, "generation_config.json", {**said, "suppress_tokens": list(never) or None})
    if tokenizer is not None:
        disk.write(folder, "tokenizer.json", tokenizer.encode())
        names = {token["id"]: token["content"] for token in json.loads(tokenizer)["added_tokens"]}
        ends = {f"{name}_token": names[i] for name, i in (("bos", bos), ("eos", eos)) if i in names}
        kind = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
        _dump(folder, "tokenizer_config.json", {**kind, **ends, "model_max_length": length})
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    with disk.writing(f"{Path(folder) / FILE} could not be written", SafetensorError):  # as it calls a full disk
        save_file(state, Path(folder) / FILE, metadata={"format": "pt"})


@functools.lru_cache(maxsize=8)
def skeleton(network: Any, vocabulary: int, length: int) -> tuple[Any, Params]:
    """(structure, shapes of the parameters) of a network, without making any."""
    module = nnx.eval_shape(lambda: network(vocabulary, length, rngs=streams(0)))
    graph, params = nnx.split(module, nnx.Param)
    return graph, nnx.as_pure(params)


def state_dict(family: Family, network: Decoder, params: Params) -> State:
    """The state dict of parameters."""
    leaves, state = [np.asarray(leaf, np.float32) for leaf in jax.tree.leaves(params)], {}
    for name, place in places(family, params).items():
        own = [leaves[i] for i in place.leaves]
        for i in range(network.depth) if place.layered else [None]:
            found = joined([leaf if i is None else leaf[i] for leaf in own], place, family, network.heads)
            # safetensors writes an array's memory as it lies, whatever the order of its axes.
            state[name.format(i)] = np.ascontiguousarray(found)
    return state


def _named(params: Params) -> dict[str, Any]:
    """Path -> leaf."""
    found = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in found}


def _renamed(state: State, family: Family, tied: bool, folder: Path) -> State:
    """A state dict with the names of a whole model: without constants, nor the head that is the table of tokens.

    A model without its head, as the first were stored, has names without the root of the family.
    """
    state = {name: leaf for name, leaf in state.items() if not UNUSED.fullmatch(name)}
    head, table = f"{family.names['lm_head']}.weight", f"{family.names['embed_tokens']}.weight"
    if not any(name.startswith(family.root) for name in state):
        state = {name if name == head else f"{family.root}{name}": leaf for name, leaf in state.items()}
    if tied and head in state and not np.array_equal(state.pop(head), state.get(table, np.zeros(0))):
        raise GenlossError(
            f"The config.json in {folder} ties the head to the table of tokens, and the weights have another; write "
            "`tie_word_embeddings` false into it."
        )
    return state


def _wanted(family: Family, network: Decoder, like: Params) -> dict[str, tuple[int, ...]]:
    """Name -> shape of each weight of a state dict."""
    leaves, found = jax.tree.leaves(like), {}
    for name, place in places(family, like).items():
        *inputs, outputs = leaves[place.leaves[0]].shape[place.layered :]
        shape = (*inputs, outputs * len(place.leaves))
        shape = shape[::-1] if place.transposed else shape
        found |= {name.format(i): shape for i in (range(network.depth) if place.layered else [None])}
    return found


def _params(state: State, family: Family, network: Decoder, like: Params, where: str) -> Params:
    """Parameters in the structure of `like`, float32, from a state dict, of which each weight is read once."""
    check_names(state, _wanted(family, network, like), where)
    shapes, tree = jax.tree.flatten(like)
    leaves: list[Any] = [None] * len(shapes)
    for name, place in places(family, like).items():
        own = [np.empty(shapes[i].shape, np.float32) for i in place.leaves]
        for i in range(network.depth) if place.layered else [None]:
            for leaf, part in zip(own, apart(state.pop(name.format(i)), place, family, network.heads), strict=True):
                leaf[... if i is None else i] = part
        for i, leaf in zip(place.leaves, own, strict=True):
            leaves[i] = jnp.asarray(leaf)
    return jax.tree.unflatten(tree, leaves)


def _token(given: Any, vocabulary: int) -> int | None:
    """The number of a token that a config.json gives, or the first; None where there is none."""
    first = given[0] if isinstance(given, list) and given else given
    return first if type(first) is int and 0 <= first < vocabulary else None


def _dump(folder: str | Path, name: str, content: Mapping[str, Any]) -> None:
    disk.write(folder, name, (json.dumps(content, indent=2, sort_keys=True) + "\n").encode())
