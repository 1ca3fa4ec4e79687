"""How samples compare with held-out real rows as sets of points, and with a truth that is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from simulator.abilities import Dense
from simulator.checks.fields import Count, Positive, Range, check
from simulator.numerics.linalg import solve_lower
from simulator.pool import Rows, count
from simulator.probes.features import flat
from simulator.probes.fidelity import energy
from simulator.probes.finite import where_finite, where_number
from simulator.sources.truth import Truth
from simulator.types import Array, Generator, GenlossError, Key, Params, Source, View


@dataclass(frozen=True)
class Points:
    """Energy distance and sliced Wasserstein distance of samples and reference, for sets of any two sizes.

    energy: 2E‖X-Y‖ - E‖X-X'‖ - E‖Y-Y'‖, without bias, 0 on average for equal laws and then below 0 half of the time
    (Székely & Rizzo 2013, doi:10.1016/j.jspi.2013.03.018).  sliced: (E W_p(θ·X, θ·Y)^p)^(1/p) over directions θ
    uniform on the sphere, of which `projections` are drawn anew from the key (Bonneel et al. 2015,
    doi:10.1007/s10851-014-0506-3); exact for each direction.  It falls as 1/√n towards that of the laws, so compare it
    with its floor at the same number of rows.

    energy | 2E‖X-Y‖ - E‖X-X'‖ - E‖Y-Y'‖ | units of the feature, 0 for equal laws | lower is better | O(n² d)
    sliced | sliced p-Wasserstein distance | units of the feature, >= 0 | lower is better | O(L n (d + log n))
    rows | samples used | rows | neither | O(1)
    reference_rows | held-out rows used | rows | neither | O(1)
    """

    features: Callable[..., Array] = flat
    projections: Count = 100  # L, directions
    order: Annotated[float, Range(1)] = 2.0  # p >= 1

    __post_init__ = check

    def __call__(self, key: Key, view: View) -> dict[str, Any]:
        real, fake = embedded(self.features, view)  # [m, d], [n, d]
        theta = directions(key, self.projections, real.shape[1])  # [L, d]
        return {
            "energy": energy(real, fake),
            "sliced": sliced(real, fake, theta, self.order),
            "rows": len(fake),
            "reference_rows": len(real),
        }


@dataclass(frozen=True)
class ExactWasserstein:
    """The p-Wasserstein distance of equally many samples and held-out rows: the cost of the best matching of the two.

    W_p = (min over permutations σ of Σ_i ‖x_i - y_σ(i)‖^p / n)^(1/p) (Peyré & Cuturi 2019, arXiv:1803.00567), by
    scipy's linear_sum_assignment on the host in float64: the compiled step stops for it, chain after chain, and a
    program that contains it is compiled anew in every process.  That of two sets of one law is not 0 but falls as
    n^(-1/d), so compare it with its floor at the same number of rows.

    distance | p-Wasserstein distance | units of the feature, >= 0 | lower is better | O(n³), on the host
    rows | rows used of each set | rows | neither | O(1)
    """

    features: Callable[..., Array] = flat
    rows: Count = 500  # of each set, at most: the first ones
    order: Annotated[float, Range(1)] = 2.0  # p >= 1

    __post_init__ = check

    def __call__(self, key: Key, view: View) -> dict[str, Any]:
        real, fake = embedded(self.features, view)  # [m, d], [n, d]
        n = min(self.rows, len(real), len(fake))
        return {"distance": matched(real[:n], fake[:n], self.order), "rows": n}


@dataclass(frozen=True)
class Likelihood:
    """How likely held-out real rows are under the fitted model, which must have `log_prob`.

    A model that gives some row no probability has mean -inf; `possible` says how many it does give some, and `finite`
    is the mean over those (NaN where there are none).

    mean | mean log-likelihood of held-out rows | nats per row | higher is better | one `log_prob`
    finite | the same over the rows that are possible at all | nats per row | higher is better | one `log_prob`
    possible | share of held-out rows with a likelihood above 0 | [0, 1] | higher is better | one `log_prob`
    rows | held-out rows used | rows | neither | O(1)
    """

    no_ceiling: ClassVar[tuple[str, ...]] = ("",)

    def __call__(self, key: Key, view: View) -> dict[str, Any]:
        each = log_prob(view.generator, view.params, jax.lax.optimization_barrier(view.reference))  # [m]
        possible = each > -jnp.inf  # [m]
        total = jnp.where(possible, each, 0.0).sum()
        found = {"mean": each.mean(), "finite": total / possible.sum(), "possible": possible.mean()}
        return {**where_number(found, each), "rows": len(each)}


@dataclass(frozen=True)
class TrueLikelihood:
    """What a known truth says of samples and model: `TrueLikelihood(Mixture(2, 25))` where the source is its `Truth`.

    With p the truth and q the model: samples = E_q log p is the likelihood of what is said, high also for samples of
    few kinds; excess = E_p log p - E_q log p is what they lack of the likelihood of real rows (below 0 for ones that
    are likelier than real).  Where the generator has a `log_prob` too, reverse = E_q log q/p and forward = E_p log p/q
    estimate KL(q‖p) and KL(p‖q) from samples and held-out rows: the first does not see modes that are lost, the second
    does.  Each may be infinite.

    samples | mean log-likelihood of samples under the truth | nats per row | higher is better | one `log_prob`
    excess | that of held-out real rows less that of samples | nats per row, 0 for the truth | neither | two `log_prob`
    reverse | KL(model‖truth), from samples | nats per row, >= 0 but for noise | lower is better | two `log_prob`
    forward | KL(truth‖model), from held-out rows | nats per row, >= 0 but for noise | lower is better | two `log_prob`
    rows | samples used | rows | neither | O(1)
    reference_rows | held-out rows used | rows | neither | O(1)
    """

    no_ceiling: ClassVar[tuple[str, ...]] = ("reverse", "forward")

    truth: Generator  # the one that the source's `Truth` draws from

    def __post_init__(self) -> None:
        if not isinstance(self.truth, Dense):
            raise GenlossError(f"{type(self.truth).__name__} has no log_prob; leave TrueLikelihood out.")

    def prepare(self, key: Key, source: Source) -> Params:
        """The truth's parameters."""
        return parameters(source, self.truth)

    def __call__(self, key: Key, view: View) -> dict[str, Any]:
        params, real = view.prepared[self], jax.lax.optimization_barrier(view.reference)
        said, served = log_prob(self.truth, params, view.synthetic), log_prob(self.truth, params, real)  # [n], [m]
        found = {
            "samples": said.mean(),
            "excess": served.mean() - said.mean(),
            "rows": len(said),
            "reference_rows": len(served),
        }
        if isinstance(view.generator, Dense):
            found["reverse"] = (log_prob(view.generator, view.params, view.synthetic) - said).mean()
            found["forward"] = (served - log_prob(view.generator, view.params, real)).mean()
        return found


