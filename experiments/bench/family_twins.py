"""Trained models in plain PyTorch, with the weights of ours: what `experiments.bench families` times.  Needs torch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.bench.diffusion_twin import DenoiserTwin, DiffusionTwin, MeanFlowTwin
from experiments.bench.gan_twin import GANTwin
from experiments.bench.twin_parts import Rows, mlp
from experiments.bench.vae_twins import PAIRS, VAETwin
from generators.coupling import Affine
from generators.diffusion import Diffusion
from generators.edm import EDM
from generators.flow import EDGE, Flow
from generators.gan import GAN
from generators.meanflow import MeanFlow
from generators.noise import Noise
from generators.table_diffusion import TableDiffusion
from generators.tvae import TVAE
from generators.vae import VAE


def twin(model: Any, params: Any, rows: Any) -> Any:
    """The model as a module that has `losses(i)` [n] of those of `rows` that i [n] names, and `sample(n)`; or None.

    One of several players has `steps(number)` in place of `losses`.
    """
    if isinstance(model, VAE) and model.network not in PAIRS:
        return None
    if isinstance(model, Diffusion) and isinstance(model.noise, MeanFlow):
        return MeanFlowTwin(model, params, rows)
    if isinstance(model, Diffusion) and not isinstance(model.noise, EDM | Noise):
        return None
    twins = {
        VAE: VAETwin,
        Flow: FlowTwin,
        GAN: GANTwin,
        Diffusion: DiffusionTwin,
        TVAE: TVAETwin,
        TableDiffusion: TableDiffusionTwin,
    }
    made = twins.get(type(model))
    return None if made is None else made(model, params, rows)


class FlowTwin(Rows):
    def __init__(self, model: Flow, params: Any, rows: Any) -> None:
        super().__init__(model, params, rows)
        self.d, self.kept = math.prod(model.shape or ()), math.prod(model.shape or ()) // 2
        layers = params["layers"]["layers"]
        of = lambda i: [{name: a[i] for name, a in layers[k].items()} for k in range(len(layers))]  # noqa: E731
        self.nets = nn.ModuleList([mlp(of(i)) for i in range(2 * model.pairs)])
        self.mean, self.scale = (torch.from_numpy(np.array(params[part])) for part in ("mean", "scale"))
        self.turned = torch.arange(self.d).flip(0)
        self.dealt = torch.cat([self.turned[::2], self.turned[1::2]])

    def losses(self, i: Tensor) -> Tensor:
        x, y = self.read(i)
        outer: Any = 0.0
        if self.images:
            levels = self.model.levels
            level = torch.round(x * ((levels - 1) / 255)) + torch.rand_like(x)
            share = EDGE + (1 - 2 * EDGE) * level / levels
            x = torch.logit(share)
            outer = (math.log((1 - 2 * EDGE) / levels) - share.log() - (1 - share).log()).sum(1)
        return -(self.density((x - self.mean) / self.scale, y) - self.scale.log().sum() + outer)

    def density(self, x: Tensor, y: Tensor) -> Tensor:
        """log p in units of the base, [n]."""
        total = x.new_zeros(len(x))
        for i, net in enumerate(self.nets):
            kept, moved = x[:, : self.kept], x[:, self.kept :]
            moved, log_slope = self.forward_map(self.told(net, kept, y), moved)
            x = torch.cat([kept, moved], 1)[:, self.dealt if i % 2 else self.turned]
            total = total + log_slope.sum(1)
        return total - 0.5 * (x * x).sum(1) - 0.5 * self.d * math.log(2 * math.pi)

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        x, y = self.model.temperature * torch.randn(n, self.d), self.labels(n)
        for i in reversed(range(len(self.nets))):
            x = x[:, torch.argsort(self.dealt if i % 2 else self.turned)]
            kept, moved = x[:, : self.kept], x[:, self.kept :]
            x = torch.cat([kept, self.inverse_map(self.told(self.nets[i], kept, y), moved)], 1)
        x = x * self.scale + self.mean
        if not self.images:
            return x
        levels = self.model.levels
        level = ((torch.sigmoid(x) - EDGE) / (1 - 2 * EDGE) * levels).floor().clamp(0, levels - 1)
        return torch.round(level * 255 / (levels - 1)).to(torch.uint8)

    def told(self, net: nn.Module, kept: Tensor, y: Tensor) -> Tensor:
        seen = torch.cat([kept, y], 1) if self.model.conditional else kept
        return net(seen).view(len(kept), self.d - self.kept, -1)

    def forward_map(self, told: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        if isinstance(self.model.coupling, Affine):
            s = self.scaled(told)
            return x * s.exp() + told[..., 1], s
        bound = self.model.coupling.bound
        at = x.clamp(-bound, bound)
        left, width, low, height, slope, after = self.bins(told, at, 0)
        steep, u = height / width, (at - left) / width
        bend = u * (1 - u)
        divisor = steep + (slope + after - 2 * steep) * bend
        y = low + height * (steep * u * u + slope * bend) / divisor
        rise = steep**2 * (after * u * u + 2 * steep * bend + slope * (1 - u) ** 2) / divisor**2
        inside = x.abs() < bound
        return torch.where(inside, y, x), torch.where(inside, rise.log(), 0.0)

    def inverse_map(self, told: Tensor, y: Tensor) -> Tensor:
        if isinstance(self.model.coupling, Affine):
            return (y - told[..., 1]) * (-self.scaled(told)).exp()
        bound = self.model.coupling.bound
        at = y.clamp(-bound, bound)
        left, width, low, height, slope, after = self.bins(told, at, 1)
        steep, up = height / width, at - low
        curved = up * (slope + after - 2 * steep)
        a, b, c = height * (steep - slope) + curved, height * slope - curved, -steep * up
        u = -2 * c / (b + (b * b - 4 * a * c).clamp(min=0).sqrt())
        return torch.where(y.abs() < bound, left + u * width, y)

    def scaled(self, told: Tensor) -> Tensor:
        limit = self.model.coupling.limit
        return limit * torch.tanh(told[..., 0] / limit)

    def bins(self, told: Tensor, at: Tensor, axis: int) -> tuple[Tensor, ...]:
        """(left, width, low, height, slope, next slope) of the bins in which numbers lie."""
        coupling = self.model.coupling
        widths, heights, slopes = told.split([coupling.bins, coupling.bins, coupling.bins - 1], -1)
        edges = []
        for part in (widths, heights):
            share = coupling.least + (1 - coupling.bins * coupling.least) * part.softmax(-1)
            edge = F.pad(2 * coupling.bound * share.cumsum(-1)[..., :-1] - coupling.bound, (1, 1))
            edge[..., 0], edge[..., -1] = -coupling.bound, coupling.bound
            edges.append(edge)
        inner = coupling.least + F.softplus(slopes + math.log(math.expm1(1 - coupling.least)))
        slopes = F.pad(inner, (1, 1), value=1.0)
        i = torch.searchsorted(edges[axis][..., 1:-1].contiguous(), at[..., None].contiguous(), right=True)
        pick = lambda a, k: a.gather(-1, i + k)[..., 0]  # noqa: E731
        x, y = edges
        left, low = pick(x, 0), pick(y, 0)
        return left, pick(x, 1) - left, low, pick(y, 1) - low, pick(slopes, 0), pick(slopes, 1)


class TableRows(nn.Module):
    """Columns of numbers [n, c], and of states, one of K [n, s, K]; numbers as normal scores, by the same quantiles."""

    def __init__(self, model: Any, params: Any, rows: Any) -> None:
        super().__init__()
        self.model, self.layout = model, model.layout
        x, there, state = (torch.from_numpy(np.array(part)) for part in self.layout.read(rows))
        self.x, self.there, self.state = x, there, state.long()
        self.at, self.shares = (torch.from_numpy(np.array(params[part])) for part in ("at", "shares"))  # [c, size]
        self.inside = torch.from_numpy(self.layout.inside)  # [s, K]
        self.whole = torch.from_numpy(self.layout.whole)  # [c]

    def read(self, i: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(normal scores [batch, c], which are there [batch, c], states [batch, s]) of the rows that i names."""
        x, size = self.x[i].T.contiguous(), self.at.shape[1]  # [c, batch]
        low, high = (torch.searchsorted(self.at, x, right=right) for right in (False, True))
        left, right = self.at.gather(1, (low - 1).clamp(min=0)), self.at.gather(1, low.clamp(max=size - 1))
        between = low - 0.5 + (x - left) / torch.where(right > left, right - left, 1.0)
        share = torch.where(high > low, (low + high) / 2, between) / size
        z = torch.special.ndtri(share.clamp(0.5 / size, 1 - 0.5 / size)).T
        return torch.where(self.there[i], z, 0.0), self.there[i], self.state[i]

    def written(self, z: Tensor, state: Tensor) -> Tensor:
        """Numbers and states of rows, [n, c + s]."""
        size = self.at.shape[1]
        place = (torch.special.ndtr(z) * size).T  # [c, n]
        inside = (place - 0.5).clamp(0, size - 1)
        i = inside.long()
        left, right = self.at.gather(1, i), self.at.gather(1, (i + 1).clamp(max=size - 1))
        jump = self.at.gather(1, place.long().clamp(0, size - 1))
        x = torch.where(self.whole[:, None], jump, left + (inside - i) * (right - left)).T
        return torch.cat([x, state.float()], 1)

    def one_of_k(self, state: Tensor) -> Tensor:
        return F.one_hot(state, self.inside.shape[1]).float()

    def padded(self, flat: Tensor) -> Tensor:
        """Logits [n, Σ K] as [n, s, K]."""
        found = flat.new_full((len(flat), *self.inside.shape), -torch.inf)
        found[:, self.inside] = flat
        return found


