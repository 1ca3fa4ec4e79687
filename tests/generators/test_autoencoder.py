"""Pairs of networks: convolutions against XLA's and torch's, labels and widths that are told, rows by themselves."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import scattered
from flax import nnx

from generators.nets.autoencoder import Double, Half, convolutional, mixers, mlps
from generators.nets.patches import cut, joined
from simulator import GenlossError

SHAPE = (8, 8, 2)
PAIRS = {"mlps": (mlps, (7,)), "convolutional": (convolutional, (3, 5)), "mixers": (mixers, (6, 6))}


def of(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(scattered(*shape, seed=seed), jnp.float32)


def layer(make: Any) -> Any:
    """One from 3 to 5 channels, of weights that are all different."""
    net = make(3, 5, rngs=nnx.Rngs(0))
    net.kernel[...], net.bias[...] = of(*net.kernel.shape), of(5, seed=1)
    return net


def places(kernel: jax.Array, channels: str) -> np.ndarray:
    """[4, 4, inputs, outputs] of a kernel [2, 2, ...] of cells, whose own pixels are in its inputs or its outputs."""
    if channels == "inputs":
        return np.asarray(kernel).reshape(2, 2, 2, 2, 3, 5).transpose(0, 2, 1, 3, 4, 5).reshape(4, 4, 3, 5)
    return np.asarray(kernel).reshape(2, 2, 3, 2, 2, 5).transpose(0, 3, 1, 4, 2, 5).reshape(4, 4, 3, 5)


def test_halving_is_a_convolution():
    net, x = layer(Half), of(2, 6, 8, 3, seed=2)
    layout = ("NHWC", "HWIO", "NHWC")
    kernel = jnp.asarray(places(net.kernel[...], "inputs"))
    expected = jax.lax.conv_general_dilated(x, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=layout)
    assert np.allclose(net(x), expected + net.bias[...], atol=1e-4)


def test_doubling_is_the_transpose_of_a_convolution():
    """<doubled x, y> = <x, y halved> by the same kernel, for all y: the derivative of the other."""
    net, x, y = layer(Double), of(2, 3, 4, 3, seed=2), of(2, 6, 8, 5, seed=3)
    layout = ("NHWC", "HWIO", "NHWC")
    kernel = jnp.asarray(places(net.kernel[...], "outputs").swapaxes(2, 3))  # [4, 4, 5, 3]
    halved = jax.lax.conv_general_dilated(y, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=layout)
    assert float(((net(x) - net.bias[...]) * y).sum()) == pytest.approx(float((x * halved).sum()), rel=1e-4)
    assert net(x).shape == y.shape


@pytest.mark.torch
def test_both_are_torchs():
    torch: Any = pytest.importorskip("torch")
    tensor = lambda a: torch.from_numpy(np.array(a))  # noqa: E731
    half, x = layer(Half), of(2, 6, 8, 3, seed=2)
    weight = tensor(places(half.kernel[...], "inputs").transpose(3, 2, 0, 1))  # [outputs, inputs, 4, 4]
    found = torch.nn.functional.conv2d(tensor(x).permute(0, 3, 1, 2), weight, tensor(half.bias[...]), 2, 1)
    assert np.allclose(half(x), found.permute(0, 2, 3, 1), atol=1e-4)
    double = layer(Double)
    weight = tensor(places(double.kernel[...], "outputs").transpose(2, 3, 0, 1))  # [inputs, outputs, 4, 4]
    found = torch.nn.functional.conv_transpose2d(tensor(x).permute(0, 3, 1, 2), weight, tensor(double.bias[...]), 2, 1)
    assert np.allclose(double(x), found.permute(0, 2, 3, 1), atol=1e-4)


def test_patches_are_joined_as_they_were_cut():
    x = of(2, 3, 6, 9, 2)
    assert np.array_equal(joined(cut(x, 3), 3), x)


@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_maps_rows_by_themselves_and_is_told_labels(name: str):
    network, hidden = PAIRS[name]
    encoder, decoder = network(SHAPE, 3, 4, 2, hidden, rngs=nnx.Rngs(0))
    x, z = of(5, 128 + 3), of(5, 4 + 3)
    code, row = jax.jit(encoder)(x), jax.jit(decoder)(z)
    assert code.shape == (5, 8) and row.shape == (5, 256)
    assert np.allclose(encoder(x[1:3]), code[1:3], atol=1e-4) and np.allclose(decoder(z[1:3]), row[1:3], atol=1e-4)
    for net, seen, said in ((encoder, x, code), (decoder, z, row)):
        assert np.abs(np.asarray(net(seen.at[:, -1].add(1)) - said)).min(0).max() > 1e-3  # the last label
        assert np.abs(np.asarray(net(seen.at[:, 0].add(1)) - said)).max() > 1e-3
        assert not np.allclose(said, net(jnp.zeros_like(seen)), atol=1e-2)


@pytest.mark.parametrize("name", PAIRS)
def test_widths_are_those_of_the_layers(name: str):
    network, hidden = PAIRS[name]
    sizes = [
        sum(leaf.size for leaf in jax.tree.leaves(nnx.state(network(SHAPE, 0, 4, 1, widths, rngs=nnx.Rngs(0))[side])))
        for widths in (hidden, tuple(2 * width for width in hidden))
        for side in (0, 1)
    ]
    assert sizes[2] > sizes[0] and sizes[3] > sizes[1]
    if name == "convolutional":  # 4x4 kernels and biases, and a matmul to means and log-variances
        assert sizes[0] == 16 * 2 * 3 + 3 + 16 * 3 * 5 + 5 + 2 * 2 * 5 * 8 + 8
        assert sizes[1] == 4 * 20 + 20 + 16 * 5 * 3 + 3 + 16 * 3 * 2 + 2


@pytest.mark.parametrize(
    ("network", "shape", "hidden", "named"),
    [
        (convolutional, (6, 6, 1), (4, 4), "do not fit into images of 6x6"),
        (convolutional, (4,), (4,), "reads images"),
        (mixers, (8, 8, 1), (4, 8), "one width"),
        (mixers, (6, 6, 1), (4,), "must divide both"),
    ],
)
def test_what_no_pair_can_be_made_of_is_refused(network: Any, shape: Any, hidden: Any, named: str):
    with pytest.raises(GenlossError, match=named):
        network(shape, 0, 2, 1, hidden, rngs=nnx.Rngs(0))
