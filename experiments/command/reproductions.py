"""What an experiment's `reproduce` returns: findings, each beside what a law and a paper say of it, and the figure.

Published is what a paper prints, with its table or figure; what follows from a formula is theory, whoever derived it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Published:
    """A number as a paper prints it, and in which table or figure; `within` is the relative error of reading it off."""

    printed: str  # known to half a unit of its last digit
    where: str
    within: float = 0.0

    @property
    def value(self) -> float:
        return float(self.printed)

    @property
    def slack(self) -> float:
        """How far from `value` the number may be."""
        unit = 10.0 ** int(Decimal(self.printed).as_tuple().exponent)
        return unit / 2 + self.within * abs(self.value)


@dataclass(frozen=True)
class Finding:
    """A number of ours, beside the law's and the one that a paper prints, where there are such.

    It holds where it agrees with each of them within `sigmas` standard errors, and the relative tolerance `within` of a
    law that is an approximation, and the digits that are printed.
    """

    what: str
    ours: float
    error: float = 0.0  # standard error of ours; 0 where it is exact, or a single measurement
    theory: float | None = None  # the closed form at the same parameters
    published: Published | None = None
    within: float = 0.0
    interval: tuple[float, float] | None = None  # shown in place of the standard error; `what` says at which level
    sigmas: float = 4.5

    @classmethod
    def of_mean(cls, what: str, samples: Any, **about: Any) -> Finding:
        """From independent replicates [replicates]."""
        samples = np.asarray(samples, np.float64)
        error = samples.std(ddof=1) / math.sqrt(len(samples))
        return cls(what, float(samples.mean()), float(error), **about)

    @property
    def holds(self) -> bool:
        aims = []  # (number, how far from it ours may be, beside its error)
        if self.theory is not None:
            aims.append((self.theory, self.within * abs(self.theory)))
        if self.published is not None:
            aims.append((self.published.value, self.published.slack))
        near = all(abs(self.ours - aim) <= self.sigmas * self.error + slack for aim, slack in aims)
        return math.isfinite(self.ours) and near

    def cells(self) -> tuple[str, str, str]:
        """Published, theory, ours."""
        theory = "" if self.theory is None else f"{self.theory:.5g}"
        if self.published is None:
            return "", theory, self._ours()
        read = f", ± {100 * self.published.within:g} %" if self.published.within else ""
        return f"{self.published.printed} ({self.published.where}{read})", theory, self._ours()

    def _ours(self) -> str:
        if self.interval is not None:
            low, high = (f"{end:.3g}" for end in self.interval)
            return f"{self.ours:.3g} [{low}, {high}]"
        if not self.error:
            return f"{self.ours:.4g}"
        digits = 4  # as many as the error leaves
        if self.ours:
            digits = min(5, max(2, 2 + math.ceil(math.log10(abs(self.ours) / self.error))))
        error = f"{self.error:.1g}" if self.error < 9.5 else f"{self.error:.0f}"
        return f"{self.ours:.{digits}g} ± {error}"


@dataclass(frozen=True)
class Claim:
    """A statement that ours bears out or not, beside what a law and a paper say of it, where they do."""

    what: str
    ours: bool
    theory: bool | None = None
    published: bool | None = None

    @property
    def holds(self) -> bool:
        return all(said is None or said == self.ours for said in (self.theory, self.published))

    def cells(self) -> tuple[str, str, str]:
        """Published, theory, ours."""
        said = {True: "yes", False: "no", None: ""}
        return said[self.published], said[self.theory], said[self.ours]


Cell = tuple[np.ndarray, np.ndarray]  # samples [chains, fits] and their law [fits]


def largest_z(what: str, groups: Sequence[Sequence[Cell]], draws: int = 400) -> Finding:
    """The largest distance of a mean from its law, in standard errors, of all fits of all cells.

    Beside it, as theory, what it is on average where all laws are right, and as error its standard deviation there: of
    chains drawn again with replacement, their means against the mean of all in standard errors of their own
    (bootstrap-t).  The same chains are drawn at all fits and in all cells of a group, whose chains share their keys.
    """
    chance, ours, right = np.random.default_rng(0), 0.0, np.zeros(draws)
    for group in groups:
        chains = len(group[0][0])
        share = chance.multinomial(chains, np.full(chains, 1 / chains), draws) / chains  # [draws, chains]
        for samples, law in group:
            mean = samples.mean(0)  # [fits]
            apart = (samples - mean) / samples.std(0)  # [chains, fits]
            again = share @ apart  # [draws, fits]
            error = np.sqrt((share @ apart**2 - again**2) / (chains - 1))  # [draws, fits]
            right = np.maximum(right, np.abs(again / error).max(1))
            ours = max(ours, float(np.abs((mean - law) / samples.std(0, ddof=1)).max() * math.sqrt(chains)))
    what = f"{what}: largest |z| of {sum(map(len, groups))} cells at all fits"
    return Finding(what, ours, float(right.std(ddof=1)), theory=float(right.mean()))


@dataclass(frozen=True)
class Reproduction:
    """What an experiment's `reproduce()` returns: its findings, and the paper's figure with the theory in it.

    `note` says what the errors do not hold, where replicates are not independent in everything.
    """

    findings: Sequence[Finding | Claim]
    figure: Figure
    note: str = ""