@dataclass(frozen=True)
class Centres:
    """Which modes of a mixture samples still visit, where the source is the `Truth` of one: its parameters have `means`
    [k, d] and `covs` [k, d, d].

    A sample belongs to the mode it is fewest standard deviations from, √((x-μ)ᵀ Σ⁻¹ (x-μ)), and is of high quality
    within `radius` of them; a mode with at least one such sample is covered (the count of grids of 25 Gaussians:
    Srivastava et al. 2017, arXiv:1705.07761; Lin et al. 2018, arXiv:1712.04086).

    covered | share of modes with a sample of high quality | [0, 1] | higher is more diverse | O(n k d²)
    quality | share of samples within `radius` standard deviations of their mode | [0, 1] | higher is better | O(n k d²)
    entropy | entropy of the shares of samples of the modes | nats, [0, log k] | higher is more diverse | O(n k d²)
    rows | samples used | rows | neither | O(1)
    """

    radius: Positive = 3.0  # standard deviations

    __post_init__ = check

    def prepare(self, key: Key, source: Source) -> dict[str, Array]:
        """{"means": [k, d], "lower": [k, d, d]}, Cholesky factors of the covariances."""
        params = parameters(source)
        if not (hasattr(params, "means") and hasattr(params, "covs")):
            raise GenlossError("Centres needs the truth of a mixture, whose parameters have `means` and `covs`.")
        return {"means": jnp.asarray(params.means), "lower": jnp.linalg.cholesky(jnp.asarray(params.covs))}

    def __call__(self, key: Key, view: View) -> dict[str, Any]:
        modes, x = view.prepared[self], flat(view.synthetic)  # [n, d]

        def squares(mean: Array, lower: Array) -> Array:
            white = solve_lower(lower, (x - mean).T)  # [d, n]
            return (white**2).sum(0)  # [n]

        far = jax.vmap(squares)(modes["means"], modes["lower"])  # [k, n]: squared standard deviations
        nearest = far.argmin(0)  # [n]
        good = far.min(0) <= self.radius**2  # [n]
        kinds = len(far)
        share = jnp.zeros(kinds).at[nearest].add(1 / len(x))  # [k]
        found = {
            "covered": jnp.zeros(kinds).at[nearest].max(good.astype(jnp.float32)).mean(),
            "quality": good.mean(),
            "entropy": jax.scipy.special.entr(share).sum(),
        }
        return {**where_finite(found, x), "rows": len(x)}


