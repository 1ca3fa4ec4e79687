"""A normalising flow of coupling layers: a network with an exact density, for points and for small images."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from generators.coupling import Affine, Spline
from generators.given import labels
from generators.nets.mlp import MLP
from generators.rows import looked, named, shares, standards, values
from generators.train import Trained
from simulator.checks.fields import Count, NonNegative, Positive, Range
from simulator.numerics.chance import fold_in, normal, uniform
from simulator.numerics.selection import draw
from simulator.numerics.streams import streams
from simulator.pool import Pool, Rows
from simulator.types import Array, GenlossError, Key, Params

EDGE = 0.05  # α: grey values are squeezed into [α, 1 - α] before their logit is taken
DRAWS = 16  # dequantisations of an image that its likelihood is the mean over


@dataclass(frozen=True, kw_only=True)
class Flow(Trained):
    """Rows are points [n, d], d >= 2, or {"x": points, "label": int32}, or {"image": uint8 [h, w, c], "label": int32}.

    Maximises log p(x | label) = log N(f(x); 0, I) + log|det ∂f/∂x|, f the layers in turn.  Each keeps the first half of
    a row and moves every number of the second by an increasing map that a network of the first half (and the label)
    chooses: `coupling`, `Affine` as in Real NVP (Dinh et al. 2017, arXiv:1605.08803) or a rational-quadratic `Spline`
    (Durkan et al. 2019, arXiv:1906.04032).  Then the row is reversed, so that a pair of layers moves all of it, and
    after each pair dealt into two piles, which halves it otherwise.  Points are taken in standard deviations of the
    diet about its mean.  Labels are drawn from their weighted share of the diet.  `shape` and `classes` are taken from
    the source where they are left open.  (The straight path of flow matching is `generators.noise.Flow`.)

    Images are dequantised (Uria et al. 2013, arXiv:1306.0186; Theis et al. 2016, arXiv:1511.01844): a grey value l of L
    `levels` becomes (l + u)/L, u uniform on [0, 1), then its logit, squeezed as in Real NVP (section 4.1).  E log p of
    it is at most the log-probability of the image itself.
    """

    coupling: Affine | Spline = Spline()
    pairs: Count = 4  # of layers
    hidden: tuple[Count, ...] = (64, 64)  # widths of each layer's network
    shape: tuple[Count, ...] | None = None  # of a row, [h, w, c] or [d]; None takes the source's
    classes: Count | None = None  # number of labels; None takes the source's
    conditional: bool = True  # False: networks are told no label; samples draw theirs whatever they show
    levels: Annotated[int, Range(2, 256)] = (
        256  # L, grey values that images are rounded to; the embedded digits have 17
    )
    learning_rate: Positive = 2e-3  # peak of the cosine schedule
    temperature: NonNegative | Array = 1.0  # standard deviation of the base when sampling

    def shaped(self, rows: Rows) -> Flow:
        """The same for rows like these."""
        look = looked(self, rows)
        if math.prod(look.shape) < 2:
            raise GenlossError("A Flow moves numbers by others of the same row; give it rows of at least two.")
        return dataclasses.replace(self, shape=look.shape, classes=look.classes)

    @property
    def still(self) -> tuple[str, ...]:
        return ("mean", "scale", "labels")

    @property
    def completes(self) -> bool:
        """Labels can be given, where rows have some."""
        return self.classes is not None

    def init(self, key: Key) -> Params:
        """{"layers": the networks, [2 pairs, ...], "mean", "scale": [d], and "labels": [classes] their shares}."""
        keys = jax.vmap(lambda i: fold_in(key, i))(jnp.arange(2 * self.pairs))
        layers = jax.vmap(lambda key: nnx.as_pure(nnx.split(self._net(key), nnx.Param)[1]))(keys)
        params = {"layers": layers, "mean": jnp.zeros(self._size), "scale": jnp.ones(self._size)}
        return params if self.classes is None else {**params, "labels": jnp.full(self.classes, 1 / self.classes)}

    def closed_form(self, params: Params, pool: Pool) -> Params:
        if self.classes is not None:
            params = {**params, "labels": shares(pool, self.classes)}
        if self._images:
            return params
        mean, scale = standards(pool)
        return {**params, "mean": mean, "scale": scale}

    def losses(self, key: Key, params: Params, rows: Rows) -> Array:
        """-log p(x | label), [n], nats; of images dequantised by the key."""
        return -self._density(params, rows, uniform(key, (len(values(rows)), self._size)))

    def log_prob(self, params: Params, rows: Rows) -> Array:
        """log p(x | label) + log P(label), [n], nats: exact for points, for images a bound (`image_log_prob`)."""
        found = self.image_log_prob(params, rows) if self._images else self._density(params, rows, jnp.zeros(()))
        return found if self.classes is None else found + jnp.log(params["labels"])[rows["label"]]

    def image_log_prob(self, params: Params, rows: Rows) -> Array:
        """The mean of log p(x + u | label) over 16 dequantisations u, the same for every row, [n], nats."""
        keys = jax.vmap(lambda i: fold_in(jax.random.key(0), i))(jnp.arange(DRAWS))
        return jax.lax.map(lambda key: self._density(params, rows, uniform(key, (self._size,))), keys).mean(0)

    def bits_per_dim(self, params: Params, rows: Rows) -> Array:
        """-log₂ p of an image given its label, for each of its numbers, [n]: bits of L levels, log₂ L for noise."""
        return -self.image_log_prob(params, rows) / (self._size * math.log(2))

    def sample(self, key: Key, params: Params, n: int, given: Rows | None = None) -> Rows:
        """Rows as the source serves them; their labels those of `given`, or drawn by their shares."""
        for_label, for_base = fold_in(key, 0), fold_in(key, 1)
        label = None
        if self.classes is not None:
            label = draw(for_label, params["labels"], (n,)) if given is None else labels(given, n, "A Flow")  # [n]
        elif given is not None:
            raise GenlossError("These rows have no label, and nothing else can be given to a Flow.")
        z = self.temperature * normal(for_base, (n, self._size))  # [n, d]
        x = self._from_base(params["layers"], z, self._one_hot(label)) * params["scale"] + params["mean"]  # [n, d]
        if not self._images:
            return named(x, label, images=False)
        share = (jax.nn.sigmoid(x) - EDGE) / (1 - 2 * EDGE)  # [n, d]: of white
        level = jnp.clip(jnp.floor(share * self.levels), 0, self.levels - 1)
        image = jnp.round(level * 255 / (self.levels - 1)).astype(jnp.uint8)
        return named(image.reshape(n, *self._shape), label, images=True)

    def _density(self, params: Params, rows: Rows, u: Array) -> Array:
        """log p(x | label), [n]; of images dequantised by u, [n, d] or [d]."""
        x, outer = self._dequantised(values(rows), u) if self._images else (values(rows), 0.0)
        label = self._one_hot(rows.get("label") if isinstance(rows, dict) else None)
        z, log_det = self._to_base(params["layers"], (x - params["mean"]) / params["scale"], label)  # [n, d], [n]
        base = -0.5 * (z * z).sum(-1) - 0.5 * self._size * math.log(2 * math.pi)  # [n]
        return base + log_det - jnp.log(params["scale"]).sum() + outer

    def _dequantised(self, image: Array, u: Array) -> tuple[Array, Array]:
        """(logits x [n, d] of grey values l + u, log|det ∂x/∂l| [n]) of images of uint8."""
        level = jnp.round(image.reshape(len(image), -1) * ((self.levels - 1) / 255))  # [n, d]
        share = EDGE + (1 - 2 * EDGE) * (level + u) / self.levels  # [n, d]
        white, black = jnp.log(share), jnp.log1p(-share)  # [n, d]
        return white - black, (math.log((1 - 2 * EDGE) / self.levels) - white - black).sum(-1)

    def _to_base(self, layers: Params, x: Array, y: Array | None) -> tuple[Array, Array]:
        """(f(x) [n, d], log|det ∂f/∂x| [n])."""

        def layer(carry: tuple[Array, Array], now: tuple[Params, Array]) -> tuple[tuple[Array, Array], None]:
            (x, total), (net, last) = carry, now
            kept, moved = x[:, : self._kept], x[:, self._kept :]
            moved, log_slope = self.coupling.forward(self._tells(net, kept, y), moved)  # [n, d - kept] each
            x = jnp.concatenate([kept, moved], -1)[:, ::-1]  # [n, d]
            x = jnp.where(last, jnp.concatenate([x[:, ::2], x[:, 1::2]], -1), x)
            return (x, total + log_slope.sum(-1)), None

        return jax.lax.scan(layer, (x, jnp.zeros(len(x))), (layers, self._last))[0]

    def _from_base(self, layers: Params, z: Array, y: Array | None) -> Array:
        """The row x [n, d] with f(x) = z."""
        piles = np.concatenate([np.arange(self._size)[::2], np.arange(self._size)[1::2]])  # [d]

        def layer(x: Array, now: tuple[Params, Array]) -> tuple[Array, None]:
            net, last = now
            x = jnp.where(last, x[:, np.argsort(piles)], x)[:, ::-1]
            kept, moved = x[:, : self._kept], x[:, self._kept :]
            return jnp.concatenate([kept, self.coupling.inverse(self._tells(net, kept, y), moved)], -1), None

        return jax.lax.scan(layer, z, (layers, self._last), reverse=True)[0]

    def _tells(self, net: Params, kept: Array, y: Array | None) -> Array:
        """What a layer's network tells of the numbers that are moved, [n, d - kept, numbers]."""
        graph = nnx.split(nnx.eval_shape(self._net, jax.random.key(0)), nnx.Param)[0]
        seen = kept if y is None else jnp.concatenate([kept, y], -1)
        return nnx.merge(graph, net)(seen).reshape(len(kept), self._size - self._kept, self.coupling.numbers)

    def _net(self, key: Key) -> MLP:
        seen = self._kept + (self.classes or 0) * self.conditional
        told = (self._size - self._kept) * self.coupling.numbers
        return MLP(seen, told, self.hidden, last=nnx.initializers.zeros, rngs=streams(key))

    def _one_hot(self, label: Array | None) -> Array | None:
        """Labels [n] as networks are told them, [n, classes]."""
        if label is None or self.classes is None or not self.conditional:
            return None
        return jax.nn.one_hot(label, self.classes)

    @property
    def _last(self) -> Array:
        """Whether a layer is the second of its pair, [2 pairs]."""
        return jnp.arange(2 * self.pairs) % 2 == 1

    @property
    def _kept(self) -> int:
        return self._size // 2

    @property
    def _size(self) -> int:
        return math.prod(self._shape)

    @property
    def _images(self) -> bool:
        return len(self._shape) == 3

    @property
    def _shape(self) -> tuple[int, ...]:
        if self.shape is None:
            raise GenlossError("This Flow has no shape of rows; give `shape`, or let a chain take it from its source.")
        return self.shape
