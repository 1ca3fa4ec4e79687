"""Which law a chain obeys: curves to draw over its recorded metrics, and a sentence for each that says whose they are.

Known are the probes of `simulator/probes/parameters.py` on the exact models, whose truth is of the same kind.  What a
recipe does is taken from the weights it gives (simulator/theory/workflow.py), so a recipe of one's own has its law too,
and one that eats the latest data set only is known as *replace* whatever it is called.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from simulator.chain import Chain
from simulator.probes.parameters import Categories, LogDet, Moments, Rate, Risk, Wasserstein
from simulator.source import Truth
from simulator.sweep import Sweep
from simulator.theory import counts, gaussian, golden, regression
from simulator.theory.gaussian import Values
from simulator.theory.workflow import TRUTH, Portions, follow, portions, seen_through
from simulator.types import GenlossError


@dataclass(frozen=True, eq=False)
class Overlay:
    """The laws of one chain: mean values of metrics, named as in `Record.flat()`, and what is behind each."""

    curves: dict[str, Values]  # metric -> [generations], the expectation at every fit
    why: dict[str, str]  # metric, or probe without a law -> one sentence: the law and its paper, or why there is none


def overlay(chain: Chain, generations: int) -> Overlay:
    """The laws that a chain obeys, for its first `generations` fits; a metric without one has a sentence only."""
    curves, why = {}, {}
    facts = _Facts(chain, generations)
    for name, probe in chain.probes.items():
        for part, found in _laws(facts, probe).items():
            metric = f"{name}.{part}" if part else name
            try:
                curve, why[metric] = found(facts, probe)
                curves[metric] = np.broadcast_to(np.asarray(curve, np.float64), generations).copy()
            except GenlossError as error:
                why[metric] = str(error)
    return Overlay(curves, why)


def overlays(subject: Chain | Sweep, generations: int) -> dict[str, Overlay]:
    """`overlay` of every setting of a sweep, by name; of a single chain under "chain", as its records call it."""
    if not isinstance(subject, Sweep):
        return {"chain": overlay(subject, generations)}
    return {name: overlay(subject.make(value), generations) for name, value in subject.values.items()}


def sentences(found: Mapping[str, Overlay]) -> list[str]:
    """One line for each thing that is to be said of the overlays of a run: metrics, settings, sentence."""
    said: dict[tuple[str, str], list[str]] = {}  # (settings that share it, sentence) -> metrics
    for metric in dict.fromkeys(metric for one in found.values() for metric in one.why):
        by_sentence: dict[str, list[str]] = {}
        for setting, one in found.items():
            if metric in one.why:
                by_sentence.setdefault(one.why[metric], []).append(setting)
        for sentence, settings in by_sentence.items():
            of = f" ({'; '.join(settings)})" if len(settings) < len(found) else ""
            said.setdefault((of, sentence), []).append(metric)
    return [f"{', '.join(metrics)}{of}: {sentence}" for (of, sentence), metrics in said.items()]


class _Facts:
    """A chain seen through its cohorts: who learns, from what truth, and what every fit eats."""

    def __init__(self, chain: Chain, generations: int) -> None:
        self.chain, self.generations = chain, generations
        self.model = seen_through(chain.generator)[0]
        self.kind = _kind(self.model)
        self.source = chain.source if isinstance(chain.source, Truth) else None
        self.truth: Any = None if self.source is None else seen_through(self.source.generator)[0]

    @functools.cached_property
    def params(self) -> Any:
        """The parameters of the truth, on the host in float64."""
        assert self.source is not None
        found = self.truth.init(jax.random.key(0)) if self.source.params is None else self.source.params
        return jax.tree.map(lambda a: np.asarray(a, np.float64), found)

    @functools.cached_property
    def eats(self) -> Portions:
        return portions(self.chain, self.generations)

    @functools.cached_property
    def ones(self) -> bool:
        """Whether every row eaten weighs 1, in numbers that are fixed or of which a uniform draw has the mean."""
        e = self.eats
        mass = e.mass[..., None]  # [draws, T, 1]
        alike = np.allclose(e.share * mass, e.eaten * e.each, rtol=1e-4)
        return e.draws == 1 and alike and np.allclose(e.square * mass**2, e.eaten * e.each**2, rtol=1e-4)

    @functools.cached_property
    def line(self) -> tuple[Values, Values] | None:
        """(the fit that wrote them, how many), both [T], where every fit eats rows of one data set."""
        if not self.ones or ((self.eats.share[0] > 0).sum(1) != 1).any():
            return None
        return self.eats.parents[self.eats.share[0].argmax(1)], np.rint(self.eats.mass[0]).astype(int)

    @functools.cached_property
    def replaces(self) -> int:
        """n, where every fit eats n rows of the last data set; else 0."""
        if self.line is None or (self.line[0] != np.arange(self.generations) - 1).any() or np.ptp(self.line[1]):
            return 0
        return int(self.line[1][0])

    @functools.cached_property
    def grows(self) -> int:
        """n, where every data set has n rows and every fit eats of all of them, alike in expectation; else 0."""
        e, fits = self.eats, np.arange(self.generations)
        rows = e.held * e.each  # [sources]
        if not self.ones or not np.array_equal(e.parents, fits - 1) or np.ptp(rows):
            return 0
        seen = e.parents < fits[:, None]  # [T, sources]
        return int(rows[0]) if np.allclose(e.share[0], seen / (fits[:, None] + 1), atol=1e-6) else 0

    @property
    def accumulates(self) -> bool:
        """Whether all rows of equal data sets are eaten."""
        return self.grows > 0 and np.allclose(self.eats.mass[0], self.grows * np.arange(1, self.generations + 1))

    @property
    def subsamples(self) -> bool:
        """Whether n of all rows of data sets of n rows are drawn uniformly."""
        return self.grows > 0 and bool((self.eats.mass[0] == self.grows).all() and self.eats.drawn_from.all())

    @functools.cached_property
    def freshens(self) -> tuple[int, float] | None:
        """(n, α), where each diet is n rows, a fixed share α of them fresh and the rest of the last model."""
        e, fits = self.eats, np.arange(self.generations)
        latest = e.births + (e.parents != TRUTH) == fits[:, None]  # [T, sources]
        share = (e.share[0] * (e.parents == TRUTH)).sum(1)[1:]  # [T - 1]
        fixed = self.ones and self.generations > 1 and not e.drawn_from.any()  # a draw from both kinds varies in α
        if not fixed or np.ptp(e.mass[0]) or (e.share[0] * ~latest).any() or np.ptp(share):
            return None
        return round(float(e.mass[0][0])), float(share[0])

    @functools.cached_property
    def keeps(self) -> int:
        """The rows of the first data set, where every fit eats all of it and no other real rows; else 0."""
        e = self.eats
        real = e.parents == TRUTH
        if real.sum() != 1 or self.chain.fresh or e.drawn_from.any() or (e.eaten[..., real] != e.held[real]).any():
            return 0
        return int((e.held * e.each)[real][0])

    @property
    def averaged(self) -> str:
        return f", averaged over {self.eats.draws} draws of the recipe" if self.eats.draws > 1 else ""


def _kind(model: Any) -> str:
    """The class of a generator of this package, by name: this room knows no generator, only what they are called."""
    return type(model).__name__ if type(model).__module__.partition(".")[0] == "generators" else ""


Law = Callable[[_Facts, Any], tuple[Any, str]]
"""(curve, sentence) of one metric of a probe; raises `GenlossError` with a sentence where there is none."""


def _laws(facts: _Facts, probe: Any) -> dict[str, Law]:
    """The metrics of a probe, and the law that is looked for behind each; "" for a probe of a single number."""
    known = _LAWS.get((type(probe), facts.kind))
    if known is None:
        name, model = getattr(probe, "__name__", type(probe).__name__), type(facts.model).__name__
        exact = any(facts.kind == kind for _, kind in _LAWS)
        about = f"what {name} measures of a chain of {model}" if exact else f"a chain of {model}"
        return {"": _none(f"no law is known for {about}.")}
    if facts.truth is None or _kind(facts.truth) != facts.kind:
        what = type(facts.chain.source if facts.truth is None else facts.truth).__name__
        return dict.fromkeys(known, _none(f"no law is known for {facts.kind} fitted to {what}; the truth differs."))
    return known


def _none(sentence: str) -> Law:
    def law(facts: _Facts, probe: Any) -> tuple[Any, str]:
        raise GenlossError(sentence)

    return law


# Gaussian: weighted means and variances.


def _second_moments(facts: _Facts, bias: float = 1.0, ddof: int = 0) -> tuple[Values, Values, str]:
    """(E[S_t], V_t, the law) of a weighted mean and variance, in units of the truth's variance."""
    fits, n = facts.generations, facts.replaces
    rare = "; at t > n few chains carry the mean" if n and fits > n else ""
    if n and ddof == 1:
        said = f"replace: E[S_t] = λ^(t-1), V_t = Σ λ^k/n (arXiv:2307.01850){rare}."
        return *gaussian.biased_variance(n, bias, fits), said
    if n and bias == 1:
        said = "replace: E[S_t] = (1 - 1/n)^t = 1 - V_t (Shumailov et al. 2024, doi:10.1038/s41586-024-07566-y)"
        return gaussian.replace_variance(n, fits), gaussian.replace_mean_error(n, fits), f"{said}{rare}."
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


