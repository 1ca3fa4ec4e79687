"""The transformer and the U-Net of `generators/nets` in plain torch, for machines without diffusers.

A parameter's name is that of diffusers' state dict, so that the same weights fit (`generators.hub.diffusers`).  Of the
U-Net there are the levels called DownBlock2D, AttnDownBlock2D, UpBlock2D and AttnUpBlock2D, and time is added.
Attention is PyTorch's own, which takes the fastest kernel there is.
"""

# What a module of torch holds is found as it is asked for, which the type checker does not see.
# pyright: reportCallIssue=false, reportArgumentType=false, reportIndexIssue=false
# pyright: reportOperatorIssue=false, reportGeneralTypeIssues=false

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from generators.nets.dit import DiT, places
from generators.nets.unet import UNet


def twin(network: DiT | UNet, shape: tuple[int, ...], classes: int | None) -> nn.Module:
    """`module(x, t, class_labels)` for x [n, c, h, w], with weights of its own."""
    if isinstance(network, DiT):
        return Transformer(network, shape, classes)
    return Convolutions(network, shape, classes)


class Embedding(nn.Module):
    """Two matmuls from waves of a time [n] to [n, width]."""

    def __init__(self, inputs: int, width: int, shift: float) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(inputs, width), nn.Linear(width, width)
        half = inputs // 2
        self.register_buffer("f", torch.exp(-math.log(10_000) * torch.arange(half) / (half - shift)), persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        angle = t[:, None].float() * self.f  # [n, inputs/2]
        return self.linear_2(F.silu(self.linear_1(torch.cat([angle.cos(), angle.sin()], -1))))


class Attention(nn.Module):
    """What every token hears from all tokens, [n, tokens, width]."""

    def __init__(self, width: int, head: int, bias: bool = True) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width, bias) for _ in range(3))
        self.to_out, self.head = nn.ModuleList([nn.Linear(width, width)]), head

    def forward(self, x: Tensor) -> Tensor:
        parts = (to(x).unflatten(-1, (-1, self.head)).transpose(1, 2) for to in (self.to_q, self.to_k, self.to_v))
        heard = F.scaled_dot_product_attention(*parts)  # [n, heads, tokens, head]
        return self.to_out[0](heard.transpose(1, 2).flatten(2))


class Told(nn.Module):
    def __init__(self, width: int, classes: int | None) -> None:
        super().__init__()
        self.timestep_embedder = Embedding(256, width, 1)
        self.class_embedder = None
        if classes is not None:
            self.class_embedder = nn.ModuleDict({"embedding_table": nn.Embedding(classes + 1, width)})

    def forward(self, t: Tensor, label: Tensor) -> Tensor:
        told = self.timestep_embedder(t)
        return told if self.class_embedder is None else told + self.class_embedder["embedding_table"](label)


