"""Closed forms of chains that count: categories, coins, Poisson counts, waiting times.

Fit number t = 1 is the model fitted on n real rows (record index t - 1); p are the true probabilities, p_t the fitted
ones.  Under replace the count of a category is the Wright-Fisher chain x' ~ Bin(n, x/n).  Functions of `generations`
return values for t = 1..generations.  Heterozygosity H = 1 - Σ p_i² is the chance that two draws differ; the fitted
variance of an indicator being p(1 - p), H obeys every second-moment law of the Gaussian fitted by ML.
"""

from __future__ import annotations

import numpy as np
from scipy.special import digamma, gammainc, gammaln, polygamma, xlog1py, xlogy, zeta

from simulator.theory.gaussian import (
    Values,
    accumulate_variance,
    fits,
    fresh_share,
    fresh_share_limit,
    replace_variance,
)

# Heterozygosity, whatever the number of categories.


def replace_heterozygosity(n: int, generations: int, start: float = 1.0) -> Values:
    """E[H_t] = H_0 (1 - 1/n)^t under replace, H_0 = `start` that of the truth (Wright-Fisher).

    >>> np.round(replace_heterozygosity(2, 3), 4).tolist()
    [0.5, 0.25, 0.125]
    """
    return start * replace_variance(n, generations)


def accumulate_heterozygosity(n: int, generations: int, start: float = 1.0) -> Values:
    """E[H_t] = H_0 Π_{k=1..t} (1 - 1/(n k²)) when all t·n rows are kept (Kazdan et al. 2024, arXiv:2410.16713).

    >>> np.round(accumulate_heterozygosity(2, 3), 4).tolist()
    [0.5, 0.4375, 0.4132]
    """
    return start * accumulate_variance(n, generations)


def fresh_heterozygosity(n: int, share: float, generations: int, start: float = 1.0) -> Values:
    """E[H_t] with a share α of fresh real rows each generation, the rest from the last model (derived).

    >>> np.round(fresh_heterozygosity(2, 0.5, 3), 4).tolist()
    [0.5, 0.5, 0.5]
    """
    return start * fresh_share(n, share, generations)[0]


def fresh_heterozygosity_limit(n: int, share: float, start: float = 1.0) -> float:
    """`fresh_heterozygosity` for t -> infinity: H_0 (1 - 1/D), D = 1 - α + αn(2-α) (derived).

    >>> round(fresh_heterozygosity_limit(2, 0.5), 4)
    0.5
    """
    return start * fresh_share_limit(n, share)[0]


def smoothed_concentration(size: int, n: int, smoothing: float, generations: int, start: float) -> Values:
    """E[Σ p_i²] under replace with Laplace smoothing β; `start` is Σ p_i² of the truth (derived).

    With a = n/(n + size·β) the fit is p' = a x/n + (1-a)/size, so G' = a²(G + (1-G)/n) + (1-a²)/size.

    >>> np.round(smoothed_concentration(2, 4, 1.0, 3, 1.0), 4).tolist()
    [0.7222, 0.6296, 0.5988]
    """
    a, found = n / (n + size * smoothing), [start]
    for _ in range(generations):
        found.append(a**2 * (found[-1] + (1 - found[-1]) / n) + (1 - a**2) / size)
    return np.array(found[1:])


def smoothed_concentration_limit(size: int, n: int, smoothing: float) -> float:
    """`smoothed_concentration` for t -> infinity: (a²/n + (1-a²)/size) / (1 - a²(1-1/n)) (derived).

    >>> round(smoothed_concentration_limit(2, 4, 1.0), 4)
    0.5833
    """
    a = n / (n + size * smoothing)
    return (a**2 / n + (1 - a**2) / size) / (1 - a**2 * (1 - 1 / n))


# Which categories are left.


def category_loss(probs: Values | float, n: int) -> Values:
    """Probability (1-p)^n that a category of probability p is lost at the first fit, for each p.

    >>> round(float(category_loss(0.5, 2)), 4)
    0.25
    """
    return (1 - np.asarray(probs, np.float64)) ** n


