"""The networks in plain torch that training is timed against are the networks that it is timed against."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mixed_tables import MIXED, mixed

from experiments.bench import families
from experiments.bench.family_chains import chain_of
from generators.coupling import Affine, Spline
from generators.diffusion import Diffusion
from generators.edm import EDM
from generators.flow import Flow
from generators.games import NonSaturating, Relativistic, Wasserstein
from generators.gan import GAN
from generators.hub.diffusers import state_dict
from generators.likelihood import DiscretisedLogistic, Normal
from generators.meanflow import MeanFlow
from generators.nets.autoencoder import convolutional, mixers
from generators.nets.denoiser import Denoiser
from generators.nets.dit import DiT
from generators.nets.mlp import MLP
from generators.nets.unet import UNet
from generators.table_diffusion import TableDiffusion
from generators.tvae import TVAE
from generators.vae import VAE
from simulator import Pool, simulate
from simulator.recipe import Accumulate

KEY = jax.random.key(0)

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


SMALL = partial(Denoiser, width=8, depth=1)
IMAGES = {"image": jnp.zeros((3, 2, 3, 1), jnp.uint8), "label": jnp.arange(3)}
FAMILIES = {
    "affine, images": Flow(coupling=Affine(), pairs=2, hidden=(8,), shape=(2, 3, 1), classes=3, levels=17),
    "spline, points": Flow(coupling=Spline(bins=4, bound=2.0), pairs=2, hidden=(8,), shape=(3,)),
    "diffusion, images": Diffusion(shape=(2, 3, 1), classes=3, network=SMALL, drop=0.3, sample_steps=10).shaped(IMAGES),
    "mean flow, images": Diffusion(
        noise=MeanFlow(apart=1.0), shape=(2, 3, 1), classes=3, network=SMALL, drop=0.3, sample_steps=2
    ).shaped(IMAGES),
    "mean flow, points": Diffusion(noise=MeanFlow(apart=1.0), shape=(3,), network=SMALL, sample_steps=1),
    "diffusion, points": Diffusion(shape=(3,), noise=EDM(sigma_data=1.3), network=SMALL, sample_steps=5),
    "tvae": TVAE(layout=MIXED, latent=2, hidden=(8,), size=50),
    "table diffusion": TableDiffusion(layout=MIXED, network=SMALL, size=50, sample_steps=10),
    "vae": VAE(shape=(2, 3, 1), classes=3, latent=2, hidden=(8,)),
    "vae, convolutional": VAE(
        shape=(2, 4, 1),
        classes=3,
        latent=2,
        network=convolutional,
        hidden=(3,),
        likelihood=DiscretisedLogistic(levels=9),
    ),
    "vae, mixers": VAE(
        shape=(8, 4, 2),
        classes=3,
        latent=2,
        network=mixers,
        hidden=(4, 4),
        likelihood=DiscretisedLogistic(levels=9),
    ),
    "vae, normal, no labels told": VAE(
        shape=(2, 3, 1), classes=3, latent=2, hidden=(8,), likelihood=Normal(), conditional=False
    ),
    "vae, a fixed scale": VAE(shape=(2, 3, 1), classes=3, latent=2, hidden=(8,), likelihood=Normal(scale=0.3)),
}


@pytest.mark.torch
@pytest.mark.parametrize("name", FAMILIES)
def test_the_twin_of_a_family_has_its_loss_and_its_samples(name: str):
    """With the same weights: mean losses and moments of samples within standard errors of each other's chance."""
    torch: Any = pytest.importorskip("torch")
    from experiments.bench.family_twins import twin

    model: Any = FAMILIES[name]
    chance = np.random.default_rng(0)
    scale = 1.0 if name.startswith("mean flow") else 0.3  # so that what is told changes with time
    filled = lambda leaf: jnp.asarray(chance.normal(0, scale, leaf.shape), jnp.float32)  # noqa: E731
    params = {
        k: jax.tree.map(filled, v) if k in ("layers", "encoder", "decoder", "net") else v
        for k, v in model.init(KEY).items()
    }
    rows: Any = jnp.asarray(chance.normal(size=(4, 3)), jnp.float32)
    if isinstance(model, TVAE | TableDiffusion):
        rows = mixed(4, seed=5)
        params = model.closed_form(params, Pool.of(mixed(200)))
    elif model.classes is not None:
        image = jnp.asarray(chance.integers(0, 256, (4, *model.shape)), jnp.uint8)
        rows = {"image": image, "label": jnp.array([0, 1, 2, 2])}
    many = jax.tree.map(lambda a: jnp.tile(a, (500, *[1] * (a.ndim - 1))), rows)  # each at times of every kind
    other = twin(model, params, many)
    ours = np.asarray(jax.jit(model.losses)(KEY, params, many)).reshape(500, 4, -1).mean(-1)
    with torch.no_grad():
        torch.manual_seed(0)
        theirs = other.losses(torch.arange(2000)).numpy().reshape(500, 4)
        said = other.sample(2000).numpy().reshape(2000, -1).astype(float)
    error = np.sqrt((ours.var(0) + theirs.var(0)) / 500)
    assert (np.abs(ours.mean(0) - theirs.mean(0)) < 5 * error + 1e-4).all()
    sample = jax.jit(model.sample, static_argnums=2)(KEY, params, 2000)
    if isinstance(model, TVAE | TableDiffusion):  # which gives what is missing the value 0
        x, there, state = (np.asarray(part) for part in MIXED.read(sample))
        said[:, : there.shape[1]] *= said[:, 5:8] == 0
        mine = np.concatenate([x, state], 1).astype(float)
        varies = (mine.std(0) > 0) | (said.std(0) > 0)
        mine, said = mine[:, varies], said[:, varies]
    else:
        mine = np.asarray(sample["image"] if isinstance(sample, dict) else sample).reshape(2000, -1).astype(float)
    for a, b in ((mine, said), (mine**2, said**2)):
        assert (np.abs(a.mean(0) - b.mean(0)) <= 5 * np.sqrt((a.var(0) + b.var(0)) / 2000)).all()


