"""Diffusion: samplers against the exact law of what they do to a Gaussian, diffusers per step, and training."""

import dataclasses
import json
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_mean
from equality import close, same
from flax import nnx
from noise_cases import CASES

from generators import Diffusion, Gaussian
from generators.nets.denoiser import Denoiser
from generators.noise import Flow, Noise, read
from generators.steps import Steps, clean_and_noise, step, target
from simulator import Chain, Dataset, GenlossError, Pool, Truth, run, simulate
from simulator.probes.fidelity import energy
from simulator.recipe import Mix

KEY = jax.random.key(0)
MEAN, COV = (0.8, -0.5), ((1.3, 0.6), (0.6, 0.7))


class Exact(nnx.Module):
    """The best predictor for rows of label i from N(means[i], covs[i]); the last is for the null label."""

    def __init__(self, shape: Any, classes: Any, noise: Any, means: Any = (MEAN,), covs: Any = (COV,), **_: Any):
        self.noise, self.means, self.covs = noise, means, covs

    def __call__(self, x: jax.Array, t: jax.Array, label: Any) -> jax.Array:
        label = jnp.zeros(len(x), jnp.int32) if label is None else label
        a, s = (v[:, None] for v in levels(self.noise, t))  # [n, 1] each
        mean = jnp.asarray(self.means)[label]  # [n, d]
        values, vectors = (jnp.asarray(v, jnp.float32)[label] for v in np.linalg.eigh(np.array(self.covs)))
        apart = jnp.einsum("nij,ni->nj", vectors, x - a * mean)  # [n, d], along the axes of the covariance
        x0 = mean + jnp.einsum("nij,nj->ni", vectors, a * values / (a**2 * values + s**2) * apart)
        return target(self.noise.prediction_type, x0, (x - a * x0) / s, a, s)


def levels(noise: Any, t: Any) -> tuple[Any, Any]:
    """(a, s) at what a network is told."""
    if isinstance(noise, Flow):
        return 1 - t / noise.num_train_timesteps, t / noise.num_train_timesteps
    now = jnp.asarray(kept(noise), jnp.float32)[t.astype(int)] if isinstance(t, jax.Array) else kept(noise)[int(t)]
    return now**0.5, (1 - now) ** 0.5


@cache
def kept(noise: Noise) -> np.ndarray:
    """ᾱ [T]."""
    return np.cumprod(1 - noise.betas)


def best(a: float, s: float, mean: Any, cov: Any) -> tuple[np.ndarray, np.ndarray]:
    """(P, q): E[x0 | x] = P x + q."""
    cov = np.array(cov)
    gain = a * cov @ np.linalg.inv(a**2 * cov + s**2 * np.eye(len(cov)))  # [d, d]
    return gain, np.array(mean) - a * gain @ np.array(mean)


def moved(noise: Any, t: float, then: float, x0: tuple[np.ndarray, np.ndarray]) -> tuple[Any, Any, float]:
    """(K, k, σ) of one step x' = K x + k + σ z, by the formulas of the papers; `then` is t, or σ, after the step."""
    eye, zero = np.eye(len(x0[1])), np.zeros(len(x0[1]))
    both = lambda c, x, e, a, s: tuple(  # noqa: E731
        c * u + x * v + e * (v - a * u) / s for u, v in zip(x0, (eye, zero), strict=True)
    )
    if isinstance(noise, Flow):
        sigma = t / noise.num_train_timesteps
        return *both(-(then - sigma), 1, then - sigma, 1 - sigma, sigma), 0.0
    now, after = kept(noise)[int(t)], kept(noise)[int(then)] if then >= 0 else 1.0
    a, s, beta = np.sqrt(now), np.sqrt(1 - now), 1 - now / after
    posterior = (1 - after) / (1 - now) * beta
    if noise.sampler == "ddpm":  # arXiv:2006.11239, equation 7
        variance = 0 if t == 0 else beta if noise.variance_type == "fixed_large" else posterior
        x = np.sqrt(1 - beta) * (1 - after) / (1 - now)
        return *both(np.sqrt(after) * beta / (1 - now), x, 0, a, s), np.sqrt(variance)
    sigma = noise.eta * np.sqrt(posterior)  # arXiv:2010.02502, equation 12
    return *both(np.sqrt(after), 0, np.sqrt(1 - after - sigma**2), a, s), sigma


