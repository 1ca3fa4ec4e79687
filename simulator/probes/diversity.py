"""How varied a generation's samples are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp

from simulator.checks.fields import Count, Positive, Share, check
from simulator.numerics.linalg import eigvalsh
from simulator.pool import count
from simulator.probes.features import classes, flat
from simulator.probes.finite import where_finite
from simulator.types import Array, GenlossError, Key, View


@dataclass(frozen=True)
class Diversity:
    """Variance, in how many directions, within and between classes; the Vendi score; the histogram of labels.

    variance: trace of the covariance C of the features, Σ‖x - μ‖²/(n - 1); participation: (tr C)²/tr C²;
    within_class and between_class: Σ‖x_i - μ_c(i)‖² and Σ‖μ_c(i) - μ‖² over n - 1, which sum to the variance; vendi:
    that of cosines (`Vendi`).  Those of labels, the samples' own, are there for rows with a label alone.

    variance | trace of the covariance | features² | higher is more diverse | O(n d)
    participation | number of directions that share the variance | [1, d], 0 for none | higher is more diverse | O(n d²)
    vendi | number of different rows, by their cosines | [1, min(n, d)] | higher is more diverse | O(n d² + d³)
    label_entropy | entropy of the labels | nats, [0, log classes] | higher is more diverse | O(n)
    labels | share of each label | [0, 1] | neither | O(n)
    within_class | variance of rows around the mean of their class | features² | higher is more diverse | O(n d)
    between_class | variance of the means of their classes | features² | higher is more diverse | O(n d)
    rows | samples used | rows | neither | O(1)
    """

    features: Callable[..., Array] = flat

    def __call__(self, key: Key, view: View) -> dict[str, Any]:
        x = view.embed(self.features, view.synthetic)  # [n, d]
        n = x.shape[0]
        centred = x - x.mean(0)
        # tr C = tr G / (n-1) and tr C² = ‖G‖²_F / (n-1)², G the smaller of scatter and Gram matrix
        small = _gram(centred)  # [min(n, d), min(n, d)]
        total, squares = jnp.trace(small), (small**2).sum()
        found = {
            "variance": total / max(n - 1, 1),
            "participation": total**2 / jnp.maximum(squares, jnp.finfo(jnp.float32).tiny),
            "vendi": vendi(_gram(_directions(x))),
            "rows": n,
        }
        if isinstance(view.synthetic, dict) and "label" in view.synthetic:
            label, kinds = view.synthetic["label"], classes(view.reference)
            member = jax.nn.one_hot(label, kinds)  # [n, classes]
            size = jnp.maximum(member.sum(0), 1)[:, None]  # [classes, 1]
            mean = jnp.matmul(member.T, centred, precision="highest") / size  # [classes, d]
            found |= {
                "label_entropy": label_entropy(label, kinds),
                "labels": member.mean(0),
                "within_class": ((centred - mean[label]) ** 2).sum(1).sum() / max(n - 1, 1),
                "between_class": (size * mean**2).sum() / max(n - 1, 1),
            }
        return found


@dataclass(frozen=True)
class Vendi:
    """The Vendi score exp(-Σ λ log λ), λ the eigenvalues of K/n: the number of different rows as a kernel sees them.

    K is 1 on its diagonal, so a set of n copies of one row scores 1, n rows unlike each other score n (Friedman & Dieng
    2023, arXiv:2210.02410).  "cosine": x·y/‖x‖‖y‖, through the smaller of the d x d and n x n matrices.  "rbf":
    exp(-‖x - y‖²/2s²) of the first `most` samples, s the `bandwidth`, in the units of the features; None takes the root
    of the reference's variance, which, unlike the samples' own, does not shrink with them.

    vendi | number of different rows | [1, n], n the rows used | higher is more diverse | O(n d² + d³); rbf O(n³)
    rows | samples used | rows | neither | O(1)
    """

    features: Callable[..., Array] = flat
    kernel: Literal["cosine", "rbf"] = "cosine"
    bandwidth: Positive | None = None  # of rbf; None: root of the trace of the reference's covariance
    most: Count = 1000  # samples used with rbf, at most

    __post_init__ = check

    def __call__(self, key: Key, view: View) -> dict[str, Any]:
        x = view.embed(self.features, view.synthetic)  # [n, d]
        if self.kernel == "cosine":
            return {"vendi": vendi(_gram(_directions(x))), "rows": len(x)}
        x = x[: self.most]
        x = x - x.mean(0)
        bandwidth = self.bandwidth
        if bandwidth is None:
            real = jax.lax.optimization_barrier(view.embed(self.features, view.reference))  # [m, d]
            bandwidth = jnp.sqrt(((real - real.mean(0)) ** 2).sum() / max(len(real) - 1, 1))
        size = (x**2).sum(1)  # [n]
        squared = jnp.maximum(size[:, None] + size - 2 * jnp.matmul(x, x.T, precision="highest"), 0)  # [n, n]
        return {"vendi": vendi(jnp.exp(-squared / (2 * bandwidth**2))), "rows": len(x)}


@dataclass(frozen=True)
class Modes:
    """Which classes a classifier of real rows sees among samples, whatever label they carry.

    `features` is such a classifier, prepared on real training rows, with `logits(rows, learned) -> [n, classes]`.
    A mode is there if at least one sample is taken for its class, and a share of at least `least` of 1/classes.
    divergence: KL(samples ‖ reference) of the histograms of predicted classes, a class that no reference row is taken
    for counting as half a row, so that it is finite.  agreement is there for rows with a label alone.

    modes | classes that samples are taken for | [1, classes] | higher is more diverse | one forward pass
    entropy | entropy of predicted classes | nats, [0, log classes] | higher is more diverse | one forward pass
    confidence | mean probability of the predicted class | [1/classes, 1] | neither | one forward pass
    agreement | share of samples that are taken for their label | [0, 1] | higher is better | one forward pass
    divergence | KL of predicted classes from the reference's | nats, >= 0 | lower is better | two forward passes
    histogram | share of each predicted class | [0, 1] | neither | one forward pass
    rows | samples used | rows | neither | O(1)
    reference_rows | held-out rows used | rows | neither | O(1)
    """

    features: Any
    least: Share = 0.01  # share of a mode, as a share of 1/classes

    def __post_init__(self) -> None:
        check(self)
        if not hasattr(self.features, "logits"):
            raise GenlossError("Modes needs a classifier as its features, with `logits(rows, learned)`.")

    def __call__(self, key: Key, view: View) -> dict[str, Any]:
        learned = view.prepared[self.features]
        logits = jnp.asarray(self.features.logits(view.synthetic, learned), jnp.float32)  # [n, classes]
        n, kinds = logits.shape
        predicted = logits.argmax(1)  # [n]
        share = _shares(predicted, kinds)  # [classes]
        # The reference is a constant of the program: without the barrier the compiler would classify it.
        reference = jax.lax.optimization_barrier(view.reference)
        of_real = self.features.logits(reference, learned)  # [m, classes]
        real = _shares(of_real.argmax(1), kinds)  # [classes]
        floor = jnp.maximum(real, 0.5 / count(reference))
        found = {
            "modes": ((share > 0) & (share >= self.least / kinds)).sum(),
            "entropy": _entropy(share),
            "confidence": jax.nn.softmax(logits).max(1).mean(),
            "divergence": (share * jnp.log(jnp.where(share > 0, share, 1) / floor)).sum(),
            "histogram": share,
        }
        if isinstance(view.synthetic, dict) and "label" in view.synthetic:
            found["agreement"] = (predicted == view.synthetic["label"]).mean()
        found = where_finite(found, view.synthetic, logits, of_real)
        return {**found, "rows": n, "reference_rows": count(reference)}


def label_entropy(label: Array, kinds: int) -> Array:
    """-Σ p log p of the histogram of labels [n], nats."""
    return _entropy(_shares(label, kinds))


def vendi(kernel: Array) -> Array:
    """exp(-Σ λ log λ) of the eigenvalues of a kernel matrix [n, n] whose trace is taken as 1; 1 where it is 0."""
    values = jnp.maximum(eigvalsh(kernel), 0)  # [n]
    return jnp.exp(_entropy(values / jnp.maximum(values.sum(), jnp.finfo(jnp.float32).tiny)))


def _shares(label: Array, kinds: int) -> Array:
    return jnp.zeros(kinds).at[label].add(1.0) / label.shape[0]  # [kinds]


def _entropy(share: Array) -> Array:
    return -(share * jnp.log(jnp.where(share > 0, share, 1))).sum()


def _directions(x: Array) -> Array:
    """Rows [n, d] of length 1; a row of zeros stays one."""
    return x / jnp.maximum(jnp.linalg.norm(x, axis=1, keepdims=True), jnp.finfo(jnp.float32).tiny)


def _gram(x: Array) -> Array:
    """xᵀx [d, d] or x xᵀ [n, n], whichever is smaller: they have the same eigenvalues above 0."""
    x = x if x.shape[1] <= x.shape[0] else x.T
    return jnp.matmul(x.T, x, precision="highest")