class Block(nn.Module):
    def __init__(self, net: DiT, width: int, classes: int | None) -> None:
        super().__init__()
        self.norm1 = nn.ModuleDict({"emb": Told(width, classes), "linear": nn.Linear(width, 6 * width)})
        self.attn1 = Attention(width, net.attention_head_dim, net.attention_bias)
        within = nn.ModuleDict({"proj": nn.Linear(width, 4 * width)})
        self.ff = nn.ModuleDict({"net": nn.ModuleList([within, nn.Identity(), nn.Linear(4 * width, width)])})
        self.eps = net.norm_eps

    def forward(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        told = self.norm1["linear"](F.silu(self.norm1["emb"](t, label)))[:, None]  # [n, 1, 6·width]
        shift, scale, gate, shift_within, scale_within, gate_within = told.chunk(6, -1)
        size = x.shape[-1:]
        x = x + gate * self.attn1(F.layer_norm(x, size, eps=1e-6) * (1 + scale) + shift)  # [n, tokens, width]
        y = F.layer_norm(x, size, eps=self.eps) * (1 + scale_within) + shift_within
        enter, _, leave = self.ff["net"]
        return x + gate_within * leave(F.gelu(enter["proj"](y), approximate="tanh"))


class Transformer(nn.Module):
    """`generators/nets/dit.py`."""

    def __init__(self, net: DiT, shape: tuple[int, ...], classes: int | None) -> None:
        super().__init__()
        (side, _, colours), width = shape, net.num_attention_heads * net.attention_head_dim
        self.patch, self.rows = net.patch_size, side // net.patch_size
        self.pos_embed = nn.ModuleDict({"proj": nn.Conv2d(colours, width, self.patch, self.patch)})
        self.transformer_blocks = nn.ModuleList([Block(net, width, classes) for _ in range(net.num_layers)])
        self.proj_out_1 = nn.Linear(width, 2 * width)
        self.proj_out_2 = nn.Linear(width, self.patch**2 * colours)
        where = torch.tensor(places(self.rows, width).tolist()).reshape(1, -1, width)  # [1, tokens, width]
        self.register_buffer("places", where, persistent=False)

    def forward(self, x: Tensor, t: Tensor, class_labels: Tensor) -> Tensor:
        y = self.pos_embed["proj"](x).flatten(2).transpose(1, 2) + self.places  # [n, tokens, width]
        for block in self.transformer_blocks:
            y = block(y, t, class_labels)
        told = self.transformer_blocks[0].norm1["emb"](t, class_labels)  # [n, width]
        shift, scale = self.proj_out_1(F.silu(told))[:, None].chunk(2, -1)  # [n, 1, width]
        y = self.proj_out_2(F.layer_norm(y, y.shape[-1:], eps=1e-6) * (1 + scale) + shift)
        y = y.unflatten(1, (self.rows, self.rows)).unflatten(-1, (self.patch, self.patch, -1))
        return torch.einsum("nhwpqc->nchpwq", y).reshape(x.shape)


class Resnet(nn.Module):
    def __init__(self, net: UNet, inputs: int, outputs: int, time: int) -> None:
        super().__init__()
        groups, eps = net.norm_num_groups, net.norm_eps
        self.norm1, self.norm2 = nn.GroupNorm(groups, inputs, eps), nn.GroupNorm(groups, outputs, eps)
        self.conv1, self.conv2 = (nn.Conv2d(c, outputs, 3, padding=1) for c in (inputs, outputs))
        self.time_emb_proj = nn.Linear(time, outputs)
        self.conv_shortcut = None if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x))) + self.time_emb_proj(F.silu(time))[..., None, None]
        y = self.conv2(F.silu(self.norm2(y)))  # [n, outputs, h, w]
        return y + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class Seeing(Attention):
    def __init__(self, net: UNet, width: int) -> None:
        super().__init__(width, net.attention_head_dim or width)
        self.group_norm = nn.GroupNorm(net.norm_num_groups, width, net.norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        told = super().forward(self.group_norm(x).flatten(2).transpose(1, 2))  # [n, h·w, width]
        return x + told.transpose(1, 2).reshape(x.shape)


class Level(nn.Module):
    """Residual layers, each followed by attention where there is any; then a halving or a doubling of the sides."""

    def __init__(self, net: UNet, pairs: list[tuple[int, int]], attends: bool, time: int, then: str | None) -> None:
        super().__init__()
        width = pairs[-1][1]
        self.resnets = nn.ModuleList([Resnet(net, a, b, time) for a, b in pairs])
        self.attentions = nn.ModuleList([Seeing(net, width) for _ in pairs if attends])
        conv = nn.Conv2d(width, width, 3, stride=2 if then == "downsamplers" else 1, padding=1)
        if then is not None:
            self.add_module(then, nn.ModuleList([nn.ModuleDict({"conv": conv})]))

    def layer(self, i: int, x: Tensor, time: Tensor) -> Tensor:
        x = self.resnets[i](x, time)
        return self.attentions[i](x) if len(self.attentions) else x


class Convolutions(nn.Module):
    """`generators/nets/unet.py`."""

    def __init__(self, net: UNet, shape: tuple[int, ...], classes: int | None) -> None:
        super().__init__()
        widths, colours = net.block_out_channels, shape[-1]
        time, last = 4 * widths[0], len(widths) - 1
        self.time_embedding = Embedding(widths[0], time, net.freq_shift)
        self.class_embedding = None if classes is None else nn.Embedding(classes + 1, time)
        self.conv_in = nn.Conv2d(colours, widths[0], 3, padding=1)
        said = [widths[0]]  # channels of what is said on the way down
        downs, ups = [], []
        for i, (kind, width) in enumerate(zip(net.down, widths, strict=True)):
            pairs = [(a, width) for a in (widths[max(0, i - 1)], *[width] * (net.layers_per_block - 1))]
            downs.append(Level(net, pairs, "Attn" in kind, time, "downsamplers" if i < last else None))
            said += [width] * (net.layers_per_block + (i < last))
        self.mid_block = Level(net, [(widths[-1], widths[-1])] * 2, False, time, None)
        self.mid_block.attentions = nn.ModuleList([Seeing(net, widths[-1])])
        for i, (kind, width) in enumerate(zip(net.up, widths[::-1], strict=True)):
            before = [widths[::-1][max(0, i - 1)], *[width] * net.layers_per_block]
            pairs = [(a + said.pop(), width) for a in before]
            ups.append(Level(net, pairs, "Attn" in kind, time, "upsamplers" if i < last else None))
        self.down_blocks, self.up_blocks = nn.ModuleList(downs), nn.ModuleList(ups)
        self.conv_norm_out = nn.GroupNorm(net.norm_num_groups, widths[0], net.norm_eps)
        self.conv_out = nn.Conv2d(widths[0], colours, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, class_labels: Tensor) -> Tensor:
        time = self.time_embedding(t)  # [n, time]
        if self.class_embedding is not None:
            time = time + self.class_embedding(class_labels)
        x = self.conv_in(x)
        said: list[Any] = [x]
        for level in self.down_blocks:
            for i in range(len(level.resnets)):
                x = level.layer(i, x, time)  # [n, width, h, w]
                said.append(x)
            if hasattr(level, "downsamplers"):
                x = level.downsamplers[0]["conv"](x)  # [n, width, h/2, w/2]
                said.append(x)
        x = self.mid_block.resnets[0](x, time)
        x = self.mid_block.resnets[1](self.mid_block.attentions[0](x), time)
        for level in self.up_blocks:
            for i in range(len(level.resnets)):
                x = level.layer(i, torch.cat([x, said.pop()], 1), time)
            if hasattr(level, "upsamplers"):
                x = level.upsamplers[0]["conv"](F.interpolate(x, scale_factor=2.0))  # [n, width, 2h, 2w]
        return self.conv_out(F.silu(self.conv_norm_out(x)))
