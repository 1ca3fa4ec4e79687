"""The networks in plain torch that training is timed against are the networks that it is timed against."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from generators.diffusion import Diffusion
from generators.hub.diffusers import state_dict
from generators.nets.dit import DiT
from generators.nets.unet import UNet

NETWORKS = {
    "DiT": DiT(patch_size=2, num_attention_heads=2, attention_head_dim=8, num_layers=2),
    "UNet": UNet(
        block_out_channels=(8, 16, 16),
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=8,
    ),
}


@pytest.mark.torch
@pytest.mark.parametrize("name", NETWORKS)
def test_the_twin_says_what_the_network_says(name: str):
    """With the same weights, none of them zero, for images, times and labels at random; rounding is 1e-6."""
    torch: Any = pytest.importorskip("torch")
    from experiments.bench.twins import twin

    model = Diffusion(network=NETWORKS[name], shape=(8, 8, 3), classes=4)
    chance = np.random.default_rng(0)
    filled = lambda leaf: jnp.asarray(chance.normal(0, 0.2, leaf.shape), jnp.float32)  # noqa: E731
    net = jax.tree.map(filled, jax.eval_shape(model.init, jax.random.key(0))["net"])
    x = chance.normal(size=(5, 8, 8, 3)).astype(np.float32)
    t, label = np.array([0.0, 1.0, 10.0, 500.0, 999.0], np.float32), np.array([0, 1, 2, 3, 4])
    ours = np.asarray(jax.jit(lambda net: model._merged(net)(x, jnp.asarray(t), jnp.asarray(label)))(net))
    other = twin(NETWORKS[name], (8, 8, 3), 4)
    other.load_state_dict({name: torch.from_numpy(leaf.copy()) for name, leaf in state_dict(net).items()})
    given = torch.from_numpy(np.moveaxis(x, -1, 1).copy()), torch.from_numpy(t), torch.from_numpy(label)
    with torch.no_grad():
        theirs = np.moveaxis(other(*given).numpy(), 1, -1)
    assert ours.std() > 0.1
    np.testing.assert_allclose(theirs, ours, atol=2e-5 * np.abs(ours).max())
