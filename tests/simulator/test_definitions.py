"""Has it collapsed: each definition on chains that were built to show it and on chains built not to."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas
import pytest
from scipy import stats

from experiments.command import listing
from generators import Categorical, Cohort, Gaussian, Linear, Mixture
from simulator import Chain, GenlossError, Truth, ensemble
from simulator.analysis.definitions import (
    DEFINITIONS,
    Arm,
    Bounds,
    catastrophe,
    collapsing,
    divergence,
    gap,
    slopes,
    slower,
    when,
)
from simulator.analysis.measures import KINDS, READINGS, Reading, looked_at, named
from simulator.analysis.verdicts import Verdict, verdicts
from simulator.probes import Categories, Centres, Diet, Manifold, Moments, Risk
from simulator.recipe import Accumulate, Mix, Replace, Select
from simulator.running.files import tidy

CATASTROPHE, INCREASE, DIVERGENCE, SCALING, VARIANCE, TAILS, MODES, HALLUCINATIONS = DEFINITIONS
ARMS = ("replace", "accumulate", "real")


def chain(generator: Any, index: Any, probes: dict[str, Any], rows: int = 1, **fields: Any) -> Chain:
    """A model that eats the latest of its data, all of it, or the same real rows in every generation."""
    recipe = Select((Replace(), Accumulate(), Mix(real=1.0, size=rows)), index)
    probes = {"diet": Diet(births=1), **probes}
    fields = {"real": rows, "rows": rows, "held_out": 0, "source": Truth(generator), **fields}
    return Chain(generator=generator, recipe=recipe, probes=probes, **fields)


def records(make: Any, grid: Any, names: Any, chains: int, generations: int) -> pandas.DataFrame:
    return tidy(ensemble(make, grid, jax.random.split(jax.random.key(0), chains), generations), names, 2).to_pandas()


def answers(found: list[Verdict], definition: str) -> dict[str, bool | None]:
    return {one.setting: one.holds for one in found if one.definition == definition}


# Chains that show it, and chains that do not.


@pytest.fixture(scope="module")
def regression() -> list[Verdict]:
    """E risk is that of the first fit times the number of fits, under accumulate at most π²/6 times that."""
    make = lambda index: chain(Cohort(Linear(4), 40), index, {"test": Risk()})  # noqa: E731
    return verdicts(records(make, jnp.arange(3), ARMS, 1600, 33), {"test": "Risk", "diet": "Diet"})


def test_risk_that_every_fit_adds_to_is_a_catastrophe_and_an_increase_and_diverges(regression: list[Verdict]):
    assert [answers(regression, of)["replace"] for of in (CATASTROPHE, INCREASE, DIVERGENCE)] == [True, True, True]
    first = next(one for one in regression if one.definition == CATASTROPHE and one.setting == "replace")
    assert (first.low or 0) <= 10 <= (first.high or 0) < 20  # 11 fits have more than 10 times the risk of one


def test_risk_that_stays_below_twice_the_references_is_an_increase_alone(regression: list[Verdict]):
    assert [answers(regression, of)["accumulate"] for of in (CATASTROPHE, INCREASE, DIVERGENCE)] == [False, True, False]


@pytest.fixture(scope="module")
def gaussians() -> dict[int, Any]:
    """Of cohorts of n: E variance is (1 - 1/n)^t, E error of the mean 1 - (1 - 1/n)^t under replace."""
    sizes = (8, 64, 1024, 2**20)
    make = lambda v: chain(Cohort(Gaussian(2), v[1]), v[0], {"moments": Moments()})  # noqa: E731
    index, n = (a.ravel() for a in jnp.meshgrid(jnp.arange(3), jnp.array(sizes), indexing="ij"))
    names = [f"{arm}, {size}" for arm in ARMS for size in sizes]
    found = records(make, (index, n), names, 256, 33)
    found[["setting", "n"]] = found["setting"].str.split(", ", expand=True)
    return {size: found[found["n"] == str(size)].drop(columns="n") for size in sizes}


def test_a_scaling_law_changes_where_small_cohorts_have_forgotten_and_large_ones_have_not(gaussians: Any):
    """After 33 fits the error is 1 at n = 8 and 0.4 at 64; of one fit, and of n far above 33, it falls as 1/n."""
    few, many = ({n: gaussians[n] for n in sizes} for sizes in ((8, 64), (1024, 2**20)))
    for by_rows, changed in ((few, True), (many, False)):
        found = verdicts(gaussians[8], {"moments": "Moments"}, {"risk": ("moments.mean_error", "loss")}, by_rows)
        assert answers(found, SCALING)["replace"] is changed
        reference = next(one.reference for one in found if one.definition == SCALING)
        assert reference is not None and abs(reference + 1) < 0.1
        assert answers(found, SCALING)["accumulate"] is False


def test_variance_collapses_under_replace_and_not_under_accumulate(gaussians: Any):
    """Below a tenth at n = 8; at n = 64 it is 0.6, and goes on to fall."""
    for n in (8, 64):
        found = verdicts(gaussians[n], {"moments": "Moments"})
        assert answers(found, VARIANCE) == {"replace": True, "accumulate": False}


def test_without_a_reference_it_is_generation_0_of_the_same_chains(gaussians: Any):
    alone = gaussians[8][gaussians[8]["setting"] != "real"]
    found = verdicts(alone, {"moments": "Moments"})
    assert answers(found, VARIANCE) == {"replace": True, "accumulate": False}
    assert {one.against for one in found} == {"generation 0"}


def test_rare_words_disappear_under_replace_and_not_under_accumulate():
    words = Categorical(50, zipf=1.0)
    make = lambda index: chain(words, index, {"words": Categories()}, rows=100)  # noqa: E731
    found = verdicts(records(make, jnp.arange(3), ARMS, 64, 13), {"words": "Categories"})
    assert answers(found, TAILS) == {"replace": True, "accumulate": False}


def test_modes_entangle_and_samples_are_made_up_where_every_fit_blurs():
    """Four modes of deviation 0.1, 1.4 apart; each fit adds `floor` to their variance."""

    def make(value: Any) -> Chain:
        index, floor = value
        model, truth = Mixture(2, 4, steps=8, floor=floor), Truth(Mixture(2, 4))
        probes = {"centres": Centres(), "near": Manifold()}
        return chain(model, index, probes, rows=96, held_out=96, source=truth)

    grid = (jnp.array([0, 0, 2]), jnp.array([0.05, 1e-6, 1e-6]))
    found = verdicts(
        records(make, grid, ("blurs", "does not", "real"), 24, 7), {"centres": "Centres", "near": "Manifold"}
    )
    for definition in (MODES, HALLUCINATIONS):
        assert answers(found, definition) == {"blurs": True, "does not": False}


# How often it is wrong.


@pytest.fixture(scope="module")
def nothing() -> dict[str, np.ndarray]:
    """Gaussians that eat real rows alone, new ones in every generation: [300 runs, 2 arms, 4 replicates, 6]."""
    one = Chain(
        source=Truth(Gaussian(1)), generator=Gaussian(1), recipe=Mix(real=1.0, size=20, fresh=True), real=20, rows=20,
        fresh=20, held_out=20, probes={"moments": Moments(), "near": Manifold(neighbours=3)},
    )  # fmt: skip
    keys = jax.random.split(jax.random.key(1), 300 * 2 * 4)
    found = ensemble(lambda _: one, jnp.zeros(1), keys, 6).flat()
    return {name: np.asarray(a, np.float64).reshape(300, 2, 4, 6) for name, a in found.items()}


@pytest.mark.parametrize("paired", [False, True], ids=["against others", "against generation 0"])
def test_of_runs_in_which_nothing_happens_no_more_are_said_to_have_collapsed_than_is_stated(nothing: Any, paired: bool):
    alarm, wrong = 0.2, np.zeros(300, bool)
    looked = [
        (of, ask, Reading(metric, reading))
        for of, (kind, ask) in DEFINITIONS.items()
        for metric, reading, kinds in (
            ("moments.mean_error", "loss", ("risk",)),
            ("moments.variance", "kept", ("variance",)),
            ("near.recall", "kept", ("tails",)),
            ("near.precision", "kept", ("hallucinations",)),
        )
        if kind in kinds and ask is not slower
    ]
    assert len(looked) == 6
    found: dict[str, list[bool | None]] = {}
    for of, ask, reading in looked:
        of_runs = reading.worse(nothing[reading.metric])
        for i, (values, against) in enumerate(of_runs):
            against = np.broadcast_to(values[:, :1], values.shape) if paired else against
            holds = ask(Arm(values, against, paired), Bounds(margin=0.0), alarm / len(looked)).holds
            wrong[i] |= holds is True
            found.setdefault(of, []).append(holds)
    assert wrong.mean() < alarm + 4 * np.sqrt(alarm * (1 - alarm) / len(wrong))
    assert wrong.any()  # bounds are where nothing happens is: it is not by a distance that few are wrong


def test_the_interval_of_an_onset_holds_the_laws():
    """Risk is 5 times the reference's in generation 4, when 5 fits have been made, and above that from 5 on."""
    make = lambda index: chain(Cohort(Linear(8), 80), index, {"test": Risk()})  # noqa: E731
    keys = jax.random.split(jax.random.key(2), 300 * 16)
    risk = ensemble(make, jnp.array([0, 2]), keys, 12)["test"]
    values, against = np.asarray(risk, np.float64).reshape(2, 300, 16, 12)
    arms = [Arm(*pair, paired=False) for pair in zip(values, against, strict=True)]
    found = np.array([when(arm, arm.times(5.0), 0.9) for arm in arms])  # [300, 3]
    onset, low, high = found.T
    held = np.mean((low <= 5) & (high >= 5))
    assert held > 0.9 - 4 * np.sqrt(0.9 * 0.1 / 300)
    assert np.mean(high - low) < 6 and (low > 1).mean() > 0.9 and (high < 11).mean() > 0.9
    assert (low <= onset).all() and (onset <= high).all()
    assert abs(onset.mean() - 5) < 1


