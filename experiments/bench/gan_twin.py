"""Both players of a GAN in plain PyTorch, with the weights of ours: what `experiments.bench families` times."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.bench.twin_parts import Rows, mlp
from generators.games import NonSaturating, Relativistic
from generators.gan import GAN


class GANTwin(Rows):
    """Both players as MLPs, and their steps: what `experiments.bench.pytorch.descent` does, in turns."""

    def __init__(self, model: GAN, params: Any, rows: Any) -> None:
        super().__init__(model, params, rows)
        self.generator, self.critic = (mlp(params[part]["layers"]) for part in ("generator", "critic"))
        self.players = nn.ModuleDict({"generator": self.generator, "critic": self.critic})
        self.mean, self.scale = torch.tensor(127.5), torch.tensor(127.5)  # of grey values
        if not self.images:
            self.mean, self.scale = (torch.from_numpy(np.array(params[part])) for part in ("mean", "scale"))
        betas = (model.beta1, model.beta2)
        self.adam = {
            name: torch.optim.Adam(player.parameters(), model.learning_rate, betas, fused=True)
            for name, player in self.players.items()
        }
        self.average = [weight.detach().clone() for weight in self.players.parameters()]

    def steps(self, number: int) -> None:
        for _ in range(number):
            for j in range(self.model.critic_steps + 1):
                real, y = self.read(torch.randint(len(self.shown), (self.model.batch,)))
                real = (real - self.mean) / self.scale
                if j < self.model.critic_steps:
                    self.turn("critic", self.critic_losses(real, self.made(y).detach(), y))
                else:
                    self.turn("generator", self.generator_losses(real, self.made(y), y))
            with torch.no_grad():
                weights: Any = list(self.players.parameters())
                torch._foreach_lerp_(self.average, weights, 1 - self.model.average)  # pyright: ignore[reportPrivateImportUsage]

    def turn(self, player: str, losses: Tensor) -> None:
        weights: Any = list(self.players[player].parameters())
        gradients = torch.autograd.grad(losses.mean(), weights)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
        nn.utils.clip_grad_norm_(weights, self.model.clip)
        self.adam[player].step()

    def critic_losses(self, real: Tensor, fake: Tensor, y: Tensor) -> Tensor:
        game, n = self.model.game, len(real)
        if isinstance(game, Relativistic):
            scores, squares = self.sloped(torch.cat([real, fake]), y)
            return F.softplus(scores[n:] - scores[:n]) + float(game.gamma) / 2 * (squares[:n] + squares[n:])
        if isinstance(game, NonSaturating):
            scores, squares = self.sloped(real, y)
            return F.softplus(-scores) + F.softplus(self.score(fake, y)) + float(game.gamma) / 2 * squares
        u = torch.rand(n, 1)
        norm = self.sloped(u * real + (1 - u) * fake, y)[1].clamp(min=1e-12).sqrt()
        scores = self.score(torch.cat([real, fake]), y)
        return scores[n:] - scores[:n] + game.penalty * (norm - 1) ** 2

    def generator_losses(self, real: Tensor, fake: Tensor, y: Tensor) -> Tensor:
        if isinstance(self.model.game, Relativistic):
            scores = self.score(torch.cat([real, fake]), y)
            return F.softplus(scores[: len(real)] - scores[len(real) :])
        scores = self.score(fake, y)
        return F.softplus(-scores) if isinstance(self.model.game, NonSaturating) else -scores

    def sloped(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and the squares of their slopes, [m] each."""
        x = x.requires_grad_(True)
        scores = self.score(x, y)
        (slope,) = torch.autograd.grad(scores.sum(), x, create_graph=True)
        return scores, (slope * slope).sum(1)

    def score(self, x: Tensor, y: Tensor) -> Tensor:
        scores = self.critic(x)
        return scores[:, 0] if scores.shape[1] == 1 else (scores * y.repeat(len(x) // len(y), 1)).sum(1)

    def made(self, y: Tensor) -> Tensor:
        z = torch.randn(len(y), self.model.latent)
        return self.generator(torch.cat([z, y], 1) if self.model.conditional else z)

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        y = self.labels(n)
        z = self.model.temperature * torch.randn(n, self.model.latent)
        x = self.generator(torch.cat([z, y], 1) if self.model.conditional else z)
        x = (x.clamp(-1, 1) if self.images else x) * self.scale + self.mean
        return torch.round(x).to(torch.uint8) if self.images else x
