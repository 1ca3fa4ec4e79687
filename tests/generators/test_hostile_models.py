"""Folders of models that somebody else made: none of them runs code, takes a file from elsewhere, or never ends."""

import json
import os
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import cases

from generators.hub import diffusers as hub
from generators.hub.pipeline import Pipeline
from generators.nets.dit import DiT
from generators.nets.unet import UNet
from generators.noise import read
from simulator import GenlossError
from simulator.probes.features import load

FILE = hub.FILE
RAN = "ran"  # the file that hostile code would write
CODE = f"from pathlib import Path\nPath({RAN!r}).touch()\nclass Evil: pass\n"
NETWORKS: dict[str, Any] = {
    "unet": UNet(block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, attention_head_dim=8),
    "transformer": DiT(num_layers=1, num_attention_heads=1),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """sound/unet and sound/transformer are pipelines."""
    root = tmp_path_factory.mktemp("sound")
    for name, network in NETWORKS.items():
        params = jax.tree.map(lambda a: jnp.zeros(a.shape), hub.skeleton(network, (8, 8, 3), None)[1])
        hub.save(root / name, network, params, (8, 8, 3), None, {"_class_name": "DDPMScheduler"})
    return root


@pytest.fixture
def folder(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pipeline to be spoiled, and to be read from a folder whose modules Python would import."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "evil.py").write_text(CODE)
    return Path(shutil.copytree(sound / "unet", tmp_path / "model"))


def change(file: Path, **keys: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **keys}))


def refused(read: Callable[[], Any]) -> str:
    """The one sentence in which something is refused; nothing has run."""
    with pytest.raises(GenlossError) as caught:
        read()
    said = str(caught.value)
    assert said.endswith(".") and len(said.splitlines()) == 1 and len(said) < 700
    assert not Path(RAN).exists() and "evil" not in sys.modules
    return said


# Code.

CLASSES: dict[str, dict[str, Any]] = {
    "a module beside the folder": {"unet": ["evil", "Evil"]},
    "a module of Python": {"unet": ["subprocess", "Popen"]},
    "a module by its path": {"scheduler": ["model.evil", "Evil"]},
    "no pair": {"scheduler": ["diffusers"]},
    "no names": {"unet": [["diffusers"], {}]},
}


@pytest.mark.parametrize("index", CLASSES.values(), ids=CLASSES)
def test_a_part_of_another_library_is_refused_and_not_imported(index: dict[str, Any], folder: Path):
    change(folder / "model_index.json", **index)
    for path in (folder / "evil.py", folder / "unet" / "evil.py"):
        path.write_text(CODE)
    assert "names" in refused(lambda: hub.load(str(folder)))
    assert "names" in refused(lambda: Pipeline(path=str(folder), steps=1))


@pytest.mark.parametrize("library", ["flax_controlnet", "os", "pipeline_utils", "__name__"])
def test_what_is_no_folder_of_pipelines_is_no_library(library: str, folder: Path):
    change(folder / "model_index.json", more=[library, "Evil"])
    assert f"['{library}', 'Evil'] for its more" in refused(lambda: Pipeline(path=str(folder), steps=1))


def test_code_beside_a_part_is_refused(folder: Path):
    """Which diffusers would take for the library of its class."""
    (folder / "unet" / "diffusers.py").write_text(CODE)
    assert "diffusers.py is code" in refused(lambda: Pipeline(path=str(folder), steps=1))
    assert hub.load(str(folder)).shape == (8, 8, 3)  # where nothing is looked for


CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "auto_map": {"auto_map": {"AutoModel": "evil.Evil"}},
    "auto_map of a part": {"text_config": {"auto_map": {"AutoModel": "evil--evil.Evil"}}},
    "auto_map in a list": {"parts": [{"auto_map": {}}]},
    "a kernel": {"attn_implementation": "somebody/kernels"},
}


@pytest.mark.parametrize("keys", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "preprocessor_config.json"])
def test_a_configuration_that_names_code_is_refused(keys: dict[str, Any], file: str, folder: Path):
    (folder / "text").mkdir()
    (folder / "text" / "evil.py").write_text(CODE) if file == "config.json" else None
    (folder / "text" / file).write_text(json.dumps(keys))
    change(folder / "model_index.json", text_encoder=["transformers", "AutoModel"])
    (folder / "text").rename(folder / "text_encoder")
    assert "code" in refused(lambda: Pipeline(path=str(folder), steps=1))


