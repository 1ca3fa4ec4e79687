"""Gradients in a recipe's number, through whole chains, against differences."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import cases, gaussian_chain

from simulator import ensemble, simulate
from simulator.recipe import Accumulate, Augment, Curate, Decay, Mix, Reweigh, Subsample, Then, Verify, Window
from simulator.recipe.contamination import Contaminate
from simulator.recipe.suspects import Detector, DropSuspects, FarthestPoints, ReweighSuspects

GENERATIONS = 3


def negative(rows: jax.Array) -> jax.Array:
    return -jnp.abs(rows[:, 0])


def itself(rows: jax.Array) -> jax.Array:
    return rows


SMOOTH: dict[str, tuple[Callable[[Any], Any], float]] = {
    "decay": (Decay, 0.6),
    "reweigh": (Reweigh, 0.6),
    "curate": (lambda v: Curate(negative, None, v), 0.7),
    "weighed before": (lambda v: Then(Decay(v), Reweigh(0.4)), 0.5),
    "weighed, then curated": (lambda v: Then(Reweigh(v), Curate(negative, None, 0.5)), 0.5),
    "contaminated": (lambda v: Then(Contaminate(0.4), Reweigh(v)), 0.3),
    "suspects": (lambda v: Then(Decay(v), ReweighSuspects(negative)), 0.6),
}
WHOLE: dict[str, tuple[Callable[[Any], Any], float]] = {
    "mix": (lambda v: Mix(real=v, size=20), 0.32),
    "augment": (Augment, 0.32),
    "subsample": (Subsample, 15.2),
    "subsample of weights": (lambda v: Then(Decay(v), Subsample(15)), 0.6),
    "window": (Window, 1.7),
    "verify": (lambda v: Verify(negative, v), -1.3),
    "curate": (lambda v: Curate(negative, 2, v), 1.0),
    "contaminate": (Contaminate, 0.43),
    "drop": (lambda v: Then(Accumulate(), DropSuspects(negative, v)), -0.2),
    "drop, learned": (lambda v: DropSuspects(Detector(0.5, features=itself), v), 0.6),
    "farthest": (lambda v: FarthestPoints(v, features=itself), 0.512),
}


def value(make: Callable[[Any], Any]) -> Callable[[Any], jax.Array]:
    """What is measured, summed over generations, as a function of the recipe's number."""

    def of(number: Any) -> jax.Array:
        chain = gaussian_chain(dim=2, recipe=make(number), real=30, rows=30, fresh=10)
        found = simulate(chain, jax.random.key(3), GENERATIONS)
        return (found["moments.cov"]).sum() + found["moments.mean"].sum()

    return of


def both(of: Callable[[Any], jax.Array], at: float, step: float = 0.01) -> tuple[float, float]:
    """(gradient, central difference)."""
    found, gradient = jax.jit(jax.vmap(jax.value_and_grad(of)))(jnp.array([at - step, at, at + step]))
    return float(gradient[1]), float((found[2] - found[0]) / (2 * step))


@pytest.mark.parametrize(("make", "at"), cases(SMOOTH, "decay; reweigh; curate"))
def test_smooth_weights_have_their_gradient(make: Callable[[Any], Any], at: float):
    gradient, difference = both(value(make), at)
    assert abs(difference) > 0.05 and gradient == pytest.approx(difference, rel=0.02)


@pytest.mark.parametrize(("make", "at"), cases(WHOLE, "mix; augment; subsample of weights; contaminate"))
def test_where_rows_are_counted_the_gradient_is_0(make: Callable[[Any], Any], at: float):
    assert float(jax.jit(jax.grad(value(make)))(at)) == 0


@pytest.mark.quick("Decay", "<lambda>")
@pytest.mark.parametrize("make", [Decay, Reweigh, lambda v: Curate(negative, None, v)])
def test_gradients_are_finite_at_the_ends(make: Callable[[Any], Any]):
    assert np.isfinite(jax.jit(jax.vmap(jax.grad(value(make))))(jnp.array([0.0, 1.0]))).all()


def test_an_ensemble_has_the_gradients_of_its_chains():
    make = lambda v: gaussian_chain(dim=1, recipe=Reweigh(v), real=30, rows=30)  # noqa: E731
    grid, keys = jnp.array([0.3, 0.6]), jax.random.split(jax.random.key(3), 2)
    of = lambda grid: ensemble(make, grid, keys, GENERATIONS)["moments.cov"].sum()  # noqa: E731
    gradient = jax.grad(of)(grid)
    step = jnp.array([0.01, 0.0])
    for i, change in enumerate((step, step[::-1])):
        difference = float((of(grid + change) - of(grid - change)) / 0.02)
        assert abs(difference) > 0.01 and float(gradient[i]) == pytest.approx(difference, rel=0.03)
