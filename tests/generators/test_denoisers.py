"""Denoising networks of images: what both owe, and convolutions as matmuls."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import cases
from flax import nnx

from generators.nets.attention import waves
from generators.nets.convolution import (
    by_lax,
    by_matmul,
    by_turns,
    convolved,
    filtered_double,
    filtered_half,
    halved,
)
from generators.nets.dit import DiT, places
from generators.nets.patch_denoiser import Mixing, PatchDenoiser
from generators.nets.patches import cut, joined
from generators.nets.unet import UNet
from simulator import GenlossError

TINY = UNet(block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, attention_head_dim=8)
NETWORKS = {
    "unet": TINY,
    "unet, matmul": UNet(
        block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, attention_head_dim=8, convolution="matmul"
    ),
    "dit": DiT(num_layers=2, num_attention_heads=2, attention_head_dim=8),
    "patches": partial(PatchDenoiser, patch=2, width=16, depth=2, told=16),
}
SHAPE, CLASSES = (8, 8, 1), 3


def split(network: Any, classes: int | None = CLASSES, dtype: Any = jnp.float32) -> tuple[Any, Any]:
    """(structure, parameters), every one of these random: at first the networks say 0."""
    module = nnx.eval_shape(lambda: network(SHAPE, classes, dtype=dtype, rngs=nnx.Rngs(0)))
    graph, params, rest = nnx.split(module, nnx.Param, ...)
    leaves, tree = jax.tree.flatten(nnx.as_pure(params))
    assert not jax.tree.leaves(rest) and all(leaf.dtype == jnp.float32 for leaf in leaves)
    chance = np.random.default_rng(0)
    scales = [0.2 if leaf.ndim == 1 else np.prod(leaf.shape[:-1]) ** -0.5 for leaf in leaves]
    noise = [(s * chance.normal(size=leaf.shape)).astype(np.float32) for s, leaf in zip(scales, leaves, strict=True)]
    return graph, jax.tree.unflatten(tree, [jnp.asarray(a) for a in noise])


def rows(n: int = 4) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Noisy images, times, and a label each, the last of them the null label."""
    return jax.random.normal(jax.random.key(1), (n, *SHAPE)), jnp.linspace(0, 999, n), jnp.arange(n) % (CLASSES + 1)


@pytest.mark.quick("dit", "patches")
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_a_denoiser_hears_time_and_label_row_by_row(network: Any):
    graph, params = split(network)
    say = jax.jit(lambda x, t, label: nnx.merge(graph, params)(x, t, label))
    x, t, label = (np.asarray(a) for a in rows())
    said = np.asarray(say(x, t, label))
    assert said.shape == x.shape and said.dtype == np.float32 and np.isfinite(said).all()
    assert np.allclose(say(x[::-1], t[::-1], label[::-1]), said[::-1], atol=1e-5)  # the batch does not matter
    for other in range(CLASSES + 1):  # every label, the null label among them, is told apart
        changed = np.abs(np.asarray(say(x, t, np.full_like(label, other))) - said).max((1, 2, 3))
        assert ((changed > 1e-3) == (label != other)).all()
    assert (np.abs(np.asarray(say(x, t + 7, label)) - said).max((1, 2, 3)) > 1e-4).all()
    with pytest.raises(GenlossError, match="give a label to every row"):
        jax.eval_shape(lambda: nnx.merge(graph, params)(x, t, None))
    plain, alone = split(network, None)
    nothing = jax.jit(lambda label: nnx.merge(plain, alone)(x, t, label))
    assert np.array_equal(nothing(label), nothing(None))


@pytest.mark.parametrize("network", cases(NETWORKS, "dit; patches"))
def test_gradients_side_by_side_are_those_alone(network: Any):
    """Of chains with weights of their own, under `vmap`; every weight has one, and it is finite."""
    graph, params = split(network)
    x, t, label = rows()

    def slope(params: Any, x: jax.Array) -> Any:
        return jax.grad(lambda params: jnp.mean((nnx.merge(graph, params)(x, t, label) - 1) ** 2))(params)

    many = jax.tree.map(lambda a: np.stack([a, a[..., ::-1]]), params)
    xs, alone = np.stack([x, -x]), jax.jit(slope)
    together = jax.jit(jax.vmap(slope))(many, xs)
    for i in range(2):
        one = alone(jax.tree.map(lambda a, i=i: a[i], many), xs[i])
        for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(one), strict=True):
            assert np.isfinite(b).all() and np.abs(b).max() > 0
            assert np.allclose(a[i], b, rtol=1e-3, atol=1e-4 * np.abs(b).max() + 1e-7)


