"""What stands in the table of published figures: it can fail, says whose number is whose, and leaves no cell out."""

import math
import re
from typing import Any

import jax
import numpy as np
import pytest
from conftest import assert_mean

from experiments.command import reproduce
from experiments.command.loading import files
from experiments.command.reproductions import Claim, Finding, Published, Reproduction, largest_z
from experiments.contamination import findings
from experiments.published import kazdan_gaussian, kazdan_regression, mad_fresh
from simulator import theory
from simulator.analysis.harm import interval
from simulator.recipe import Accumulate, Replace


@pytest.mark.parametrize(
    ("printed", "half"), [("12.3", 0.05), ("20", 0.5), ("4.1e-5", 0.05e-5), ("-0.50", 0.005), ("2e3", 500.0)]
)
def test_a_printed_number_is_known_to_half_a_unit_of_its_last_digit(printed: str, half: float):
    assert Published(printed, "Table 1").slack == pytest.approx(half)
    assert Published(printed, "Fig. 1", 0.1).slack == pytest.approx(half + 0.1 * abs(float(printed)))
    for away, holds in ((0.9, True), (-0.9, True), (1.1, False), (-1.1, False)):
        ours, number = float(printed) + away * half, Published(printed, "Table 1")
        assert Finding("", ours, published=number).holds is holds
        further = ours + math.copysign(3 * half, away)
        assert Finding("", further, half, sigmas=3, published=number).holds is holds


def test_a_published_number_that_disagrees_fails_whatever_the_theory_says():
    published = Published("12.3", "Fig. 10")
    assert Finding("", 10.0, 0.1, theory=10.0).holds
    assert not Finding("", 10.0, 0.1, theory=10.0, published=published).holds
    assert not Finding("", 12.3, 0.1, theory=10.0, published=published).holds
    assert Finding("", 12.31, 0.1, theory=12.35, published=published).holds
    assert Finding("", 10.5, 0.0, theory=10.0, within=0.06).holds
    assert not Finding("", 10.5, 0.0, theory=10.0, within=0.04).holds
    assert not Finding("", float("nan")).holds and Finding("", 3.0).holds


@pytest.mark.parametrize("ours", [True, False])
def test_a_claim_holds_where_law_and_paper_say_the_same(ours: bool):
    assert Claim("", ours).holds and Claim("", ours, theory=ours, published=ours).holds
    assert not Claim("", ours, theory=not ours).holds and not Claim("", ours, published=not ours).holds


def test_what_stands_after_plus_or_minus_is_one_standard_error():
    samples = np.random.default_rng(0).normal(3, 2, 400)
    found = Finding.of_mean("", samples)
    assert found.error == pytest.approx(samples.std(ddof=1) / 20)
    assert float(found.cells()[2].split(" ± ")[1]) == pytest.approx(found.error, rel=0.5)
    assert Finding("", 34.3, 12.0).cells()[2] == "34.3 ± 12"
    assert Finding("", 26.3, interval=(20.06, 32.5)).cells()[2] == "26.3 [20.1, 32.5]"


def test_a_line_says_whose_number_is_whose_and_what_differs():
    found = Reproduction(
        [Finding("a", 1.0, theory=1.0, published=Published("1.00", "Fig. 2", 0.03)), Claim("b", False, theory=True)],
        figure=None,  # pyright: ignore[reportArgumentType]
        note="one generator for all",
    )
    assert reproduce.lines("name", found) == [
        ("name", "a", "1.00 (Fig. 2, ± 3 %)", "1", "1", ""),
        ("", "b", "", "yes", "no", "does not hold"),
        ("", "one generator for all", "", "", "", ""),
    ]


def walks(chance: np.random.Generator, chains: int, fits: int = 20) -> np.ndarray:
    """Skewed chains whose fits depend on each other: sums of exponentials, mean 0, [chains, fits]."""
    return (chance.exponential(size=(chains, fits)) - 1).cumsum(1)