class Pickled:
    def __reduce__(self) -> Any:
        return os.mkdir, (RAN,)


@pytest.mark.parametrize("name", ["diffusion_pytorch_model.bin", "pytorch_model.pt", "model.ckpt", FILE])
def test_a_pickle_is_not_opened(name: str, folder: Path):
    import pickle

    (folder / "unet" / FILE).unlink()
    (folder / "unet" / name).write_bytes(pickle.dumps(Pickled()))
    assert "safetensors" in refused(lambda: hub.load(str(folder)))
    assert "safetensors" in refused(lambda: load(folder / "unet" / name, {}))
    if name != FILE:
        assert "pickle" in refused(lambda: Pipeline(path=str(folder), steps=1))


# Files.


@pytest.mark.parametrize("name", ["../else.safetensors", "/etc/else.safetensors", "a\0.safetensors", "..", "", 3, None])
def test_shards_lie_beside_their_index(name: Any, folder: Path):
    (folder / "unet" / FILE).rename(folder / "else.safetensors")
    (folder / "unet" / f"{FILE}.index.json").write_text(json.dumps({"weight_map": {"conv_in.bias": name}}))
    assert "ndex" in refused(lambda: hub.load(str(folder)))
    assert "ndex" in refused(lambda: Pipeline(path=str(folder), steps=1))


def test_an_index_of_no_shards_is_refused(folder: Path):
    (folder / "unet" / FILE).unlink()
    for content in ({}, {"weight_map": []}, {"weight_map": {"a": "gone.safetensors"}}):
        (folder / "unet" / f"{FILE}.index.json").write_text(json.dumps(content))
        refused(lambda: hub.load(str(folder)))