def law(noise: Any, n: int, predict: Any, temperature: float = 1.0, stop: float = 0.0) -> tuple[Any, Any]:
    """(mean, covariance) of what a sampler makes of an affine x0 prediction, by iterating its steps."""
    T = noise.num_train_timesteps
    if isinstance(noise, Flow):
        u = np.linspace(1, noise.shift / T / (1 + (noise.shift - 1) / T), n)
        sigma = noise.shift * u / (1 + (noise.shift - 1) * u)
        sigma = sigma[sigma > stop]
        walk = [(T * now, then) for now, then in zip(sigma, [*sigma[1:], stop], strict=True)]
        last = 1 - stop
    else:
        every = T // n
        end = round(stop * T) - 1
        first = T - 1 if noise.timestep_spacing == "trailing" else (n - 1) * every
        ts = [t for t in range(first, -1, -every) if t > end]
        walk = [(t, then) for t, then in zip(ts, [*ts[1:], end], strict=True)]
        last = np.sqrt(kept(noise)[end]) if end >= 0 else 1.0
    d = len(predict(1.0, 1.0)[1])
    mean, cov = np.zeros(d), temperature**2 * np.eye(d)
    for t, then in walk:
        a, s = (float(v) for v in levels(noise, np.float64(t)))
        K, k, sigma = moved(noise, t, then, predict(a, s))
        mean, cov = K @ mean + k, K @ cov @ K.T + (temperature * sigma) ** 2 * np.eye(d)
    return mean / last, cov / last**2


def assert_law(x: Any, mean: Any, cov: Any, sigmas: float = 4.5) -> None:
    """Rows [n, d] have this mean and covariance."""
    x = np.asarray(x, np.float64)
    assert_mean(x, mean, sigmas)
    apart = x - mean
    i, j = np.triu_indices(x.shape[1])
    assert_mean(apart[:, i] * apart[:, j], cov[i, j], sigmas)


SAMPLERS = {
    "ddpm": Noise(),
    "ddpm-large-cosine-v": Noise(
        beta_schedule="squaredcos_cap_v2", variance_type="fixed_large", prediction_type="v_prediction"
    ),
    "ddpm-sigmoid-x0": Noise(beta_schedule="sigmoid", prediction_type="sample"),
    "ddim": Noise(sampler="ddim"),
    "ddim-eta-v": Noise(sampler="ddim", eta=0.7, prediction_type="v_prediction", beta_schedule="scaled_linear"),
    "ddim-zero-snr": Noise(
        sampler="ddim", prediction_type="v_prediction", timestep_spacing="trailing", rescale_betas_zero_snr=True
    ),
    "flow": Flow(),
    "flow-shifted-x0": Flow(shift=3.0, prediction_type="sample"),
}


@pytest.mark.quick("ddpm", "ddim-eta-v", "flow")
@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_do_to_a_gaussian_what_their_steps_say(name: str):
    """Of an affine prediction each step is affine, and so the law of the samples is known, errors of few steps too."""
    noise = SAMPLERS[name]
    network = partial(Exact, noise=noise)

    def sample(key: Any, temperature: Any, stop: float) -> Any:
        model = Diffusion(network=network, noise=noise, sample_steps=10, temperature=temperature, stop=stop)
        model = model.shaped(jnp.zeros((3, 2)))
        return model.sample(key, model.init(key), 20_000)

    sample = jax.jit(sample, static_argnums=2)
    predict = partial(best, mean=MEAN, cov=COV)
    for temperature, stop in ((1.0, 0.0), (0.6, 0.0), (1.0, 0.3)):
        found = law(noise, 10, predict, temperature, stop)
        assert_law(sample(jax.random.key(1), temperature, stop), *found)


def tabled(c: Any, x0: tuple[Any, Any]) -> tuple[Any, Any, float]:
    """(K, k, σ) of one step x' = K x + k + σ z, by the table of the sampler."""
    P, q = x0
    eye = np.eye(len(q))
    return c.clean * P + c.keep * eye + c.eps * (eye - c.a * P) / c.s, (c.clean - c.eps * c.a / c.s) * q, c.fresh


def columns(noise: Any, n: int, stop: float = 0.0) -> tuple[list[Steps], float]:
    """The steps of a sampler one by one, in double precision, and the signal where they end."""
    steps, last = noise.steps(n, stop)
    return [Steps(*c) for c in zip(*(np.asarray(column, np.float64) for column in steps), strict=True)], last


def walked(noise: Any, n: int, predict: Any, stop: float = 0.0) -> tuple[Any, Any]:
    """The same by the table of the sampler, at temperature 1."""
    steps, last = columns(noise, n, stop)
    mean, cov = np.zeros(2), np.eye(2)
    for c in steps:
        K, k, fresh = tabled(c, predict(c.a, c.s))
        mean, cov = K @ mean + k, K @ cov @ K.T + fresh**2 * np.eye(2)
    return mean / last, cov / last**2