def test_the_largest_z_is_as_large_as_is_said_where_the_laws_are_right():
    chance = np.random.default_rng(0)
    found = []
    for _ in range(60):
        groups = [[(walks(chance, 100), np.zeros(20)) for _ in range(3)] for _ in range(2)]
        found.append(largest_z("walk", groups, 200))
    gap = np.array([(one.ours - (one.theory or 0)) / one.error for one in found])
    assert abs(gap.mean()) < 5 / np.sqrt(60) and 0.6 < gap.std() < 1.6 and all(one.holds for one in found)
    assert found[0].what == "walk: largest |z| of 6 cells at all fits"


@pytest.mark.parametrize("wrong", [(0, 0), (1, 2)])
def test_one_wrong_law_of_many_cells_is_seen(wrong: tuple[int, int]):
    chance = np.random.default_rng(0)
    groups = [[(walks(chance, 400), np.zeros(20)) for _ in range(3)] for _ in range(2)]
    samples, law = groups[wrong[0]][wrong[1]]
    groups[wrong[0]][wrong[1]] = (samples, law + np.eye(20)[7] * 0.5 * samples[:, 7].std())
    found = largest_z("", groups)
    assert not found.holds and found.ours == pytest.approx(10, abs=3)


def counted(module: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a whole grid says that it counted, of samples that are made up: 40 chains about 1 at all fits."""
    chance = np.random.default_rng(0)

    def samples(*shape: int) -> dict[str, np.ndarray]:
        made = 1 + chance.normal(size=(*shape, 40, module.ITERATIONS))
        return dict.fromkeys(["moments.variance", "log_det", "risk"], made)

    noises = (3,) if module is kazdan_regression else ()
    monkeypatch.setattr(module, "by_cohorts", lambda recipe, dim, rows, keys: samples(*noises, len(rows)))
    monkeypatch.setattr(module, "row_by_row", lambda recipe, dim, rows, keys: samples())
    found = module.reproduce(seeds=40).findings
    return [f.what.removesuffix(" at all fits") for f in found if "largest" in f.what]


def test_the_gaussian_grid_counts_every_cell_or_says_which_not(monkeypatch: pytest.MonkeyPatch):
    """20 cells have n > d; under replace traces are heavy-tailed in ten of them, log determinants in none."""
    assert counted(kazdan_gaussian, monkeypatch) == [
        "replace, n >= 316 alone: largest |z| of 10 cells",
        "accumulate, all: largest |z| of 20 cells",
        "accumulate, subsample, all: largest |z| of 20 cells",
        "log det, replace, all: largest |z| of 20 cells",
    ]


def test_the_regression_grid_counts_every_cell_or_says_which_not(monkeypatch: pytest.MonkeyPatch):
    """18 cells at three noises: two have n <= d + 7."""
    assert counted(kazdan_regression, monkeypatch) == [
        "replace, all n > d + 7, where fourth moments are finite: largest |z| of 54 cells",
        "accumulate, all n > d + 7, where fourth moments are finite: largest |z| of 54 cells",
    ]


@pytest.mark.parametrize(
    ("recipe", "law"),
    [(Replace(), theory.replace_risk), (Accumulate(), theory.accumulate_risk)],
    ids=["replace", "all"],
)
def test_each_noise_of_the_regressions_is_a_result_of_its_own(recipe: Any, law: Any):
    keys = jax.random.split(jax.random.key(0), 1000)
    found = np.asarray(kazdan_regression.by_cohorts(recipe, 2, (20, 40), keys, 4)["risk"], np.float64)
    assert found.shape == (3, 2, 1000, 4)
    for noise, of in zip(kazdan_regression.NOISES, found, strict=True):
        for n, samples in zip((20, 40), of, strict=True):
            assert_mean(samples, law(n, 2, 4, noise))
    scaled = found / np.square(kazdan_regression.NOISES)[:, None, None, None]
    for i, j in ((0, 1), (1, 2)):  # draws shared would correlate by 1
        assert abs(np.corrcoef(scaled[i, 0, :, -1], scaled[j, 0, :, -1])[0, 1]) < 5 / np.sqrt(1000)


def test_row_by_row_goes_on_for_as_many_iterations_as_are_asked_for():
    keys = jax.random.split(jax.random.key(0), 2)
    assert kazdan_gaussian.row_by_row(Replace(), 1, 5, keys, iterations=3)["moments.variance"].shape == (2, 3)
    assert kazdan_regression.row_by_row(Replace(), 1, 5, keys, iterations=3)["risk"].shape == (2, 3)


def test_every_published_number_names_a_table_or_figure_of_its_paper():
    numbers = [*mad_fresh.PUBLISHED.values(), *mad_fresh.STARTS.values()]
    assert numbers and all(re.fullmatch(r"(Fig\.|Table) \d+", number.where) for number in numbers)
    with_numbers = [name for name, file in files().items() if "Published(" in file.read_text()]
    assert with_numbers == ["mad_fresh"]  # an experiment more needs a line above


# Contamination, from scores that are made up: needs no data set.


def case(low: bool, seeds: int = 5) -> Any:
    """A case whose seeds differ more than its ratios, so that only the right axis has the right spread."""
    chance = np.random.default_rng(0)
    seed = chance.normal(0, 0.05, (1, seeds))  # shared by the arms
    fall = np.array([0.0, 0.01, 0.02, 0.05, 0.2])[:, None] * low  # [ratios, 1]
    accuracy = {
        "other real": 0.8 + seed + chance.normal(0, 0.002, (5, seeds)),
        "generated": 0.8 + seed - fall + chance.normal(0, 0.002, (5, seeds)),
    }
    accuracy["generated"][0] = accuracy["other real"][0]  # with no row replaced all arms are one
    by_class = {arm: values[..., None] + chance.normal(0, 0.01, (5, seeds, 3)) for arm, values in accuracy.items()}
    by_class["generated"][..., 1] -= 0.1
    arms = {arm: {"accuracy": accuracy[arm], "class": by_class[arm]} for arm in accuracy}
    values = np.linspace(0.95, 0.2 if low else 0.95, 5)
    cover: dict[str, Any] = dict.fromkeys(["precision", "recall", "density", "coverage"], values)
    return findings.Case("data", "generator", ("a", "b", "c"), arms, cover)


def test_errors_of_contamination_are_over_seeds_and_paired():
    made = case(low=True)
    control, generated = (100 * made.arms[arm]["accuracy"] for arm in ("other real", "generated"))
    found = {f.what.removeprefix("data, generator: "): f for f in findings.findings_of(made)}
    for i, (ratio, published) in enumerate(zip((20, 40, 80, 100), (0.6, 1.3, 3.1, 45.9), strict=True), 1):
        harm: Any = found[f"excess harm at {ratio} %, points (on ImageNet {published})"]
        each = control[i] - generated[i]  # [seeds]
        assert harm.ours == pytest.approx(each.mean()) and harm.published is None
        assert harm.error == pytest.approx(each.std(ddof=1) / np.sqrt(5))
    for i, percent, name in ((0, 20, "last"), (3, 20, "first")):
        worth: Any = found[f"points each of the {name} 20 % of real rows is worth"]
        each = (generated[i] - generated[i + 1]) / percent
        assert worth.ours == pytest.approx(each.mean()) and worth.error == pytest.approx(each.std(ddof=1) / np.sqrt(5))


def test_the_worst_class_has_the_interval_of_one_that_was_picked():
    made = case(low=True)
    (found,) = [f for f in findings.findings_of(made) if "worst class, b" in f.what]
    each = 100 * (made.arms["other real"]["class"] - made.arms["generated"]["class"])[-1, :, 1]
    wanted = interval(each, 1 - 0.05 / 3)
    assert isinstance(found, Finding) and found.interval == pytest.approx((wanted.low, wanted.high))
    assert "picked" in found.what and "95 % of all 3" in found.what


def test_marks_of_the_paper_and_of_full_coverage_can_fail():
    claims = [f for f in findings.findings_of(case(low=True)) if isinstance(f, Claim)]
    assert len(claims) == 4 and all(claim.published and claim.holds for claim in claims)
    (harmless,) = [f for f in findings.findings_of(case(low=False)) if isinstance(f, Claim)]
    assert harmless.holds and harmless.theory and harmless.published is None and "each of 4 intervals" in harmless.what
    made = case(low=False)
    made.arms["generated"]["accuracy"][2] -= 0.02
    assert not next(f for f in findings.findings_of(made) if isinstance(f, Claim)).holds
