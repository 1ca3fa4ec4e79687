"""What `genloss synthesize` adds to a pipeline's own time, and where kernels let an image depend on its company.

`python -m experiments.bench synthesize`, with the `torch` extra.  The pipelines are built from their configuration,
with random weights: an unconditional U-Net of 4 million, and a class-conditional transformer of 9 million.
"""

# The names of diffusers are found as they are asked for, which the type checker does not see.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from experiments.bench import say, table
from experiments.imagesets.job import Request
from experiments.imagesets.prompts import number
from experiments.imagesets.synthesize import synthesize
from generators.hub.pipeline import Pipeline

STEPS, BATCH, BATCHES = 20, 8, 5


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        makers = build(Path(folder))
        added(makers["unconditional"], Path(folder))
        company(makers)


def build(folder: Path) -> dict[str, str]:
    """The folders of two pipelines."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, DDPMPipeline, DiTPipeline, DiTTransformer2DModel, UNet2DModel

    torch.manual_seed(0)
    kept: Any = DDIMScheduler()
    blocks: dict[str, Any] = {
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "block_out_channels": (64, 128),
    }
    DDPMPipeline(UNet2DModel(sample_size=32, **blocks), kept).save_pretrained(folder / "unet")
    net = DiTTransformer2DModel(
        num_attention_heads=6, attention_head_dim=32, num_layers=4, sample_size=16, out_channels=8
    )
    torch.nn.init.normal_(net.proj_out_2.weight, std=0.1)  # a new one passes noise through
    vae = AutoencoderKL(block_out_channels=(32,), latent_channels=4)
    DiTPipeline(net, vae, kept).save_pretrained(folder / "dit")
    return {"unconditional": str(folder / "unet"), "class-conditional": str(folder / "dit")}


def added(path: str, folder: Path) -> None:
    """Seconds of the command, and of the same calls of the pipeline by themselves."""
    import torch
    from diffusers import DDPMPipeline

    def plain() -> None:
        pipe = DDPMPipeline.from_pretrained(path, use_safetensors=True)
        pipe.set_progress_bar_config(disable=True)
        pipe.to("cuda" if torch.cuda.is_available() else "cpu")
        for b in range(BATCHES):
            generators = [torch.Generator().manual_seed(b * BATCH + i) for i in range(BATCH)]
            pipe(batch_size=BATCH, generator=generators, num_inference_steps=STEPS, output_type="np")

    made = 0

    def command() -> None:
        nonlocal made
        made += 1
        out = str(folder / f"out{made}")
        synthesize(Request(pipeline=path, out=out, count=BATCH * BATCHES, steps=STEPS, batch=BATCH, format="both"))

    plain()  # what is imported and warmed up once
    timed = {name: [spent(work) for _ in range(3)] for name, work in (("calls", plain), ("synthesize", command))}
    least = {name: np.min(times, 0) for name, times in timed.items()}  # [2] each
    found = table(f"{BATCHES} calls of {BATCH} images, {STEPS} steps", "", "seconds", "of processors", "a call")
    for name, (wall, processor) in least.items():
        found.add_row(name, f"{wall:.2f}", f"{processor:.2f}", f"{wall / BATCHES:.2f}")
    more = least["synthesize"] / least["calls"] - 1
    found.add_row("synthesize adds", f"{more[0]:.1%}", f"{more[1]:.1%}", "")
    say(found)


def spent(work: Callable[[], None]) -> tuple[float, float]:
    """(seconds, seconds of all processors) of a work."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor


def company(makers: dict[str, str]) -> None:
    """Images that differ from those made one by one in one thread, and by how many levels at most."""
    import torch

    found = table("images of 16 that differ from --strict", "pipeline", "batch", "threads", "images", "levels")
    for name, path in makers.items():
        seeds = [number(0, i) for i in range(16)]
        told = list(range(16)) if name == "class-conditional" else [None] * 16
        alone = None
        for batch, threads in ((1, 1), (2, 1), (8, 1), (16, 1), (1, 2), (8, 2)):
            torch.set_num_threads(threads)
            maker = Pipeline(path=path, steps=4)
            parts = [maker.draw(told[i : i + batch], seeds[i : i + batch]) for i in range(0, 16, batch)]
            images = np.concatenate(parts).astype(int)  # [16, h, w, 3]
            alone = images if alone is None else alone
            gap = np.abs(images - alone).max((1, 2, 3))  # [16]
            found.add_row(name, str(batch), str(threads), str((gap > 0).sum()), str(gap.max()))
    say(found)
