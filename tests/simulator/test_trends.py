"""A forecast: its algebra against a dense one, intervals against chance, laws that it finds, and what it refuses."""

from typing import Any

import numpy as np
import pandas
import pytest
from scipy import stats
from scipy.special import gammaln

from simulator import GenlossError, theory
from simulator.analysis import trends
from simulator.analysis.bounds import Keep
from simulator.analysis.forecast import forecast
from simulator.analysis.series import series


def dense(fit: Any, replicates: int, known: int) -> tuple[np.ndarray, np.ndarray]:
    """(design of a_r and b, covariance) of all values of all replicates at all generations, those seen first."""
    phi, generations = fit.law.phi, len(fit.law.phi)
    order = [r * generations + t for part in (range(known), range(known, generations)) for r in range(replicates)
             for t in part]  # fmt: skip
    slopes = [np.tile(phi, replicates)] if phi.any() else []
    design = np.stack([*np.repeat(np.eye(replicates), generations, 1), *slopes], -1)
    return design[order], np.kron(np.eye(replicates), fit.noise.cov)[np.ix_(order, order)]


@pytest.fixture(scope="module")
def fitted() -> tuple[np.ndarray, list[Any]]:
    values = np.exp(0.1 * np.random.default_rng(1).normal(size=(3, 5)).cumsum(-1)) * [[1], [2], [3]]
    return values, list(trends._fits(values, 8))


def test_weights_are_fractional_bayes_factors(fitted: tuple[np.ndarray, list[Any]]):
    """m(1)/m(f) with m(f) = ∫ L^f da db d log σ², by determinants of the whole."""
    values, fits = fitted
    n, f = values.size, 5 / values.size  # of 3 replicates
    found, expected = [], []
    for fit in fits[::7]:
        design, cov = dense(fit, *values.shape)
        x, k, d = design[:n], cov[:n, :n], design.shape[1]
        gram = x.T @ np.linalg.solve(k, x)

        def left(y: np.ndarray, x: np.ndarray = x, k: np.ndarray = k, gram: np.ndarray = gram) -> float:
            rest = y - x @ np.linalg.solve(gram, x.T @ np.linalg.solve(k, y))
            return float(rest @ np.linalg.solve(k, rest))

        y = fit.scale.y.ravel()
        if fit.scale.name == "log m":  # of a law of the mean: a logarithm's is below it by half of its variance
            assert fit.drift == pytest.approx(left(y) / (n - d), abs=1e-9)
            y = y + fit.drift * np.diag(k) / 2
        square = left(y)

        def log_m(f: float, k: Any = k, gram: Any = gram, d: int = d, square: float = square) -> float:
            free = f * n - d
            return (
                -free / 2 * np.log(2 * np.pi) - f / 2 * np.linalg.slogdet(k)[1] - d / 2 * np.log(f)
                - np.linalg.slogdet(gram)[1] / 2 + gammaln(free / 2) - free / 2 * np.log(f * square / 2)
            )  # fmt: skip

        found.append(fit.log_weight - np.log(fit.law.prior * fit.noise.prior))
        expected.append(log_m(1) - log_m(f) + (1 - f) * fit.scale.jacobian)
    assert len(found) > 40 and np.ptp(expected) > 1
    assert np.allclose(np.diff(found), np.diff(expected), atol=1e-6)


def test_draws_are_students_of_the_whole(fitted: tuple[np.ndarray, list[Any]]):
    values, fits = fitted
    n, random = values.size, np.random.default_rng(2)
    for fit in [one for one in fits if one.scale.name == "m"][::40]:
        design, cov = dense(fit, *values.shape)
        x, k, y = design[:n], cov[:n, :n], fit.scale.y.ravel()
        gain = np.linalg.solve(k, cov[:n, n:]).T
        inverse = np.linalg.inv(x.T @ np.linalg.solve(k, x))
        best = inverse @ x.T @ np.linalg.solve(k, y)
        ahead = design[n:] - gain @ x
        middle = gain @ y + ahead @ best
        spread = cov[n:, n:] - gain @ cov[:n, n:] + ahead @ inverse @ ahead.T
        free = n - x.shape[1]
        spread *= (y - x @ best) @ np.linalg.solve(k, y - x @ best) / free
        mean = np.kron(np.ones((1, 3)) / 3, np.eye(3))  # [later, replicates · later]
        z = trends._drawn(fit, 3000, random) / values.mean() - mean @ middle
        z /= np.sqrt(np.diag(mean @ spread @ mean.T))
        for later in z.T:
            assert stats.kstest(later, stats.t(free).cdf).pvalue > 1e-4
        if fit.law.phi.any():  # and together
            assert np.corrcoef(z.T)[0, 2] == pytest.approx(_correlation(mean @ spread @ mean.T), abs=0.08)


