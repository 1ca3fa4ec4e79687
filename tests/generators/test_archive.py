"""A stored set says its own rows, by label, evenly, and learns nothing but how much each label weighs."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_mean

from generators import Archive
from simulator import Chain, Dataset, GenlossError, Pool
from simulator.running.drive import identity
from simulator.sources.split import Split


@dataclass(frozen=True)
class Tiny:
    """Rows whose one pixel is their number; label of each as given."""

    labels: tuple[int, ...] = (0, 1, 1, 2, 2, 2, 2)
    classes: int = 3

    @property
    def split(self) -> Split:
        n = len(self.labels)
        rows = {"image": np.arange(n, dtype=np.uint8).reshape(n, 1, 1, 1), "label": np.array(self.labels, np.int32)}
        return Split(rows, rows, tuple("abcdefgh"[: self.classes]), self.fingerprint)

    @property
    def fingerprint(self) -> str:
        return f"{self.labels}"


def numbers(rows: Any) -> list[int]:
    return np.asarray(rows["image"]).ravel().tolist()


def test_a_whole_archive_is_said_once():
    model = Archive(Dataset.digits())
    rows = jax.jit(model.sample, static_argnums=2)(jax.random.key(0), model.init(jax.random.key(1)), 1438)
    stored = model.dataset.split.train
    seen = [
        Counter(
            (image.tobytes(), int(label))
            for image, label in zip(*map(np.asarray, (r["image"], r["label"])), strict=True)
        )
        for r in (rows, stored)
    ]
    assert seen[0] == seen[1]
    assert not np.array_equal(rows["label"], stored["label"])  # and in another order
    assert (np.diff(rows["label"]) < 0).sum() > 400  # not class after class


def test_each_row_keeps_its_label_and_none_is_said_twice_too_soon():
    model = Archive(Tiny())
    mass = jnp.array([3.0, 3.0, 2.0])
    for seed in range(20):
        rows = model.sample(jax.random.key(seed), mass, 8)
        assert all(Tiny().labels[i] == label for i, label in zip(numbers(rows), rows["label"].tolist(), strict=True))
        counts = Counter(numbers(rows))
        assert sorted(counts[i] for i in (1, 2)) == [1, 2] and counts[0] == 3  # 3 of 2 rows, 3 of 1
        assert sorted(counts[i] for i in (3, 4, 5, 6)) == [0, 0, 1, 1]


def test_labels_have_their_share_and_rows_of_a_label_are_alike():
    model, mass = Archive(Tiny()), jnp.array([1.3, 0.0, 2.2])
    keys = jax.random.split(jax.random.key(0), 4000)
    rows = jax.jit(jax.vmap(lambda key: model.sample(key, mass, 5)))(keys)
    labels = np.asarray(rows["label"])  # [keys, 5]
    share = 5 * np.asarray(mass) / 3.5
    counts = np.stack([(labels == c).sum(1) for c in range(3)], 1)  # [keys, 3]
    assert ((counts >= np.floor(share)) & (counts <= np.ceil(share))).all()
    assert_mean(counts[:, [0, 2]], share[[0, 2]])
    assert_mean(labels == 2, share[2] / 5)  # wherever a row stands
    each = np.stack([(np.asarray(rows["image"])[..., 0, 0, 0] == i).sum(1) for i in range(3, 7)], 1)
    assert_mean(each, share[2] / 4)


def test_it_learns_label_shares_alone():
    model = Archive(Dataset.digits())
    rows = Dataset.digits().draw(jax.random.key(0), 200)
    weight = jnp.where(rows["label"] == 4, 0.0, 1.0 + rows["label"])
    params = model.init(jax.random.key(0))
    fitted = model.fit(jax.random.key(1), params, Pool.of(rows).weighed(weight))[0]
    other = {**rows, "image": 255 - rows["image"]}
    assert np.array_equal(fitted, model.fit(jax.random.key(2), params, Pool.of(other).weighed(weight))[0])
    assert np.allclose(fitted, np.bincount(rows["label"], weight, minlength=10))
    assert 4 not in model.sample(jax.random.key(3), fitted, 500)["label"]


def test_what_is_stored_is_part_of_the_run():
    runs = [
        identity(Chain(source=Dataset.digits(), generator=Archive(what)), jax.random.key(0))
        for what in (Tiny(), Tiny((0, 1, 2)))
    ]
    assert runs[0]["archive"] != runs[1]["archive"]


def test_what_cannot_stand_in_for_real_rows_is_named():
    chain = Chain(source=Dataset.digits(), generator=Archive(Tiny()), real=20, rows=20)
    word = r"archive Tiny has a row's image as uint8\[1, 1, 1\] and the source as uint8\[8, 8, 1\]"
    with pytest.raises(GenlossError, match=word):
        chain.init(jax.random.key(0), 1)
    with pytest.raises(GenlossError, match="no row of class 1"):
        Archive(Tiny((0, 0, 2))).init(jax.random.key(0))


def test_classes_that_are_not_archived_are_named():
    rows = {"image": np.zeros((2, 1, 1, 1), np.uint8), "label": np.array([0, 5], np.int32)}
    with pytest.raises(GenlossError, match="3 classes and the source has a label 5"):
        Archive(Tiny()).shaped(rows)
    with pytest.raises(GenlossError, match="holds rows of image, label"):
        Archive(Tiny()).shaped(np.zeros((2, 3)))