def states(probs: Tensor) -> Tensor:
    """Drawn by their probabilities [n, s, K], [n, s]."""
    return torch.multinomial(probs.flatten(0, 1), 1).view(probs.shape[:2])


class TVAETwin(TableRows):
    def __init__(self, model: TVAE, params: Any, rows: Any) -> None:
        super().__init__(model, params, rows)
        self.encoder, self.decoder = (mlp(params[part]["layers"]) for part in ("encoder", "decoder"))
        self.spread = nn.Parameter(torch.from_numpy(np.array(params["spread"])))

    def losses(self, i: Tensor) -> Tensor:
        z, there, state = self.read(i)
        mean, log_var = self.encoder(torch.cat([z, self.one_of_k(state)[:, self.inside]], 1)).chunk(2, 1)
        centre, logits = self.decoded(mean + (log_var / 2).exp() * torch.randn_like(mean))
        sigma = self.sigma
        each = -0.5 * ((z - centre) / sigma) ** 2 - sigma.log() - 0.5 * math.log(2 * math.pi)
        told = logits.log_softmax(-1).gather(-1, state[..., None])[..., 0]
        divergence = 0.5 * (mean**2 + log_var.exp() - 1 - log_var).sum(1)
        return self.model.beta * divergence - (each * there).sum(1) - told.sum(1)

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        centre, logits = self.decoded(torch.randn(n, self.model.latent))
        probs = torch.where(self.shares > 0, logits, -torch.inf).softmax(-1)
        return self.written(centre + self.sigma * torch.randn_like(centre), states(probs))

    def decoded(self, u: Tensor) -> tuple[Tensor, Tensor]:
        told = self.decoder(u)
        c = len(self.at)
        return told[:, :c], self.padded(told[:, c:])

    @property
    def sigma(self) -> Tensor:
        return self.spread.exp().clamp(min=self.model.least)


