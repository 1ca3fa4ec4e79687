"""Detectors of generated images: right where something is to be found, and at chance where nothing is."""

import functools
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_mean
from sklearn.metrics import roc_auc_score, roc_curve

from generators import Gaussian
from generators.nets.affine import Affine
from generators.nets.mlp import MLP
from simulator import Dataset, GenlossError, Pool, View
from simulator.probes.detection import Detection, auroc, by_neighbours, halves, radial, tpr_at
from simulator.probes.spectrum import Spectrum, rings

CHANCE = np.random.default_rng(0)
DETECTION = Detection(partial(MLP, hidden=(32,)), steps=150, batch=32, learning_rate=1e-2)
NAMES = ("spectrum", "network", "entropy")


@functools.cache
def compiled(what: Detection) -> Callable[..., dict[str, Any]]:
    """One program for all rows of one shape."""

    def measured(real: Any, generated: Any) -> dict[str, Any]:
        view = View(jnp.int32(0), None, Pool.of(generated), generated, real, Gaussian(2))
        return what(jax.random.key(0), view)

    return jax.jit(measured)


def probe(real: Any, generated: Any, what: Detection = DETECTION) -> dict[str, Any]:
    return compiled(what)(real, generated)


def digits(n: int = 1400) -> jax.Array:
    return Dataset.digits().draw(jax.random.key(1), n)["image"] / 255.0


# Scores.


