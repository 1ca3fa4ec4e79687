"""What a verb computes on: the cache of compiled programs, the processes that share a run, their mesh."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from experiments.command.numbers import number


def arguments(sub: argparse.ArgumentParser) -> None:
    """What every verb takes."""
    sub.add_argument(
        "--cache", default=None, metavar="DIR", help="folder for compiled programs and tokens of texts; 'off': none"
    )
    sub.add_argument(
        "--memory",
        type=number(0.01, 1),
        metavar="SHARE",
        help="of a GPU's, taken at the start: 0.4 leaves room for a second program on it (default: jax's, 0.75)",
    )


def prepare_jax(cache: str | None, memory: float | None = None) -> None:
    """Compiled programs are kept in the user's cache folder, so that a second start is faster.

    jax takes its share of a GPU's memory when it first looks for devices; PyTorch is held to the same where it draws.
    """
    if memory is not None:
        os.environ.pop("XLA_PYTHON_CLIENT_MEM_FRACTION", None)  # its older name: one of both may be given
        os.environ["XLA_CLIENT_MEM_FRACTION"] = str(memory)
    if cache:
        os.environ["GENLOSS_CACHE"] = cache  # for what else is kept: the tokens of long texts
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = os.environ.get("GENLOSS_CACHE") or str(Path(home) / "genloss" / "xla")
    if folder != "off":
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", folder)
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


def gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; none is touched."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in visible.split(",") if name.strip() not in ("", "-1")]
    if not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=False)
    return [str(i) for i in range(len(listed.stdout.splitlines()))] if listed.returncode == 0 else []


def join(text: str | None) -> None:
    """Joins the processes that share a run, before anything is computed."""
    if text is None:
        return
    from simulator import GenlossError
    from simulator.numerics import processes

    if text == "auto":
        return processes.join()
    address, *numbers = text.split(",")
    if len(numbers) != 2 or not all(n.isdecimal() and n.isascii() for n in numbers) or ":" not in address:
        raise GenlossError(f"--processes takes HOST:PORT,N,I, or 'auto'; it was given '{text}'.")
    processes.join(address, *map(int, numbers))


def mesh(options: argparse.Namespace) -> Any:
    """The mesh asked for, or None."""
    from simulator import GenlossError
    from simulator.running.mesh import devices

    if options.mesh is None:
        if options.processes:
            raise GenlossError("Several processes share a run on one mesh; say which with --mesh, such as 8x1.")
        return None
    chain, _, batch = options.mesh.partition("x")
    if not all(n.isdecimal() and n.isascii() and len(n) < 7 for n in (chain, batch)):
        raise GenlossError(f"--mesh takes two numbers of devices, such as 8x1; it was given '{options.mesh}'.")
    return devices(int(chain), int(batch))
