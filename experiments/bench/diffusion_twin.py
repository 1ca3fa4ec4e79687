"""A diffusion of points or small images in plain PyTorch, with the weights of ours: for `family_twins.py`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.bench.twin_parts import Rows, linear, normed
from generators.diffusion import Diffusion
from generators.edm import EDM
from generators.noise import Noise


class DiffusionTwin(Rows):
    """DDPM or DDIM that tells ε, or EDM; of its sampler each step is a line of the same table."""

    def __init__(self, model: Diffusion, params: Any, rows: Any) -> None:
        super().__init__(model, params, rows)
        self.net = DenoiserTwin(params["net"])
        self.edm = isinstance(model.noise, EDM)
        if isinstance(model.noise, Noise):
            self.kept = torch.from_numpy(model.noise.alphas_cumprod).float()  # [T]

    def losses(self, i: Tensor) -> Tensor:
        x0, label = self.taught(i)
        n = len(i)
        t, a, s = self.at((torch.rand(1) + torch.arange(n) / n) % 1)
        a, s, eps = a[:, None], s[:, None], torch.randn_like(x0)
        width = self.model.noise.sigma_data
        target = s / width * x0 - width * a * eps if self.edm else eps
        return ((self.net(a * x0 + s * eps, t, label) - target) ** 2).mean(1)

    def taught(self, i: Tensor) -> tuple[Tensor, Tensor | None]:
        """Rows [batch, d] and labels [batch], some dropped, of those that i names."""
        x0 = self.shown[i].float()
        x0 = x0 / 127.5 - 1 if self.images else x0
        if self.label is None:
            return x0, None
        return x0, self.label[i].masked_fill(torch.rand(len(i)) < self.model.drop, self.classes)

    def at(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the network is told, signal and noise at times u, [n] each."""
        noise = self.model.noise
        if not self.edm:
            t = (u * len(self.kept)).long()
            return t.float(), self.kept[t].sqrt(), (1 - self.kept[t]).sqrt()
        log_sigma = noise.p_mean + noise.p_std * torch.special.ndtri(u.clamp(min=2.0**-24))
        sigma = log_sigma.exp()
        a = (sigma**2 + noise.sigma_data**2).rsqrt()
        return log_sigma / 4, a, sigma * a

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        noise, label = self.model.noise, self.labels(n).argmax(1) if self.classes else None
        plan, signal = noise.steps(self.model.sample_steps)
        x, width = torch.randn(n, self.shown.shape[1]), noise.sigma_data
        before = torch.zeros_like(x)
        for t, a, s, clean, keep, of_eps, fresh, past in np.stack(plan, 1).tolist():
            told = self.net(x, torch.full((n,), t), label)
            k = width * a
            x0, eps = (width * (k * x + s * told), s * x - k * told) if self.edm else ((x - s * told) / a, told)
            x0 = x0 if noise.reach is None else x0.clamp(-noise.reach, noise.reach)
            x = clean * x0 + keep * x + of_eps * eps + past * before
            x = x + fresh * torch.randn_like(x) if fresh else x
            before = eps
        x = x / signal
        return torch.round((x.clamp(-1, 1) + 1) * 127.5).to(torch.uint8) if self.images else x


class MeanFlowTwin(DiffusionTwin):
    """The mean velocity over a stretch of the straight path, and its steps along it."""

    def losses(self, i: Tensor) -> Tensor:
        x0, label = self.taught(i)
        n = len(i)
        pair = torch.rand(n, 2).sort(1).values  # [n, 2]: r and t
        apart = torch.rand(n) < self.model.noise.apart
        end = torch.where(apart, pair[:, 1], torch.rand(n))  # [n]
        span = torch.where(apart, pair[:, 1] - pair[:, 0], 0.0)  # [n]
        eps = torch.randn_like(x0)
        v, x = eps - x0, x0 + end[:, None] * (eps - x0)
        told, rate, *_ = torch.func.jvp(
            lambda x, end, span: self.net(x, torch.stack([end, span], 1), label),
            (x, end, span),
            (v, torch.ones(n), torch.ones(n)),
        )
        return ((told - (v - span[:, None] * rate.detach())) ** 2).mean(1)

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        label = self.labels(n).argmax(1) if self.classes else None
        steps = self.model.sample_steps
        x, span = torch.randn(n, self.shown.shape[1]), 1 / steps
        for k in range(steps):
            x = x - span * self.net(x, torch.tensor([[1 - k * span, span]]).expand(n, -1), label)
        return torch.round((x.clamp(-1, 1) + 1) * 127.5).to(torch.uint8) if self.images else x


class DenoiserTwin(nn.Module):
    """`nets/denoiser.py`, of its parameters; rows of any shape, which are vectors to it."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.time, self.enter, self.leave, self.share = (
            linear(net[name]) for name in ("time", "enter", "leave", "share")
        )
        self.label = None
        if "label" in net:
            self.label = nn.Embedding.from_pretrained(torch.from_numpy(np.array(net["label"]["embedding"])), False)
        self.norm = normed(net["norm"])
        layers = [net["layers"][i] for i in range(len(net["layers"]))]
        self.tell, self.mix = (nn.ModuleList([linear(one[name]) for one in layers]) for name in ("tell", "mix"))

    def forward(self, x: Tensor, t: Tensor, class_labels: Tensor | None = None) -> Tensor:
        row, t = x.flatten(1), t.view(len(x), -1, 1)  # [n, size], [n, times, 1]
        half = self.time.in_features // (2 * t.shape[1])
        angle = t * torch.exp(-math.log(10_000) * torch.arange(half, device=t.device) / half)  # [n, times, half]
        told = self.time(torch.cat([angle.sin(), angle.cos()], 2).flatten(1))  # [n, told]
        if self.label is not None and class_labels is not None:
            told = told + self.label(class_labels)
        told, y = gelu(told), self.enter(row)  # [n, told], [n, width]
        for tell, mix in zip(self.tell, self.mix, strict=True):
            scale, shift = tell(told).chunk(2, 1)
            y = y + mix(gelu(F.layer_norm(y, y.shape[-1:], eps=1e-6) * (1 + scale) + shift))
        return (self.share(told) * row + self.leave(gelu(self.norm(y)))).view_as(x)


def gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")
