"""Decompositions: those of the library, never of a batch on CPU."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

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
