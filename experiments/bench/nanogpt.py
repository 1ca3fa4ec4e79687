"""nanoGPT's shapes in plain PyTorch, and in transformers: references of `bench language`.  Needs the extra `torch`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from generators.transformer import Transformer


class Layer(nn.Module):
    """Attention and a feed-forward part, both residual."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.ask, self.tell = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, t, width = x.shape
        parts = self.ask(self.norm_1(x)).split(width, 2)  # [n, t, width] each
        queries, keys, values = (a.view(n, t, self.heads, -1).transpose(1, 2) for a in parts)
        heard = functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        x = x + self.tell(heard.transpose(1, 2).reshape(n, t, width))
        return x + self.down(functional.gelu(self.up(self.norm_2(x)), approximate="tanh"))


class GPT(nn.Module):
    """tokens [n, t] -> logits [n, t, vocabulary], by the table of tokens."""

    def __init__(self, vocabulary: int, length: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.layers, self.norm = nn.Sequential(*[Layer(width, heads) for _ in range(depth)]), nn.LayerNorm(width)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.tokens(tokens) + self.places(torch.arange(tokens.shape[1]))
        return self.norm(self.layers(x)) @ self.tokens.weight.T

    @torch.no_grad()
    def say(self, n: int, length: int, greedy: bool = False) -> torch.Tensor:
        """[n, length], token by token, drawn or the likeliest; all that was said is read again for each."""
        said = torch.zeros(n, 1, dtype=torch.long)
        for _ in range(length):
            logits = self(said[:, -length:])[:, -1]  # [n, vocabulary]
            token = logits.argmax(-1, keepdim=True) if greedy else torch.multinomial(torch.softmax(logits, -1), 1)
            said = torch.cat([said, token], 1)
        return said[:, 1:]


def built(model: Transformer) -> GPT:
    """The network of a model's sizes."""
    net: Any = model.network
    return GPT(model.vocabulary, model.length or 0, net.width, net.depth, net.heads)


def generating(model: Transformer, n: int, length: int) -> Callable[[], Any]:
    """transformers' own `generate` of n rows by a network of these sizes, with its cache; greedy at temperature 0."""
    from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel

    net: Any = model.network
    sizes = {"n_embd": net.width, "n_layer": net.depth, "n_head": net.heads}
    config = GPT2Config(vocab_size=model.vocabulary, n_positions=length + 1, **sizes, bos_token_id=0, eos_token_id=None)
    network: Any = GPT2LMHeadModel(config).eval()
    drawing = {"do_sample": False} if model.temperature == 0 else {"do_sample": True, "top_k": 0}
    how = GenerationConfig(**drawing, max_new_tokens=length, use_cache=True, pad_token_id=0, bos_token_id=0)
    begun = torch.zeros(n, 1, dtype=torch.long)

    def say() -> torch.Tensor:
        with torch.no_grad():
            said = network.generate(begun, attention_mask=torch.ones_like(begun), generation_config=how)
        assert said.shape == (n, length + 1)
        return said[:, 1:]

    return say


def training(model: Transformer, rows: np.ndarray) -> Callable[[int], None]:
    """A function that does so many steps of the same work: rows drawn, AdamW after clipping."""
    network = built(model)
    weights = list(network.parameters())
    groups = [
        {"params": [w for w in weights if w.dim() > 1], "weight_decay": model.decay},
        {"params": [w for w in weights if w.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, model.learning_rate, betas=model.betas, fused=True)
    data = torch.from_numpy(rows.astype(np.int64))

    def steps(number: int) -> None:
        for _ in range(number):
            chosen = data[torch.randint(len(data), (model.batch,))]  # [batch, length]
            logits = network(chosen[:, :-1])
            loss = functional.cross_entropy(logits.flatten(0, 1), chosen[:, 1:].flatten())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(weights, model.clip)
            optimizer.step()

    return steps
