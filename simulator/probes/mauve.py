"""MAUVE: the area under the frontier of divergences between real text and samples, in clusters of a feature space."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from simulator.checks.fields import Count, Positive, Range, Whole, check
from simulator.pool import Rows, count
from simulator.probes.classifier import in_blocks
from simulator.probes.features import squared_distances, training
from simulator.probes.finite import where_finite
from simulator.probes.text import up_to, windows
from simulator.types import Array, Key, Source, View, embedded

_WEIGHTS = 25  # points of the frontier, as published
_ODD = 0x9E3779B1  # 2^32 over the golden ratio


@dataclass(frozen=True)
class HashedNgrams:
    """Token statistics as a feature space: which n-grams a window has, by their hashes, [n, width].

    Each n-gram, n = 1, ..., `order`, adds 1 or -1 to one of `width` places (Weinberger et al. 2009, arXiv:0902.2206);
    the vector then has length 1.  It asks for no model: what there is without one, and what a `Detector` of text reads.
    A feature space sees rows alone, and so is told itself which token ends a text, `HashedNgrams(eos=text.eos)`.
    """

    order: Count = 2  # longest n-grams
    width: Count = 256  # places
    eos: Whole | None = None  # the token behind which no n-gram counts; None: all do

    __post_init__ = check

    def __call__(self, rows: Rows) -> Array:
        tokens = windows(rows).astype(jnp.uint32) + 1  # [n, length]
        n, there = tokens.shape[0], up_to(self.eos, windows(rows))  # [n, length]
        found, hashed = jnp.zeros((n, self.width)), jnp.zeros_like(tokens)
        for k in range(min(self.order, tokens.shape[1])):
            hashed = _scrambled(hashed[:, : tokens.shape[1] - k] + tokens[:, k:])  # [n, length - k]
            sign = jnp.where(there[:, k:], 1.0 - 2.0 * (hashed >> 31), 0.0)
            found = found.at[jnp.arange(n)[:, None], (hashed >> 8) % self.width].add(sign)
        return found / jnp.maximum(jnp.linalg.norm(found, axis=1, keepdims=True), 1e-12)


def _scrambled(x: Array) -> Array:
    """Bits of uint32 well mixed."""
    for shift in (16, 13, 16):
        x = (x ^ (x >> shift)) * jnp.uint32(_ODD)
    return x ^ (x >> 15)


@dataclass(frozen=True)
class Mauve:
    """MAUVE of samples and held-out real rows (Pillutla et al. 2021, arXiv:2102.01454), with both of its noises.

    With P and Q the shares of real rows and samples in k clusters and R = λP + (1-λ)Q, the area under the points
    (exp(-c KL(Q|R)), exp(-c KL(P|R))) for λ in [0, 1]: 1 for equal shares, near 0 for shares without overlap.  The
    clusters are those of real training rows alone, k-means by scikit-learn before generation 0, the same for all chains
    and generations, where the paper makes them anew of both sets after a principal component analysis; so values of
    one run compare with each other and with its ceiling, not with published ones.

    Of texts that end before their rows do, `features=HashedNgrams(eos=...)` leaves out what follows.

    Two such numbers may differ by which clusters k-means happened to find: `mauve` is the mean over `clusterings`, and
    `noise` their standard deviation.  `error` is the bootstrap's standard error over real rows and samples, and low and
    high are the 95 % interval, the bootstrap's about its own mean.  Finite sets of one law score below 1.

    mauve | area under the divergence frontier, mean over clusterings | (0, 1] | higher is better | O(n k d)
    noise | its standard deviation over clusterings | [0, 1] | neither | O(n k d)
    error | its standard error over rows | [0, 1] | neither | O(B n k)
    low | the lower end of its 95 % interval | [0, 1] | neither | O(B n k)
    high | the upper end of its 95 % interval | [0, 1] | neither | O(B n k)
    rows | samples used | rows | neither | O(1)
    reference_rows | held-out rows used | rows | neither | O(1)
    """

    features: Callable[..., Array] = HashedNgrams()
    clusters: Annotated[int, Range(2)] = 50  # k; a tenth of the rows in the paper
    clusterings: Annotated[int, Range(2)] = 5  # of other seeds
    scale: Positive = 5.0  # c
    draws: Annotated[int, Range(2)] = 200  # B, of the bootstrap
    rows: Count = 5_000  # real training rows that clusters are found in, at most

    __post_init__ = check

    def prepare_with(self, key: Key, source: Source, prepared: Mapping[Any, Any]) -> Array:
        """Centres of the clusters of each clustering, [clusterings, clusters, d]."""
        rows = training(key, source, self.rows)
        x = in_blocks(lambda block: embedded(self.features, prepared, block), rows)  # [rows, d]
        shape = jax.ShapeDtypeStruct((self.clusterings, self.clusters, x.shape[1]), jnp.float32)
        return jax.pure_callback(self._centres, shape, x, vmap_method="sequential")

    def _centres(self, x: Any) -> np.ndarray:
        from sklearn.cluster import KMeans

        each = (KMeans(self.clusters, n_init="auto", random_state=seed) for seed in range(self.clusterings))
        return np.stack([means.fit(np.asarray(x)).cluster_centers_ for means in each]).astype(np.float32)

    def __call__(self, key: Key, view: View) -> dict[str, Any]:
        centres = view.prepared[self]  # [S, k, d]
        # The reference is a constant of the program: the barrier keeps the compiler from computing with it.
        real = view.embed(self.features, jax.lax.optimization_barrier(view.reference))  # [m, d]
        said = view.embed(self.features, view.synthetic)  # [n, d]
        p, q = (members(x, centres) for x in (real, said))  # [S, m, k], [S, n, k]
        each = mauve(p.mean(1), q.mean(1), self.scale)  # [S]
        for_p, for_q = jax.random.split(key)
        drawn = mauve(resampled(for_p, p, self.draws), resampled(for_q, q, self.draws), self.scale).mean(1)  # [B]
        low, high = jnp.quantile(drawn - drawn.mean(), jnp.array([0.025, 0.975])) + each.mean()
        found = {
            "mauve": each.mean(),
            "noise": each.std(ddof=1),
            "error": drawn.std(ddof=1),
            "low": jnp.clip(low, 0, 1),
            "high": jnp.clip(high, 0, 1),
        }
        return {**where_finite(found, real, said), "rows": count(said), "reference_rows": count(real)}


def members(x: Array, centres: Array) -> Array:
    """Which cluster of each clustering, centres [S, k, d], rows [n, d] are nearest to, [S, n, k] of 0 and 1."""
    near = jax.vmap(lambda c: squared_distances(x, c).argmin(1))(centres)  # [S, n]
    return jax.nn.one_hot(near, centres.shape[1])


def resampled(key: Key, member: Array, draws: int) -> Array:
    """Shares of clusters, [draws, S, k], in sets of as many rows drawn with replacement from member [S, n, k]."""
    n = member.shape[1]
    index = jax.random.randint(key, (draws, n), 0, n)
    times = jnp.zeros((draws, n)).at[jnp.arange(draws)[:, None], index].add(1 / n)  # [draws, n]
    return jnp.einsum("bn,snk->bsk", times, member, precision="highest")


def mauve(p: Array, q: Array, scale: float = 5.0) -> Array:
    """The area under the divergence frontier of shares p and q [..., k], [...]."""
    weight = jnp.linspace(1e-6, 1 - 1e-6, _WEIGHTS)[:, None]  # [25, 1]
    p, q = p[..., None, :], q[..., None, :]
    mixed = weight * p + (1 - weight) * q  # [..., 25, k]
    x, y = jnp.exp(-scale * divergence(q, mixed)), jnp.exp(-scale * divergence(p, mixed))  # [..., 25]
    ends = [(0, 0)] * (x.ndim - 1)
    x = jnp.pad(x, [*ends, (1, 0)], constant_values=1)  # the ends of the frontier are (1, 0) and (0, 1)
    x, y = jnp.pad(x, [*ends, (0, 1)]), jnp.pad(y, [*ends, (1, 0)])
    y = jnp.pad(y, [*ends, (0, 1)], constant_values=1)
    return ((x[..., :-1] - x[..., 1:]) * (y[..., :-1] + y[..., 1:])).sum(-1) / 2


def divergence(p: Array, r: Array) -> Array:
    """KL(p|r) = Σ p log p/r in nats over the last axis."""
    there = p > 0
    return jnp.where(there, p * (jnp.log(jnp.where(there, p, 1)) - jnp.log(jnp.where(there, r, 1))), 0).sum(-1)
