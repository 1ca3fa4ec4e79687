"""Trained on what a generation says, tested on held-out real rows: the smallest models, for numbers and for labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from simulator.checks.fields import Count, NonNegative, Positive, check
from simulator.numerics.linalg import eigh, solve
from simulator.pool import Rows, count
from simulator.probes.features import classes, flat
from simulator.probes.finite import counted, where_finite
from simulator.types import Array, GenlossError, Key, View


@dataclass(frozen=True)
class Regression:
    """Mean squared errors on held-out real rows {"x": [n, d], "y": [n]}: of the fitted model, where its parameters have
    `coef`, and of ridge regressions with an intercept that are trained on the diet, by weight, and on samples alone.

    The regressions minimise Σ w (y - b - x·c)² + ridge·‖c‖²; where rows do not determine c, it is the one of least
    norm.  The noise of y is part of each error: the excess over it is `Risk`.  Trained on real rows, the ceiling of
    `diet` and `samples`, is what a run measures of real rows.

    risk | mean squared error of the fitted model | squared units of y | lower is better | O(m d)
    diet | mean squared error of a regression trained on the diet | squared units of y | lower is better | O(n d² + d³)
    samples | the same, trained on samples alone | squared units of y | lower is better | O(n d² + d³)
    rows | samples trained on | rows | neither | O(1)
    reference_rows | held-out rows tested on | rows | neither | O(1)
    """

    ridge: NonNegative = 0.0  # penalty on the weighted sum of squares

    __post_init__ = check

    def __call__(self, key: Key, view: View) -> dict[str, Any]:
        if not (isinstance(view.reference, dict) and {"x", "y"} <= view.reference.keys()):
            raise GenlossError("Regression needs rows with an x and a y; give the chain such a source.")
        test = jax.lax.optimization_barrier(view.reference)
        n = count(view.synthetic)

        def error(weight: Array, rows: Rows) -> Array:
            coef, intercept = regressed(rows["x"], rows["y"], weight, self.ridge)
            return where_finite(squared_error(test, coef, intercept), counted(rows, weight))

        found: dict[str, Any] = {
            "diet": error(view.diet.weight, view.diet.rows),
            "samples": error(jnp.ones(n), view.synthetic),
            "rows": n,
            "reference_rows": count(test),
        }
        if hasattr(view.params, "coef"):
            found["risk"] = squared_error(test, view.params.coef)
        return found


@dataclass(frozen=True)
class Tabular:
    """How well logistic regressions tell the labels of held-out real points {"x": [n, d], "label": [n]} when trained on
    the diet, by weight, and on samples alone (train on synthetic, test on real: Esteban et al. 2017, arXiv:1706.02633).

    They minimise Σ w cross-entropy + penalty·‖C‖²/2 over coefficients C [d, classes] and free intercepts by Newton's
    method, features in the units they come in; penalty 1 is scikit-learn's C = 1.  Trained on real rows, the ceiling,
    is what a run measures of real rows.

    diet.accuracy | share of labels told, trained on the diet | [0, 1] | higher is better | O(steps·n (d·classes)²)
    diet.loss | cross-entropy, trained on the diet | nats | lower is better | as diet.accuracy
    samples.accuracy | share of labels told, trained on samples alone | [0, 1] | higher is better | as diet.accuracy
    samples.loss | cross-entropy, trained on samples alone | nats | lower is better | as diet.accuracy
    rows | samples trained on | rows | neither | O(1)
    reference_rows | held-out rows tested on | rows | neither | O(1)
    """

    penalty: Positive = 1.0  # above 0: keeps coefficients finite where classes can be separated
    steps: Count = 15  # of Newton's method, at most
    features: Callable[..., Array] | None = None  # None takes x as it is

    __post_init__ = check

    def __call__(self, key: Key, view: View) -> dict[str, Any]:
        kinds = classes(view.reference)
        test = jax.lax.optimization_barrier(view.reference)
        n = count(view.synthetic)

        def inputs(rows: Rows) -> Array:
            if self.features is not None:
                return view.embed(self.features, rows)
            return flat(rows.get("x", rows))  # [n, d]

        def tested(weight: Array, rows: Rows) -> dict[str, Array]:
            x = inputs(rows)  # [n, d]
            coef = logistic(x, rows["label"], weight, kinds, self.penalty, self.steps)
            log_p = jax.nn.log_softmax(with_one(inputs(test)) @ coef)  # [m, classes]
            right = (log_p.argmax(-1) == test["label"]).mean()
            loss = -jnp.take_along_axis(log_p, test["label"][:, None], 1).mean()
            return where_finite({"accuracy": right, "loss": loss}, counted(x, weight), log_p)

        return {
            "diet": tested(view.diet.weight, view.diet.rows),
            "samples": tested(jnp.ones(n), view.synthetic),
            "rows": n,
            "reference_rows": count(test),
        }


def squared_error(rows: Rows, coef: Array, intercept: Array | float = 0.0) -> Array:
    """Mean of (y - b - x·c)² over rows, []."""
    with jax.default_matmul_precision("highest"):
        return ((rows["y"] - intercept - rows["x"] @ coef) ** 2).mean()


def regressed(x: Array, y: Array, weight: Array, ridge: float | Array = 0.0) -> tuple[Array, Array]:
    """Coefficients [d] and intercept [] of the weighted ridge regression of y [n] on x [n, d], of least norm."""
    x, y = counted((jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)), weight)
    share = weight / weight.sum()  # [n]
    # Normal equations square the condition number: products must not be rounded to tensor-float on accelerators.
    with jax.default_matmul_precision("highest"):
        mean_x, mean_y = share @ x, share @ y  # [d], []
        x, y = x - mean_x, y - mean_y
        values, vectors = eigh((weight[:, None] * x).T @ x)  # [d], [d, d], ascending
        seen = values > 4 * len(values) * jnp.finfo(values.dtype).eps * values[-1]  # [d]: directions with rows in them
        inverse = jnp.where(seen, 1 / jnp.where(seen, values + ridge, 1.0), 0.0)  # [d]

        def add(coef: Array) -> Array:
            left = (weight * (y - x @ coef)) @ x - ridge * coef  # [d]: what is not yet explained
            return coef + vectors @ (inverse * (vectors.T @ left))

        coef = add(add(jnp.zeros_like(mean_x)))  # one refinement wins back most of the digits that squaring costs
        return coef, mean_y - mean_x @ coef


def logistic(x: Array, label: Array, weight: Array, kinds: int, penalty: float | Array = 1.0, steps: int = 15) -> Array:
    """Coefficients [d + 1, classes] of a weighted multinomial logistic regression, the intercepts in the last row."""
    x, target = (
        with_one(counted(jnp.asarray(x, jnp.float32), weight)).T,
        jax.nn.one_hot(label, kinds).T,
    )  # [d + 1, n], [classes, n]: sums over rows run along memory
    d = x.shape[0]
    decay = jnp.full(d, penalty).at[-1].set(0.0)  # [d + 1]

    def newton(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        i, coef, _ = carry  # coef [classes, d + 1]
        said = coef @ x  # [classes, n]
        p = jax.nn.softmax(said, 0)  # [classes, n]
        slope = (weight * (p - target)) @ x.T + decay * coef  # [classes, d + 1]

        def block(i: Array) -> Array:
            """The curvature between class i and each, [classes, d + 1, d + 1]."""
            share = weight * p[i] * (jax.nn.one_hot(i, kinds)[:, None] - p)  # [classes, n]
            return ((share[:, None] * x).reshape(kinds * d, -1) @ x.T).reshape(kinds, d, d)

        curvature = jax.lax.map(block, jnp.arange(kinds)).transpose(0, 2, 1, 3).reshape(kinds * d, kinds * d)
        ridge = jnp.tile(decay, kinds)  # [classes·(d + 1)]
        # A shift of all intercepts changes nothing, so the curvature is singular; the little that is added keeps it
        # solvable, and does not move the minimum, whose slope is 0.
        ridge = ridge + 1e-6 * jnp.diagonal(curvature).max() + jnp.finfo(jnp.float32).tiny
        step = solve(curvature + jnp.diag(ridge), slope.reshape(-1)).reshape(slope.shape)
        step = step.at[:, -1].add(-step[:, -1].mean())  # that shift is rounding, and would never be done
        along = step @ x  # [classes, n]

        def loss(length: Array) -> Array:
            logits = said - length * along  # [classes, n]
            each = jax.nn.logsumexp(logits, 0) - (logits * target).sum(0)  # [n]
            return weight @ each + (decay * (coef - length * step) ** 2).sum() / 2

        # A full step can overshoot where classes are nearly separable: it is halved until it does not.
        now = loss(jnp.float32(0.0))
        length = jax.lax.while_loop(lambda a: ~(loss(a) <= now) & (a > 1e-3), lambda a: a / 2, jnp.float32(1.0))
        moved = jnp.where(length > 1e-3, length, 0.0) * step
        return i + 1, coef - moved, (jnp.abs(moved) > 1e-4 * (1 + jnp.abs(coef))).any()

    # The number of right digits doubles with each step, so a step in the fifth digit is the last that is needed.
    going_on = lambda carry: carry[2] & (carry[0] < steps)  # noqa: E731
    with jax.default_matmul_precision("highest"):
        start = (jnp.int32(0), jnp.zeros((kinds, d)), jnp.bool_(True))
        return jax.lax.while_loop(going_on, newton, start)[1].T  # [d + 1, classes]


def with_one(x: Array) -> Array:
    """[n, d + 1]: a last column of ones, for the intercept."""
    return jnp.concatenate([x, jnp.ones_like(x[:, :1])], 1)
