"""The language models of transformers that a `Decoder` can be: what their config.json says, where their weights lie.

A weight is called there as the module that holds it, with the number of its layer, and `weight` or `bias`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from generators.hub.files import check_depth, check_number, refuse_keys
from generators.nets.decoder import Decoder
from simulator.checks.foreign import shown, typed
from simulator.types import GenlossError, Params

PROJECTIONS = ("q_proj", "k_proj", "v_proj")  # in the order in which they are stored as one
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu-tanh",
    "gelu_pytorch_tanh": "gelu-tanh",
    "gelu_fast": "gelu-tanh",
    "silu": "silu",
    "swish": "silu",
}
# Keys that change no logit: of training, of generation, of other tasks, of how a class computes.
SILENT = re.compile(
    r"architectures|model_type|transformers_version|(torch_)?dtype|use_cache|n_ctx|is_decoder|is_llama_config"
    r"|(attn|embd|resid)_pdrop|\w+_dropout|initializer_range|gradient_checkpointing|(bos|eos|pad|sep)_token_id"
    r"|tokenizer_class|task_specific_params|finetuning_task|id2label|label2id|num_labels|problem_type|summary_\w+"
    r"|return_dict|output_past|chunk_size_feed_forward|reorder_and_upcast_attn|pretraining_tp|sliding_window"
    r"|max_window_layers|(max|min)_length|do_sample|num_beams|num_return_sequences|temperature|top_[kp]|typical_p"
    r"|(repetition|length)_penalty"
)
SIZES = ("vocabulary", "length", "width", "depth", "heads", "kv_heads", "head", "hidden")
PART = "partial_rotary_factor"
PLAIN = {"norm": "layer", "gated": False, "qkv_bias": True, "bias": True, "head_norm": False}  # of GPT-2 and GPT-NeoX


class Family(NamedTuple):
    """A class of transformers."""

    kind: str  # its name
    model_type: str
    root: str  # what its names begin with, but for the head's
    names: Mapping[str, str]  # module of a Decoder -> the module there, with {} for the number of its layer
    keys: Mapping[str, str]  # field of a Decoder, "vocabulary" or "length" -> key of config.json
    left_out: Mapping[str, Any]  # what a key says that is left out
    fixed: Mapping[str, Any]  # what a key has to say
    fields: Mapping[str, Any]  # what all Decoders of this family are
    transposed: bool = True  # matrices of layers are stored outputs first, as that of the head is everywhere
    joined: int | None = None  # queries, keys and values are one: [3, heads, channels] is 0, [heads, 3, channels] is 1


def _gpt2() -> Family:
    layer = "transformer.h.{}."
    joined = {f"layers.self_attn.{part}": f"{layer}attn.c_attn" for part in PROJECTIONS}
    return Family(
        kind="GPT2LMHeadModel",
        model_type="gpt2",
        root="transformer.",
        names={
            "embed_tokens": "transformer.wte",
            "embed_positions": "transformer.wpe",
            "layers.input_layernorm": f"{layer}ln_1",
            **joined,
            "layers.self_attn.o_proj": f"{layer}attn.c_proj",
            "layers.post_attention_layernorm": f"{layer}ln_2",
            "layers.mlp.up_proj": f"{layer}mlp.c_fc",
            "layers.mlp.down_proj": f"{layer}mlp.c_proj",
            "norm": "transformer.ln_f",
            "lm_head": "lm_head",
        },
        keys={
            "vocabulary": "vocab_size",
            "length": "n_positions",
            "width": "n_embd",
            "depth": "n_layer",
            "heads": "n_head",
            "hidden": "n_inner",
            "activation": "activation_function",
            "eps": "layer_norm_epsilon",
            "tied": "tie_word_embeddings",
        },
        left_out={
            "vocab_size": 50257,
            "n_positions": 1024,
            "n_embd": 768,
            "n_layer": 12,
            "n_head": 12,
            "activation_function": "gelu_new",
            "layer_norm_epsilon": 1e-5,
            "tie_word_embeddings": True,
        },
        fixed={
            "scale_attn_weights": True,
            "scale_attn_by_inverse_layer_idx": False,
            "add_cross_attention": False,
        },
        fields={"positions": "learned", "parallel": False, **PLAIN},
        transposed=False,
        joined=0,
    )


SHARED = {  # names of keys that all but GPT-2 have
    "vocabulary": "vocab_size",
    "length": "max_position_embeddings",
    "width": "hidden_size",
    "depth": "num_hidden_layers",
    "heads": "num_attention_heads",
    "hidden": "intermediate_size",
    "activation": "hidden_act",
    "tied": "tie_word_embeddings",
}


def _neox() -> Family:
    layer = "gpt_neox.layers.{}."
    joined = {f"layers.self_attn.{part}": f"{layer}attention.query_key_value" for part in PROJECTIONS}
    return Family(
        kind="GPTNeoXForCausalLM",
        model_type="gpt_neox",
        root="gpt_neox.",
        names={
            "embed_tokens": "gpt_neox.embed_in",
            "layers.input_layernorm": f"{layer}input_layernorm",
            **joined,
            "layers.self_attn.o_proj": f"{layer}attention.dense",
            "layers.post_attention_layernorm": f"{layer}post_attention_layernorm",
            "layers.mlp.up_proj": f"{layer}mlp.dense_h_to_4h",
            "layers.mlp.down_proj": f"{layer}mlp.dense_4h_to_h",
            "norm": "gpt_neox.final_layer_norm",
            "lm_head": "embed_out",
        },
        keys={
            **SHARED,
            "eps": "layer_norm_eps",
            "theta": "rotary_emb_base",
            "rotary": "rotary_pct",
            "parallel": "use_parallel_residual",
        },
        left_out={
            "vocab_size": 50432,
            "max_position_embeddings": 2048,
            "hidden_size": 6144,
            "num_hidden_layers": 44,
            "num_attention_heads": 64,
            "intermediate_size": 24576,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-5,
            "rotary_emb_base": 10_000,
            "rotary_pct": 0.25,
            "use_parallel_residual": True,
            "tie_word_embeddings": False,
        },
        fixed={"attention_bias": True},
        fields={"positions": "rotary", **PLAIN},
        joined=1,
    )


def _llama(kind: str, model_type: str, left_out: Mapping[str, Any], fixed: Mapping[str, Any], **fields: bool) -> Family:
    parts = (*PROJECTIONS, "o_proj", "q_norm", "k_norm")
    modules = [f"self_attn.{part}" for part in parts] + [f"mlp.{part}_proj" for part in ("gate", "up", "down")]
    layer = ("input_layernorm", "post_attention_layernorm", *modules)
    shared = {"hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 10_000, "tie_word_embeddings": False}
    return Family(
        kind=kind,
        model_type=model_type,
        root="model.",
        names={
            "embed_tokens": "model.embed_tokens",
            **{f"layers.{name}": f"model.layers.{{}}.{name}" for name in layer},
            "norm": "model.norm",
            "lm_head": "lm_head",
        },
        keys={
            **SHARED,
            "kv_heads": "num_key_value_heads",
            "head": "head_dim",
            "eps": "rms_norm_eps",
            "theta": "rope_theta",
        },
        left_out={"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, **shared, **left_out},
        fixed={PART: 1.0, **fixed},
        fields={"positions": "rotary", "rotary": 1.0, "norm": "rms", "gated": True, "parallel": False, **fields},
    )


QWEN = {
    "vocab_size": 151936,
    "max_position_embeddings": 32768,
    "intermediate_size": 22016,
    "num_key_value_heads": 32,
}
FAMILIES = {
    family.kind: family
    for family in (
        _gpt2(),
        _neox(),
        _llama(
            "LlamaForCausalLM",
            "llama",
            {"vocab_size": 32000, "max_position_embeddings": 2048, "intermediate_size": 11008},
            {"attention_bias": False, "mlp_bias": False},
            qkv_bias=False,
            bias=False,
            head_norm=False,
        ),
        _llama(
            "Qwen2ForCausalLM", "qwen2", QWEN, {"use_sliding_window": False}, qkv_bias=True, bias=False, head_norm=False
        ),
        _llama(
            "Qwen3ForCausalLM",
            "qwen3",
            {**QWEN, "head_dim": 128},
            {"use_sliding_window": False, "attention_bias": False},
            qkv_bias=False,
            bias=False,
            head_norm=True,
        ),
    )
}


def network_of(config: Mapping[str, Any], folder: Path, weights: int) -> tuple[Family, Decoder, int, int]:
    """(family, network, tokens, longest row) of a config.json beside so many weights."""
    kinds = config.get("architectures")
    kind = kinds[0] if isinstance(kinds, list) and kinds else kinds
    if not isinstance(kind, str) or kind not in FAMILIES:
        named = kind if isinstance(kind, str) and kind.isidentifier() else f"model of architecture {shown(kind)}"
        raise GenlossError(f"{folder} holds a {named}; there are {', '.join(FAMILIES)}.")
    family = FAMILIES[kind]
    given = {key: v for key, v in config.items() if not (SILENT.fullmatch(key) or key.startswith("_"))}
    given = {**family.left_out, **_unrolled(given, family, folder)}
    silent = lambda key, value: value is None or value == family.fixed.get(key, False)  # noqa: E731
    known = set(family.keys.values())
    refuse_keys({key: value for key, value in given.items() if key not in known and not silent(key, value)}, folder)
    found = {field: given[key] for field, key in family.keys.items() if key in given}
    for field, value in found.items():
        if field in SIZES and not (value is None and field in ("kv_heads", "head", "hidden")):
            check_number(value, family.keys[field], folder)
    if found["activation"] not in list(ACTIVATIONS):  # of a list it can be asked whatever JSON holds
        refuse_keys({family.keys["activation"]: found["activation"]}, folder)
    check_depth(found["depth"], weights, folder)
    vocabulary, length = found.pop("vocabulary"), found.pop("length")
    found["activation"] = ACTIVATIONS[found["activation"]]
    for field, value in found.items():
        found |= typed(Decoder, {field: value}, f"the config.json in {folder}, as {family.keys[field]}")
    return family, Decoder(**{**family.fields, **found}), vocabulary, length


def _unrolled(given: dict[str, Any], family: Family, folder: Path) -> dict[str, Any]:
    """The keys, with those that newer versions keep in one beside the others, and without what says nothing."""
    kinds = given.get("layer_types")
    if isinstance(kinds, list) and {"full_attention"} == set(map(str, kinds)):
        given = {key: value for key, value in given.items() if key != "layer_types"}
    if "theta" not in family.keys:
        return given
    beside = {"rope_theta": family.keys["theta"], PART: family.keys.get("rotary", PART)}
    for name in ("rope_scaling", "rope_parameters"):
        rotary = given.pop(name, None) or {}
        told = rotary if isinstance(rotary, dict) else {name: rotary}
        told = {key: value for key, value in told.items() if value != "default"}  # of `rope_type`
        if told.keys() - beside.keys():
            refuse_keys({name: rotary}, folder)
        given |= {beside[key]: value for key, value in told.items()}
    return given


def config_of(family: Family, network: Decoder, vocabulary: int, length: int) -> dict[str, Any]:
    """What `network_of` reads."""
    names = {"gelu": "gelu", "gelu-tanh": "gelu_new", "silu": "silu"}
    facts = {**_facts(network), "vocabulary": vocabulary, "length": length, "activation": names[network.activation]}
    found = {key: facts[field] for field, key in family.keys.items()}
    return {"architectures": [family.kind], "model_type": family.model_type, **family.fixed, **found}


def family_of(network: Decoder) -> Family:
    """The family that a network is of."""
    facts = _facts(network)
    for family in FAMILIES.values():
        alone = family.joined is None or network.groups == network.heads
        wide = "head" in family.keys or network.channels * network.heads == network.width
        even = network.width % network.heads == 0 or family.kind != "LlamaForCausalLM"  # which transformers asks for
        if alone and wide and even and all(facts[field] == value for field, value in family.fields.items()):
            return family
    raise GenlossError(
        f"transformers has no language model like {network!r}; only those that `gpt2`, `neox` and `llama` name can be "
        "written for it."
    )


def _facts(network: Decoder) -> dict[str, Any]:
    """The fields of a network, those that are left open filled in."""
    fields = {field.name: getattr(network, field.name) for field in dataclasses.fields(network)}
    hidden = 4 * network.width if network.hidden is None else network.hidden
    return {**fields, "kv_heads": network.groups, "head": network.channels, "hidden": hidden}


# Weights.


class Place(NamedTuple):
    """Where a weight of transformers lies here."""

    leaves: list[int]  # numbers of the leaves, as `jax.tree.leaves` has them; three where queries, keys, values are one
    transposed: bool  # stored outputs first
    layered: bool  # one for each layer, [depth, ...]


def places(family: Family, like: Params) -> dict[str, Place]:
    """Name there, with {} for the number of a layer -> its place in parameters like these."""
    found: dict[str, list[tuple[int, int, str]]] = {}
    for i, (path, _) in enumerate(jax.tree_util.tree_leaves_with_path(like)):
        module, _, kind = jax.tree_util.keystr(path, simple=True, separator=".").rpartition(".")
        order = next((n for n, part in enumerate(PROJECTIONS) if module.endswith(part)), 0)
        name = f"{family.names[module]}.{'bias' if kind == 'bias' else 'weight'}"
        found.setdefault(name, []).append((order, i, kind))
    turned = lambda name, kind: kind == "kernel" and (family.transposed or "{}" not in name)  # noqa: E731
    return {
        name: Place([i for _, i, _ in sorted(own)], turned(name, own[0][2]), "{}" in name)
        for name, own in found.items()
    }


def apart(stored: np.ndarray, place: Place, family: Family, heads: int) -> list[np.ndarray]:
    """The leaves of one stored weight."""
    leaf = stored.T if place.transposed else stored  # [inputs, outputs]
    if len(place.leaves) == 1:
        return [leaf]
    *inputs, outputs = leaf.shape
    shape = [heads, outputs // heads // 3]
    shape.insert(family.joined or 0, 3)
    parts = np.moveaxis(leaf.reshape(*inputs, *shape), (family.joined or 0) - 3, 0)  # [3, inputs, heads, channels]
    return list(parts.reshape(3, *inputs, -1))


def joined(leaves: list[np.ndarray], place: Place, family: Family, heads: int) -> np.ndarray:
    """The one stored weight of leaves: the inverse of `apart`."""
    if len(leaves) == 1:
        found = leaves[0]
    else:
        parts = np.stack([leaf.reshape(*leaf.shape[:-1], heads, -1) for leaf in leaves])  # [3, inputs, heads, channels]
        parts = np.moveaxis(parts, 0, (family.joined or 0) - 3)
        found = parts.reshape(*parts.shape[:-3], -1)
    return found.T if place.transposed else found