def _gaussian(facts: _Facts) -> tuple[Values, Values, str]:
    if (facts.eats.mass <= facts.model.ddof).any():
        raise GenlossError("one row has no unbiased variance.")
    return _second_moments(facts, float(facts.model.bias), facts.model.ddof)


def _covariance(facts: _Facts) -> Values:
    """[d, d]: that of real rows."""
    return facts.params.cov * float(facts.truth.bias)


def _variance(facts: _Facts, probe: Moments) -> tuple[Values, str]:
    kept, _, said = _gaussian(facts)
    return kept * np.diag(_covariance(facts)).mean() / probe.variance, said


def _mean_error(facts: _Facts, probe: Moments) -> tuple[Values, str]:
    _, error, said = _gaussian(facts)
    off = ((facts.params.mean - probe.mean) ** 2).sum()  # of the truth itself
    return (error * np.trace(_covariance(facts)) + off) / probe.variance, said


def _log_det(facts: _Facts, probe: LogDet) -> tuple[Values, str]:
    n, d, ddof = facts.replaces, facts.model.dim, facts.model.ddof
    if not n:
        raise GenlossError("the log determinant has a law only where every fit eats n rows of the last data set.")
    if n <= d:
        raise GenlossError(f"the fitted covariance of {n} rows in {d} dimensions is singular.")
    t = gaussian.fits(facts.generations)
    start = np.linalg.slogdet(_covariance(facts))[1] - d * np.log(probe.variance)
    biased = d * ((t - 1) * np.log(float(facts.model.bias)) + t * np.log(n / (n - ddof)))
    law = golden.replace_log_determinant(n, d, facts.generations)
    return start + biased + law, "replace: t [Σ ψ((n-i)/2) + d log(2/n)], the mean logarithm of a Wishart determinant."


