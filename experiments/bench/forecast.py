"""How good forecasts are on chains they were not made for: `python -m experiments.bench forecast`.

Four families whose numbers are drawn at random for every run: Gaussians and Zipf's categories that replace, regressions
that accumulate, kernel estimates that only smooth.  A run has one, two or four replicates; 8 to 24 generations are
seen, and as many more are forecast.  The continuous ranked probability score (CRPS) of draws X of a value x is
E|X - x| - E|X - X'|/2, of a point |X - x|; that of a run is the mean over the generations that came, over the family's
mean score of the last value.  A bound is asked for too, beyond the last value the way the run has gone.

The grid of laws and noises and their priors were chosen on other families, `forecast.tuned`.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.bench import say, table
from generators import KDE, Categorical, Cohort, Gaussian, Linear, Poisson
from simulator import Chain, Truth
from simulator.analysis.bounds import Keep
from simulator.analysis.compare import mean
from simulator.analysis.forecast import forecast
from simulator.probes import Categories, Moments, Rate, Risk
from simulator.recipe import Accumulate, Replace, Reweigh, Then, Window
from simulator.running.scan import each
from simulator.types import Array, Key, View

RUNS, LONGEST = 50, 24  # runs a family, generations that are seen at most
REPORTED, TUNED = 1000, 100  # seeds


class Run(NamedTuple):
    """What happened."""

    values: np.ndarray  # [replicates, 2 · known]
    bound: float


class Score(NamedTuple):
    """What was said of a run."""

    crps: dict[str, float]
    covers: np.ndarray  # [later]: whether the interval of each generation held it
    asked: bool  # whether there was a bound to ask for
    in_time: bool  # whether the interval of the crossing did
    crosses: bool | None
    right: bool  # what was said of the crossing


class Family(NamedTuple):
    """Chains of one number, log-uniform between two ends, whole where it counts rows."""

    make: Callable[[Any], Chain]
    ends: tuple[float, float]
    metric: str = "m"


def cohorts(model: Any, recipe: Any, probe: Any, **fields: Any) -> Callable[[Any], Chain]:
    """What makes a chain of so many rows a generation."""

    def make(rows: Any) -> Chain:
        whole = Cohort(model, rows)
        return Chain(source=Truth(whole), generator=whole, recipe=recipe, probes={"m": probe}, real=1, rows=1,
                     held_out=0, **fields)  # fmt: skip

    return make


def spread(key: Key, view: View) -> Array:
    """The second moment of the centres of a kernel estimate."""
    return (view.params.rows**2).mean()  # [size, d] -> []


def smoothing(bandwidth: Any) -> Chain:
    """100 rows in the plane."""
    return Chain(source=Truth(Gaussian(2)), generator=KDE(2, bandwidth, size=100), recipe=Replace(),
                 probes={"m": spread}, real=100, rows=100, held_out=0)  # fmt: skip


FAMILIES = {
    "Gaussian, replace: variance": Family(cohorts(Gaussian(2), Replace(), Moments()), (20, 200), "m.variance"),
    "Zipf, replace: words left": Family(
        cohorts(Categorical(400, zipf=1.2), Replace(), Categories()), (100, 2000), "m.left"
    ),
    "regression, accumulate: risk": Family(cohorts(Linear(10), Accumulate(), Risk()), (30, 300)),
    "kernels, replace: spread": Family(smoothing, (0.1, 0.6)),
}
OTHERS = {
    "Gaussian, accumulate: error of mean": Family(
        cohorts(Gaussian(2), Accumulate(), Moments()), (20, 200), "m.mean_error"
    ),
    "50 words, replace: heterozygosity": Family(
        cohorts(Categorical(50), Replace(), Categories()), (30, 300), "m.heterozygosity"
    ),
    "regression, replace: risk": Family(cohorts(Linear(5), Replace(), Risk()), (30, 300)),
    "Gaussian, fresh rows: variance": Family(
        cohorts(Gaussian(2), Then(Window(1), Reweigh(real=0.1)), Moments(), fresh=1), (20, 200), "m.variance"
    ),
    "Poisson, replace: rate": Family(cohorts(Poisson(3.0), Replace(), Rate()), (30, 300), "m.rate"),
}


def runs(family: Family, seed: int, n: int = RUNS) -> list[Run]:
    """Runs of a family, whose numbers are the seed's."""
    chance = np.random.default_rng(seed)
    low, high = np.log(family.ends)
    numbers = np.exp(chance.uniform(low, high, n))
    numbers = np.round(numbers).astype(int) if family.ends[0] > 1 else numbers
    replicates, known = chance.choice([1, 2, 4], n), chance.integers(8, LONGEST + 1, n)
    keys = jax.random.split(jax.random.key(seed), int(replicates.sum()))
    grid = np.repeat(numbers, replicates)
    found = np.asarray(each(family.make, grid, keys, 2 * LONGEST)[family.metric], np.float64)
    said = []
    for values, k in zip(np.split(found, np.cumsum(replicates)[:-1]), known, strict=True):
        first, last = values[:, [0, k - 1]].mean(0)
        said.append(Run(values[:, : 2 * k], last + chance.uniform(0.1, 1.5) * (last - first)))
    return said


