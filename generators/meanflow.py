"""Flow matching in one step: a network that tells the mean velocity over a stretch of the straight path."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from generators.steps import LONGEST, Steps, check_schedule
from simulator.checks.fields import Share
from simulator.numerics.chance import fold_in, uniform
from simulator.types import Array, GenlossError, Key


@dataclass(frozen=True, kw_only=True)
class MeanFlow:
    """The straight path x = (1 - t)·x0 + t·ε of `Flow`, and u(x, r, t) = 1/(t - r) ∫_r^t v dτ, the mean of its velocity
    v on the way from t back to r, which ends at x - (t - r)·u, in one step (Geng et al. 2025, arXiv:2505.13447).

    u = v - (t - r) du/dt (eq. 6), d/dt along the path at fixed r, by one `jax.jvp`; the right side, with ε - x0 for v,
    is what the network is to tell, and has no gradient (eq. 9 to 11).  Where r = t it is flow matching.  Times are
    uniform, one for r = t or the two of a pair, sorted; losses have no weight.  The network is told t and t - r,
    `times=2` of `Denoiser`, as they are: a derivative in time of waves that are many to the path would be large.
    """

    apart: Share = 0.25  # of a batch's rows, those with r < t

    def __post_init__(self) -> None:
        check_schedule(self)

    @property
    def prediction_type(self) -> Literal["velocity"]:
        return "velocity"

    def at(self, u: Array) -> tuple[Array, Array, Array]:
        """((t, 0) [n, 2], a, s) at times u [n] in [0, 1): of the velocity at t.

        Where u is uniform t is so with chance 1 - p, p = `apart`, else the later of two: u = (1 - p)·t + p·t².
        """
        level = 1 - self.apart
        t = 2 * u / (level + jnp.sqrt(level**2 + 4 * self.apart * u) + jnp.finfo(jnp.float32).tiny)
        return jnp.stack([t, jnp.zeros_like(t)], -1), 1 - t, t

    def averaged(
        self, key: Key, net: Callable[[Array, Array], Array], x: Array, t: Array, v: Array
    ) -> tuple[Array, Array]:
        """(u(x, r, t) by the network, what it is to be), for rows x [n, *shape] at t [n, 2] whose velocity is v."""
        n, end = len(x), t[:, 0]  # [n]
        later = 2 * self.apart * end  # [n]: density of the later of two, against that of one
        apart = uniform(fold_in(key, 0), (n,)) * (1 - self.apart + later) < later
        span = end * uniform(fold_in(key, 1), (n,)) * apart  # [n]: t - r
        told, rate = jax.jvp(net, (x, jnp.stack([end, span], -1)), (v, jnp.ones_like(t)))  # [n, *shape] each
        return told, jax.lax.stop_gradient(v - span.reshape(-1, *[1] * (x.ndim - 1)) * rate)

    def steps(self, n: int, stop: float = 0.0) -> tuple[Steps, float]:
        """(n even steps from t = 1 to 0, the signal where they end); with `stop` those above it, which end there."""
        if not 1 <= n <= LONGEST:
            raise GenlossError(f"A sampler of {n} steps cannot be; give between 1 and {LONGEST:,}.")
        edge = np.linspace(1.0, 0.0, n + 1)
        edge = np.append(edge[edge > stop], stop)
        now, then = edge[:-1], edge[1:]
        none = np.zeros(len(now))
        columns = np.stack([now, now - then], 1), 1 - now, now, 1 - then, none, then, none, none
        return Steps(*(c.astype(np.float32) for c in columns)), float(1 - then[-1])

    @property
    def sigma_data(self) -> float:
        """What is told does not depend on how wide rows are spread."""
        return 1.0

    @property
    def reach(self) -> None:
        """Nothing is clipped."""

    def for_images(self, images: bool) -> MeanFlow:
        return self

    def config(self) -> dict[str, Any]:
        """What diffusers reads as `scheduler_config.json`."""
        raise GenlossError("diffusers has no sampler of mean velocities; train a Flow to write one out.")
