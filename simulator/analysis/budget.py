"""When to spend a budget of real rows: the schedule that keeps a measure best, by gradient.

What is optimised is the law of the measure as a function of the whole schedule (`simulator.theory.schedules`), or,
where there is none, the mean over chains whose recipe has a gradient.  A schedule found is rounded to whole rows that
sum to the budget, and held against the best of five plain families on chains of keys that nothing was chosen on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.stats import norm

from simulator.analysis.planner import check_measure
from simulator.chain import Chain
from simulator.numerics.schedule import Schedule
from simulator.recipe.combine import Then
from simulator.recipe.mixing import Fresh
from simulator.running.prepare import alone
from simulator.running.scan import each, ensemble
from simulator.running.spec import override
from simulator.theory import schedules
from simulator.types import Array, GenlossError, Key

STEPS = 400  # of the optimiser, where a step costs a law
SHAPES = 41  # slopes of a linear or cosine schedule that are tried
TRAINING = 256  # chains that a gradient is a mean over, at most, where there is no law
STEPS_ON_CHAINS = 60
COLD, WARM = 0.002, 0.3  # temperatures of the smooth worst, at the end and at the start, of the curve's range
TOGETHER = 2_000_000  # rows of all chains that are run side by side
OPTIMISED, END_ALONE = "optimised", "for the end alone"


@dataclasses.dataclass(frozen=True)
class Spent:
    """What is spent over the generations: a number of a chain at each of them, in rows where it counts rows.

    `least` and `most` bound each of the values, `step` is what one row moves the field by (None: the field is no count,
    and its own values are what is summed).  The first fit eats real rows whatever the schedule says.
    """

    make: Callable[[Any], Chain]  # values [T] of the field, of which the first does not matter
    budget: float
    generations: int  # fits in all; the budget is for all but the first
    least: float
    most: float
    step: float | None = None
    served: bool = False  # whether it is fresh rows that are served, by number

    def __post_init__(self) -> None:
        n, least, most = self.generations - 1, self.least, self.most
        if n < 2:
            raise GenlossError(f"A schedule wants 3 generations or more; there are {self.generations}.")
        if self.step is not None and (self.budget % 1 or self.budget < 1):
            raise GenlossError(f"The budget is {self.budget:g} rows; give a whole number of 1 or more.")
        rows = " rows" if self.step else ""
        if self.budget > n * most:
            raise GenlossError(
                f"A generation takes {most:g}{rows} at most, so {n} of them take {n * most:g}; the budget is "
                f"{self.budget:g}: lower it, or give the field a wider range."
            )
        if self.budget < n * least or self.budget <= 0:
            raise GenlossError(
                f"A generation takes {least:g}{rows} at least, so {n} of them take {n * least:g}; the budget is "
                f"{self.budget:g}: raise it."
            )

    def values(self, units: Any) -> Any:
        """The field at every fit, [..., T], of what each generation but the first is given, [..., T - 1]."""
        per = 1.0 if self.step is None else self.step
        xp = np if isinstance(units, np.ndarray) else jnp
        return xp.concatenate([units[..., :1], units], -1) * per

    def bounded(self, wanted: np.ndarray) -> np.ndarray:
        """The nearest amounts [..., T - 1] within the bounds that sum to the budget."""
        wanted = np.asarray(wanted, np.float64)
        low = self.least - wanted.max(-1, keepdims=True)
        high = self.most - wanted.min(-1, keepdims=True)
        for _ in range(60):  # the shift at which the sum is right
            middle = (low + high) / 2
            over = np.clip(wanted + middle, self.least, self.most).sum(-1, keepdims=True) > self.budget
            low, high = np.where(over, low, middle), np.where(over, middle, high)
        return np.clip(wanted + (low + high) / 2, self.least, self.most)

    def whole(self, amounts: np.ndarray) -> np.ndarray:
        """Amounts [..., T - 1] in whole rows, where rows are counted: differences of their rounded sums so far.

        Each is the one below or above it, the sum stays, and what is left over lies evenly.
        """
        if self.step is None:
            return amounts
        so_far = np.floor(np.cumsum(amounts, -1) + 0.5 + 1e-6)  # [..., T - 1]
        return np.diff(so_far, prepend=0, axis=-1)


class Outcome(NamedTuple):
    """A schedule and what comes of it."""

    amounts: np.ndarray  # [T - 1]: what generations 1, 2, ... are given
    worst: int  # the fit at which the measure is worst, by what was optimised
    law: np.ndarray | None  # [T]: of the measure; None where there is none
    mean: np.ndarray  # [T]: over held-out chains
    error: np.ndarray  # [T]: standard errors of these
    gain: tuple[float, float, float]  # (mean, low, high): how much better the optimised schedule is at its worst

    @property
    def late(self) -> tuple[float, int]:
        """(share of the budget in the last tenth of the generations, how many these are)."""
        last = -(-len(self.amounts) // 10)
        return float(self.amounts[-last:].sum() / self.amounts.sum()), last


@dataclasses.dataclass(frozen=True)
class Spending:
    """A budget over generations: the schedule that is best at its worst, one for the end alone, and plain ones."""

    measure: str
    sense: int  # 1 where more is better, else -1
    budget: float
    counts: bool  # whether the budget is in rows
    chains: int
    confidence: float
    why: str  # whose law was optimised, or that there was none
    outcomes: dict[str, Outcome]

    @property
    def warnings(self) -> list[str]:
        """A sentence for each optimised schedule that leaves most of its budget to the end."""
        found = []
        for name in (OPTIMISED, END_ALONE):
            share, last = self.outcomes[name].late
            if share > 0.5:
                which = "the last generation" if last == 1 else f"the last {last} generations"
                said = f"the schedule {name} spends {share:.0%} of the budget in {which}"
                found.append(f"{said}; those before are left to decay.")
        return found

    def data(self) -> dict[str, Any]:
        """For JSON."""
        plain = lambda value: value.tolist() if isinstance(value, np.ndarray) else value  # noqa: E731
        outcomes = {
            name: {field: plain(value) for field, value in found._asdict().items()}
            for name, found in self.outcomes.items()
        }
        return {**vars(self), "outcomes": outcomes, "warnings": self.warnings}


def scheduled(chain: Chain, path: str) -> Callable[[Any], Chain]:
    """`make` of `Spent`: the chain with a field, by its dotted name, at values [T] over the fits."""
    return lambda values: override(chain, {path: Schedule("table", tuple(values[i] for i in range(len(values))))})


def served(chain: Chain, most: int) -> Callable[[Any], Chain]:
    """`make` of `Spent`: the chain with up to `most` fresh rows a generation, of which it is served as many as said."""

    def make(values: Any) -> Chain:
        first = Fresh(Schedule("table", tuple(values[i] for i in range(len(values)))))
        return dataclasses.replace(chain, fresh=most, recipe=Then(first, chain.recipe))

    return make


def spend(
    spent: Spent,
    measure: str,
    key: Key,
    *,
    sense: int = 1,
    chains: int = 400,
    confidence: float = 0.9,
    report: Callable[[str], None] = lambda said: None,
) -> Spending:
    """The schedule of a budget under which the worst mean value of a measure over the generations is best.

    With m_t the mean measure at fit t, times `sense`, and x the amounts, it maximises min_{t > 0} m_t(x) subject to
    Σ x_t = budget, by Adam on the smooth worst -τ log Σ_t exp(-m_t/τ) while τ falls; the hard worst is what is compared
    and said.  On held-out chains, which share keys across schedules, each is measured at the fit that is its worst by
    what was optimised: the least of many noisy means would be low, and lowest for a schedule that holds all alike.
    Raises `GenlossError` where the measure has neither a law as a function of the schedule nor a gradient.
    """
    report("the law")
    full = spent.make(spent.values(spent.bounded(np.ones(spent.generations - 1))))
    check_measure(full, measure)
    probe, make = measure.partition(".")[0], spent.make
    spent = dataclasses.replace(spent, make=lambda values: alone(make(values), probe, full.prepared))
    curve, why, law = _curve(spent, measure, key, min(chains, TRAINING))
    job = _Job(spent, curve, sense, law)
    report("schedules")
    found = job.families()
    for name, end in ((OPTIMISED, False), (END_ALONE, True)):
        report(f"the schedule {name}")
        found[name] = job.best(found, end)
    order = [OPTIMISED, END_ALONE, *(name for name in found if name not in (OPTIMISED, END_ALONE))]
    report(f"{chains:,} chains of each schedule")
    amounts = np.stack([found[name] for name in order])  # [schedules, T - 1]
    values = sense * _held_out(spent, measure, amounts, jax.random.fold_in(key, 1), chains)  # [schedules, chains, T]
    scores = job.scores(amounts)  # [schedules, T]
    hardest = _hardest(scores)  # [schedules]
    worst = values[np.arange(len(order)), :, hardest]  # [schedules, chains]
    wide = float(norm.ppf((1 + confidence) / 2)) / np.sqrt(chains)  # of an interval, in deviations of a chain
    outcomes = {}
    for i, name in enumerate(order):
        error = values[i].std(0, ddof=1) / np.sqrt(chains)  # [T]
        ahead = worst[0] - worst[i]  # [chains]
        half = wide * ahead.std(ddof=1)
        gain = float(ahead.mean()), float(ahead.mean() - half), float(ahead.mean() + half)
        exact = sense * scores[i] if law else None
        outcomes[name] = Outcome(amounts[i], int(hardest[i]), exact, sense * values[i].mean(0), error, gain)
    return Spending(measure, sense, spent.budget, spent.step is not None, chains, confidence, why, outcomes)


def _curve(spent: Spent, measure: str, key: Key, chains: int) -> tuple[schedules.Curve, str, bool]:
    """(the measure [T] as a function of values [T], whose law that is or why there is none, whether it is one)."""
    per = 1.0 if spent.step is None else spent.step
    try:
        ends = spent.least * per, spent.most * per
        return *schedules.law(spent.make, spent.generations, measure, ends, spent.step, spent.served), True
    except GenlossError as error:
        why = str(error).rstrip(".")
    keys = jax.random.split(jax.random.fold_in(key, 0), chains)

    def mean(values: Array) -> Array:
        alike = jnp.broadcast_to(values, (chains, spent.generations))
        return each(spent.make, alike, keys, spent.generations)[measure].mean(0)

    even = jnp.full(spent.generations, spent.budget / (spent.generations - 1) * per)
    slopes = jax.jit(jax.grad(lambda values: mean(values).sum()))(even)  # [T]
    if not np.isfinite(slopes).all() or not np.asarray(slopes).any():
        raise GenlossError(
            f"{measure} of this chain has no law ({why}) and no gradient, since rows are counted; measure what has a "
            "law, such as Moments of a Gaussian, or weigh real rows by Reweigh(real=...), which has a gradient."
        )
    return mean, f"none ({why}); the mean of {chains} chains was optimised, by its gradient", False


class _Job:
    """Scores schedules and finds the best of them."""

    def __init__(self, spent: Spent, curve: schedules.Curve, sense: int, law: bool) -> None:
        self.spent, self.law = spent, law
        self.score = lambda amounts: sense * curve(spent.values(amounts))  # [T - 1] -> [T]; more is better
        self._one = jax.jit(self.score)

    def scores(self, amounts: np.ndarray) -> np.ndarray:
        """[schedules, T] of amounts [schedules, T - 1]."""
        return np.stack([np.asarray(self._one(jnp.asarray(one, jnp.float32)), np.float64) for one in amounts])

    def families(self) -> dict[str, np.ndarray]:
        """The best of each plain family of schedules at its worst, in amounts [T - 1]."""
        spent, n = self.spent, self.spent.generations - 1
        tau, slopes = np.linspace(-1, 1, n), np.linspace(-1, 1, SHAPES)[:, None]
        first = np.arange(n) < np.arange(1, n + 1)[:, None]  # [n, n]: the first one, two, ... generations
        families = {
            "constant": np.ones((1, n)),
            "linear": 1 + slopes * tau,
            "cosine": 1 + slopes * np.sin(np.pi * tau / 2),
            "front-loaded": first * n / first.sum(1, keepdims=True),
            "back-loaded": first[:, ::-1] * n / first.sum(1, keepdims=True),
        }
        found = {}
        for name, shapes in families.items():
            candidates = spent.whole(spent.bounded(shapes * spent.budget / n))
            found[name] = candidates[_worst(self.scores(candidates)).argmax()]
        return found

    def best(self, known: dict[str, np.ndarray], end: bool) -> np.ndarray:
        """The best amounts [T - 1], from schedules that are known and by gradient from them."""
        spent = self.spent
        starts = np.stack(list(known.values()))
        scores = self.scores(starts)
        of = (lambda s: s[:, -1]) if end else _worst
        if not self.law:  # where a step costs chains, from the best alone
            starts, scores = starts[[of(scores).argmax()]], scores[[of(scores).argmax()]]
        span = float(max(np.ptp(scores[:, 1:]), 1e-6 * np.abs(scores).max(), 1e-30))
        climbed = self._climbed(starts, span, end)
        candidates = np.concatenate([starts, spent.whole(spent.bounded(climbed))])
        return candidates[of(self.scores(candidates)).argmax()]

    def _climbed(self, starts: np.ndarray, span: float, end: bool) -> np.ndarray:
        """Amounts [starts, T - 1] by gradient, from amounts of the same shape; the best that each came by."""
        spent = self.spent
        least, width, steps = spent.least, spent.most - spent.least, STEPS if self.law else STEPS_ON_CHAINS
        rule = optax.adam(optax.schedules.cosine_decay_schedule(0.3, steps, 0.05))

        def amounts(logits: Array) -> Array:  # [T - 1] any -> within the bounds, and summing to the budget
            shift = _shift(jax.lax.stop_gradient(logits), (spent.budget - least * len(logits)) / width)
            share = jax.nn.sigmoid(logits + shift)  # [T - 1]
            slope = jax.lax.stop_gradient((share * (1 - share)).sum())  # how fast the shift mends the sum
            mended = shift - (share.sum() - jax.lax.stop_gradient(share.sum())) / jnp.maximum(slope, 1e-12)
            return least + width * jax.nn.sigmoid(logits + mended)

        def smooth(logits: Array, heat: Array) -> tuple[Array, tuple[Array, Array]]:
            x = amounts(logits)
            score = self.score(x)[1:]  # [T - 1]
            hard = score[-1] if end else score.min()
            soft = score[-1] if end else -heat * jax.nn.logsumexp(-score / heat)
            return -soft, (hard, x)

        def step(carry: Any, heat: Array) -> tuple[Any, None]:
            logits, memory, best, at = carry
            (_, (hard, x)), slopes = jax.value_and_grad(smooth, has_aux=True)(logits, heat)
            better = hard > best
            best, at = jnp.where(better, hard, best), jnp.where(better, x, at)
            updates, memory = rule.update(slopes / span, memory)
            return (optax.apply_updates(logits, updates), memory, best, at), None

        def climb(start: Array) -> Array:
            share = jnp.clip((start - least) / width, 1e-3, 1 - 1e-3)
            logits = jnp.log(share) - jnp.log1p(-share)
            heats = span * jnp.geomspace(WARM, COLD, steps)
            carry = logits, rule.init(logits), jnp.float32(-jnp.inf), start
            return jax.lax.scan(step, carry, heats)[0][-1]

        return np.asarray(jax.jit(jax.vmap(climb))(jnp.asarray(starts, jnp.float32)), np.float64)


def _hardest(scores: np.ndarray) -> np.ndarray:
    """The fit of least score of each schedule's [schedules, T], but for the first, which no schedule changes."""
    return 1 + scores[:, 1:].argmin(1)


