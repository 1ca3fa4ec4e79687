"""Decompositions of matrices [d, d], one after the other on CPU.

jaxlib hands the matrices of a batch to the threads that run the program and has the caller, one of these threads, wait
for them.  Two batches side by side on two cores then wait for each other for ever (seen with jaxlib 0.10.2, in vmapped
chains).  A single matrix is done by the caller itself, so on CPU `vmap` becomes a loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array


def _in_turn(decompose: Callable[..., Any]) -> Callable[..., Any]:
    looped = jax.custom_batching.sequential_vmap(decompose)
    return lambda *arrays: looped(*arrays) if jax.default_backend() == "cpu" else decompose(*arrays)


_eigh = _in_turn(lambda matrix: tuple(jnp.linalg.eigh(matrix)))
_eigvalsh = _in_turn(lambda matrix: jnp.linalg.eigvalsh(matrix))
_singular_values = _in_turn(lambda matrix: jnp.linalg.svd(matrix, compute_uv=False))
_cholesky = _in_turn(lambda matrix: jnp.linalg.cholesky(matrix))
_solve = _in_turn(lambda matrix, right: jnp.linalg.solve(matrix, right))
_solve_lower = _in_turn(lambda lower, right: jax.scipy.linalg.solve_triangular(lower, right, lower=True))


def eigh(matrix: Array) -> tuple[Array, Array]:
    """Eigenvalues [d], ascending, and eigenvectors [d, d], in columns, of a symmetric matrix."""
    return _eigh(matrix)


def eigvalsh(matrix: Array) -> Array:
    """Eigenvalues [d] of a symmetric matrix, ascending."""
    return _eigvalsh(matrix)


def singular_values(matrix: Array) -> Array:
    """Singular values [min(n, d)] of a matrix [n, d], descending."""
    return _singular_values(matrix)


def cholesky(matrix: Array) -> Array:
    """The lower triangular root [d, d] of a positive definite matrix; NaN where it is not."""
    return _cholesky(matrix)


def solve(matrix: Array, right: Array) -> Array:
    """The solution x [d] of matrix x = right."""
    return _solve(matrix, right)


def solve_lower(lower: Array, right: Array) -> Array:
    """The solution x [d, n] of lower x = right [d, n], lower triangular."""
    return _solve_lower(lower, right)


COLUMNS = 3  # dimensions up to which sums over rows are taken column by column


def moment(weight: Array, x: Array) -> Array:
    """Σ w x over rows x [n, d], [d]."""
    d = x.shape[1]
    if d > COLUMNS:
        return weight @ x
    # A product that `reduce_precision`, which changes no number, has written out first is summed by the library that is
    # fast at sums; fused with its sum it takes four times as long on CPU.
    return jnp.array([jax.lax.reduce_precision(weight * x[:, i], 8, 23).sum() for i in range(d)])


@jax.custom_jvp
def scatter(weight: Array, x: Array) -> Array:
    """Σ w x xᵀ over rows x [n, d], symmetric to the bit, [d, d]; its gradient in a weight of 0 is right too."""
    root = jnp.sqrt(weight)[:, None] * x  # [n, d]
    d = x.shape[1]
    if d > COLUMNS:
        return root.T @ root  # [d, d]
    # Sums of products of columns, each an array of its own: fused with what made them, or left to the library of
    # matrices, a batch of them takes four to twelve times as long on CPU.  The first line changes no number: it is what
    # that library does not know, and the compiler leaves the rest to XLA.
    root = jax.lax.reduce_precision(root, 8, 23)
    column = jax.lax.optimization_barrier([root[:, i] for i in range(d)])  # d of [n]
    below = {(i, j): (column[i] * column[j]).sum() for i in range(d) for j in range(i + 1)}
    return jnp.array([[below[max(i, j), min(i, j)] for j in range(d)] for i in range(d)])  # [d, d]


@scatter.defjvp
def _scatter_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    """The root of a weight has no derivative at 0; the sum has."""
    (weight, x), (d_weight, d_x) = primals, tangents
    half = (weight[:, None] * d_x).T @ x  # [d, d]
    return scatter(weight, x), (d_weight[:, None] * x).T @ x + half + half.T
