"""Large networks against the peak and against PyTorch, small ones side by side, and what batch fits."""

from __future__ import annotations

import importlib.util
from typing import Any

import jax

from experiments.bench import seconds
from experiments.bench.accelerator import TOY, Report, sized
from experiments.bench.accelerator.device import matmul
from experiments.bench.diffusion import CHUNK, SAMPLE_STEPS, SMALL, images, together, work
from generators.diffusion import Diffusion
from generators.nets.dit import DiT
from generators.nets.unet import UNet
from simulator.pool import Pool

DIT = DiT(patch_size=2, num_attention_heads=12, attention_head_dim=64, num_layers=12)
UNET = UNet(  # that of Ho et al. 2020 for CIFAR-10
    block_out_channels=(128, 256, 256, 256),
    down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
    attention_head_dim=256,
    norm_num_groups=32,
)
SMALL_DIT = DiT(patch_size=4, num_attention_heads=1, attention_head_dim=8, num_layers=1)
LARGE = sized(  # name: (network, side of the images, rows per step, share of the peak aimed at)
    {"DiT-B": (DIT, 32, 256, 0.40), "U-Net": (UNET, 32, 256, 0.35)},
    {"DiT-B": (SMALL_DIT, 8, 16, 0.40)},  # compiling a U-Net for a processor takes as long as all other parts
)
DTYPE = sized("bfloat16", "float32")
MANY = sized((1, 8, 64, 512), (2,))


def networks(report: Report) -> None:
    """Rows/s of training and sampling, as shares of the peak of the type they compute in, and PyTorch's rows/s."""
    top = matmul(sized(8192, 512), DTYPE)
    report.note("networks", **{f"peak {DTYPE}, FLOP/s": top})
    for name, (network, side, batch, aim) in LARGE.items():
        job = work(network, side, batch)
        train, sample = seconds(job.train) / CHUNK, seconds(job.sample)
        found = {
            "batch": batch,
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(job.params["net"])),
            "FLOP a row told": job.told / batch,
            "training, rows/s": batch / train,
            "training, share of the peak": 3 * job.told / train / top,
            "aim": aim,
            f"sampling, rows/s at {SAMPLE_STEPS} steps": batch / sample,
            "sampling, share of the peak": SAMPLE_STEPS * job.told / sample / top,
        }
        report.note("networks", **{name: found})
        if importlib.util.find_spec("torch"):
            report.note("networks", **{name: found | against_torch(job, side, batch, train)})


def against_torch(job: Any, side: int, batch: int, ours: float) -> dict[str, Any]:
    """Rows/s of the same train step in PyTorch, compiled on an accelerator; or why there are none."""
    try:
        from experiments.bench.pytorch import DEVICE, training

        step = training(job.model, job.params, images(side, sized(3, 1)), compiled=not TOY)
        step()
        theirs = seconds(lambda: step(CHUNK)) / CHUNK
    except Exception as error:  # of whatever kind: our own figures stay
        return {"PyTorch": " ".join(f"{type(error).__name__}: {error}".split())[:300]}
    how = f"PyTorch on {DEVICE}{'' if TOY else ', compiled'}"
    return {f"{how}, rows/s": batch / theirs, "times as fast as PyTorch": theirs / ours}


def ensembles(report: Report) -> None:
    """Steps/s of all chains together, K small networks in one program."""
    for name in sized(("MLP, 64 x 2", "DiT, 32 x 2"), ("MLP, 64 x 2",)):
        for k in MANY:
            report.note("ensembles", **{f"{name}, {k}, chain-steps/s": together(SMALL[name], k)})


def memory(report: Report) -> None:
    """The largest batch of DiT-B, told from the needs of two small ones, and tried."""
    network, side, _, _ = LARGE["DiT-B"]
    small = sized((64, 128), (8, 16))
    needs = [need(network, side, batch) for batch in small]
    each = (needs[1] - needs[0]) / (small[1] - small[0])  # bytes a row
    limit = (jax.devices()[0].memory_stats() or {}).get("bytes_limit", 2**28)
    most = int((limit - needs[0] + each * small[0]) // each)
    report.note("memory", **{"bytes that a program may take": limit, "bytes a row of a step": each})
    report.note("memory", **{"largest batch by what the compiler says": most})
    for share in sized((1.0, 0.9, 0.8), ()):
        tried = int(most * share) // 8 * 8
        try:
            job = work(network, side, tried)
            taken = seconds(job.train, 1) / CHUNK
        except jax.errors.JaxRuntimeError as error:
            report.note("memory", **{f"batch {tried}": str(error).splitlines()[0][:200]})
            continue
        peak = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)
        report.note("memory", **{f"batch {tried}": {"rows/s": tried / taken, "peak bytes": peak}})
        break


def need(network: Any, side: int, batch: int) -> int:
    """Bytes of one call of a train step, by the compiler."""
    from simulator.running.memory import taken

    rows = images(side, sized(3, 1))
    model = Diffusion(network=network, batch=batch, steps=1000, chunk=CHUNK, dtype=DTYPE).shaped(rows)
    pool, key = Pool.of(rows), jax.random.key(0)
    begun = jax.eval_shape(lambda k: model.begin(k, model.init(k), pool), key)
    return taken(jax.jit(model.advance).lower(pool, begun).compile())
