"""What a recipe may say of itself beside its weights, and what it may ask of a chain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol

from simulator.pool import Pool, Rows
from simulator.types import Array, GenlossError, Recipe

Score = Callable[[Rows], Array] | Literal["model"]  # `rows -> [n]`, or what the last model thinks of them


class Sizes(Protocol):
    """What a recipe may know of the chain that it is part of: how many rows there are of each kind."""

    @property
    def real(self) -> int: ...

    @property
    def rows(self) -> int: ...

    @property
    def fresh(self) -> int: ...


def check(recipe: Recipe, chain: Sizes) -> None:
    """Raises `GenlossError` if the chain cannot satisfy the recipe; a recipe without `check` is taken at its word."""
    if own := getattr(recipe, "check", None):
        own(chain)


def horizon(recipe: Recipe, chain: Sizes) -> int | None:
    """Past generations the recipe can still give weight to; None where it does not say."""
    own = getattr(recipe, "horizon", None)
    return own(chain) if own else None


def most(recipe: Recipe, chain: Sizes) -> int | None:
    """The most rows the recipe ever gives weight to; None where it does not say."""
    own = getattr(recipe, "most", None)
    return own(chain) if own else None


def weighs_alike(recipe: Recipe) -> bool:
    """Whether all synthetic rows weigh the same at every fit, so that cohorts of them may be kept as one."""
    return getattr(recipe, "weighs_alike", False)


def forgets_real(recipe: Recipe) -> bool:
    """Whether generation 0's real rows fall out of reach like any other data set; False where it does not say."""
    return getattr(recipe, "forgets_real", False)


def wants_scores(recipe: Recipe) -> bool:
    """Whether the recipe reads `pool.scores`, which the chain works out for it; False where it does not say."""
    return getattr(recipe, "wants_scores", False)


def step(recipe: Recipe, name: str) -> float | None:
    """What a share that counts whole rows moves by; None for other fields, and where the recipe does not say."""
    own = getattr(recipe, "step", None)
    return own(name) if own else None


class Reach(NamedTuple):
    """All that a recipe says of its weights before it gives any; what it does not say is the safe guess."""

    horizon: int | None = None  # past generations it can still give weight to; None: all
    most: int | None = None  # the most rows it ever gives weight to; None: all
    forgets_real: bool = False  # whether generation 0's real rows fall under the horizon, too
    weighs_alike: bool = False  # whether all synthetic rows weigh the same at every fit
    wants_scores: bool = False  # whether it reads what the last model thinks of rows


def reach(recipe: Recipe, chain: Sizes) -> Reach:
    alike, asks = weighs_alike(recipe), wants_scores(recipe)
    return Reach(horizon(recipe, chain), most(recipe, chain), forgets_real(recipe), alike, asks)


def judged(score: Score, pool: Pool) -> Array:
    """The score of every row, [capacity]."""
    if score != "model":
        return score(pool.rows)
    if pool.scores is None:
        raise GenlossError("This pool has no scores of a model; a recipe that reads them says `wants_scores = True`.")
    return pool.scores