# The mathematics.


def test_an_interval_is_that_of_welch_or_of_students_paired_test():
    values, against = np.random.default_rng(0).normal(size=(2, 5, 1)) * [[[1.0]], [[3.0]]]
    for paired in (False, True):
        test: Any = stats.ttest_rel(values, against) if paired else stats.ttest_ind(values, against, equal_var=False)
        mean, reach = gap(values, against, 0.02, paired)
        interval = test.confidence_interval(0.96)
        assert np.allclose([mean - reach, mean + reach], [interval.low, interval.high])


def test_chains_that_are_alike_by_chance_say_nothing_of_chance():
    """What the reference varies by elsewhere stands in, then what the chains do; of 400 the quantile is the normal."""
    values, against = np.random.default_rng(0).normal(size=(2, 400, 6)) * [[[1.0]], [[3.0]]]
    of_values, of_against = values.var(0, ddof=1), against.var(0, ddof=1).mean() * 5 / 6
    against[:, -1] = 0.0
    for alike, square in ((False, of_values[-1] + of_against), (True, of_against)):
        values[:, -1] = 1.0 if alike else values[:, -1]
        _, reach = gap(values, against, 0.05, paired=False)
        assert reach[-1] == pytest.approx(1.645 * (square / 400) ** 0.5, rel=0.03)
    _, reach = gap(values, 0 * against, 0.05, paired=False)
    assert reach[-1] == pytest.approx(1.645 * (of_values[:-1].sum() / 6 / 400) ** 0.5, rel=0.03)
    assert np.isinf(gap(np.ones((3, 6)), np.zeros((3, 6)), 0.05, paired=False)[1]).all()


