"""How a generation's samples compare with held-out real rows, in a feature space.

The sets compared are of equal size: the larger is cut to the first rows of the smaller.  `Fidelity` is all of it;
`Manifold`, `Frechet` and `Kid` are its parts, for whoever wants to pay for one alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from simulator.checks.fields import Count, check
from simulator.numerics.linalg import eigh, singular_values
from simulator.probes.features import flat
from simulator.probes.neighbours import manifold
from simulator.types import Array, Key, View


@dataclass(frozen=True)
class Fidelity:
    """Precision, recall, density, coverage, Fréchet, kernel and energy distance to the reference.

    energy: 2E‖X-Y‖ - E‖X-X'‖ - E‖Y-Y'‖, without bias: 0 on average, and as often below, between samples of one law
    (Székely & Rizzo 2013, doi:10.1016/j.jspi.2013.03.018).  The rest is that of `Manifold`, `Frechet` and `Kid`.
    A value is NaN where there are fewer rows than it needs: 2 for kid, energy and the first four, 4 for kid_error, 8
    for frechet_infinite.

    precision | share of samples within the reference's manifold | [0, 1] | higher is better | O(n² d)
    recall | share of real rows within the samples' manifold | [0, 1] | higher is more diverse | O(n² d)
    density | real balls around a sample, over k | >= 0, 1 for equal laws | higher is better | O(n² d)
    coverage | share of real rows with a sample in their ball | [0, 1] | higher is more diverse | O(n² d)
    frechet | squared 2-Wasserstein distance of Gaussians | features² | lower is better | O(n d² + d³)
    frechet_infinite | the same, extrapolated to endless rows | features² | lower is better | O(n d² + d³)
    kid | squared maximum mean discrepancy, cubic kernel | 0 for equal laws | lower is better | O(n² d)
    kid_error | its standard error | units of kid | neither | O(n² d)
    energy | energy distance | features, 0 for equal laws | lower is better | O(n² d)
    rows | rows of each set | rows | neither | O(1)
    """

    features: Callable[..., Array] = flat
    neighbours: Count = 5  # k of the k-NN balls

    __post_init__ = check

    def __call__(self, key: Key, view: View) -> dict[str, Any]:
        real, fake = pair(view, self.features)  # [n, d], [n, d]
        return {
            **_manifold(real, fake, self.neighbours),
            **_frechet(real, fake),
            **_kid(real, fake),
            "energy": energy(real, fake),
            "rows": len(fake),
        }


@dataclass(frozen=True)
class Manifold:
    """Precision, recall, density and coverage, by balls that reach to the k-th nearest neighbour.

    Precision and recall: Kynkäänniemi et al. 2019, arXiv:1904.06991; density and coverage: Naeem et al. 2020,
    arXiv:2002.09797.  NaN with one row.

    precision | share of samples within the reference's manifold | [0, 1] | higher is better | O(n² d)
    recall | share of real rows within the samples' manifold | [0, 1] | higher is more diverse | O(n² d)
    density | real balls around a sample, over k | >= 0, 1 for equal laws | higher is better | O(n² d)
    coverage | share of real rows with a sample in their ball | [0, 1] | higher is more diverse | O(n² d)
    rows | rows of each set | rows | neither | O(1)
    """

    features: Callable[..., Array] = flat
    neighbours: Count = 5  # k of the k-NN balls

    __post_init__ = check

    def __call__(self, key: Key, view: View) -> dict[str, Any]:
        real, fake = pair(view, self.features)  # [n, d], [n, d]
        return {**_manifold(real, fake, self.neighbours), "rows": len(fake)}


@dataclass(frozen=True)
class Frechet:
    """Squared 2-Wasserstein distance between Gaussians with the sets' moments, and its limit for endless rows.

    frechet: ‖μ - ν‖² + tr(C + D - 2(CD)^½) (Dowson & Landau 1982; Heusel et al. 2017, arXiv:1706.08500); from n rows
    it is too large by about c/n.  frechet_infinite: where a line in 1/n through its means over all, halves and
    quarters of the rows meets 1/n = 0 (Chong & Forsyth 2020, arXiv:1911.07023), so it can be below 0; trust it where a
    quarter of the rows are many more than d, and not where samples are copies of the reference.  NaN below 8 rows.

    frechet | squared 2-Wasserstein distance of Gaussians | features² | lower is better | O(n d² + d³)
    frechet_infinite | the same, extrapolated to endless rows | features² | lower is better | O(n d² + d³)
    rows | rows of each set | rows | neither | O(1)
    """

    features: Callable[..., Array] = flat

    def __call__(self, key: Key, view: View) -> dict[str, Any]:
        real, fake = pair(view, self.features)  # [n, d], [n, d]
        return {**_frechet(real, fake), "rows": len(fake)}


@dataclass(frozen=True)
class Kid:
    """Kernel distance: the squared maximum mean discrepancy by k(x, y) = (x·y/d + 1)³, and its standard error.

    kid: without bias, 0 on average, and as often below, between samples of one law (Bińkowski et al. 2018,
    arXiv:1801.01401), over all n rows of each set.  kid_error: from the unbiased estimate of a U-statistic's variance
    (`mmd`), which holds for equal laws as for unequal ones; published errors are mostly those of subsets, and larger.

    kid | squared maximum mean discrepancy, cubic kernel | 0 for equal laws | lower is better | O(n² d)
    kid_error | its standard error | units of kid | neither | O(n² d)
    rows | rows of each set | rows | neither | O(1)
    """

    features: Callable[..., Array] = flat

    def __call__(self, key: Key, view: View) -> dict[str, Any]:
        real, fake = pair(view, self.features)  # [n, d], [n, d]
        return {**_kid(real, fake), "rows": len(fake)}


def pair(view: View, features: Callable[..., Array]) -> tuple[Array, Array]:
    """Equally many real rows and samples in a feature space, [n, d] each."""
    # The reference is a constant of the program: without the barrier the compiler would compute its distances.
    real = jax.lax.optimization_barrier(view.embed(features, view.reference))  # [m, d]
    fake = view.embed(features, view.synthetic)  # [rows, d]
    n = min(real.shape[0], fake.shape[0])
    return real[:n], fake[:n]


def _manifold(real: Array, fake: Array, neighbours: int) -> dict[str, Any]:
    k = min(neighbours, len(real) - 1)
    if k < 1:
        return dict.fromkeys(("precision", "recall", "density", "coverage"), jnp.nan)
    return manifold(real, fake, k)


def _frechet(real: Array, fake: Array) -> dict[str, Array]:
    whole = frechet(real, fake)
    return {"frechet": whole, "frechet_infinite": frechet_infinite(real, fake, whole)}


def _kid(real: Array, fake: Array) -> dict[str, Array]:
    value, error = mmd(cubic, real, fake)
    return {"kid": value, "kid_error": error}


def frechet(a: Array, b: Array) -> Array:
    """‖μ - ν‖² + tr(C + D - 2(CD)^½) of the moments of rows a [n, d] and b [m, d], covariances over n - 1.

    With any A, B such that AᵀA = C and BᵀB = D the trace is ‖A‖²_F + ‖B‖²_F - 2‖ABᵀ‖_*.  So no product of covariances
    has to have a root, and rounding costs no more than some 1e-6 of tr C + tr D where covariances are singular.
    """
    a, b = jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32)
    shift = a.mean(0)  # [d]
    (mean_a, root_a), (mean_b, root_b) = _moments(a - shift), _moments(b - shift)
    cross = singular_values(_dot(root_a, root_b.T))  # [<= min(n, m, d)]
    distance = ((mean_a - mean_b) ** 2).sum() + (root_a**2).sum() + (root_b**2).sum() - 2 * cross.sum()
    return jnp.maximum(distance, 0)


def _moments(x: Array) -> tuple[Array, Array]:
    """Mean [d] and a root A [min(n, d), d] of the covariance, AᵀA = C, of rows [n, d]; C is 0 for one row."""
    n, d = x.shape
    mean = x.mean(0)
    mean = mean + (x - mean).mean(0)  # what rounding left of the first sum
    centred = (x - mean) / max(n - 1, 1) ** 0.5
    if n <= d:
        return mean, centred
    values, vectors = eigh(_dot(centred.T, centred))  # [d], [d, d]
    return mean, jnp.sqrt(jnp.maximum(values, 0))[:, None] * vectors.T


def frechet_infinite(a: Array, b: Array, whole: Array) -> Array:
    """The Fréchet distance of rows a, b [n, d] for n → ∞, where `whole` is that of all of them."""
    n, d = a.shape
    if n < 8:
        return jnp.float32(jnp.nan)
    # Parts must be like the whole whatever order rows come in, by class for instance, and unlike in the two sets.
    a, b = (x[np.random.default_rng(i).permutation(n)] for i, x in enumerate((a, b)))
    parts = (1, 2, 4)
    values = [whole]
    for p in parts[1:]:
        split = (x[: n // p * p].reshape(p, n // p, d) for x in (a, b))
        values.append(jax.vmap(frechet)(*split).mean())
    inverse = [p / n for p in parts]
    intercept = np.linalg.pinv(np.stack([np.ones(len(parts)), inverse], 1))[0]  # [parts]: of the least-squares line
    return jnp.stack(values) @ jnp.asarray(intercept, jnp.float32)


def energy(a: Array, b: Array) -> Array:
    """2E‖X-Y‖ - E‖X-X'‖ - E‖Y-Y'‖ (Székely & Rizzo 2013), unbiased, of rows [n, d] and [m, d], in O(n + m) memory."""
    a, b = jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32)
    shift = a.mean(0)  # [d]: squares of what is far from 0 cancel badly
    return mmd(_minus_distance, a - shift, b - shift)[0]


def cubic(a: Array, b: Array) -> Array:
    """(a·b/d + 1)³ of rows [p, d] and [q, d], [p, q]."""
    return (_dot(a, b.T) / a.shape[1] + 1) ** 3


def _minus_distance(a: Array, b: Array) -> Array:
    squared = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * _dot(a, b.T)  # [p, q]
    return -jnp.sqrt(jnp.maximum(squared, 0))


def mmd(kernel: Callable[[Array, Array], Array], x: Array, y: Array, block: int = 512) -> tuple[Array, Array]:
    """Squared maximum mean discrepancy of rows x [n, d] and y [m, d], and its standard error, where n = m.

    The first is the unbiased mean k(x, x') + mean k(y, y') - 2 mean k(x, y) over x ≠ x', y ≠ y' and all x, y (Gretton
    et al. 2012).  `kernel` is a map from rows [p, d], [q, d] to [p, q]; -‖a - b‖ makes it the energy distance.

    Without the pairs (x_i, y_i) it is the U-statistic of h_ij = k(x_i, x_j) + k(y_i, y_j) - k(x_i, y_j) - k(y_i, x_j).
    The variance of a mean U of h over i ≠ j is E U² - (E h)², and (E h)² is the mean of h_ij h_kl over distinct i, j,
    k, l; with h centred by U this is (4 Σ_i (Σ_j h_ij)² - 2 Σ_ij h_ij²) / n(n-1)(n-2)(n-3): unbiased for equal laws,
    where the first-order term of the variance is 0, as for others.  It can chance to be low there, so it is held
    above half of the second-order term, Var h / n(n-1), which it is at least.  NaN for n < 4 or n ≠ m.

    The table of k is symmetric, so only half of it is gone through, by tiles of `block` x `block`.
    """
    x, y = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)
    n, m = x.shape[0], y.shape[0]
    block = min(block, max(n, m))
    tiles = -(-max(n, m) // block)

    def tiled(a: Array) -> Array:
        return jnp.pad(a, ((0, tiles * block - a.shape[0]), (0, 0))).reshape(tiles, block, -1)

    x_tiles, y_tiles = tiled(x), tiled(y)  # [tiles, block, d]
    in_x, in_y = tiled(jnp.ones((n, 1)))[..., 0], tiled(jnp.ones((m, 1)))[..., 0]  # [tiles, block]: 0 for padding
    paired = in_x * in_y
    off_diagonal = 1 - jnp.eye(block)

    def total(u: Array, table: Array, v: Array) -> Array:
        return _dot(_dot(u, table), v)

    def tile(carry: tuple[Array, Array, Array], at: tuple[Array, Array]) -> tuple[tuple[Array, Array, Array], None]:
        value, squares, sums = carry
        i, j = at
        others = jnp.where(i == j, off_diagonal, 1)  # [block, block]: no row is compared with itself
        twice = jnp.where(i == j, 1, 2)  # the tile below the diagonal is this one transposed
        xx, yy = kernel(x_tiles[i], x_tiles[j]) * others, kernel(y_tiles[i], y_tiles[j]) * others  # [block, block]
        xy, yx = kernel(x_tiles[i], y_tiles[j]), kernel(y_tiles[i], x_tiles[j])
        within = total(in_x[i], xx, in_x[j]) / float(n * (n - 1)) + total(in_y[i], yy, in_y[j]) / float(m * (m - 1))
        across = (total(in_x[i], xy, in_y[j]) + total(in_y[i], yx, in_x[j])) / float(n * m)
        h = (xx + yy - xy - yx) * others  # [block, block]
        sums = sums.at[i].add(_dot(h, paired[j])).at[j].add((twice - 1) * _dot(paired[i], h))
        squares = squares + twice * total(paired[i], h**2, paired[j])
        return (value + twice * (within - across), squares, sums), None

    zero = jnp.float32(0)
    start = (zero, zero, jnp.zeros((tiles, block)))
    i, j = np.triu_indices(tiles)
    (value, squares, sums), _ = jax.lax.scan(tile, start, (jnp.asarray(i), jnp.asarray(j)))
    if n != m or n < 4:
        return value, jnp.float32(jnp.nan)
    pairs = float(n * (n - 1))
    sums = sums.reshape(-1)[:n]  # [n]: Σ_j h_ij
    mean = sums.sum() / pairs
    scatter = squares - pairs * mean**2  # Σ_ij (h_ij - U)²
    variance = (4 * ((sums - (n - 1) * mean) ** 2).sum() - 2 * scatter) / (pairs * (n - 2) * (n - 3))
    return value, jnp.sqrt(jnp.maximum(variance, jnp.maximum(scatter, 0) / pairs**2))


def _dot(a: Array, b: Array) -> Array:
    """a @ b in full float32, which accelerators do not give unasked."""
    return jnp.matmul(a, b, precision="highest")