@pytest.mark.parametrize("name", SAMPLERS)
def test_each_step_of_a_table_is_the_formula_of_its_paper_to_a_millionth(name: str):
    """Of what a network could tell: nothing of x, all of it, and a constant."""
    noise, T = SAMPLERS[name], SAMPLERS[name].num_train_timesteps
    steps, _ = columns(noise, 10)
    for c, after in zip(steps, [*(c.t for c in steps[1:]), 0 if isinstance(noise, Flow) else -1], strict=True):
        then = after / T if isinstance(noise, Flow) else after
        for told in ((np.zeros((2, 2)), np.ones(2)), (np.eye(2), np.zeros(2))):
            for found, formula in zip(tabled(c, told), moved(noise, c.t, then, told), strict=True):
                assert np.allclose(found, formula, rtol=1e-6, atol=1e-6), (c.t, found, formula)


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_tend_to_the_law_of_the_data(name: str):
    """The more steps, the nearer, and to the data smoothed by (s/a)² where sampling ends at a and s."""
    noise, predict = SAMPLERS[name], partial(best, mean=MEAN, cov=COV)
    T = noise.num_train_timesteps
    a, s = (float(v) for v in levels(noise, np.float64(T * 0.3 - (not isinstance(noise, Flow)))))
    for stop, wide in ((0.0, 0.0), (0.3, (s / a) ** 2)):
        errors = []
        for n in (T // 50, T // 5, T):
            mean, cov = walked(noise, n, predict, stop)
            assert close((mean, cov), law(noise, n, predict, stop=stop))
            errors.append(max(np.abs(mean - MEAN).max(), np.abs(cov - np.array(COV) - wide * np.eye(2)).max()))
        assert errors[0] > errors[1] > errors[2] and errors[2] < 0.02, errors


@pytest.mark.parametrize("name", ["ddpm", "ddim-eta-v", "flow"])
def test_guidance_goes_from_the_null_prediction_beyond_the_labelled(name: str):
    noise = SAMPLERS[name]
    means, covs = ((1.0, 0.0), (-1.0, 0.5), (0.0, 0.2)), (((0.3, 0.1), (0.1, 0.4)), ((0.5, 0.0), (0.0, 0.2)), COV)
    rows = {"x": jnp.zeros((4, 2)), "label": jnp.arange(4) % 2}
    labels = jnp.array([0.3, 0.7])

    network = partial(Exact, noise=noise, means=means, covs=covs)
    shaped = Diffusion(network=network, noise=noise, sample_steps=10).shaped(rows)

    @jax.jit
    def sample(guidance: Any) -> Any:
        model = dataclasses.replace(shaped, guidance=guidance)
        return model.sample(KEY, {**model.init(KEY), "labels": labels}, 20_000)

    for guidance in (0.0, 1.0, 1.5):
        found = jax.tree.map(np.asarray, sample(guidance))
        assert_mean(found["label"][:, None] == np.arange(2), labels, 4.5)
        for label in (0, 1):

            def predict(a: float, s: float, label: int = label, guidance: float = guidance) -> Any:
                told, null = (best(a, s, means[i], covs[i]) for i in (label, 2))
                return tuple(n + guidance * (t - n) for t, n in zip(told, null, strict=True))

            assert_law(found["x"][found["label"] == label], *law(noise, 10, predict))


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction", "velocity"])
def test_what_is_told_means_one_row_and_one_noise(kind: Any):
    x0, eps = jax.random.normal(KEY, (2, 50, 3))
    for a, s in jnp.array([[0.8, 0.6], [0.3, 0.7], [0.99, 0.02]]):
        found = clean_and_noise(kind, target(kind, x0, eps, a, s), a * x0 + s * eps, a, s)
        assert np.allclose(found[0], x0, atol=2e-5) and np.allclose(found[1], eps, atol=2e-5)


OPTIMAL = {
    "epsilon": lambda a, s, v: a**2 * v / (a**2 * v + s**2),
    "sample": lambda a, s, v: s**2 * v / (a**2 * v + s**2),
    "v_prediction": lambda a, s, v: v / (a**2 * v + s**2),
    "velocity": lambda a, s, v: v / (a**2 * v + s**2),
}


def least(noise: Any) -> float:
    """The loss of the best predictor for N(MEAN, COV): what x leaves uncertain of its target, on average over times."""
    u = (np.arange(100_000) + 0.5) / 100_000
    if isinstance(noise, Flow):
        sigma = noise.shift * u / (1 + (noise.shift - 1) * u)
        a, s = 1 - sigma, sigma
    else:
        now = kept(noise)[(u * noise.num_train_timesteps).astype(int)]
        a, s = np.sqrt(now), np.sqrt(1 - now)
    return float(np.mean([OPTIMAL[noise.prediction_type](a, s, v) for v in np.linalg.eigvalsh(np.array(COV))]))


def gaussian_rows(key: jax.Array, n: int) -> jax.Array:
    return jnp.asarray(MEAN) + jax.random.normal(key, (n, 2)) @ jnp.asarray(np.linalg.cholesky(np.array(COV))).T


@pytest.mark.quick("ddpm-large-cosine-v", "ddim-zero-snr", "flow")
@pytest.mark.parametrize("noise", [*SAMPLERS.values()], ids=SAMPLERS)
def test_the_best_predictor_has_the_loss_that_is_known_for_it(noise: Any):
    model = Diffusion(network=partial(Exact, noise=noise), noise=noise).shaped(jnp.zeros((3, 2)))
    params = model.init(KEY)

    def one(key: jax.Array) -> jax.Array:
        return model.loss(key, params, gaussian_rows(jax.random.fold_in(key, 1), 1000))

    assert_mean(jax.jit(jax.vmap(one))(jax.random.split(KEY, 200)), least(noise), 4.5)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_network_learns_the_best_predictor(dtype: Any):
    """Within three in a hundred of the least loss there is; weights stay float32 whatever they are computed in."""
    model = Diffusion(
        network=partial(Denoiser, width=32, depth=1), noise=Noise(prediction_type="v_prediction"), dtype=dtype,
        steps=500, batch=256, learning_rate=5e-3,
    ).shaped(jnp.zeros((3, 2)))  # fmt: skip
    fit = jax.jit(lambda: model.fit(KEY, model.init(KEY), Pool.of(gaussian_rows(jax.random.key(1), 20_000)))[0])
    params = fit()
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))
    rows = gaussian_rows(jax.random.key(2), 50_000)
    loss = float(jax.jit(model.loss)(jax.random.key(3), params, rows))
    assert 0.98 < loss / least(model.noise) < 1.03