T = 64
CURVES = {
    "linear": (lambda t: t / T, True),
    "square root": (lambda t: (t / T) ** 0.5, True),
    "levels off as 1/t": (lambda t: 1 - 1 / np.maximum(t, 1), False),
    "levels off as t^-0.3": (lambda t: 1 - np.maximum(t, 1) ** -0.3, False),
    "levels off within the run": (lambda t: 1 - np.exp(-t / (0.45 * T)), False),
    "levels off after the run": (lambda t: 1 - np.exp(-t / (0.6 * T)), True),
    "flat": (lambda t: 0.0 * t, False),
    "falls": (lambda t: -t / T, False),
    "comes back": (lambda t: np.sin(np.pi * t / T), False),
}


@pytest.mark.parametrize("curve", CURVES)
def test_what_grows_diverges_unless_it_bends(curve: str):
    of, diverges = CURVES[curve]
    noise = np.random.default_rng(0).normal(size=(2, 8, T + 1)) * 1e-4
    arm = Arm(2 + of(np.arange(T + 1)) + noise[0], 2 + noise[1], paired=False)
    assert divergence(arm, Bounds(), 0.01).holds is diverges


def test_what_grows_as_a_logarithm_is_on_the_edge():
    noise = np.random.default_rng(0).normal(size=(2, 500, 8, T + 1)) * 1e-2
    grown = 2 + np.log(np.maximum(np.arange(T + 1), 1)) + noise[0]
    told = [divergence(Arm(*arm, paired=False), Bounds(), 0.1).holds for arm in zip(grown, 2 + noise[1], strict=True)]
    for verdict, rate in ((True, 0.1), (False, 0.05)):
        assert np.mean([one is verdict for one in told]) < rate + 4 * np.sqrt(rate * (1 - rate) / 500)


