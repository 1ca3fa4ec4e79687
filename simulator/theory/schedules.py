"""Laws as functions of whole schedules, with gradients: what one number of a chain, at every fit, makes of a measure.

The covariances of `simulator.theory.workflow.follow` once more, as one `lax.scan` over the fits; so fresh shares that
change (LAWS F11), counts (P5), linear workflows (L4), real rows that are eaten again (F12) and every other recipe that
does not look at what is in the rows.  What the recipe makes of a schedule is taken from the recipe:

* where it draws no rows, its weights are traced, and have their gradient;
* where it counts rows, which has none, mean weights are linear in the count, and are taken between two schedules;
* where fresh rows are served by number (`Fresh`), a row weighs the same however many are beside it.

Each of these is held against `overlay` at a schedule of its own, and where it differs there is no law.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from simulator.chain import Chain
from simulator.probes.diversity import Diversity
from simulator.probes.features import flat
from simulator.probes.parameters import Categories, Moments, Risk
from simulator.theory.facts import Facts
from simulator.theory.known import shares
from simulator.theory.overlay import overlay
from simulator.theory.table import TRUTH, Table, plain
from simulator.theory.workflow import Portions, portions
from simulator.types import Array, GenlossError

Make = Callable[[Any], Chain]  # values [T] of the number at every fit -> the chain
Numbers = Array | np.ndarray
Curve = Callable[[Array], Array]  # values [T] -> what is measured, [T]

MOST = 10_000_000  # fits x classes² beyond which no law is followed: seconds for a gradient


class Diets(NamedTuple):
    """What each of T fits eats, by classes of rows that are alike; an array of a schedule, with its gradient."""

    share: Array  # [T, classes]: of the diet's mass
    square: Array  # [T, classes]: Σ over rows of their squared share
    row: Array  # [T, classes]: the mean share of one row of the class
    mass: Array  # [T]: the weight of the diet, in rows
    parents: np.ndarray  # [classes]: the fit that wrote the rows; -1 for real rows
    each: np.ndarray  # [classes]: rows that a row stands for

    @classmethod
    def of(cls, weight: Numbers, square: Numbers, row: Numbers, parents: np.ndarray, each: np.ndarray) -> Diets:
        """From Σ of weights, of their squares, and the mean weight of a row, [T, classes] each."""
        weight, square, row = jnp.asarray(weight), jnp.asarray(square), jnp.asarray(row)
        mass = (weight * each).sum(-1)  # [T]
        one = each / mass[:, None]  # [T, classes]
        return cls(weight * one, square * one**2, row * one, mass, parents.astype(np.int32), each)


def followed(
    diets: Diets, real: Any = 1.0, synthetic: Any = 0.0, bias: Any = 1.0, ddof: int = 0
) -> tuple[Array, Array]:
    """(E[S_t], V_t), [T] each, with gradients in the diets; the maths is that of `workflow.follow`.

    Weights are given, or their draws are independent of what is drawn elsewhere and have fixed sums by class.
    """
    fits, classes = diets.share.shape
    parents, each = diets.parents, diets.each
    written = jnp.asarray(parents != TRUTH)  # [classes]

    def fit(carry: tuple[Array, Array, Array], now: tuple[Array, ...]) -> tuple[Any, tuple[Array, Array]]:
        covariance, shared, variance = carry  # C [T + 1, T + 1], D [classes, T + 1], S [T + 1]; index -1 is the truth's
        t, share, square, row, mass = now
        noise = jnp.where(written, synthetic + bias * variance[parents], real)  # [classes]: of one row
        between = covariance[parents][:, parents]  # [classes, classes]: of the rows' parents
        across = shared[:, parents]  # [classes, classes]
        apart = between + across + across.T  # [classes, classes]: two different rows
        same = jnp.diag(between) + noise / each  # [classes]: a row with itself
        error = share @ apart @ share - square @ jnp.diag(apart) + square @ same  # []: V_t
        spread = share @ (jnp.diag(between) + noise) - error  # []
        past = share @ (covariance[parents] + shared)  # [T + 1]: with earlier fits; 0 beyond them
        covariance = covariance.at[t].set(past).at[:, t].set(past).at[t, t].set(error)
        shared = shared.at[:, t].set(across @ share + row * noise / each)
        kept = spread * mass / (mass - ddof)  # []: S_t
        return (covariance, shared, variance.at[t].set(kept)), (kept, error)

    start = jnp.zeros((fits + 1, fits + 1)), jnp.zeros((classes, fits + 1)), jnp.zeros(fits + 1)
    steps = jnp.arange(fits), diets.share, diets.square, diets.row, diets.mass
    return jax.lax.scan(fit, start, steps)[1]


def law(
    make: Make, generations: int, metric: str, ends: tuple[float, float], step: float | None, served: bool = False
) -> tuple[Curve, str]:
    """(the law of a metric as a function of values [T], a sentence that says whose it is).

    `ends` are the least and the most that a value may be, `step` what it moves by where it counts rows, and with
    `served` the values are numbers of fresh rows.  Raises `GenlossError`, with the reason, where no law is known.
    """
    fits = generations
    low, high = ends
    probe, _, part = metric.partition(".")
    probing = np.linspace(low + 0.3 * (high - low), low + 0.7 * (high - low), fits)  # what the law is held against
    if step is not None:
        probing = np.round(probing / step) * step
    chain = make(probing)
    if probe not in chain.probes:
        raise GenlossError(f"no law is known for {metric}.")
    found = overlay(chain, fits)
    if metric not in found.curves:
        raise GenlossError(found.why.get(metric, f"no law is known for {metric}."))
    facts = Facts(chain, fits)
    read, near, options = _reader(facts, chain.probes[probe], part)
    eaten = _diets(make, fits, ends, step, served, chain)

    def curve(values: Array) -> Array:
        return read(*followed(eaten(values), **options))

    ours = np.asarray(jax.jit(curve)(jnp.asarray(probing, jnp.float32)), np.float64)
    theirs = found.curves[metric]
    if not np.allclose(ours, theirs, rtol=0, atol=near * np.abs(theirs).max()):
        off = np.abs(ours - theirs).max() / np.abs(theirs).max()
        raise GenlossError(f"the law as a function of a schedule is off by {off:.1%} for this recipe.")
    return curve, found.why[metric]


def _diets(
    make: Make, fits: int, ends: tuple[float, float], step: float | None, served: bool, chain: Chain
) -> Callable[[Array], Diets]:
    if served:
        return _served(_certain(portions(make(np.full(fits, ends[1])), fits), fits))
    if step is not None:
        return _counted(make, fits, ends, step)
    return _traced(make, fits, chain)


def _served(full: Portions) -> Callable[[Array], Diets]:
    """Of fresh rows by number: each weighs what it weighs where all are served."""
    weight, square = _weights(full)  # [T, classes]
    one, one_square = weight / full.held, square / full.held  # [T, classes]: of one row
    new, births = (full.parents == TRUTH) & (full.births > 0), full.births.astype(np.int32)  # [classes]

    def diets(values: Array) -> Diets:
        held = jnp.where(new, values[births], full.held)  # [classes]
        return Diets.of(one * held, one_square * held, jnp.asarray(one), full.parents, full.each)

    return diets


def _counted(make: Make, fits: int, ends: tuple[float, float], step: float) -> Callable[[Array], Diets]:
    """Between two constant schedules, inside of the ends so that both eat of all classes."""
    low, high = ends[0] + step, ends[1] - step
    if high < low + step / 2:
        raise GenlossError("a law between two schedules wants a field of three steps or more.")
    least, most = (_certain(portions(make(np.full(fits, value)), fits), fits) for value in (low, high))
    if not (np.array_equal(least.births, most.births) and np.array_equal(least.parents, most.parents)):
        raise GenlossError("no law is known where a schedule decides which rows are told apart.")
    (weight, square), (more, more_square) = _weights(least), _weights(most)  # [T, classes] each

    def diets(values: Array) -> Diets:
        on = ((values - low) / (high - low))[:, None]  # [T, 1]
        total = weight + on * (more - weight)  # [T, classes]
        return Diets.of(total, square + on * (more_square - square), total / least.held, least.parents, least.each)

    return diets


def _traced(make: Make, fits: int, chain: Chain) -> Callable[[Array], Diets]:
    """By the recipe's own weights; `chain` has a schedule under which rows that are ever told apart are."""
    table, recipe = Table(chain, fits), plain(chain.recipe)
    chance, reads_rows = table.reads(recipe)
    if chance or reads_rows:
        why = "draws rows by chance" if chance else "looks at the rows"
        raise GenlossError(f"no law is known as a function of a schedule where the recipe {why}.")
    some, held = np.unique(table.alike(recipe), return_index=True, return_counts=True)[1:]  # [classes]
    parents, each = table.parent[some], table.each[some]
    _light(fits, len(some))

    def diets(values: Array) -> Diets:
        scheduled = plain(make(values).recipe)
        weigh = lambda t: table.weight(scheduled, jax.random.key(0), t)[some]  # noqa: E731
        row = jax.lax.map(weigh, jnp.arange(fits))  # [T, classes]
        return Diets.of(row * held, row**2 * held, row, parents, each)

    return diets


