"""Which metric of which model has which law: each finds the curve and says in a sentence whose it is, or why not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from simulator.probes.diversity import Diversity
from simulator.probes.features import flat
from simulator.probes.parameters import Categories, LogDet, LogRate, Moments, Rate, Risk, Wasserstein
from simulator.theory import counts, designs, gaussian, golden, regression
from simulator.theory.facts import Facts
from simulator.theory.gaussian import Values
from simulator.theory.tilt import curated
from simulator.theory.workflow import follow
from simulator.types import GenlossError

Law = Callable[[Facts, Any], tuple[Any, str]]
"""(curve, sentence) of one metric of a probe; raises `GenlossError` with a sentence where there is none."""


def laws(facts: Facts, probe: Any) -> dict[str, Law]:
    """The metrics of a probe, and the law that is looked for behind each; "" for a probe of a single number."""
    known = _LAWS.get((type(probe), facts.kind))
    if known is not None and facts.truth is not None:
        return known
    if known is not None:
        what = type(facts.chain.source).__name__
        return dict.fromkeys(known, _none(f"no law is known for {facts.kind} fitted to {what}; the truth differs."))
    name, model = getattr(probe, "__name__", type(probe).__name__), type(facts.model).__name__
    exact = any(facts.kind == kind for _, kind in _LAWS)
    about = f"what {name} measures of a chain of {model}" if exact else f"a chain of {model}"
    return {"": _none(f"no law is known for {about}.")}


def _none(sentence: str) -> Law:
    def law(facts: Facts, probe: Any) -> tuple[Any, str]:
        raise GenlossError(sentence)

    return law


# Gaussian: weighted means and variances.


def _second_moments(facts: Facts, bias: float = 1.0, ddof: int = 0) -> tuple[Values, Values, str]:
    """(E[S_t], V_t, the law) of a weighted mean and variance, in units of the truth's variance."""
    fits, n = facts.generations, facts.replaces
    rare = "; at t > n few chains carry the mean" if n and fits > n else ""
    if n and bias == 1 and ddof == 0:
        said = "replace: E[S_t] = (1 - 1/n)^t = 1 - V_t (Shumailov et al. 2024, doi:10.1038/s41586-024-07566-y)"
        return gaussian.replace_variance(n, fits), gaussian.replace_mean_error(n, fits), f"{said}{rare}."
    if n:
        said = "replace: E[S_t] = λ^(t-1), V_t = Σ λ^k/n (arXiv:2307.01850)"
        if ddof != 1:
            said = f"replace: E[S_t] = r^t λ^(t-1), V_t = Σ (rλ)^k/n, r = (n-1)/(n-{ddof}) (derived)"
        return *gaussian.biased_variance(n, bias, fits, ddof), f"{said}{rare}."
    if facts.accumulates and ddof == 0 and bias == 1:
        kept = gaussian.accumulate_variance(facts.grows, fits)
        return kept, 1 - kept, "accumulate: E[S_t] = Π (1 - 1/(n k²)) = 1 - V_t (Kazdan et al. 2024, arXiv:2410.16713)."
    if facts.subsamples and ddof == 0 and bias == 1:
        kept = gaussian.subsample_variance(facts.grows, fits)
        return kept, 1 - kept, "accumulate and subsample: E[S_t] = 1 - V_t in closed form (derived)."
    if (found := facts.freshens) is not None:
        said = f"a share {found[1]:g} of fresh real rows: the exact recursion of E[S_t] and V_t (derived)."
        return *gaussian.fresh_share(*found, fits, bias, ddof), said
    variance, error = follow(facts.eats, bias=bias, ddof=ddof)
    return variance, error, f"the law of linear workflows, from the recipe's own weights{facts.averaged} (derived)."


def _gaussian(facts: Facts) -> tuple[Values, Values, str]:
    ddof = facts.model.ddof
    if (facts.eats.mass <= ddof).any():
        raise GenlossError(f"a diet of {facts.eats.mass.min():g} rows has no variance with ddof={ddof}.")
    return _second_moments(facts, float(facts.model.bias), ddof)


def _variance(facts: Facts, probe: Moments) -> tuple[Values, str]:
    mean, cov = facts.spread
    if facts.curates is not None:
        return curated(facts, mean, cov) / probe.variance, TILTED
    kept, _, said = _gaussian(facts)
    return kept * np.diag(cov).mean() / probe.variance, said


