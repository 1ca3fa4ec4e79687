"""How varied samples are, against independent implementations and against what it must be."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from vendi_score import vendi as reference_vendi

from generators import Gaussian
from simulator import GenlossError, Pool, View
from simulator.probes import Diversity
from simulator.probes.diversity import Modes, Vendi

CHANCE = np.random.default_rng(0)


def view_of(synthetic: Any, reference: Any, prepared: dict[Any, Any] | None = None) -> View:
    synthetic, reference = (jax.tree.map(jnp.asarray, rows) for rows in (synthetic, reference))
    diet = Pool.of(synthetic)
    return View(jnp.int32(0), None, diet, synthetic, reference, Gaussian(2), prepared=prepared or {})


def probe(what: Any, *arguments: Any) -> dict[str, Any]:
    view = view_of(*arguments)
    return jax.jit(lambda synthetic: what(jax.random.key(0), view._replace(synthetic=synthetic)))(view.synthetic)


def points(n: int, d: int, scale: float = 1.0, shift: float = 0.0) -> np.ndarray:
    return (CHANCE.normal(size=(n, d)) * scale + shift).astype(np.float32)


@pytest.mark.parametrize("shape", [(100, 6), (5, 40)])
def test_variance_and_participation_against_numpy(shape: tuple[int, int]):
    x = points(*shape) * np.linspace(0.1, 2, shape[1], dtype=np.float32)
    found = probe(Diversity(), x, x)
    eigenvalues = np.linalg.eigvalsh(np.cov(x.T))
    assert float(found["variance"]) == pytest.approx(eigenvalues.sum(), rel=1e-4)
    assert float(found["participation"]) == pytest.approx(eigenvalues.sum() ** 2 / (eigenvalues**2).sum(), rel=1e-4)
    assert int(found["rows"]) == shape[0]


# The Vendi score.


@pytest.mark.parametrize("shape", [(80, 6), (12, 40)])
def test_vendi_of_cosines_against_its_library(shape: tuple[int, int]):
    x = points(*shape, shift=0.5)
    expected = reference_vendi.score_dual(x.astype(float))
    assert float(probe(Diversity(), x, x)["vendi"]) == pytest.approx(expected, rel=1e-4)
    assert float(probe(Vendi(), x, x)["vendi"]) == pytest.approx(expected, rel=1e-4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # where the library looks for scipy's sparse matrices
@pytest.mark.parametrize("bandwidth", [0.7, None])
def test_vendi_of_rbf_against_its_library(bandwidth: float | None):
    x, real = points(60, 3), points(90, 3, 2.0)
    squared = ((x[:, None].astype(float) - x[None]) ** 2).sum(-1)
    scale = bandwidth or np.sqrt(np.trace(np.cov(real.T)))
    expected = reference_vendi.score_K(np.exp(-squared / (2 * scale**2)))
    assert float(probe(Vendi(kernel="rbf", bandwidth=bandwidth), x, real)["vendi"]) == pytest.approx(expected, rel=1e-4)


def test_vendi_counts_different_rows():
    axes = np.eye(12, dtype=np.float32)
    for kernel in (Vendi(), Vendi(kernel="rbf", bandwidth=0.05)):
        assert float(probe(kernel, axes, axes)["vendi"]) == pytest.approx(12, rel=1e-5)
        four = np.repeat(axes[:4], 5, axis=0)
        assert float(probe(kernel, four, axes)["vendi"]) == pytest.approx(4, rel=1e-4)
        assert float(probe(kernel, np.repeat(axes[:1], 9, axis=0), axes)["vendi"]) == pytest.approx(1, rel=1e-4)
    uneven = np.concatenate([np.repeat(axes[:1], 9, axis=0), axes[1:2]])  # exp of the entropy of 0.9, 0.1
    assert float(probe(Vendi(), uneven, axes)["vendi"]) == pytest.approx(
        np.exp(scipy.stats.entropy([0.9, 0.1])), rel=1e-4
    )
    assert float(probe(Vendi(), axes * 0, axes)["vendi"]) == 1


def test_the_yardstick_of_rbf_does_not_shrink_with_the_samples():
    real = points(100, 4)
    scores = [float(probe(Vendi(kernel="rbf"), real * scale, real)["vendi"]) for scale in (1, 0.3, 0.1, 0)]
    assert scores == sorted(scores, reverse=True) and scores[-1] == pytest.approx(1, rel=1e-4)


def test_rbf_takes_no_more_rows_than_it_may():
    x = points(50, 3)
    found = probe(Vendi(kernel="rbf", bandwidth=1.0, most=20), x, x)
    assert int(found["rows"]) == 20
    assert float(found["vendi"]) == float(probe(Vendi(kernel="rbf", bandwidth=1.0), x[:20], x)["vendi"])


@pytest.mark.parametrize(
    "fields, word", [({"kernel": "linear"}, "cosine"), ({"bandwidth": 0.0}, "above 0"), ({"most": 0}, "at least 1")]
)
def test_vendi_refuses(fields: dict[str, Any], word: str):
    with pytest.raises(GenlossError, match=word):
        Vendi(**fields)


# Labels.


def labelled(n: int, kinds: int = 5) -> dict[str, np.ndarray]:
    label = CHANCE.integers(0, kinds, n).astype(np.int32)
    return {"image": points(n, 4) + 2 * label[:, None].astype(np.float32), "label": label}


def test_label_entropy_and_histogram_against_scipy():
    rows = labelled(200)
    rows["label"][rows["label"] == 3] = 2  # an empty class
    reference = {**rows, "label": np.arange(200, dtype=np.int32) % 6}
    histogram = np.bincount(rows["label"], minlength=6)
    found = probe(Diversity(), rows, reference)
    assert float(found["label_entropy"]) == pytest.approx(scipy.stats.entropy(histogram), rel=1e-5)
    assert np.allclose(found["labels"], histogram / 200)


def test_variance_within_and_between_classes_against_numpy():
    rows = labelled(200)
    x, label = rows["image"].astype(float), rows["label"]
    groups = [x[label == c] for c in range(5)]
    within = sum(((g - g.mean(0)) ** 2).sum() for g in groups) / 199
    between = sum(len(g) * ((g.mean(0) - x.mean(0)) ** 2).sum() for g in groups) / 199
    reference = {**rows, "label": np.arange(200, dtype=np.int32) % 7}  # classes that no sample has
    found = probe(Diversity(), rows, reference)
    assert float(found["within_class"]) == pytest.approx(within, rel=1e-4)
    assert float(found["between_class"]) == pytest.approx(between, rel=1e-4)
    assert float(found["variance"]) == pytest.approx(within + between, rel=1e-4)
    # one row per class: nothing within, to the precision of the rows and not of the variance
    alike = {"image": np.repeat(points(5, 4, 10.0, 100.0), 40, axis=0), "label": np.repeat(np.arange(5), 40)}
    assert float(probe(Diversity(), alike, alike)["within_class"]) < 1e-8


def test_order_of_rows_does_not_matter_and_chains_equal_one_by_one():
    rows = labelled(200)
    view, order = view_of(rows, rows), CHANCE.permutation(200)
    shuffled = {name: leaf[order] for name, leaf in rows.items()}

    def measured(synthetic: Any) -> dict[str, jax.Array]:
        return jax.tree.map(jnp.asarray, Diversity()(jax.random.key(0), view._replace(synthetic=synthetic)))

    both = jax.tree.map(lambda a, b: jnp.stack([jnp.asarray(a), jnp.asarray(b)]), rows, shuffled)
    together = jax.jit(jax.vmap(measured))(both)
    alone = measured(jax.tree.map(jnp.asarray, rows))
    for name, value in alone.items():
        assert np.allclose(together[name][0], value, rtol=1e-4)
        assert np.allclose(together[name][0], together[name][1], rtol=1e-4)


def test_one_row_and_rows_without_labels():
    found = probe(Diversity(), points(1, 3), points(4, 3))
    assert found.keys() == {"variance", "participation", "vendi", "rows"}
    assert [float(found[m]) for m in ("variance", "participation", "vendi")] == pytest.approx([0, 0, 1])


# Modes.


@dataclass(frozen=True)
class Nearest:
    """A classifier by the nearest of given centres."""

    def logits(self, rows: Any, learned: jax.Array) -> jax.Array:
        return -((rows["image"][:, None] - learned) ** 2).sum(-1)  # [n, classes]


CLASSIFIER, CENTRES = Nearest(), jnp.asarray(10 * np.eye(4, dtype=np.float32))


def seen(counts: list[int]) -> dict[str, np.ndarray]:
    label = np.repeat(np.arange(4), counts).astype(np.int32)
    return {"image": np.asarray(CENTRES)[label] + points(len(label), 4, 0.1), "label": label}


def modes(samples: Any, reference: Any, **fields: Any) -> dict[str, Any]:
    return probe(Modes(CLASSIFIER, **fields), samples, reference, {CLASSIFIER: CENTRES})


def test_modes_against_counting():
    counts, real = [50, 30, 0, 20], [10, 20, 30, 40]
    found = modes(seen(counts), seen(real))
    p, q = np.array(counts) / 100, np.array(real) / 100
    assert int(found["modes"]) == 3 and np.allclose(found["histogram"], p)
    assert float(found["entropy"]) == pytest.approx(scipy.stats.entropy(p), rel=1e-5)
    assert float(found["divergence"]) == pytest.approx(scipy.stats.entropy(p, q), rel=1e-4)
    assert float(found["agreement"]) == 1 and float(found["confidence"]) > 0.999
    assert (int(found["rows"]), int(found["reference_rows"])) == (100, 100)


def test_modes_need_their_share():
    samples, real = seen([196, 3, 1, 0]), seen([5, 5, 5, 5])
    assert int(modes(samples, real)["modes"]) == 3
    assert int(modes(samples, real, least=0.04)["modes"]) == 2  # 1 % of the samples, of which mode 2 has 0.5 %
    assert int(modes(samples, real, least=0.0)["modes"]) == 3  # one sample at least


def test_agreement_and_divergence_at_their_ends():
    samples = seen([10, 10, 10, 10])
    wrong = {**samples, "label": (samples["label"] + 1) % 4}
    assert float(modes(wrong, samples)["agreement"]) == 0
    assert float(modes(samples, samples)["divergence"]) == pytest.approx(0, abs=1e-6)
    # classes that the reference lacks count as half a row of it
    assert float(modes(seen([0, 8, 0, 0]), seen([20, 0, 0, 0]))["divergence"]) == pytest.approx(np.log(40), rel=1e-5)


@pytest.mark.parametrize(
    "fields, word", [({"features": len}, "classifier"), ({"features": CLASSIFIER, "least": 2}, "0")]
)
def test_modes_refuse(fields: dict[str, Any], word: str):
    with pytest.raises(GenlossError, match=word):
        Modes(**fields)