@pytest.mark.slow
def test_eight_modes_are_learned_and_labels_kept():
    """Nearer to the truth than a tenth of what a Gaussian of the same moments is; each row is at its label's mode."""
    angle = 2 * np.pi * np.arange(8) / 8
    modes = jnp.asarray(np.stack([np.cos(angle), np.sin(angle)], -1), jnp.float32)

    @partial(jax.jit, static_argnums=1)
    def draw(key: jax.Array, n: int) -> Any:
        label = jax.random.randint(key, (n,), 0, 8)
        return {"x": modes[label] + 0.1 * jax.random.normal(key, (n, 2)), "label": label}

    model = Diffusion(
        network=partial(Denoiser, width=48, depth=1),
        noise=Noise(sampler="ddim", beta_schedule="squaredcos_cap_v2"),
        steps=800, batch=256, learning_rate=5e-3, sample_steps=20,
    ).shaped(draw(KEY, 100))  # fmt: skip
    params = jax.jit(lambda: model.fit(KEY, model.init(KEY), Pool.of(draw(KEY, 8000)))[0])()
    said = jax.jit(lambda: model.sample(jax.random.key(7), params, 1000))()
    nearest = jnp.square(said["x"][:, None] - modes).sum(-1).argmin(-1)
    assert float((nearest == said["label"]).mean()) > 0.99
    others = [draw(jax.random.key(i), 1000)["x"] for i in range(10, 15)]
    smooth = np.sqrt(0.5 + 0.01) * jax.random.normal(KEY, (1000, 2))
    distance = [np.mean([energy(other, rows) for other in others[1:]]) for rows in (said["x"], others[0], smooth)]
    assert distance[0] < distance[1] + 0.1 * (distance[2] - distance[1])


def test_labels_have_their_weighted_share_of_the_diet():
    rows = {"x": jnp.zeros((4, 2)), "label": jnp.array([0, 1, 1, 2])}
    model = Diffusion(classes=4, noise=Noise(num_train_timesteps=50)).shaped(rows)
    params = model.closed_form(model.init(KEY), Pool.of(rows).weighed(jnp.array([1.0, 2.0, 5.0, 0.0])))
    assert np.allclose(params["labels"], [1 / 8, 7 / 8, 0, 0])