def _worst(scores: np.ndarray) -> np.ndarray:
    """Each schedule's score there, [schedules]."""
    return scores[np.arange(len(scores)), _hardest(scores)]


def _shift(logits: Array, total: float) -> Array:
    """The number that makes Σ sigmoid(logits + it) the total, by halving."""
    bound = jnp.abs(logits).max() + 30.0

    def halve(_: Any, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        middle = (ends[0] + ends[1]) / 2
        over = jax.nn.sigmoid(logits + middle).sum() > total
        return jnp.where(over, ends[0], middle), jnp.where(over, middle, ends[1])

    low, high = jax.lax.fori_loop(0, 40, halve, (-bound, bound))
    return (low + high) / 2


def _held_out(spent: Spent, measure: str, amounts: np.ndarray, key: Key, chains: int) -> np.ndarray:
    """The measure of chains that share keys across schedules, [schedules, chains, T]."""
    keys = jax.random.split(key, chains)
    grid = spent.values(amounts)  # [schedules, T]
    capacity = spent.make(grid[0]).ring.capacity(spent.generations)
    some = max(1, min(chains, TOGETHER // (capacity * len(amounts))))
    parts = [
        np.asarray(ensemble(spent.make, jnp.asarray(grid, jnp.float32), keys[i : i + some], spent.generations)[measure])
        for i in range(0, chains, some)
    ]
    found = np.concatenate(parts, 1).astype(np.float64)
    if not np.isfinite(found).all():
        raise GenlossError(f"'{measure}' is not finite in some chain; keep a measure that is, or change the range.")
    return found
