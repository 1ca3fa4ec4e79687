"""The bridge to transformers: parity with its torch models in both directions, and folders that its classes open."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import cases, reference, scattered
from equality import same
from flax import nnx
from safetensors.numpy import load_file, save_file

from generators.hub import transformers as hub
from generators.hub.families import FAMILIES, config_of, family_of, network_of
from generators.nets.decoder import Decoder, gpt2, llama, neox
from simulator import GenlossError

FILE = hub.FILE
V, LENGTH = 97, 32  # tokens, and the longest row
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
SHARED = {**SIZES, "vocab_size": V, "max_position_embeddings": LENGTH, "bos_token_id": 1, "eos_token_id": 0}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": V, "n_positions": LENGTH}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {  # class of transformers, and what its configuration is given
    "gpt2": ("GPT2LMHeadModel", {**GPT2, "bos_token_id": 1, "eos_token_id": 0}),
    "gpt2, wide": (
        "GPT2LMHeadModel",
        {**GPT2, "n_inner": 40, "activation_function": "gelu", "tie_word_embeddings": False, "bos_token_id": None},
    ),
    "neox": ("GPTNeoXForCausalLM", SHARED),
    "neox, serial": (
        "GPTNeoXForCausalLM",
        {**SHARED, "use_parallel_residual": False, "rotary_pct": 0.5, "rotary_emb_base": 500, "hidden_act": "gelu_new"},
    ),
    "llama": ("LlamaForCausalLM", {**SHARED, "num_key_value_heads": 2, "rope_theta": 100_000}),
    "qwen2": ("Qwen2ForCausalLM", {**SHARED, "num_key_value_heads": 1, "rms_norm_eps": 1e-5}),
    "qwen3": (
        "Qwen3ForCausalLM",
        {**SHARED, "num_key_value_heads": 2, "head_dim": 6, "tie_word_embeddings": True},
    ),
}
TOKENS = np.arange(18).reshape(2, 9) * 31 % V  # [2, 9]
MORE = 12  # tokens said after these


def weighted(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Weights by name that no library draws, large enough for every token to be heard."""
    found = {}
    for i, name in enumerate(sorted(shapes)):
        leaf, shape = scattered(*shapes[name], seed=i), shapes[name]
        scale = 0.3 if len(shape) == 1 else shape[-1] ** -0.5
        found[name] = (scale * leaf + (len(shape) == 1 and name.endswith("weight"))).astype(np.float32)
    return found


def told(logits: np.ndarray) -> np.ndarray:
    """What is kept of logits."""
    return logits.reshape(-1)[::29]


def ours(loaded: hub.Loaded) -> tuple[np.ndarray, np.ndarray]:
    """Logits of TOKENS [2, 9, V], and TOKENS with what is likeliest after them [2, 9 + MORE]."""
    graph, _ = hub.skeleton(loaded.network, loaded.vocabulary, loaded.length)
    net: Any = nnx.merge(graph, loaded.params)
    said = jax.jit(lambda tokens: net(tokens))
    rows = jnp.pad(jnp.asarray(TOKENS), ((0, 0), (0, MORE)))  # what follows a token changes nothing of its logits
    logits = np.asarray(said(rows))[:, :9]
    for t in range(9, 9 + MORE):
        rows = rows.at[:, t].set(said(rows)[:, t - 1].argmax(-1))
    return logits, np.asarray(rows)


@pytest.mark.parametrize("name", cases({name: name for name in CONFIGS}, "gpt2; gpt2, wide; neox; llama; qwen2; qwen3"))
def test_a_folder_says_what_transformers_said_of_it(name: str, tmp_path: Path):
    """Of the configuration, the names and the shapes that transformers wrote."""
    stored = reference("language")[name]
    (tmp_path / "config.json").write_text(json.dumps(stored["config"]))
    save_file(weighted({name: tuple(shape) for name, shape in stored["shapes"].items()}), tmp_path / FILE)
    logits, text = ours(hub.load(str(tmp_path)))
    assert np.abs(logits).max() > 1 and np.abs(told(logits) - np.array(stored["logits"])).max() < 1e-4
    assert text[:, 9:].tolist() == stored["text"]


@pytest.fixture(scope="module")
def torch() -> Any:
    import torch
    from transformers.utils import logging

    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    return torch