@pytest.mark.quick("dit")
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_half_precision_says_nearly_the_same(network: Any):
    (whole, params), (half, _) = split(network), split(network, dtype=jnp.bfloat16)
    said, exact = (np.asarray(jax.jit(lambda g=g: nnx.merge(g, params)(*rows()))()) for g in (half, whole))
    assert said.dtype == np.float32
    assert 1e-6 < np.abs(said - exact).max() < 0.1 * np.abs(exact).max()
    text = jax.jit(lambda: nnx.merge(half, params)(*rows())).lower().as_text()
    products = [line for line in text.splitlines() if "dot_general" in line or "stablehlo.convolution" in line]
    assert products and all("bf16" in line for line in products)


@pytest.mark.parametrize("network", cases(NETWORKS, "dit"))
def test_a_new_network_says_nothing_and_can_learn(network: Any):
    graph, _ = split(network)
    params = jax.jit(lambda: nnx.as_pure(nnx.split(network(SHAPE, CLASSES, rngs=nnx.Rngs(0)), nnx.Param)[1]))()
    x, t, label = rows()

    def loss(params: Any) -> jax.Array:
        return jnp.mean((nnx.merge(graph, params)(x, t, label) - x) ** 2)

    @jax.jit
    def step(params: Any) -> tuple[Any, jax.Array, Any]:
        now, slope = jax.value_and_grad(loss)(params)
        return jax.tree.map(lambda a, b: a - 0.2 * b, params, slope), now, slope

    losses, slope = [], None
    for _ in range(60):
        params, now, slope = step(params)
        losses.append(float(now))
    assert losses[0] == pytest.approx(np.mean(np.square(x)), rel=1e-5) and losses[-1] < 0.7 * losses[0]
    # What is 0 at first does not keep what lies behind it from learning.
    assert all(np.abs(b).max() > 0 for b in jax.tree.leaves(slope))


def test_a_layer_of_mixing_patch_by_patch_in_numpy():
    """Patches [patches, n, width] in double precision, one loop each over images, channels and patches."""
    patches, n, width, told = 6, 3, 4, 5
    chance = np.random.default_rng(0)
    layer = Mixing(patches, width, told, dtype=jnp.float32, rngs=nnx.Rngs(0))
    state = jax.tree.map(lambda a: jnp.asarray(chance.normal(size=a.shape), jnp.float32), nnx.state(layer, nnx.Param))
    nnx.update(layer, state)
    x, heard = chance.normal(size=(patches, n, width)), chance.normal(size=(n, told))
    of = lambda to, y: y @ np.asarray(to.kernel[...], np.float64) + np.asarray(to.bias[...], np.float64)  # noqa: E731
    bent = lambda y: y * (1 + np.tanh((2 / np.pi) ** 0.5 * (y + 0.044715 * y**3))) / 2  # noqa: E731
    expected = np.empty_like(x)
    for i in range(n):
        image = x[:, i].copy()  # [patches, width]
        parts = of(layer.tell, heard[i]).reshape(6, width)
        across, within = parts[:3], parts[3:]
        for (scale, shift, gate), mlp, turned in ((across, layer.across, True), (within, layer.within, False)):
            seen = image / np.sqrt(np.mean(image**2) + 1e-5) * (1 + scale) + shift
            lines = seen.T if turned else seen  # a line for each channel, or for each patch
            said = np.stack([of(mlp[1], bent(of(mlp[0], line))) for line in lines])
            image += gate * (said.T if turned else said)
        expected[:, i] = image
    found = layer(jnp.asarray(x, jnp.float32), jnp.asarray(heard, jnp.float32))
    assert np.abs(expected - x).max() > 1 and np.allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("depth", [0, 1])