def _wasserstein(facts: _Facts, probe: Wasserstein) -> tuple[Values, str]:
    n = facts.replaces
    if facts.model.dim > 1 or not n:
        raise GenlossError("W2² has a law only in one dimension and where every fit eats n rows of the last data set.")
    kept, error, _ = _gaussian(facts)
    variance, t = float(_covariance(facts)[0, 0]), gaussian.fits(facts.generations)
    std = np.sqrt(variance * float(facts.model.bias) ** (t - 1))
    std = std * gaussian.replace_std(n, facts.generations, facts.model.ddof)
    mean = float(facts.params.mean[0]) ** 2 + variance * error
    return mean + variance * kept + 1 - 2 * std, "replace: E[m²] + E[S] + 1 - 2 E[σ], E[σ_t] = c^t (derived)."


# Counts.


def _shares(facts: _Facts) -> Values:
    """[size]: the probabilities of real rows."""
    mass = facts.params.probs ** (1 / float(facts.truth.temperature))
    return mass / mass.sum()


def _plain_counts(facts: _Facts) -> None:
    if float(facts.model.smoothing) != 0 or float(facts.model.temperature) != 1:
        raise GenlossError("no law is known for this metric under smoothing or a temperature.")


def _heterozygosity(facts: _Facts, probe: Categories) -> tuple[Values, str]:
    p, smoothing = _shares(facts), float(facts.model.smoothing)
    if smoothing and facts.replaces and float(facts.model.temperature) == 1:
        law = counts.smoothed_concentration(len(p), facts.replaces, smoothing, facts.generations, float((p**2).sum()))
        return 1 - law, "replace with Laplace smoothing: the exact recursion of E[Σ p²] (derived)."
    _plain_counts(facts)
    kept, _, said = _second_moments(facts)
    return (1 - (p**2).sum()) * kept, said.replace("E[S_t]", "E[H_t]/H_0")


