"""How rows turn into noise and back: diffusers' schedules by name and by config, a table of steps each."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import jax.numpy as jnp
import numpy as np

from generators.edm import EDM
from generators.steps import LONGEST, Steps, check_schedule
from simulator.checks.fields import Positive, Range, Share, Whole
from simulator.checks.foreign import read_json, shown, typed
from simulator.running.spec import unknown
from simulator.types import Array, GenlossError


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Diffusion in discrete time with variance kept: a = √ᾱ_t, s = √(1 - ᾱ_t), ᾱ_t = Π_{i <= t} (1 - β_i).

    Fields other than `sampler` and `eta` have the names, the meaning and, where they are left out, the values that they
    have in the `scheduler_config.json` of a DDPMScheduler or DDIMScheduler.  Ho et al. 2020, arXiv:2006.11239 (the
    posterior, eq. 6 and 7); Song et al. 2021, arXiv:2010.02502 (eq. 12 and 16); Lin et al. 2024, arXiv:2305.08891
    (spacings, and betas rescaled so that nothing of the row is left at the last t).
    """

    sampler: Literal["ddpm", "ddim"] = "ddpm"
    eta: Share = 0.0  # of DDIM: 0 adds no noise, 1 as much as DDPM
    num_train_timesteps: Annotated[int, Range(2, LONGEST)] = 1000  # T
    beta_start: float = 0.0001  # of the first t
    beta_end: float = 0.02  # of the last t
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"] = "linear"
    trained_betas: tuple[float, ...] | None = None  # betas themselves, in place of a schedule by name
    prediction_type: Literal["epsilon", "sample", "v_prediction"] = "epsilon"  # what the network tells; "sample" is x0
    variance_type: Literal["fixed_small", "fixed_small_log", "fixed_large"] = "fixed_small"  # of DDPM's noise
    clip_sample: bool | None = None  # clip the x0 that a step believes in; None: for images
    clip_sample_range: Positive = 1.0  # to at most this on either side of 0
    timestep_spacing: Literal["leading", "trailing", "linspace"] = "leading"
    steps_offset: Whole = 0  # added to every t of the leading spacing
    set_alpha_to_one: bool = True  # DDIM's last step ends at ᾱ = 1; else at ᾱ_0
    rescale_betas_zero_snr: bool = False  # shift and scale √ᾱ so that it ends at 0

    def __post_init__(self) -> None:
        check_schedule(self)
        if self.trained_betas is not None and len(self.trained_betas) != self.num_train_timesteps:
            raise GenlossError(
                f"`trained_betas` holds {len(self.trained_betas)} numbers; give one for each of the "
                f"{self.num_train_timesteps} of `num_train_timesteps`."
            )
        with np.errstate(all="ignore"):  # roots of what is below 0, and infinities, end in NaN, which is not above 0
            betas = self.betas
        if not ((betas > 0).all() and (betas[:-1] < 1).all() and betas[-1] <= 1):
            raise GenlossError(
                "Betas must lie above 0 and below 1 (the last may be 1); look at `beta_start`, `beta_end` and "
                "`trained_betas`."
            )
        if self.eta and self.sampler != "ddim":
            raise GenlossError("`eta` is of the sampler 'ddim'; for 'ddpm' leave it out.")
        if betas[-1] == 1 and self.prediction_type == "epsilon":
            raise GenlossError(
                "Where nothing of a row is left, ε says nothing of it; with `rescale_betas_zero_snr` predict "
                "'v_prediction' or 'sample'."
            )

    @property
    def betas(self) -> np.ndarray:
        """[T] float64."""
        T, low, high = self.num_train_timesteps, self.beta_start, self.beta_end
        if self.trained_betas is not None:
            betas = np.array(self.trained_betas, np.float64)
        elif self.beta_schedule == "linear":
            betas = np.linspace(low, high, T)
        elif self.beta_schedule == "scaled_linear":
            betas = np.linspace(np.sqrt(low), np.sqrt(high), T) ** 2
        elif self.beta_schedule == "sigmoid":
            betas = low + (high - low) / (1 + np.exp(-np.linspace(-6, 6, T)))
        else:  # ᾱ is the square of a cosine (Nichol & Dhariwal 2021, arXiv:2102.09672, eq. 17)
            kept = np.cos((np.arange(T + 1) / T + 0.008) / 1.008 * np.pi / 2) ** 2  # [T + 1]
            betas = np.minimum(1 - kept[1:] / kept[:-1], 0.999)
        if not self.rescale_betas_zero_snr:
            return betas
        root = np.sqrt(np.cumprod(1 - betas))  # [T]
        kept = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2  # [T], from what it was to 0
        return 1 - kept / np.concatenate([[1.0], kept[:-1]])

    @property
    def alphas_cumprod(self) -> np.ndarray:
        """ᾱ [T] float64."""
        return np.cumprod(1 - self.betas)

    def at(self, u: Array) -> tuple[Array, Array, Array]:
        """(t, a, s) at times u in [0, 1), the shape of u: t is uniform on 0..T-1 where u is uniform."""
        t = jnp.floor(u * self.num_train_timesteps)
        kept = self.alphas_cumprod  # [T]
        a, s = (jnp.asarray(table, jnp.float32)[t.astype(jnp.int32)] for table in (np.sqrt(kept), np.sqrt(1 - kept)))
        return t, a, s

    def steps(self, n: int, stop: float = 0.0) -> tuple[Steps, float]:
        """(the steps of a sampler that takes n from pure noise to a row, the signal where it ends).

        With `stop` the last ends at that share of the times 1..T; steps within it are left out.
        """
        T, ratio = self.num_train_timesteps, self.num_train_timesteps // max(n, 1)
        if not 1 <= n <= T:
            raise GenlossError(f"A sampler of {n} steps cannot be; give between 1 and {T}, the steps of the schedule.")
        if self.timestep_spacing == "leading":
            t = np.arange(n)[::-1] * ratio + self.steps_offset  # [n]
        elif self.timestep_spacing == "trailing":
            t = np.round(np.arange(T, 0, -T / n)).astype(int) - 1
        else:
            t = np.round(np.linspace(0, T - 1, n))[::-1].astype(int)
        if t[0] >= T:
            raise GenlossError(
                f"The first of {n} steps is at t = {t[0]}, beyond the schedule; lower `steps_offset` or the steps."
            )
        end = round(stop * T) - 1  # -1: the row itself
        t = t[t > end]
        if not len(t):
            raise GenlossError(f"No step of the sampler comes before `stop`, {stop}; lower it or take more steps.")
        # Each step of DDPM ends where the next begins; those of DDIM are of one length, as diffusers has it, which is
        # the same where the spacing is even.  Below 0 is the row itself.
        after = np.append(t[1:], -1) if self.sampler == "ddpm" else t - ratio
        if end >= 0:
            after[-1] = end
        table = self.alphas_cumprod
        last = 1.0 if self.sampler == "ddpm" or self.set_alpha_to_one else table[0]
        now, then = table[t], np.where(after >= 0, table[after], last)  # ᾱ before and after each step
        beta, none = 1 - now / then, np.zeros(len(t))
        spread = np.sqrt((1 - then) / (1 - now) * beta)  # of the posterior of x' given x and x0
        if self.sampler == "ddpm":
            clean = np.sqrt(then) * beta / (1 - now)
            keep = np.sqrt(now / then) * (1 - then) / (1 - now)
            fresh = np.where(t > 0, np.sqrt(beta) if self.variance_type == "fixed_large" else spread, 0)
            columns = clean, keep, none, fresh
        else:
            fresh = self.eta * spread
            columns = np.sqrt(then), none, np.sqrt(np.maximum(1 - then - fresh**2, 0)), fresh
        found = Steps(*(c.astype(np.float32) for c in (t, np.sqrt(now), np.sqrt(1 - now), *columns, none)))
        return found, float(np.sqrt(then[-1])) if stop else 1.0

    @property
    def sigma_data(self) -> float:
        """What is told does not depend on how wide rows are spread."""
        return 1.0

    @property
    def reach(self) -> float | None:
        """The largest value of x0 that a step believes in."""
        return self.clip_sample_range if self.clip_sample else None

    def for_images(self, images: bool) -> Noise:
        """The same, with `clip_sample` decided."""
        return self if self.clip_sample is not None else dataclasses.replace(self, clip_sample=images)

    def config(self) -> dict[str, Any]:
        """What diffusers reads as `scheduler_config.json`."""
        if self.sampler == "ddim" and self.beta_schedule == "sigmoid" and self.trained_betas is None:
            raise GenlossError("diffusers has no DDIMScheduler with sigmoid betas; give them as `trained_betas`.")
        name, left_out = _CLASSES[self.sampler]
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in left_out}
        betas = None if self.trained_betas is None else list(self.trained_betas)
        return {"_class_name": name, **fields, "trained_betas": betas, "clip_sample": self.clip_sample is not False}


