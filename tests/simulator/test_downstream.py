"""Classifiers trained on what a generation leaves: as good as others', in both senses, sure of what they know."""

import itertools
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_mean
from flax import nnx
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.neural_network import MLPClassifier

from experiments.bench.classifiers import CIFAR, FASHION
from generators import Gaussian
from generators.nets.affine import Affine
from generators.nets.mixer import Mixer
from generators.nets.mlp import MLP
from simulator import Dataset, GenlossError, Pool, View
from simulator.pool import take
from simulator.probes import Downstream
from simulator.probes.classifier import augmented, started, train
from simulator.probes.downstream import calibration, scores
from simulator.probes.features import Learned, flat
from simulator.probes.mauve import HashedNgrams
from simulator.sources.text import Text

CHANCE = np.random.default_rng(0)
DOWNSTREAM = Downstream(partial(MLP, hidden=(64,)))


def digits(n: int) -> tuple[Any, Any]:
    source = Dataset.digits()
    return source.draw(jax.random.key(1), n), source.draw(jax.random.key(0), 359, held_out=True)


def probe(
    what: Any, synthetic: Any, reference: Any, diet: Pool | None = None, t: int = 0, **learned: Any
) -> dict[str, Any]:
    @jax.jit
    def measured(diet: Pool, synthetic: Any) -> dict[str, Any]:
        return what(jax.random.key(0), View(jnp.int32(t), None, diet, synthetic, reference, Gaussian(2), **learned))

    return measured(diet or Pool.of(synthetic), synthetic)


def test_labelled_texts_are_told_apart_by_their_ngrams():
    """Windows of English are of class 0, letters in another order of class 1; samples have any label."""
    windows = Text(length=40).split.train[:900]
    x = np.concatenate([windows[:450], CHANCE.permuted(windows[450:], axis=1)])
    order, label = CHANCE.permutation(900), np.repeat([0, 1], 450)
    rows = {"x": jnp.asarray(x[order]), "label": jnp.asarray(label[order])}
    learned, test = take(rows, jnp.arange(600)), take(rows, jnp.arange(600, 900))
    space = HashedNgrams(2, 128)
    what = Downstream(Affine, features=space, steps=200, learning_rate=0.05)
    mixed = {**learned, "label": jnp.asarray(CHANCE.permutation(learned["label"]))}
    found = probe(what, mixed, test, Pool.of(learned))
    reference = LogisticRegression(C=100.0).fit(np.asarray(space(learned)), learned["label"])
    expected = reference.score(np.asarray(space(test)), test["label"])
    assert float(found["diet"]["accuracy"]) > expected - 0.04 > 0.7
    assert abs(float(found["samples"]["accuracy"]) - 0.5) < 5 * 0.5 / np.sqrt(300)


def test_classifiers_are_as_good_as_scikit_learns():
    rows, test = digits(1000)
    found = probe(DOWNSTREAM, rows, test)
    reference = MLPClassifier((64,), max_iter=60, random_state=0, learning_rate_init=3e-3)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own word that 60 epochs may be too few
        reference.fit(flat(rows), rows["label"])
    expected = reference.score(flat(test), test["label"])
    for sense in ("diet", "samples"):
        assert float(found[sense]["accuracy"]) > expected - 0.02
    assert float(found["rows"]) == 1000 and float(found["reference_rows"]) == 359


def test_each_sense_learns_from_its_own_rows():
    """A diet of right labels and samples of wrong ones; weight 0 hides wrong rows in the diet."""
    rows, test = digits(800)
    wrong = {**rows, "label": (rows["label"] + 1) % 10}
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), rows, wrong)
    diet = Pool.of(both).weighed(jnp.concatenate([jnp.ones(800), jnp.zeros(800)]))
    found = probe(DOWNSTREAM, wrong, test, diet=diet)
    assert float(found["diet"]["accuracy"]) > 0.9 and float(found["samples"]["accuracy"]) < 0.05
    assert float(found["samples"]["calibration"]) > 0.8 > float(found["diet"]["calibration"]) + 0.7  # sure, and wrong


def test_accuracy_by_class():
    rows, test = digits(800)
    few = take(rows, jnp.flatnonzero(rows["label"] != 3))  # a class that is gone
    found = probe(DOWNSTREAM, few, test)["samples"]
    counts = np.bincount(np.asarray(test["label"]))
    assert float(found["worst"]) == float(found["class"][3]) == 0.0
    assert float(found["accuracy"]) == pytest.approx(float((found["class"] * counts).sum() / counts.sum()), rel=1e-5)


