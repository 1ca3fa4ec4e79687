"""Every curve that is drawn as theory, against thousands of chains; and what is said where there is none."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_mean, cases, gaussian_chain

from generators import Bernoulli, Categorical, Exponential, Gaussian, Poisson
from generators.gaussian import GaussianParams
from generators.kde import KDE
from generators.linear import Linear
from simulator import Chain, Pool, Sweep, Truth, schedule, simulate, theory
from simulator.probes import Categories, Diversity, LogDet, Moments, Rate, Risk, Wasserstein
from simulator.recipe import Accumulate, Augment, Decay, Mix, Replace, Reweigh, Select, Subsample, Then, Verify, Window

CHAINS = 4000
NORMAL = {"moments": Moments(), "log_det": LogDet(), "w2": Wasserstein()}


def chain_of(model: Any, recipe: Any, probe: Any, truth: Any = None, n: int = 10, **fields: Any) -> Chain:
    probes = probe if isinstance(probe, dict) else {"mine": probe}
    source = truth if isinstance(truth, Truth) else Truth(truth or model)
    return Chain(
        source=source, generator=model, recipe=recipe, probes=probes, **{"real": n, "rows": n, "held_out": 0, **fields}
    )


def gaussian(recipe: Any, dim: int = 1, ddof: int = 0, bias: float = 1.0, **fields: Any) -> Chain:
    return gaussian_chain(dim, ddof, bias, recipe=recipe, **{"probes": {"mine": Moments()}, **fields})


def held(chain: Chain, metrics: set[str], generations: int = 8, chains: int = CHAINS) -> None:
    """The overlay has these metrics, and each is the mean of what many chains record, at every generation."""
    found = theory.overlay(chain, generations)
    assert set(found.curves) == metrics and metrics <= set(found.why)
    keys = jax.random.split(jax.random.key(7), chains)
    record = jax.jit(jax.vmap(lambda key: simulate(chain, key, generations)))(keys).flat()
    for metric, curve in found.curves.items():
        samples, same = np.asarray(record[metric], np.float64), np.ptp(np.asarray(record[metric]), 0) == 0
        assert np.allclose(samples[0, same], curve[same], rtol=1e-5)  # what has no spread is the law itself
        if not same.all():
            assert_mean(samples[:, ~same], curve[~same], 4.8)


MOMENTS = {"mine.variance", "mine.mean_error"}
SHIFTED = Truth(Gaussian(3), GaussianParams(jnp.array([1.0, -0.5, 2.0]), jnp.diag(jnp.array([0.5, 1.0, 3.0]))))
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
    "real rows of all times": gaussian(Mix(real=0.5, size=8), real=4, rows=8, fresh=2),
    "two generations": gaussian(Mix(real=0.2, size=10, window=2), real=10, rows=10),
    "schedule": gaussian(Mix(real=schedule("linear", 0.8, 0.0, 6), size=10), real=10, rows=10),
    "golden weights": gaussian(Then(Replace(), Reweigh(real=0.618)), real=8, rows=12, fresh=8),
    "window, three dimensions": gaussian(Window(2), 3, real=9, rows=9),
    "decay": gaussian(Decay(0.4), bias=0.9, real=6, rows=9),
    "augment": gaussian(Augment(ratio=0.6), real=10, rows=10),
    "select": gaussian(Select((Accumulate(), Window(2)), 1), real=10, rows=10),
    "another truth": chain_of(Gaussian(3), Window(2), Moments(0.5, 2.0), SHIFTED, n=12),
    "a cooled truth": chain_of(Gaussian(1), Replace(), Moments(), Gaussian(1, bias=0.5), n=12),
}


QUICK = "replace; subsample; fresh share; fixed real rows, some of them; schedule; golden weights; another truth"


@pytest.mark.parametrize("chain", cases(GAUSSIANS, QUICK))
def test_moments(chain: Chain):
    held(chain, MOMENTS)


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
}


@pytest.mark.parametrize(
    ("chain", "metrics"), cases(COUNTS, "accumulate; fresh; smoothed; poisson; bernoulli, augment")
)
def test_counts(chain: Chain, metrics: set[str]):
    held(chain, metrics)


RISKS = {
    "replace": chain_of(Linear(3, 0.6), Replace(), Risk(), n=21),
    "accumulate": chain_of(Linear(4, 1.4), Accumulate(), Risk(), n=9),
    "subsample": chain_of(Linear(1), Then(Accumulate(), Subsample(130)), Risk(), n=130),
    "least norm": chain_of(Linear(17, 0.4), Replace(), Risk(), n=9),
    "window": chain_of(Linear(1), Window(2), Risk(), n=140),
    "another noise": chain_of(Linear(1, 0.5), Decay(0.7), Risk(), Linear(1, 1.5), n=140),
}


@pytest.mark.parametrize("chain", cases(RISKS, "replace; least norm; window"))
def test_risk(chain: Chain):
    held(chain, {"mine"}, generations=5)


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


@pytest.mark.parametrize(
    "recipe", [Accumulate(), Then(Accumulate(), Subsample(1000)), Window(5), Mix(real=0.3, size=1000)]
)
def test_large_chains_are_within_reach(recipe: Any):
    """100,000 rows, of which only the data sets are followed; E[S_t] + V_t = 1 as for every unbiased diet."""
    curves = theory.overlay(gaussian(recipe, real=1000, rows=1000), 100).curves
    assert np.allclose(curves["mine.variance"] + curves["mine.mean_error"], 1)


# Cohorts.


class Scatter(NamedTuple):
    count: Any
    sums: Any
    squares: Any


@dataclass(frozen=True)
class Cohort:
    """The sufficient statistic of n rows of a one-dimensional Gaussian as one row."""

    generator: Any
    n: int

    def init(self, key: Any) -> Any:
        return self.generator.init(key)

    def fit(self, key: Any, params: Any, pool: Pool) -> Any:
        count, sums, squares = (pool.weight @ leaf for leaf in pool.rows)
        mean = sums / count
        variance = (squares - count * mean**2) / (count - self.generator.ddof)
        return GaussianParams(mean[None], variance[None, None]), {}

    def sample(self, key: Any, params: Any, n: int) -> Any:
        rows = self.generator.sample(key, params, n * self.n)[:, 0].reshape(n, self.n)
        return Scatter(jnp.full(n, float(self.n)), rows.sum(1), (rows**2).sum(1))


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


@pytest.mark.parametrize(
    "chain",
    [
        cohorts(Gaussian(1, 1, 0.8), Window(2), (12, 5)),
        cohorts(Gaussian(1), Then(Accumulate(), Subsample(3)), (5, 5), real=3, rows=2, fresh=1),
        cohorts(Gaussian(1), Then(Accumulate(), Subsample(3)), (3, 7), real=3, rows=2, fresh=1),
    ],
    ids=["window", "subsampled", "subsampled, of different sizes"],
)
def test_cohorts(chain: Chain):
    held(chain, MOMENTS, generations=6)


# Where there is no law.


def score(rows: Any) -> Any:
    return rows[:, 0]


def every_other(key: Any, t: Any, pool: Pool) -> Any:
    return pool.weight * (jnp.arange(pool.capacity) % 2 == 0)


def mine(key: Any, view: Any) -> Any:
    return view.params.mean[0]


NONE = {
    "reads the rows": (gaussian(Then(Replace(), Verify(score))), "looks at the rows"),
    "by place": (gaussian(every_other), "every_other tells rows of one data set apart"),
    "too large": (gaussian(Mix(0.5, 10**4, window=3), real=10**4, rows=10**4), "too long"),
    "another truth": (chain_of(Gaussian(2), Replace(), Moments(), KDE(2, 0.3, size=8)), "Gaussian fitted to KDE"),
    "another model": (
        chain_of(KDE(2, 0.3, size=8), Replace(), Diversity(), Gaussian(2)),
        "no law is known for a chain of KDE.",
    ),
    "a probe of one's own": (chain_of(Gaussian(1), Replace(), mine), "what mine measures of a chain of Gaussian"),
    "log determinant": (chain_of(Gaussian(2), Accumulate(), LogDet()), "has a law only where every fit eats n rows"),
    "singular": (chain_of(Gaussian(4), Replace(), LogDet(), n=4), "of 4 rows in 4 dimensions is singular"),
    "w2": (chain_of(Gaussian(2), Replace(), Wasserstein()), "only in one dimension"),
    "temperature": (chain_of(Categorical(5, temperature=0.5), Replace(), Categories()), "smoothing or a temperature"),
    "ridge": (chain_of(Linear(2, ridge=0.1), Replace(), Risk(), n=20), "ridge"),
    "infinite risk": (chain_of(Linear(10), Replace(), Risk(), n=10), "may be infinite"),
    "one row": (gaussian(Replace(), ddof=1, real=1, rows=1), "no unbiased variance"),
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