def header(content: Any, length: int | None = None, data: bytes = bytes(64)) -> bytes:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def leaf(shape: Any, end: Any = 64, start: Any = 0, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


LIES: dict[str, bytes] = {
    "more than there is": header({"a": leaf([10**9], 4 * 10**9)}),
    "more than a number holds": header({"a": leaf([2**62, 4])}),
    "nothing, without end": header({"a": leaf([0, 2**62], 0)}, data=b""),
    "before its start": header({"a": leaf([16], 60, -4)}),
    "twice the same": header({"a": leaf([16]), "b": leaf([16])}),
    "a header without end": header({"a": leaf([16])}, 2**63),
    "a header beyond the file": header({"a": leaf([16])}, 10**7),
    "another type": header({"a": leaf([64], dtype="F8_E4M3")}),
    "complex numbers": header({"a": leaf([8], dtype="C64")}),
    "no object": header(b"[" * 100_000),
    "nothing": b"",
    "half a length": b"\1\2\3",
}


@pytest.mark.parametrize("content", LIES.values(), ids=LIES)
def test_a_header_that_lies_is_refused(content: bytes, folder: Path):
    file = folder / "unet" / FILE
    file.write_bytes(content)
    assert str(file) in refused(lambda: hub.load(str(folder)))
    assert str(file) in refused(lambda: load(file, {"a": jnp.zeros(16)}))


def test_weights_that_are_cut_are_refused(folder: Path):
    file = folder / "unet" / FILE
    whole = file.read_bytes()
    for end in (len(whole) - 1, len(whole) // 2, 100, 8):
        file.write_bytes(whole[:end])
        assert "no safetensors file" in refused(lambda: hub.load(str(folder)))


JSONS: dict[str, bytes] = {
    "a list": b"[]",
    "null": b"null",
    "a number": b"1" * 5000,
    "text": b'"unet"',
    "bytes": bytes(range(256)),
    "nothing": b"",
    "nested": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "half": b'{"_class_name": "UNet2DModel", ',
    "no text": b'{"_class_name": "\xff"}',
}


@pytest.mark.parametrize("name", ["model_index.json", "unet/config.json", "scheduler/scheduler_config.json"])
def test_what_is_no_configuration_is_named(name: str, folder: Path):
    for content in JSONS.values():
        (folder / name).write_bytes(content)
        assert str(folder / name) in refused(lambda: hub.load(str(folder)))
        assert str(folder / name) in refused(lambda: Pipeline(path=str(folder), steps=1))
    assert str(folder / name) in refused(lambda: read(folder / name))


def test_a_configuration_without_end_is_refused_unread(folder: Path):
    file = folder / "unet" / "config.json"
    with file.open("wb") as opened:
        opened.truncate(10**11)
    assert "100000 MB" in refused(lambda: hub.load(str(folder)))
    file.unlink()
    os.mkfifo(file)  # which nobody writes to
    assert "no config.json" in refused(lambda: hub.load(str(folder)))
    file.unlink()
    file.mkdir()
    assert "no config.json" in refused(lambda: hub.load(str(folder)))


# Values.

EVIL: dict[str, list[Any]] = {
    "few": [-1, 10**30, "3", [8, "x"]],
    "many": [None, True, 0, 0.5, 10**9, "", [], {}, [-8, 16], [10**12] * 2, float("nan")],
}


@pytest.mark.parametrize("others", cases({name: (values,) for name, values in EVIL.items()}, "few"))
@pytest.mark.parametrize("name", NETWORKS)
def test_any_value_of_any_key_is_refused_or_one_a_network_can_have(
    name: str, others: list[Any], sound: Path, tmp_path: Path
):
    """In a sentence, and before anything is built that would not fit."""
    config = json.loads((sound / name / name / "config.json").read_text())
    model = Path(shutil.copytree(sound / name / name, tmp_path / "model"))
    taken = []
    for key, value in config.items():
        if key.startswith("_") and key not in ("_class_name", hub.CLASSES):
            continue
        for other in others:
            if type(other) is type(value) and other == value:
                continue
            (model / "config.json").write_text(json.dumps({**config, key: other}))
            try:
                hub.load(str(model))
            except GenlossError as error:
                said = str(error)
                assert said.endswith(".") and len(said.splitlines()) == 1 and len(said) < 900, (key, other, said)
            else:
                taken.append((key, other))
    # What no weight depends on may have other values.
    free = {"act_fn", "add_attention", "attention_head_dim", "attn_norm_num_groups", "center_input_sample", "dropout"}
    free |= {"flip_sin_to_cos", "freq_shift", "mid_block_scale_factor", "norm_eps", "norm_num_groups", "sample_size"}
    free |= {"upcast_attention", "downsample_padding", "out_channels", "num_class_embeds", "num_embeds_ada_norm"}
    free |= {"num_train_timesteps", "class_embed_type", "time_embedding_dim", "up_block_types", "down_block_types"}
    free |= {hub.CLASSES, "attention_bias", "norm_elementwise_affine", "in_channels"}
    assert {key for key, _ in taken} <= free, taken
    assert not any(isinstance(other, int | float) and abs(other) > 2**20 for _, other in taken), taken


def test_a_network_of_more_layers_than_weights_is_not_built(sound: Path, tmp_path: Path):
    for name, key in (("unet", "layers_per_block"), ("transformer", "num_layers")):
        model = Path(shutil.copytree(sound / name / name, tmp_path / name))
        change(model / "config.json", **{key: 10**6})
        assert "layers, and" in refused(lambda model=model: hub.load(str(model)))


NUMBERS = ("num_train_timesteps", "beta_start", "beta_end", "clip_sample_range", "steps_offset")


@pytest.mark.parametrize("kind", ["DDPMScheduler", "DDIMScheduler", "FlowMatchEulerDiscreteScheduler"])
def test_a_schedule_of_wrong_values_is_refused(kind: str):
    keys = (*NUMBERS, "beta_schedule", "prediction_type", "trained_betas", "clip_sample", "timestep_spacing")
    for key in ("num_train_timesteps", "shift") if kind.startswith("Flow") else keys:
        for other in ([10**30], float("nan"), float("inf"), "3", "", {}, [1, "x"], [float("nan")] * 1000, -(10**30)):
            refused(lambda key=key, other=other: read({"_class_name": kind, key: other}))
    refused(lambda: read({"_class_name": kind, "num_train_timesteps": 10**12}))
    refused(lambda: read({"_class_name": ["evil", "Evil"]}))


# What is missing is what is blamed.


def test_a_pipeline_that_is_missing_is_blamed_and_not_torch(folder: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("torch", "transformers"):
        monkeypatch.setitem(sys.modules, name, None)
    (folder / "a file").touch()
    for path, said in {
        "nowhere": "no pipeline at nowhere",
        "nowhere/at/all": "no pipeline at nowhere/at/all",
        str(folder / "nowhere"): "There is no pipeline at",
        str(folder / "a file"): "is a file; give the folder",
        str(folder / "unet"): r"There is no model_index.json in",
        "x" * 300: "no pipeline at x",
        "a\0b": "no pipeline at",
    }.items():
        assert said in refused(lambda path=path: Pipeline(path=path, steps=1))
    assert "pip install 'genloss[torch]'" in refused(lambda: Pipeline(path=str(folder), steps=1))
    assert "pip install 'genloss[torch]'" in refused(lambda: Pipeline(path="owner/name", steps=1))
    shutil.rmtree(folder / "unet")
    assert "There is no unet in" in refused(lambda: Pipeline(path=str(folder), steps=1))
    for path in ("nowhere", str(folder / "a file"), "x" * 300, "a\0b"):
        assert "There is no folder" in refused(lambda path=path: hub.load(path))


# Layouts, as diffusers reads them.


def test_layouts_of_hubs_hold_one_model(sound: Path, tmp_path: Path):
    """All parts in the root, as in the first ones; in bfloat16; a checkpoint of a training; its average beside it."""
    whole = hub.load(str(sound / "unet"))
    root = Path(shutil.copytree(sound / "unet", tmp_path / "root"))
    for part in ("unet", "scheduler"):
        for file in (root / part).iterdir():
            file.rename(root / file.name)
        (root / part).rmdir()
    average = Path(shutil.copytree(sound / "unet", tmp_path / "training" / "checkpoint-500"))
    shutil.copytree(average / "unet", average / "unet_ema")
    change(average / "unet_ema" / "config.json", decay=0.99, optimization_step=500, power=0.75, use_ema_warmup=True)
    (average / "unet_ema" / FILE).write_bytes((average / "unet" / FILE).read_bytes())
    for path in (root, average, average / "unet_ema"):
        found = hub.load(str(path))
        assert found[:3] == whole[:3] and jax.tree.all(jax.tree.map(np.array_equal, found.params, whole.params))
    assert hub.load(str(root)).scheduler == whole.scheduler
    with pytest.raises(GenlossError, match=r"no config\.json in .*, such as .*checkpoint-500"):
        hub.load(str(average.parent))


def test_half_precision_is_the_same_rounded(sound: Path, tmp_path: Path):
    from safetensors.numpy import load_file, save_file

    model = Path(shutil.copytree(sound / "unet", tmp_path / "model"))
    chance = np.random.default_rng(0)
    state = {name: chance.normal(size=a.shape) for name, a in load_file(model / "unet" / FILE).items()}
    for dtype in (jnp.bfloat16, np.float16, np.float64):
        save_file({name: a.astype(dtype) for name, a in state.items()}, model / "unet" / FILE)
        found = hub.state_dict(hub.load(str(model)).params)
        assert all(np.array_equal(found[name], a.astype(dtype).astype(np.float32)) for name, a in state.items())


def test_keys_of_the_first_schedules_are_passed_over_where_they_change_nothing():
    old: dict[str, Any] = {"_class_name": "DDPMScheduler", "_diffusers_version": "0.0.4", "timesteps": 1000}
    old |= {"tensor_format": "pt", "timestep_values": None, "variance_type": "fixed_large", "trained_betas": None}
    assert read(old) == read({"_class_name": "DDPMScheduler", "variance_type": "fixed_large"})
    for key, value, word in (
        ("timesteps", 2000, "of another length"),
        ("timestep_values", [3, 2, 1], "set it to None"),
    ):
        assert word in refused(lambda key=key, value=value: read({**old, key: value}))