class Template(nnx.Module):
    """Tells one picture: dark on the left and the brighter the larger the label."""

    def __init__(self, shape: Any, classes: Any, **_: Any):
        self.shape = shape

    def __call__(self, x: jax.Array, t: jax.Array, label: Any) -> jax.Array:
        return jnp.broadcast_to(jnp.linspace(-1, 1, self.shape[1])[:, None], x.shape) + label[:, None, None, None]


def test_flips_and_dropped_labels_have_their_share():
    images = jnp.round((jnp.broadcast_to(jnp.linspace(-1, 1, 4)[:, None], (20_000, 2, 4, 1)) + 1) * 127.5)
    rows = {"image": images.astype(jnp.uint8), "label": jnp.zeros(20_000, jnp.int32)}
    still = {"network": Template, "noise": Noise(prediction_type="sample")}
    model = Diffusion(**still, drop=0.0).shaped(rows)
    assert float(model.loss(KEY, {"net": {}}, rows)) < 1e-10
    share = float(Diffusion(**still, drop=0.3).shaped(rows).loss(KEY, {"net": {}}, rows))  # the null label is 1
    assert abs(share - 0.3) < 4.5 * np.sqrt(0.3 * 0.7 / 20_000)
    mirrored = float(np.mean((2 * np.linspace(-1, 1, 4)) ** 2))
    share = float(Diffusion(**still, drop=0.0, flips=True).shaped(rows).loss(KEY, {"net": {}}, rows)) / mirrored
    assert abs(share - 0.5) < 4.5 * 0.5 / np.sqrt(20_000)


# As users' programs are: what tests compile is not, and rounds by how many rows there are.
OPTIMISED = {"xla_backend_optimization_level": 3}


@pytest.mark.slow
def test_rows_are_the_same_in_batches_of_any_size():
    """To the bit where the network treats each row by itself; a matmul of another size may round differently."""
    noise = Noise(sampler="ddim", eta=0.5)

    def sample(size: int, n: int, network: Any, rows: Any) -> Any:
        model = Diffusion(network=network, noise=noise, sample_batch=size, sample_steps=4).shaped(rows)
        params = jax.tree.map(lambda a: a + 0.1 * np.random.default_rng(0).standard_normal(a.shape), model.init(KEY))
        return jax.jit(model.sample, static_argnums=2, compiler_options=OPTIMISED)(KEY, params, n)

    exact = partial(sample, network=partial(Exact, noise=noise), rows=jnp.zeros((3, 2)))
    whole = exact(50, 50)
    for size in (1, 7, 64):
        assert same(exact(size, 50), whole)
    assert same(exact(8, 60)[:50], whole)  # nor does a row depend on how many there are
    digits = partial(sample, network=partial(Denoiser, width=16), rows=Dataset.digits().draw(KEY, 100, True))
    whole = digits(50, 50)
    found = digits(7, 50)
    assert same(found["label"], whole["label"])
    apart = np.abs(found["image"].astype(int) - whole["image"].astype(int))
    assert apart.max() <= 1 and (apart > 0).mean() < 1e-3


def network_of_convolutions(shape: Any, classes: Any, *, dtype: Any, rngs: nnx.Rngs) -> Any:
    return Convolving(shape, rngs)


class Convolving(nnx.Module):
    def __init__(self, shape: Any, rngs: nnx.Rngs):
        self.conv = nnx.Conv(shape[-1], shape[-1], (3, 3), rngs=rngs)

    def __call__(self, x: jax.Array, t: jax.Array, label: Any) -> jax.Array:
        return self.conv(x) + t[:, None, None, None] / 1000


def test_steps_of_convolutions_are_laid_out_on_cpu_and_are_the_same_steps():
    rows = Dataset.digits().draw(KEY, 40)
    model = Diffusion(network=network_of_convolutions, steps=3, chunk=3, batch=4).shaped(rows)
    assert model.unrolled == (jax.default_backend() == "cpu")
    assert not Diffusion(network=partial(Denoiser, width=8), steps=3, chunk=3).shaped(rows).unrolled

    class Looping(Diffusion):
        unrolled = False  # pyright: ignore

    loop = Looping(network=network_of_convolutions, steps=3, chunk=3, batch=4).shaped(rows)
    fitted = [jax.jit(m.fit)(KEY, model.init(KEY), Pool.of(rows))[0] for m in (model, loop)]
    assert close(*fitted)


TINY: Any = {"network": partial(Denoiser, width=16, depth=0), "steps": 4, "chunk": 2, "batch": 16, "sample_steps": 4}


