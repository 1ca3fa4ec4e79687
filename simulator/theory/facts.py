"""What laws ask of a chain: who learns, from what truth, and what every fit eats."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from simulator.chain import Chain
from simulator.recipe.choosing import Curate
from simulator.recipe.combine import Then
from simulator.recipe.mixing import Accumulate
from simulator.sources.truth import Truth
from simulator.theory.gaussian import Values
from simulator.theory.table import TRUTH, plain, seen_through
from simulator.theory.workflow import Portions, portions
from simulator.types import GenlossError, Recipe


class Facts:
    """A chain seen through its cohorts and its society."""

    def __init__(self, chain: Chain, generations: int) -> None:
        self.chain, self.generations = chain, generations
        self.model, self.each = seen_through(chain.generator)
        self.kind = kind(self.model)
        self.source = chain.source if isinstance(chain.source, Truth) else None
        self.truth: Any = None if self.source is None else seen_through(self.source.generator)[0]

    @functools.cached_property
    def params(self) -> Any:
        """The parameters of the truth, on the host in float64."""
        assert self.source is not None
        found = self.truth.init(jax.random.key(0)) if self.source.params is None else self.source.params
        return jax.tree.map(lambda a: np.asarray(a, np.float64), found)

    def own_truth(self) -> None:
        """Raises where the truth is of another kind than the model."""
        if self.truth is None or kind(self.truth) != self.kind:
            what = type(self.chain.source if self.truth is None else self.truth).__name__
            raise GenlossError(f"no law is known for {self.kind} fitted to {what}; the truth differs.")

    @functools.cached_property
    def spread(self) -> tuple[Values, Values]:
        """(mean [d], covariance [d, d]) of real rows."""
        known = kind(self.truth)
        p: Any = self.params if known in ("Gaussian", "Mixture", "KDE") else None
        if known == "Gaussian":
            return p.mean, p.cov * float(self.truth.bias)
        if known == "Mixture":
            mean, inner = p.weights @ p.means, np.einsum("k,kij->ij", p.weights, p.covs)  # [d], [d, d]
            apart = p.means - mean  # [k, d]
            return mean, inner + (p.weights[:, None] * apart).T @ apart
        if known == "KDE":
            share = p.weight / p.weight.sum()  # [size]
            mean = share @ p.rows  # [d]
            apart, smoothing = p.rows - mean, float(self.truth.bandwidth) ** 2
            return mean, (share[:, None] * apart).T @ apart + smoothing * np.eye(len(mean))
        self.own_truth()
        raise GenlossError(f"no law is known for {self.kind} fitted to {type(self.truth).__name__}.")

    # What is eaten.

    @functools.cached_property
    def eats(self) -> Portions:
        return portions(self.chain, self.generations)

    @functools.cached_property
    def curates(self) -> tuple[Portions, Curate] | None:
        """(what is eaten before it is curated, the curation), where the last step is one by the best of many."""
        recipe = plain(self.chain.recipe)
        steps: tuple[Recipe, ...] = recipe.recipes if isinstance(recipe, Then) else (recipe,)
        if not steps or not isinstance(last := steps[-1], Curate) or last.best_of is not None:
            return None
        before = Then(*steps[:-1]) if len(steps) > 1 else Accumulate()
        return portions(dataclasses.replace(self.chain, recipe=before), self.generations), last

    @functools.cached_property
    def ones(self) -> bool:
        """Whether every row eaten weighs 1, in numbers that are fixed or of which a uniform draw has the mean."""
        e = self.eats
        mass = e.mass[..., None]  # [draws, T, 1]
        alike = np.allclose(e.share * mass, e.eaten * e.each, rtol=1e-4)
        return e.draws == 1 and alike and np.allclose(e.square * mass**2, e.eaten * e.each**2, rtol=1e-4)

    @functools.cached_property
    def line(self) -> tuple[Values, Values] | None:
        """(the fit that wrote them, how many), both [T], where every fit eats rows of one writer."""
        e = self.eats
        eaten = e.share[0] > 0  # [T, classes]
        first, last = np.where(eaten, e.parents, self.generations).min(1), np.where(eaten, e.parents, -2).max(1)
        if not self.ones or (first != last).any():
            return None
        return first, np.rint(e.mass[0]).astype(int)

    @functools.cached_property
    def replaces(self) -> int:
        """n, where every fit eats n rows of the last data set; else 0."""
        if self.line is None or (self.line[0] != np.arange(self.generations) - 1).any() or np.ptp(self.line[1]):
            return 0
        return int(self.line[1][0])

    @functools.cached_property
    def grows(self) -> int:
        """n, where every data set has n rows and every fit eats of all of them, alike in expectation; else 0."""
        e, fits = self.eats, np.arange(self.generations)
        rows = np.bincount(e.data_set, e.held * e.each, self.generations)  # [data sets]
        if not self.ones or self.chain.fresh or np.ptp(rows):
            return 0
        share = np.stack([np.bincount(e.data_set, row, self.generations) for row in e.share[0]])  # [T, data sets]
        seen = fits <= fits[:, None]  # [T, data sets]
        return int(rows[0]) if np.allclose(share, seen / (fits[:, None] + 1), atol=1e-6) else 0

    @property
    def accumulates(self) -> bool:
        """Whether all rows of equal data sets are eaten."""
        return self.grows > 0 and np.allclose(self.eats.mass[0], self.grows * np.arange(1, self.generations + 1))

    @property
    def subsamples(self) -> bool:
        """Whether n of all rows of data sets of n rows are drawn uniformly."""
        single = self.grows > 0 and (self.eats.each == 1).all() and (self.eats.mass[0] == self.grows).all()
        return bool(single) and np.allclose(self.eats.drawn_from, self.grows * np.arange(1, self.generations + 1))

    @functools.cached_property
    def freshens(self) -> tuple[int, float] | None:
        """(n, α), where each diet is n rows, a fixed share α of them fresh and the rest of the last model."""
        e, fits = self.eats, np.arange(self.generations)
        share = (e.share[0] * (e.parents == TRUTH)).sum(1)[1:]  # [T - 1]
        fixed = self.ones and self.generations > 1 and not e.drawn_from.any()  # a draw from both kinds varies in α
        if not fixed or np.ptp(e.mass[0]) or (e.share[0] * (e.data_set != fits[:, None])).any() or np.ptp(share):
            return None
        return round(float(e.mass[0][0])), float(share[0])

    @functools.cached_property
    def keeps(self) -> int:
        """The rows of the first data set, where every fit eats all of it and no other real rows; else 0."""
        e = self.eats
        real = e.parents == TRUTH
        whole = e.held[real].sum() == self.chain.real and (e.eaten[..., real] == e.held[real]).all()
        if self.chain.fresh or e.drawn_from.any() or not whole:
            return 0
        return int((e.held * e.each)[real].sum())

    @property
    def averaged(self) -> str:
        return f", averaged over {self.eats.draws} draws of the recipe" if self.eats.draws > 1 else ""


def kind(model: Any) -> str:
    """The class of a generator of this package, by name: this room knows no generator, only what they are called."""
    return type(model).__name__ if type(model).__module__.partition(".")[0] == "generators" else ""