def expected_distinct(probs: Values, n: int) -> float:
    """Expected number of categories among n draws: Σ_i (1 - (1-p_i)^n).

    >>> round(expected_distinct(np.array([0.5, 0.5]), 2), 4)
    1.5
    """
    return float((1 - category_loss(probs, n)).sum())


def missing_mass(probs: Values, n: int) -> float:
    """Expected probability of what n draws did not show: Σ_i p_i (1-p_i)^n.

    >>> round(missing_mass(np.array([0.5, 0.5]), 2), 4)
    0.25
    """
    return float((probs * category_loss(probs, n)).sum())


def zipf_missing_mass(exponent: float, n: Values | int, head: int = 0) -> Values:
    """`missing_mass` of infinitely many categories p_i ∝ i^-β, β > 1 (Dohmatob et al. 2024, arXiv:2402.07043).

    Without `head` the scaling law for n -> infinity, (1/β) Γ(1-1/β) ζ(β)^(-1/β) n^-(1-1/β).  With it the first `head`
    categories are summed exactly and those beyond by an integral, the same with γ(1-1/β, n p_{head+1/2}) for Γ.

    >>> round(float(zipf_missing_mass(1.5, 100)), 4)
    0.2029
    """
    n, power = np.asarray(n, np.float64)[..., None], 1 / exponent  # [..., 1]
    probs = np.arange(1.0, head + 1) ** -exponent / zeta(exponent)  # [head]
    first = (probs * (1 - probs) ** n).sum(-1)
    below = gammainc(1 - power, n * (head + 0.5) ** -exponent / zeta(exponent)) if head else np.ones_like(n)
    return first + power * np.exp(gammaln(1 - power)) * zeta(exponent) ** -power * (n ** (power - 1) * below)[..., 0]


def category_count(prob: float, n: int, generations: int) -> Values:
    """Law of a category's count under replace, [generations, n + 1], exactly: x_1 ~ Bin(n, p), x' ~ Bin(n, x/n).

    >>> np.round(category_count(0.5, 2, 2), 4).tolist()
    [[0.25, 0.5, 0.25], [0.375, 0.25, 0.375]]
    """
    found = [_binomial(n, np.array([prob]))[0]]
    step = _wright_fisher(n)
    for _ in range(generations - 1):
        found.append(found[-1] @ step)
    return np.array(found)


def category_survival(prob: float, n: int, generations: int) -> Values:
    """Probability under replace that a category of probability p still has p_t > 0, exactly.

    >>> np.round(category_survival(0.5, 2, 3), 4).tolist()
    [0.75, 0.625, 0.5625]
    """
    return 1 - category_count(prob, n, generations)[:, 0]


def expected_support(probs: Values, n: int, generations: int) -> Values:
    """Expected number of categories with p_t > 0 under replace, exactly.

    >>> np.round(expected_support(np.array([0.5, 0.5]), 2, 3), 4).tolist()
    [1.5, 1.25, 1.125]
    """
    kinds, times = np.unique(probs, return_counts=True)
    return sum((k * category_survival(p, n, generations) for p, k in zip(kinds, times, strict=True)), np.zeros(()))


def fixation(probs: Values, n: int, generations: int) -> Values:
    """Probability under replace that one category has all of p_t, exactly.

    >>> np.round(fixation(np.array([0.5, 0.5]), 2, 3), 4).tolist()
    [0.5, 0.75, 0.875]
    """
    kinds, times = np.unique(probs, return_counts=True)
    return sum((k * category_count(p, n, generations)[:, n] for p, k in zip(kinds, times, strict=True)), np.zeros(()))