class TableDiffusionTwin(TableRows):
    def __init__(self, model: TableDiffusion, params: Any, rows: Any) -> None:
        super().__init__(model, params, rows)
        self.net, self.even = DenoiserTwin(params["net"]), self.inside / self.inside.sum(1, keepdim=True)
        self.kept = torch.from_numpy(np.append(1.0, model.noise.alphas_cumprod)).float()  # [T + 1]

    def losses(self, i: Tensor) -> Tensor:
        z, there, state = self.read(i)
        n, T = len(z), len(self.kept) - 1
        t = torch.floor((torch.rand(1) + torch.arange(n) / n) % 1 * T).long()  # [n]
        now, then = self.kept[t + 1][:, None], self.kept[t][:, None]
        eps, one = torch.randn_like(z), self.one_of_k(state)
        now_, then_ = now[..., None], then[..., None]
        xt = self.one_of_k(states(now_ * one + (1 - now_) * self.even))
        told, logits = self.told(now.sqrt() * z + (1 - now).sqrt() * eps, xt, t.float())
        p, q = (self.posterior(xt, x0, now_, then_) for x0 in (one, logits.softmax(-1)))
        tiny = torch.finfo(torch.float32).tiny
        apart = (p * (p.clamp(min=tiny).log() - q.clamp(min=tiny).log())).sum((-1, -2))
        numbers = ((told - eps) ** 2 * there).sum(1) / max(len(self.at), 1)
        return numbers + T * apart / max(len(self.inside), 1)

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        plan, _ = self.model.noise.steps(self.model.sample_steps)
        x, one = torch.randn(n, len(self.at)), self.one_of_k(states(self.even.expand(n, -1, -1)))
        then = np.append(plan.a[1:] ** 2, 1.0)
        for k in range(len(plan.t)):
            told, logits = self.told(x, one, torch.full((n,), float(plan.t[k])))
            clean = (x - float(plan.s[k]) * told) / float(plan.a[k])
            x = float(plan.clean[k]) * clean + float(plan.keep[k]) * x + float(plan.fresh[k]) * torch.randn_like(x)
            said = torch.where(self.shares > 0, logits, -torch.inf).softmax(-1)
            one = self.one_of_k(states(self.posterior(one, said, float(plan.a[k]) ** 2, float(then[k]))))
        return self.written(x, one.argmax(-1))

    def told(self, x: Tensor, one: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        told = self.net(torch.cat([x, one[:, self.inside]], 1), t)
        c = len(self.at)
        return told[:, :c], self.padded(told[:, c:])

    def posterior(self, xt: Tensor, x0: Tensor, now: Any, then: Any) -> Tensor:
        step = now / then
        found = (step * xt + (1 - step) * self.even) * (then * x0 + (1 - then) * self.even)
        return found / found.sum(-1, keepdim=True)