def tiny_chain() -> Chain:
    return Chain(
        source=Dataset.digits(),
        generator=Diffusion(**TINY),
        recipe=Mix(real=0.5, size=30),
        probes={"weights": entering},
        real=40,
        rows=40,
    )


def entering(key: jax.Array, view: Any) -> jax.Array:
    return view.params["net"]["enter"]["kernel"]


@pytest.fixture(scope="module")
def whole() -> Any:
    """The record of a chain that was run at one go."""
    return run(tiny_chain(), KEY, 2)


@pytest.mark.slow
def test_scan_equals_run(whole: Any):
    assert close(simulate(tiny_chain(), KEY, 2), whole, rtol=1e-3, atol=1e-4)


def test_a_run_stopped_in_a_generation_and_resumed_equals_the_uninterrupted_one(whole: Any, tmp_path: Path):
    class Stopped(Exception):
        pass

    def stop(progress: Any) -> None:
        if progress.done == 1 and progress.part >= 0.5:
            raise Stopped

    with pytest.raises(Stopped):
        run(tiny_chain(), KEY, 2, tmp_path / "run", report=stop)
    assert same(run(tiny_chain(), KEY, 2, tmp_path / "run"), whole)


def test_points_without_labels_make_a_chain():
    chain = Chain(source=Truth(Gaussian(2)), generator=Diffusion(**TINY), real=20, rows=20)
    params = chain.init(KEY, 2).params
    assert set(params) == {"net"} and "label" not in params["net"]


@pytest.mark.slow
def test_an_unconditional_model_draws_labels_for_its_images():
    model = Diffusion(**TINY, conditional=False).shaped(Dataset.digits().draw(KEY, 100, held_out=True))
    params = model.init(KEY)
    assert "label" not in params["net"]
    said = model.sample(KEY, {**params, "labels": jnp.eye(10)[3]}, 5)
    assert said["image"].shape == (5, 8, 8, 1) and (said["label"] == 3).all()


BAD = {
    "sample_steps": ({"sample_steps": 0}, "at least 1"),
    "too many steps": ({"sample_steps": 2000}, "between 1 and 1000"),
    "batch": ({"sample_batch": 0}, "at least 1"),
    "drop": ({"drop": 1.0}, "below 1"),
    "stop": ({"stop": -0.1}, "at least 0"),
    "stop at the start": ({"stop": 0.999}, "lower it"),
    "guidance": ({"guidance": -1.0}, "at least 0"),
    "guidance without null": ({"guidance": 2.0, "drop": 0.0}, "with and without label"),
    "guidance without labels": ({"guidance": 2.0, "conditional": False}, "with and without label"),
    "temperature": ({"temperature": -1.0}, "at least 0"),
    "dtype": ({"dtype": "float16"}, "float32 or bfloat16"),
}


@pytest.mark.parametrize(("fields", "word"), BAD.values(), ids=BAD)
def test_models_that_cannot_be_are_refused(fields: Any, word: str):
    with pytest.raises(GenlossError, match=word):
        Diffusion(**fields)


ROWS = {
    "regression": ({}, {"x": jnp.zeros((2, 3)), "y": jnp.zeros(2)}, "points x with a label, or images"),
    "no points": ({}, jnp.zeros((2, 3, 3)), "rows of numbers"),
    "tokens": ({}, jnp.zeros((2, 3), jnp.int32), "points of floats"),
    "float images": ({}, {"image": jnp.zeros((2, 3, 3, 1)), "label": jnp.zeros(2, jnp.int32)}, "images of uint8"),
    "flips": ({"flips": True}, jnp.zeros((2, 3)), "mirrors images"),
    "guidance": ({"guidance": 2.0}, jnp.zeros((2, 3)), "have no label"),
    "no classes": ({"classes": 3}, jnp.zeros((2, 3)), "have no label"),
    "shape": ({"shape": (4,)}, jnp.zeros((2, 3)), "leave `shape` open"),
    "classes": ({"classes": 1}, {"x": jnp.zeros((2, 3)), "label": jnp.arange(2)}, "raise `classes`"),
}


@pytest.mark.parametrize(("fields", "rows", "word"), ROWS.values(), ids=ROWS)
def test_rows_that_it_cannot_make_are_refused(fields: Any, rows: Any, word: str):
    with pytest.raises(GenlossError, match=word):
        Diffusion(**fields).shaped(rows)


