"""Training a classifier on weighted rows: what the probe `Downstream` and the feature space `Learned` share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp
import optax
import optax.contrib
from flax import nnx

from simulator.checks import fields
from simulator.numerics.selection import draw
from simulator.numerics.streams import streams
from simulator.pool import Rows, Shared, count, take
from simulator.types import Array, GenlossError, Key, Params

Network = Callable[..., Any]
"""`network(inputs, outputs, rngs=...)` builds a flax.nnx module from rows [n, *inputs] to logits [n, outputs].

`inputs` is the shape of a row: a number for vectors, a tuple such as (28, 28, 1) for images.  All that a module holds
must be `nnx.Param`: running statistics and random numbers of its own would have to be carried from step to step.
"""

Rule = Literal["adam", "muon"]
"""What is made of gradients: Adam's steps or, of matrices, Muon's: momentum with all singular values near 1, by five
Newton-Schulz steps (Jordan 2024, kellerjordan.github.io/posts/muon), times the rate and, of a matrix [i, o],
√max(1, o/i); what is no matrix steps by Adam with Nesterov's momentum, at a tenth of the rate.
"""


class Plan(Protocol):
    """How a classifier is trained; checked by `check`."""

    @property
    def network(self) -> Network: ...
    @property
    def steps(self) -> int: ...  # optimizer steps
    @property
    def batch(self) -> int: ...  # rows per step, drawn in proportion to weight
    @property
    def learning_rate(self) -> float: ...  # falling to 0 along a cosine
    @property
    def rule(self) -> Rule: ...  # what is made of gradients
    @property
    def augment(self) -> bool: ...  # shift each image of a batch by up to an eighth of its side
    @property
    def flips(self) -> bool: ...  # and mirror every second one


def check(plan: Plan) -> None:
    """Raises where a plan cannot be followed."""
    fields.check(plan)
    if plan.flips and not plan.augment:
        raise GenlossError("`flips` is part of augmentation; set `augment` too, or leave it out.")


def train(
    plan: Plan, key: Key, rows: Rows | Shared, weight: Array, read: Callable[[Rows], Array], kinds: int
) -> Params:
    """Parameters of a classifier of `kinds` classes, trained on rows {..., "label"} drawn in proportion to weight [n].

    `read(rows)` is what the network sees of a batch, [batch, *inputs]; until then rows stay in their storage type.
    """
    for_net, for_batches, for_augment = jax.random.split(key, 3)
    inputs = jax.eval_shape(lambda r: read(take(r, jnp.arange(1))), rows).shape[1:]
    graph, params = started(plan.network, inputs, kinds, for_net)
    optimizer = descent(plan)

    def loss(params: Params, batch: Rows) -> Array:
        logits = nnx.merge(graph, params)(read(batch))  # [batch, classes]
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()

    def step(carry: tuple[Params, Any], x: tuple[Array, Array]) -> tuple[tuple[Params, Any], None]:
        (params, state), (i, chosen) = carry, x
        batch = take(rows, chosen)  # leaves [batch, ...]
        if plan.augment:
            batch = {**batch, "image": augmented(jax.random.fold_in(for_augment, i), _image(batch), plan.flips)}
        update, state = optimizer.update(jax.grad(loss)(params, batch), state, params)
        return (optax.apply_updates(params, update), state), None

    index = draw(for_batches, weight, (plan.steps, plan.batch))  # [steps, batch]
    return jax.lax.scan(step, (params, optimizer.init(params)), (jnp.arange(plan.steps), index))[0][0]


def descent(plan: Plan) -> optax.GradientTransformation:
    """The plan's rule at a rate that falls to 0 along a cosine."""
    rate, tenth = (
        optax.schedules.cosine_decay_schedule(r, plan.steps) for r in (plan.learning_rate, plan.learning_rate / 10)
    )
    return optax.adam(rate) if plan.rule == "adam" else optax.contrib.muon(rate, adam_learning_rate=tenth)


def merged(network: Network, inputs: tuple[int, ...], kinds: int, params: Params) -> Any:
    """The module of `network` for rows of shape `inputs`, with these parameters."""
    return nnx.merge(skeleton(network, inputs, kinds)[0], params)


def skeleton(network: Network, inputs: tuple[int, ...], kinds: int) -> tuple[Any, Params]:
    """(structure, shapes of the parameters) of `network` for rows of shape `inputs`, without making any."""
    module = nnx.eval_shape(lambda: _built(network, inputs, kinds, jax.random.key(0)))
    graph, params = nnx.split(module, nnx.Param)
    return graph, nnx.as_pure(params)


def started(network: Network, inputs: tuple[int, ...], kinds: int, key: Key) -> tuple[Any, Params]:
    """(structure, parameters) of a new `network` for rows of shape `inputs`."""
    graph, params, rest = nnx.split(_built(network, inputs, kinds, key), nnx.Param, ...)
    if jax.tree.leaves(rest):
        raise GenlossError(
            "The network holds more than parameters (running statistics, or random numbers of its own); "
            "choose normalisation within each row, and no dropout."
        )
    return graph, nnx.as_pure(params)


def _built(network: Network, inputs: tuple[int, ...], kinds: int, key: Key) -> Any:
    return network(inputs[0] if len(inputs) == 1 else inputs, kinds, rngs=streams(key))


def in_blocks(f: Callable[[Rows], Array], rows: Rows, block: int = 500) -> Array:
    """f(rows), [n, ...], of one block of rows after the other, so that memory is that of a block."""
    if count(rows) <= block:
        return f(rows)
    return jax.lax.map(lambda row: f(jax.tree.map(lambda a: a[None], row))[0], rows, batch_size=block)


def augmented(key: Key, images: Array, flips: bool = False) -> Array:
    """Each of the images [n, h, w, c] shifted, and with `flips` every second one mirrored; in their own type.

    Shifts are uniform over whole pixels up to an eighth of the side each way; zeros come in.
    """
    n, h, w, c = images.shape
    reach_h, reach_w = max(1, h // 8), max(1, w // 8)
    for_down, for_right, for_mirror = jax.random.split(key, 3)
    down = jax.random.randint(for_down, (n,), 0, 2 * reach_h + 1)  # [n]
    right = jax.random.randint(for_right, (n,), 0, 2 * reach_w + 1)  # [n]
    padded = jnp.pad(images, ((0, 0), (reach_h, reach_h), (reach_w, reach_w), (0, 0)))
    window = lambda image, i, j: jax.lax.dynamic_slice(image, (i, j, 0), (h, w, c))  # noqa: E731
    moved = jax.vmap(window)(padded, down, right)  # [n, h, w, c]
    if not flips:
        return moved
    mirrored = jax.random.bits(for_mirror, (n, 1, 1, 1)) % 2 == 1
    return jnp.where(mirrored, moved[:, :, ::-1], moved)


def _image(rows: Rows) -> Array:
    if not (isinstance(rows, dict) and "image" in rows):
        raise GenlossError("Augmentation moves images; leave `augment` out for rows that are none.")
    return rows["image"]
