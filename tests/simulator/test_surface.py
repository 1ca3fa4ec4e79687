"""The surface of a scaling law: least squares as another library has them, intervals that cover, forms refuted."""

from collections.abc import Callable

import numpy as np
import pytest
from conftest import assert_mean
from scipy.optimize import curve_fit

from simulator import theory
from simulator.analysis.ladder import Ladder
from simulator.analysis.scaling import least
from simulator.analysis.surface import ALARM, STRICT, Surface, fitted, resampled, spread, surface

SIZES = np.array([100.0, 200.0, 400.0, 800.0])
ALPHA, AMPLITUDE = 0.7, np.array([0.5, 1.0, 3.0, 4.0])  # of four curves
FLOOR = np.array([0.01, 0.05, 0.0, 0.1])
CHAINS, SETS, DRAWS = 60, 100, 300


def power(n: np.ndarray) -> np.ndarray:
    """[..., curves]."""
    return AMPLITUDE * n[..., None] ** -ALPHA


def chains(random: np.random.Generator, error: np.ndarray, many: int = CHAINS) -> np.ndarray:
    """Skewed values [sizes, curves, chains] of the mean `error` [sizes, curves], which the curves share in part."""
    own, common = random.chisquare(2, (*error.shape, many)) / 2, random.chisquare(2, (len(error), 1, many)) / 2
    return error[..., None] * (0.4 * own + 0.6 * common)


def several(error: Callable[[np.ndarray], np.ndarray], sets: int = SETS, many: int = CHAINS) -> list[Surface]:
    random = np.random.default_rng(0)
    return [surface(SIZES, chains(random, error(SIZES), many), random, DRAWS) for _ in range(sets)]


def covered(found: list[Surface], true: np.ndarray, size: float) -> float:
    """How often the 90 % intervals of the four errors at a size hold them."""
    held = []
    for one in found:
        e = one.at(size, 0.9)
        held.append((e.low <= true) & (true <= e.high))
    return float(np.mean(held))


@pytest.mark.parametrize("floor", [False, True])
def test_the_fit_is_that_of_another_library(floor: bool):
    random = np.random.default_rng(1)
    sizes = np.geomspace(50, 1600, 6)
    means = (0.03 * floor + 2 * sizes**-0.6) * (1 + 0.03 * random.normal(size=6))
    sigma = 0.03 * means
    form = (lambda n, a, alpha, c: c + a * n**-alpha) if floor else (lambda n, a, alpha: a * n**-alpha)
    (a, alpha, *rest), _ = curve_fit(form, sizes, means, (1.0, 0.5, 0.01)[: 2 + floor], sigma)
    found = fitted(sizes, means[None, :, None], (1 / sigma**2)[:, None], floor)
    assert np.isclose(found.exponent[0], alpha, atol=1e-4)
    assert np.allclose(found.at(1e4)[0, 0], form(1e4, a, alpha, *rest), rtol=1e-3)
    assert np.isclose(found.floor[0, 0], rest[0] if floor else 0, atol=1e-4)


def test_neither_floor_nor_amplitude_is_below_0():
    rising, falling = SIZES**0.3, 5 * SIZES**-0.5 - 0.1
    found = fitted(SIZES, np.stack([rising, falling], -1)[None], np.ones((4, 2)), floor=True)
    assert (found.floor >= 0).all() and (found.amplitude >= 0).all()
    assert found.amplitude[0, 0] == 0 and np.isclose(found.floor[0, 0], rising.mean()) and found.floor[0, 1] == 0


def test_means_of_chains_drawn_again_spread_as_the_mean_does():
    values = chains(np.random.default_rng(3), power(SIZES), 10)
    found = resampled(values, np.random.default_rng(4), 20_000).var(0)  # [sizes, curves]
    assert np.allclose(found, values.var(-1, ddof=1) / 10, rtol=0.06)  # 5 standard errors; 10/9 would be too many


def test_intervals_cover_and_a_power_law_is_refuted_as_rarely_as_is_said():
    found = several(power)
    exponents = [np.quantile(one.draws.exponent, [0.05, 0.95]) for one in found]
    assert 0.81 <= np.mean([low <= ALPHA <= high for low, high in exponents]) <= 0.99  # 0.9 ± 3 standard errors
    assert 0.81 <= covered(found, power(np.array(3200.0)), 3200) <= 0.99  # the four share their chains
    width = np.mean([high - low for low, high in exponents])
    relative = spread(chains(np.random.default_rng(2), power(SIZES), 10_000)).mean()  # variance of one chain
    alone = 2 * 1.645 * np.sqrt(relative / CHAINS) / (np.log(SIZES).std() * 2)  # of the slope of one curve's logarithms
    assert 0.7 * alone < width < alone  # four curves tell more than one, and share most of their chance
    refuted = np.mean([one.has_floor for one in found])
    assert refuted <= ALARM + 3 * np.sqrt(ALARM * (1 - ALARM) / SETS)


def test_few_chains_leave_the_level_where_it_is():
    """Weights of each mean's own square would count low ones for more: the level of ten chains is 6 % low."""
    random = np.random.default_rng(5)
    found = [surface(SIZES, chains(random, power(SIZES), 10), random, 2).fit.at(300)[0] for _ in range(150)]
    assert_mean(np.array(found).mean(1) / power(np.array(300.0)).mean(), 1, sigmas=4)


def test_a_floor_is_found_where_there_is_one():
    found = several(lambda n: FLOOR + power(n), 15, 600)
    assert all(one.has_floor and one.refuted is not None and one.refuted < ALARM for one in found)
    assert np.mean([one.fits for one in found]) >= 0.78  # 0.95 less 3 standard errors
    assert covered(found, FLOOR + power(np.array(3200.0)), 3200) >= 0.67  # 0.9 less 3, of sets whose curves are one
    floors = np.array([one.fit.floor[0] for one in found])
    assert (np.abs(floors.mean(0) - FLOOR) < 5 * floors.std(0) / np.sqrt(15) + 1e-3).all()


def test_what_is_no_power_law_is_refuted():
    """The risk of regressions on hardly more rows than features, d/(n - d - 1)."""
    found = several(lambda n: AMPLITUDE / (n[..., None] - 90), 10, 400)
    assert all(one.p < STRICT and not one.fits for one in found)


def test_an_error_that_does_not_fall_tells_no_exponent():
    found = several(lambda n: np.ones((len(n), 4)), 10)
    assert not any(one.fits for one in found)


def test_the_least_of_a_spline_is_the_golden_share():
    shares = [0.1, 0.25, 0.4, 0.55, 0.7, 0.85, 1.0]
    errors = [[theory.weighted_mean_error_limit(100, m, w) for w in shares] for m in (100, 50, 300)]
    best = [theory.golden_share(100 / m) for m in (100, 50, 300)]
    assert np.allclose(least(shares, np.array(errors)), best, atol=0.01)


def test_too_few_sizes_or_chains_are_refused_before_anything_is_built():
    from simulator import GenlossError

    def never(size: float, share: float):
        raise AssertionError

    with pytest.raises(GenlossError, match=r"wants 3 sizes or more; it was given 1,000\."):
        Ladder(never, [1000], [0.5], generations=2)
    with pytest.raises(GenlossError, match="10 replicates or more; it was given 4"):
        Ladder(never, [10, 20, 40], [0.5], generations=2, replicates=4)
    with pytest.raises(GenlossError, match=r"0.5 times the largest size; give more than 1"):
        Ladder(never, [10, 20, 40], [0.5], generations=2, ahead=0.5)
