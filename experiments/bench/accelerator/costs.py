"""What measures, random numbers, selection and the loop itself cost."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench import seconds
from experiments.bench.accelerator import Report, sized
from generators import Cohort, Gaussian
from generators.diffusion import Diffusion
from generators.nets.denoiser import Denoiser
from generators.nets.dit import DiT
from generators.nets.mlp import MLP
from simulator import Chain, Dataset, Progress, Truth, run, simulate
from simulator.numerics.chance import exponential, normal, uniform
from simulator.numerics.selection import choose, draw
from simulator.probes import Diversity, Downstream, Fidelity
from simulator.probes.diversity import _directions, _gram, vendi
from simulator.probes.fidelity import cubic, energy, frechet, mmd
from simulator.probes.neighbours import manifold, nearest
from simulator.probes.points import directions, sliced
from simulator.recipe import Accumulate, Replace
from simulator.running.memory import taken

D, K = 64, 5
NETWORK = sized(
    DiT(patch_size=2, num_attention_heads=6, attention_head_dim=64, num_layers=12),
    partial(Denoiser, width=16, depth=1),
)
PROBES: dict[str, Any] = {"diversity": Diversity()} | sized(
    {"fidelity": Fidelity(), "downstream": Downstream(partial(MLP, hidden=(64,)))}, {}
)


def measures(report: Report) -> None:
    """Seconds and bytes of each measure of two sets of n rows of 64 features, and seconds of PyTorch on the device."""
    n = sized(50_000, 300)
    x, y = np.random.default_rng(0).normal(size=(2, n, D)).astype(np.float32)
    a, b, lines = jnp.asarray(x), jnp.asarray(y), directions(jax.random.key(0), 100, D)
    ours: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
        "Fréchet distance": (frechet, (a, b)),
        "kernel distance and its error": (partial(mmd, cubic), (a, b)),
        "energy distance": (energy, (a, b)),
        "nearest neighbours": (partial(nearest, k=K), (a, b)),
        "precision, recall, density, coverage": (partial(manifold, k=K), (a, b)),
        "sliced Wasserstein, 100 directions": (sliced, (a, b, lines)),
        "Vendi score": (lambda z: vendi(_gram(_directions(z))), (a,)),
    }
    theirs = in_torch(x, y) if importlib.util.find_spec("torch") else {}
    report.note("measures", rows=n, features=D)
    for name, (measure, arguments) in ours.items():
        program = jax.jit(measure).lower(*arguments).compile()
        found = {"s": seconds(partial(program, *arguments)), "bytes": taken(program)}
        if name in theirs:
            found["PyTorch, s"] = seconds(theirs[name])
        report.note("measures", **{name: found})


def in_torch(x: np.ndarray, y: np.ndarray) -> dict[str, Callable[[], Any]]:
    """The same in plain torch, 4,096 rows at a time where all pairs would not fit."""
    import torch

    place = "cuda" if torch.cuda.is_available() else "cpu"
    a, b = (torch.from_numpy(z).to(place) for z in (x, y))
    pairs = ((a, a), (b, b), (a, b))

    def root(trace: Any) -> Any:
        return torch.linalg.eigvals(trace).real.clamp(min=0).sqrt().sum()

    def gaussians() -> float:
        c, e = torch.cov(a.T), torch.cov(b.T)
        return float((a.mean(0) - b.mean(0)).square().sum() + c.trace() + e.trace() - 2 * root(c @ e))

    def means(kernel: Callable[[Any, Any], Any]) -> list[float]:
        return [float(sum(kernel(part, q).sum() for part in p.split(4096)) / len(p) / len(q)) for p, q in pairs]

    return {
        "Fréchet distance": gaussians,
        "kernel distance and its error": lambda: means(lambda p, q: (p @ q.T / D + 1) ** 3),
        "energy distance": lambda: means(torch.cdist),
        "nearest neighbours": lambda: [
            torch.cdist(part, b).topk(K, largest=False).values.cpu() for part in a.split(4096)
        ],
    }


def chance(report: Report) -> None:
    """Seconds on the device and on this machine's processor, by the same program."""
    n, key = sized(10_000_000, 10_000), jax.random.key(0)
    weight = uniform(jax.random.key(1), (n,))
    work: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
        f"normal numbers, {n:,}": (lambda k: normal(k, (n,)), (key,)),
        f"exponential numbers, {n:,}": (lambda k: exponential(k, (n,)), (key,)),
        f"choose half of {n:,} rows": (lambda k, w: choose(k, w, n // 2), (key, weight)),
        f"draw {n:,} of {n:,} rows": (lambda k, w: draw(k, w, (n,)), (key, weight)),
        **{f"{sized(4096, 16):,} chains of {name}": job for name, job in chains(sized(4096, 16)).items()},
    }
    processor = jax.devices("cpu")[0]
    for name, (job, arguments) in work.items():
        times = []
        for place in (jax.devices()[0], processor):
            given = jax.device_put(arguments, place)
            program = jax.jit(job).lower(*given).compile()
            times.append(seconds(partial(program, *given)))
        report.note("chance", **{name: {"s": times[0], "processor, s": times[1], "times as fast": times[1] / times[0]}})


def chains(number: int) -> dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]:
    """Gaussian chains of 100 fits, of rows and of cohorts."""

    def cov(key: jax.Array, view: Any) -> jax.Array:
        return view.params.cov[0, 0]

    rows, cohort = Gaussian(1), Cohort(Gaussian(8), n=1000)
    one = Chain(source=Truth(rows), generator=rows, recipe=Replace(), probes={"s": cov}, real=100, rows=100)
    many = Chain(source=Truth(cohort), generator=cohort, recipe=Accumulate(), probes={"s": cov}, real=1, rows=1)
    keys = jax.random.split(jax.random.key(2), number)
    lift = lambda chain: (jax.vmap(lambda key: simulate(chain, key, 100)["s"]), (keys,))  # noqa: E731
    return {"100 rows, replace": lift(one), "cohorts of 1,000, accumulate": lift(many)}


