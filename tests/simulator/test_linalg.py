"""Decompositions: those of the library, never of a batch on CPU; and sums over weighted rows."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from generators.gaussian import Gaussian
from simulator import Pool
from simulator.numerics import linalg

CASES: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "eigh": (lambda a: linalg.eigh(a)[0], scipy.linalg.eigvalsh),
    "eigvalsh": (linalg.eigvalsh, scipy.linalg.eigvalsh),
    "singular values": (linalg.singular_values, scipy.linalg.svdvals),
    "cholesky": (linalg.cholesky, lambda a: scipy.linalg.cholesky(a, lower=True)),
    "solve lower": (lambda a: linalg.solve_lower(a, a), lambda a: scipy.linalg.solve_triangular(a, a, lower=True)),
    "solve": (lambda a: linalg.solve(a, a[0]), lambda a: scipy.linalg.solve(a, a[0])),
}


def matrices(n: int, d: int) -> jax.Array:
    x = jax.random.normal(jax.random.key(0), (n, 2 * d, d))
    return x.transpose(0, 2, 1) @ x


@pytest.mark.parametrize("name", CASES)
def test_many_at_once_are_those_of_each(name: str):
    ours, reference = CASES[name]
    each = matrices(6, 4).reshape(3, 2, 4, 4)
    found = np.asarray(jax.jit(jax.vmap(jax.vmap(ours)))(each))
    expected = np.array([[reference(np.asarray(a, float)) for a in row] for row in each])
    assert np.allclose(np.sort(found, -1), np.sort(expected, -1), rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="accelerators decompose batches well")
@pytest.mark.parametrize("name", CASES)
def test_no_batch_is_decomposed(name: str):
    """Two batches side by side on two cores would wait for each other's threads for ever."""

    def shapes(jaxpr: Any) -> list[tuple[str, int]]:
        found = []
        for equation in jaxpr.eqns:
            found += [(equation.primitive.name, v.aval.ndim) for v in equation.invars if hasattr(v.aval, "ndim")]
            for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
                inner = getattr(inner, "jaxpr", inner)
                found += shapes(inner) if hasattr(inner, "eqns") else []
        return found

    seen = shapes(jax.make_jaxpr(jax.vmap(CASES[name][0]))(matrices(3, 4)).jaxpr)
    decomposed = [n for primitive, n in seen if primitive in ("eigh", "svd", "cholesky", "lu", "triangular_solve")]
    assert decomposed and max(decomposed) == 2, seen


def test_what_has_no_root():
    assert jnp.isnan(linalg.cholesky(-jnp.eye(3))).any()


@pytest.mark.parametrize("d", [1, 2, 3, 4])
def test_scatter_is_the_weighted_sum_of_outer_products(d: int):
    weight, x = jax.random.uniform(jax.random.key(1), (2, 50)), jax.random.normal(jax.random.key(2), (2, 50, d))
    found = np.asarray(jax.jit(jax.vmap(linalg.scatter))(weight, x))  # [2, d, d]
    expected = np.einsum("bn,bni,bnj->bij", *(np.asarray(a, float) for a in (weight, x, x)))
    assert np.allclose(found, expected, rtol=1e-5, atol=1e-5) and (found == found.swapaxes(1, 2)).all()


@pytest.mark.parametrize("d", [1, 2, 3, 4])
def test_moments_of_a_table_of_many_blocks_are_numpys(d: int):
    """Slots at the end are empty, beside weights that are no whole numbers, for a chain alone and for several."""
    n, filled = 11_000, 9_500
    chance = np.random.default_rng(d)
    x = chance.normal(size=(2, n, d)) * (1 + np.arange(d)) + np.arange(d)
    weight = np.where(np.arange(n) < filled, chance.uniform(size=(2, n)), 0.0)
    fit = lambda x, w: Gaussian(d).fit(jax.random.key(0), Gaussian(d).init(jax.random.key(0)), Pool.of(x).weighed(w))[0]  # noqa: E731
    many = jax.jit(jax.vmap(fit))(jnp.asarray(x, jnp.float32), jnp.asarray(weight, jnp.float32))
    for i in range(2):
        mean = np.average(x[i], 0, weight[i])
        alone = jax.jit(fit)(jnp.asarray(x[i], jnp.float32), jnp.asarray(weight[i], jnp.float32))
        for found in (alone, jax.tree.map(lambda a, i=i: a[i], many)):
            np.testing.assert_allclose(found.mean, mean, rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(
                found.cov, np.cov(x[i].T, aweights=weight[i], bias=True).reshape(d, d), 1e-4, 1e-3
            )
