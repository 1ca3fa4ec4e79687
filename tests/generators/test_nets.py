"""Networks: what each layer computes against other implementations, and that rows do not see each other."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import cases, reference, scattered
from flax import nnx
from safetensors.numpy import save_file

from generators.nets.affine import Affine
from generators.nets.convnet import Conv, ConvNet, GroupNorm, LightNet, halved
from generators.nets.inception import Inception, mean
from generators.nets.mixer import Mixer
from generators.nets.mlp import MLP
from generators.nets.patches import cut, joined
from generators.nets.upnet import UpNet
from generators.nets.vit import Attending, ViT
from simulator import Dataset, GenlossError
from simulator.numerics.streams import streams
from simulator.probes.classifier import skeleton
from simulator.probes.features import Learned, Stored, _named

SMALL = {
    "mlp": partial(MLP, hidden=(32,)),
    "linear": Affine,
    "convnet": partial(ConvNet, widths=(8, 16)),
    "lightnet": partial(LightNet, widths=(8, 16)),
    "mixer": partial(Mixer, patch=2, width=16, depth=1),
    "vit": partial(ViT, patch=2, width=16, depth=1, heads=2),
}


def noise(*shape: int, seed: int = 0) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


def test_keys_are_those_of_flax_and_so_is_the_program_that_asks_for_them():
    def asked(make: Any, key: jax.Array) -> list[jax.Array]:
        rngs = make(key)
        keys = [rngs.params(), rngs(), rngs.dropout(), rngs.fork().params(), rngs.params()]
        return [jax.random.key_data(key) for key in keys]

    ours, theirs = (partial(asked, make) for make in (streams, nnx.Rngs))
    key = jax.random.key(7)
    assert np.array_equal(ours(key), theirs(key)) and len(set(map(str, ours(key)))) == 5
    assert str(jax.make_jaxpr(ours)(key)) == str(jax.make_jaxpr(theirs)(key))


@pytest.mark.quick("mlp", "vit")
@pytest.mark.parametrize("network", SMALL.values(), ids=SMALL)
def test_a_network_maps_each_row_by_itself_and_so_does_an_ensemble(network: Any):
    """Logits are affine in the features; a row's do not depend on the batch; networks side by side are each alone."""
    graph, _ = skeleton(network, (8, 8, 1), 10)

    def made(key: jax.Array) -> Any:
        return nnx.as_pure(nnx.split(network((8, 8, 1), 10, rngs=nnx.Rngs(key)), nnx.Param)[1])

    def said(params: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        net = nnx.merge(graph, params)
        return net(x), net.features(x)

    keys, x = jax.random.split(jax.random.key(0), 2), np.asarray(noise(2, 6, 8, 8, 1))
    params = jax.jit(jax.vmap(made))(keys)
    together, alone = jax.jit(jax.vmap(said))(params, x), jax.jit(said)
    for i in range(2):
        one = jax.tree.map(lambda a, i=i: a[i], params)
        logits, features = (np.asarray(a) for a in alone(one, x[i]))
        assert np.allclose(together[0][i], logits, atol=1e-5) and np.allclose(together[1][i], features, atol=1e-5)
        others = np.concatenate([x[i, :2], x[1 - i, :4]])
        assert np.allclose(alone(one, others)[0][:2], logits[:2], atol=1e-5)
        assert np.abs(np.diff(logits, axis=0)).max() > 1e-3
        basis = np.concatenate([features, np.ones((6, 1))], 1)
        assert np.allclose(basis @ np.linalg.pinv(basis) @ logits, logits, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", cases({name: name for name in ("convnet", "mixer", "vit")}, "mixer"))
def test_a_network_of_images_learns_digits(name: str):
    source = Dataset.digits()
    space = Learned(SMALL[name], steps=300, batch=32, learning_rate=5e-3)
    test = jax.tree.map(jnp.asarray, source.split.test)
    said = space.logits(test, space.prepare(jax.random.key(0), source)).argmax(-1)
    assert float((said == test["label"]).mean()) > 0.85


def test_convolution_as_a_matmul_is_convolution():
    conv, x = Conv(3, 5, rngs=nnx.Rngs(0)), noise(2, 7, 6, 3)
    kernel = conv.mix.kernel[...].reshape(3, 3, 3, 5)  # [h, w, in, out]
    expected = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    assert np.allclose(conv(x), expected, atol=1e-5)


def test_group_normalisation_against_flax():
    ours, x = GroupNorm(16, rngs=nnx.Rngs(0)), 3 * noise(2, 5, 4, 16) + 1
    theirs: Any = nnx.GroupNorm(16, num_groups=2, epsilon=1e-5, use_fast_variance=False, rngs=nnx.Rngs(0))
    for norm in (ours, theirs):
        norm.scale[...], norm.bias[...] = noise(16, seed=1), noise(16, seed=2)
    assert np.allclose(ours(x), theirs(x), atol=1e-4)
    assert np.isfinite(ours(jnp.ones((1, 2, 2, 16)))).all()


def test_patches_hold_their_pixels():
    x = noise(2, 6, 4, 3)
    patches = cut(x, 2)
    assert patches.shape == (2, 3, 2, 12)
    assert np.array_equal(patches[1, 2, 0], x[1, 4:6, 0:2].reshape(-1))
    odd = halved(noise(1, 5, 3, 2))
    assert odd.shape == (1, 3, 2, 8) and not odd[0, 2, 1, 2:].any()  # one pixel and three zeros


def test_attention_head_by_head():
    layer, x = Attending(8, 2, rngs=nnx.Rngs(0)), noise(5, 8)
    asked = np.asarray(layer.ask(layer.norms[0](x)))  # [patches, 3·width]
    heard = np.zeros((5, 8))
    for head in range(2):
        q, k, v = (asked[:, 8 * i + 4 * head : 8 * i + 4 * head + 4] for i in range(3))
        share = np.exp(q @ k.T / 2)
        heard[:, 4 * head : 4 * head + 4] = share / share.sum(1, keepdims=True) @ v
    after = x + layer.tell(jnp.asarray(heard, jnp.float32))
    assert np.allclose(layer(x), after + layer.within(layer.norms[1](after)), atol=1e-5)


def test_a_transformer_knows_patches_by_their_learned_places_only():
    net, x = ViT((8, 8, 1), 10, patch=4, width=16, depth=2, rngs=nnx.Rngs(0)), noise(3, 8, 8, 1)
    turned = jnp.roll(x, 4, axis=1)  # the same four patches in another order
    net.place[...] = 10 * net.place[...]
    assert np.abs(net(turned) - net(x)).max() > 1e-3
    net.place[...] = jnp.zeros_like(net.place[...])
    assert np.allclose(net(turned), net(x), atol=1e-5)


def test_rows_that_a_network_cannot_read_are_refused():
    for network in (ConvNet, LightNet, Mixer, ViT, Inception):
        with pytest.raises(GenlossError, match="reads images"):
            network(12, 10, rngs=nnx.Rngs(0))
    with pytest.raises(GenlossError, match="must divide both"):
        Mixer((9, 8, 1), 10, rngs=nnx.Rngs(0))
    with pytest.raises(GenlossError, match="multiple of `heads`"):
        ViT((8, 8, 1), 10, width=10, heads=4, rngs=nnx.Rngs(0))


# Inception.


def test_the_mean_over_neighbours_leaves_the_border_out():
    x = noise(1, 4, 5, 2)
    expected = [
        [np.asarray(x)[0, max(0, i - 1) : i + 2, max(0, j - 1) : j + 2].mean((0, 1)) for j in range(5)]
        for i in range(4)
    ]
    assert np.allclose(mean(x)[0], expected, atol=1e-5)


def torch_features(weights: dict[str, np.ndarray], images: np.ndarray, side: int) -> np.ndarray:
    """The network of the Fréchet inception distance in torch, by its state dict: images [n, 3, h, w] in [0, 1]."""
    import torch

    torch.set_num_threads(1)
    f: Any = torch.nn.functional
    w = {name: torch.from_numpy(np.array(leaf)) for name, leaf in weights.items()}

    def unit(x: Any, name: str, stride: int = 1, padding: Any = 0) -> Any:
        x = f.conv2d(x, w[f"{name}.conv.weight"], stride=stride, padding=padding)
        stats = [w[f"{name}.bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return f.relu(f.batch_norm(x, *stats, eps=0.001))

    def average(x: Any) -> Any:
        return f.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)

    def a(x: Any, m: str) -> Any:
        first = unit(x, f"{m}.branch1x1")
        second = unit(unit(x, f"{m}.branch5x5_1"), f"{m}.branch5x5_2", padding=2)
        third = unit(unit(x, f"{m}.branch3x3dbl_1"), f"{m}.branch3x3dbl_2", padding=1)
        third = unit(third, f"{m}.branch3x3dbl_3", padding=1)
        return torch.cat([first, second, third, unit(average(x), f"{m}.branch_pool")], 1)

    def b(x: Any, m: str) -> Any:
        second = unit(unit(x, f"{m}.branch3x3dbl_1"), f"{m}.branch3x3dbl_2", padding=1)
        second = unit(second, f"{m}.branch3x3dbl_3", stride=2)
        return torch.cat([unit(x, f"{m}.branch3x3", stride=2), second, f.max_pool2d(x, 3, stride=2)], 1)

    def c(x: Any, m: str) -> Any:
        second = unit(unit(x, f"{m}.branch7x7_1"), f"{m}.branch7x7_2", padding=(0, 3))
        second = unit(second, f"{m}.branch7x7_3", padding=(3, 0))
        third = unit(unit(x, f"{m}.branch7x7dbl_1"), f"{m}.branch7x7dbl_2", padding=(3, 0))
        third = unit(third, f"{m}.branch7x7dbl_3", padding=(0, 3))
        third = unit(third, f"{m}.branch7x7dbl_4", padding=(3, 0))
        third = unit(third, f"{m}.branch7x7dbl_5", padding=(0, 3))
        return torch.cat([unit(x, f"{m}.branch1x1"), second, third, unit(average(x), f"{m}.branch_pool")], 1)

    def d(x: Any, m: str) -> Any:
        first = unit(unit(x, f"{m}.branch3x3_1"), f"{m}.branch3x3_2", stride=2)
        second = unit(unit(x, f"{m}.branch7x7x3_1"), f"{m}.branch7x7x3_2", padding=(0, 3))
        second = unit(second, f"{m}.branch7x7x3_3", padding=(3, 0))
        second = unit(second, f"{m}.branch7x7x3_4", stride=2)
        return torch.cat([first, second, f.max_pool2d(x, 3, stride=2)], 1)

    def e(x: Any, m: str, pooled: Any) -> Any:
        second = unit(x, f"{m}.branch3x3_1")
        third = unit(unit(x, f"{m}.branch3x3dbl_1"), f"{m}.branch3x3dbl_2", padding=1)
        parts = [unit(x, f"{m}.branch1x1")]
        for y, name in ((second, "branch3x3_2"), (third, "branch3x3dbl_3")):
            parts += [unit(y, f"{m}.{name}a", padding=(0, 1)), unit(y, f"{m}.{name}b", padding=(1, 0))]
        return torch.cat([*parts, unit(pooled, f"{m}.branch_pool")], 1)

    with torch.no_grad():
        x = f.interpolate(torch.from_numpy(images), size=(side, side), mode="bilinear", align_corners=False)
        x = unit(2 * x - 1, "Conv2d_1a_3x3", stride=2)
        x = unit(unit(x, "Conv2d_2a_3x3"), "Conv2d_2b_3x3", padding=1)
        x = unit(f.max_pool2d(x, 3, stride=2), "Conv2d_3b_1x1")
        x = f.max_pool2d(unit(x, "Conv2d_4a_3x3"), 3, stride=2)
        for name in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
            x = a(x, name)
        x = b(x, "Mixed_6a")
        for name in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
            x = c(x, name)
        x = e(d(x, "Mixed_7a"), "Mixed_7b", average(d(x, "Mixed_7a")))
        x = e(x, "Mixed_7c", f.max_pool2d(x, 3, stride=1, padding=1))
        return x.mean((2, 3)).numpy()


def weighted() -> dict[str, np.ndarray]:
    """A state dict of Inception: weights and statistics that no library draws."""
    like = jax.eval_shape(lambda: nnx.as_pure(nnx.split(Inception((8, 8, 3), 20, rngs=nnx.Rngs(0)), nnx.Param)[1]))
    found = {}
    for i, (name, leaf) in enumerate(sorted(_named(like).items())):
        scale = np.prod(leaf.shape[1:]) ** -0.5 * 2**0.5 if leaf.ndim > 1 else 0.1
        centre = 1.0 if name.endswith(("bn.weight", "var")) else 0.0
        found[name] = (centre + scale * scattered(*leaf.shape, seed=i)).astype(np.float32)
    return found


def pictured() -> np.ndarray:
    """Two images [2, 32, 32, 3] in [0, 1]."""
    return (0.5 + scattered(2, 32, 32, 3) / 4).astype(np.float32)


def some(features: np.ndarray) -> np.ndarray:
    """Those that are kept."""
    return np.asarray(features)[:, ::16]


def features_of(weights: dict[str, np.ndarray], side: int, folder: Path) -> Any:
    """(rows -> features) by a file as other frameworks write it."""
    file = folder / "inception.safetensors"
    counters = {f"{m}.bn.num_batches_tracked": np.zeros((), np.int64) for m in ("Conv2d_1a_3x3", "Mixed_5b.branch1x1")}
    save_file({**weights, **counters, "AuxLogits.conv0.conv.weight": np.zeros(1, np.float32)}, file)
    space = Stored(partial(Inception, side=side), str(file), outputs=20)
    learned = space.prepare(jax.random.key(0), Dataset.digits())
    embed = jax.jit(space)
    return lambda images: np.asarray(embed({"image": jnp.asarray(images)}, learned))


@pytest.mark.slow
def test_inception_says_what_torch_said_of_the_same_weights(tmp_path: Path):
    expected = np.array(reference("inception")).reshape(2, -1)
    found = some(features_of(weighted(), 75, tmp_path)(pictured()))
    assert np.abs(expected).max() > 0.1 and np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.parametrize("side", [75, 299])
def test_inception_against_torch(side: int, tmp_path: Path):
    """Random weights and statistics."""
    embed, images = features_of(weighted(), side, tmp_path), pictured()
    found, expected = embed(images), torch_features(weighted(), images.transpose(0, 3, 1, 2), side)
    assert found.shape == (2, 2048) and np.abs(expected).max() > 0.1
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
    if side == 299:
        assert np.allclose(embed(images[..., :1]), embed(images[..., :1].repeat(3, -1)), rtol=1e-3, atol=1e-4)


def test_a_matmul_to_joined_patches_is_a_transposed_convolution():
    """Of two by two places a stride of two apart; `cut` undoes what is joined."""
    x, kernel = noise(3, 4, 5, 6), noise(2, 2, 6, 7, seed=1)  # [n, h, w, inputs], [2, 2, inputs, outputs]
    mixed = x @ jnp.moveaxis(kernel, 2, 0).reshape(6, 28)  # [n, h, w, 4 outputs]
    dims = jax.lax.conv_dimension_numbers(x.shape, kernel.shape, ("NHWC", "HWIO", "NHWC"))
    # Of a transposed convolution the kernel lies as it is read: turned round for one with zeros between pixels.
    theirs = jax.lax.conv_general_dilated(
        x, kernel[::-1, ::-1], (1, 1), ((1, 1), (1, 1)), lhs_dilation=(2, 2), dimension_numbers=dims
    )
    assert np.allclose(joined(mixed, 2), theirs, atol=1e-5)
    assert np.array_equal(cut(joined(mixed, 2), 2), mixed)


def test_images_of_any_sides_are_made_of_numbers_each_by_itself():
    """7 x 5 pixels of stages that double 2 x 2; every number moves every part of the image."""
    network = partial(UpNet, widths=(16, 8, 8))
    graph, params = nnx.split(network(3, (7, 5, 2), rngs=nnx.Rngs(0)), nnx.Param)
    said = jax.jit(lambda x: nnx.merge(graph, params)(x))
    x = noise(4, 3)
    image = np.asarray(said(x))
    assert image.shape == (4, 7, 5, 2) and image.std() > 0.1
    assert np.allclose(said(x[::-1])[::-1], image, atol=1e-5)
    slope = np.abs(jax.jit(jax.jacobian(lambda x: said(x[None])[0]))(x[0]))  # [7, 5, 2, 3]
    assert (slope > 1e-6).all()
    with pytest.raises(GenlossError, match="A UpNet reads images"):
        UpNet(3, 4, rngs=nnx.Rngs(0))
