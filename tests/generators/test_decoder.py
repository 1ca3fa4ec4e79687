"""The decoder of language models: causal, the same with a cache, and what its families are made of."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from generators.nets.decoder import Decoder, gpt2, llama, neox, turned, turns
from simulator import GenlossError

SMALL: dict[str, Any] = {"width": 16, "depth": 2, "heads": 4}
FAMILIES = {
    "gpt2": gpt2(**SMALL),
    "neox": neox(**SMALL, rotary=0.5),
    "llama": llama(**SMALL, kv_heads=2),
    "qwen2": llama(**SMALL, kv_heads=2, qkv_bias=True, tied=False),
    "qwen3": llama(**SMALL, kv_heads=1, head=6, head_norm=True),
}
TOKENS = jax.random.randint(jax.random.key(1), (3, 7), 0, 11)


def begun(net: Decoder) -> Any:
    return jax.jit(lambda: nnx.as_pure(nnx.split(net(11, 7, rngs=nnx.Rngs(0)), nnx.Param)[1]))()


def built(net: Decoder, scale: float = 8.0, **kit: Any) -> Any:
    """A network whose matrices are large enough for every token to be heard."""
    graph = nnx.split(nnx.eval_shape(lambda: net(11, 7, rngs=nnx.Rngs(0), **kit)), nnx.Param)[0]
    return nnx.merge(graph, jax.tree.map(lambda a: scale * a if a.ndim > 2 else a, begun(net)))


@pytest.mark.quick("gpt2", "neox", "qwen3")
@pytest.mark.parametrize("family", FAMILIES)
def test_a_logit_depends_on_its_token_and_those_before_and_is_the_same_with_a_cache(family: str):
    """Logits before a changed token stay to the bit, and that of the token and all after it do not.

    With a cache: the first four tokens at once, then one at a time.
    """
    net = built(FAMILIES[family])

    @jax.jit
    def both(tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
        hidden, cache = net.extended(tokens[:, :4], net.empty(3, 7), 0)
        found = [hidden]
        for t in range(4, 6):
            hidden, cache = net.extended(tokens[:, t : t + 1], cache, t)
            found.append(hidden)
        return net(tokens), net.logits(jnp.concatenate(found, 1))

    whole, cached = both(TOKENS)
    assert whole.shape == (3, 7, 11) and np.abs(whole).max() > 0.1
    assert np.abs(cached - whole[:, :6]).max() < 1e-4
    for t in (0, 3, 6):
        changed, _ = both(TOKENS.at[:, t].set((TOKENS[:, t] + 1) % 11))
        assert np.array_equal(changed[:, :t], whole[:, :t])
        assert (np.abs(changed[:, t:] - whole[:, t:]).max((0, 2)) > 1e-3).all()


def test_a_turn_tells_how_far_apart_two_tokens_are_and_nothing_else():
    """The product of a turned query and a turned key depends on the difference of their places."""
    query, key = jax.random.normal(jax.random.key(0), (2, 1, 1, 1, 8))

    def product(i: int, j: int) -> float:
        at = lambda place: turns(jnp.array([place]), 6, 100.0)  # noqa: E731
        return float((turned(query, at(i)) * turned(key, at(j))).sum())

    assert product(5, 2) == pytest.approx(product(9, 6), abs=1e-5) and abs(product(5, 2) - product(5, 3)) > 1e-2
    # By complex numbers: a pair of channels times e^(i place theta^(-2 j / channels)).
    pair = np.asarray(query)[0, 0, 0, :3] + 1j * np.asarray(query)[0, 0, 0, 3:6]
    expected = pair * np.exp(1j * 5 * 100.0 ** (-np.arange(3) / 3))
    found = np.asarray(turned(query, turns(jnp.array([5]), 6, 100.0)))[0, 0, 0]
    assert np.allclose(found, [*expected.real, *expected.imag, *np.asarray(query)[0, 0, 0, 6:]], atol=1e-5)


def test_heads_of_keys_and_values_are_shared_by_their_neighbours():
    """Two of four heads with keys of their own, each twice, say what two shared ones do."""
    shared, alone = (llama(**SMALL, kv_heads=k) for k in (2, None))
    params = begun(shared)
    expected = built(shared, 1.0)(TOKENS)
    attention = params["layers"]["self_attn"]
    for name in ("k_proj", "v_proj"):
        kernel = attention[name]["kernel"].reshape(2, 16, 2, 4)  # [depth, width, kv_heads, channels]
        attention[name]["kernel"] = jnp.repeat(kernel, 2, 2).reshape(2, 16, 16)
    graph = nnx.split(nnx.eval_shape(lambda: alone(11, 7, rngs=nnx.Rngs(0))), nnx.Param)[0]
    net: Any = nnx.merge(graph, params)
    assert np.allclose(net(TOKENS), expected, atol=1e-6)


PUBLISHED = [(gpt2, 50257, 124_439_808), (neox, 50304, 162_322_944), (llama, 49152, 134_515_008)]


@pytest.mark.parametrize(("make", "vocabulary", "expected"), PUBLISHED)
def test_the_presets_have_the_sizes_that_are_published(make: Any, vocabulary: int, expected: int):
    net = nnx.eval_shape(lambda: make()(vocabulary, 1024, rngs=nnx.Rngs(0)))
    assert sum(leaf.size for leaf in jax.tree.leaves(nnx.split(net, nnx.Param)[1])) == expected


def test_half_precision_changes_the_logits_a_little_and_not_their_type():
    whole, half = built(FAMILIES["gpt2"])(TOKENS), built(FAMILIES["gpt2"], dtype=jnp.bfloat16)(TOKENS)
    assert half.dtype == jnp.float32 and 0 < np.abs(half - whole).max() < 0.1 * np.abs(whole).max()


@pytest.mark.parametrize(
    ("fields", "mend"),
    [
        ({"heads": 4, "kv_heads": 3}, "multiple of `kv_heads`"),
        ({"width": 30, "heads": 4}, "or give `head`"),
        ({"positions": "rotary", "rotary": 0.1}, "even number"),
        ({"norm": "batch"}, "norm"),
        ({"depth": 0}, "depth"),
    ],
)
def test_what_cannot_be_built_is_refused(fields: dict[str, Any], mend: str):
    with pytest.raises(GenlossError, match=mend):
        Decoder(**fields)
