"""How little is enough: the least value of a field that keeps a measure over the generations of a chain.

Rounds of replicates as one program, each chain with a value and a key of its own, those of later rounds where earlier
ones showed the answer to be (`simulator.analysis.roots`).  Where the bound is relative to a control, each chain is
paired with a control of its own key.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from simulator.analysis.bounds import Keep
from simulator.analysis.roots import roots
from simulator.chain import Chain
from simulator.recipe.mixing import Mix
from simulator.running.prepare import alone
from simulator.running.scan import each, simulate
from simulator.running.spec import unknown
from simulator.theory.overlay import overlay
from simulator.types import GenlossError, Key

ROUNDS = (3, 2, 3, 4, 4, 4)  # of the chains, in twentieths
FEWEST = 100  # chains that an interval can be made of
WIDE = 0.15  # share of a round's chains that are spread evenly over twice the middle 80 % of what is believed
AGAIN = 0.05  # share that lie everywhere, as in the first round: what is believed may be wrong


class Evaluated(NamedTuple):
    """Chains that were run for a plan."""

    values: np.ndarray  # [n]: of the field
    margins: np.ndarray  # [n]: what each keeps above the bound at the hardest generation


@dataclasses.dataclass(frozen=True)
class Plan:
    """An answer and how sure it is."""

    keep: str
    value: float  # the least that keeps the bound, or the most where less is better; the median of what is believed
    low: float  # of the interval; the end of the range where that is not excluded
    high: float
    confidence: float
    side: str  # "least" or "most"
    generation: int  # at which the bound is hardest to keep
    chains: int  # run in all, controls beside them
    law: float | None  # the theory's answer; None where there is none
    why: str  # whose law it is, or why there is none
    evaluated: Evaluated = dataclasses.field(repr=False)
    draws: np.ndarray = dataclasses.field(repr=False)  # of the answer: what is believed

    def data(self) -> dict[str, Any]:
        """For JSON."""
        found = {name: value for name, value in vars(self).items() if name not in ("evaluated", "draws")}
        return found | {"evaluated": {name: leaf.tolist() for name, leaf in self.evaluated._asdict().items()}}


def plan(
    make: Callable[[Any], Chain],
    over: tuple[float, float],
    keep: Keep | str,
    key: Key,
    *,
    generations: int,
    chains: int = 1000,
    confidence: float = 0.9,
    step: float | None = None,
    control: Chain | None = None,
    law: bool = True,
    report: Callable[[int, int], None] | None = None,
) -> Plan:
    """The least value between the ends of `over` at which the mean over chains keeps the bound.

    With m(x) the mean margin of chains at x at the hardest generation, the answer is the x where m crosses 0, for m
    that rises or falls throughout; `low` and `high` are the quantiles (1 ± confidence)/2 of what is believed of it.
    `step`: the field takes multiples of it only, 1 for whole numbers (then the answer is the least multiple that keeps
    the bound).  `control`: what a relative bound is of; by default the chain whose every diet is its first real rows.
    `report(done, chains)` is called after each round.  Raises `GenlossError` where the bound is kept, or missed, at
    every value, and where more of the field does not help or harm throughout.
    """
    keep = Keep.parse(keep) if isinstance(keep, str) else keep
    field = _Field(float(over[0]), float(over[1]), step)
    if chains < FEWEST:
        raise GenlossError(f"An interval wants {FEWEST} chains or more; it was given {chains}.")
    if not 0 < confidence < 1:
        raise GenlossError(f"The confidence is {confidence} and must lie between 0 and 1.")
    job = _Job(make, field, keep, key, generations, control)
    unit = chains // sum(ROUNDS)
    random = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel().tolist())
    u, margins = job(_everywhere(ROUNDS[0] * unit), unit)
    sign = _direction(u, margins, field, keep)
    place, rounds = 0.5, iter(ROUNDS[1:])
    while True:
        if report:
            report(len(u), sum(ROUNDS) * unit)
        units = next(rounds, 0)
        x = u if sign > 0 else 1 - u
        hardest = _hardest(x, margins, place)
        believed = roots(x, margins[:, hardest], *((8, 25) if units else (16, 125)), random)
        place = float(np.median(believed))
        if not units:
            break
        new = _next(believed, units * unit, random)
        more, found = job(new if sign > 0 else 1 - new, unit)
        u, margins = np.r_[u, more], np.concatenate([margins, found])
    answers = field.answers(believed if sign > 0 else 1 - believed, sign)  # [draws]
    low, value, high = np.quantile(answers, [(1 - confidence) / 2, 0.5, (1 + confidence) / 2])
    if not 0 < place < 1:
        raise field.never(u, margins[:, hardest], keep, place <= 0)
    theory, why = (
        job.law(sign, max(1e-4, (high - low) / (field.high - field.low) / 50)) if law else (None, "not asked for")
    )
    return Plan(
        str(keep), float(value), float(low), float(high), confidence, "least" if sign > 0 else "most",
        generations - 1 if keep.at_end else hardest, len(u), theory, why,
        Evaluated(field.at(u), margins[:, hardest]), answers,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class _Field:
    """The range that is searched: places u in [0, 1] and the values there."""

    low: float
    high: float
    step: float | None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise GenlossError(f"The range goes from {self.low:g} to {self.high:g}; give a lower and an upper end.")
        if self.step is not None and not 0 < self.step <= self.high - self.low:
            raise GenlossError(
                f"The range from {self.low:g} to {self.high:g} holds no step of {self.step:g}; widen it."
            )

    def rounded(self, u: np.ndarray) -> np.ndarray:
        """The places that the field can take."""
        return u if self.step is None else (self._whole(self.at(u)) - self.low) / (self.high - self.low)

    def at(self, u: np.ndarray) -> np.ndarray:
        return self.low + (self.high - self.low) * u

    def _whole(self, values: np.ndarray) -> np.ndarray:
        assert self.step is not None
        return np.clip(np.round(values / self.step) * self.step, self.low, self.high)

    def answers(self, u: np.ndarray, sign: int) -> np.ndarray:
        """The least value (the most, where less is better) that is at or beyond each place."""
        values = self.at(u)
        if self.step is None:
            return values
        near = np.ceil if sign > 0 else np.floor
        return np.clip(near(np.round(values / self.step, 6)) * self.step, self.low, self.high)

    def never(self, u: np.ndarray, h: np.ndarray, keep: Keep, kept: bool) -> GenlossError:
        """What to say where no value inside the range is the answer."""
        ends = [h[np.argsort(abs(u - end), kind="stable")[: max(5, len(u) // 20)]] for end in (0, 1)]
        at = [
            f"{e.mean():+.3g} ± {e.std(ddof=1) / np.sqrt(len(e)):.1g} near {v:g}"
            for e, v in zip(ends, (self.low, self.high), strict=True)
        ]
        fate = "kept" if kept else "missed"
        return GenlossError(
            f"'{keep}' is {fate} at every value from {self.low:g} to {self.high:g}, as far as {len(u):,} chains tell "
            f"(margin {at[0]}, {at[1]}); change the bound or the range, or run more chains."
        )


class _Job:
    """Runs chains at places of the field and says their margins."""

    def __init__(
        self, make: Callable[[Any], Chain], field: _Field, keep: Keep, key: Key, generations: int, control: Chain | None
    ) -> None:
        self.field, self.keep, self.key, self.generations = field, keep, key, generations
        self.rounds, self.full = 0, make(self._typed(field.low))
        probe = keep.metric.partition(".")[0]
        prepared = self.full.prepared
        self.make = lambda value: alone(make(value), probe, prepared)
        check_measure(self.full, keep.metric)
        self.control = control or _real_only(self.full) if keep.of_control else None
        self.beside = alone(self.control, probe, prepared) if self.control else None
        self.one = self._is_one_program()
        self.alone: dict[float, Callable[[Any], Chain]] = {}  # value -> its chain, where each is a program

    def _typed(self, value: float) -> Any:
        return round(value) if self.field.step == 1 else value

    def _is_one_program(self) -> bool:
        try:
            jax.eval_shape(lambda k: each(self.make, self._grid(np.array([self.field.low])), k[None], 1), self.key)
        except (jax.errors.JAXTypeError, TypeError, GenlossError) as error:  # the value alone was fine
            if self.field.step is None:
                raise GenlossError(
                    "What is planned cannot vary within one program, since shapes or choices made in Python depend on "
                    "it; plan a field that takes whole numbers, or steps."
                ) from error
            return False
        return True

    def __call__(self, u: np.ndarray, unit: int) -> tuple[np.ndarray, np.ndarray]:
        """(places [n] as the field takes them, margins [n, generations or 1]), `unit` chains at a time."""
        if not self.one:  # a program a value: so `unit` neighbours share theirs
            u = np.repeat(np.median(np.sort(u).reshape(-1, unit), 1), unit)
        u = self.field.rounded(u)
        keys = jax.random.split(jax.random.fold_in(self.key, self.rounds), len(u))
        self.rounds += 1
        parts = [slice(i, i + unit) for i in range(0, len(u), unit)]
        values = self.field.at(u)
        found = np.concatenate([self._run(self._maker(values[part]), values[part], keys[part]) for part in parts])
        beside = None
        if self.beside is not None:
            beside = np.concatenate([self._run(self.constant, values[part], keys[part]) for part in parts])
        margins = self.keep.margins(found, beside)
        if not np.isfinite(margins).all():
            at = values[~np.isfinite(margins).all(1)][0]
            raise GenlossError(f"'{self.keep.metric}' is not finite in a chain at {at:g}; leave such values out.")
        return u, margins

    def constant(self, value: Any) -> Chain:
        assert self.beside is not None
        return self.beside

    def _maker(self, values: np.ndarray) -> Callable[[Any], Chain]:
        if self.one:
            return self.make
        value = float(values[0])
        if value not in self.alone:
            chain = self.make(self._typed(value))
            self.alone[value] = lambda _: chain
        return self.alone[value]

    def _run(self, make: Callable[[Any], Chain], values: np.ndarray, keys: Key) -> np.ndarray:
        """[n, generations]."""
        return np.asarray(each(make, self._grid(values), keys, self.generations)[self.keep.metric])

    def _grid(self, values: np.ndarray) -> np.ndarray:
        return values.astype(np.int32) if self.field.step == 1 else values

    def law(self, sign: int, near: float) -> tuple[float | None, str]:
        """(what the theory answers, up to `near` of the range or a step; whose law that is or why there is none)."""
        from scipy.optimize import brentq

        def curve(chain: Chain) -> tuple[np.ndarray | None, str]:
            found = overlay(chain, self.generations)
            return found.curves.get(self.keep.metric), found.why.get(self.keep.metric, "no law is known")

        beside = None
        if self.beside is not None:
            beside, why = curve(self.beside)
            if beside is None:
                return None, why

        said = ""

        def margin(u: float) -> float:
            nonlocal said
            found, said = curve(self.make(self._typed(float(self.field.at(self.field.rounded(np.array([u])))[0]))))
            if found is None:
                raise LookupError
            return float(self.keep.margins(found, beside).min())

        try:
            if (margin(0.0) >= 0) == (kept := margin(1.0) >= 0):
                return None, f"{said.rstrip('.')}, which is {'kept' if kept else 'missed'} at every value"
            place = float(brentq(margin, 0.0, 1.0, xtol=near))  # pyright: ignore[reportArgumentType]
        except LookupError:
            return None, said
        if self.field.step is not None:  # the multiple beyond the edge
            one = self.field.step / (self.field.high - self.field.low)
            places = self.field.rounded(np.clip(place + one * np.array([-1, 0, 1]), 0, 1))
            kept_at = [float(x) for x in places if margin(float(x)) >= 0]
            place = min(kept_at) if sign > 0 else max(kept_at)
        return float(self.field.at(np.array([place]))[0]), said


def check_measure(chain: Chain, metric: str) -> None:
    """Raises where a chain has no such measure, or many numbers of it a generation."""
    known = jax.eval_shape(lambda: simulate(chain, jax.random.key(0), 1)).flat()
    if metric not in known:
        raise GenlossError(unknown(metric, list(known), "The chain has no measure"))
    if known[metric].shape != (1,):
        raise GenlossError(f"'{metric}' has many values a generation; keep a measure that is one number.")


def _real_only(chain: Chain) -> Chain:
    """The control: each diet is the first real rows."""
    return dataclasses.replace(chain, recipe=Mix(real=1.0, size=chain.real))


def _everywhere(n: int, least: float = 1e-3) -> np.ndarray:
    """Places [n] of the first round: a third evenly, a third by powers towards each end, both ends among them."""
    even, low, high = (np.linspace(0, 1, len(part)) for part in np.array_split(np.arange(n), 3))
    return np.r_[even, least ** (1 - low), 1 - least ** (1 - high)]


def _next(believed: np.ndarray, n: int, random: np.random.Generator) -> np.ndarray:
    """Places [n] of a round: as believed, some evenly around that, and some everywhere."""
    new = random.permutation(np.resize(random.permutation(believed), n))
    few, again = round(WIDE * n), round(AGAIN * n)
    ends = np.quantile(believed, [0.1, 0.9])
    middle, half = ends.mean(), max(np.ptp(ends), 1e-6)
    new[:few] = middle + 1.5 * half * (2 * (np.arange(few) + 0.5) / few - 1)
    new[n - again :] = _everywhere(again)
    return np.clip(new, 0, 1)


def _hardest(u: np.ndarray, margins: np.ndarray, place: float, sigmas: float = 2.0) -> int:
    """The generation that keeps least among the points next to a place: the last that is not surely better than it.

    Measures decay or come to rest, and the least of many noisy means is chosen for its noise; so the last generation
    stands for all, unless an earlier one is `sigmas` standard errors of their difference below it.
    """
    next_to = np.argsort(np.abs(u - place), kind="stable")[: max(10, round(0.3 * len(u)))]
    h = margins[next_to]  # [some, generations]
    above = h - h[:, [h.mean(0).argmin()]]  # [some, generations]
    error = above.std(0, ddof=1) / np.sqrt(len(h))  # [generations]
    return int(np.flatnonzero(above.mean(0) <= sigmas * error)[-1])


def _direction(u: np.ndarray, margins: np.ndarray, field: _Field, keep: Keep, sigmas: float = 5.0) -> int:
    """1 where more of the field helps, -1 where it harms; raises where it does both."""
    h = margins[:, _hardest(u, margins, 0.5)]
    sign = 1 if np.corrcoef(u, h)[0, 1] >= 0 or h.std() == 0 else -1
    parts = np.array_split(np.argsort(sign * u, kind="stable"), 6)
    mean = np.array([h[part].mean() for part in parts])
    square = np.array([h[part].var(ddof=1) / len(part) for part in parts])
    for i in range(6):
        for j in range(i + 1, 6):
            if mean[i] - mean[j] > sigmas * np.sqrt(square[i] + square[j]):
                raise GenlossError(
                    f"'{keep}' is not monotone between {field.low:g} and {field.high:g}: what it keeps above the bound "
                    f"both rises and falls; give a range in which more either helps or harms."
                )
    return sign