@pytest.mark.slow
def test_a_network_of_generation_zero_serves_as_training_data():
    """A classifier trained on the samples of the digits experiment's first generation: >= 85 % on real digits."""
    from experiments.images.digits import chain
    from simulator import run
    from simulator.recipe import Replace
    from simulator.running import spec

    found = run(spec.override(chain, {"recipe": Replace()}), jax.random.key(5), 1, replicates=2)
    assert np.asarray(found["downstream.samples.accuracy"]).min() >= 0.85
    assert np.asarray(found["downstream.diet.accuracy"]).min() >= 0.93


# What is reported of logits.


def by_hand(confidence: np.ndarray, right: np.ndarray, bins: int) -> float:
    """The expected calibration error, one bin after the other."""
    edges, total = np.linspace(0, 1, bins + 1), 0.0
    for low, high in itertools.pairwise(edges):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


@pytest.mark.parametrize("sharpness", [0.1, 1.0, 10.0])
def test_scores_against_scikit_learn_scipy_and_by_hand(sharpness: float):
    logits = (CHANCE.normal(size=(500, 7)) * sharpness).astype(np.float32)
    label = CHANCE.integers(0, 6, 500).astype(np.int32)  # no row of the last class
    found = scores(jnp.asarray(logits), jnp.asarray(label))
    log_shares = log_softmax(logits.astype(np.float64), axis=1)
    shares, said = np.exp(log_shares), log_shares.argmax(1)
    by_class = [accuracy_score(label[label == c], said[label == c]) for c in range(6)]
    assert float(found["accuracy"]) == pytest.approx(accuracy_score(label, said), rel=1e-6)
    assert np.allclose(found["class"][:6], by_class, rtol=1e-6) and np.isnan(found["class"][6])
    assert float(found["worst"]) == pytest.approx(min(by_class), rel=1e-6)
    assert float(found["nll"]) == pytest.approx(-log_shares[np.arange(500), label].mean(), rel=1e-5)
    assert float(found["calibration"]) == pytest.approx(by_hand(shares.max(1), said == label, 15), abs=1e-5)


def test_calibration_of_the_calibrated_and_of_the_sure():
    confidence = jax.random.uniform(jax.random.key(0), (200_000,), minval=0.2)
    right = (jax.random.uniform(jax.random.key(1), confidence.shape) < confidence).astype(jnp.float32)
    assert float(calibration(confidence, right)) < 0.01  # E|gap| of 15 bins of 16,000 rows: 0.003
    assert float(calibration(jnp.ones(100), jnp.zeros(100))) == 1.0
    assert float(calibration(jnp.full(100, 0.75), jnp.arange(100) % 4 > 0)) == pytest.approx(0, abs=1e-6)


# Training.


@pytest.mark.slow
def test_an_ensemble_trains_as_each_of_it_alone():
    rows, test = digits(120)
    what = Downstream(partial(Mixer, width=8, depth=1), steps=4, batch=16)

    def measured(key: jax.Array, rows: Any) -> Any:
        return what(key, View(jnp.int32(0), None, Pool.of(rows), rows, test, Gaussian(2)))

    keys = jax.random.split(jax.random.key(0), 3)
    chains = [take(rows, jnp.arange(40 * i, 40 * i + 40)) for i in range(3)]
    together = jax.jit(jax.vmap(measured))(keys, jax.tree.map(lambda *a: jnp.stack(a), *chains))
    alone = jax.jit(measured)
    for i in range(3):
        one = alone(keys[i], chains[i])
        for sense in ("diet", "samples"):
            assert float(together[sense]["nll"][i]) == pytest.approx(float(one[sense]["nll"]), rel=1e-4)
            assert float(together[sense]["accuracy"][i]) == pytest.approx(float(one[sense]["accuracy"]), abs=2.1 / 359)


def test_the_learning_rate_falls_to_nothing_along_a_cosine():
    """Of a gradient that stays the same Adam makes steps of the rate: in all lr Σ (1 + cos(πt/T))/2 = lr (T + 1)/2."""
    plan = Downstream(Affine, steps=20, batch=2, learning_rate=1e-4)
    rows = {"x": jnp.ones((4, 1)), "label": jnp.zeros(4, jnp.int32)}
    bias = train(plan, jax.random.key(0), rows, jnp.ones(4), lambda r: r["x"], 2)["head"]["bias"]  # from 0
    assert np.asarray(bias) == pytest.approx(1e-4 * 21 / 2 * np.array([1, -1]), rel=0.01)