def theirs(torch: Any, model: Any) -> tuple[np.ndarray, np.ndarray]:
    with torch.no_grad():
        tokens = torch.from_numpy(TOKENS)
        said = model.eval()(tokens).logits.numpy()
        known = torch.ones_like(tokens)
        text = model.generate(
            tokens, attention_mask=known, max_new_tokens=MORE, do_sample=False, eos_token_id=None, pad_token_id=0
        )
    return np.asarray(said), np.asarray(text)


@pytest.mark.quick("gpt2", "neox", "qwen3")
@pytest.mark.torch
@pytest.mark.parametrize("name", CONFIGS)
def test_a_model_of_transformers_says_the_same_here_and_back_there(name: str, torch: Any, tmp_path: Path):
    import transformers

    kind, config = CONFIGS[name]
    cls = getattr(transformers, kind)
    torch.manual_seed(0)
    model = cls(cls.config_class(**config))
    with torch.no_grad():
        for leaf in model.parameters():
            leaf.copy_(
                torch.randn(leaf.shape) / leaf.shape[-1] ** 0.5
                if leaf.ndim > 1
                else leaf + 0.3 * torch.randn(leaf.shape)
            )
    model.save_pretrained(tmp_path / "theirs")
    loaded = hub.load(str(tmp_path / "theirs"))
    expected, text = theirs(torch, model)
    found, said = ours(loaded)
    assert np.abs(expected).max() > 1 and np.abs(found - expected).max() < 1e-4
    assert np.array_equal(said, text) and len(np.unique(text[:, 9:])) > 2
    # Written here, opened there; and once more here, to the bit.
    written(loaded, tmp_path / "ours")
    back = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    assert type(back) is cls
    assert np.abs(theirs(torch, back)[0] - expected).max() < 1e-5
    again = hub.load(str(tmp_path / "ours"))
    assert same(again.params, loaded.params)


# Folders.

SMALL: dict[str, Any] = {"width": 16, "depth": 2, "heads": 4, "hidden": 24}
NETWORKS: dict[str, Decoder] = {
    "gpt2": gpt2(**SMALL),
    "gpt2, untied": gpt2(**SMALL, tied=False, eps=1e-6, activation="gelu"),
    "neox": neox(**SMALL, rotary=0.5),
    "neox, tied": neox(**SMALL, rotary=0.5, tied=True, parallel=False, theta=50.0),
    "llama": llama(**SMALL, kv_heads=2),
    "qwen2": llama(**SMALL, kv_heads=2, qkv_bias=True, tied=False),
    "qwen3": llama(**SMALL, kv_heads=1, head=6, head_norm=True),
}


def trained(network: Decoder, vocabulary: int = 11, length: int = 8) -> hub.Loaded:
    """A network every weight of which is random."""
    chance = np.random.default_rng(0)
    like = hub.skeleton(network, vocabulary, length)[1]
    params = jax.tree.map(lambda a: jnp.asarray(chance.normal(size=a.shape), jnp.float32), like)
    return hub.Loaded(network, vocabulary, length, params, None, 1, 0)


