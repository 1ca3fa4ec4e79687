"""What a generation does to models trained on it: accuracy on held-out real rows, in both senses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from simulator.pool import Rows, count, draw, take
from simulator.probes.features import classes, flat
from simulator.types import Array, Key, View


@dataclass(frozen=True)
class Downstream:
    """Accuracy on held-out real rows of a classifier trained on the diet, and of one trained on samples only.

    diet: what a contaminated data set does to its users; samples: the classification accuracy score (Ravuri & Vinyals
    2019, arXiv:1905.10887).  Each gives accuracy, worst (the lowest accuracy of a class) and class [classes], in
    [0, 1].  Both classifiers start at the same weights and train by Adam for the same fixed number of steps.

    `network(features, classes, rngs=...)` builds a flax.nnx module from features [n, d] to logits [n, classes].
    """

    network: Callable[..., Any]
    steps: int = 300  # optimizer steps
    batch: int = 64  # rows per step, drawn in proportion to weight
    learning_rate: float = 3e-3  # Adam, cosine to 0
    features: Callable[[Rows], Array] = flat

    def __call__(self, key: Key, view: View) -> dict[str, Any]:
        rows = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), view.diet.rows, view.synthetic)  # [capacity + n]
        n = count(view.synthetic)
        on_diet = jnp.concatenate([view.diet.weight, jnp.zeros(n)])
        on_samples = jnp.concatenate([jnp.zeros(view.diet.capacity), jnp.ones(n)])
        x, y = self.features(view.reference), view.reference["label"]  # [m, d], [m]
        kinds = classes(view.reference)
        right = jax.vmap(lambda w: self.right(key, rows, w, x, y, kinds))(jnp.stack([on_diet, on_samples]))  # [2, m]
        members = jax.nn.one_hot(y, kinds)  # [m, classes]
        by_class = right @ members / members.sum(0)  # [2, classes]
        return {
            sense: {"accuracy": right[i].mean(), "worst": by_class[i].min(), "class": by_class[i]}
            for i, sense in enumerate(("diet", "samples"))
        }

    def right(self, key: Key, rows: Rows, weight: Array, x: Array, y: Array, kinds: int) -> Array:
        """Whether a classifier trained on the weighted rows is right on each of (x, y), [m] float32."""
        for_net, for_batches = jax.random.split(key)
        graph, params = nnx.split(self.network(x.shape[1], kinds, rngs=nnx.Rngs(for_net)), nnx.Param)
        optimizer = optax.adam(optax.schedules.cosine_decay_schedule(self.learning_rate, self.steps))

        def loss(params: Any, chosen: Array) -> Array:
            batch = take(rows, chosen)  # leaves [batch, ...]
            logits = nnx.merge(graph, params)(self.features(batch))  # [batch, classes]
            return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()

        def step(carry: tuple[Any, Any], chosen: Array) -> tuple[tuple[Any, Any], None]:
            params, state = carry
            update, state = optimizer.update(jax.grad(loss)(params, chosen), state, params)
            return (optax.apply_updates(params, update), state), None

        params = nnx.as_pure(params)
        index = draw(for_batches, weight, (self.steps, self.batch))  # [steps, batch]
        params, _ = jax.lax.scan(step, (params, optimizer.init(params)), index)[0]
        return (nnx.merge(graph, params)(x).argmax(-1) == y).astype(jnp.float32)