def mean_fixation_time(probs: Values, n: int) -> float:
    """Expected number of the first fit at which one category has all, under replace, exactly (derived).

    From count x a category takes all with probability x/n; f(x) = Σ_s (x/n - P(it has all after s steps)) solves
    (I - Q) f = x/n, Q the chain among 0 < x < n, and the time is 1 + Σ_i E f(Bin(n, p_i)).  For two categories this is
    the (I - Q)^-1 1 of the textbooks; for very many it tends to 1 + n f(1), about 2n (1 - 1/n).

    >>> round(mean_fixation_time(np.array([0.5, 0.5]), 2), 4)
    2.0
    """
    inner = np.arange(1, n)
    waiting = np.zeros(n + 1)  # f, 0 where lost or fixed
    waiting[1:n] = np.linalg.solve(np.eye(n - 1) - _wright_fisher(n)[1:n, 1:n], inner / n)
    kinds, times = np.unique(probs, return_counts=True)
    return float(1 + times @ (_binomial(n, kinds) @ waiting))


def _binomial(n: int, probs: Values) -> Values:
    """P(Bin(n, p) = x), [probs, n + 1]."""
    x, p = np.arange(n + 1), probs[:, None]
    return np.exp(gammaln(n + 1) - gammaln(x + 1) - gammaln(n - x + 1) + xlogy(x, p) + xlog1py(n - x, -p))


def _wright_fisher(n: int) -> Values:
    """Transition matrix of x' ~ Bin(n, x/n), [n + 1, n + 1]."""
    return _binomial(n, np.arange(n + 1) / n)


# Sharper samples, counts, waiting times.


def tempered(probs: Values, temperature: float, generations: int) -> Values:
    """p_t under replace when samples come from p^(1/τ) and n is large, [generations, size]: p_t ∝ p^(τ^-(t-1)).

    The first fit eats real rows, which carry no temperature, so exponents count the fits on samples.

    >>> np.round(tempered(np.array([0.8, 0.2]), 0.5, 2), 4).tolist()
    [[0.8, 0.2], [0.9412, 0.0588]]
    """
    power = float(temperature) ** -(fits(generations)[:, None] - 1)  # [generations, 1]
    mass = (np.asarray(probs, np.float64) / np.max(probs)) ** power  # [generations, size]
    return mass / mass.sum(1, keepdims=True)


def poisson_survival(n: int, rate: float, generations: int) -> Values:
    """P(λ_t > 0) under replace: 1 - exp(-n λ_0 g_t), g_1 = 1, g_{t+1} = 1 - exp(-g_t) (arXiv:2412.17646).

    The total count of n rows is a branching process with Poisson(1) children; λ_t > 0 while it lives.

    >>> np.round(poisson_survival(2, 1.0, 3), 4).tolist()
    [0.8647, 0.7175, 0.6082]
    """
    alive = [1.0]
    for _ in range(generations - 1):
        alive.append(-np.expm1(-alive[-1]))
    return -np.expm1(-n * rate * np.array(alive))


def exponential_log_mean(n: int, generations: int) -> tuple[Values, Values]:
    """Mean and variance of log m_t under replace, true mean 1: a random walk, drift ψ(n) - log n, variance ψ1(n)
    (derived: the mean of n standard exponentials is Gamma(n)/n).

    >>> [np.round(part, 4).tolist() for part in exponential_log_mean(2, 3)]
    [[-0.2704, -0.5407, -0.8111], [0.6449, 1.2899, 1.9348]]
    """
    t = fits(generations)
    return t * exponential_log_steps(np.asarray(n)), t * float(polygamma(1, n))


def exponential_log_steps(n: Values) -> Values:
    """What a fit to n samples of a model adds to E[log m]: ψ(n) - log n, for each n (derived).

    >>> np.round(exponential_log_steps(np.array([1, 2])), 4).tolist()
    [-0.5772, -0.2704]
    """
    return digamma(n) - np.log(n)


def exponential_second_moment(n: int, generations: int, accumulate: bool = False) -> Values:
    """E[m_t²], true mean 1: (1 + 1/n)^t under replace; Π_{k=1..t} (1 + 1/(n k²)) when all rows are kept, with limit
    sinh(π/√n)/(π/√n) (derived).  E[m_t] = 1 under both.

    >>> np.round(exponential_second_moment(2, 3), 4).tolist()
    [1.5, 2.25, 3.375]
    """
    t = fits(generations)
    return np.cumprod(1 + 1 / (n * t**2)) if accumulate else (1 + 1 / n) ** t
