"""The design space of Karras et al. 2022, arXiv:2206.00364: preconditioning, log-normal noise, Heun's method, churn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri
from scipy.special import ndtri as exact_ndtri

from generators.steps import LONGEST, Steps, check_schedule
from simulator.checks.fields import NonNegative, Positive
from simulator.types import Array, GenlossError


@dataclass(frozen=True, kw_only=True)
class EDM:
    """x0 + σε at noise levels σ, told F(c_in·(x0 + σε), c_noise), D = c_skip·(x0 + σε) + c_out·F the row it means.

    c_skip = σ_d²/(σ² + σ_d²), c_out = σσ_d/√(σ² + σ_d²), c_in = 1/√(σ² + σ_d²), c_noise = ln(σ)/4 (Table 1), so that
    what F sees and what it is to tell have variance 1 for rows of standard deviation σ_d; ln σ ~ N(p_mean, p_std²) in
    training, and E‖F - target‖² is then the paper's loss, whose weight (σ² + σ_d²)/(σσ_d)² is 1/c_out².  A step's x is
    c_in·(x0 + σε), in which Euler's method on the paper's equation is a step of DDIM; Heun's method (Algorithm 1)
    takes 2n - 1 calls of the network for n steps, its second call a line of the table that remembers the ε̂ before it.
    With `s_churn` noise is added before each step, up to σ(1 + min(s_churn/n, √2 - 1)) (Algorithm 2).  The names are
    those of k-diffusion and of the `scheduler_config.json` of an EDMEulerScheduler.
    """

    sampler: Literal["euler", "heun"] = "heun"
    sigma_min: Positive = 0.002  # σ of the last step
    sigma_max: Positive = 80.0  # of the first
    sigma_data: Positive = 0.5  # σ_d, standard deviation of rows: about 0.5 of images in [-1, 1], 1 of points
    rho: Positive = 7.0  # ρ: σ^(1/ρ) falls in equal steps (eq. 5)
    p_mean: float = -1.2  # of ln σ in training
    p_std: Positive = 1.2
    s_churn: NonNegative = 0.0
    s_tmin: NonNegative = 0.0  # noise is added where σ is at least this
    s_tmax: Positive | None = None  # and at most this; None: any
    s_noise: Positive = 1.0  # standard deviation of what is added

    def __post_init__(self) -> None:
        check_schedule(self)
        if self.sigma_min >= self.sigma_max:
            raise GenlossError(f"`sigma_min` ({self.sigma_min}) must lie below `sigma_max` ({self.sigma_max}).")

    @property
    def prediction_type(self) -> Literal["edm"]:
        return "edm"

    def at(self, u: Array) -> tuple[Array, Array, Array]:
        """(c_noise, a, s) at times u in [0, 1), the shape of u: ln σ is normal where u is uniform."""
        log_sigma = self.p_mean + self.p_std * ndtri(jnp.maximum(u, 2.0**-24))
        sigma = jnp.exp(log_sigma)
        a = 1 / jnp.sqrt(sigma**2 + self.sigma_data**2)
        return log_sigma / 4, a, sigma * a

    def steps(self, n: int, stop: float = 0.0) -> tuple[Steps, float]:
        """(the lines of a sampler that takes n steps from σ_max to 0, the signal where it ends).

        With `stop` it ends at the σ that training lies below with this chance; steps below it are left out.
        """
        if not 1 <= n <= LONGEST:
            raise GenlossError(f"A sampler of {n} steps cannot be; give between 1 and {LONGEST:,}.")
        high, low = self.sigma_max ** (1 / self.rho), self.sigma_min ** (1 / self.rho)
        sigma = (high + np.linspace(0, 1, n) * (low - high)) ** self.rho  # [n]
        end = float(np.exp(self.p_mean + self.p_std * exact_ndtri(stop))) if stop else 0.0
        sigma = sigma[sigma > end]
        if not len(sigma):
            raise GenlossError(f"No step of the sampler comes before `stop`, {stop}; lower it.")
        churned = (sigma >= self.s_tmin) & (sigma <= (np.inf if self.s_tmax is None else self.s_tmax))
        raised = sigma * (1 + churned * min(self.s_churn / n, np.sqrt(2) - 1))  # [n]: where a step begins
        then = np.append(sigma[1:], end)  # where it ends
        beyond = np.append(raised[1:], end)  # where the next one begins
        grow = self._signal(beyond) / self._signal(then)
        fresh = self._signal(beyond) * np.sqrt(beyond**2 - then**2) * self.s_noise
        lines = []
        for now, to, g, f in zip(raised, then, grow, fresh, strict=True):
            a, half = self._signal(to), self._signal(to) * (to - now) / 2
            second = self.sampler == "heun" and to > 0
            scale, noise = (1.0, 0.0) if second else (g, f)
            lines.append((*self._seen(now), scale * a, 0.0, scale * to * a, noise, 0.0))
            if second:  # x + (σ' - σ)(ε̂' - ε̂)/2, from where Euler's step ended
                lines.append((*self._seen(to), 0.0, g, g * half, f, -g * half))
        return Steps(*np.array(lines, np.float32).T), float(self._signal(end))

    def _signal(self, sigma: Any) -> Any:
        return 1 / np.sqrt(sigma**2 + self.sigma_data**2)

    def _seen(self, sigma: float) -> tuple[float, float, float]:
        """(c_noise, a, s)."""
        return np.log(sigma) / 4, self._signal(sigma), sigma * self._signal(sigma)

    @property
    def reach(self) -> None:
        """Nothing is clipped."""

    def for_images(self, images: bool) -> EDM:
        return self

    def config(self) -> dict[str, Any]:
        """What diffusers reads as `scheduler_config.json`."""
        if self.sampler != "euler" or self.s_churn:
            raise GenlossError("diffusers samples EDM by Euler's method; set `sampler` to 'euler' and `s_churn` to 0.")
        names = ("sigma_min", "sigma_max", "sigma_data", "rho")
        return {"_class_name": "EDMEulerScheduler", **{name: getattr(self, name) for name in names}}
