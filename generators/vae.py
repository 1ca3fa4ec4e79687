"""A variational autoencoder made of matmuls (Kingma & Welling 2014, arXiv:1312.6114), by class or not."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from generators.given import labels
from generators.likelihood import Bernoulli, Likelihood
from generators.nets.autoencoder import mlps
from generators.rows import looked, named, shares, values
from generators.train import Trained
from simulator.checks.fields import Count, NonNegative
from simulator.numerics.chance import fold_in, normal
from simulator.numerics.selection import draw
from simulator.numerics.streams import streams
from simulator.pool import Pool, Rows
from simulator.types import Array, GenlossError, Key

Network = Callable[..., tuple[Any, Any]]
"""`network(shape, classes, latent, numbers, hidden, rngs=...)` builds two flax.nnx modules, encoder and decoder, as
`generators/nets/autoencoder.py` says; all that they hold must be `nnx.Param` in float32.
"""


@dataclass(frozen=True, kw_only=True)
class VAE(Trained):
    """Rows are {"image": uint8 [h, w, c], "label": int32}, images without labels, points [n, d] or {"x", "label"}.

    Maximises E_q log p(x|z,y) - beta·KL(q(z|x,y) ‖ N(0, I)), q a Gaussian with independent components, for pixels x in
    [0, 1] and points as they are; labels are drawn from their weighted share of the diet, so the label histogram drifts
    as in any finite sample.  What is said of images is their mean, which is how they are shown in papers; points should
    be drawn, or they lack what the likelihood leaves open.  `shape` and `classes` are taken from the source where they
    are left open.
    """

    shape: tuple[Count, ...] | None = None  # of a row, [h, w, c] or [d]; None takes the source's
    classes: Count | None = None  # number of labels; None takes the source's
    conditional: bool = True  # False: networks are told no label; samples draw theirs whatever they show
    latent: Count = 16  # dimensions of z
    network: Network = mlps  # or mixers, convolutional: encoder and decoder (`generators/nets/autoencoder.py`)
    hidden: tuple[Count, ...] = (128,)  # widths (or channels) of encoder and, reversed, decoder
    likelihood: Likelihood = Bernoulli()  # of each number of a row: that, Normal or DiscretisedLogistic
    draws: bool = False  # samples are drawn from the likelihood; False: they are its means
    beta: NonNegative = 1.0  # weight of the KL term
    temperature: NonNegative = 1.0  # standard deviation of z when sampling

    def shaped(self, rows: Rows) -> VAE:
        """The same VAE for rows like these."""
        look = looked(self, rows)
        if not (look.images or self.likelihood.of_points):
            raise GenlossError(
                f"{type(self.likelihood).__name__} is a law of grey values in [0, 1]; for points give `likelihood` "
                "Normal()."
            )
        return dataclasses.replace(self, shape=look.shape, classes=look.classes)

    @property
    def completes(self) -> bool:
        """Labels can be given, where rows have some."""
        return self.classes is not None

    def init(self, key: Key) -> Any:
        """{"encoder", "decoder": module parameters} and, of rows with labels, "labels": [classes] shares, uniform."""
        parts = {name: nnx.as_pure(nnx.split(net, nnx.Param)[1]) for name, net in self._nets(key).items()}
        if self.classes is None:
            return parts
        return {**parts, "labels": jnp.full(self.classes, 1 / self.classes, jnp.float32)}

    def closed_form(self, params: Any, pool: Pool) -> Any:
        return params if self.classes is None else {**params, "labels": shares(pool, self.classes)}

    def losses(self, key: Key, params: Any, rows: Rows) -> Array:
        """Negative evidence lower bounds, of which beta weighs the KL term, [n], nats per row."""
        unseen, divergence = self._terms(key, params, rows)
        return unseen + self.beta * divergence

    def elbo(self, key: Key, params: Any, rows: Rows) -> Array:
        """log p(x|z,y) - KL(q(z|x,y) ‖ N(0, I)) for one z ~ q, [n], nats: on average at most log p(x|y)."""
        unseen, divergence = self._terms(key, params, rows)
        return -unseen - divergence

    def importance_bound(self, key: Key, params: Any, rows: Rows, draws: int = 50) -> Array:
        """log 1/K Σ_k p(x|z_k,y) p(z_k)/q(z_k|x,y) for K draws z_k ~ q, [n], nats.

        On average at most log p(x|y), which it comes the closer to the more draws there are (Burda et al. 2016,
        arXiv:1509.00519, eq. 8 and theorem 1).
        """
        nets, (x, y) = self._merged(params), self._read(rows)
        mean, log_var = self._posterior(nets, x, y)  # [n, latent] each

        def one(key: Key) -> Array:
            eps = normal(key, mean.shape)  # [n, latent]
            z = mean + jnp.exp(log_var / 2) * eps
            ratio = 0.5 * (log_var + eps**2 - z**2).sum(-1)  # [n]: log p(z)/q(z|x,y)
            return ratio - self._nll(nets, x, y, z)

        each = jax.lax.map(one, jax.vmap(lambda i: fold_in(key, i))(jnp.arange(draws)))  # [draws, n]
        return jax.nn.logsumexp(each, axis=0) - math.log(draws)

    def encode(self, params: Any, rows: Rows) -> tuple[Array, Array]:
        """Mean and standard deviation of q(z|x,y), [n, latent] each."""
        mean, log_var = self._posterior(self._merged(params), *self._read(rows))
        return mean, jnp.exp(log_var / 2)

    def decode(self, params: Any, z: Array, label: Array | None = None) -> Array:
        """Means of p(x|z,y), [n, *shape], of codes [n, latent] and, where the networks are told them, labels [n]."""
        if label is None and self._told:
            raise GenlossError("The networks of this VAE are told labels; give one for each code.")
        return self.likelihood.mean(self._says(self._merged(params), z, self._one_hot(label))).reshape(-1, *self._shape)

    def sample(self, key: Key, params: Any, n: int, given: Rows | None = None) -> Rows:
        """Rows as the source serves them; their labels those of `given`, or drawn by their shares."""
        for_label, for_z = jax.random.split(key)
        label = None
        if self.classes is not None:
            label = draw(for_label, params["labels"], (n,)) if given is None else labels(given, n, "A VAE")  # [n]
        elif given is not None:
            raise GenlossError("These rows have no label, and nothing else can be given to a VAE.")
        z = self.temperature * jax.random.normal(for_z, (n, self.latent))  # [n, latent]
        told = self._says(self._merged(params), z, self._one_hot(label))  # [n, d·numbers]
        x = self.likelihood.draw(fold_in(key, 2), told) if self.draws else self.likelihood.mean(told)  # [n, d]
        if self._images:
            x = jnp.clip(x, 0, 1) if self.likelihood.of_points else x
            x = jnp.round(x * 255).astype(jnp.uint8)
        return named(x.reshape(n, *self._shape), label, self._images)

    def _terms(self, key: Key, params: Any, rows: Rows) -> tuple[Array, Array]:
        """(-log p(x|z,y) for one z ~ q(z|x,y), KL(q ‖ N(0, I))), [n] each."""
        nets, (x, y) = self._merged(params), self._read(rows)
        mean, log_var = self._posterior(nets, x, y)  # [n, latent] each
        z = mean + jnp.exp(log_var / 2) * jax.random.normal(key, mean.shape)  # [n, latent]
        unseen = self._nll(nets, x, y, z)  # [n]
        return unseen, 0.5 * (mean**2 + jnp.exp(log_var) - 1 - log_var).sum(-1)

    def _read(self, rows: Rows) -> tuple[Array, Array | None]:
        """(numbers x [n, d], of images in [0, 1]; labels as networks are told them, [n, classes])."""
        shown = values(rows)
        x = shown.astype(jnp.float32).reshape(shown.shape[0], -1)  # [n, d]
        return x / 255 if self._images else x, self._one_hot(rows["label"] if self._told else None)

    def _posterior(self, nets: dict[str, Any], x: Array, y: Array | None) -> tuple[Array, Array]:
        """Mean and log-variance of q(z|x,y), [n, latent] each."""
        mean, log_var = jnp.split(nets["encoder"](_beside(x, y)), 2, -1)
        return mean, log_var

    def _nll(self, nets: dict[str, Any], x: Array, y: Array | None, z: Array) -> Array:
        """-log p(x|z,y), [n]."""
        return self.likelihood.nll(self._says(nets, z, y), x).sum(-1)

    def _says(self, nets: dict[str, Any], z: Array, y: Array | None) -> Array:
        """What the decoder tells of each number of a row, [n, d·numbers]."""
        return nets["decoder"](_beside(z, y))

    def _one_hot(self, label: Array | None) -> Array | None:
        """Labels [n] as networks are told them, [n, classes]."""
        return None if label is None or not self._told else jax.nn.one_hot(label, self._told)

    def _nets(self, key: Key) -> dict[str, Any]:
        numbers, rngs = self.likelihood.numbers, streams(key)
        encoder, decoder = self.network(self._shape, self._told, self.latent, numbers, self.hidden, rngs=rngs)
        return {"encoder": encoder, "decoder": decoder}

    def _merged(self, params: Any) -> dict[str, Any]:
        """The networks with these parameters."""
        graphs = {
            name: nnx.split(net, nnx.Param)[0] for name, net in nnx.eval_shape(self._nets, jax.random.key(0)).items()
        }
        return {name: nnx.merge(graph, params[name]) for name, graph in graphs.items()}

    @property
    def _told(self) -> int:
        """Labels that networks are told."""
        return (self.classes or 0) * self.conditional

    @property
    def _images(self) -> bool:
        return len(self._shape) == 3

    @property
    def _shape(self) -> tuple[int, ...]:
        if self.shape is None:
            raise GenlossError("This VAE has no shape of rows; give `shape`, or let a chain take it from its source.")
        return self.shape


def _beside(x: Array, y: Array | None) -> Array:
    return x if y is None else jnp.concatenate([x, y], -1)