def test_weight_two_is_the_row_twice():
    """Rows that differ in label alone: the log-odds learned are those of the weights, whichever way they are given."""
    plan = Downstream(Affine, steps=200, batch=32, learning_rate=0.05)
    rows = {"x": jnp.ones((30, 1)), "label": (jnp.arange(30) % 2).astype(jnp.int32)}
    twice = take(rows, jnp.concatenate([jnp.arange(30), jnp.arange(1, 30, 2)]))

    @partial(jax.jit, static_argnums=0)
    def odds(n: int, rows: Any, weight: jax.Array, key: jax.Array) -> jax.Array:
        def learned(key: jax.Array) -> jax.Array:
            head = train(plan, key, rows, weight, lambda r: r["x"], 2)["head"]
            logits = head["kernel"].sum(0) + head["bias"]  # [2]
            return logits[1] - logits[0]

        return jax.vmap(learned)(jax.random.split(key, n))

    weighted = odds(400, rows, 1.0 + rows["label"], jax.random.key(0))
    doubled = odds(400, twice, jnp.ones(45), jax.random.key(1))
    hidden = odds(400, twice, jnp.where(jnp.arange(45) < 30, 1.0, 0.0), jax.random.key(2))
    assert_mean(weighted - doubled, 0.0)
    assert_mean(hidden, 0.0)
    assert float(weighted.mean()) == pytest.approx(np.log(2), abs=0.05)


@pytest.mark.slow
def test_the_linear_probe_of_frozen_features():
    """Features computed once for all rows, or batch by batch, are the same training; learned ones beat pixels."""
    rows, test = digits(600)
    linear = partial(Downstream, Affine, learning_rate=0.03)
    plain = probe(linear(steps=40), rows, test)
    once = probe(linear(steps=40, features=flat), rows, test)  # 1,200 rows < 40·64 drawn
    for sense in ("diet", "samples"):
        assert float(plain[sense]["nll"]) == pytest.approx(float(once[sense]["nll"]), rel=1e-4)
    space = Learned(partial(MLP, hidden=(64,)), steps=200, learning_rate=1e-2)
    prepared = {space: space.prepare(jax.random.key(3), Dataset.digits())}
    learned = probe(linear(steps=40, features=space), rows, test, prepared=prepared)
    assert float(learned["diet"]["nll"]) < float(plain["diet"]["nll"])
    assert float(learned["diet"]["accuracy"]) > 0.9
    batches = probe(linear(steps=10, features=space), rows, test, prepared=prepared)  # 640 drawn: batch by batch
    embedded = [{"image": space(part, prepared[space]), "label": part["label"]} for part in (rows, test)]
    beforehand = probe(linear(steps=10), embedded[0], embedded[1])
    assert float(batches["diet"]["nll"]) == pytest.approx(float(beforehand["diet"]["nll"]), rel=1e-4)


def test_muon_steps_a_matrix_the_same_way_in_all_directions():
    """The first step of 6 x 3 weights: all singular values near the rate, where Adam makes larger ones; of a bias,
    Adam's with Nesterov's momentum at a tenth of it.  Of 3 x 6 weights near the rate times √(6/3).
    """
    for inputs, kinds, scale in ((6, 3, 1.0), (3, 6, 2**0.5)):
        rows = {"x": jax.random.normal(jax.random.key(1), (200, inputs)) ** 3, "label": jnp.arange(200) % kinds}
        moved = {}
        for rule in ("adam", "muon"):
            plan = Downstream(Affine, steps=1, batch=200, learning_rate=1e-3, rule=rule)
            end = train(plan, jax.random.key(0), rows, jnp.ones(200), lambda r: r["x"], kinds)["head"]
            begin = started(Affine, (inputs,), kinds, jax.random.split(jax.random.key(0), 3)[0])[1]["head"]
            moved[rule] = jax.tree.map(lambda a, b: np.asarray(a - b), end, begin)
        rank = min(inputs, kinds - 1)  # of a gradient of cross-entropy, whose columns add to 0
        values = {rule: np.linalg.svd(of["kernel"])[1][:rank] / 1e-3 for rule, of in moved.items()}
        assert 0.6 * scale < values["muon"].min() and values["muon"].max() < 1.3 * scale  # Jordan: 0.68 to 1.13
        assert values["adam"].max() > 1.5 * scale
        assert np.abs(moved["muon"]["bias"]) == pytest.approx(1e-4 * (1 + 0.09 / 0.19), rel=1e-3)  # Nesterov's