def _correlation(cov: np.ndarray) -> float:
    return float(cov[0, 2] / np.sqrt(cov[0, 0] * cov[2, 2]))


def test_a_law_on_a_logarithm_is_that_of_the_mean():
    """A walk of log m about a level keeps E m, as what a fit says of itself does; its median falls."""
    values = np.exp(0.05 * np.random.default_rng(9).normal(size=(40, 30)).cumsum(-1))
    fits = [fit for fit in trends._fits(values, 60) if fit.name == "log m = a" and fit.noise.prior > 0.5]
    assert len(fits) == 1
    draws = trends._drawn(fits[0], 400, np.random.default_rng(0))
    assert draws.mean(0)[-1] == pytest.approx(values[:, -1].mean(), rel=0.02)  # and not 1.04 times as much


def test_intervals_hold_what_they_say():
    """Of geometric decays whose logarithm is a walk, as the variance of a Gaussian that replaces is."""
    random, held, many = np.random.default_rng(3), 0, 50
    for _ in range(many):
        steps = 0.1 * random.normal(size=(2, 16)) - random.uniform(0, 0.1)
        values = np.exp(steps.cumsum(-1))
        low, high = np.quantile(trends.outlook(values[:, :10], 16, 200, random).draws[:, -1], [0.1, 0.9])
        held += low <= values[:, -1].mean() <= high
    assert abs(held / many - 0.8) < 3 * np.sqrt(0.8 * 0.2 / many)


def test_steps_fall_where_rows_accumulate():
    about, _ = trends.noises(8, 12)
    equal, falling = (
        next(one.cov for one in about if one.prior == prior * 0.8) for prior in (trends.WALK, trends.FALLING)
    )
    steps = [np.diff(np.diag(cov)) / cov[0, 0] for cov in (equal, falling)]  # variances, in the first one's
    assert np.allclose(steps[0], 1) and np.allclose(steps[1], 1 / np.arange(2, 13) ** 2)


# Laws.


@pytest.mark.parametrize(
    "curve, keep, law",
    [
        (theory.replace_variance(30, 60), "v >= 0.3", "log m = a + b t"),
        (theory.replace_mean_error(20, 60), "v <= 0.8", "m = a + b ρ^t"),
        (1 / (1 + 0.1 * np.arange(60)), "v >= 0.25", "a + b log(1 + c t)"),
        (0.1 + 0.02 * np.arange(60), "v <= 0.9", "m = a + b t"),
    ],
    ids=["geometric", "to a limit", "power", "line"],
)
def test_a_law_is_found_and_goes_on(curve: np.ndarray, keep: str, law: str):
    """From a third of it, with chance of a thousandth."""
    values = curve * (1 + 1e-3 * np.random.default_rng(4).normal(size=(2, 60)))
    found = forecast(values[:, :20], 60, Keep.parse(keep), draws=1000)
    bound, rises = float(keep.split()[-1]), "<=" in keep
    when = int(np.argmax(curve > bound if rises else curve < bound))
    assert found.crosses and found.crossing is not None and abs(found.crossing[1] - when) <= 3
    assert next(iter(found.weights)).endswith(law)
    assert found.median[-1] == pytest.approx(curve[-1], rel=0.1)


def test_what_accumulates_settles_and_is_not_said_to_cross():
    curve = theory.accumulate_variance(10, 60)
    values = curve * (1 + 1e-3 * np.random.default_rng(5).normal(size=(3, 60)))
    found = forecast(values[:, :15], 60, Keep.parse(f"v >= {0.97 * curve[-1]:.3f}"), draws=1000)
    assert found.crosses is False and next(iter(found.weights)).endswith("a + b Σ 1/j²")
    assert sum(found.weights.values()) == pytest.approx(1)


