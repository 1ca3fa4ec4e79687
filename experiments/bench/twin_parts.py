"""What twins in plain PyTorch are made of: layers with the weights of ours, and the rows that they read."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


def linear(of: Any) -> nn.Linear:
    kernel = torch.from_numpy(np.array(of["kernel"]))  # [a, b]
    made = nn.Linear(kernel.shape[0], kernel.shape[1])
    made.weight.data, made.bias.data = kernel.T.contiguous(), torch.from_numpy(np.array(of["bias"]))
    return made


def mlp(layers: Any) -> nn.Sequential:
    """`nets/mlp.py`, of its parameters."""
    parts: list[nn.Module] = []
    for i in range(len(layers)):
        parts += [nn.GELU(approximate="tanh"), linear(layers[i])]
    return nn.Sequential(*parts[1:])


def normed(of: Any) -> nn.LayerNorm:
    made = nn.LayerNorm(len(of["scale"]), eps=1e-6)
    made.weight.data, made.bias.data = (torch.from_numpy(np.array(of[name])) for name in ("scale", "bias"))
    return made


class Rows(nn.Module):
    """What twins read: images and labels, or points."""

    def __init__(self, model: Any, params: Any, rows: Any) -> None:
        super().__init__()
        self.model, self.classes = model, model.classes or 0
        self.images = isinstance(rows, dict)
        self.shown = torch.from_numpy(np.array(rows["image"] if self.images else rows)).flatten(1)  # [n, d]
        self.shares = self.label = None
        if self.images:
            self.shares = torch.from_numpy(np.array(params["labels"]))
            self.label = torch.from_numpy(np.array(rows["label"])).long()  # [n]

    def read(self, i: Tensor) -> tuple[Tensor, Tensor]:
        """(values [batch, d], labels one of K [batch, classes]) of the rows that i names."""
        label = torch.zeros(len(i), 0) if self.label is None else F.one_hot(self.label[i], self.classes).float()
        return self.shown[i].float(), label

    def labels(self, n: int) -> Tensor:
        """Drawn by their shares, one of K [n, classes]."""
        if self.shares is None:
            return torch.zeros(n, 0)
        return F.one_hot(torch.multinomial(self.shares, n, replacement=True), self.classes).float()