TILTED = (
    "curation by a quadratic reward, in the limit of many rows: each Gaussian is tilted by it and is one again "
    "(Ferbach et al. 2024, arXiv:2407.09499)."
)


def _mean_error(facts: Facts, probe: Moments) -> tuple[Values, str]:
    mean, cov = facts.spread
    if facts.curates is not None:
        _variance(facts, probe)  # which says what else there is to say
        raise GenlossError("the error of the mean of curated rows has no law at a finite number of rows.")
    _, error, said = _gaussian(facts)
    off = ((mean - probe.mean) ** 2).sum()  # of the truth itself
    return (error * np.trace(cov) + off) / probe.variance, said


def _log_det(facts: Facts, probe: LogDet) -> tuple[Values, str]:
    facts.own_truth()
    n, d, ddof = facts.replaces, facts.model.dim, facts.model.ddof
    if not n:
        raise GenlossError("the log determinant has a law only where every fit eats n rows of the last data set.")
    if n <= d:
        raise GenlossError(f"the fitted covariance of {n} rows in {d} dimensions is singular.")
    t = gaussian.fits(facts.generations)
    start = np.linalg.slogdet(facts.spread[1])[1] - d * np.log(probe.variance)
    biased = d * ((t - 1) * np.log(float(facts.model.bias)) + t * np.log(n / (n - ddof)))
    law = golden.replace_log_determinant(n, d, facts.generations)
    return start + biased + law, "replace: t [Σ ψ((n-i)/2) + d log(2/n)], the mean logarithm of a Wishart determinant."


def _wasserstein(facts: Facts, probe: Wasserstein) -> tuple[Values, str]:
    facts.own_truth()
    n = facts.replaces
    if facts.model.dim > 1 or not n:
        raise GenlossError("W2² has a law only in one dimension and where every fit eats n rows of the last data set.")
    kept, error, _ = _gaussian(facts)
    variance, t = float(facts.spread[1][0, 0]), gaussian.fits(facts.generations)
    std = np.sqrt(variance * float(facts.model.bias) ** (t - 1))
    std = std * gaussian.replace_std(n, facts.generations, facts.model.ddof)
    mean = float(facts.params.mean[0]) ** 2 + variance * error
    return mean + variance * kept + 1 - 2 * std, "replace: E[m²] + E[S] + 1 - 2 E[σ], E[σ_t] = c^t (derived)."


# Smoothing: the rows' own variance and a constant.


def _sample_variance(facts: Facts, probe: Diversity) -> tuple[Values, str]:
    """E of the samples' unbiased variance is that of the fitted density, tr Σ_t."""
    if probe.features is not flat or facts.each > 1 or facts.chain.rows < 2:
        raise GenlossError("the variance of samples has a law where they are two rows or more, and features the rows.")
    start, fits = float(np.trace(facts.spread[1])), facts.generations
    if facts.kind == "Gaussian":
        kept, _, said = _gaussian(facts)
        return kept * start * float(facts.model.bias), f"λ tr Σ_t; {said}"
    kernel = facts.kind == "KDE"
    added = facts.model.dim * float(facts.model.bandwidth**2 if kernel else facts.model.floor)
    if kernel:
        _kept_whole(facts)
    if n := facts.replaces:
        kept = gaussian.replace_variance(n, fits)
        return kept * start + n * added * (1 - kept), "replace: f^t + n h² (1 - f^t), f = 1 - 1/n (derived)."
    kept, _ = follow(facts.eats, start, added)
    said = f"the rows' variance and h², by the law of linear workflows, from the recipe's own weights{facts.averaged}"
    return kept + added, f"{said} (derived)."


def _kept_whole(facts: Facts) -> None:
    """Raises where an estimate of `size` centres is not the diet itself, each row as often as it weighs."""
    e, chain, size = facts.eats, facts.chain, facts.model.size
    if chain.real + (chain.rows + chain.fresh) * facts.generations <= size:
        return  # all rows that there ever are have room
    share, eaten = np.broadcast_arrays(e.share, e.eaten)
    some = eaten > 0
    copies = size * share[some] / eaten[some]  # of each row
    even = np.allclose(e.square[some] * eaten[some], share[some] ** 2, rtol=1e-3)
    if not (even and np.allclose(copies, np.rint(copies), atol=1e-3)):
        raise GenlossError("no law is known for centres that are drawn from the diet; set `size` to the rows in it.")