def test_units_and_signs_do_not_matter():
    values = np.exp(0.1 * np.random.default_rng(6).normal(size=(2, 10)).cumsum(-1))
    plain, scaled, mirrored = (forecast(values * by, 15, draws=500) for by in (1, 1e4, -1))
    assert np.allclose(scaled.median, 1e4 * plain.median) and np.allclose(mirrored.low, -plain.high)
    assert (plain.draws >= 0).all() and (mirrored.draws <= 0).all()


# What cannot be told.


def noisy(curve: np.ndarray, spread: float = 0.01, replicates: int = 2) -> np.ndarray:
    return curve + spread * np.random.default_rng(7).normal(size=(replicates, len(curve)))


@pytest.mark.parametrize(
    "values, keep, why",
    [
        (np.ones((2, 8)), "m >= 0.5", "has been 1 throughout"),
        (noisy(np.r_[np.ones(9), 0.9, 0.7, 0.4]), "m >= 0.3", "was not to be expected"),
        (np.r_[np.ones(9), 0.9, 0.7, 0.4][None], "m >= 0.3", "too late to tell how"),
        (noisy(np.ones(8), 0.1, 1), "m >= 0.88", "end on either side"),
        (noisy(np.linspace(1, 0.8, 10), 0.02), "m >= 0.7", "with probability 0."),
    ],
    ids=["it never changed", "a cliff", "a cliff after nothing", "chance", "more likely than not"],
)
def test_it_says_that_it_cannot_tell(values: np.ndarray, keep: str, why: str):
    found = forecast(values, 16, Keep.parse(keep), draws=1000)
    assert found.crosses is None and why in found.why


def test_a_bound_of_control_and_one_at_the_end():
    values, control = noisy(np.linspace(1, 0.8, 10)), noisy(np.linspace(1, 0.96, 10))
    found = forecast(values, 20, Keep.parse("m >= 0.75 of control"), control, draws=1000)
    assert found.crosses and found.crossing is not None
    t = np.arange(20)  # 1 - 0.2 t/9 < 0.75 (1 - 0.04 t/9)
    assert abs(found.crossing[1] - np.argmax(1 - 0.2 * t / 9 < 0.75 * (1 - 0.04 * t / 9))) <= 1
    assert found.level is not None and found.level[-1] == pytest.approx(0.75 * (1 - 0.04 * 19 / 9), abs=0.02)
    later = forecast(values, 20, Keep.parse("m >= 0.75 of control"), control, begin=5, draws=1000)
    assert later.crossing == tuple(t + 5 for t in found.crossing)
    dips = noisy(np.linspace(0.5, 1, 10))
    assert forecast(dips, 20, Keep.parse("m >= 0.9 at the end"), draws=500).crosses is False
    with pytest.raises(GenlossError, match="missed already at generation 0"):
        forecast(dips, 20, Keep.parse("m >= 0.9"))
    with pytest.raises(GenlossError, match="whose records are not here"):
        forecast(values, 20, Keep.parse("m >= 0.75 of control"))


@pytest.mark.parametrize(
    "values, generations, fields, why",
    [
        (np.ones((2, 2)), 9, {}, "wants 3 generations"),
        (np.ones((2, 4)), 4, {}, "goes on to 5 or more"),
        (np.ones((2, 4)), 9, {"confidence": 1.0}, "between 0 and 1"),
        (np.ones((2, 4)), 9, {"draws": 9}, "100 draws"),
        (np.full((2, 4), np.nan), 9, {}, "not finite"),
    ],
)
def test_what_is_no_forecast(values: np.ndarray, generations: int, fields: dict[str, Any], why: str):
    with pytest.raises(GenlossError, match=why):
        forecast(values, generations, **fields)


# Records.


def records(values: np.ndarray, setting: str = "a", begin: int = 0) -> pandas.DataFrame:
    r, t = (index.ravel() for index in np.indices(values.shape))
    return pandas.DataFrame(
        {"setting": setting, "replicate": r, "generation": begin + t, "metric": "m", "value": values.ravel()}
    )


def test_records_are_read_in_any_order_from_any_first_generation():
    values = np.random.default_rng(8).normal(size=(2, 5))
    table = pandas.concat([records(values, "a", 3), records(2 * values, "b")]).sample(frac=1, random_state=0)
    found = series(table.astype({"value": str}), "m", "they")
    assert found["a"].begin == 3 and found["b"].begin == 0
    assert np.allclose(found["a"].values, values) and np.allclose(found["b"].values, 2 * values)