def written(loaded: hub.Loaded, folder: Path) -> Path:
    network, vocabulary, length, params, _, bos, eos = loaded
    hub.save(folder, network, params, vocabulary, length, bos=bos, eos=eos)
    return folder


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_written_is_read_to_the_bit(name: str, tmp_path: Path):
    loaded = trained(NETWORKS[name])
    again = hub.load(str(written(loaded, tmp_path / "a")))
    assert same(again.params, loaded.params)
    assert again[1:3] == loaded[1:3] and again[4:] == loaded[4:]
    configs = [config_of(family_of(one.network), one.network, 11, 8) for one in (again, loaded)]
    assert configs[0] == configs[1]
    written(again, tmp_path / "b")
    assert all(
        (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in ("config.json", FILE)
    )


@pytest.mark.parametrize("name", ["gpt2", "neox", "llama"])
def test_first_names_shards_and_half_precision_are_read(name: str, tmp_path: Path):
    """Names without the root, constants among the weights, the table of tokens once more as a head."""
    loaded = trained(NETWORKS[name])
    state = load_file(written(loaded, tmp_path) / FILE)
    family = family_of(loaded.network)
    state: dict[str, Any] = {key.removeprefix(family.root): leaf.astype(np.float16) for key, leaf in state.items()}
    if loaded.network.tied:
        state["lm_head.weight"] = state[f"{family.names['embed_tokens']}.weight".removeprefix(family.root)]
    state |= {
        "h.0.attn.bias": np.ones((1, 1, 8, 8), np.float16),
        "layers.1.attention.masked_bias": np.full(1, -1e4, np.float16),
    }
    state |= {"layers.0.self_attn.rotary_emb.inv_freq": np.ones(2, np.float16)}
    (tmp_path / FILE).unlink()
    halves = [dict(list(state.items())[i::2]) for i in range(2)]
    for i, half in enumerate(halves):
        save_file(half, tmp_path / f"model-{i}.safetensors")
    index = {key: f"model-{i}.safetensors" for i, half in enumerate(halves) for key in half}
    (tmp_path / f"{FILE}.index.json").write_text(json.dumps({"weight_map": index}))
    rounded = jax.tree.map(lambda a: a.astype(np.float16).astype(np.float32), loaded.params)
    assert same(hub.load(str(tmp_path)).params, rounded)


def spoiled(folder: Path, name: str, spoil: Any) -> str:
    """A folder whose config.json and weights were changed by `spoil(config, state)`."""
    written(trained(NETWORKS[name]), folder)
    config, state = json.loads((folder / "config.json").read_text()), load_file(folder / FILE)
    spoil(config, state)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(state, folder / FILE)
    return str(folder)


def says(**keys: Any) -> Any:
    return lambda config, _: config.update(keys)


PLAIN = {"rope_type": "default", "rope_theta": 20.0}
READ: dict[str, tuple[str, Any, dict[str, Any]]] = {  # what a config.json says in another way
    "one key for all of rotary": ("neox", says(rope_parameters={**PLAIN, "partial_rotary_factor": 0.5}), {"theta": 20}),
    "layers alike": ("qwen2", says(layer_types=["full_attention"] * 2, rope_parameters=PLAIN), {"theta": 20}),
    "nothing said of scaling": ("llama", says(rope_scaling=None, sliding_window=4096, use_sliding_window=False), {}),
    "what tells of training": ("gpt2", says(n_ctx=8, attn_pdrop=0.1, summary_type="mean", _name_or_path="x"), {}),
    "nothing that is off": ("llama", says(use_mrope=False, quantization_config=None), {}),
    "the same function": ("gpt2", says(activation_function="gelu_pytorch_tanh"), {}),
}


@pytest.mark.parametrize(("name", "change", "expected"), READ.values(), ids=READ)
def test_what_means_the_same_is_read_the_same(name: str, change: Any, expected: dict[str, Any], tmp_path: Path):
    found = hub.load(spoiled(tmp_path, name, change))
    plain = hub.load(str(written(trained(NETWORKS[name]), tmp_path / "plain")))
    assert found.network == dataclasses.replace(plain.network, **expected)


def test_the_tokens_that_begin_and_end_a_text_are_read(tmp_path: Path):
    """Of several ends the first; none that the vocabulary does not have."""
    for bos, eos, expected in ((1, 0, (1, 0)), (None, [3, 4], (None, 3)), (50256, [], (None, None))):
        loaded = hub.load(spoiled(tmp_path, "llama", says(bos_token_id=bos, eos_token_id=eos)))
        assert (loaded.bos, loaded.eos) == expected


@pytest.mark.torch
@pytest.mark.parametrize("kind", FAMILIES)
def test_a_key_that_is_left_out_says_what_it_says_in_transformers(kind: str):
    import transformers

    whole = getattr(transformers, kind).config_class().to_dict()
    found, expected = (network_of({**config, "architectures": [kind]}, Path(), 10**6) for config in ({}, whole))
    assert found[2:] == expected[2:]
    assert config_of(found[0], *found[1:]) == config_of(expected[0], *expected[1:])


REFUSED: list[tuple[str, Any, str]] = [
    ("llama", says(rope_scaling={"type": "linear", "factor": 2.0}), "rope_scaling"),
    ("llama", says(rope_parameters={"rope_type": "llama3", "rope_theta": 1e4}), "rope_parameters .*llama3"),
    ("llama", says(partial_rotary_factor=0.5), r"partial_rotary_factor \(0.5\)"),
    ("llama", says(attention_bias=True), r"attention_bias \(True\)"),
    ("qwen2", says(use_sliding_window=True), r"use_sliding_window \(True\)"),
    ("qwen2", says(layer_types=["full_attention", "sliding_attention"]), "layer_types"),
    ("qwen3", says(final_logit_softcapping=30.0), r"final_logit_softcapping \(30.0\)"),
    ("gpt2", says(scale_attn_by_inverse_layer_idx=True), r"scale_attn_by_inverse_layer_idx \(True\)"),
    ("gpt2", says(scale_attn_weights=False), r"scale_attn_weights \(False\)"),
    ("gpt2", says(activation_function="relu"), r"activation_function \('relu'\)"),
    ("gpt2", says(quantization_config={"bits": 4}), "quantization_config"),
    ("neox", says(attention_bias=False), r"attention_bias \(False\)"),
    ("gpt2", says(architectures=["BertForMaskedLM"]), "holds a BertForMaskedLM; there are GPT2LMHeadModel"),
    ("gpt2", says(architectures=None), "architecture None"),
    ("gpt2", says(n_embd=10**9), "`n_embd` is 1000000000 .* number between 1 and"),
    ("gpt2", says(n_layer=999), "999 layers, and"),
    ("gpt2", says(n_inner=32), r"c_proj.weight is \[24, 16\] in .* and \[32, 16\] in the network"),
    ("gpt2", says(n_head=3), "multiple of `heads`"),
    ("llama", says(rms_norm_eps="small"), "`eps` is 'small' in the config.json .* rms_norm_eps"),
    ("llama", lambda _, state: state.pop("model.norm.weight"), "lacks 1 of the network's .* model.norm.weight"),
    ("llama", lambda _, state: state.update(more=np.zeros(1)), "no place for, such as more"),
    ("llama", says(tie_word_embeddings=False), "lacks 1 of the network's .* lm_head.weight"),
    (
        "llama",
        lambda _, state: state.update({"lm_head.weight": np.zeros((11, 16), np.float32)}),
        "ties the head to the table",
    ),
    ("neox", says(vocab_size=12), r"embed_in.weight is \[11, 16\] in .* and \[12, 16\]"),
]


@pytest.mark.parametrize(("name", "spoil", "named"), REFUSED)
def test_a_model_that_cannot_be_read_is_refused(name: str, spoil: Any, named: str, tmp_path: Path):
    with pytest.raises(GenlossError, match=named) as caught:
        hub.load(spoiled(tmp_path, name, spoil))
    said = str(caught.value)
    assert said.endswith(".") and len(said.splitlines()) == 1 and len(said) < 700


EVIL: dict[str, list[Any]] = {
    "few": [-1, 10**30, "3", [8, "x"], {"a": {}}],
    "many": [None, True, 0, 0.5, 10**9, "", [], {}, [-8, 16], [10**12] * 2, float("nan"), float("inf")],
}


@pytest.mark.quick("neox-few")
@pytest.mark.parametrize("others", EVIL.values(), ids=EVIL)
@pytest.mark.parametrize("name", ["gpt2", "neox", "qwen3"])
def test_any_value_of_any_key_is_refused_or_one_a_network_can_have(name: str, others: list[Any], tmp_path: Path):
    """In a sentence, and before anything is built that would not fit."""
    written(trained(NETWORKS[name]), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    taken = set()
    for key in (*config, "rope_scaling", "rope_parameters", "layer_types", "auto_map"):
        for other in others:
            (tmp_path / "config.json").write_text(json.dumps({**config, key: other}))
            try:
                hub.load(str(tmp_path))
            except GenlossError as error:
                said = str(error)
                assert said.endswith(".") and len(said.splitlines()) == 1 and len(said) < 900, (key, other, said)
            else:
                taken |= {key} if other != config.get(key) and other else set()
    # What no weight depends on may have other values.
    free = {"bos_token_id", "eos_token_id", "dtype", "model_type", "transformers_version"}
    free |= {"max_position_embeddings", "rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "rope_theta"}
    free |= {"rotary_emb_base", "use_parallel_residual", "rotary_pct"}
    assert taken <= free, taken


def test_folders_that_hold_no_model_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(GenlossError, match=r"no config\.json .* give a folder that transformers wrote"):
        hub.load(str(tmp_path))
    for path in (str(tmp_path / "nowhere"), "gpt2", "a\0b", "x" * 300):
        with pytest.raises(GenlossError, match=r"There is no folder .* transformers wrote, or a hub id"):
            hub.load(path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(GenlossError, match="the hub does not serve it"):
        hub.load("nobody/nothing-of-the-kind")
    written(trained(NETWORKS["gpt2"]), tmp_path)
    (tmp_path / FILE).write_bytes(b"no weights")
    with pytest.raises(GenlossError, match="is no safetensors file"):
        hub.load(str(tmp_path))
    (tmp_path / FILE).unlink()
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(GenlossError, match=r"a pickle .* is not opened; convert it once with transformers"):
        hub.load(str(tmp_path))
    (tmp_path / "config.json").write_text("[")
    with pytest.raises(GenlossError, match="cannot be read as JSON"):
        hub.load(str(tmp_path))


UNLIKE: dict[str, Decoder] = {
    "grouped queries in GPT-2": gpt2(**SMALL, kv_heads=2),
    "heads of another width": neox(**{**SMALL, "width": 20}, head=4, rotary=0.5),
    "no biases in GPT-2": gpt2(**SMALL, bias=False),
    "RMS norm in GPT-NeoX": neox(**SMALL, rotary=0.5, norm="rms"),
    "SwiGLU in GPT-2": gpt2(**SMALL, gated=True),
    "a part turns in Llama": llama(**SMALL, kv_heads=2, rotary=0.5),
    "normalised heads with biases": llama(**SMALL, kv_heads=2, head_norm=True, qkv_bias=True),
    "a width that is no multiple": llama(**{**SMALL, "width": 18}, kv_heads=2, head=4),
}


@pytest.mark.parametrize("network", UNLIKE.values(), ids=UNLIKE)
def test_what_transformers_has_no_class_for_is_not_written(network: Decoder, tmp_path: Path):
    with pytest.raises(GenlossError, match="no language model like"):
        written(trained(network), tmp_path)
    assert not list(tmp_path.iterdir())


def test_parameters_of_another_network_are_not_written(tmp_path: Path):
    loaded = trained(NETWORKS["gpt2"])
    for changes in ({"vocabulary": 12}, {"network": NETWORKS["llama"]}, {"network": gpt2(**{**SMALL, "depth": 3})}):
        with pytest.raises(GenlossError, match="is to be written"):
            written(loaded._replace(**changes), tmp_path)  # pyright: ignore[reportArgumentType]
    with pytest.raises(GenlossError, match="only a Decoder"):
        written(loaded._replace(network=nnx.Linear), tmp_path)  # pyright: ignore[reportArgumentType]
    assert not list(tmp_path.iterdir())


# A network that begins there.


def test_a_network_begins_at_a_stored_model(tmp_path: Path):
    """Of shorter rows it has the first positions; in a compiled program too, which does not hold the weights."""
    loaded = trained(NETWORKS["gpt2"])
    stored = hub.Stored(str(written(loaded, tmp_path)))
    begin = lambda: nnx.as_pure(nnx.split(stored(11, 5, rngs=nnx.Rngs(0)), nnx.Param)[1])  # noqa: E731
    found = jax.jit(begin)()
    expected = {**loaded.params, "embed_positions": {"embedding": loaded.params["embed_positions"]["embedding"][:5]}}
    assert all(map(np.array_equal, jax.tree.leaves(found), jax.tree.leaves(expected)))
    assert len(jax.jit(begin).lower().as_text()) < 20_000
    assert stored.network == NETWORKS["gpt2"]
    with pytest.raises(GenlossError, match="has 11 tokens, and 12 are asked for"):
        stored(12, 5, rngs=nnx.Rngs(0))
    with pytest.raises(GenlossError, match="reads 8 tokens, and 9 are too many"):
        stored(11, 9, rngs=nnx.Rngs(0))


def test_torch_is_not_needed(tmp_path: Path):
    """Reading and writing import neither torch nor transformers."""
    written(trained(NETWORKS["qwen3"]), tmp_path / "a")
    code = (
        "import sys\nfor name in ('torch', 'diffusers', 'transformers', 'tokenizers'): sys.modules[name] = None\n"
        "from generators.hub import transformers as hub\n"
        f"network, vocabulary, length, params, _, bos, eos = hub.load({str(tmp_path / 'a')!r})\n"
        f"hub.save({str(tmp_path / 'b')!r}, network, params, vocabulary, length, bos=bos, eos=eos)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(
        (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in ("config.json", FILE)
    )


def test_every_family_has_a_case():
    assert {kind for kind, _ in CONFIGS.values()} == FAMILIES.keys()
