"""Pipelines of diffusers as they come, but of a few thousand random weights, for tests that draw with them."""

# The names of diffusers are found as they are asked for, which the type checker does not see.
# pyright: reportPrivateImportUsage=false

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    PNDMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
    UNet2DModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer


def build(root: Path) -> None:
    """root/stable (prompts), root/dit and root/noisy (labels; by DDIM and by DDPM), root/plain (nothing is told)."""
    torch.manual_seed(0)
    vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=4, layers_per_block=1)
    stable(root, vae)
    scheduler: Any
    for name, scheduler in (("dit", DDIMScheduler()), ("noisy", DDPMScheduler())):
        small: dict[str, Any] = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 1, "patch_size": 2}
        model = DiTTransformer2DModel(sample_size=8, out_channels=8, norm_num_groups=4, **small)
        # A new DiT passes noise through: its last layer is drawn, so that labels show.
        torch.nn.init.normal_(model.proj_out_2.weight, std=0.5)
        DiTPipeline(model, vae, scheduler).save_pretrained(root / name)
    blocks: dict[str, Any] = {
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "block_out_channels": (8, 16),
    }
    unet = UNet2DModel(sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, norm_num_groups=4, **blocks)
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(root / "plain")


def stable(root: Path, vae: Any) -> None:
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    vocabulary = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    root.mkdir(parents=True, exist_ok=True)
    (root / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(vocabulary)}))
    (root / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(root / "vocab.json"), str(root / "merges.txt"), model_max_length=77)
    n = len(vocabulary)
    ends: dict[str, Any] = {"bos_token_id": n - 2, "eos_token_id": n - 1, "pad_token_id": n - 1}
    small: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    text = CLIPTextModel(CLIPTextConfig(vocab_size=n, **small, **ends))
    blocks: dict[str, Any] = {
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "block_out_channels": (8, 16),
        "cross_attention_dim": 16,
    }
    unet = UNet2DConditionModel(sample_size=8, layers_per_block=1, attention_head_dim=2, norm_num_groups=4, **blocks)
    scheduler = PNDMScheduler(skip_prk_steps=True, steps_offset=1)
    parts = {"vae": vae, "text_encoder": text, "tokenizer": tokenizer, "unet": unet, "scheduler": scheduler}
    none: Any = None
    pipe = StableDiffusionPipeline(**parts, safety_checker=none, feature_extractor=none, requires_safety_checker=False)
    pipe.save_pretrained(root / "stable")