def _left(facts: _Facts, probe: Categories) -> tuple[Any, str]:
    return _support(facts, counts.expected_support, lambda p, n: counts.expected_distinct(p, n))


def _fixed(facts: _Facts, probe: Categories) -> tuple[Any, str]:
    return _support(facts, counts.fixation, lambda p, n: float((p**n).sum()))


def _support(facts: _Facts, drift: Any, once: Any) -> tuple[Any, str]:
    """By the chain of counts where fits replace; by the first fit where they always eat what it ate."""
    _plain_counts(facts)
    if n := facts.replaces:
        return drift(_shares(facts), _few(n), facts.generations), WRIGHT_FISHER
    return once(_shares(facts), _kept_all(facts)), KEPT


WRIGHT_FISHER = "replace: the exact Wright-Fisher chain of counts, x' ~ Bin(n, x/n)."
KEPT = "what the first real rows hold is in every diet and nothing else can enter: the value of the first fit, exactly."


def _few(n: int, most: int = 1000) -> int:
    if n > most:
        raise GenlossError(f"the exact chain of counts is computed up to {most:,} rows, and these are {n:,}.")
    return n


def _kept_all(facts: _Facts) -> int:
    if not facts.keeps:
        raise GenlossError(
            "what is left has a law only where each fit eats n rows of the last data set, or all first real rows."
        )
    return facts.keeps


def _rate(facts: _Facts, probe: Rate) -> tuple[Any, str]:
    facts.eats  # noqa: B018 - there must be a diet that does not look at the rows
    return float(facts.params[0]), "the fitted mean is a martingale under every recipe that does not look at the rows."


def _alive(facts: _Facts, probe: Rate) -> tuple[Any, str]:
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


# Regression.


def _risk(facts: _Facts, probe: Risk) -> tuple[Values, str]:
    model, fits, n = facts.model, facts.generations, facts.replaces
    d, noise, real_noise = model.dim, float(model.noise), float(facts.truth.noise)
    if float(model.ridge) != 0:
        raise GenlossError("no law is known for ridge regression on its own labels.")
    if not np.allclose(facts.params.coef, np.asarray(model.init(jax.random.key(0)).coef)):
        raise GenlossError("no law is known for a truth other than the one that Risk measures from.")
    if n and n < d - 1 and noise == real_noise:
        norm = float(np.linalg.norm(facts.params.coef))
        said = "replace, fits of least norm: ‖truth‖²(1 - ρ^t) + σ²n/(d-n-1) Σ ρ^k, ρ = n/d (derived)."
        return regression.interpolate_risk(n, d, fits, noise, norm), said
    smallest = 1 / (facts.eats.square / facts.eats.each).sum(-1).max()  # effective rows of the poorest diet
    if smallest < d + 1.5:
        raise GenlossError(
            f"no law is known for diets of {smallest:.0f} rows and {d} features; the risk may be infinite."
        )
    if noise == real_noise:
        if n:
            said = "replace: t σ²d/(n-d-1) (Gerstgrasser et al. 2024, arXiv:2404.01413)."
            return regression.replace_risk(n, d, fits, noise), said
        if facts.accumulates:
            said = "accumulate: σ²d Σ 1/(i(in-d-1)), exact (cf. Gerstgrasser et al. 2024, arXiv:2404.01413)."
            return regression.accumulate_risk(facts.grows, d, fits, noise), said
        if facts.subsamples:
            said = (
                f"accumulate and subsample: σ²d/(n-d-1) ρ_t, to relative order d/n = {d / facts.grows:.2g} (derived)."
            )
            return regression.subsample_risk(facts.grows, d, fits, noise), said
    error = follow(facts.eats, real_noise**2, noise**2, bias=0.0)[1]
    said = f"the law of linear workflows, from the recipe's own weights, to relative order d/n = {d / smallest:.2g}"
    return d * error, f"{said}{facts.averaged} (derived)."


_LAWS: dict[tuple[type, str], dict[str, Law]] = {
    (Moments, "Gaussian"): {"variance": _variance, "mean_error": _mean_error},
    (LogDet, "Gaussian"): {"": _log_det},
    (Wasserstein, "Gaussian"): {"": _wasserstein},
    (Categories, "Categorical"): {"left": _left, "fixed": _fixed, "heterozygosity": _heterozygosity},
    **{(Rate, kind): {"rate": _rate, "alive": _alive} for kind in ("Poisson", "Bernoulli", "Exponential")},
    (Risk, "Linear"): {"": _risk},
}
