"""A class-conditional variational autoencoder made of matmuls (Kingma & Welling 2014, arXiv:1312.6114)."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from generators.given import labels
from generators.nets.mlp import MLP
from generators.rows import shares
from generators.train import Trained
from simulator.checks.fields import Count, NonNegative
from simulator.numerics.selection import draw
from simulator.numerics.streams import streams
from simulator.pool import Pool, Rows
from simulator.types import Array, GenlossError, Key


@dataclass(frozen=True, kw_only=True)
class VAE(Trained):
    """Rows are {"image": uint8 [h, w, c], "label": int32}.

    Maximises E_q log p(x|z,y) - beta·KL(q(z|x,y) ‖ N(0, I)) with Bernoulli pixels x in [0, 1]; labels are drawn
    from their weighted share of the diet, so the label histogram drifts as in any finite sample.  `shape` and
    `classes` are taken from the source where they are left open.
    """

    shape: tuple[Count, ...] | None = None  # image shape [h, w, c]; None takes the source's
    classes: Count | None = None  # number of labels; None takes the source's
    latent: Count = 16  # dimensions of z
    hidden: tuple[Count, ...] = (128,)  # widths of encoder and, reversed, decoder
    beta: NonNegative = 1.0  # weight of the KL term
    temperature: NonNegative = 1.0  # standard deviation of z when sampling

    completes: ClassVar[bool] = True

    def shaped(self, rows: Rows) -> VAE:
        """The same VAE for rows like these."""
        if not (isinstance(rows, dict) and {"image", "label"} <= rows.keys()):
            raise GenlossError("A VAE needs rows with an image and a label; give it such a source.")
        shape = rows["image"].shape[1:] if self.shape is None else self.shape
        found = int(rows["label"].max()) + 1
        if self.classes is not None and self.classes < found:
            raise GenlossError(f"A VAE of {self.classes} classes was shown {found}; raise `classes` or leave it open.")
        classes = found if self.classes is None else self.classes
        return dataclasses.replace(self, shape=tuple(shape), classes=classes)

    def init(self, key: Key) -> Any:
        """{"encoder", "decoder": module parameters, "labels": [classes] their shares, uniform}."""
        parts = {name: nnx.as_pure(nnx.split(net, nnx.Param)[1]) for name, net in self._nets(key).items()}
        return {**parts, "labels": jnp.full(self._classes, 1 / self._classes, jnp.float32)}

    def closed_form(self, params: Any, pool: Pool) -> Any:
        return {**params, "labels": shares(pool, self._classes)}

    def losses(self, key: Key, params: Any, rows: Rows) -> Array:
        """Negative evidence lower bounds, [n], nats per image."""
        nets = self._merged(params)
        x = rows["image"].astype(jnp.float32).reshape(rows["image"].shape[0], -1) / 255  # [n, pixels]
        y = jax.nn.one_hot(rows["label"], self._classes)  # [n, classes]
        mean, log_var = jnp.split(nets["encoder"](jnp.concatenate([x, y], -1)), 2, -1)  # [n, latent]
        z = mean + jnp.exp(log_var / 2) * jax.random.normal(key, mean.shape)  # [n, latent]
        logits = nets["decoder"](jnp.concatenate([z, y], -1))  # [n, pixels]
        cross_entropy = (jax.nn.softplus(logits) - x * logits).sum(-1)  # [n]
        divergence = 0.5 * (mean**2 + jnp.exp(log_var) - 1 - log_var).sum(-1)  # [n]
        return cross_entropy + self.beta * divergence

    def sample(self, key: Key, params: Any, n: int, given: Rows | None = None) -> Rows:
        """Decoded pixel means, rounded to uint8, with their labels: those of `given`, or drawn by their shares."""
        for_label, for_z = jax.random.split(key)
        label = draw(for_label, params["labels"], (n,)) if given is None else labels(given, n, "A VAE")  # [n]
        z = self.temperature * jax.random.normal(for_z, (n, self.latent))  # [n, latent]
        y = jax.nn.one_hot(label, self._classes)  # [n, classes]
        pixels = jax.nn.sigmoid(self._merged(params)["decoder"](jnp.concatenate([z, y], -1)))  # [n, pixels]
        return {"image": jnp.round(pixels * 255).astype(jnp.uint8).reshape(n, *self._shape), "label": label}

    def _nets(self, key: Key) -> dict[str, MLP]:
        pixels, rngs = self._pixels, streams(key)
        encoder = MLP(pixels + self._classes, 2 * self.latent, self.hidden, rngs=rngs)
        return {"encoder": encoder, "decoder": MLP(self.latent + self._classes, pixels, self.hidden[::-1], rngs=rngs)}

    def _merged(self, params: Any) -> dict[str, MLP]:
        """The networks with these parameters."""
        graphs = {
            name: nnx.split(net, nnx.Param)[0] for name, net in nnx.eval_shape(self._nets, jax.random.key(0)).items()
        }
        return {name: nnx.merge(graph, params[name]) for name, graph in graphs.items()}

    @property
    def _shape(self) -> tuple[int, ...]:
        if self.shape is None:
            raise GenlossError("This VAE has no image shape; give `shape`, or let a chain take it from its source.")
        return self.shape

    @property
    def _classes(self) -> int:
        if self.classes is None:
            raise GenlossError(
                "This VAE has no number of classes; give `classes`, or let a chain take it from its source."
            )
        return self.classes

    @property
    def _pixels(self) -> int:
        return math.prod(self._shape)