@pytest.mark.quick("flow, affine, digits", "diffusion, tumours")
@pytest.mark.parametrize("name", families.FAMILIES)
def test_every_family_is_measured_in_a_chain(name: str):
    """Traced, not run: minutes are the benchmark's."""
    chain = chain_of(families.FAMILIES[name], Accumulate())
    found = jax.eval_shape(lambda: simulate(chain, KEY, 2)).flat()
    assert found["is.recall"].shape == found["is.frechet"].shape == (2,)


@pytest.mark.torch
@pytest.mark.parametrize("game", [Relativistic(), NonSaturating(gamma=0.4), Wasserstein()])
def test_the_twin_of_two_players_has_their_losses_and_its_steps_move_both(game: Any):
    """With the same weights: means of losses and of samples within standard errors of each other's chance."""
    torch: Any = pytest.importorskip("torch")
    from experiments.bench.family_twins import twin

    network = partial(MLP, hidden=(8,))
    of_images = not isinstance(game, Wasserstein)
    shape, classes = ((2, 3, 1), 3) if of_images else ((3,), None)
    model = GAN(game=game, network=network, critic=network, shape=shape, classes=classes, latent=2, critic_steps=2)
    chance = np.random.default_rng(0)
    filled = lambda leaf: jnp.asarray(chance.normal(0, 0.3, leaf.shape), jnp.float32)  # noqa: E731
    params = jax.jit(model.init)(KEY)
    params |= {part: jax.tree.map(filled, params[part]) for part in ("generator", "critic")}
    rows: Any = jnp.asarray(chance.normal(size=(2000, 3)), jnp.float32)
    if of_images:
        image = jnp.asarray(chance.integers(0, 256, (2000, 2, 3, 1)), jnp.uint8)
        rows = {"image": image, "label": jnp.asarray(chance.integers(0, 3, 2000))}
    params = jax.jit(model.closed_form)(params, Pool.of(rows))
    ours = jax.jit(lambda: (model.loss(KEY, params, rows), model.generator_loss(KEY, params, rows)))()
    said = jax.jit(lambda: model.sample(KEY, params, 2000))()
    torch.manual_seed(0)
    other = twin(model, params, rows)
    real, y = other.read(torch.arange(2000))
    real = (real - other.mean) / other.scale
    theirs = [f(real, other.made(y).detach(), y).detach() for f in (other.critic_losses, other.generator_losses)]
    for mine, each in zip(ours, theirs, strict=True):
        assert abs(float(mine) - float(each.mean())) < 5 * float(each.std()) * (2 / 2000) ** 0.5
    mine = np.asarray(said["image"] if of_images else said).reshape(2000, -1).astype(float)
    there = other.sample(2000).numpy().reshape(2000, -1).astype(float)
    for a, b in ((mine, there), (mine**2, there**2)):
        assert (np.abs(a.mean(0) - b.mean(0)) < 5 * np.sqrt((a.var(0) + b.var(0)) / 2000)).all()
    before = [weight.detach().clone() for weight in other.players.parameters()]
    other.steps(2)
    moved = [bool((a != b).any()) for a, b in zip(before, other.players.parameters(), strict=True)]
    assert sum(moved) >= len(moved) - 1  # scores of differences do not change with a bias of all