@dataclass(frozen=True, kw_only=True)
class Flow:
    """The straight path of flow matching: a = 1 - σ, s = σ, walked from σ = 1 to 0 by Euler's method.

    The network is told T·σ and tells the velocity dx/dσ = ε - x0, or x0 or v.  Lipman et al. 2023, arXiv:2210.02747;
    Liu et al. 2023, arXiv:2209.03003.  `num_train_timesteps` and `shift` are those of the `scheduler_config.json` of a
    FlowMatchEulerDiscreteScheduler, which always takes the velocity.
    """

    num_train_timesteps: Annotated[int, Range(2, LONGEST)] = 1000  # T: what the network is told at σ = 1
    shift: Positive = 1.0  # times are drawn, and steps laid, uniformly in u, σ = shift·u / (1 + (shift - 1)·u)
    prediction_type: Literal["velocity", "sample", "v_prediction"] = "velocity"

    def __post_init__(self) -> None:
        check_schedule(self)

    def at(self, u: Array) -> tuple[Array, Array, Array]:
        """(t, a, s) at times u in [0, 1), the shape of u."""
        sigma = self._shifted(u)
        return self.num_train_timesteps * sigma, 1 - sigma, sigma

    def steps(self, n: int, stop: float = 0.0) -> tuple[Steps, float]:
        """(n steps of Euler's method from σ = 1 to 0 or, with `stop`, to σ = stop, the signal where they end)."""
        if not 1 <= n <= self.num_train_timesteps:
            raise GenlossError(f"A sampler of {n} steps cannot be; give between 1 and {self.num_train_timesteps}.")
        least = self._shifted(1 / self.num_train_timesteps)  # and shifted once more, as diffusers does
        sigma = self._shifted(np.linspace(1.0, least, n))  # [n]
        sigma = np.append(sigma[sigma > stop], stop)  # [n + 1]; with `stop`, those above it
        now, then = sigma[:-1], sigma[1:]
        none = np.zeros(len(now))
        columns = self.num_train_timesteps * now, 1 - now, now, 1 - then, none, then, none, none
        return Steps(*(c.astype(np.float32) for c in columns)), float(1 - then[-1])

    def _shifted(self, u: Any) -> Any:
        return self.shift * u / (1 + (self.shift - 1) * u)

    @property
    def sigma_data(self) -> float:
        """What is told does not depend on how wide rows are spread."""
        return 1.0

    @property
    def reach(self) -> None:
        """Nothing is clipped."""

    def for_images(self, images: bool) -> Flow:
        return self

    def config(self) -> dict[str, Any]:
        """What diffusers reads as `scheduler_config.json`."""
        if self.prediction_type != "velocity":
            raise GenlossError("diffusers has no flow that predicts anything but the velocity; train such a one.")
        return {
            "_class_name": _FLOW,
            "num_train_timesteps": self.num_train_timesteps,
            "shift": self.shift,
        }