SCHEDULES = {
    "schedule": ({"beta_schedule": "squarecos"}, "nearest is 'squaredcos_cap_v2'"),
    "learned variance": ({"variance_type": "learned_range"}, "no `variance_type`"),
    "one step": ({"num_train_timesteps": 1}, "between 2"),
    "a step for every grain": ({"num_train_timesteps": 10**12}, "between 2 and 1,000,000"),
    "a root of what is negative": ({"beta_start": -0.1, "beta_schedule": "scaled_linear"}, "above 0"),
    "betas": ({"trained_betas": (0.1, 0.2)}, "one for each"),
    "beta": ({"beta_end": 1.5}, "below 1"),
    "eta": ({"sampler": "ddim", "eta": 2.0}, "between 0 and 1"),
    "eta of ddpm": ({"eta": 0.5}, "is of the sampler 'ddim'"),
    "clip": ({"clip_sample_range": 0.0}, "above 0"),
    "offset": ({"steps_offset": -1}, "at least 0"),
    "zero snr": ({"rescale_betas_zero_snr": True}, "predict 'v_prediction'"),
}


@pytest.mark.parametrize(("fields", "word"), SCHEDULES.values(), ids=SCHEDULES)
def test_schedules_that_cannot_be_are_refused(fields: Any, word: str):
    with pytest.raises(GenlossError, match=word):
        Noise(**fields)


CONFIGS = {
    "class": ({"_class_name": "PNDMScheduler"}, "there are: DDPMScheduler, DDIMScheduler, FlowMatch"),
    "key": ({"_class_name": "DDPMScheduler", "beta_strat": 0.1}, "'beta_strat'; the nearest is 'beta_start'"),
    "thresholding": ({"_class_name": "DDIMScheduler", "thresholding": True}, "set it to False"),
    "dynamic": ({"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": True}, "set it to False"),
    "offset": ({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 0}, "above 0"),
}


@pytest.mark.parametrize(("config", "word"), CONFIGS.values(), ids=CONFIGS)
def test_configs_that_cannot_be_followed_are_refused(config: Any, word: str, tmp_path: Path):
    with pytest.raises(GenlossError, match=word):
        read(config)
    (tmp_path / "scheduler_config.json").write_text("{")
    with pytest.raises(GenlossError, match="cannot be read as JSON"):
        read(tmp_path / "scheduler_config.json")


def test_what_diffusers_cannot_read_is_not_written():
    with pytest.raises(GenlossError, match="trained_betas"):
        Noise(sampler="ddim", beta_schedule="sigmoid").config()
    with pytest.raises(GenlossError, match="velocity"):
        Flow(prediction_type="sample").config()
    with pytest.raises(GenlossError, match="lower `steps_offset`"):
        Noise(steps_offset=1).steps(1000)
    bad: list[dict[str, Any]] = [{"shift": 0.0}, {"num_train_timesteps": 1}, {"prediction_type": "epsilon"}]
    for fields in bad:
        with pytest.raises(GenlossError):
            Flow(**fields)


# diffusers, on torch: schedules, and each step by itself.


def theirs(name: str, config: Any) -> Any:
    import diffusers
    import torch

    torch.set_num_threads(1)
    return torch, getattr(diffusers, name)(**config)


@pytest.mark.torch
@pytest.mark.parametrize(("name", "config"), CASES.values(), ids=CASES)
def test_schedules_against_diffusers(name: str, config: Any):
    _, scheduler = theirs(name, config)
    noise = read({"_class_name": name, **config})
    assert isinstance(noise, Noise)
    close_to = 5e-6 if "rescale_betas_zero_snr" in config else 6e-8  # differences of roots, there in float32
    assert np.abs(noise.betas - scheduler.betas.numpy()).max() < close_to
    assert np.abs(noise.alphas_cumprod - scheduler.alphas_cumprod.numpy()).max() < 1e-6