def test_a_patch_sees_others_through_layers_and_their_common_norm(depth: int):
    """Without a layer all that a patch hears of others is one number, the root mean square of the image."""
    graph, params = split(partial(PatchDenoiser, patch=2, width=16, depth=depth, told=16))
    x, t, label = (a[:1] for a in rows())
    slope = jax.jit(jax.jacobian(lambda x: nnx.merge(graph, params)(x, t, label)))(x)[0, :, :, 0, 0, :, :, 0]
    slope = np.moveaxis(np.asarray(slope).reshape(4, 2, 4, 2, 4, 2, 4, 2), (1, 5), (2, 6)).reshape(16, 4, 16, 4)
    for i in range(16):
        others = np.delete(slope[i], i, axis=1).reshape(4, 60)  # what the pixels of patch i say by those of all others
        most, second = np.linalg.svd(others, compute_uv=False)[:2]
        assert most > 0.01 and (second > 0.1 * most if depth else second < 1e-4 * most)


def test_patches_are_told_apart_by_their_places_and_by_what_mixes_them():
    """A network whose places and mixing are in another order says of patches in that order the same, in that order."""
    graph, params = split(NETWORKS["patches"])
    x, t, label = rows()
    order = np.random.default_rng(0).permutation(16)
    turned = lambda x: joined(cut(x, 2).reshape(len(x), 16, -1)[:, order].reshape(len(x), 4, 4, -1), 2)  # noqa: E731
    say = jax.jit(lambda params, x: nnx.merge(graph, params)(x, t, label))
    assert np.abs(say(params, turned(x)) - turned(say(params, x))).max() > 0.1
    other = jax.tree.map(lambda a: a, params)
    other["place"] = params["place"][order]
    for layer in other["layers"].values():
        first, last = layer["across"][0], layer["across"][1]
        first["kernel"], last["kernel"], last["bias"] = (
            first["kernel"][order],
            last["kernel"][:, order],
            last["bias"][order],
        )
    assert np.allclose(say(other, turned(x)), turned(say(params, x)), atol=1e-4)