def test_variance_that_is_gone_has_collapsed_and_some_that_is_left_in_few_chains_is_not_told():
    """Of chains without variance there are no logarithms, and no trend."""
    chance = np.random.default_rng(0)
    against, gone = -1 + 0.1 * chance.normal(size=(6, 9)), np.zeros((6, 9))
    assert collapsing(Arm(gone, against, paired=False), Bounds(), 0.01).holds is True
    half = gone + 0.5 * against * (np.arange(6) < 3)[:, None]
    assert collapsing(Arm(half, against, paired=False), Bounds(), 0.01).holds is None


def test_a_catastrophe_is_worse_than_a_factor_or_than_knowing_nothing():
    against = np.random.default_rng(0).normal(2, 0.01, size=(6, 3))
    for risk, factor, ignorant in ((9, False, True), (21, True, True), (7, False, False)):
        arm = Arm(against + risk - 2, against, paired=False)
        assert catastrophe(arm, Bounds(), 0.01).holds is factor
        assert catastrophe(arm, Bounds(ignorant=8.0), 0.01).holds is ignorant


def test_nats_are_compared_by_differences():
    arm = Arm(np.array([[-5.0], [-5.1]]), np.array([[-7.0], [-7.1]]), paired=False, logarithmic=True)
    assert np.allclose(arm.times(10.0), arm.against + np.log(10))
    assert np.allclose(arm._replace(logarithmic=False).times(10.0), arm.against * 10)


def test_the_exponent_of_a_scaling_law_is_the_slope_in_logarithms():
    law = {n: np.full((2, 3), 5.0) * n**-0.7 for n in (10, 30, 200)}
    assert np.allclose(slopes(law), -0.7)


@pytest.mark.parametrize("reading", READINGS)
def test_what_is_read_is_worse_where_it_is_higher(reading: str):
    better = reading in ("score", "likelihood", "kept")
    of = Reading("mine", reading)
    assert (np.diff(of.worse(np.array([0.2, 0.7]))) < 0) == better
    assert of.back(float(of.worse(np.array(0.3)))) == pytest.approx(0.3)


# What is looked at.


def test_every_part_that_is_named_is_one_that_its_probe_declares_and_points_the_same_way():
    declared = {
        (probe, "" if what == "the probe's one value" else metric): direction
        for probe, rows in listing.metrics().items()
        for metric, what, _, direction, _ in rows
    }
    for parts in KINDS.values():
        for place, reading in parts.items():
            probe, _, part = place.partition(".")
            names = (part, part.replace("samples.", "s."), part.rpartition(".")[0])
            direction = next(declared[probe, name] for name in names if (probe, name) in declared)
            wrong = "higher" if reading in ("loss", "nats", "lost") else "lower"
            assert not direction.startswith(wrong), place


def frame(metric: str = "near.recall", replicates: int = 3, generations: int = 3) -> pandas.DataFrame:
    chance = np.random.default_rng(0)
    rows = [
        (setting, r, t, name, value)
        for setting in ("a", "control")
        for r in range(replicates)
        for t in range(generations)
        for name, value in ((metric, chance.normal()), ("diet.real", float(t == 0 or setting == "control")))
    ]
    return pandas.DataFrame(rows, columns=["setting", "replicate", "generation", "metric", "value"])


def why(found: list[Verdict], definition: str) -> str:
    (one,) = [one for one in found if one.definition == definition]
    assert one.holds is None and one.onset is None
    return one.why


