"""The bridge to diffusers: parity with its torch models in both directions, and folders that its pipelines open."""

import dataclasses
import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import cases, reference, scattered
from flax import nnx
from safetensors.numpy import load_file, save_file

from generators.hub import diffusers as hub
from generators.hub import layout
from generators.nets.dit import DiT
from generators.nets.unet import UNet
from simulator import GenlossError

FILE = hub.FILE
SCHEDULE = {"_class_name": "DDPMScheduler", "num_train_timesteps": 100, "beta_schedule": "linear", "clip_sample": True}
CIFAR = {  # google/ddpm-cifar10-32
    "_class_name": "UNet2DModel",
    "act_fn": "silu",
    "attention_head_dim": None,
    "block_out_channels": [128, 256, 256, 256],
    "center_input_sample": False,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "in_channels": 3,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-06,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 32,
    "time_embedding_type": "positional",
    "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
}
SMALL = {
    "_class_name": "UNet2DModel",
    "sample_size": 8,
    "in_channels": 1,
    "out_channels": 1,
    "block_out_channels": [16, 32],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 8,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
}
ATTENDING = {"down_block_types": ["AttnDownBlock2D"] * 2, "up_block_types": ["AttnUpBlock2D"] * 2}
RESNET = {"down_block_types": ["ResnetDownsampleBlock2D"] * 2, "up_block_types": ["ResnetUpsampleBlock2D"] * 2}
SKIP = {"in_channels": 3, "out_channels": 3, "block_out_channels": [32, 32], "time_embedding_type": "fourier"}
DIT = {
    "_class_name": "DiTTransformer2DModel",
    "sample_size": 8,
    "in_channels": 1,
    "patch_size": 2,
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "num_layers": 2,
    "num_embeds_ada_norm": 5,
}
CONFIGS = {
    "tiny": SMALL,
    "cifar": {**CIFAR, "block_out_channels": [32, 64, 64, 64], "sample_size": 16},
    "classes": {**SMALL, "num_class_embeds": 5, "resnet_time_scale_shift": "scale_shift"},
    "dit": DIT,
    "dit, learned variance": {**DIT, "out_channels": 2, "activation_fn": "gelu", "attention_bias": False},
    "dit, affine": {
        **DIT,
        "_class_name": "Transformer2DModel",
        "norm_elementwise_affine": True,
        "num_vector_embeds": None,
    },
    "resnet resampling": {**SMALL, **ATTENDING, "downsample_type": "resnet", "upsample_type": "resnet"},
    "resnet blocks": {**SMALL, **RESNET, "mid_block_scale_factor": 1.4, "sample_size": [8, 12], "act_fn": "mish"},
    "no attention": {
        **SMALL,
        "add_attention": False,
        "center_input_sample": True,
        "act_fn": "gelu",
        "layers_per_block": 2,
    },
    "no middle": {**SMALL, "mid_block_type": None, "out_channels": 2, "time_embedding_dim": 24, "act_fn": "relu"},
    "labels as numbers": {**SMALL, "class_embed_type": "timestep", "attn_norm_num_groups": 8, "freq_shift": 1},
    "learned times": {**SMALL, "time_embedding_type": "learned", "num_train_timesteps": 50},
    "skip": {**SMALL, **SKIP, "down_block_types": ["SkipDownBlock2D"] * 2, "up_block_types": ["SkipUpBlock2D"] * 2},
    "google/ddpm-cifar10-32": CIFAR,  # 35.7 M parameters
    "skip, attending": {
        **SMALL,
        **SKIP,
        "down_block_types": ["AttnSkipDownBlock2D"] * 2,
        "up_block_types": ["AttnSkipUpBlock2D"] * 2,
    },
}


@pytest.fixture(scope="module")
def torch() -> Any:
    import torch

    torch.set_num_threads(1)
    return torch


def of_torch(torch: Any, config: dict[str, Any]) -> Any:
    """diffusers' own model, every weight of it random."""
    import diffusers

    cls = getattr(diffusers, "UNet2DModel" if config["_class_name"] == "UNet2DModel" else "DiTTransformer2DModel")
    torch.manual_seed(0)
    model = cls.from_config({**config, "_class_name": cls.__name__}).eval()
    with torch.no_grad():
        for leaf in model.parameters():
            scale = 1 / np.sqrt(leaf[0].numel()) if leaf.ndim > 1 else 0.3
            leaf.copy_(scale * torch.randn(leaf.shape) + (leaf.ndim == 1) * leaf)
    return model


