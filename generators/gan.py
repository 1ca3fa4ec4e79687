"""A generative adversarial network: a generator and a critic that learn against each other (arXiv:1406.2661)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from generators.games import NonSaturating, Relativistic, Score, Wasserstein
from generators.given import labels
from generators.nets.mlp import MLP
from generators.rows import grey, looked, named, seen, shares, standards
from generators.train import Trained
from simulator.checks.fields import BelowOne, Count, NonNegative, Positive
from simulator.numerics.chance import fold_in, normal
from simulator.numerics.selection import draw
from simulator.numerics.streams import streams
from simulator.pool import Pool, Rows
from simulator.types import Array, GenlossError, Key, Params

Network = Callable[..., Any]
"""`network(inputs, outputs, rngs=...)` builds a flax.nnx module [n, *inputs] -> [n, *outputs], numbers or shapes.

All that it holds must be `nnx.Param`, and each row must be told by itself: a penalty is on the slope at one row.
"""


@dataclass(frozen=True, kw_only=True)
class GAN(Trained):
    """Rows are points [n, d], or {"x": points, "label": int32}, or {"image": uint8 [h, w, c]}, with a label or without.

    A generator G(z, label), z normal, and a critic D(x, label) take turns: each step is `critic_steps` steps of the
    critic, on as many batches, and one of the generator, on another.  What each makes small is the `game`'s.  Images
    are scaled to [-1, 1]; points are taken in standard deviations of the diet about its mean.  The critic gives a score
    for every class, of which that of a row's label counts (Miyato & Koyama 2018, arXiv:1802.05637, without its part
    that knows no label); fakes have the labels of the real rows beside them.  Labels are drawn from their weighted
    share of the diet.  `shape` and `classes` are taken from the source where they are left open.

    The loss that is reported is the critic's, with its penalties.
    """

    game: Relativistic | NonSaturating | Wasserstein = Relativistic()
    network: Network = partial(MLP, hidden=(128, 128))  # of the generator: from latent numbers and label to rows
    critic: Network = partial(MLP, hidden=(128, 128))  # from rows to scores
    critic_steps: Count = 1  # of the critic to one of the generator
    latent: Count = 16  # dimensions of z
    shape: tuple[Count, ...] | None = None  # of a row, [h, w, c] or [d]; None takes the source's
    classes: Count | None = None  # number of labels; None takes the source's
    conditional: bool = True  # False: networks are told no label; samples draw theirs whatever they show
    beta1: BelowOne = 0.0  # of Adam: decay of its mean of gradients, which lags behind the other player
    beta2: BelowOne = 0.99  # of Adam: decay of its mean of squares
    clip: Positive = 100.0  # largest norm of a gradient of one player: out of the way, since penalties tame them
    average: BelowOne = 0.995  # decay of the moving average of weights that is sampled from
    temperature: NonNegative | Array = 1.0  # standard deviation of z when sampling

    def shaped(self, rows: Rows) -> GAN:
        """The same for rows like these."""
        look = looked(self, rows)
        return dataclasses.replace(self, shape=look.shape, classes=look.classes)

    @property
    def still(self) -> tuple[str, ...]:
        return ("mean", "scale", "labels")

    @property
    def completes(self) -> bool:
        """Labels can be given, where rows have some."""
        return self.classes is not None

    @property
    def drawn(self) -> int:
        """Rows that a step draws: a batch for each turn."""
        return self.batch * (self.critic_steps + 1)

    def init(self, key: Key) -> Params:
        """{"generator", "critic": parameters}, of points "mean" and "scale" [d], and "labels": [classes] shares."""
        nets = {name: self._net(name, fold_in(key, i)) for i, name in enumerate(("generator", "critic"))}
        params: Params = {name: nnx.as_pure(nnx.split(net, nnx.Param)[1]) for name, net in nets.items()}
        if not self._images:
            params |= {"mean": jnp.zeros(self._shape), "scale": jnp.ones(self._shape)}
        return params if self.classes is None else {**params, "labels": jnp.full(self.classes, 1 / self.classes)}

    def closed_form(self, params: Params, pool: Pool) -> Params:
        if self.classes is not None:
            params = {**params, "labels": shares(pool, self.classes)}
        if self._images:
            return params
        mean, scale = standards(pool)
        return {**params, "mean": mean, "scale": scale}

    def rule(self, rate: optax.Schedule) -> optax.GradientTransformation:
        return optax.adam(rate, self.beta1, self.beta2)

    def optimizer(self) -> optax.GradientTransformation:
        """One for each player, which moves those for which there is a gradient."""
        each = {"generator": self.descent(), "critic": self.descent(self.critic_steps)}

        def init(params: Any) -> Any:
            return {name: each[name].init(params[name]) for name in each}

        def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
            done = {name: each[name].update(part, state[name], params[name]) for name, part in updates.items()}
            return {name: moved for name, (moved, _) in done.items()}, state | {k: now for k, (_, now) in done.items()}

        return optax.GradientTransformation(init, update)

    def stepped(self, key: Key, params: Params, moving: Params, state: Any, rows: Rows) -> tuple[Params, Any, Array]:
        # Rows are dealt to the turns in a way that leaves each device its share of every batch.
        dealt = lambda a: a.reshape(self.batch, -1, *a.shape[1:]).swapaxes(0, 1)  # noqa: E731
        turns = jax.tree.map(dealt, rows)  # leaves [critic_steps + 1, batch, ...]

        def turn(player: str, loss: Any, i: Array | int, carry: Any) -> tuple[Any, Array]:
            moving, state = carry
            batch = jax.tree.map(lambda a: a[i], turns)  # leaves [batch, ...]
            of_part = lambda part: loss(fold_in(key, i), {**params, **moving, player: part}, batch)  # noqa: E731
            value, gradient = jax.value_and_grad(of_part)(moving[player])
            update: Any
            update, state = self.optimizer().update({player: gradient}, state, moving)
            return ({**moving, player: optax.apply_updates(moving[player], update[player])}, state), value

        critics = jnp.arange(self.critic_steps)
        carry, losses = jax.lax.scan(lambda carry, i: turn("critic", self.loss, i, carry), (moving, state), critics)
        (moving, state), _ = turn("generator", self.generator_loss, self.critic_steps, carry)
        return moving, state, losses.mean()

    def loss(self, key: Key, params: Params, rows: Rows) -> Array:
        """What the critic makes small, [], its mean over a batch."""
        score, real, fake = self._shown(key, params, rows)
        return self.game.critic(fold_in(key, 1), score, real, fake).mean()

    def generator_loss(self, key: Key, params: Params, rows: Rows) -> Array:
        """What the generator makes small, [], its mean over a batch."""
        return self.game.generator(*self._shown(key, params, rows)).mean()

    def sample(self, key: Key, params: Params, n: int, given: Rows | None = None) -> Rows:
        """Rows as the source serves them; their labels those of `given`, or drawn by their shares."""
        for_label, for_latent = fold_in(key, 0), fold_in(key, 1)
        label = None
        if self.classes is not None:
            label = draw(for_label, params["labels"], (n,)) if given is None else labels(given, n, "A GAN")  # [n]
        elif given is not None:
            raise GenlossError("These rows have no label, and nothing else can be given to a GAN.")
        x = self._made(params, self.temperature * normal(for_latent, (n, self.latent)), label)  # [n, *shape]
        return named(grey(x) if self._images else x * params["scale"] + params["mean"], label, self._images)

    def _shown(self, key: Key, params: Params, rows: Rows) -> tuple[Score, Array, Array]:
        """(the critic's scores, real rows, as many fakes of their labels [n, *shape]) in units of the networks."""
        real, label = seen(rows), rows["label"] if self.classes is not None else None
        if not self._images:
            real = (real - params["mean"]) / params["scale"]  # [n, d]
        fake = self._made(params, normal(fold_in(key, 0), (len(real), self.latent)), label)  # [n, *shape]
        critic = self._merged("critic", params)

        def score(x: Array) -> Array:
            scores = critic(x)  # [m, scores]
            if self._scores == 1 or label is None:
                return scores[:, 0]
            own = jnp.tile(label, len(x) // len(label))[:, None]  # [m, 1]
            return jnp.take_along_axis(scores, own, 1)[:, 0]

        return score, real, fake

    def _made(self, params: Params, z: Array, label: Array | None) -> Array:
        """G(z, label), [n, *shape]."""
        if label is not None and self.classes is not None and self.conditional:
            z = jnp.concatenate([z, jax.nn.one_hot(label, self.classes)], -1)  # [n, latent + classes]
        return self._merged("generator", params)(z)

    def _net(self, name: str, key: Key) -> Any:
        of = self._shape if self._images else self._shape[0]
        if name == "critic":
            return self.critic(of, self._scores, rngs=streams(key))
        told = self.latent + (self.classes or 0) * self.conditional
        return self.network(told, of, rngs=streams(key))

    def _merged(self, name: str, params: Params) -> Any:
        """A network with these parameters."""
        graph = nnx.split(nnx.eval_shape(lambda: self._net(name, jax.random.key(0))), nnx.Param)[0]
        return nnx.merge(graph, params[name])

    @property
    def _scores(self) -> int:
        """How many scores the critic gives a row."""
        return (self.classes or 1) if self.conditional else 1

    @property
    def _images(self) -> bool:
        return len(self._shape) == 3

    @property
    def _shape(self) -> tuple[int, ...]:
        if self.shape is None:
            raise GenlossError("This GAN has no shape of rows; give `shape`, or let a chain take it from its source.")
        return self.shape
