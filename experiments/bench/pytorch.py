"""The same train step in PyTorch: the models of diffusers, or `twins` without it, the MLP in plain torch.

Needs the extra `torch`.
"""

from __future__ import annotations

import importlib.util
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch

from experiments.bench.diffusion_twin import DenoiserTwin
from experiments.bench.twins import twin
from generators.diffusion import Diffusion
from generators.hub import diffusers as hub
from generators.nets.denoiser import Denoiser

DEVICE = "cuda" if jax.default_backend() == "gpu" and torch.cuda.is_available() else "cpu"


def descent(
    model: Any, network: torch.nn.Module, rows: int, losses: Callable[[torch.Tensor], torch.Tensor]
) -> Callable[..., None]:
    """A function that does so many steps (one, if none is said) of the fit of `model`, and returns when they are done.

    `losses(i)` are those of the rows that i [batch] names; Adam after clipping, a moving average of the weights.
    """
    weights: Any = list(network.parameters())
    optimizer = torch.optim.Adam(weights, model.learning_rate, fused=True)
    average: Any = [leaf.detach().clone() for leaf in weights]

    def steps(number: int = 1) -> None:
        for _ in range(number):
            loss = losses(torch.randint(rows, (model.batch,), device=DEVICE)).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, model.clip)
            optimizer.step()
            with torch.no_grad():
                torch._foreach_lerp_(average, weights, 1 - model.average)  # pyright: ignore[reportPrivateImportUsage]
        if DEVICE == "cuda":
            torch.cuda.synchronize()

    return steps


def training(model: Diffusion, params: Any, rows: Any, compiled: bool = False) -> Callable[..., None]:
    """`descent` of a diffusion: rows are drawn and noised, labels dropped."""
    network = module(model, params).to(DEVICE).eval()  # diffusers drops labels by itself in training mode
    classes = model.classes
    assert classes is not None
    image = torch.from_numpy(np.moveaxis(np.array(rows["image"]), -1, 1).copy()).to(DEVICE)
    labels = torch.from_numpy(np.asarray(rows["label"]).astype(np.int64)).to(DEVICE)
    kept = model.noise.alphas_cumprod  # pyright: ignore[reportAttributeAccessIssue]
    signal, noise = (torch.tensor(np.sqrt(k), dtype=torch.float32, device=DEVICE) for k in (kept, 1 - kept))
    told_by: Any = torch.compile(network) if compiled else network
    half = torch.autocast(DEVICE, torch.bfloat16, enabled=model.dtype == "bfloat16")

    def losses(i: torch.Tensor) -> torch.Tensor:
        t = torch.randint(len(signal), (model.batch,), device=DEVICE)
        x0 = image[i].float() / 127.5 - 1  # [batch, c, h, w]
        eps = torch.randn_like(x0)
        x = signal[t][:, None, None, None] * x0 + noise[t][:, None, None, None] * eps
        dropped = torch.rand(model.batch, device=DEVICE) < model.drop
        label = labels[i].masked_fill(dropped, classes)
        with half:
            told = told_by(x, t, class_labels=label)
        return torch.nn.functional.mse_loss((told if torch.is_tensor(told) else told.sample).float(), eps)

    return descent(model, network, len(image), losses)


def module(model: Diffusion, params: Any) -> torch.nn.Module:
    """The network of `model` with the same weights."""
    assert model.shape is not None
    net = model._net(jax.random.key(0))
    if isinstance(net, Denoiser):
        found: Any = DenoiserTwin(params["net"])
    elif importlib.util.find_spec("diffusers") is None:
        found = twin(model.network, model.shape, model.classes)  # pyright: ignore[reportArgumentType]
        weights = hub.state_dict(params["net"])
        found.load_state_dict({name: torch.from_numpy(leaf.copy()) for name, leaf in weights.items()})
    else:
        import diffusers

        with tempfile.TemporaryDirectory() as folder:
            network: Any = model.network
            hub.save(folder, network, params["net"], model.shape, model.classes, model.noise.config())
            file = next(Path(folder).glob("[ut]*/config.json"))
            config = json.loads(file.read_text())
        if "num_embeds_ada_norm" in config:  # which is written as large as `DiTPipeline` asks for
            config["num_embeds_ada_norm"] = model.classes
        found = getattr(diffusers, config["_class_name"]).from_config(config)
    count = sum(leaf.numel() for leaf in found.parameters())
    assert count == sum(leaf.size for leaf in jax.tree.leaves(params["net"]))
    return found
