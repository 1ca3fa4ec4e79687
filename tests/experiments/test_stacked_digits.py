"""Classes of three digits: what is drawn, and what the probe counts of it."""

from typing import Any

import jax
import numpy as np

from experiments.images.stacked_digits import StackedDigits, Stacks
from simulator import Dataset
from simulator.types import View

KEY = jax.random.key(0)


def test_each_channel_is_a_digit_of_its_split_and_the_label_says_which():
    rows = jax.jit(lambda: [StackedDigits().draw(KEY, 500, held_out) for held_out in (False, True)])()
    for found, split in zip(rows, (Dataset.digits().split.train, Dataset.digits().split.test), strict=True):
        known = {image.tobytes(): int(label) for image, label in zip(split["image"], split["label"], strict=True)}
        image, label = np.asarray(found["image"]), np.asarray(found["label"])
        digits = np.array(
            [[known[np.ascontiguousarray(one[..., i : i + 1]).tobytes()] for i in range(3)] for one in image]
        )
        assert (digits @ [100, 10, 1] == label).all() and len(np.unique(label)) > 300


def test_classes_are_counted_as_a_classifier_of_single_digits_reads_them():
    """Of real rows nearly as their labels say; of copies of one row one class, log 1000 nats from evenness."""
    probe, source = Stacks(steps=300), StackedDigits()

    @jax.jit
    def seen(key: Any) -> Any:
        learned = probe.prepare(key, source)
        rows = source.draw(key, 2000)
        nothing: Any = [None] * len(View._fields)
        view = View(*nothing)._replace(prepared={probe: learned}, synthetic=rows)
        one = jax.tree.map(lambda a: a[:1].repeat(50, 0), rows)
        return probe(key, view), probe(key, view._replace(synthetic=one)), rows["label"]

    many, one, label = seen(KEY)
    share = np.bincount(label, minlength=1000) / 2000
    kl = (share[share > 0] * np.log(1000 * share[share > 0])).sum()
    assert many["right"] > 0.93 and abs(many["covered"] - (share > 0).sum()) < 30 and abs(many["kl"] - kl) < 0.05
    assert one["covered"] == 1 and np.isclose(one["kl"], np.log(1000), atol=1e-4)
