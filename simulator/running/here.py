"""What computes: versions, the kind of device, and what of it the last bits of a number depend on."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import re
from pathlib import Path
from typing import Any

import jax

PACKAGES = ("genloss", "jax", "flax", "optax", "orbax-checkpoint", "numpy")

VECTORS = ("asimd", "sve", "avx", "avx2", "fma", "avx512f", "amx_tile")  # instructions, where a CPU has them


def here() -> dict[str, Any]:
    """Versions, device and processor."""
    return {
        "versions": {name: version(name) for name in PACKAGES},
        "device": str(jax.devices()[0].device_kind),
        "processor": processor(),
    }


def version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


@functools.cache
def processor() -> str:
    """Of a CPU its model, for which programs are made, and its threads, among which sums are divided; of another device
    what drives it."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        return device.client.platform_version.strip()
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    info = Path("/proc/cpuinfo")
    said = dict(re.findall(r"^(.+?)\s*: (.*)$", info.read_text().partition("\n\n")[0], re.M)) if info.exists() else {}
    model = [said[name] for name in ("model name", "cpu family", "model", "stepping") if name in said]
    vectors = [name for name in VECTORS if name in said.get("flags", said.get("Features", "")).split()]
    return f"{' '.join([*(model or [platform.machine()]), *vectors])}, {threads} threads"