def others(curve: np.ndarray, later: int) -> dict[str, np.ndarray]:
    """Forecasts to beat, draws [n, later] of what comes after [known] means: the last value and a line, as points and
    with their chance, and a Gaussian process.

    The last value goes on as a walk with the steps that were seen; the line is that of least squares, with its
    intervals of prediction; the process is scikit-learn's, a line and a smooth curve beside white noise.
    """
    chance, draws, k = np.random.default_rng(0), 1000, len(curve)
    walk = curve[-1] + np.cumsum(np.diff(curve).std() * chance.normal(size=(draws, later)), -1)
    x = np.stack([np.ones(k + later), np.arange(k + later)], -1)
    inverse = np.linalg.inv(x[:k].T @ x[:k])
    best = inverse @ (x[:k].T @ curve)  # [2]
    sigma = np.sqrt(((curve - x[:k] @ best) ** 2).sum() / chance.chisquare(k - 2, (draws, 1)))  # [draws, 1]
    near = best + sigma * chance.multivariate_normal(np.zeros(2), inverse, draws)  # [draws, 2]
    return {
        "last value": np.full((1, later), curve[-1]),
        "line": (x[k:] @ best)[None],
        "last value, a walk": walk,
        "line, with its interval": near @ x[k:].T + sigma * chance.normal(size=(draws, later)),
        "Gaussian process": process(curve, later, chance.normal(size=(draws, later))),
    }


def process(curve: np.ndarray, later: int, normal: np.ndarray) -> np.ndarray:
    """Draws of each generation by itself, from normal ones [draws, later]."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, WhiteKernel

    t = np.arange(len(curve) + later)[:, None] / len(curve)
    kernel = ConstantKernel() * DotProduct() + ConstantKernel() * RBF() + WhiteKernel()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of a kernel that is not needed
        fitted = GaussianProcessRegressor(kernel, normalize_y=True).fit(t[: len(curve)], curve)
        middle, spread = fitted.predict(t[len(curve) :], return_std=True)
    return middle + spread * normal


def crps(draws: np.ndarray, came: np.ndarray) -> np.ndarray:
    """Of draws [n, ...] of what came [...]: E|X - x| - E|X - X'|/2."""
    n = len(draws)
    ordered = np.sort(draws, 0)
    weight = (2 * np.arange(1, n + 1) - n - 1) / n**2
    return np.abs(draws - came).mean(0) - np.tensordot(weight, ordered, 1)


def scored(run: Run) -> Score:
    """Forecasts of a run's second half, from its first."""
    total = run.values.shape[1]
    k = total // 2
    seen, came = run.values[:, :k], run.values[:, k:].mean(0)
    keep = Keep("m", ">=" if seen[:, -1].mean() >= run.bound else "<=", run.bound)
    asked = keep if (keep.margins(seen.mean(0)) >= 0).all() else None  # a bound that is missed already is refused
    found = forecast(seen, total, asked)
    draws = {"forecast": found.draws, **others(seen.mean(0), total - k)}
    covers = (found.low <= came) & (came <= found.high)
    in_time, right = True, True
    if found.crossing is not None:
        short = keep.margins(came) < 0
        when = k + int(short.argmax()) if short.any() else np.inf
        in_time, right = found.crossing[0] <= when <= found.crossing[2], found.crosses == short.any()
    return Score({name: float(crps(of, came).mean()) for name, of in draws.items()}, covers, asked is not None, in_time,
                 found.crosses, right)  # fmt: skip


def judged(families: dict[str, Family], seed: int, n: int = RUNS) -> dict[str, list[Score]]:
    """Scores of each family's runs, and two tables of them."""
    began = time.process_time()
    found = {
        name: [scored(run) for run in runs(family, seed + i, n)] for i, (name, family) in enumerate(families.items())
    }
    everything = [one for of in found.values() for one in of]
    held = table(
        f"80 % intervals that hold what came, {len(everything)} runs", "family", "last generation", "every generation",
        "crossing", "told", "of these right",
    )  # fmt: skip
    for name, of in {**found, "all": everything}.items():
        asked, told = [one for one in of if one.asked], [one for one in of if one.crosses is not None]
        held.add_row(
            name, _share([one.covers[-1] for one in of]), f"{np.mean([one.covers.mean() for one in of]):.3f}",
            _share([one.in_time for one in asked]), f"{len(told) / max(1, len(asked)):.2f}",
            _share([one.right for one in told]),
        )  # fmt: skip
    say(held)
    names = list(everything[0].crps)
    relative = {
        name: np.array([[one.crps[other] for other in names] for one in of]) for name, of in found.items()
    }  # [runs, forecasts]
    relative = {name: a / a[:, names.index("last value")].mean() for name, a in relative.items()}
    scores = table("CRPS over that of the last value", "forecast", *found, "all", "forecast less this, 95 %")
    every = np.concatenate(list(relative.values()))
    for i, name in enumerate(names):
        gap = mean(every[:, names.index("forecast")] - every[:, i])
        less = "" if name == "forecast" else f"{gap.mean:.3f} [{gap.low:.3f}, {gap.high:.3f}]"
        scores.add_row(name, *(f"{a[:, i].mean():.3f}" for a in relative.values()), f"{every[:, i].mean():.3f}", less)
    say(scores)
    say(f"{time.process_time() - began:.0f} CPU s")
    return found


def _share(flags: list[bool]) -> str:
    if not flags:
        return ""
    share = np.mean(flags)
    return f"{share:.3f} ± {np.sqrt(share * (1 - share) / len(flags)):.3f}"


def main() -> None:
    judged(FAMILIES, REPORTED)


PARTS = {"tuned": lambda: judged(OTHERS, TUNED)}