def batch(loaded: hub.Loaded, n: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x = scattered(n, *loaded.shape).astype(np.float32)
    return x, np.array([1, 17, 49][:n], np.float32), np.arange(n) % (loaded.classes or 1)


def ours(loaded: hub.Loaded, x: Any, t: Any, label: Any) -> np.ndarray:
    graph, _ = hub.skeleton(loaded.network, loaded.shape, loaded.classes)
    said = jax.jit(lambda params: nnx.merge(graph, params)(jnp.asarray(x), jnp.asarray(t), jnp.asarray(label)))
    return np.asarray(said(loaded.params))


def theirs(torch: Any, model: Any, loaded: hub.Loaded, x: Any, t: Any, label: Any) -> np.ndarray:
    labels = None if loaded.classes is None else torch.from_numpy(label)
    learned = getattr(model.config, "time_embedding_type", "") == "learned"
    times = torch.from_numpy(t.astype(np.int64) if learned else t)
    with torch.no_grad():
        said = model(torch.from_numpy(x.transpose(0, 3, 1, 2)), times, class_labels=labels).sample
    return said.numpy().transpose(0, 2, 3, 1)[..., : x.shape[-1]]


def stored(model: Any, folder: Path, **changes: Any) -> Path:
    """The folder in which diffusers stored a model."""
    model.save_pretrained(folder, **changes)
    return folder


QUICK = "tiny; cifar; classes; dit; dit, learned variance; resnet resampling; skip, attending"


@pytest.mark.quick("tiny", "dit", "dit, learned variance", "skip, attending")
@pytest.mark.torch
@pytest.mark.parametrize("config", cases(CONFIGS, QUICK))
def test_a_model_of_diffusers_says_the_same_here_and_back_there(config: dict[str, Any], torch: Any, tmp_path: Path):
    model = of_torch(torch, config)
    numbers = config.get("class_embed_type") == "timestep"
    loaded = hub.load(str(stored(model, tmp_path / "theirs")), classes=5 if numbers else None)
    rows = batch(loaded)
    expected = theirs(torch, model, loaded, *rows)
    assert np.abs(expected).max() > 0.1
    assert np.abs(ours(loaded, *rows) - expected).max() < 1e-4 * max(1, np.abs(expected).max())
    # Written here, opened there; and once more here, to the bit.
    network, shape, classes, params, _ = loaded
    hub.save(tmp_path / "ours", network, params, shape, classes, SCHEDULE)
    back = type(model).from_pretrained(
        tmp_path / "ours", subfolder="transformer" if isinstance(network, DiT) else "unet"
    )
    assert np.abs(theirs(torch, back.eval(), loaded, *rows) - expected).max() < 1e-5 * max(1, np.abs(expected).max())
    again = hub.load(str(tmp_path / "ours"))
    assert again[:3] == loaded[:3]
    assert jax.tree.all(jax.tree.map(np.array_equal, again.params, params))


REFERENCES = ("tiny", "classes", "dit", "resnet resampling", "dit, learned variance", "skip, attending", "no attention")


def determined(name: str) -> hub.Loaded:
    """A model of these configurations with weights that no library draws."""
    network, shape, classes = layout.network_of(CONFIGS[name], Path(name), 10**6)
    leaves, tree = jax.tree.flatten(hub.skeleton(network, shape, classes)[1])
    scales = [0.2 if leaf.ndim == 1 else np.prod(leaf.shape[:-1]) ** -0.5 for leaf in leaves]
    made = [
        jnp.asarray(s * scattered(*a.shape, seed=i), jnp.float32)
        for i, (s, a) in enumerate(zip(scales, leaves, strict=True))
    ]
    return hub.Loaded(network, shape, classes, jax.tree.unflatten(tree, made), None)


def told(said: np.ndarray) -> np.ndarray:
    """What is kept of what a network tells of a batch."""
    return said.reshape(-1)[::5]


@pytest.mark.parametrize("name", cases({name: name for name in REFERENCES}, "tiny; classes; dit"))
def test_a_model_says_what_diffusers_said_of_the_same_weights(name: str):
    loaded = determined(name)
    found, expected = told(ours(loaded, *batch(loaded))), np.array(reference("denoisers")[name])
    assert np.abs(expected).max() > 0.1 and np.abs(found - expected).max() < 1e-4 * max(1, np.abs(expected).max())


@pytest.mark.torch
def test_the_gradient_is_that_of_torch(torch: Any, tmp_path: Path):
    """Of the mean squared error with respect to every weight."""
    model = of_torch(torch, CONFIGS["classes"])
    loaded = hub.load(str(stored(model, tmp_path)))
    (x, t, label), target = batch(loaded), np.random.default_rng(1).normal(size=(3, 8, 8, 1)).astype(np.float32)
    said = model(
        *(torch.from_numpy(a) for a in (x.transpose(0, 3, 1, 2), t)), class_labels=torch.from_numpy(label)
    ).sample
    torch.nn.functional.mse_loss(said, torch.from_numpy(target.transpose(0, 3, 1, 2))).backward()
    graph, _ = hub.skeleton(*loaded[:3])

    def loss(params: Any) -> jax.Array:
        return jnp.mean((nnx.merge(graph, params)(x, t, label) - target) ** 2)

    gradient = hub.state_dict(jax.jit(jax.grad(loss))(loaded.params))
    expected = {name: leaf.grad.numpy() for name, leaf in model.named_parameters()}
    assert gradient.keys() == expected.keys()
    largest = max(np.abs(leaf).max() for leaf in expected.values())
    for name, leaf in expected.items():
        found = gradient[name][:5] if name == "class_embedding.weight" else gradient[name]
        assert np.abs(found - leaf).max() < 1e-5 * largest, name


# Pipelines.


@cache
def trained(network: Any, shape: tuple[int, ...], classes: int | None) -> hub.Loaded:
    """A network every weight of which is random."""
    _, like = hub.skeleton(network, shape, classes)
    leaves, tree = jax.tree.flatten(like)
    chance = np.random.default_rng(0)
    scales = [0.2 if leaf.ndim == 1 else np.prod(leaf.shape[:-1]) ** -0.5 for leaf in leaves]
    made = [
        jnp.asarray(s * chance.normal(size=leaf.shape), jnp.float32) for s, leaf in zip(scales, leaves, strict=True)
    ]
    return hub.Loaded(network, shape, classes, jax.tree.unflatten(tree, made), None)  # pyright: ignore


TINY = UNet(block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, attention_head_dim=8)


def written(loaded: hub.Loaded, folder: Path, **more: Any) -> Path:
    network, shape, classes, params, scheduler = loaded
    hub.save(folder, network, params, shape, classes, scheduler or SCHEDULE, **more)
    return folder


def steps(torch: Any, pipeline: Any, say: Any, shape: tuple[int, ...], n: int) -> np.ndarray:
    """What a pipeline of two images and n steps ought to show where `say(x, t)` is the noise, by its own scheduler."""
    chance = torch.Generator().manual_seed(3)
    x = torch.randn((2, shape[2], *shape[:2]), generator=chance)
    pipeline.scheduler.set_timesteps(n)
    for t in pipeline.scheduler.timesteps:
        rows = x.numpy().transpose(0, 2, 3, 1)
        noise = say(rows, np.full(2, int(t), np.float32)).transpose(0, 3, 1, 2)
        x = pipeline.scheduler.step(torch.from_numpy(noise.copy()), t, x, generator=chance).prev_sample
    return np.clip(x.numpy().transpose(0, 2, 3, 1) / 2 + 0.5, 0, 1)


@pytest.mark.quick("None-DDPMPipeline")
@pytest.mark.torch
@pytest.mark.parametrize("name", ["DDPMPipeline", "DDIMPipeline"])
@pytest.mark.parametrize("label", [None, 1])
def test_pipelines_of_a_unet_show_what_it_says(name: str, label: int | None, torch: Any, tmp_path: Path):
    """Of one with classes, the label it was written for."""
    import diffusers

    loaded = trained(TINY, (8, 8, 1), None if label is None else 3)
    pipeline = getattr(diffusers, name).from_pretrained(written(loaded, tmp_path, label=label))
    pipeline.set_progress_bar_config(disable=True)
    shown = pipeline(
        batch_size=2, generator=torch.Generator().manual_seed(3), num_inference_steps=4, output_type="np"
    ).images
    say = lambda x, t: ours(loaded, x, t, np.full(2, label or 0))  # noqa: E731
    expected = steps(torch, pipeline, say, (8, 8, 1), 4)
    assert expected.std() > 0.05 and np.abs(shown - expected).max() < 1e-4
    if label is not None:
        assert (
            np.abs(
                ours(loaded, *batch(loaded)[:2], np.zeros(3, int)) - ours(loaded, *batch(loaded)[:2], np.ones(3, int))
            ).max()
            > 0.01
        )


@pytest.mark.quick("2.5-None")
@pytest.mark.torch
@pytest.mark.parametrize("classes", [3, None])
@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_the_pipeline_of_a_dit_shows_what_it_says(classes: int | None, guidance: float, torch: Any, tmp_path: Path):
    """Its pixels pass the autoencoder, and its null label is the pipeline's."""
    import diffusers

    network = DiT(num_layers=2, num_attention_heads=2, attention_head_dim=8)
    loaded = trained(network, (8, 8, 3), classes)._replace(scheduler={**SCHEDULE, "_class_name": "DDIMScheduler"})
    pipeline: Any = diffusers.DiTPipeline.from_pretrained(written(loaded, tmp_path))  # pyright: ignore
    pipeline.set_progress_bar_config(disable=True)
    chance = torch.Generator().manual_seed(3)
    shown = pipeline([2, 0], guidance, chance, num_inference_steps=4, output_type="np").images

    def say(x: np.ndarray, t: np.ndarray) -> np.ndarray:
        told, null = (ours(loaded, x, t, np.array(label)) for label in ([2, 0], [classes or 0] * 2))
        return null + guidance * (told - null)

    expected = steps(torch, pipeline, say, (8, 8, 3), 4)
    assert expected.std() > 0.05 and np.abs(shown - expected).max() < 1e-4
    assert hub.load(str(tmp_path)).classes == classes


# Folders.

WRITTEN: dict[str, tuple[Any, tuple[int, ...]]] = {  # levels by name, as they are written
    "unet": (dataclasses.replace(TINY, down_block_types=TINY.down, up_block_types=TINY.up), (8, 12, 3)),
    "dit": (DiT(num_layers=1, num_attention_heads=1, out_channels=6), (8, 8, 3)),
}


@pytest.mark.parametrize("classes", [None, 3])
@pytest.mark.parametrize("kind", WRITTEN)
def test_what_is_written_is_read_to_the_bit(kind: str, classes: int | None, tmp_path: Path):
    loaded = trained(*WRITTEN[kind], classes)
    again = hub.load(str(written(loaded, tmp_path)))
    assert again[:3] == loaded[:3]
    assert jax.tree.all(jax.tree.map(np.array_equal, again.params, loaded.params))
    assert again.scheduler == {**SCHEDULE, "_diffusers_version": hub.VERSION}
    alone = hub.load(str(tmp_path / ("unet" if kind == "unet" else "transformer")))
    assert alone.scheduler is None and alone[:3] == loaded[:3]


def test_old_names_shards_and_half_precision_are_read(tmp_path: Path):
    loaded = trained(*WRITTEN["unet"], None)
    model = written(loaded, tmp_path) / "unet"
    state = load_file(model / FILE)
    new = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for name in [name for name in state if ".attentions." in name]:
        for today, before in new.items():
            if f".{today}." in name:
                state[name.replace(f".{today}.", f".{before}.")] = state.pop(name)
    assert any("proj_attn" in name for name in state) and not any("to_q" in name for name in state)
    (model / FILE).unlink()
    halves = [dict(list(state.items())[i::2]) for i in range(2)]
    for i, half in enumerate(halves):
        save_file({name: leaf.astype(np.float16) for name, leaf in half.items()}, model / f"{i}.safetensors")
    index = {name: f"{i}.safetensors" for i, half in enumerate(halves) for name in half}
    (model / f"{FILE}.index.json").write_text(json.dumps({"weight_map": index}))
    again = hub.load(str(tmp_path))
    rounded = jax.tree.map(lambda a: a.astype(np.float16).astype(np.float32), loaded.params)
    assert jax.tree.all(jax.tree.map(np.array_equal, again.params, rounded))


def test_labels_of_a_table(tmp_path: Path):
    """The last row is the null label where there are more rows than classes, and a row of zeros where there are not."""
    network, shape = WRITTEN["unet"]
    loaded = trained(network, shape, 3)
    model = written(loaded, tmp_path) / "unet"
    table = load_file(model / FILE)["class_embedding.weight"]
    config = json.loads((model / "config.json").read_text())
    assert config["num_class_embeds"] == len(table) == 4
    del config[hub.CLASSES]  # as others write it
    (model / "config.json").write_text(json.dumps(config))
    for classes, expected in ((None, [*table, np.zeros_like(table[0])]), (3, table), (1, table[[0, 3]])):
        again = hub.load(str(tmp_path), classes)
        assert again.classes == (classes or 4)
        assert np.array_equal(hub.state_dict(again.params)["class_embedding.weight"], expected)
    with pytest.raises(GenlossError, match="has 4 labels"):
        hub.load(str(tmp_path), 5)


def spoiled(folder: Path, spoil: Any) -> str:
    """A folder whose config.json and weights were changed by `spoil(config, state)`."""
    written(trained(*WRITTEN["unet"], None), folder)
    config, state = json.loads((folder / "unet" / "config.json").read_text()), load_file(folder / "unet" / FILE)
    spoil(config, state)
    (folder / "unet" / "config.json").write_text(json.dumps(config))
    save_file(state, folder / "unet" / FILE)
    return str(folder)


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda config, _: config.update(cross_attention_dim=64, flux=1), r"cross_attention_dim \(64\), flux \(1\)"),
        (lambda config, _: config.update(_class_name="UNet1DModel"), "holds a UNet1DModel"),
        (lambda config, _: config.update(sample_size=None), "no `sample_size`"),
        (lambda config, _: config.update(out_channels=1), "1 channels of 3"),
        (lambda config, _: config.update(class_embed_type="identity"), "`class_embed_type` is 'identity'"),
        (
            lambda config, _: config.update({"num_class_embeds": 2, hub.CLASSES: 2}),
            "lacks 1 of the network's .* class_embedding.weight",
        ),
        (
            lambda config, _: config.update(down_block_types=["KDownBlock2D", "DownBlock2D"]),
            "KDownBlock2D, which is not supported",
        ),
        (
            lambda config, _: config.update(block_out_channels=[16, 32]),
            r"conv_in.bias is \[8\] in .* and \[16\] in the",
        ),
        (lambda _, state: state.pop("conv_in.bias"), "lacks 1 of the network's .* conv_in.bias"),
        (lambda _, state: state.update(more=np.zeros(1)), "no place for, such as more"),
        (
            lambda _, state: state.update({"class_embedding.weight": np.zeros((2, 32))}),
            "give how many it knows, `classes`",
        ),
    ],
)
def test_a_model_that_cannot_be_read_is_refused(spoil: Any, named: str, tmp_path: Path):
    with pytest.raises(GenlossError, match=named):
        hub.load(spoiled(tmp_path, spoil))


