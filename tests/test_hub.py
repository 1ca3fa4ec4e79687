"""The bridge to diffusers: parity with its torch models in both directions, and folders that its pipelines open."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from generators import hub
from generators.nets.dit import DiT
from generators.nets.unet import UNet
from simulator import GenlossError

FILE = "diffusion_pytorch_model.safetensors"
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
    "dit, affine": {**DIT, "_class_name": "Transformer2DModel", "norm_elementwise_affine": True, "num_vector_embeds": None},
    "resnet resampling": {**SMALL, **ATTENDING, "downsample_type": "resnet", "upsample_type": "resnet"},
    "resnet blocks": {**SMALL, **RESNET, "mid_block_scale_factor": 1.4, "sample_size": [8, 12], "act_fn": "mish"},
    "no attention": {**SMALL, "add_attention": False, "center_input_sample": True, "act_fn": "gelu", "layers_per_block": 2},
    "no middle": {**SMALL, "mid_block_type": None, "out_channels": 2, "time_embedding_dim": 24, "act_fn": "relu"},
    "labels as numbers": {**SMALL, "class_embed_type": "timestep", "attn_norm_num_groups": 8, "freq_shift": 1},
    "learned times": {**SMALL, "time_embedding_type": "learned", "num_train_timesteps": 50},
    "skip": {**SMALL, **SKIP, "down_block_types": ["SkipDownBlock2D"] * 2, "up_block_types": ["SkipUpBlock2D"] * 2},
    "skip, attending": {
        **SMALL,
        **SKIP,
        "down_block_types": ["AttnSkipDownBlock2D"] * 2,
        "up_block_types": ["AttnSkipUpBlock2D"] * 2,
    },
}


@pytest.fixture(scope="module")
def torch() -> Any:
    found = pytest.importorskip("torch")
    found.set_num_threads(1)
    return found


def reference(torch: Any, config: dict[str, Any]) -> Any:
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
    chance = np.random.default_rng(0)
    x = chance.normal(size=(n, *loaded.shape)).astype(np.float32)
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


@pytest.mark.parametrize("name", CONFIGS)
def test_a_model_of_diffusers_says_the_same_here_and_back_there(name: str, torch: Any, tmp_path: Path):
    config = CONFIGS[name]
    model = reference(torch, config)
    loaded = hub.load(str(stored(model, tmp_path / "theirs")), classes=5 if name == "labels as numbers" else None)
    rows = batch(loaded)
    expected = theirs(torch, model, loaded, *rows)
    assert np.abs(expected).max() > 0.1
    assert np.abs(ours(loaded, *rows) - expected).max() < 1e-4 * max(1, np.abs(expected).max())
    # Written here, opened there; and once more here, to the bit.
    network, shape, classes, params, _ = loaded
    hub.save(tmp_path / "ours", network, params, shape, classes, SCHEDULE)
    back = type(model).from_pretrained(tmp_path / "ours", subfolder="transformer" if isinstance(network, DiT) else "unet")
    assert np.abs(theirs(torch, back.eval(), loaded, *rows) - expected).max() < 1e-5 * max(1, np.abs(expected).max())
    again = hub.load(str(tmp_path / "ours"))
    assert again[:3] == loaded[:3]
    assert jax.tree.all(jax.tree.map(np.array_equal, again.params, params))
