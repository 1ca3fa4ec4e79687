"""Scaling laws of mixing: the error of a chain as a function of its rows, its share of real ones and the generation.

The surface of `simulator.analysis.surface` through the replicates of a `Ladder`: its exponent, the share that is best
at each size, and the error that it foretells at a size beyond, which was measured, too.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from simulator.analysis.ladder import Ladder, Price, counted
from simulator.analysis.surface import Estimate, Surface, fitted, spread, surface
from simulator.theory.overlay import overlay
from simulator.types import GenlossError, Key

SEVERAL = 3  # shares, of which one can be the best


class Best(NamedTuple):
    """The share of least error at one size, at the last generation."""

    size: float
    share: Estimate
    law: float | None  # the theory's, at the ends of the ladder


class Check(NamedTuple):
    """The error at the size beyond, at the last generation: foretold by the surface, and measured."""

    share: float
    foretold: Estimate
    measured: float
    error: float  # standard error of what was measured

    @property
    def apart(self) -> float:
        """Their difference in standard errors, those of both."""
        return float(self.foretold.value - self.measured) / math.hypot(float(self.foretold.error), self.error)


@dataclasses.dataclass(frozen=True, eq=False)
class Scaling:
    """A surface E(size, share, generation), and how sure it is."""

    metric: str
    sizes: tuple[float, ...]
    shares: tuple[float, ...]  # one where none is varied
    generations: tuple[int, ...]  # that the surface goes through, as records number them
    confidence: float
    price: Price
    values: np.ndarray = dataclasses.field(repr=False)  # [sizes, shares, replicates, generations]
    surface: Surface = dataclasses.field(repr=False)  # of [shares · generations] curves
    best: tuple[Best, ...]  # at each size, and beyond if a form fits; empty for fewer than three shares
    beyond: float  # the size of the checks; 0 where none were asked for
    checks: tuple[Check, ...]  # a share each; empty where no form fits
    law: float | None  # the exponent of the theory's errors at the ends of the ladder, where no floor is needed
    why: str  # whose law it is, or why there is none

    @property
    def exponent(self) -> Estimate | None:
        """α; None where no form fits."""
        found = self.surface
        return Estimate.of(found.fit.exponent[0], found.draws.exponent, self.confidence) if found.fits else None

    def at(self, size: float) -> Estimate:
        """E at a size, [shares, generations]."""
        shape = (len(self.shares), len(self.generations))
        return Estimate(*(part.reshape(shape) for part in self.surface.at(size, self.confidence)))

    @property
    def verdict(self) -> str:
        """The form and how well it fits, or why no exponent is given."""
        found, many = self.surface, f"{counted(self.sizes[0])} to {counted(self.sizes[-1])}"
        if found.fits:
            form = "E = c + A·n^-α" if found.has_floor else "E = A·n^-α"
            without = f"; with c = 0: {found.refuted:.2g}" if found.has_floor else ""
            return f"{form} is not refuted (lack of fit: p = {found.p:.2g}{without})"
        if not found.holds:
            return (
                f"no power law fits the sizes {many} (lack of fit: p = {found.p:.2g}), so that no exponent is given; "
                "leave out the smallest sizes, or take larger ones"
            )
        return f"the sizes {many} tell no exponent; take more replicates, or sizes farther apart"

    def data(self) -> dict[str, Any]:
        """For JSON."""
        listed = lambda e: {name: np.asarray(part).tolist() for name, part in e._asdict().items()}  # noqa: E731
        plain = ("metric", "sizes", "shares", "generations", "confidence", "verdict", "law", "why", "beyond")
        found: dict[str, Any] = {name: getattr(self, name) for name in plain}
        found |= {"price": self.price._asdict(), "replicates": self.values.shape[2]}
        found |= {"fits": self.surface.fits, "has_floor": self.surface.has_floor, "misfit": self.surface.p}
        found["measured"] = self.values.mean(2).tolist()  # [sizes, shares, generations]
        found["exponent"] = found["surface"] = None
        if self.exponent is not None:
            fit, shape = self.surface.fit, (len(self.shares), len(self.generations))
            found["exponent"] = listed(self.exponent)
            found["surface"] = {
                "floor": fit.floor[0].reshape(shape).tolist(),  # [shares, generations]
                "amplitude": (fit.amplitude[0] * fit.middle ** fit.exponent[0]).reshape(shape).tolist(),
                "errors": [listed(self.at(size)) for size in self.sizes],
            }
        found["best"] = [{"size": b.size, **listed(b.share), "law": b.law} for b in self.best]
        found["checks"] = [{**c._asdict(), "foretold": listed(c.foretold), "apart": c.apart} for c in self.checks]
        return found


def scaling(
    ladder: Ladder,
    key: Key,
    *,
    confidence: float = 0.9,
    law: bool = True,
    report: Callable[[int, int], None] | None = None,
) -> Scaling:
    """Runs a ladder, fits its surface, checks it at the size beyond and holds it against the law where one is known.

    Intervals are the quantiles (1 ± confidence)/2 of the bootstrap over chains.  `report(done, sizes)` is called after
    each program.  Raises `GenlossError` where the measure is not above 0.
    """
    if not 0 < confidence < 1:
        raise GenlossError(f"The confidence is {confidence} and must lie between 0 and 1.")
    values = ladder.run(key, report)
    steps, kept = len(ladder.sizes), len(ladder.at)
    values, beyond = values[:steps], values[steps:]  # [sizes, shares, replicates, generations]
    curves = np.moveaxis(values, 2, 3).reshape(steps, -1, ladder.replicates)  # [sizes, curves, replicates]
    last = slice(kept - 1, None, kept)  # of the curves: those of the last generation
    random = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel().tolist())
    found = surface(np.array(ladder.sizes), curves, random)
    sought = [*ladder.sizes, *([ladder.beyond] if found.fits and ladder.beyond else [])]
    ends = ladder.sizes[:: steps - 1]
    laws, why = _laws(ladder, ends) if law else (None, "not asked for")
    best = []
    for i, size in enumerate(sought if len(ladder.shares) >= SEVERAL else []):
        error, draws = (fit.at(size)[:, last] for fit in (found.fit, found.draws))
        if not found.fits:  # what was measured
            error, draws = curves[None, i, last].mean(-1), found.means[:, i, last]
        share = Estimate.of(least(ladder.shares, error)[0], least(ladder.shares, draws), confidence)
        of_law = None
        if laws is not None and size in ends:
            of_law = float(least(ladder.shares, laws[None, ends.index(size), :, -1])[0])
        best.append(Best(size, share, of_law))
    checks = []
    if found.fits and len(beyond):
        foretold = found.at(ladder.beyond, confidence)
        for j, share in enumerate(ladder.shares):
            end = beyond[0, j, :, -1]  # [replicates]
            error = float(end.std(ddof=1) / math.sqrt(len(end)))
            checks.append(Check(share, Estimate(*(part[last][j] for part in foretold)), float(end.mean()), error))
    exponent = None
    if laws is not None and found.has_floor:
        why = "its errors have no floor of their own"
    elif laws is not None:
        known, relative = laws.reshape(2, -1), spread(curves)[:: steps - 1]  # [ends, curves]
        exponent = float(fitted(np.array(ends), known[None], 1 / (relative * known**2), floor=False).exponent[0])
    return Scaling(
        ladder.metric, ladder.sizes, ladder.shares, tuple(ladder.at), confidence, ladder.price, values, found,
        tuple(best), ladder.beyond, tuple(checks), exponent, why,
    )  # fmt: skip


def least(shares: Sequence[float], errors: np.ndarray) -> np.ndarray:
    """The share of least error [draws], of errors [draws, shares]: that of a cubic spline through their logarithms."""
    from scipy.interpolate import CubicSpline

    places = np.linspace(shares[0], shares[-1], 1001)
    return places[CubicSpline(shares, np.log(errors), axis=1)(places).argmin(1)]


def _laws(ladder: Ladder, sizes: Sequence[float]) -> tuple[np.ndarray | None, str]:
    """(the theory's errors [sizes, shares, generations], or None; whose law it is or why there is none)."""
    table, why = np.zeros((len(sizes), len(ladder.shares), len(ladder.at))), ""
    for i, size in enumerate(sizes):
        for j, share in enumerate(ladder.shares):
            found = overlay(ladder.make(size, share), ladder.generations)
            why = found.why.get(ladder.metric, found.why.get(ladder.metric.partition(".")[0], "no law is known of it."))
            if ladder.metric not in found.curves:
                return None, why
            table[i, j] = found.curves[ladder.metric][ladder.at]
    return table, why
