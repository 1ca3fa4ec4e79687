"""The step after training: which weights a fit of a `Trained` generator ends with.

A finish `training -> (params, report)` may look at the average of the weights that training went through, at the last
of them and, where it says `looks_back`, at those that training began at: with `start="previous"` the last generation's.
What a generator fits in closed form is no weight, and stays as it was fitted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Protocol, runtime_checkable

import jax

from simulator.checks.fields import NonNegative, Share, check
from simulator.types import Array, Params

if TYPE_CHECKING:
    from generators.train import Training


@runtime_checkable
class Step(Protocol):
    """What is made of a training that has taken its steps."""

    looks_back: ClassVar[bool]  # whether `training.start` is kept for it

    def __call__(self, training: Training) -> tuple[Params, dict[str, Array]]: ...


Finish = Annotated[Step, "a finish, such as Average() or Merge(0.5)"]


@dataclass(frozen=True)
class Average:
    """The moving average of the weights, whose decay is the generator's `average`."""

    looks_back: ClassVar[bool] = False

    def __call__(self, training: Training) -> tuple[Params, dict[str, Array]]:
        return training.average, {"loss": training.loss}


@dataclass(frozen=True)
class Extrapolate:
    """θ + strength·(θ - θ₀): the average θ, moved on along what training did to the weights θ₀ that it began at.

    A negative strength goes back, and below -1 beyond the start, whatever was trained on; `Negate` does where that was
    the chain's own rows.  Differences of weights as directions: Ilharco et al. 2023, arXiv:2212.04089.
    """

    strength: float | Array = 0.5  # of the step, in lengths of θ - θ₀; 0 is Average()
    looks_back: ClassVar[bool] = True

    __post_init__ = check

    def __call__(self, training: Training) -> tuple[Params, dict[str, Array]]:
        move = lambda now, start: now + self.strength * (now - start)  # noqa: E731
        return jax.tree.map(move, training.average, training.start), {"loss": training.loss}


@dataclass(frozen=True)
class Merge:
    """(1 - share)·θ + share·θ₀: the average θ, and the weights θ₀ that training began at (Wortsman et al. 2022,
    arXiv:2109.01903)."""

    share: Share | Array = 0.5  # of θ₀: 0 is Average(), 1 learns nothing
    looks_back: ClassVar[bool] = True

    __post_init__ = check

    def __call__(self, training: Training) -> tuple[Params, dict[str, Array]]:
        mixed = lambda now, start: (1 - self.share) * now + self.share * start  # noqa: E731
        return jax.tree.map(mixed, training.average, training.start), {"loss": training.loss}


@dataclass(frozen=True)
class Negate:
    """θ - strength·s·(θ - θ₀): takes back what the average θ learned of its own chain's rows, a share s of the diet.

    θ₀ are the weights that training began at; with `start="previous"` those of the last generation.  A fit on real rows
    alone, as generation 0 is, ends as it would without.  Where the chain wrote all rows, a strength between 0 and 1
    averages over generations, in which the fit of k generations ago counts (1 - strength)·strength^k; 1 learns nothing;
    above 1 it negates the task vector θ - θ₀ (Ilharco et al. 2023, arXiv:2212.04089): 1 + w gives (1 + w)·θ₀ - w·θ, the
    negative extrapolation of Neon (Alemohammad et al. 2025, arXiv:2510.03597).
    """

    strength: NonNegative | Array = 1.0  # 0 is Average()
    looks_back: ClassVar[bool] = True

    __post_init__ = check

    def __call__(self, training: Training) -> tuple[Params, dict[str, Array]]:
        assert training.synthetic is not None
        back = self.strength * training.synthetic  # []
        taken = lambda now, start: now - back * (now - start)  # noqa: E731
        return jax.tree.map(taken, training.average, training.start), {"loss": training.loss}