# Counts.


def shares(facts: Facts) -> Values:
    """[size]: the probabilities of real rows, or of their labels."""
    facts.own_truth()
    if facts.kind == "PerClass":
        return facts.params.share
    mass = facts.params.probs ** (1 / float(facts.truth.temperature))
    return mass / mass.sum()


def _plain_counts(facts: Facts) -> None:
    if facts.kind == "Categorical" and (float(facts.model.smoothing) != 0 or float(facts.model.temperature) != 1):
        raise GenlossError("no law is known for this metric under smoothing or a temperature.")


def _heterozygosity(facts: Facts, probe: Categories) -> tuple[Values, str]:
    p, smoothing = shares(facts), float(getattr(facts.model, "smoothing", 0))
    if smoothing and facts.replaces and float(facts.model.temperature) == 1:
        law = counts.smoothed_concentration(len(p), facts.replaces, smoothing, facts.generations, float((p**2).sum()))
        return 1 - law, "replace with Laplace smoothing: the exact recursion of E[Σ p²] (derived)."
    _plain_counts(facts)
    kept, _, said = _second_moments(facts)
    return (1 - (p**2).sum()) * kept, said.replace("E[S_t]", "E[H_t]/H_0")


def _left(facts: Facts, probe: Categories) -> tuple[Any, str]:
    return _support(facts, counts.expected_support, lambda p, n: counts.expected_distinct(p, n))


def _fixed(facts: Facts, probe: Categories) -> tuple[Any, str]:
    return _support(facts, counts.fixation, lambda p, n: float((p**n).sum()))


def _support(facts: Facts, drift: Any, once: Any) -> tuple[Any, str]:
    """By the chain of counts where fits replace; by the first fit where they always eat what it ate."""
    _plain_counts(facts)
    if n := facts.replaces:
        return drift(shares(facts), _few(n), facts.generations), WRIGHT_FISHER
    return once(shares(facts), _kept_all(facts)), KEPT


WRIGHT_FISHER = "replace: the exact Wright-Fisher chain of counts, x' ~ Bin(n, x/n)."
KEPT = "what the first real rows hold is in every diet and nothing else can enter: the value of the first fit, exactly."


def _few(n: int, most: int = 1000) -> int:
    if n > most:
        raise GenlossError(f"the exact chain of counts is computed up to {most:,} rows, and these are {n:,}.")
    return n


def _kept_all(facts: Facts) -> int:
    if not facts.keeps:
        raise GenlossError(
            "what is left has a law only where each fit eats n rows of the last data set, or all first real rows."
        )
    return facts.keeps


def _rate(facts: Facts, probe: Rate) -> tuple[Any, str]:
    facts.own_truth()
    facts.eats  # noqa: B018 - there must be a diet that does not look at the rows
    return float(facts.params[0]), "the fitted mean is a martingale under every recipe that does not look at the rows."


def _alive(facts: Facts, probe: Rate) -> tuple[Any, str]:
    facts.own_truth()
    value, n = float(facts.params[0]), facts.replaces
    if facts.kind == "Exponential":
        return 1.0, "waiting times are above 0, and so is their mean."
    if facts.kind == "Poisson":
        if n:
            said = (
                "replace: 1 - exp(-n λ_0 g_t), g_1 = 1, g_{t+1} = 1 - exp(-g_t) (Suresh et al. 2024, arXiv:2412.17646)."
            )
            return counts.poisson_survival(n, value, facts.generations), said
        return -np.expm1(-_kept_all(facts) * value), KEPT
    if n:
        return counts.category_survival(value, _few(n), facts.generations), WRIGHT_FISHER
    return 1 - (1 - value) ** _kept_all(facts), KEPT


