"""What a generation does to models trained on it where the test set is not what it was: corrupted, or another one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from simulator.checks.fields import Count, Positive
from simulator.pool import Rows, count, take
from simulator.probes.classifier import Network, Rule, check, in_blocks, merged, train
from simulator.probes.corruptions import CORRUPTIONS, SEVERITIES
from simulator.probes.features import classes, pictures
from simulator.probes.finite import counted, where_finite
from simulator.sources.split import split_of
from simulator.types import Array, GenlossError, Key, Source, View


@dataclass(frozen=True)
class Robustness:
    """A classifier trained on the diet, as `Downstream` trains its first, judged by real rows under 15 corruptions of
    5 severities (Hendrycks & Dietterich 2019, arXiv:1903.12261) and by another data set with the same classes.

    The corruptions' chance is the same for all generations and chains, so they are judged by the same pictures.

    clean | share of held-out real rows whose class is said right | [0, 1] | higher is better | O(steps · batch)
    corrupted | the same of corrupted ones, mean over corruptions and severities | [0, 1] | higher is better | O(m · corruptions · severities)
    corruption | the same by corruption, mean over severities | [0, 1] | higher is better | free
    severity | the same by severity, mean over corruptions | [0, 1] | higher is better | free
    shifted | share of the other data set's held-out rows said right, where one is given | [0, 1] | higher is better | O(n)
    rows | rows of the diet with a weight | count | neither | free
    reference_rows | real rows judged | count | neither | free
    """  # noqa: E501

    network: Network
    steps: Count = 300  # optimizer steps
    batch: Count = 64  # rows per step, drawn in proportion to weight
    learning_rate: Positive = 3e-3  # falling to 0 along a cosine
    rule: Rule = "adam"  # what is made of gradients; or muon
    augment: bool = False  # shift each image of a batch by up to an eighth of its side
    flips: bool = False  # and mirror every second one
    corruptions: tuple[str, ...] = tuple(CORRUPTIONS)
    severities: tuple[int, ...] = SEVERITIES
    most: Count = 1000  # real rows that are corrupted, at most
    shifted: Source | None = None  # another data set of the same classes, such as Dataset("path"), its held-out rows

    def __post_init__(self) -> None:
        check(self)
        if unknown := sorted(set(self.corruptions) - set(CORRUPTIONS)):
            raise GenlossError(f"There is no corruption '{unknown[0]}'; there are: {', '.join(CORRUPTIONS)}.")
        if not self.corruptions or not self.severities or not set(self.severities) <= set(SEVERITIES):
            raise GenlossError(f"Robustness takes severities from 1 to 5 and a corruption, not {self.severities}.")

    def prepare(self, key: Key, source: Source) -> Rows | None:
        """Held-out rows of the other data set, leaves [<= 10,000, ...]; None where there is none."""
        if self.shifted is None:
            return None
        split = split_of(self.shifted)
        n = 1000 if split is None else min(count(split.test), 10_000)
        return self.shifted.draw(key, n, held_out=True)

    def __call__(self, key: Key, view: View) -> dict[str, Any]:
        kinds = classes(view.reference)
        params = train(self, key, view.diet.held, view.diet.weight, pictures, kinds)
        # Constants of the program: the barrier keeps the compiler from computing with them.
        test, shifted = jax.lax.optimization_barrier((view.reference, view.prepared.get(self)))
        inputs = jax.eval_shape(pictures, test).shape[1:]
        network = merged(self.network, inputs, kinds, params)

        def right(rows: Rows) -> Array:
            said = in_blocks(lambda block: network(pictures(block)), rows)  # [n, classes]
            return (said.argmax(-1) == rows["label"]).mean()

        judged = take(test, jnp.arange(min(self.most, count(test))))
        table = jnp.stack([self._under(name, judged, right) for name in self.corruptions])  # [corruptions, severities]
        found = {
            "clean": right(test),
            "corrupted": table.mean(),
            "corruption": dict(zip(self.corruptions, table.mean(1), strict=True)),
            "severity": {str(s): accuracy for s, accuracy in zip(self.severities, table.mean(0), strict=True)},
        }
        if shifted is not None:
            if (shape := jax.eval_shape(pictures, shifted).shape[1:]) != inputs:
                raise GenlossError(
                    f"Rows of the shifted data set are {list(shape)} and the chain's {list(inputs)}; set its `side`."
                )
            found["shifted"] = right(shifted)
        return {
            **where_finite(found, counted(view.diet.rows, view.diet.weight), params),
            "rows": (view.diet.weight > 0).sum(),
            "reference_rows": count(judged),
        }

    def _under(self, name: str, rows: Rows, right: Any) -> Array:
        """Accuracy at each severity of a corruption, [severities]."""
        key = jax.random.fold_in(jax.random.key(0), tuple(CORRUPTIONS).index(name))
        at = lambda s: right({**rows, "image": CORRUPTIONS[name](key, rows["image"], s)})  # noqa: E731
        return jax.lax.map(at, jnp.asarray(self.severities))
