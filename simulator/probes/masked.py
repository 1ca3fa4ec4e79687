"""What a generation does to models that learn from its pictures without their labels, and then from few real labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from simulator.checks.fields import Count, Positive, check
from simulator.numerics.selection import draw
from simulator.pool import Rows, Shared, count, take
from simulator.probes.classifier import Network, in_blocks, started
from simulator.probes.features import classes, pictures, training
from simulator.probes.finite import counted, where_finite
from simulator.probes.tabular import logistic, with_one
from simulator.types import Array, Key, Params, Source, View


@dataclass(frozen=True)
class Masked:
    """A masked autoencoder (He et al. 2022, arXiv:2111.06377) trained on the diet's images, by weight and without their
    labels, then a logistic regression on its frozen features of clean labelled real training rows.

    `network(inputs, classes, rngs=...)` builds a flax.nnx module with `loss(key, images) -> []` and
    `features(images) -> [n, width]`, such as `generators.nets.masked.MaskedAutoencoder`; any other self-supervised loss
    will do.  The regression is that of `Tabular`, on features of mean 0 and variance 1.  `untrained` is the same of
    the network as it was before training: what pre-training adds is the difference.

    accuracy | share of held-out real rows whose class is said right | [0, 1] | higher is better | O(steps · batch)
    untrained | the same with the network's first weights | [0, 1] | neither | O(n)
    nll | mean negative log-likelihood of the right class | nats, >= 0 | lower is better | free
    loss | the network's loss of held-out real rows, after training | >= 0 | lower is better | O(n)
    rows | labelled real rows of the regression | count | neither | free
    reference_rows | held-out real rows judged | count | neither | free
    """

    network: Network
    steps: Count = 500  # optimizer steps
    batch: Count = 64  # rows per step, drawn in proportion to weight
    learning_rate: Positive = 2e-3  # of Adam, rising over a tenth of the steps, then falling to 0 along a cosine
    labelled: Count = 1000  # real training rows with labels, at most
    penalty: Positive = 1.0  # of the regression's squared coefficients

    __post_init__ = check

    def prepare(self, key: Key, source: Source) -> Rows:
        """Labelled real training rows, leaves [<= labelled, ...]."""
        rows = training(key, source, self.labelled)
        classes(rows)  # raises where there are no labels
        return rows

    def __call__(self, key: Key, view: View) -> dict[str, Any]:
        kinds = classes(view.reference)
        # Constants of the program: the barrier keeps the compiler from computing with them.
        known, test = jax.lax.optimization_barrier((view.prepared[self], view.reference))
        for_net, for_training, for_loss = jax.random.split(key, 3)
        inputs = jax.eval_shape(pictures, test).shape[1:]
        graph, first = started(self.network, inputs, kinds, for_net)
        params = self.train(for_training, graph, first, view.diet.held, view.diet.weight)
        log_p = jax.vmap(lambda p: self._read(graph, p, known, test, kinds))(
            jax.tree.map(lambda *leaves: jnp.stack(leaves), params, first)
        )  # [2, m, classes]
        accuracy = (log_p.argmax(-1) == test["label"]).mean(-1)  # [2]
        found = {
            "accuracy": accuracy[0],
            "nll": -jnp.take_along_axis(log_p[0], test["label"][:, None], 1).mean(),
            "loss": nnx.merge(graph, params).loss(for_loss, pictures(test)),
        }
        return {
            **where_finite(found, counted(view.diet.rows, view.diet.weight), log_p[0]),
            "untrained": where_finite(accuracy[1], log_p[1]),
            "rows": count(known),
            "reference_rows": count(test),
        }

    def train(self, key: Key, graph: Any, params: Params, rows: Rows | Shared, weight: Array) -> Params:
        """The parameters after `steps` steps of Adam on the network's loss of rows drawn by weight [n]."""
        for_batches, for_loss = jax.random.split(key)
        warm = max(1, self.steps // 10)
        schedule = optax.schedules.warmup_cosine_decay_schedule(
            0.0, self.learning_rate, warm, max(warm + 1, self.steps)
        )
        optimizer = optax.adam(schedule, b2=0.95)

        def step(carry: tuple[Params, Any], x: tuple[Array, Array]) -> tuple[tuple[Params, Any], None]:
            (params, state), (i, chosen) = carry, x
            batch = pictures(take(rows, chosen))  # [batch, h, w, c]
            slope = jax.grad(lambda p: nnx.merge(graph, p).loss(jax.random.fold_in(for_loss, i), batch))(params)
            update, state = optimizer.update(slope, state, params)
            return (optax.apply_updates(params, update), state), None

        index = draw(for_batches, weight, (self.steps, self.batch))  # [steps, batch]
        return jax.lax.scan(step, (params, optimizer.init(params)), (jnp.arange(self.steps), index))[0][0]

    def _read(self, graph: Any, params: Params, known: Rows, test: Rows, kinds: int) -> Array:
        """Log-probabilities of classes of test rows, [m, classes], by a regression on features of known rows."""
        embed = lambda rows: in_blocks(lambda block: nnx.merge(graph, params).features(pictures(block)), rows)  # noqa: E731
        x, y = embed(known), embed(test)  # [n, width], [m, width]
        mean, spread = x.mean(0), jnp.maximum(x.std(0), 1e-6)  # [width]
        ones = jnp.ones(x.shape[0])
        coef = logistic((x - mean) / spread, known["label"], ones, kinds, self.penalty)  # [width + 1, classes]
        return jax.nn.log_softmax(with_one((y - mean) / spread) @ coef)