def _log_rate(facts: Facts, probe: LogRate) -> tuple[Any, str]:
    facts.own_truth()
    if facts.kind != "Exponential":
        raise GenlossError("a rate that is 0 with some probability has no mean logarithm.")
    if facts.line is None:
        raise GenlossError("the logarithm has a law only where every fit eats rows of one writer.")
    start, steps = np.log(float(facts.params[0])), counts.exponential_log_steps(facts.line[1])
    found = np.zeros(facts.generations)
    for t, writer in enumerate(facts.line[0]):
        found[t] = steps[t] + (found[writer] if writer >= 0 else start)
    return found, "each fit adds log of a Gamma(n)/n: E[log m_t] falls by log n - ψ(n) (derived)."


# Regression.

LOW = 0.05  # how far below the truth an approximate risk may be


def _risk(facts: Facts, probe: Risk) -> tuple[Values, str]:
    facts.own_truth()
    model, fits, n = facts.model, facts.generations, facts.replaces
    d, noise, real_noise, ridge = model.dim, float(model.noise), float(facts.truth.noise), float(model.ridge)
    truth, origin = facts.params.coef, np.asarray(model.init(jax.random.key(0)).coef, np.float64)
    if ridge == 0 and n and n < d - 1 and noise == real_noise and np.allclose(truth, origin):
        said = "replace, fits of least norm: ‖truth‖²(1 - ρ^t) + σ²n/(d-n-1) Σ ρ^k, ρ = n/d (derived)."
        return regression.interpolate_risk(n, d, fits, noise, float(np.linalg.norm(truth))), said
    off = float(((truth - origin) ** 2).sum())  # of the truth itself, about which fits are unbiased
    if ridge == 0 and facts.line is not None and facts.line[1].min() >= d + 2:
        said = "replace: t σ²d/(n-d-1) (Gerstgrasser et al. 2024, arXiv:2404.01413)."
        if not n or noise != real_noise:
            said = "each fit adds σ²d/(n-d-1) to its writer's risk (derived; cf. arXiv:2404.01413)."
        return off + regression.line_risk(*facts.line, d, noise, real_noise), said
    if ridge == 0 and facts.accumulates and facts.grows >= d + 2 and noise == real_noise:
        said = "accumulate: σ²d Σ 1/(i(in-d-1)), exact (cf. Gerstgrasser et al. 2024, arXiv:2404.01413)."
        return off + regression.accumulate_risk(facts.grows, d, fits, noise), said
    effective = 1 / (facts.eats.square / facts.eats.each).sum(-1)  # [draws, T]: effective rows of the diets
    most = (facts.eats.eaten * facts.eats.each).sum(-1).max()  # rows of the richest diet
    if ridge == 0 and not (effective.min() >= d + 4 or most <= d - 4):
        raise GenlossError(
            f"no law is known for diets of {effective.min():.0f} rows and {d} features; the risk may be infinite."
        )
    found = designs.averaged_risk(facts.chain, fits, truth, origin, noise, real_noise, ridge)
    if found is not None:
        risk, error, draws = found
        said = f"given the covariates exact, averaged over {draws} draws of them and of the recipe"
        return risk, f"{said} (standard error {(error / np.maximum(risk, 1e-300)).max():.1%} at most; derived)."
    low = (d + 1) / effective.min()
    if ridge != 0 or low > LOW:
        raise GenlossError(f"a law for {fits} fits to diets of {effective.min():.0f} rows takes too long to compute.")
    risk = off + d * follow(facts.eats, real_noise**2, noise**2, bias=0.0)[1]
    return (
        risk,
        f"approximate, low by up to (d+1)/n = {low:.1%}: the law of linear workflows{facts.averaged} (derived).",
    )


_COUNTED: dict[str, Law] = {"left": _left, "fixed": _fixed, "heterozygosity": _heterozygosity}
_LAWS: dict[tuple[type, str], dict[str, Law]] = {
    (Moments, "Gaussian"): {"variance": _variance, "mean_error": _mean_error},
    (LogDet, "Gaussian"): {"": _log_det},
    (Wasserstein, "Gaussian"): {"": _wasserstein},
    **{(Diversity, k): {"variance": _sample_variance} for k in ("Gaussian", "KDE", "Mixture")},
    **{(Categories, k): _COUNTED for k in ("Categorical", "PerClass")},
    **{(Rate, k): {"rate": _rate, "alive": _alive} for k in ("Poisson", "Bernoulli", "Exponential")},
    **{(LogRate, k): {"": _log_rate} for k in ("Poisson", "Bernoulli", "Exponential")},
    (Risk, "Linear"): {"": _risk},
}