def test_images_that_cannot_be_cut_are_refused():
    for shape, word in (((9, 8, 1), "must divide both"), ((12,), "reads images")):
        with pytest.raises(GenlossError, match=word):
            PatchDenoiser(shape, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("by", [by_turns, by_matmul])
@pytest.mark.parametrize("side", [9, 10])
def test_a_convolution_and_its_gradient(by: Any, stride: int, side: int):
    chance = np.random.default_rng(0)
    x, kernel = (jnp.asarray(chance.normal(size=size), jnp.float32) for size in ((2, side, 8, 3), (3, 3, 3, 5)))
    g = jnp.asarray(chance.normal(size=(2, (side - 3) // stride + 1, 5 // stride + 1, 5)), jnp.float32)

    @jax.jit
    def both(x: jax.Array, kernel: jax.Array) -> tuple[Any, Any]:
        ours, pull = jax.vjp(lambda x, kernel: convolved(by, stride, x, kernel), x, kernel)
        theirs, reference = jax.vjp(lambda x, kernel: by_lax(x, kernel, stride), x, kernel)
        return (ours, *pull(g)), (theirs, *reference(g))

    for a, b in zip(*both(x, kernel), strict=True):
        assert a.shape == b.shape and np.allclose(a, b, atol=1e-4)


@pytest.mark.quick("1-axes1", "2-axes0")
@pytest.mark.parametrize("axes", [(0, 0), (0, None), (None, 0)])
@pytest.mark.parametrize("stride", [1, 2])
def test_networks_take_turns(axes: tuple[int | None, int | None], stride: int):
    """Side by side, and side by side once more, convolutions and their gradients are those of each alone."""
    x, kernel, g = (
        jax.random.normal(jax.random.key(i), size) for i, size in enumerate(((2, 4, 6, 6, 3), (2, 4, 3, 3, 3, 5), ()))
    )

    def slope(x: jax.Array, kernel: jax.Array) -> Any:
        many = lambda x, kernel: jnp.sin(convolved(by_turns, stride, x[None], kernel) + g).sum()  # noqa: E731
        return jax.grad(many, (0, 1))(x, kernel)

    side_by_side = jax.jit(jax.vmap(jax.vmap(slope, axes), axes))
    inputs = [a if axis == 0 else a[0, 0] for a, axis in zip((x, kernel), axes, strict=True)]
    found = side_by_side(*inputs)
    alone = jax.jit(slope)
    for i in range(2):
        for j in range(4):
            each = [a[i, j] if axis == 0 else a for a, axis in zip(inputs, axes, strict=True)]
            for a, b in zip(found, alone(*each), strict=True):
                assert np.allclose(a[i, j], b, atol=1e-5)


def test_a_transformer_in_a_loop_is_one_laid_out(monkeypatch: pytest.MonkeyPatch):
    """On an accelerator its blocks are not a loop."""
    graph, params = split(NETWORKS["dit"])

    def slope(params: Any) -> Any:
        return jax.value_and_grad(lambda params: jnp.mean(nnx.merge(graph, params)(*rows()) ** 2))(params)

    loop = jax.jit(lambda params: slope(params))(params)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    for a, b in zip(jax.tree.leaves(loop), jax.tree.leaves(jax.jit(slope)(params)), strict=True):
        assert np.allclose(a, b, rtol=1e-4, atol=1e-5)


def test_resampling_keeps_what_is_even():
    """Away from the border a plane stays a plane, and the mean over 2x2 pixels is the mean."""
    x = np.broadcast_to(np.arange(12.0)[None, :, None, None], (1, 12, 12, 1)).astype(np.float32)
    half, double = (np.asarray(jax.jit(f)(x)) for f in (filtered_half, filtered_double))
    assert half.shape == (1, 6, 6, 1) and double.shape == (1, 24, 24, 1)
    assert np.allclose(half[0, 1:-1, 2, 0], np.arange(0.5, 12, 2)[1:-1])
    assert np.allclose(double[0, 1:-1, 5, 0], np.arange(-0.25, 11.75, 0.5)[1:-1])
    assert np.allclose(halved(jnp.asarray(x))[0, :, 3, 0], np.arange(0.5, 12, 2))


def test_waves_and_places():
    t = jnp.array([0.0, 3.0])
    said = np.asarray(waves(t, 6, flip=True, shift=0))
    frequency = 10_000 ** (-np.arange(3) / 3)
    assert np.allclose(said, np.concatenate([np.cos(t[:, None] * frequency), np.sin(t[:, None] * frequency)], 1))
    assert np.allclose(waves(t, 7, flip=False, shift=1)[:, :3], np.sin(t[:, None] * 10_000 ** (-np.arange(3) / 2)))
    where = np.asarray(places(3, 8))
    assert np.array_equal(where[0, 2, :4], where[1, 2, :4]) and np.array_equal(where[2, 0, 4:], where[2, 1, 4:])
    assert np.allclose(
        where[1, 2], [np.sin(2), np.sin(0.02), np.cos(2), np.cos(0.02), *np.sin([1, 0.01]), *np.cos([1, 0.01])]
    )


@pytest.mark.parametrize(
    ("network", "shape", "named"),
    [
        (TINY, (12,), "reads images"),
        (TINY, (7, 8, 1), "must be multiples of 2"),
        (UNet(block_out_channels=(8, 10), norm_num_groups=4), SHAPE, "must divide"),
        (UNet(block_out_channels=(8, 8), attention_head_dim=3), SHAPE, "choose `attention_head_dim`"),
        (UNet(down_block_types=("DownBlock2D",)), SHAPE, "names 1 levels and `block_out_channels` 3"),
        (UNet(act_fn="tanh"), SHAPE, "`act_fn` is 'tanh'"),
        (UNet(time_embedding_type="learned"), SHAPE, "give `num_train_timesteps`"),
        (UNet(down_block_types=("SkipDownBlock2D",) * 3), SHAPE, "images of 3 channels, not 1"),
        (DiT(), (12,), "reads images"),
        (DiT(), (9, 9, 1), "must divide both"),
        (DiT(), (8, 12, 1), "square images"),
        (DiT(num_attention_heads=1, attention_head_dim=6), SHAPE, "a multiple of 4"),
        (DiT(activation_fn="geglu"), SHAPE, "`activation_fn` is 'geglu'"),
    ],
)
def test_what_cannot_be_built_is_refused(network: Any, shape: tuple[int, ...], named: str):
    with pytest.raises(GenlossError, match=named):
        nnx.eval_shape(lambda: network(shape, None, rngs=nnx.Rngs(0)))
