"""Schedules and single steps of samplers against what diffusers said, which tests/references/schedulers.json keeps."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import reference
from noise_cases import AT, CASES, ETAS, FLOW, FLOWS, STEPS, inputs

from generators.noise import Noise, read
from generators.steps import Steps, step

REFERENCES = reference("schedulers")


@pytest.mark.parametrize("case", CASES)
def test_a_schedule_is_that_of_diffusers(case: str):
    kind, config = CASES[case]
    noise, expected = read({"_class_name": kind, **config}), REFERENCES[case]
    assert isinstance(noise, Noise)
    at = [round(share * (noise.num_train_timesteps - 1)) for share in AT]
    close_to = 5e-6 if "rescale_betas_zero_snr" in config else 1e-7  # differences of roots, there in float32
    assert np.allclose(noise.betas[at], expected["betas"], rtol=0, atol=close_to)
    assert np.allclose(noise.alphas_cumprod[at], expected["alphas_cumprod"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("n", STEPS)
@pytest.mark.parametrize("case", [*CASES, *FLOWS])
def test_the_first_the_middle_and_the_last_step_are_those_of_diffusers(case: str, n: int):
    """And they are told the same times."""
    (kind, config), expected = {**CASES, **FLOWS}[case], REFERENCES[case]
    noise = read({"_class_name": kind, **config})
    for eta in ETAS[kind]:
        ours = noise if eta is None else dataclasses.replace(noise, eta=eta)
        plan, signal = ours.steps(n)
        assert signal == 1 and np.allclose(plan.t, expected[f"times of {n}"], rtol=1e-6, atol=1e-3 * (kind == FLOW))
        for i in (0, n // 2, n - 1):
            x, told, z = (jnp.asarray(a, jnp.float32) for a in inputs(i))
            found = step(ours, Steps(*(column[i] for column in plan)), told, x, z)[0][0]
            said = np.array(expected[f"step {i} of {n}, eta {eta}"])
            # What float32 leaves of a schedule that ends in noise alone is worth a thousandth.
            rtol = 1e-3 if "rescale_betas_zero_snr" in config else 2e-5
            assert np.allclose(found, said, rtol=0, atol=rtol * max(1, np.abs(said).max())), (i, found, said)


def test_each_of_the_fields_that_say_where_a_sampler_ends_and_what_it_clips_shows():
    """A field that did nothing would pass, were its case the same without it."""
    for name, without in (("range", "plain"), ("end", "plain"), ("linspace", "plain"), ("scaled", "plain")):
        said = [REFERENCES[f"DDIM, {case}"] for case in (name, without)]
        steps = [key for key in said[0] if key.startswith(("step", "times"))]
        assert any(not np.allclose(said[0][key], said[1][key], atol=1e-3) for key in steps)
