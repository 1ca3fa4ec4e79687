"""Schedules of noise as diffusers names them, and what single steps are tried on."""

from typing import Any

import numpy as np

DDPM: dict[str, Any] = {
    "plain": {},
    "scaled": {"beta_schedule": "scaled_linear", "prediction_type": "v_prediction", "timestep_spacing": "trailing"},
    "cosine": {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "sample", "variance_type": "fixed_large"},
    "sigmoid": {"beta_schedule": "sigmoid", "timestep_spacing": "linspace", "clip_sample": False},
    "range": {"clip_sample_range": 0.3, "variance_type": "fixed_small_log", "steps_offset": 1},
    "zero": {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "timestep_spacing": "trailing"},
    "given": {"trained_betas": np.linspace(0.001, 0.1, 60).tolist(), "num_train_timesteps": 60},
}
DDIM: dict[str, Any] = {
    **{name: {k: v for k, v in c.items() if k != "variance_type"} for name, c in DDPM.items() if name != "sigmoid"},
    "end": {"set_alpha_to_one": False, "steps_offset": 1, "prediction_type": "v_prediction"},
    "linspace": {"timestep_spacing": "linspace"},
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"DDPM, {name}": ("DDPMScheduler", c) for name, c in DDPM.items()},
    **{f"DDIM, {name}": ("DDIMScheduler", c) for name, c in DDIM.items()},
}
FLOW = "FlowMatchEulerDiscreteScheduler"
FLOWS: dict[str, tuple[str, dict[str, Any]]] = {"flow": (FLOW, {}), "flow, shifted": (FLOW, {"shift": 3.0})}
AT = (0.0, 0.01, 0.3, 0.7, 1.0)  # where betas are looked at, as shares of the schedule
STEPS = (7, 20)
ETAS: dict[str, tuple[float | None, ...]] = {"DDPMScheduler": (None,), "DDIMScheduler": (0.0, 0.6), FLOW: (None,)}


def inputs(i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(x, what the network told, noise) of step i, [1, 4] each; wide enough that an x0 is clipped."""
    return tuple(1.5 * np.sin(np.arange(4.0) * (3 + k) + i + k)[None] for k in range(3))  # pyright: ignore
