"""A case of every generator and of every recipe."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from mixed_tables import MIXED

from generators import (
    GAN,
    KDE,
    TVAE,
    VAE,
    Archive,
    Autoregressive,
    Bernoulli,
    Categorical,
    Cohort,
    Copula,
    Corrected,
    Diffusion,
    Edited,
    Exponential,
    Flow,
    Garch,
    Gaussian,
    Mixture,
    Ngram,
    PerClass,
    Poisson,
    Prompted,
    Recommender,
    SelfImproved,
    Society,
    TableDiffusion,
    Transformer,
)
from generators.coupling import Spline
from generators.edm import EDM
from generators.games import Wasserstein
from generators.likelihood import DiscretisedLogistic, Normal
from generators.linear import Linear
from generators.logistic import Logistic
from generators.meanflow import MeanFlow
from generators.nets.autoencoder import convolutional, mixers
from generators.nets.decoder import Decoder
from generators.nets.denoiser import Denoiser
from generators.nets.mlp import MLP
from generators.nets.patch_denoiser import PatchDenoiser
from generators.prices import GeometricBrownian
from generators.recommender import Tastes
from simulator import Dataset, Table, Truth
from simulator import recipe as recipes
from simulator.recipe.contamination import Contaminate
from simulator.recipe.suspects import Detector, DropSuspects, FarthestPoints, ReweighSuspects
from simulator.recipe.watermark import FilterWatermark

TINY = VAE(steps=20, chunk=10, batch=16, hidden=(16,), latent=3)
SMALL = partial(Denoiser, width=16, depth=1)
DENOISER = Diffusion(steps=20, chunk=10, batch=16, network=SMALL, sample_steps=5)
FLOW = Flow(steps=20, chunk=10, batch=16, pairs=1, hidden=(8,), coupling=Spline(bins=4))
FEW = Tastes(users=4, items=5)
PLAYER = partial(MLP, hidden=(8,))
PLAYERS = GAN(steps=20, chunk=10, batch=16, latent=3, network=PLAYER, critic=PLAYER)
CASES = {
    "gaussian": (Gaussian(2), Truth(Gaussian(2))),
    "gaussian-unbiased": (Gaussian(2, ddof=1, bias=0.9), Truth(Gaussian(2))),
    "categorical": (Categorical(6, zipf=1.0), Truth(Categorical(6, zipf=1.0))),
    "categorical-smoothed": (Categorical(6, smoothing=0.5, temperature=0.8), Truth(Categorical(6))),
    "bernoulli": (Bernoulli(0.3), Truth(Bernoulli(0.3))),
    "poisson": (Poisson(2.0), Truth(Poisson(2.0))),
    "exponential": (Exponential(), Truth(Exponential())),
    "ngram": (Ngram(4, order=3, smoothing=0.1), Truth(Ngram(4, order=3, length=8))),
    "transformer": (
        Transformer(vocabulary=4, network=Decoder(width=8, depth=1, heads=2), steps=20, chunk=10, batch=16),
        Truth(Ngram(4, order=2, length=5)),
    ),
    "linear": (Linear(3, ridge=0.1), Truth(Linear(3))),
    "linear-least-norm": (Linear(20), Truth(Linear(20))),
    "logistic": (Logistic(3), Truth(Logistic(3))),
    "vae": (TINY, Dataset.digits()),
    "vae-convolutional": (
        dataclasses.replace(TINY, network=convolutional, hidden=(4, 4), likelihood=DiscretisedLogistic(levels=17)),
        Dataset.digits(),
    ),
    "vae-mixers": (
        dataclasses.replace(TINY, network=mixers, hidden=(8,), likelihood=Normal(), conditional=False),
        Dataset.digits(),
    ),
    "vae-points": (dataclasses.replace(TINY, likelihood=Normal(), draws=True), Truth(Gaussian(2))),
    "diffusion": (DENOISER, Dataset.digits()),
    "edm": (Diffusion(steps=20, chunk=10, batch=16, network=SMALL, sample_steps=3, noise=EDM()), Dataset.digits()),
    "diffusion-patches": (
        dataclasses.replace(DENOISER, network=partial(PatchDenoiser, width=8, depth=1, told=8)),
        Dataset.digits(),
    ),
    "mean-flow": (dataclasses.replace(DENOISER, noise=MeanFlow(), sample_steps=1), Dataset.digits()),
    "flow": (FLOW, Truth(Gaussian(2))),
    "flow-images": (FLOW, Dataset.digits()),
    "autoregressive": (Autoregressive(order=2), Truth(GeometricBrownian(length=8))),
    "garch": (Garch(steps=10), Truth(GeometricBrownian(length=8))),
    "gan": (dataclasses.replace(PLAYERS, game=Wasserstein(), critic_steps=2), Truth(Gaussian(2))),
    "gan-images": (PLAYERS, Dataset.digits()),
    "kde": (KDE(2, 0.3, size=16), Truth(Gaussian(2))),
    "recommender": (Recommender(world=FEW, rank=2, explore=0.1), Truth(FEW)),
    "mixture": (Mixture(2, 3), Truth(Mixture(2, 3))),
    "per-class": (PerClass(Gaussian(2), 3), Truth(PerClass(Gaussian(2), 3))),
    "cohort": (Cohort(Gaussian(2), 20), Truth(Cohort(Gaussian(2), 9))),
    "cohort-linear": (Cohort(Linear(3), 20), Truth(Cohort(Linear(3), 20))),
    "cohort-counts": (Cohort(Categorical(6), 20), Truth(Cohort(Categorical(6), 20))),
    "society": (Society(Gaussian(2), 3), Truth(Gaussian(2))),
    "edited": (Edited(Ngram(4), 0.3), Truth(Ngram(4, length=8))),
    "archive": (Archive(Dataset.digits()), Dataset.digits()),
    "prompted": (Prompted(TINY, 2), Dataset.digits()),
    "corrected": (Corrected(Gaussian(2), centres=4), Truth(Gaussian(2))),
    "corrected-images": (Corrected(TINY, centres=4), Dataset.digits()),
    "self-improved": (SelfImproved(DENOISER, rows=20), Dataset.digits()),
    "copula": (Copula(size=16), Truth(Copula(size=16, layout=MIXED))),
    "tvae": (
        TVAE(steps=20, chunk=10, batch=16, hidden=(8,), latent=2, size=16),
        Truth(Copula(size=16, layout=MIXED)),
    ),
    "table-diffusion": (
        TableDiffusion(steps=20, chunk=10, batch=16, network=SMALL, size=16, sample_steps=5),
        Table.wine(),
    ),
    "society-share": (Society(Gaussian(2), 2, share=True), Truth(Gaussian(2))),
}


def negative(rows: Any) -> jax.Array:
    return -jnp.abs(rows[:, 0])


def itself(rows: Any) -> jax.Array:
    return rows


RECIPES = [
    recipes.Accumulate(),
    recipes.Replace(),
    recipes.Window(2),
    recipes.Decay(0.7),
    recipes.Mix(real=0.5, size=20),
    recipes.Mix(real=0.2, size=20, fresh=True),
    recipes.Mix(real=0.5, size=20, window=2),
    recipes.NoFresh(),
    recipes.Fresh(1),
    recipes.Augment(ratio=0.5),
    recipes.Subsample(15),
    recipes.Reweigh(real=0.6),
    recipes.Verify(negative, -2.0),
    recipes.Curate(negative, best_of=2),
    recipes.Curate(negative, best_of=None),
    recipes.KeepLikely(0.5),
    recipes.Then(recipes.Window(3), recipes.Subsample(15)),
    Contaminate(0.4),
    Contaminate(0.2, by="real", nested=False),
    recipes.Then(Contaminate(0.4), DropSuspects(negative, 0.0)),
    recipes.Then(Contaminate(0.4), ReweighSuspects(negative)),
    recipes.Then(Contaminate(0.4), DropSuspects(Detector(0.5, features=itself), 0.9)),
    recipes.Then(Contaminate(0.4), ReweighSuspects(Detector(0.5, features=itself))),
    recipes.Then(Contaminate(0.4), FarthestPoints(0.5, features=itself)),
    recipes.Select((recipes.Replace(), recipes.Accumulate()), 1),
]
OF_IMAGES = [FilterWatermark(), recipes.Then(Contaminate(0.4), DropSuspects())]
