"""What the machine is, and the most it gives: the ceilings that other parts are held against."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from experiments.bench import seconds
from experiments.bench.accelerator import Report, sized

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "torch", "scikit-learn", "pandas")
WANTED = ("diffusers", "tyro", "datasets", "rich", "msgspec", "torch", "torchmetrics", "transformers", "matplotlib")


def about() -> dict[str, Any]:
    """Device and versions: what numbers can be compared with."""
    one = jax.devices()[0]
    return {
        "device": f"{one.platform}: {one.device_kind}",
        "devices": jax.device_count(),
        "bytes": int((one.memory_stats() or {}).get("bytes_limit", 0)),
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "missing": [name for name in WANTED if importlib.util.find_spec(name) is None],
    }


def version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def device(report: Report) -> None:
    """FLOP/s of square matmuls in each type, and bytes/s of a copy, read and written."""
    sizes = sized((8192, 16384), (256, 512))
    for name, dtype, precision in (
        ("bfloat16", jnp.bfloat16, "default"),
        ("float32", jnp.float32, "default"),
        ("float32, full precision", jnp.float32, "highest"),
    ):
        report.note("device", **{f"matmul {name}, FLOP/s": max(matmul(n, dtype, precision) for n in sizes)})
    a = jnp.arange(sized(2**30, 2**22), dtype=jnp.float32)
    copy = jax.jit(lambda a: a + 1).lower(a).compile()
    report.note("device", **{"copy, B/s": 2 * a.nbytes / seconds(partial(copy, a), 5)})
    report.note("device", **{"call of an empty program, s": call()})


def matmul(n: int, dtype: Any, precision: Any = "default") -> float:
    """FLOP/s of [n, n] times [n, n], of random numbers: zeros are faster."""
    a = jax.random.normal(jax.random.key(0), (n, n), dtype)
    program = jax.jit(partial(jnp.matmul, precision=precision)).lower(a, a).compile()
    program(a, a)
    return 2 * n**3 / seconds(partial(program, a, a), sized(10, 2))


def call() -> float:
    """Seconds from asking for a program to its end, where it does nothing."""
    a = jnp.zeros(())
    program = jax.jit(lambda a: a + 1).lower(a).compile()
    return min(seconds(partial(program, a), 1) for _ in range(100))