def embedded(features: Callable[..., Array], view: View) -> tuple[Array, Array]:
    """Reference [m, d] and samples [n, d] in a feature space."""
    # The reference is a constant of the program: without the barrier the compiler would compute with it.
    return jax.lax.optimization_barrier(view.embed(features, view.reference)), view.embed(features, view.synthetic)


def parameters(source: Source, truth: Generator | None = None) -> Params:
    """The parameters of a known truth, which must be that of the generator `truth` where it is given."""
    if not isinstance(source, Truth):
        raise GenlossError(
            f"The source is a {type(source).__name__}, of which no truth is known; leave out the probe that needs one."
        )
    if truth is not None and source.generator != truth:
        raise GenlossError(f"The probe knows {truth} for the truth and the source draws from {source.generator}.")
    return source.generator.init(jax.random.key(0)) if source.params is None else source.params


def log_prob(generator: Generator, params: Params, rows: Rows) -> Array:
    """Log-likelihood of rows [n] under a generator, which must have one."""
    if not isinstance(generator, Dense):
        raise GenlossError(f"{type(generator).__name__} has no log_prob; leave out the probe that asks for it.")
    return jnp.broadcast_to(generator.log_prob(params, rows), (count(rows),))


def directions(key: Key, many: int, dim: int) -> Array:
    """Uniform on the unit sphere, [many, dim]."""
    normal = jax.random.normal(key, (many, dim))
    return normal / jnp.linalg.norm(normal, axis=1, keepdims=True)


def sliced(a: Array, b: Array, theta: Array, order: float = 2.0) -> Array:
    """(mean over θ of W_p^p(θ·a, θ·b))^(1/p); rows [n, d] and [m, d], directions [L, d]."""
    with jax.default_matmul_precision("highest"):
        along_a, along_b = theta @ a.T, theta @ b.T  # [L, n], [L, m]
    return (quantile_cost(along_a, along_b, order).mean()) ** (1 / order)


def quantile_cost(a: Array, b: Array, order: float) -> Array:
    """W_p^p of sets of numbers [..., n] and [..., m]: ∫ |quantile of a - quantile of b|^p, exactly, [...]."""
    n, m = a.shape[-1], b.shape[-1]
    a, b = ascending(a), ascending(b)
    if n != m:
        # Between multiples of 1/n and 1/m both quantile functions are constant; levels in units of 1/(n m).
        level = np.union1d(np.arange(1, n + 1, dtype=np.int64) * m, np.arange(1, m + 1, dtype=np.int64) * n)
        width = np.diff(level, prepend=0) / (n * m)  # [< n + m]
        a, b = a[..., (level - 1) // m], b[..., (level - 1) // n]  # [..., < n + m]
    else:
        width = np.full(n, 1 / n)
    apart = jnp.abs(a - b)
    cost = apart if order == 1 else apart**2 if order == 2 else apart**order
    return (cost * width.astype(np.float32)).sum(-1)


def ascending(x: Array) -> Array:
    """Sorted along the last axis."""
    # As integers in the order of the floats: a CPU sorts those five times as fast.
    bits = jax.lax.bitcast_convert_type(jnp.asarray(x, jnp.float32), jnp.int32)
    bits = jnp.sort(bits ^ ((bits >> 31) & 0x7FFFFFFF), axis=-1)
    return jax.lax.bitcast_convert_type(bits ^ ((bits >> 31) & 0x7FFFFFFF), jnp.float32)


def matched(a: Array, b: Array, order: float = 2.0) -> Array:
    """(mean ‖a_i - b_σ(i)‖^p)^(1/p) of the best matching σ of rows [n, d] and [n, d]; NaN where a row is not finite."""
    shape = jax.ShapeDtypeStruct((), jnp.float32)
    return jax.pure_callback(lambda a, b: _matched(a, b, order), shape, a, b, vmap_method="sequential")


def _matched(a: Any, b: Any, order: float) -> np.ndarray:
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    cost = cdist(np.asarray(a, np.float64), np.asarray(b, np.float64)) ** order  # [n, n]
    if not np.isfinite(cost).all():
        return np.asarray(np.nan, np.float32)
    return np.asarray(cost[linear_sum_assignment(cost)].mean() ** (1 / order), np.float32)
