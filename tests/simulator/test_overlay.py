"""Every curve that is drawn as theory, against thousands of chains; and what is said where there is none."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import cases, gaussian_chain
from overlays import chain_of, deviations, every_other, mostly_early

from generators import Bernoulli, Categorical, Cohort, Exponential, Gaussian, Poisson
from generators.gaussian import GaussianParams
from generators.kde import KDE
from generators.linear import Linear, LinearParams
from generators.logistic import Logistic
from generators.mixture import Mixture, MixtureParams
from generators.per_class import PerClass
from generators.society import Society
from simulator import Chain, Sweep, Truth, schedule, theory
from simulator.probes import Categories, Diversity, LogDet, LogRate, Moments, Rate, Risk, Wasserstein
from simulator.recipe import (
    Accumulate,
    Augment,
    Curate,
    Decay,
    Mix,
    Replace,
    Reweigh,
    Select,
    Subsample,
    Then,
    Verify,
    Window,
)
from simulator.recipe.contamination import Contaminate

CHAINS = 2000
NORMAL = {"moments": Moments(), "log_det": LogDet(), "w2": Wasserstein()}


def gaussian(recipe: Any, dim: int = 1, ddof: int = 0, bias: float = 1.0, **fields: Any) -> Chain:
    return gaussian_chain(dim, ddof, bias, recipe=recipe, **{"probes": {"mine": Moments()}, **fields})


def held(chain: Chain, metrics: set[str], generations: int = 8, chains: int = CHAINS) -> None:
    """The overlay has these metrics, and each is the mean of what many chains record, at every generation."""
    scores = deviations(chain, metrics, generations, chains)
    assert np.abs(scores).max(initial=0) < 4.8, f"off by {np.round(scores, 2)} standard errors"


def score(rows: Any) -> Any:
    return rows[:, 0]


MOMENTS = {"mine.variance", "mine.mean_error"}
SHIFTED = Truth(Gaussian(3), GaussianParams(jnp.array([1.0, -0.5, 2.0]), jnp.diag(jnp.array([0.5, 1.0, 3.0]))))
MODES = Truth(
    Mixture(2, 2),
    MixtureParams(jnp.array([0.3, 0.7]), jnp.array([[1.0, 2.0], [-1.0, 0.0]]), 0.2 * jnp.eye(2)[None].repeat(2, 0)),
)
GAUSSIANS = {
    "replace": gaussian(Replace(), real=13, rows=13),
    "replace, unbiased, cooled": gaussian(Window(1), 2, 1, 0.7, real=16, rows=16),
    "accumulate": gaussian(Decay(1.0), real=6, rows=6),
    "subsample": gaussian(Then(Accumulate(), Subsample(7)), real=7, rows=7),
    "subsample of other sizes": gaussian(Then(Window(3), Subsample(8)), ddof=1, real=9, rows=6, fresh=2),
    "fresh share": gaussian(Mix(real=0.25, size=12, fresh=True), bias=0.8, ddof=1, real=12, rows=12, fresh=3),
    "replace and fresh": gaussian(Replace(), real=8, rows=5, fresh=3),
    "draws from new rows": gaussian(Then(Replace(), Subsample(4)), real=4, rows=3, fresh=2),
    "fixed real rows, all of them": gaussian(Mix(real=0.4, size=15), real=6, rows=15),
    "fixed real rows, some of them": gaussian(Mix(real=0.4, size=15), real=20, rows=15),
    "real rows of all times": gaussian(Mix(real=0.5, size=8), real=4, rows=8, fresh=1),
    "two generations": gaussian(Mix(real=0.2, size=10, window=2), real=10, rows=10),
    "schedule": gaussian(Mix(real=schedule("linear", 0.8, 0.0, 6), size=10), real=10, rows=10),
    "golden weights": gaussian(Then(Replace(), Reweigh(real=0.618)), real=8, rows=12, fresh=8),
    "window, three dimensions": gaussian(Window(2), 3, real=9, rows=9),
    "decay": gaussian(Decay(0.4), bias=0.9, real=6, rows=9),
    "augment": gaussian(Augment(ratio=0.6), real=10, rows=10),
    "select": gaussian(Select((Accumulate(), Window(2)), 1), real=10, rows=10),
    "another truth": chain_of(Gaussian(3), Window(2), Moments(0.5, 2.0), SHIFTED, n=12),
    "a truth of another kind": chain_of(Gaussian(2), Decay(0.5), Moments(0.5, 2.0), MODES, n=9),
    "any divisor": gaussian(Replace(), 2, 2, real=14, rows=14),
    "any divisor, fresh share": gaussian(Mix(real=0.25, size=12, fresh=True), ddof=3, real=12, rows=12, fresh=3),
    "contaminated": gaussian(Contaminate(0.6), real=10, rows=10),
    "contaminated, then mixed": gaussian(Then(Contaminate(0.75), Mix(real=0.5, size=8)), real=16, rows=16),
    "mixed, then contaminated": gaussian(Then(Mix(real=0.6, size=10), Contaminate(0.5)), real=15, rows=10),
    "contaminated anew": gaussian(Contaminate(0.5, nested=False), real=10, rows=10),
    "contaminated, subsampled": gaussian(Then(Contaminate(0.4), Subsample(6)), real=10, rows=10),
    "by place": gaussian(every_other, real=9, rows=9),
    "by place, at random": gaussian(mostly_early, real=12, rows=12),
    "society": chain_of(Society(Gaussian(2), 3), Window(2), Moments(), Gaussian(2), n=8),
    "a cooled truth": chain_of(Gaussian(1), Replace(), Moments(), Gaussian(1, bias=0.5), n=12),
}


QUICK = (
    "replace; subsample; fresh share; fixed real rows, some of them; real rows of all times; golden weights; "
    "window, three dimensions; any divisor; contaminated, then mixed; by place, at random; a truth of another kind; "
    "society"
)


@pytest.mark.quick("replace", "window, three dimensions", "any divisor", "by place, at random", "society")
@pytest.mark.parametrize("chain", cases(GAUSSIANS, QUICK))
def test_moments(chain: Chain):
    held(chain, MOMENTS)


@pytest.mark.quick("ml")
@pytest.mark.parametrize(
    "chain",
    [
        chain_of(Gaussian(1), Replace(), NORMAL, n=15),
        chain_of(Gaussian(1, 1, 0.8), Mix(0.0, size=25), NORMAL, Truth(Gaussian(1, bias=0.6)), n=25),
    ],
    ids=["ml", "unbiased, cooled, another truth"],
)
def test_one_dimension(chain: Chain):
    held(chain, {"moments.variance", "moments.mean_error", "log_det", "w2"})


@pytest.mark.quick("9-0-1.0")
@pytest.mark.parametrize(("n", "ddof", "bias"), [(9, 0, 1.0), (14, 1, 0.7)])
def test_log_determinant(n: int, ddof: int, bias: float):
    held(chain_of(Gaussian(3, ddof, bias), Replace(), LogDet(0.5), n=n), {"mine"}, generations=5)


ZIPF, FEW = Categorical(7, zipf=1.0), Categorical(3, zipf=1.5)
CATEGORIES = {"mine.left", "mine.fixed", "mine.heterozygosity"}
COUNTS = {
    "replace": (chain_of(FEW, Replace(), Categories(), n=6), CATEGORIES),
    "accumulate": (chain_of(FEW, Accumulate(), Categories(), n=4), CATEGORIES),
    "subsample": (chain_of(ZIPF, Then(Accumulate(), Subsample(6)), Categories(), n=6), {"mine.heterozygosity"}),
    "fresh": (chain_of(ZIPF, Mix(0.25, size=8, fresh=True), Categories(), n=8, fresh=2), {"mine.heterozygosity"}),
    "decay": (chain_of(FEW, Decay(0.5), Categories(), n=5), CATEGORIES),
    "smoothed": (
        chain_of(Categorical(7, smoothing=0.3), Replace(), Categories(), ZIPF, n=11),
        {"mine.heterozygosity"},
    ),
    "cooled truth": (
        chain_of(Categorical(7), Window(2), Categories(), Categorical(7, zipf=1.0, temperature=0.5), n=9),
        {"mine.heterozygosity"},
    ),
    "poisson": (chain_of(Poisson(0.4), Replace(), Rate(), n=7), {"mine.rate", "mine.alive"}),
    "poisson, accumulate": (chain_of(Poisson(0.4), Accumulate(), Rate(), n=5), {"mine.rate", "mine.alive"}),
    "poisson, fresh": (chain_of(Poisson(2.0), Mix(0.5, 8, fresh=True), Rate(), n=8, fresh=4), {"mine.rate"}),
    "bernoulli": (chain_of(Bernoulli(0.15), Replace(), Rate(), n=9), {"mine.rate", "mine.alive"}),
    "bernoulli, augment": (chain_of(Bernoulli(0.15), Augment(1.0), Rate(), n=9), {"mine.rate", "mine.alive"}),
    "exponential": (chain_of(Exponential(), Window(2), Rate(), n=12), {"mine.rate", "mine.alive"}),
    "logarithm": (
        chain_of(Exponential(), Then(Replace(), Subsample(schedule("linear", 12, 4, 6))), LogRate(), n=12),
        {"mine"},
    ),
    "labels": (chain_of(PerClass(Gaussian(1), 3), Replace(), Categories(), n=6), CATEGORIES),
    "labels, window": (chain_of(PerClass(Gaussian(1), 4), Window(2), Categories(), n=7), {"mine.heterozygosity"}),
    "society of categories": (chain_of(Society(ZIPF, 3), Replace(), Categories(), ZIPF, n=8), CATEGORIES),
}


@pytest.mark.quick("accumulate", "smoothed", "poisson", "labels")
@pytest.mark.parametrize(
    ("chain", "metrics"), cases(COUNTS, "accumulate; fresh; smoothed; poisson; bernoulli, augment; logarithm; labels")
)
def test_counts(chain: Chain, metrics: set[str]):
    held(chain, metrics)


FLAT = Truth(Linear(3, 0.8), LinearParams(jnp.array([1.0, -2.0, 0.5])))
RISKS = {
    "replace": chain_of(Linear(3, 0.6), Replace(), Risk(), n=21),
    "accumulate": chain_of(Linear(4, 1.4), Accumulate(), Risk(), n=9),
    "subsample": chain_of(Linear(1), Then(Accumulate(), Subsample(130)), Risk(), n=130),
    "least norm": chain_of(Linear(17, 0.4), Replace(), Risk(), n=9),
    "window": chain_of(Linear(1), Window(2), Risk(), n=140),
    "another noise": chain_of(Linear(1, 0.5), Decay(0.7), Risk(), Linear(1, 1.5), n=140),
    "replace, another noise": chain_of(Linear(4, 0.5), Replace(), Risk(), Linear(4, 1.5), n=11),
    "few rows, window": chain_of(Linear(4), Window(2), Risk(), n=10),
    "few rows, decay": chain_of(Linear(3, 0.7), Decay(0.6), Risk(), n=9),
    "few rows, mixed": chain_of(Linear(2), Mix(real=0.4, size=10), Risk(), n=12),
    "few rows, subsample": chain_of(Linear(3), Then(Accumulate(), Subsample(9)), Risk(), n=9),
    "least norm, window": chain_of(Linear(22, 0.4), Window(2), Risk(), n=7),
    "ridge": chain_of(Linear(3, 0.6, ridge=4.0), Replace(), Risk(), n=10),
    "ridge, another truth": chain_of(Linear(3, 0.6, ridge=2.0), Augment(0.5), Risk(), FLAT, n=8),
    "ridge of cohorts": chain_of(
        Cohort(Linear(3, ridge=3.0), 12), Accumulate(), Risk(), Truth(Cohort(Linear(3), 12)), n=1
    ),
}


@pytest.mark.quick("replace", "least norm")
@pytest.mark.parametrize("chain", cases(RISKS, "replace; least norm; few rows, window; ridge, another truth"))
def test_risk(chain: Chain):
    held(chain, {"mine"}, generations=5)


def kde(recipe: Any, n: int = 8, size: int = 8, **fields: Any) -> Chain:
    return chain_of(KDE(2, 0.6, size=size), recipe, Diversity(), SPREAD, n=n, held_out=2, **fields)


SPREAD = Truth(Gaussian(2), GaussianParams(jnp.array([3.0, 0.0]), jnp.array([[1.0, 0.4], [0.4, 0.5]])))
SMOOTHED = {
    "kernels, replace": kde(Replace()),
    "kernels, decay": kde(Decay(0.5), size=200),
    "kernels, mixed": kde(Mix(real=0.5, size=8)),
    "mixture, window": chain_of(Mixture(2, 2, steps=3, floor=0.3), Window(2), Diversity(), SPREAD, n=7, held_out=2),
    "gaussian, augment": chain_of(Gaussian(2, bias=0.8), Augment(0.5), Diversity(), SPREAD, n=10, held_out=2),
    "society of kernels": chain_of(Society(KDE(2, 0.4, size=6), 2), Replace(), Diversity(), SPREAD, n=6, held_out=2),
}


@pytest.mark.quick("mixture, window")
@pytest.mark.parametrize("chain", cases(SMOOTHED, "kernels, mixed; mixture, window"))
def test_variance_of_samples(chain: Chain):
    held(chain, {"mine.variance"}, generations=5)


@dataclass(frozen=True)
class Bowl:
    """A quadratic reward of two features that pulls unevenly."""

    slope: tuple[float, float] = (0.3, -0.2)

    def __call__(self, rows: Any) -> Any:
        return rows @ jnp.array(self.slope) - 0.5 * (0.4 * rows[:, 0] ** 2 + 0.1 * rows[:, 0] * rows[:, 1])


@pytest.mark.quick("real")
@pytest.mark.parametrize("recipe", [Then(Replace(), Curate(Bowl(), None)), Curate(Bowl(), None, 0.7)], ids=["", "real"])
def test_curation_by_a_quadratic_reward(recipe: Any):
    """In the limit of many rows: the simulation comes closer to the law as 1/n, and is within it at 5000 rows."""
    chain = chain_of(Gaussian(2), recipe, Moments(), SPREAD, n=5000)
    assert np.abs(deviations(chain, {"mine.variance"}, 4, 60)).max() < 4.8


def test_curation_is_the_tilted_gaussian():
    chain = gaussian(Then(Replace(), Curate(Bump(), None, 0.5)), real=50_000, rows=50_000)
    expected, _ = theory.tilted_gaussian(0.5 * 0.8, 1.5, 5)
    assert np.allclose(theory.overlay(chain, 5).curves["mine.variance"], expected, rtol=1e-5)


@dataclass(frozen=True)
class Bump:
    def __call__(self, rows: Any) -> Any:
        return -0.4 * (rows[:, 0] - 1.5) ** 2


# Closed forms and the workflow are one law.


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("replace", "replace: "),
        ("replace, unbiased, cooled", "arXiv:2307.01850"),
        ("accumulate", "arXiv:2410.16713"),
        ("subsample", "accumulate and subsample"),
        ("fresh share", "a share 0.25 of fresh real rows"),
    ],
)
def test_closed_forms_are_found_and_equal_the_workflow(name: str, said: str):
    chain: Any = GAUSSIANS[name]
    found = theory.overlay(chain, 30)
    variance, error = theory.workflow_gaussian(chain, 30, float(chain.generator.bias), chain.generator.ddof)
    assert said in found.why["mine.variance"]
    assert np.allclose(found.curves["mine.variance"], variance, rtol=1e-5)
    assert np.allclose(found.curves["mine.mean_error"], error * chain.generator.dim, rtol=1e-5)


@pytest.mark.quick("recipe0-12000")
@pytest.mark.parametrize(
    ("recipe", "draws"), [(Then(Window(3), Subsample(8)), 12000), (Then(Accumulate(), Subsample(10)), 12000)]
)
def test_a_uniform_draw_equals_the_average_over_draws(recipe: Any, draws: int):
    chain = gaussian(recipe, real=9, rows=7, fresh=2)
    exact, drawn = theory.workflow_gaussian(chain, 7), theory.workflow_gaussian(chain, 7, draws=draws)
    assert np.allclose(exact, drawn, rtol=5e-3) and not np.allclose(exact, drawn, rtol=1e-6)


def test_the_limits_of_a_fixed_and_of_a_golden_share():
    fixed = theory.overlay(gaussian(Mix(real=0.4, size=15), real=6, rows=15), 60).curves["mine.variance"]
    assert np.isclose(fixed[-1], theory.fixed_real_limit(15, 0.4))
    golden = theory.overlay(gaussian(Then(Replace(), Reweigh(real=0.618)), real=8, rows=12, fresh=8), 60)
    expected = theory.weighted_mean_error(8, 12, 0.618, 60, pooled=True)
    assert np.allclose(golden.curves["mine.mean_error"], expected, rtol=1e-5)


@pytest.mark.quick("recipe0", "recipe1", "recipe2")
@pytest.mark.parametrize(
    "recipe", [Accumulate(), Then(Accumulate(), Subsample(1000)), Window(5), Mix(real=0.3, size=1000)]
)
def test_large_chains_are_within_reach(recipe: Any):
    """100,000 rows, of which only the data sets are followed; E[S_t] + V_t = 1 as for every unbiased diet."""
    curves = theory.overlay(gaussian(recipe, real=1000, rows=1000), 100).curves
    assert np.allclose(curves["mine.variance"] + curves["mine.mean_error"], 1)


# Cohorts.


def cohorts(model: Any, recipe: Any, sizes: tuple[int, int], **fields: Any) -> Chain:
    return Chain(
        source=Truth(Cohort(Gaussian(1), sizes[0])),
        generator=Cohort(model, sizes[1]),
        recipe=recipe,
        probes={"mine": Moments()},
        **{"real": 1, "rows": 1, **fields},
    )


@pytest.mark.parametrize(
    ("recipe", "law"),
    [(Replace(), "replace:"), (Accumulate(), "accumulate:"), (Decay(0.5), "workflows")],
    ids=["replace", "accumulate", "decay"],
)
def test_a_chain_of_cohorts_obeys_the_law_of_its_rows(recipe: Any, law: str):
    found = theory.overlay(cohorts(Gaussian(1), recipe, (12, 12)), 6)
    rows = theory.overlay(gaussian(recipe, real=12, rows=12), 6)
    assert law in found.why["mine.variance"] and found.why == rows.why
    assert all(np.allclose(found.curves[metric], rows.curves[metric]) for metric in MOMENTS)


@pytest.mark.quick("window", "accumulated as one")
@pytest.mark.parametrize(
    "chain",
    [
        cohorts(Gaussian(1, 1, 0.8), Window(2), (12, 5)),
        cohorts(Gaussian(1), Then(Accumulate(), Subsample(3)), (5, 5), real=3, rows=2, fresh=1),
        cohorts(Gaussian(1), Then(Accumulate(), Subsample(3)), (3, 7), real=3, rows=2, fresh=1),
        cohorts(Gaussian(1), Accumulate(), (9, 4)),
        cohorts(Gaussian(1), Subsample(1), (6, 6)),
    ],
    ids=["window", "subsampled", "subsampled, of different sizes", "accumulated as one", "one of all"],
)
def test_cohorts(chain: Chain):
    held(chain, MOMENTS, generations=6)


# Where there is no law.


def score_of_cubes(rows: Any) -> Any:
    return -(rows[:, 0] ** 4)


def mine(key: Any, view: Any) -> Any:
    return view.params.mean[0]


NONE = {
    "reads the rows": (gaussian(Then(Replace(), Verify(score))), "looks at the rows"),
    "too large": (gaussian(Mix(0.5, 10**4, window=3), real=10**4, rows=10**4), "too long"),
    "another truth": (chain_of(Gaussian(2), Replace(), LogDet(), KDE(2, 0.3, size=8)), "Gaussian fitted to KDE"),
    "another model": (chain_of(Logistic(2), Replace(), Risk()), "no law is known for a chain of Logistic."),
    "a society that divides": (chain_of(Society(Gaussian(1), 2, True), Replace(), Moments()), "a chain of Society."),
    "drawn centres": (kde(Replace(), size=5, n=8), "centres that are drawn from the diet"),
    "another reward": (gaussian(Then(Replace(), Curate(score_of_cubes, None))), "only where its reward is quadratic"),
    "curation of few": (gaussian(Then(Replace(), Curate(Bump(), None))), "limit of many rows"),
    "best of two": (gaussian(Then(Replace(), Curate(Bump(), 2))), "looks at the rows"),
    "logarithm of nothing": (chain_of(Poisson(1.0), Replace(), LogRate()), "0 with some probability"),
    "a probe of one's own": (chain_of(Gaussian(1), Replace(), mine), "what mine measures of a chain of Gaussian"),
    "log determinant": (chain_of(Gaussian(2), Accumulate(), LogDet()), "has a law only where every fit eats n rows"),
    "singular": (chain_of(Gaussian(4), Replace(), LogDet(), n=4), "of 4 rows in 4 dimensions is singular"),
    "w2": (chain_of(Gaussian(2), Replace(), Wasserstein()), "only in one dimension"),
    "temperature": (chain_of(Categorical(5, temperature=0.5), Replace(), Categories()), "smoothing or a temperature"),
    "infinite risk": (chain_of(Linear(10), Replace(), Risk(), n=10), "may be infinite"),
    "one row": (gaussian(Replace(), ddof=1, real=1, rows=1), "has no variance with ddof=1"),
}


@pytest.mark.parametrize(("chain", "sentence"), NONE.values(), ids=NONE)
def test_where_there_is_no_law_a_sentence_says_why(chain: Chain, sentence: str):
    found = theory.overlay(chain, 100)
    assert not found.curves and found.why
    assert all(sentence in why and why.endswith(".") and "\n" not in why for why in found.why.values())


# Sweeps, and what is said.


def test_every_setting_of_a_sweep_has_its_law():
    chain = gaussian(Select((Replace(), Accumulate(), Then(Replace(), Verify(score))), 0), real=20, rows=20)
    found = theory.overlays(Sweep(chain, "recipe.index", {"a": 0, "b": 1, "c": 2}), 9)
    assert np.allclose(found["a"].curves["mine.variance"], theory.replace_variance(20, 9))
    assert np.allclose(found["b"].curves["mine.variance"], theory.accumulate_variance(20, 9))
    assert not found["c"].curves
    said = theory.sentences(found)
    assert len(said) == 3 and all(line.startswith("mine.variance, mine.mean_error (") for line in said)
    assert "(c)" in said[2] and "looks at the rows" in said[2]
    alone = theory.overlays(gaussian(Replace()), 3)
    assert list(alone) == ["chain"] and len(theory.sentences(alone)) == 1