def test_a_measure_that_is_missing_or_too_short_is_said():
    probes = {"near": "Manifold"}
    assert "No measure of it was taken; probes that take one: Moments, " in why(verdicts(frame(), probes), VARIANCE)
    assert "One replicate" in why(verdicts(frame(replicates=1), probes), TAILS)
    assert "more generations" in why(verdicts(frame(generations=1), probes), TAILS)
    assert "replicates; some" in why(verdicts(frame(), probes), TAILS)
    endless = frame()
    endless.loc[0, "value"] = np.inf
    assert why(verdicts(endless, probes), TAILS) == "near.recall is not finite in every chain."
    own = {"risk": ("near.recall", "loss")}
    assert "5 or more generations" in why(verdicts(frame(), probes, own), DIVERGENCE)


def test_every_definition_and_setting_that_is_asked_is_paid_for():
    """One setting is asked three questions of risk, two are asked six."""
    of = np.random.default_rng(0).normal(size=(2, 5))  # of a generation, and of all
    test: Any = stats.ttest_ind(*of, equal_var=False)
    reach = (of.var(-1, ddof=1).sum() / 5) ** 0.5
    found = []
    for divided in (2.5, 3.5, 5.5, 6.5):  # a difference that is seen at 0.05 divided by more than that
        shifted = of[0] - of[0].mean() + of[1].mean() + reach * float(stats.t.isf(0.05 / divided, test.df))
        for settings in (("a",), ("a", "b")):
            rows = [
                (setting, r, t, name, value)
                for setting in (*settings, "control")
                for r in range(5)
                for t in range(2)
                for name, value in (
                    ("mine", (of[1] if setting == "control" else shifted)[r]),
                    ("diet.real", float(t == 0 or setting == "control")),
                )
            ]
            table = pandas.DataFrame(rows, columns=["setting", "replicate", "generation", "metric", "value"])
            found.append(answers(verdicts(table, {}, {"risk": ("mine", "loss")}), INCREASE)["a"])
    assert found == [None, None, True, None, True, None, True, True]


def test_of_several_measures_the_first_that_is_finite_is_looked_at():
    both = pandas.concat([frame("a.covered"), frame("b.recall").assign(value=np.nan)])
    probes = {"a": "Centres", "b": "Fidelity"}
    assert looked_at(both, probes)["tails"] == Reading("a.covered", "kept")
    both["value"] = 1.0
    assert looked_at(both, probes)["tails"] == Reading("b.recall", "kept")
    own = {"tails": ("a.covered", "lost")}
    assert looked_at(both, probes, own)["tails"] == Reading("a.covered", "lost")


def test_probes_are_known_by_their_class_and_strangers_are_not():
    stored = {"mine": {"$type": "mine:Manifold"}, "near": {"$type": "simulator.probes:Manifold"}, "bad": 3}
    assert named(stored) == {"near": "Manifold"}
    assert named({"near": Manifold(), "mine": lambda key, view: 0.0}) == {"near": "Manifold"}


def test_a_scaling_law_wants_runs_that_differ_in_rows_alone():
    probes, own = {"near": "Manifold"}, {"risk": ("near.recall", "loss")}
    assert "two or more numbers of rows" in why(verdicts(frame(), probes, own), SCALING)
    assert "no logarithm" in why(verdicts(frame(), probes, own, {1: frame(), 2: frame()}), SCALING)
    nats = {"risk": ("near.recall", "nats")}
    assert "up to a constant" in why(verdicts(frame(), probes, nats, {1: frame(), 2: frame()}), SCALING)
    with pytest.raises(GenlossError, match="different settings, replicates or generations"):
        verdicts(frame(), probes, own, {1: frame(), 2: frame(generations=4)})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"alarm": 0.0}, "rate of false alarms is 0.0"),
        ({"confidence": 1}, "confidence is 1 and"),
        ({"own": {"risks": ("near.recall", "loss")}}, "no kind 'risks'; the nearest is 'risk'"),
        ({"own": {"variance": ("near.recal", "kept")}}, "no metric 'near.recal'; the nearest is 'near.recall'"),
        ({"own": {"variance": ("near.recall", "los")}}, "no reading 'los'"),
    ],
)
def test_bad_input_gets_one_sentence(changes: dict[str, Any], said: str):
    with pytest.raises(GenlossError, match=said):
        verdicts(frame(), {"near": "Manifold"}, **changes)


@pytest.mark.parametrize("kept", [slice(1, None), [0, *range(24)]], ids=["a gap", "a repeat"])
def test_records_with_gaps_are_refused(kept: Any):
    with pytest.raises(GenlossError, match=r"near\.recall in 'a' have gaps"):
        verdicts(frame().iloc[kept], {"near": "Manifold"})