def overhead(report: Report) -> None:
    """Seconds a generation spends on anything but training and sampling, which do not grow with the length of a fit,
    as a share of a generation of a minute; and what the host adds to each call of an optimizer.
    """
    steps, chunk = sized((2000, 100), (20, 10))
    model = Diffusion(network=NETWORK, steps=steps, chunk=chunk, batch=sized(256, 16), sample_steps=sized(50, 2))
    rows = sized(1000, 50)
    chain = Chain(source=Dataset.digits(), generator=model, probes=PROBES, real=rows, rows=rows)
    spent: list[dict[str, float]] = []

    def note(progress: Progress) -> None:
        if progress.seconds:
            spent.append(progress.seconds)

    with tempfile.TemporaryDirectory() as folder:
        run(chain, jax.random.key(0), 3, f"{folder}/run", report=note)
    each = {name: float(np.mean([s[name] for s in spent[1:]])) for name in spent[0]}
    report.note("overhead", **{"a generation, s": each, "steps": steps})
    report.note("overhead", **{"measuring and saving, share of a minute": (each["measure"] + each["save"]) / 60})
    begun, pool = started(chain)
    advance = jax.jit(chain.model.advance).lower(pool, begun).compile()  # pyright: ignore[reportAttributeAccessIssue]
    alone = seconds(partial(advance, pool, begun)) * (steps // chunk)
    report.note("overhead", **{"training alone, s": alone, "host, share of training": each["train"] / alone - 1})


def started(chain: Chain) -> tuple[Any, Any]:
    """(a training at its start, the diet) of a chain's first fit."""

    def begin(key: jax.Array) -> Any:
        state = chain.init(key, 1)
        state, diet = chain.eat(key, state, None)
        return chain.model.begin(key, state.params, diet), diet  # pyright: ignore[reportAttributeAccessIssue]

    return jax.jit(begin)(jax.random.key(0))