def test_folders_that_hold_no_model_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(GenlossError, match=r"no config\.json"):
        hub.load(str(tmp_path))
    with pytest.raises(GenlossError, match="There is no folder"):
        hub.load(str(tmp_path / "nowhere"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(GenlossError, match="the hub does not serve it"):
        hub.load("nobody/nothing-of-the-kind")
    model = written(trained(*WRITTEN["unet"], None), tmp_path) / "unet"
    config = (model / "config.json").read_text()
    (model / "config.json").write_text("[")
    with pytest.raises(GenlossError, match="cannot be read as JSON"):
        hub.load(str(tmp_path))
    (model / "config.json").write_text(config)
    (model / FILE).write_bytes(b"no weights")
    with pytest.raises(GenlossError, match="is no safetensors file"):
        hub.load(str(tmp_path))
    (model / FILE).unlink()
    (model / "diffusion_pytorch_model.bin").touch()
    with pytest.raises(GenlossError, match=r"a pickle .* is not opened"):
        hub.load(str(tmp_path))


def test_what_diffusers_has_no_form_for_is_not_written(tmp_path: Path):
    unet, dit = (trained(*WRITTEN[kind], 3) for kind in ("unet", "dit"))
    with pytest.raises(GenlossError, match="Label 4 is none of"):
        written(unet, tmp_path, label=4)
    with pytest.raises(GenlossError, match="leave `label` out"):
        written(dit, tmp_path, label=1)
    with pytest.raises(GenlossError, match="1001 classes cannot be written"):
        written(trained(*WRITTEN["dit"], 1001), tmp_path)
    with pytest.raises(GenlossError, match="names no class"):
        written(unet._replace(scheduler={"beta_start": 0.1}), tmp_path)
    with pytest.raises(GenlossError, match="no network like"):
        written(unet._replace(network=nnx.Linear), tmp_path)
    with pytest.raises(GenlossError, match="What is to be written"):
        written(unet._replace(classes=4), tmp_path)
    assert not list(tmp_path.iterdir())


def test_torch_is_not_needed(tmp_path: Path):
    """Reading and writing import neither torch nor diffusers."""
    written(trained(*WRITTEN["dit"], 3), tmp_path / "a")
    code = (
        "import sys\nfor name in ('torch', 'diffusers', 'transformers'): sys.modules[name] = None\n"
        "from generators import hub\n"
        f"network, shape, classes, params, scheduler = hub.load({str(tmp_path / 'a')!r})\n"
        f"hub.save({str(tmp_path / 'b')!r}, network, params, shape, classes, scheduler)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names = sorted(file.relative_to(tmp_path / "a") for file in (tmp_path / "a").rglob("*.*"))
    assert len(names) == 6
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)