def test_what_is_asked_for_alone_is_trained():
    """One sense is said as it is said beside the other; before its generation there is no number."""
    rows, test = digits(200)
    small = partial(Downstream, partial(MLP, hidden=(8,)), steps=20)
    both, diet = probe(small(), rows, test), probe(small(senses=("diet",), since=1), rows, test, t=1)
    assert "samples" not in diet
    for name, value in diet["diet"].items():
        assert np.allclose(value, both["diet"][name], rtol=1e-5)
    before = probe(small(senses=("diet",), since=1), rows, test, t=0)
    assert all(np.isnan(leaf).all() for leaf in jax.tree.leaves(before))


# Augmentation.


@pytest.mark.parametrize("flips", [False, True])
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_augmentation_moves_each_image_and_nothing_else(flips: bool, kind: Any):
    """Every output is one of the shifts of its own image, mirrored or not, and all of these are equally common."""
    n, side, reach = 2000, 16, 2
    image = CHANCE.integers(1, 256, (n, side, side, 1)).astype(kind)
    found = np.asarray(augmented(jax.random.key(0), jnp.asarray(image), flips))
    assert found.shape == image.shape and found.dtype == image.dtype
    padded = np.pad(image, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    counts = []
    for mirrored in (False, True):
        for i in range(2 * reach + 1):
            for j in range(2 * reach + 1):
                moved = padded[:, i : i + side, j : j + side]
                counts.append((found == (moved[:, :, ::-1] if mirrored else moved)).all((1, 2, 3)).sum())
    used = np.array(counts if flips else counts[:25])
    assert used.sum() == n  # each once
    share = 1 / len(used)
    assert np.abs(used - n * share).max() < 5 * np.sqrt(n * share * (1 - share))


@pytest.mark.slow
def test_augmentation_teaches_where_things_may_be():
    rows, test = digits(1000)
    moved = {**test, "image": jnp.pad(test["image"], ((0, 0), (1, 0), (0, 0), (0, 0)))[:, :-1]}  # one pixel down
    off, on = (Downstream(partial(MLP, hidden=(64,)), steps=600, augment=augment) for augment in (False, True))
    without, with_it = (float(probe(what, rows, moved)["diet"]["accuracy"]) for what in (off, on))
    assert with_it > without + 0.2


# What is refused.


def test_what_cannot_be_trained_is_said():
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"steps": 0}, "steps"),
        ({"batch": 0}, "batch"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"flips": True}, "augment"),
        ({"senses": ()}, "senses"),
        ({"rule": "sgd"}, "rule"),
    ]
    for fields, word in wrong:
        with pytest.raises(GenlossError, match=word):
            Downstream(MLP, **fields)
    rows, test = digits(50)
    with pytest.raises(GenlossError, match="label"):
        probe(DOWNSTREAM, rows["image"], test["image"])
    with pytest.raises(GenlossError, match="running statistics"):
        probe(Downstream(WithStatistics, steps=1), rows, test)
    points = {"x": jnp.zeros((4, 2)), "label": jnp.zeros(4, jnp.int32)}
    with pytest.raises(GenlossError, match="augment"):
        train(Downstream(Affine, augment=True), jax.random.key(0), points, jnp.ones(4), lambda r: r["x"], 2)


class WithStatistics(nnx.Module):
    """A network whose normalisation must be carried from step to step."""

    def __init__(self, inputs: Any, outputs: int, *, rngs: nnx.Rngs):
        self.norm = nnx.BatchNorm(1, rngs=rngs)
        self.head = Affine(inputs, outputs, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.head(self.norm(x))


# Real images, full size.


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize(
    "data, space, least",
    [
        ("fashion_mnist", FASHION["ConvNet"], 0.91),
        ("fashion_mnist", FASHION["Mixer"], 0.89),
        ("cifar10", CIFAR["LightNet, Muon"], 0.65),
    ],
    ids=["ConvNet", "Mixer", "LightNet"],
)
def test_networks_learn_real_images(real_data: Path, data: str, space: Learned, least: float):
    """All training images, judged by all 10,000 others: not below `least` by three standard errors of a share of
    these, since rounding alone, which differs from one kind of processor to the next, has moved it by 0.002.
    """
    source = Dataset.load(real_data / data)
    learned = space.prepare(jax.random.key(0), source)
    test = jax.tree.map(jnp.asarray, source.split.test)
    logits = jax.jit(space.logits)(test, learned)
    right = float((logits.argmax(-1) == test["label"]).mean())
    assert right + 3 * (right * (1 - right) / len(test["label"])) ** 0.5 >= least
