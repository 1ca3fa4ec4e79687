"""VAEs in plain PyTorch, with the weights of ours, for `family_twins.py`: MLPs, convolutions, mixers; likelihoods."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.bench.twin_parts import Rows, linear, mlp, normed
from generators.likelihood import Bernoulli, Normal
from generators.nets.autoencoder import convolutional, mixers, mlps
from generators.vae import VAE


class VAETwin(Rows):
    def __init__(self, model: VAE, params: Any, rows: Any) -> None:
        super().__init__(model, params, rows)
        self.told = self.classes * model.conditional
        self.encoder, self.decoder = PAIRS[model.network](model, params)

    def losses(self, i: Tensor) -> Tensor:
        x, y = self.read(i)
        x, y = x / 255 if self.images else x, y[:, : self.told]
        mean, log_var = self.encoder(torch.cat([x, y], 1)).chunk(2, 1)
        z = mean + (log_var / 2).exp() * torch.randn_like(mean)
        told = self.decoder(torch.cat([z, y], 1))
        return self.nll(told, x).sum(1) + self.model.beta * 0.5 * (mean**2 + log_var.exp() - 1 - log_var).sum(1)

    def nll(self, told: Tensor, x: Tensor) -> Tensor:
        law = self.model.likelihood
        if isinstance(law, Bernoulli):
            return F.softplus(told) - x * told
        mean, scale = self.split(told)
        if isinstance(law, Normal):
            return ((x - mean) / scale) ** 2 / 2 + scale.log() + math.log(2 * math.pi) / 2
        last = law.levels - 1
        level = torch.round(x * last)
        above, below = ((level + half) / last - mean for half in (0.5, -0.5))
        up = torch.where(level == last, 0.0, F.logsigmoid(above / scale))
        down = torch.where(level == 0, 0.0, F.logsigmoid(-below / scale))
        within = (-torch.expm1(-1 / (last * scale))).log()
        return -(up + down + torch.where((level == 0) | (level == last), 0.0, within))

    def split(self, told: Tensor) -> tuple[Tensor, Tensor]:
        """Where numbers are thought to lie, and how far about."""
        law = self.model.likelihood
        if law.scale is not None:
            return told, torch.full((), float(law.scale))
        return told[:, ::2], law.least + F.softplus(told[:, 1::2] + math.log(math.expm1(1)))

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        z = self.model.temperature * torch.randn(n, self.model.latent)
        told = self.decoder(torch.cat([z, self.labels(n)[:, : self.told]], 1))
        bernoulli = isinstance(self.model.likelihood, Bernoulli)
        mean = torch.sigmoid(told) if bernoulli else self.split(told)[0].clamp(0, 1)
        return torch.round(mean * 255).to(torch.uint8)


def mlp_pair(model: VAE, params: Any) -> tuple[nn.Module, nn.Module]:
    return mlp(params["encoder"]["layers"]), mlp(params["decoder"]["layers"])


def conv_pair(model: VAE, params: Any) -> tuple[nn.Module, nn.Module]:
    return Down(model, params["encoder"]), Up(model, params["decoder"])


class Down(nn.Module):
    """`Halving` of nets/autoencoder.py, of its parameters, channels first."""

    def __init__(self, model: VAE, params: Any) -> None:
        super().__init__()
        self.shape = model.shape or ()
        halves = params["halves"]
        self.convs = nn.ModuleList([conv(halves[i], nn.Conv2d) for i in range(len(halves))])
        self.head = linear(params["head"])

    def forward(self, seen: Tensor) -> Tensor:
        size = math.prod(self.shape)
        x, y = seen[:, :size].view(-1, *self.shape).permute(0, 3, 1, 2), seen[:, size:]
        for one in self.convs:
            x = F.relu(one(x))
        return self.head(torch.cat([x.permute(0, 2, 3, 1).flatten(1), y], 1))


class Up(nn.Module):
    """`Doubling` of nets/autoencoder.py, of its parameters, channels first."""

    def __init__(self, model: VAE, params: Any) -> None:
        super().__init__()
        doubles = params["doubles"]
        self.convs = nn.ModuleList([conv(doubles[i], nn.ConvTranspose2d) for i in range(len(doubles))])
        self.head = linear(params["head"])
        h, w, _ = model.shape or (0, 0, 0)
        self.least = h >> len(doubles), w >> len(doubles)

    def forward(self, z: Tensor) -> Tensor:
        x = self.head(z).view(len(z), *self.least, -1).permute(0, 3, 1, 2)
        for one in self.convs:
            x = one(F.relu(x))
        return x.permute(0, 2, 3, 1).flatten(1)


def mixer_pair(model: VAE, params: Any) -> tuple[nn.Module, nn.Module]:
    return MixedDown(model, params["encoder"]), MixedUp(model, params["decoder"])


class Mixing(nn.Module):
    """`nets/mixer.py`, of its parameters."""

    def __init__(self, of: Any) -> None:
        super().__init__()
        self.across, self.within = (mlp(of[name]["layers"]) for name in ("across", "within"))
        self.norms = nn.ModuleList([normed(of["norms"][i]) for i in range(2)])

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.across(self.norms[0](x).transpose(1, 2)).transpose(1, 2)  # [n, patches, width]
        return x + self.within(self.norms[1](x))


class MixedDown(nn.Module):
    """`Mixed` of nets/autoencoder.py, of its parameters."""

    def __init__(self, model: VAE, params: Any) -> None:
        super().__init__()
        self.shape = h, w, c = model.shape or (0, 0, 1)
        self.embed, self.head, self.norm = linear(params["embed"]), linear(params["head"]), normed(params["norm"])
        self.layers = nn.Sequential(*[Mixing(params["layers"][i]) for i in range(len(params["layers"]))])
        p = math.isqrt(self.embed.in_features // c)
        self.cells = h // p, p, w // p, p, c

    def forward(self, seen: Tensor) -> Tensor:
        size = math.prod(self.shape)
        x, y = seen[:, :size].view(-1, *self.cells).transpose(2, 3), seen[:, size:]  # [n, h/p, w/p, p, p, c]
        x = self.layers(self.embed(x.flatten(3).flatten(1, 2)))  # [n, patches, width]
        return self.head(torch.cat([self.norm(x).flatten(1), y], 1))


class MixedUp(nn.Module):
    """`Unmixed` of nets/autoencoder.py, of its parameters."""

    def __init__(self, model: VAE, params: Any) -> None:
        super().__init__()
        self.head, self.leave, self.norm = linear(params["head"]), linear(params["leave"]), normed(params["norm"])
        self.layers = nn.Sequential(*[Mixing(params["layers"][i]) for i in range(len(params["layers"]))])
        width = self.leave.in_features
        h, w, _ = model.shape or (0, 0, 1)
        p = math.isqrt(h * w * width // self.head.out_features)
        self.cells = h // p, w // p, p, p
        self.width = width

    def forward(self, z: Tensor) -> Tensor:
        x = self.layers(self.head(z).view(len(z), -1, self.width))  # [n, patches, width]
        return self.leave(self.norm(x)).view(len(z), *self.cells, -1).transpose(2, 3).flatten(1)


def conv(of: Any, kind: type[nn.Conv2d] | type[nn.ConvTranspose2d]) -> nn.Conv2d | nn.ConvTranspose2d:
    """A 4x4 convolution of stride 2, or its transpose, of a kernel of cells of 2x2 pixels."""
    kernel, bias = torch.from_numpy(np.array(of["kernel"])), torch.from_numpy(np.array(of["bias"]))
    b, up = len(bias), kind is nn.ConvTranspose2d
    a = kernel.shape[0] // (4 if up else 16)
    cells = kernel.view(2, 2, a, 2, 2, b).permute(2, 5, 0, 3, 1, 4) if up else None  # [a, b, 2, 2, 2, 2]
    cells = kernel.view(2, 2, 2, 2, a, b).permute(5, 4, 0, 2, 1, 3) if cells is None else cells  # [b, a, 2, 2, 2, 2]
    made = kind(a, b, 4, 2, 1)
    made.weight.data, made.bias.data = cells.reshape(*cells.shape[:2], 4, 4).contiguous(), bias  # pyright: ignore
    return made


PAIRS = {
    mlps: mlp_pair,
    convolutional: conv_pair,
    mixers: mixer_pair,
}  # of those of our pairs that have one, what makes it