@pytest.mark.torch
@pytest.mark.parametrize("steps", [7, 20])
@pytest.mark.parametrize(("name", "config"), CASES.values(), ids=CASES)
def test_a_step_against_diffusers(name: str, config: Any, steps: int):
    """Every step of a sampler by itself, from its own x; what torch holds in float32 is made double, since what is left
    of 1 - ᾱ_t/ᾱ_t' in float32 is not the step but its rounding.
    """
    torch, scheduler = theirs(name, config)
    noise = read({"_class_name": name, **config})
    assert isinstance(noise, Noise)
    scheduler.alphas_cumprod = torch.from_numpy(noise.alphas_cumprod)
    scheduler.one = torch.ones((), dtype=torch.float64)
    if name == "DDIMScheduler":
        scheduler.final_alpha_cumprod = scheduler.one if noise.set_alpha_to_one else scheduler.alphas_cumprod[0]
    scheduler.set_timesteps(steps)
    chance = np.random.default_rng(0)
    for eta in (0.0, 0.6) if name == "DDIMScheduler" else (None,):
        ours = noise if eta is None else dataclasses.replace(noise, eta=eta)
        plan, signal = ours.steps(steps)
        assert signal == 1 and np.array_equal(plan.t, scheduler.timesteps.numpy())
        for i, t in enumerate(scheduler.timesteps):
            x, told = chance.standard_normal((2, 5, 3, 4, 4))
            if eta is None:
                z = torch.randn(x.shape, generator=torch.Generator().manual_seed(i), dtype=torch.float64)
                more = {"generator": torch.Generator().manual_seed(i)}
            else:
                z = torch.from_numpy(chance.standard_normal(x.shape))
                more = {"eta": eta, "variance_noise": z if eta else None}
            expected = scheduler.step(torch.from_numpy(told), t, torch.from_numpy(x), **more).prev_sample.numpy()
            c = Steps(*(column[i] for column in plan))
            found, _ = step(ours, c, *(jnp.asarray(v, jnp.float32) for v in (told, x, z.numpy())))
            assert np.abs(found - expected).max() < 1e-6 * max(1, np.abs(expected).max())


@pytest.mark.torch
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_a_step_of_flow_against_diffusers(shift: float):
    torch, scheduler = theirs("FlowMatchEulerDiscreteScheduler", {"shift": shift})
    noise = read({**scheduler.config, "_class_name": "FlowMatchEulerDiscreteScheduler"})
    chance = np.random.default_rng(0)
    for steps in (1, 9, 1000):
        scheduler.set_timesteps(steps)
        plan, _ = noise.steps(steps)
        assert np.abs(plan.t - scheduler.timesteps.numpy()).max() < 1e-3 and len(plan.t) == steps
        for i, t in enumerate(scheduler.timesteps[:20]):
            x, told = chance.standard_normal((2, 5, 3))
            scheduler._step_index = i
            expected = scheduler.step(torch.from_numpy(told), t, torch.from_numpy(x)).prev_sample.numpy()
            c = Steps(*(column[i] for column in plan))
            found, _ = step(noise, c, jnp.asarray(told, jnp.float32), jnp.asarray(x, jnp.float32), 0.0)
            assert np.abs(found - expected).max() < 1e-6
    x0, eps = chance.standard_normal((2, 5, 3))
    scheduler.set_timesteps(9)
    for t in scheduler.timesteps:
        noisy = scheduler.scale_noise(torch.from_numpy(x0), t[None], torch.from_numpy(eps)).numpy()
        a, s = levels(noise, float(t))
        assert np.abs(a * x0 + s * eps - noisy).max() < 1e-5


@pytest.mark.torch
def test_noise_is_added_as_diffusers_does():
    torch, scheduler = theirs("DDPMScheduler", {"beta_schedule": "squaredcos_cap_v2"})
    noise = read(dict(scheduler.config) | {"_class_name": "DDPMScheduler"})
    u = (jnp.arange(1000) + 0.5) / 1000
    t, a, s = noise.at(u)
    assert np.array_equal(t, np.arange(1000))
    x0, eps = np.random.default_rng(0).standard_normal((2, 1000, 3)).astype(np.float32)
    expected = scheduler.add_noise(torch.from_numpy(x0), torch.from_numpy(eps), torch.arange(1000)).numpy()
    assert np.abs(a[:, None] * x0 + s[:, None] * eps - expected).max() < 2e-5


WRITTEN = [noise for noise in SAMPLERS.values() if noise != SAMPLERS["flow-shifted-x0"]]


@pytest.mark.torch
@pytest.mark.parametrize("noise", [*WRITTEN, Noise(trained_betas=(0.1, 0.2), num_train_timesteps=2)])
def test_a_schedule_is_written_as_diffusers_reads_it(noise: Any, tmp_path: Path):
    """What diffusers makes of our file, and writes again, is what we read."""
    noise = noise.for_images(True)
    if isinstance(noise, Noise):
        noise = dataclasses.replace(noise, eta=0.0)  # it is no part of a schedule there
    written = noise.config()
    (tmp_path / "scheduler_config.json").write_text(json.dumps(written))
    _, scheduler = theirs(written["_class_name"], {})
    scheduler = type(scheduler).from_pretrained(tmp_path)
    for key, value in written.items():
        assert key.startswith("_") or scheduler.config[key] == value
    scheduler.save_config(tmp_path / "again")
    assert read(tmp_path / "again" / "scheduler_config.json") == noise == read(tmp_path / "scheduler_config.json")