def _weights(found: Portions) -> tuple[np.ndarray, np.ndarray]:
    """(Σ of weights, of their squares), [T, classes] each."""
    per = found.mass[0][:, None] / found.each  # [T, classes]: of a share
    return found.share[0] * per, found.square[0] * per**2


def _certain(found: Portions, fits: int) -> Portions:
    """The same, where numbers of rows by class are fixed."""
    if found.draws > 1 or found.drawn_from.any():
        raise GenlossError("no law is known as a function of a schedule where numbers of rows are drawn by chance.")
    _light(fits, len(found.held))
    return found


def _light(fits: int, classes: int) -> None:
    if fits * classes**2 > MOST:
        raise GenlossError(f"a law for {fits} fits on {classes:,} classes of rows takes too long to differentiate.")


def _reader(facts: Facts, probe: Any, part: str) -> tuple[Callable[[Array, Array], Array], float, dict[str, Any]]:
    """(what is measured of E[S_t] and V_t, how near that is to the law, how these are followed)."""
    model = facts.model
    if isinstance(probe, Moments | Diversity) and facts.kind == "Gaussian":
        mean, cov = facts.spread
        gaussian = {"bias": float(model.bias), "ddof": model.ddof}
        if isinstance(probe, Moments) and part == "mean_error":
            off, trace = float(((mean - probe.mean) ** 2).sum()), float(np.trace(cov))
            return lambda kept, error: (error * trace + off) / probe.variance, 1e-3, gaussian
        if isinstance(probe, Moments) and part == "variance":
            scale = float(np.diag(cov).mean()) / probe.variance
            return lambda kept, error: kept * scale, 1e-3, gaussian
        if isinstance(probe, Diversity) and part == "variance" and probe.features is flat:
            scale = float(np.trace(cov)) * float(model.bias)
            return lambda kept, error: kept * scale, 1e-3, gaussian
    if isinstance(probe, Categories) and part == "heterozygosity":
        scale = 1 - float((shares(facts) ** 2).sum())
        return lambda kept, error: kept * scale, 1e-3, {}
    if isinstance(probe, Risk) and facts.kind == "Linear":
        origin = np.asarray(model.init(jax.random.key(0)).coef, np.float64)
        off = float(((facts.params.coef - origin) ** 2).sum())
        noises = {"real": float(facts.truth.noise) ** 2, "synthetic": float(model.noise) ** 2, "bias": 0.0}
        return lambda kept, error: off + model.dim * error, 0.05, noises
    raise GenlossError("no law of this measure is known as a function of a schedule.")
