"""The decoder of language models: GPT-2, GPT-NeoX (Pythia) and the Llama family (SmolLM2, Qwen2, Qwen3) are its cases.

Layers are stacked: each of their parameters is one leaf [depth, ...], so that a compiled step holds one layer, whatever
the depth.  A leaf's path is the name that it has in the state dict of transformers' `LlamaForCausalLM`, without
"model." and the number of the layer: `layers.self_attn.q_proj.kernel`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from generators.nets.attention import kept
from simulator.checks.fields import Count, Positive, Share, check
from simulator.numerics.streams import streams
from simulator.types import Array, GenlossError, Key, Params

ACTIVATIONS = {"gelu": partial(jax.nn.gelu, approximate=False), "gelu-tanh": jax.nn.gelu, "silu": jax.nn.silu}
Cache = tuple[tuple[Array, Array], ...]  # keys and values of every layer, [n, kv_heads, length, head] each


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """`Decoder(...)(vocabulary, length, rngs=...)` is a module: tokens [n, t <= length] to logits [n, t, vocabulary].

    Pre-norm layers of causal attention and a feed-forward part, both residual; no dropout.  What is left open makes
    GPT-2; `gpt2`, `neox` and `llama` name the families.
    """

    width: Count = 128  # channels of a token
    depth: Count = 4  # layers
    heads: Count = 4  # of the queries
    kv_heads: Count | None = None  # of keys and values, each shared by heads / kv_heads queries; None is one each
    head: Count | None = None  # channels of a head; None is width / heads
    hidden: Count | None = None  # width of the feed-forward part; None is 4 width
    positions: Literal["learned", "rotary"] = "learned"  # a table added to the tokens, or a turn of queries and keys
    rotary: Share = 1.0  # of a head's channels, the first, which turn (Su et al. 2021, arXiv:2104.09864)
    theta: Positive = 10_000.0  # base of the turns' wavelengths
    norm: Literal["layer", "rms"] = "layer"  # LayerNorm, or RMSNorm (Zhang & Sennrich 2019, arXiv:1910.07467)
    eps: Positive = 1e-5  # of the norms
    head_norm: bool = False  # RMSNorm of each head's queries and keys, before they turn (Qwen3)
    activation: Literal["gelu", "gelu-tanh", "silu"] = "gelu-tanh"  # of the feed-forward part
    gated: bool = False  # act(W x) * (V x) in place of act(W x): SwiGLU with silu (Shazeer 2020, arXiv:2002.05202)
    parallel: bool = False  # attention and feed-forward part both read the layer's input (GPT-NeoX)
    qkv_bias: bool = True  # of queries, keys and values
    bias: bool = True  # of the attention's output and of the feed-forward part
    tied: bool = True  # logits by the table of tokens

    def __post_init__(self) -> None:
        check(self)
        if self.heads % self.groups:
            raise GenlossError(f"`heads` is {self.heads} and must be a multiple of `kv_heads`, {self.groups}.")
        if self.head is None and self.width % self.heads:
            raise GenlossError(
                f"`width` is {self.width} and must be a multiple of `heads`, {self.heads}; or give `head`."
            )
        if self.positions == "rotary" and (self.turned % 2 or not self.turned):
            raise GenlossError(
                f"`rotary` turns {self.turned} of a head's {self.channels} channels, in pairs; make it an even number."
            )

    @property
    def groups(self) -> int:
        """Heads of keys and values."""
        return self.heads if self.kv_heads is None else self.kv_heads

    @property
    def channels(self) -> int:
        """Of a head."""
        return self.width // self.heads if self.head is None else self.head

    @property
    def turned(self) -> int:
        """Channels of a head that turn with its position."""
        return int(self.rotary * self.channels) if self.positions == "rotary" else 0

    def __call__(self, vocabulary: int, length: int, *, dtype: Any = jnp.float32, rngs: nnx.Rngs) -> DecoderModule:
        return DecoderModule(self, vocabulary, length, dtype=dtype, rngs=rngs)


def gpt2(width: int = 768, depth: int = 12, heads: int = 12, **fields: Any) -> Decoder:
    """GPT-2 (Radford et al. 2019), 124 M parameters at 50,257 tokens; 1024, 24, 16 are 355 M."""
    return Decoder(width=width, depth=depth, heads=heads, **fields)


def neox(width: int = 768, depth: int = 12, heads: int = 12, **fields: Any) -> Decoder:
    """GPT-NeoX (Black et al. 2022, arXiv:2204.06745) as Pythia has it, arXiv:2304.01373: 162 M at 50,304 tokens."""
    own = {"positions": "rotary", "rotary": 0.25, "activation": "gelu", "parallel": True, "tied": False}
    return Decoder(width=width, depth=depth, heads=heads, **{**own, **fields})


def llama(width: int = 576, depth: int = 30, heads: int = 9, kv_heads: int | None = None, **fields: Any) -> Decoder:
    """Llama (Touvron et al. 2023, arXiv:2302.13971), by default as SmolLM2 has it: 135 M at 49,152 tokens.

    Qwen2 has `qkv_bias=True`; Qwen3 has `head_norm=True` and a `head` of its own.  The feed-forward part is 8/3 width
    where `hidden` is left out, and `kv_heads` are a third of `heads`, or as many where three do not divide them.
    """
    kv_heads = kv_heads or (heads // 3 if heads % 3 == 0 else heads)
    own = {"positions": "rotary", "norm": "rms", "activation": "silu", "gated": True, "qkv_bias": False, "bias": False}
    own |= {"hidden": fields.get("hidden") or round(width * 8 / 3)}
    return Decoder(width=width, depth=depth, heads=heads, kv_heads=kv_heads, **{**own, **fields})


class DecoderModule(nnx.Module):
    """What a `Decoder` builds."""

    def __init__(self, net: Decoder, vocabulary: int, length: int, *, dtype: Any, rngs: nnx.Rngs):
        init = nnx.initializers.normal(0.02)
        self.net, self.dtype = net, dtype
        self.embed_tokens = Table(vocabulary, net.width, rngs=rngs)
        if net.positions == "learned":
            self.embed_positions = Table(length, net.width, rngs=rngs)
        self.layers = stacked(lambda rngs: Layer(net, dtype=dtype, rngs=rngs), net.depth, rngs.params())
        self.norm = normalisation(net, net.width, dtype=dtype, rngs=rngs)
        if not net.tied:
            self.lm_head = nnx.Linear(net.width, vocabulary, use_bias=False, kernel_init=init, dtype=dtype, rngs=rngs)

    def __call__(self, tokens: Array) -> Array:
        """tokens [n, t] -> logits of the token after each, [n, t, vocabulary] float32."""
        return self.logits(self.hidden(tokens))

    def hidden(self, tokens: Array) -> Array:
        """tokens [n, t] -> what the last layer makes of each, normalised, [n, t, width]."""
        x, turn = self._entered(tokens, jnp.arange(tokens.shape[1]))
        graph, layers = nnx.split(self.layers, nnx.Param)
        # What lies between matmuls is computed once more for the gradient: to write it takes longer than to compute it.
        policy = jax.checkpoint_policies.save_only_these_names("kept")
        one = jax.checkpoint(lambda x, layer: (nnx.merge(graph, layer)(x, turn), None), policy=policy)
        return self.norm(jax.lax.scan(one, x, nnx.as_pure(layers))[0])

    def logits(self, hidden: Array) -> Array:
        """hidden [n, t, width] -> [n, t, vocabulary] float32."""
        rows = hidden.reshape(-1, hidden.shape[-1])
        table = self.embed_tokens.embedding[...].T if self.net.tied else self.lm_head.kernel[...]
        found = jnp.matmul(rows, table.astype(self.dtype), preferred_element_type=jnp.float32)
        return found.reshape(*hidden.shape[:-1], -1)

    def empty(self, n: int, length: int) -> Cache:
        """A cache of n rows that have no token yet, with room for `length`."""
        shape = (n, self.net.groups, length, self.net.channels)
        return tuple((jnp.zeros(shape, self.dtype), jnp.zeros(shape, self.dtype)) for _ in range(self.net.depth))

    def extended(self, tokens: Array, cache: Cache, at: Array | int) -> tuple[Array, Cache]:
        """`hidden` of more tokens [n, k] of rows that have `at` [] of them in the cache; and the cache with these.

        All loops over layers are unrolled here: in a loop the cache would be copied at every token.
        """
        x, turn = self._entered(tokens, at + jnp.arange(tokens.shape[1]))
        graph, layers = nnx.split(self.layers, nnx.Param)
        found = []
        for i, before in enumerate(cache):
            layer = nnx.merge(graph, jax.tree.map(lambda a, i=i: a[i], nnx.as_pure(layers)))
            x, after = layer.extended(x, turn, before, at)
            found.append(after)
        return self.norm(x), tuple(found)

    def _entered(self, tokens: Array, places: Array) -> tuple[Array, Array]:
        """tokens [n, t] at places [t] as the first layer reads them, [n, t, width]; and the turns of their heads."""
        x = self.embed_tokens(tokens)
        if self.net.positions == "learned":
            x = x + self.embed_positions(places)  # [n, t, width] + [t, width]
        return x.astype(self.dtype), turns(places, self.net.turned, self.net.theta)


class Layer(nnx.Module):
    """Attention and a feed-forward part, both residual."""

    def __init__(self, net: Decoder, *, dtype: Any, rngs: nnx.Rngs):
        self.parallel = net.parallel
        self.input_layernorm = normalisation(net, net.width, dtype=dtype, rngs=rngs)
        self.self_attn = Attention(net, dtype=dtype, rngs=rngs)
        self.post_attention_layernorm = normalisation(net, net.width, dtype=dtype, rngs=rngs)
        self.mlp = Feeding(net, dtype=dtype, rngs=rngs)

    def __call__(self, x: Array, turn: Array) -> Array:
        """x [n, t, width] -> [n, t, width], each token hearing those before it and itself."""
        queries, keys, values = map(kept, self.self_attn.asked(self.input_layernorm(x), turn))
        t = x.shape[1]
        return self._fed(x, self.self_attn.heard(queries, keys, values, jnp.tri(t, dtype=bool)))

    def extended(
        self, x: Array, turn: Array, cache: tuple[Array, Array], at: Array | int
    ) -> tuple[Array, tuple[Array, Array]]:
        """The same of x [n, k, width], which follows `at` tokens whose keys and values are in the cache."""
        queries, *new = self.self_attn.asked(self.input_layernorm(x), turn)
        keys, values = (
            jax.lax.dynamic_update_slice_in_dim(old, now.astype(old.dtype), at, 2)
            for old, now in zip(cache, new, strict=True)
        )
        own = at + jnp.arange(x.shape[1])  # [k]: places of these tokens
        mask = jnp.arange(keys.shape[2]) <= own[:, None]  # [k, length]
        return self._fed(x, self.self_attn.heard(queries, keys, values, mask)), (keys, values)

    def _fed(self, x: Array, heard: Array) -> Array:
        if self.parallel:
            return x + heard + self.mlp(self.post_attention_layernorm(x))
        x = x + heard
        return x + self.mlp(self.post_attention_layernorm(x))


class Attention(nnx.Module):
    """Causal attention of grouped queries (Ainslie et al. 2023, arXiv:2305.13245)."""

    def __init__(self, net: Decoder, *, dtype: Any, rngs: nnx.Rngs):
        self.net, self.dtype = net, dtype
        linear = partial(nnx.Linear, kernel_init=nnx.initializers.normal(0.02), dtype=dtype, rngs=rngs)
        queries, keys = net.heads * net.channels, net.groups * net.channels
        self.q_proj = linear(net.width, queries, use_bias=net.qkv_bias)
        self.k_proj = linear(net.width, keys, use_bias=net.qkv_bias)
        self.v_proj = linear(net.width, keys, use_bias=net.qkv_bias)
        self.o_proj = linear(queries, net.width, use_bias=net.bias, kernel_init=residual(net))
        if net.head_norm:
            self.q_norm, self.k_norm = (rms(net.channels, net.eps, dtype=dtype, rngs=rngs) for _ in range(2))

    def asked(self, x: Array, turn: Array) -> tuple[Array, Array, Array]:
        """x [n, t, width] -> queries [n, heads, t, channels], and keys and values [n, kv_heads, t, channels]."""
        net, parts = self.net, (self.q_proj, self.k_proj, self.v_proj)
        # One matmul for all three; over rows, since a gradient summed over two axes is transposed first on a CPU.
        kernel = jnp.concatenate([part.kernel[...] for part in parts], 1).astype(self.dtype)
        said = x.reshape(-1, x.shape[-1]).astype(self.dtype) @ kernel  # [n t, (heads + 2 kv_heads) channels]
        if net.qkv_bias:
            said = said + jnp.concatenate([part.bias[...] for part in parts if part.bias is not None]).astype(
                self.dtype
            )
        said = jnp.swapaxes(said.reshape(*x.shape[:-1], -1, net.channels), 1, 2)  # [n, heads + 2 kv_heads, t, channels]
        queries, keys, values = jnp.split(said, [net.heads, net.heads + net.groups], 1)
        if net.head_norm:
            queries, keys = self.q_norm(queries), self.k_norm(keys)
        return turned(queries, turn), turned(keys, turn), values

    def heard(self, queries: Array, keys: Array, values: Array, mask: Array) -> Array:
        """queries [n, heads, t, channels], keys and values [n, kv_heads, s, channels], mask [t, s] -> [n, t, width]."""
        n, _, t, channels = queries.shape
        asked = queries.reshape(n, self.net.groups, -1, t, channels)  # [n, kv_heads, heads / kv_heads, t, channels]
        scores = jnp.einsum("nkgtd,nksd->nkgts", asked, keys, preferred_element_type=jnp.float32)
        scores = jnp.where(mask, scores * channels**-0.5, -jnp.inf)
        share = kept(jax.nn.softmax(scores).astype(values.dtype))  # [n, kv_heads, heads / kv_heads, t, s]
        heard = jnp.einsum("nkgts,nksd->nkgtd", share, values).reshape(n, -1, t, channels)
        heard = kept(jnp.swapaxes(heard, 1, 2).reshape(n * t, -1))  # [n t, heads channels]
        return kept(self.o_proj(heard)).reshape(n, t, -1)


class Feeding(nnx.Module):
    """The feed-forward part, the same for every token."""

    def __init__(self, net: Decoder, *, dtype: Any, rngs: nnx.Rngs):
        self.activation, hidden = net.activation, 4 * net.width if net.hidden is None else net.hidden
        linear = partial(nnx.Linear, use_bias=net.bias, dtype=dtype, rngs=rngs)
        if net.gated:
            self.gate_proj = linear(net.width, hidden, kernel_init=nnx.initializers.normal(0.02))
        self.up_proj = linear(net.width, hidden, kernel_init=nnx.initializers.normal(0.02))
        self.down_proj = linear(hidden, net.width, kernel_init=residual(net))

    def __call__(self, x: Array) -> Array:
        rows = x.reshape(-1, x.shape[-1])  # [n t, width]
        up, act = kept(self.up_proj(rows)), ACTIVATIONS[self.activation]
        inner = act(kept(self.gate_proj(rows))) * up if hasattr(self, "gate_proj") else act(up)  # [n t, hidden]
        return kept(self.down_proj(inner)).reshape(x.shape)


class Table(nnx.Module):
    """A row for each number."""

    def __init__(self, size: int, width: int, *, rngs: nnx.Rngs):
        self.embedding = nnx.Param(nnx.initializers.normal(0.02)(rngs.params(), (size, width)))

    def __call__(self, numbers: Array) -> Array:
        return self.embedding[...][numbers]  # [..., width]


def stacked(make: Any, depth: int, key: Key) -> Any:
    """`depth` modules as one whose parameters have an axis more, [depth, ...]."""
    params: Params = jax.vmap(lambda key: nnx.as_pure(nnx.split(make(streams(key)), nnx.Param)[1]))(
        jax.random.split(key, depth)
    )
    return nnx.merge(nnx.split(nnx.eval_shape(lambda: make(streams(0))), nnx.Param)[0], params)


def residual(net: Decoder) -> Any:
    """How a matrix begins whose product is added: the sum of all layers has the scale of one (GPT-2)."""
    return nnx.initializers.normal(0.02 / math.sqrt(2 * net.depth))


def normalisation(net: Decoder, width: int, *, dtype: Any, rngs: nnx.Rngs) -> Any:
    if net.norm == "rms":
        return rms(width, net.eps, dtype=dtype, rngs=rngs)
    return nnx.LayerNorm(width, epsilon=net.eps, use_fast_variance=False, dtype=dtype, rngs=rngs)


def rms(width: int, eps: float, *, dtype: Any, rngs: nnx.Rngs) -> nnx.RMSNorm:
    return nnx.RMSNorm(width, epsilon=eps, use_fast_variance=False, dtype=dtype, rngs=rngs)


def turns(places: Array, channels: int, theta: float) -> Array:
    """Cosines and sines of the angle of each pair of channels, [2, t, channels/2], at places [t]."""
    frequency = theta ** -(jnp.arange(0, channels, 2, dtype=jnp.float32) / max(channels, 1))  # [channels/2]
    angle = places[:, None].astype(jnp.float32) * frequency  # [t, channels/2]
    return jnp.stack([jnp.cos(angle), jnp.sin(angle)])


def turned(x: Array, turn: Array) -> Array:
    """x [n, heads, t, channels] with its first channels turned, those of the first half with those of the second."""
    half = turn.shape[-1]
    if not half:
        return x
    cos, sin = turn  # [t, half] each
    first, second, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    pair = (first * cos - second * sin, second * cos + first * sin)
    return jnp.concatenate([*(a.astype(x.dtype) for a in pair), rest], -1)
