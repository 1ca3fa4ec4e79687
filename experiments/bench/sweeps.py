"""What an engine adds to a run: tiny runs of a sweep by two warm processes, beside the same runs by the library alone.

The library's are two processes, too, which call `simulator.run` again and again; both keep compiled programs in one
folder, which is filled first.  Wall seconds are those of a quiet machine only; CPU seconds hardly depend on it.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from experiments.bench import say

RUNS = int(os.environ.get("GENLOSS_BENCH_RUNS", "200"))
TINY = """
from generators.gaussian import Gaussian
from simulator import Chain, Truth
from simulator.probes import Moments
chain = Chain(source=Truth(Gaussian(1)), generator=Gaussian(1), probes={"moments": Moments()}, real=20, rows=20)
generations, every = 5, 5
"""
ALONE = """
import sys
from experiments.command.devices import prepare_jax
prepare_jax(None)
import jax, tiny
from simulator import run
for seed in range(int(sys.argv[1]), int(sys.argv[2]), 2):
    run(tiny.chain, jax.random.key(seed), tiny.generations, f"alone/{seed}", every=tiny.every)
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "tiny.py").write_text(TINY)
        _timed(folder, 4)  # fills the cache
        walls, cpus = _timed(folder, RUNS)
    for name, wall, cpu in zip(("the library", "the sweep"), walls, cpus, strict=True):
        say(f"{RUNS} tiny runs by {name}, two processes: {wall:.1f} s, {cpu:.1f} CPU s")
    each = [(b - a) / RUNS for a, b in ((2 * walls[0], 2 * walls[1]), cpus)]
    say(f"more of the sweep, a run: {each[0]:.2f} s of a process, {each[1]:.2f} CPU s")


def _timed(folder: str, runs: int) -> tuple[list[float], list[float]]:
    """Wall and CPU seconds of the library's runs and of the sweep's, planning and joining among the sweep's."""
    seeds = ",".join(map(str, range(runs)))
    sweep = ["-m", "experiments.cli", "sweep", "tiny.py", "--over", f"seed={seeds}", "--engine", "local", "--jobs", "2"]
    commands = [[["-c", ALONE, str(i), str(runs)] for i in (0, 1)], [[*sweep, "--out", f"swept{runs}"]]]
    environment = {**os.environ, "XDG_CACHE_HOME": folder, "PYTHONPATH": f"{folder}:{os.environ.get('PYTHONPATH', '')}"}
    walls, cpus = [], []
    for side in commands:
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        how = {"cwd": folder, "env": environment, "stdout": subprocess.DEVNULL}
        going = [subprocess.Popen([sys.executable, *command], **how) for command in side]
        codes = [process.wait() for process in going]
        if any(codes):
            raise RuntimeError("a benchmark's process failed")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        walls.append(time.perf_counter() - started)
        cpus.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    shutil.rmtree(Path(folder, "alone"))  # whose next runs are anew
    return walls, cpus
