"""Training and sampling of diffusion models, against the device's matmuls, PyTorch, and many networks at once.

`python -m experiments.bench diffusion`, or one part: `diffusion.train`, `diffusion.ensembles`; `diffusion.convolutions`
has the three ways in which many U-Nets at once may convolve.  FLOPs are those of the matmuls and convolutions that the
network is written in, and of a train step three times as many, whatever is computed.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench import say, seconds, table
from generators.diffusion import Diffusion
from generators.nets.denoiser import Denoiser
from generators.nets.dit import DiT
from generators.nets.unet import UNet
from simulator.pool import Pool, Rows
from simulator.running.work import products

CPU = jax.default_backend() == "cpu"
NETWORKS = {  # name: (network, side of the images, rows per step)
    "MLP, 512 x 3": (partial(Denoiser, width=512), 28, 128),
    "DiT, 128 x 6": (DiT(), 28, 64),
    "U-Net, 32-64-64": (UNet(), 28, 32),
}
LARGE = {"DiT-B, 768 x 12": (DiT(patch_size=2, num_attention_heads=12, attention_head_dim=64, num_layers=12), 32, 256)}
TINY = UNet(block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, attention_head_dim=8)
SMALL = {  # 8 x 8 images, 16 rows per step
    "MLP, 64 x 2": partial(Denoiser, width=64, depth=2),
    "DiT, 32 x 2": DiT(patch_size=2, num_attention_heads=2, attention_head_dim=16, num_layers=2),
    "U-Net, 8-16": TINY,
}
CONVOLUTIONS = {f"U-Net, 8-16, {how}": dataclasses.replace(TINY, convolution=how) for how in ("auto", "matmul", "lax")}
SAMPLE_STEPS, CHUNK = 10, 5


@dataclass(frozen=True)
class Work:
    """A model with compiled training and sampling."""

    model: Diffusion
    params: Any
    train: Callable[[], Any]  # `CHUNK` steps
    sample: Callable[[], Any]  # one batch
    told: float  # FLOPs of the network telling one batch


def main() -> None:
    train()
    ensembles()


def ceiling(dtype: Any) -> float:
    """FLOP/s of the best of square matmuls."""
    found = 0.0
    for n in (512, 1024, 2048) if CPU else (4096, 8192):
        a = jax.random.normal(jax.random.key(0), (n, n), dtype)
        product = jax.jit(jnp.matmul).lower(a, a).compile()
        found = max(found, 2 * n**3 / seconds(partial(product, a, a), 10))
    return found


def images(side: int, colours: int = 1, n: int = 2048) -> Rows:
    """Rows of noise, of ten classes: what they show does not matter here."""
    chance = np.random.default_rng(0)
    shown = chance.integers(0, 256, (n, side, side, colours)).astype(np.uint8)
    return {"image": jnp.asarray(shown), "label": jnp.asarray(np.arange(n) % 10, jnp.int32)}


def work(network: Any, side: int, batch: int) -> Work:
    rows = images(side, 1 if CPU else 3)
    model = Diffusion(
        network=network, batch=batch, steps=1000, chunk=CHUNK, sample_batch=batch, sample_steps=SAMPLE_STEPS,
        dtype="float32" if CPU else "bfloat16",
    ).shaped(rows)  # fmt: skip
    pool, key = Pool.of(rows), jax.random.key(0)
    params = jax.jit(model.init)(key)
    begun = jax.jit(model.begin)(key, params, pool)
    x, t, label = jnp.zeros((batch, *model._shape)), jnp.zeros(batch), jnp.zeros(batch, jnp.int32)
    told = products(jax.make_jaxpr(lambda net: model._merged(net)(x, t, label))(params["net"]))
    advance = jax.jit(model.advance).lower(pool, begun).compile()
    sample = jax.jit(model.sample, static_argnums=2).lower(key, params, batch).compile()
    return Work(model, params, lambda: advance(pool, begun), lambda: sample(key, params), told)


def train() -> None:
    """Training and sampling of one network, and the same train step in PyTorch."""
    top = ceiling(jnp.float32 if CPU else jnp.bfloat16)
    torch = importlib.util.find_spec("torch") and importlib.util.find_spec("diffusers")
    found = table(
        f"one network, {'28 x 28' if CPU else 'bfloat16'}; shares are of the FLOP/s of matmuls, {top / 1e9:,.0f} G",
        "network", "batch", "steps / s", "share", f"samples / s, {SAMPLE_STEPS} steps", "share",
        "PyTorch, steps / s", "times as fast",
    )  # fmt: skip
    for name, (network, side, batch) in (NETWORKS if CPU else NETWORKS | LARGE).items():
        job = work(network, side, batch)
        theirs: list[float] = []
        ours = said = float("inf")
        for _ in range(3):  # by turns, since other work on a shared machine comes and goes
            ours = min(ours, seconds(job.train, 1) / CHUNK)
            said = min(said, seconds(job.sample, 1))
            if torch:
                theirs.append(_torch(job, images(side, 1 if CPU else 3)))
        rate = job.told * SAMPLE_STEPS / said
        numbers = [f"{batch}", f"{1 / ours:.2f}", f"{3 * job.told / ours / top:.0%}"]
        numbers += [f"{batch / said:,.0f}", f"{rate / top:.0%}"]
        if torch:
            numbers += [f"{1 / min(theirs):.2f}", f"{min(theirs) / ours:.2f}"]
        say("  ".join((name, *numbers)))
        found.add_row(name, *numbers)
    say(found)


def _torch(job: Work, rows: Rows) -> float:
    """Seconds of a train step in PyTorch, with one thread or with two, whichever is faster."""
    import torch

    from experiments.bench.pytorch import training

    step = training(job.model, job.params, rows)
    best = float("inf")
    for threads in (1, 2):
        torch.set_num_threads(threads)
        step()
        best = min(best, seconds(step, 2))
    return best


def ensembles(networks: dict[str, Any] = SMALL) -> None:
    """K small networks trained side by side in one program."""
    many = (1, 4, 16, 64)
    found = table("K networks in one program: steps of all together / s", "network", *map(str, many), "64 against 1")
    for name, network in networks.items():
        rates = [together(network, k) for k in many]
        numbers = [*(f"{rate:,.0f}" for rate in rates), f"{rates[-1] / rates[0]:.1f}"]
        say("  ".join((name, *numbers)))
        found.add_row(name, *numbers)
    say(found)


def together(network: Any, k: int) -> float:
    """Steps/s of K networks for images of 8 x 8 in one program, 16 rows a step, all together."""
    rows = images(8)
    pool = Pool.of(rows)
    model = Diffusion(network=network, batch=16, steps=1000, chunk=CHUNK).shaped(rows)
    if model.unrolled:  # compiling takes as much longer as the chunk is large
        model = dataclasses.replace(model, chunk=1)
    begun = jax.jit(jax.vmap(lambda key: model.begin(key, model.init(key), pool)))
    trainings = begun(jax.random.split(jax.random.key(0), k))  # leaves [k, ...]
    advance = jax.jit(jax.vmap(model.advance, (None, 0))).lower(pool, trainings).compile()
    once = seconds(partial(advance, pool, trainings), 1)
    again = seconds(partial(advance, pool, trainings), 10 if once < 0.1 else 2)
    return k * model.chunk / min(once, again)


PARTS: dict[str, Callable[[], None]] = {
    "train": train,
    "ensembles": ensembles,
    "convolutions": partial(ensembles, CONVOLUTIONS),  # minutes more: grouped ones compile slowly
}