@pytest.mark.parametrize("levels", [2, 5, 1000])
@pytest.mark.parametrize("m, n", [(1, 1), (7, 13), (300, 100), (100, 1000)])
def test_auroc_and_tpr_against_scikit_learn(levels: int, m: int, n: int):
    """Few levels: most scores are tied, within both kinds and between them."""
    real = CHANCE.integers(0, levels, m).astype(np.float32)
    generated = (CHANCE.integers(0, levels, n) + levels // 5).astype(np.float32)
    label, score = np.repeat([0, 1], [m, n]), np.concatenate([real, generated])
    assert float(auroc(jnp.asarray(real), jnp.asarray(generated))) == pytest.approx(
        roc_auc_score(label, score), rel=1e-6
    )
    false, true, _ = roc_curve(label, score, drop_intermediate=False)
    for fpr in (0.0, 0.01, 0.05, 0.29, 0.5, 1.0):
        expected = true[false <= fpr + 1e-9].max()
        assert float(tpr_at(jnp.asarray(real), jnp.asarray(generated), fpr)) == pytest.approx(expected, rel=1e-6)


def test_scores_of_the_same_and_of_the_apart():
    x = jnp.arange(50.0)
    assert float(auroc(x, x)) == 0.5 and float(auroc(x * 0, x * 0)) == 0.5
    assert float(auroc(x, x + 50)) == 1 and float(auroc(x + 50, x)) == 0
    assert float(tpr_at(x, x + 50)) == 1 and float(tpr_at(x * 0, x * 0)) == 0


# Where there is nothing to find.


def test_real_against_real_is_chance():
    """Rows of one law: every auroc is 1/2, with the standard error that is stated, and tpr the rate it is held at."""
    n, repeats = 60, 120
    what = Detection(Affine, steps=10, batch=16, fpr=0.1)

    @jax.jit
    @jax.vmap
    def found(key: jax.Array) -> dict[str, Any]:
        real, generated = jax.random.normal(key, (2, n, 6, 6, 1))
        return what.of(jax.random.fold_in(key, 1), real, generated)

    result = found(jax.random.split(jax.random.key(0), repeats))
    for name in NAMES:
        area = np.asarray(result[name]["auroc"])
        assert_mean(area, 0.5)
        assert_mean(((area - 0.5) / np.asarray(result["error"])) ** 2, 1.0)  # n/2 and n/2 scores of one law
        assert_mean(result[name]["tpr"], 4 / 31)  # above the 4th largest of 30
    assert_mean(result["gap"], 0.0)


@pytest.mark.slow
def test_real_digits_against_other_real_digits():
    """As bytes, beside a label that no detector sees."""
    rows = Dataset.digits().draw(jax.random.key(1), 1400)
    found = probe(*(jax.tree.map(lambda a, part=part: a[part], rows) for part in (slice(700), slice(700, None))))
    for name in NAMES:
        assert abs(float(found[name]["auroc"]) - 0.5) < 4 * float(found["error"])
        assert float(found[name]["tpr"]) < 0.06


def test_a_spectrum_detector_fails_where_spectra_are_the_same():
    """Phases by chance and the power kept: nothing for the spectrum, everything for a network."""
    x = np.asarray(digits())
    noise = np.fft.fft2(CHANCE.normal(size=(700, 8, 8)))
    other = np.fft.ifft2(np.abs(np.fft.fft2(x[700:, ..., 0])) * np.exp(1j * np.angle(noise))).real
    found = probe(jnp.asarray(x[:700]), jnp.asarray(other[..., None], jnp.float32))
    assert abs(float(found["spectrum"]["auroc"]) - 0.5) < 4 * float(found["error"])
    assert float(found["network"]["auroc"]) > 0.97 and float(found["entropy"]["auroc"]) > 0.97


# Where there is.


def test_what_is_blurred_is_found():
    x = digits()
    smooth = (x[700:] + jnp.roll(x[700:], 1, 1)) / 2
    found = probe(x[:700], smooth)
    for name in ("spectrum", "network"):
        assert float(found[name]["auroc"]) > 0.9, name
    assert float(found["spectrum"]["tpr"]) > 0.5
    assert float(found["rows"]) == float(found["reference_rows"]) == 350


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_the_gap_is_in_nats(scale: float):
    """Rows s times as wide have d log s more entropy; the same rows, so their distances say so exactly."""
    x = digits()[:700]
    assert float(probe(x, x * scale)["gap"]) == pytest.approx(-64 * np.log(scale), rel=1e-4)


def test_neighbours_by_hand():
    real, generated, new = CHANCE.normal(size=(3, 20, 5)).astype(np.float32)
    distance = [np.sort(np.linalg.norm(new[:, None] - known, axis=-1), 1)[:, 1] for known in (real, generated)]
    found = by_neighbours(jnp.asarray(real), jnp.asarray(generated), jnp.asarray(new), 2)
    assert np.allclose(found, np.log(distance[0] / distance[1]), atol=1e-5)


@pytest.mark.parametrize("shape", [(6, 8, 8, 1), (600, 7, 10, 3)])
def test_radial_power_is_that_of_the_spectrum(shape: tuple[int, ...]):
    x = jnp.asarray(CHANCE.normal(size=shape), jnp.float32)
    found = (10 ** np.asarray(radial(x))).mean(0)
    assert np.allclose(found, Spectrum().power(x, rings(*shape[1:3]))[1:], rtol=1e-4)


def test_halves_are_a_partition():
    first, second = halves(jax.random.key(0), {"x": jnp.arange(11)})
    assert len(first["x"]) == 5 and sorted([*first["x"].tolist(), *second["x"].tolist()]) == list(range(11))


def test_what_cannot_be_detected_is_said():
    fields: dict[str, Any]
    for fields, word in (({"neighbours": 0}, "neighbours"), ({"fpr": 1.5}, "fpr"), ({"steps": 0}, "steps")):
        with pytest.raises(GenlossError, match=word):
            Detection(MLP, **fields)
    with pytest.raises(GenlossError, match="needs images"):
        probe(jnp.zeros((20, 3)), jnp.zeros((20, 3)))
    with pytest.raises(GenlossError, match="halves"):
        probe(jnp.zeros((2, 8, 8, 1)), jnp.zeros((20, 8, 8, 1)))
    with pytest.raises(GenlossError, match="too few frequencies"):
        probe(jnp.zeros((20, 2, 2, 1)), jnp.zeros((20, 2, 2, 1)))
