"""What a generation does to models trained on it: how right and how sure they are of held-out real rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from simulator.checks.fields import Count, Positive, Whole
from simulator.pool import count, gathered, joined
from simulator.probes.classifier import Network, Rule, check, in_blocks, merged, train
from simulator.probes.features import classes, pictures
from simulator.probes.finite import counted, where_finite
from simulator.types import Array, GenlossError, Key, View

BINS = 15  # of the calibration error
Sense = Literal["diet", "samples"]


@dataclass(frozen=True)
class Downstream:
    """A classifier trained on the diet, and one trained on samples only, judged by held-out real rows.

    diet: what a contaminated data set does to its users; samples: the classification accuracy score (Ravuri & Vinyals
    2019, arXiv:1905.10887).  Both classifiers start at the same weights and train by Adam on cross-entropy for the same
    fixed number of steps; they, and those of all chains of an ensemble, are one program.

    `network(inputs, classes, rngs=...)` builds a flax.nnx module from rows [n, *inputs] to logits [n, classes]; inputs
    is the shape of an image, (h, w, c), or, of `features` and points, the length of a vector.  With frozen features
    and a linear network it is the linear probe; texts {"x": tokens, "label"} are read by `features=HashedNgrams()`.

    For each of the senses s, diet and samples (calibration: expected calibration error, 15 equal bins of confidence,
    Guo et al. 2017, arXiv:1706.04599, eq. 3):

    s.accuracy | share of real rows whose class is said right | [0, 1] | higher is better | O(steps · batch)
    s.class | the same by class; NaN where no real row has it | [0, 1] | higher is better | O(steps · batch)
    s.worst | the accuracy of the class that is worst | [0, 1] | higher is better | O(steps · batch)
    s.calibration | mean gap between confidence and accuracy over bins of confidence | [0, 1] | lower is better | O(n)
    s.nll | mean negative log-likelihood of the right class | nats, >= 0 | lower is better | O(n)
    rows | samples that the second classifier is trained on | count | neither | free
    reference_rows | real rows that both are judged by | count | neither | free
    """

    network: Network
    steps: Count = 300  # optimizer steps
    batch: Count = 64  # rows per step, drawn in proportion to weight
    learning_rate: Positive = 3e-3  # falling to 0 along a cosine
    rule: Rule = "adam"  # what is made of gradients; or muon
    features: Callable[..., Array] | None = None  # a feature space, kept as it is; None: the network sees the rows
    augment: bool = False  # shift each image of a batch by up to an eighth of its side
    flips: bool = False  # and mirror every second one
    senses: tuple[Sense, ...] = ("diet", "samples")  # which of the two are trained
    since: Whole = 0  # generation from which on they are; before, all that is said of them is NaN

    def __post_init__(self) -> None:
        check(self)
        if not self.senses:
            raise GenlossError('`senses` names nothing to train on; give it "diet", "samples" or both.')

    def __call__(self, key: Key, view: View) -> dict[str, Any]:
        found = lambda: self._found(key, view)  # noqa: E731
        if not self.since:
            return found()
        unknown = lambda: jax.tree.map(lambda a: jnp.full(a.shape, jnp.nan, a.dtype), jax.eval_shape(found))  # noqa: E731
        return jax.lax.cond(view.t >= self.since, found, unknown)

    def _found(self, key: Key, view: View) -> dict[str, Any]:
        kinds = classes(view.reference)
        n, capacity = count(view.synthetic), view.diet.capacity
        rows = joined(view.diet.held, view.synthetic)  # [capacity + n]
        weights = {
            "diet": jnp.concatenate([view.diet.weight, jnp.zeros(n)]),
            "samples": jnp.concatenate([jnp.zeros(capacity), jnp.ones(n)]),
        }  # [capacity + n] each
        read = pictures if self.features is None else partial(view.embed, self.features)
        # The reference is a constant of the program: the barrier keeps the compiler from computing with it.
        x, y = jax.lax.optimization_barrier((view.reference, view.reference["label"]))  # leaves [m, ...], [m]
        if self.features is not None and not self.augment and capacity + n <= self.steps * self.batch:
            # Fewer rows than are drawn: each is embedded once.
            parts = (gathered(rows), x)
            rows, x = ({"features": in_blocks(read, part), "label": part["label"]} for part in parts)
            read = lambda rows: rows["features"]  # noqa: E731

        def judged(weight: Array) -> Array:
            params = train(self, key, rows, weight, read, kinds)
            inputs = jax.eval_shape(read, x).shape[1:]
            network = merged(self.network, inputs, kinds, params)
            return in_blocks(lambda block: network(read(block)), x)  # [m, classes]

        logits = jax.vmap(judged)(jnp.stack([weights[sense] for sense in self.senses]))  # [senses, m, classes]
        found = jax.vmap(lambda said: scores(said, y))(logits)  # leaves [senses, ...]
        senses = {
            sense: where_finite(
                {name: leaf[i] for name, leaf in found.items()}, counted(gathered(rows), weights[sense])
            )
            for i, sense in enumerate(self.senses)
        }
        return {**senses, "rows": jnp.float32(n), "reference_rows": jnp.float32(y.shape[0])}


def scores(logits: Array, label: Array) -> dict[str, Array]:
    """What `Downstream` reports of logits [m, classes] for rows whose class is label [m]."""
    logits = jnp.asarray(logits, jnp.float32)
    kinds = logits.shape[1]
    right = (logits.argmax(-1) == label).astype(jnp.float32)  # [m]
    members = jax.nn.one_hot(label, kinds)  # [m, classes]
    by_class = right @ members / members.sum(0)  # [classes]
    found = {
        "accuracy": right.mean(),
        "worst": jnp.nanmin(by_class),
        "class": by_class,
        "calibration": calibration(jax.nn.softmax(logits).max(-1), right),
        "nll": optax.softmax_cross_entropy_with_integer_labels(logits, label).mean(),
    }
    return where_finite(found, logits)


def calibration(confidence: Array, right: Array, bins: int = BINS) -> Array:
    """Σ_b |B_b|/m · |acc(B_b) - conf(B_b)| over bins (i/bins, (i+1)/bins] of confidence [m]; right [m] is 0 or 1."""
    place = jnp.clip(jnp.ceil(confidence * bins).astype(jnp.int32) - 1, 0, bins - 1)  # [m]
    gap = jnp.zeros(bins).at[place].add(right - confidence)  # [bins]: |B_b| (acc - conf)
    return jnp.abs(gap).sum() / confidence.shape[0]
