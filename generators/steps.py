"""One step of every sampler as a line of one table, and what a network tells at a time.

A row x0 at a time t is x = a x0 + s ε with ε ~ N(0, I): a is the signal, s the noise.  A network that sees x and t
tells ε, x0, or a mixture of both, which is the same (`clean_and_noise`).  And one step of DDPM, of DDIM, of Euler's
method or of one that remembers the ε̂ before is

    x' = clean·x̂0 + keep·x + eps·ε̂ + past·(the ε̂ before) + fresh·z,   z ~ N(0, I),

so that a sampler is a table of these five numbers (`Steps`), worked out on the host in double precision.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Protocol, get_args, get_origin, get_type_hints

import jax.numpy as jnp

from simulator.checks.fields import check
from simulator.running.spec import unknown
from simulator.types import Array, GenlossError

LONGEST = 1_000_000  # steps of a schedule, which is a table
Prediction = Literal["epsilon", "sample", "v_prediction", "velocity", "edm"]


class Steps(NamedTuple):
    """The steps of a sampler, leaves [steps] float32, first step first."""

    t: Any  # what the network is told
    a: Any  # signal at t
    s: Any  # noise at t
    clean: Any
    keep: Any
    eps: Any
    fresh: Any
    past: Any


class Schedule(Protocol):
    """How rows turn into noise, and a sampler back."""

    @property
    def sigma_data(self) -> float:
        """Standard deviation of rows, where what is told depends on it; else 1."""
        ...

    @property
    def prediction_type(self) -> Any: ...

    @property
    def reach(self) -> float | None: ...


def target(kind: Prediction, x0: Array, eps: Array, a: Array, s: Array, scale: float = 1.0) -> Array:
    """What a network is to tell: ε, x0, v = aε - s·x0 (Salimans & Ho 2022, arXiv:2202.00512) or the velocity ε - x0.

    Of EDM, s·x0/scale - scale·aε, where (scale·a)² + s² = 1: F of Karras et al. 2022, arXiv:2206.00364, eq. 7.
    """
    if kind == "edm":
        return s / scale * x0 - scale * a * eps
    return {"epsilon": eps, "sample": x0, "v_prediction": a * eps - s * x0, "velocity": eps - x0}[kind]


def clean_and_noise(
    kind: Prediction, told: Array, x: Array, a: Array, s: Array, scale: float = 1.0
) -> tuple[Array, Array]:
    """(x̂0, ε̂) that what is told means at x = a·x0 + s·ε."""
    if kind == "edm":
        k = scale * a
        return scale * (k * x + s * told), s * x - k * told
    if kind == "epsilon":
        return (x - s * told) / a, told
    if kind == "sample":
        return told, (x - a * told) / s
    if kind == "v_prediction":
        return (a * x - s * told) / (a * a + s * s), (s * x + a * told) / (a * a + s * s)
    return (x - s * told) / (a + s), (x + a * told) / (a + s)


def step(
    noise: Schedule, c: Steps, told: Array, x: Array, z: Array | float, before: Array | None = None
) -> tuple[Array, Array]:
    """(x after one step c of a sampler of `noise`, ε̂ of this one), by what the network told of x.

    z ~ N(0, I), the shape of x; `before` is the ε̂ of the step before, None where nothing of it is kept.
    """
    x0, eps = clean_and_noise(noise.prediction_type, told, x, c.a, c.s, noise.sigma_data)
    if noise.reach is not None:
        x0 = jnp.clip(x0, -noise.reach, noise.reach)
    found = c.clean * x0 + c.keep * x + c.eps * eps + c.fresh * z
    return found if before is None else found + c.past * before, eps


def check_schedule(schedule: Any) -> None:
    """Raises where a field of a schedule names what it does not know, or holds what its declaration does not allow."""
    kind = type(schedule)
    for name, hint in get_type_hints(kind).items():
        known = get_args(hint)
        if get_origin(hint) is Literal and getattr(schedule, name) not in known:
            raise GenlossError(unknown(str(getattr(schedule, name)), list(known), f"{kind.__name__} has no `{name}`"))
    check(schedule)
