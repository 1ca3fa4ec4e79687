"""EDM: what is seen and told has variance 1, steps are the paper's and diffusers', Heun's error is second order."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_mean, scattered
from flax import nnx

from generators.diffusion import Diffusion
from generators.edm import EDM
from generators.noise import Flow, Noise, read
from generators.steps import Steps, clean_and_noise, step, target
from simulator import GenlossError

KEY = jax.random.key(0)
STD = 0.7  # of Gaussian rows


class Zero(nnx.Module):
    """What a new network says: 0."""

    def __init__(self, shape: Any, classes: Any, *, dtype: Any = None, rngs: Any = None):
        self.bias = nnx.Param(jnp.zeros(()))

    def __call__(self, x: Any, t: Any, label: Any = None) -> Any:
        return 0.0 * x + self.bias


def walked(noise: EDM, n: int, told: Any, x: np.ndarray, zs: Any = None) -> np.ndarray:
    """Rows after all n steps from x, in its scaled units; `told(x, σ)` in the units of rows."""
    plan, signal = noise.steps(n)
    lines = [Steps(*line) for line in zip(*(np.asarray(c, np.float64) for c in plan), strict=True)]
    before: Any = np.zeros_like(x)
    for i, c in enumerate(lines):
        z = 0.0 if zs is None else zs[i]
        x, before = step(noise, c, told(x / c.a, np.exp(4 * c.t)), x, z, before)  # pyright: ignore
    return np.asarray(x) / signal


def algorithm(noise: EDM, n: int, told: Any, x: np.ndarray, zs: Any = None) -> np.ndarray:
    """Algorithm 2 of Karras et al. 2022 (Algorithm 1 without churn), as it is written, from x = x0 + σ_max ε."""
    i = np.arange(n)
    high, low = noise.sigma_max ** (1 / noise.rho), noise.sigma_min ** (1 / noise.rho)
    t = np.append((high + i / (n - 1) * (low - high)) ** noise.rho, 0.0)

    def denoised(x: np.ndarray, sigma: float) -> np.ndarray:
        d2 = noise.sigma_data**2
        skip, out = d2 / (sigma**2 + d2), sigma * noise.sigma_data / np.sqrt(sigma**2 + d2)
        return skip * x + out * told(x, sigma)

    for k in range(n):
        inside = noise.s_tmin <= t[k] <= (noise.s_tmax or np.inf)
        raised = t[k] * (1 + inside * min(noise.s_churn / n, np.sqrt(2) - 1))
        if zs is not None and k:
            x = x + np.sqrt(raised**2 - t[k] ** 2) * noise.s_noise * zs[k]
        slope = (x - denoised(x, raised)) / raised
        then = x + (t[k + 1] - raised) * slope
        if t[k + 1] and noise.sampler == "heun":
            then = x + (t[k + 1] - raised) * (slope + (then - denoised(then, t[k + 1])) / t[k + 1]) / 2
        x = then
    return x


def wavy(x: np.ndarray, sigma: Any) -> np.ndarray:
    """A network as good as any other."""
    return np.sin(x / np.sqrt(sigma**2 + 0.3)) - 0.2 * np.log(sigma)


@pytest.mark.parametrize("sampler", ["euler", "heun"])
@pytest.mark.parametrize("churn", [0.0, 3.0])
def test_steps_are_those_of_the_paper(sampler: Any, churn: float):
    noise = EDM(sampler=sampler, sigma_data=0.6, s_churn=churn, s_tmin=0.05, s_tmax=30.0, s_noise=1.1)
    n, x = 9, scattered(5, 3)
    zs = scattered(n, 5, 3, seed=1) if churn else None
    lines: Any = None
    if zs is not None:  # noise of step k + 1 is added by the last line of step k
        each = [1] * n if sampler == "euler" else [2] * (n - 1) + [1]
        lines = np.zeros((sum(each), 5, 3))
        lines[np.cumsum(each)[:-1] - 1] = zs[1:]
    first = noise.sigma_max  # beyond s_tmax: no noise is added to what sampling begins with
    found = walked(noise, n, wavy, x / np.sqrt(first**2 + 0.6**2), lines)
    assert np.allclose(found, algorithm(noise, n, wavy, x, zs), rtol=2e-4, atol=2e-4)
    assert len(noise.steps(n)[0].t) == (n if sampler == "euler" else 2 * n - 1)


@pytest.mark.torch
@pytest.mark.parametrize("fields", [{}, {"sigma_data": 1.0, "sigma_max": 20.0, "sigma_min": 0.01, "rho": 5.0}])
def test_each_step_of_euler_is_that_of_diffusers(fields: Any):
    import torch
    from diffusers.schedulers.scheduling_edm_euler import EDMEulerScheduler

    config = {"_class_name": "EDMEulerScheduler", **fields}
    noise = read(config)
    theirs: Any = EDMEulerScheduler(**fields)
    assert isinstance(noise, EDM) and noise == read(noise.config()) and noise == EDM(sampler="euler", **fields)
    theirs.set_timesteps(8)
    plan, _ = noise.steps(8)
    assert np.allclose(plan.t, theirs.timesteps, atol=1e-5)
    for i, t in enumerate(theirs.timesteps):
        sigma, then = float(theirs.sigmas[i]), float(theirs.sigmas[i + 1])
        x, told = sigma * scattered(4, 3, seed=i), scattered(4, 3, seed=50 + i)
        seen = theirs.scale_model_input(torch.tensor(x), t).numpy()
        scaled = x / np.sqrt(sigma**2 + noise.sigma_data**2)
        assert np.allclose(seen, scaled, rtol=1e-5, atol=1e-6)
        expected = theirs.step(torch.tensor(told), t, torch.tensor(x)).prev_sample
        c = Steps(*(column[i] for column in plan))
        found, _ = step(noise, c, jnp.asarray(told), jnp.asarray(scaled), 0.0)
        assert np.allclose(np.asarray(found) * np.sqrt(then**2 + noise.sigma_data**2), expected, rtol=1e-4, atol=1e-4)


def optimal(x: np.ndarray, sigma: Any, noise: EDM) -> np.ndarray:
    """F whose D is E[x0 | x0 + σε = x] = STD²/(STD² + σ²)·x, of rows N(0, STD²)."""
    d2 = noise.sigma_data**2
    skip, out = d2 / (sigma**2 + d2), sigma * noise.sigma_data / np.sqrt(sigma**2 + d2)
    return (STD**2 / (STD**2 + sigma**2) - skip) * x / out


@pytest.mark.parametrize(("sampler", "order"), [("euler", 1), ("heun", 2)])
def test_the_error_of_a_sampler_falls_by_its_order(sampler: Any, order: int):
    """Of Gaussian rows the path is known: x/√(STD² + σ²) stays what it was.  Steps double three times."""
    noise = EDM(sampler=sampler)
    x = np.full(1, 1.0)
    errors = []
    for n in (16, 32, 64, 128):
        begin = x * np.sqrt(STD**2 + 80**2) / np.sqrt(80**2 + 0.5**2)
        found = walked(noise, n, lambda x, sigma: optimal(x, sigma, noise), begin)
        errors.append(abs(found[0] - STD))
    assert np.allclose(np.array(errors[:-1]) / errors[1:], 2**order, rtol=0.25), errors


@pytest.mark.parametrize("sigma_data", [0.5, 1.3])
def test_what_a_network_sees_and_is_to_tell_has_variance_one_at_every_noise(sigma_data: float):
    noise = EDM(sigma_data=sigma_data)
    x0, eps = jax.random.normal(KEY, (2, 20_000, 1))
    t, a, s = noise.at(jnp.array([0.001, 0.2, 0.5, 0.9, 0.999]))
    seen = a * sigma_data * x0 + s * eps
    told = target("edm", sigma_data * x0, eps, a, s, sigma_data)
    assert_mean(np.asarray(seen) ** 2, np.ones(5))
    assert_mean(np.asarray(told) ** 2, np.ones(5))
    sigma = np.exp(4 * np.asarray(t, np.float64))
    assert np.allclose(np.log(sigma), -1.2 + 1.2 * np.array([-3.0902, -0.8416, 0, 1.2816, 3.0902]), atol=1e-3)
    found = clean_and_noise("edm", told, seen, a, s, sigma_data)
    assert np.allclose(found[0], sigma_data * x0, atol=0.02) and np.allclose(found[1], eps, atol=0.05)


def test_the_loss_is_the_paper_s_weighted_error_of_the_row():
    """λ(σ)·‖D - x0‖², λ = (σ² + σ_d²)/(σσ_d)² (eq. 2 and Table 1), for a network that says 0: D = c_skip·x."""
    model = Diffusion(noise=EDM(sigma_data=0.6), network=Zero, shape=(2,))
    params, rows = model.init(KEY), jnp.asarray(0.6 * scattered(4000, 2), jnp.float32)
    losses = np.asarray(jax.jit(model.losses)(KEY, params, rows))
    assert_mean(losses, np.ones(2))  # of rows of standard deviation σ_d, whatever the noise
    assert 0.8 < losses[:500].mean() < 1.2 and 0.8 < losses[-500:].mean() < 1.2  # of little noise and of much

    sigma, x0, eps, d2 = 0.3, 0.8, -0.4, 0.36
    d = d2 / (sigma**2 + d2) * (x0 + sigma * eps)
    a = 1 / np.sqrt(sigma**2 + d2)
    expected = (sigma**2 + d2) / (sigma**2 * d2) * (d - x0) ** 2
    assert float(target("edm", x0, eps, a, sigma * a, 0.6)) ** 2 == pytest.approx(expected, rel=1e-5)  # pyright: ignore


@pytest.mark.parametrize(
    ("noise", "weight"),
    [
        (Noise(), lambda snr: np.minimum(snr, 5) / snr),
        (Noise(prediction_type="sample"), lambda snr: np.minimum(snr, 5)),
        (Noise(prediction_type="v_prediction"), lambda snr: np.minimum(snr, 5) / (snr + 1)),
    ],
)
def test_min_snr_weighs_losses_as_the_paper_says(noise: Noise, weight: Any):
    """Of ε, x0 and v (Hang et al. 2023, section 3.4): the quotient of losses with it and without is that weight."""
    model = Diffusion(noise=noise, network=Zero, shape=(2,))
    params, rows = model.init(KEY), jnp.asarray(scattered(64, 2), jnp.float32)
    plain, cut = (
        np.asarray(jax.jit(m.losses)(KEY, params, rows)) for m in (model, dataclasses.replace(model, min_snr=5.0))
    )
    found = (cut / plain).mean(1)  # [64]
    kept = noise.alphas_cumprod
    known = weight(kept / (1 - kept))  # [T]
    assert (np.abs(found[:, None] / known - 1).min(1) < 1e-3).all()  # each at some time of the schedule
    # Times of a batch are spread evenly, so that weights are those of all times, in their order.
    spread = [known[int((i + 0.5) / 64 * 1000)] for i in range(64)]
    assert np.corrcoef(np.log(np.sort(found)), np.log(np.sort(spread)))[0, 1] > 0.98


def test_min_snr_of_edm_is_that_of_its_row():
    sigma = np.array([0.05, 0.5, 5.0])
    a = 1 / np.sqrt(sigma**2 + 0.25)
    moved = np.asarray(
        clean_and_noise("edm", jnp.ones(3), jnp.zeros(3), jnp.asarray(a), jnp.asarray(sigma * a), 0.5)[0]
    )
    assert np.allclose(moved, sigma * 0.5 / np.sqrt(sigma**2 + 0.25), rtol=1e-5)  # c_out


@pytest.mark.parametrize("churn", [0.0, 20.0])
def test_a_perfect_network_says_the_law_of_gaussian_rows(churn: float):
    class Perfect(Zero):
        def __call__(self, x: Any, t: Any, label: Any = None) -> Any:
            sigma, d2 = jnp.exp(4 * t)[:, None], noise.sigma_data**2
            skip, out = d2 / (sigma**2 + d2), sigma * noise.sigma_data / jnp.sqrt(sigma**2 + d2)
            return (STD**2 / (STD**2 + sigma**2) - skip) * x * jnp.sqrt(sigma**2 + d2) / out + self.bias

    noise = EDM(s_churn=churn)
    model = Diffusion(noise=noise, network=Perfect, shape=(2,), sample_steps=40, sample_batch=10_000)
    x = np.asarray(jax.jit(model.sample, static_argnums=2)(KEY, model.init(KEY), 10_000))
    assert_mean(x, np.zeros(2))
    assert_mean(x**2, np.full(2, STD**2))


def test_what_cannot_be_is_refused():
    with pytest.raises(GenlossError, match="must lie below"):
        EDM(sigma_min=2.0, sigma_max=1.0)
    with pytest.raises(GenlossError, match="EDM has no `sampler`"):
        EDM(sampler="rk4")  # pyright: ignore
    with pytest.raises(GenlossError, match="set `sampler` to 'euler'"):
        EDM().config()
    with pytest.raises(GenlossError, match="set it to 'karras'"):
        read({"_class_name": "EDMEulerScheduler", "sigma_schedule": "exponential"})
    assert Flow().sigma_data == 1