# What diffusers calls them, and what is not in their configs.
_CLASSES = {
    "ddpm": ("DDPMScheduler", ("sampler", "eta", "set_alpha_to_one")),
    "ddim": ("DDIMScheduler", ("sampler", "eta", "variance_type")),
}
_FLOW, _EDM = "FlowMatchEulerDiscreteScheduler", "EDMEulerScheduler"
# Keys that must have the one value a sampler here has, and keys that then mean nothing.
_FIXED: dict[str, dict[str, Any]] = {
    "DDPMScheduler": {"thresholding": False, "timestep_values": None},
    "DDIMScheduler": {"thresholding": False, "timestep_values": None},
    _FLOW: {
        "use_dynamic_shifting": False,
        "invert_sigmas": False,
        "shift_terminal": None,
        "use_karras_sigmas": False,
        "use_exponential_sigmas": False,
        "use_beta_sigmas": False,
        "stochastic_sampling": False,
    },
    _EDM: {"sigma_schedule": "karras", "final_sigmas_type": "zero", "prediction_type": "epsilon"},
}
# `tensor_format` is of the first versions, and `skip_prk_steps` of another sampler that many models come with.
_BOTH = ("dynamic_thresholding_ratio", "sample_max_value", "tensor_format", "skip_prk_steps")
_IDLE = {
    "DDPMScheduler": _BOTH,
    "DDIMScheduler": _BOTH,
    _FLOW: ("base_shift", "max_shift", "base_image_seq_len", "max_image_seq_len", "time_shift_type"),
    _EDM: ("num_train_timesteps",),
}


