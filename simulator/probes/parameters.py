"""What the fitted parameters of the exact models say, where the truth is known; theory is drawn over these.

Each reads `view.params`; none looks at rows, so a chain measured by them alone draws nothing beyond what it eats.
Of the members of a `Society` each takes the mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp

from simulator.checks.fields import Positive
from simulator.numerics.linalg import eigvalsh
from simulator.probes.finite import where_finite
from simulator.types import Array, Key, View


@dataclass(frozen=True)
class Moments:
    """The fitted Gaussian against the truth N(μ0, σ0² I).

    variance: tr Σ_t / tr Σ_0, 1 for the truth; mean_error: ‖m_t - μ0‖²/σ0².

    variance | fitted variance over that of the truth | >= 0, 1 for the truth | higher is more diverse | O(d)
    mean_error | squared distance of the fitted mean from the truth's, over σ0² | >= 0 | lower is better | O(d)
    """

    mean: float = 0.0  # μ0, of every coordinate
    variance: Positive = 1.0  # σ0², of every coordinate

    def __call__(self, key: Key, view: View) -> dict[str, Array]:
        return {
            "variance": view.params.variances.mean() / self.variance,  # [d] -> []
            "mean_error": ((view.params.mean - self.mean) ** 2).sum(-1).mean() / self.variance,
        }


@dataclass(frozen=True)
class LogDet:
    """log det Σ_t / det Σ_0 of the fitted Gaussian, in nats, for the truth N(·, σ0² I).

    log_det | the probe's one value | nats, 0 for the truth | higher is more diverse | O(d³)
    """

    variance: Positive = 1.0  # σ0², of every coordinate

    def __call__(self, key: Key, view: View) -> Array:
        value = view.params.log_det.mean() - view.params.mean.shape[-1] * jnp.log(
            self.variance
        )  # -inf: a direction lost
        return where_finite(value, view.params)


@dataclass(frozen=True)
class Wasserstein:
    """W2²(N(0, I), N(m_t, Σ_t)) = ‖m‖² + Σ_i (√λ_i - 1)², λ the eigenvalues of Σ_t, in squared units of the rows.

    wasserstein | the probe's one value | rows², >= 0 | lower is better | O(d³)
    """

    def __call__(self, key: Key, view: View) -> Array:
        values = eigvalsh(view.params.cov)  # [d]
        each = (view.params.mean**2).sum(-1) + ((jnp.sqrt(jnp.maximum(values, 0)) - 1) ** 2).sum(-1)  # []
        return each.mean()


@dataclass(frozen=True)
class Categories:
    """Fitted shares p of categories: how many are left, whether it is one, and the chance that two draws differ.

    Of `PerClass` they are those of the labels.

    left: number of p_i > 0; fixed: 1 where one is left; heterozygosity: 1 - Σ p², in [0, 1).

    left | categories with a share above 0 | [1, size] | higher is more diverse | O(size)
    fixed | whether one category is left | 0 or 1 | lower is more diverse | O(size)
    heterozygosity | chance that two draws differ | [0, 1) | higher is more diverse | O(size)
    """

    def __call__(self, key: Key, view: View) -> dict[str, Array]:
        p = view.params.probs  # [size]
        left = (p > 0).sum(-1)  # []
        found = {"left": left.mean(), "fixed": (left == 1).mean(), "heterozygosity": (1 - (p**2).sum(-1)).mean()}
        return where_finite(found, p)


@dataclass(frozen=True)
class Rate:
    """The fitted mean of a model of one number (`Poisson`, `Bernoulli`, `Exponential`), and whether it is above 0.

    rate | fitted mean | units of the rows, >= 0 | neither | O(1)
    alive | whether the rate is above 0 | 0 or 1 | higher is more diverse | O(1)
    """

    def __call__(self, key: Key, view: View) -> dict[str, Array]:
        (rate,) = view.params  # []
        return where_finite({"rate": rate.mean(), "alive": (rate > 0).mean()}, rate)


@dataclass(frozen=True)
class LogRate:
    """log of the fitted mean of a model of one number: what its typical chain does, where the mean is kept by a few.

    log_rate | logarithm of the fitted mean | nats; -inf where the rate is 0 | neither | O(1)
    """

    def __call__(self, key: Key, view: View) -> Array:
        (rate,) = view.params  # []
        return jnp.log(rate).mean()


@dataclass(frozen=True)
class Risk:
    """Excess test risk ‖coef - truth‖² of a regression for x ~ N(0, I), in squared units of y.

    The truth is the generator's own start, which is what `Truth(Linear(d))` draws from.

    risk | the probe's one value | y², >= 0 | lower is better | O(d)
    """

    def __call__(self, key: Key, view: View) -> Array:
        return ((view.params.coef - view.generator.init(key).coef) ** 2).sum(-1).mean()