def read(config: Mapping[str, Any] | str | os.PathLike[str]) -> Noise | Flow | EDM:
    """The schedule of a `scheduler_config.json`, as the file or what is in it; raises on what it cannot follow.

    `timesteps`, which the first versions wrote for `num_train_timesteps`, is passed over by diffusers of today, which
    then takes 1,000: it is followed where it says 1,000, and refused where the two would differ.
    """
    where = "the scheduler's configuration"
    if not isinstance(config, Mapping):
        where = os.fspath(config)
        config = read_json(Path(config))
    name = str(config.get("_class_name"))
    if name not in _FIXED:
        raise GenlossError(unknown(name, list(_FIXED), "There is no sampler here for the scheduler"))
    given = {key: value for key, value in config.items() if not key.startswith("_") and key not in _IDLE[name]}
    for key, value in _FIXED[name].items():
        if given.pop(key, value) != value:
            raise GenlossError(f"A {name} with `{key}` {config[key]!r} has no sampler here; set it to {value!r}.")
    if (old := given.pop("timesteps", None)) not in (None, given.get("num_train_timesteps", 1000)):
        raise GenlossError(
            f"A {name} of {shown(old)} `timesteps` is one of another length for diffusers; write them as "
            "`num_train_timesteps`."
        )
    kind, known, ours = _READ[name]
    for key in given:
        if key not in known:
            raise GenlossError(unknown(key, known, f"A {name} has no"))
    given = typed(kind, given, where)
    return kind(**ours, **({"clip_sample": True, **given} if kind is Noise else given))


def _known(kind: Any, left_out: tuple[str, ...]) -> list[str]:
    return [f.name for f in dataclasses.fields(kind) if f.name not in left_out]


# What each of them is here: its class, the keys it knows, and the fields that no key gives.
_READ: dict[str, tuple[Any, list[str], dict[str, Any]]] = {
    **{name: (Noise, _known(Noise, left_out), {"sampler": s}) for s, (name, left_out) in _CLASSES.items()},
    _FLOW: (Flow, _known(Flow, ("prediction_type",)), {}),
    _EDM: (EDM, ["sigma_min", "sigma_max", "sigma_data", "rho"], {"sampler": "euler"}),
}
