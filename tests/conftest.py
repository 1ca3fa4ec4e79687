"""What tests share: means compared with closed forms in their own standard errors, and small chains."""

import gc
import importlib.util
import itertools
import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

# A pool of threads for each worker would be more threads than cores; and batched decompositions of matrices that run
# side by side in one pool have been seen to wait for each other for ever (jax 0.10).
# Programs are compiled without optimisation and in one piece, since most run for less time than that takes; and by the
# older emitter of fused loops where there is one (jax 0.10), which takes half the time.  Where XLA_FLAGS names a level,
# that holds, with the emitter that users have.
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of NumPy's and scikit-learn's threads, the same
os.environ.setdefault("XLA_FLAGS", "")
os.environ["XLA_FLAGS"] = (
    "--xla_cpu_multi_thread_eigen=false --xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1 "
    + "--xla_cpu_use_fusion_emitters=false "
    * (version("jaxlib").startswith("0.10.") and "optimization_level" not in os.environ["XLA_FLAGS"])
    + os.environ["XLA_FLAGS"]
)

# Compiled programs are shared between workers, the processes that tests start, and the next run.
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(__file__).parent.parent / ".pytest_cache" / "xla")
os.environ["GENLOSS_CACHE"] = os.environ["JAX_COMPILATION_CACHE_DIR"]
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import jax
import numpy as np
import pytest
from jax._src.interpreters import mlir
from jaxlib.mlir import ir

from generators.gaussian import Gaussian
from simulator import Chain, Truth

ROOT = Path(__file__).parent.parent
SHARED = ROOT / "tests" / "shared"  # files of chains that tests run as a user would

CACHE = Path(os.environ["GENLOSS_CACHE"])

# Options of `jax.jit` where many numbers are drawn or bits are compared: programs as those of a run are for users.
OPTIMISED = {"xla_backend_optimization_level": 2}


def shared(make: Callable[[], Any], thread: threading.local = threading.local()) -> Any:
    """What a program is written in, made once for ten, since making it takes as long as writing a small program."""
    if ir.Context.current is not None:  # while another program is written
        return make()
    thread.asked = getattr(thread, "asked", -1) + 1
    if thread.asked % 10 == 0:
        thread.context = make()
    return thread.context


if version("jax").startswith("0.10."):  # jax 0.11 does so itself
    mlir.make_ir_context = partial(shared, mlir.make_ir_context)


def assert_mean(samples: Any, expected: Any, sigmas: float = 5.0) -> None:
    """The mean over axis 0 of samples [chains, ...] is `expected`, within standard errors of that mean."""
    samples, expected = np.asarray(samples, np.float64), np.asarray(expected, np.float64)
    assert np.isfinite(samples).all()
    error = samples.std(0, ddof=1) / np.sqrt(samples.shape[0])
    z = (samples.mean(0) - expected) / error
    assert np.abs(z).max() < sigmas, f"off by {np.round(z, 2)} standard errors: {samples.mean(0)} for {expected}"


def cases(table: Mapping[str, Any], quick: str) -> list[Any]:
    """The cases of a table as parameters; all but the quick ones, named with semicolons between, are marked slow."""
    names = [name.strip() for name in quick.split(";")]
    assert set(names) <= set(table)
    marks = {name: () if name in names else pytest.mark.slow for name in table}
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), id=name, marks=marks[name])
        for name, case in table.items()
    ]


def scattered(*shape: int, seed: int = 0) -> np.ndarray:
    """Numbers of mean 0 and variance 1 that no library draws: stored references stay those of the same input."""
    n = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    return np.sqrt(12) * (np.modf(43758.5453 * np.sin(12.9898 * n + 78.233 * seed + 1) + 1e5)[0] - 0.5)


def reference(name: str) -> Any:
    """What another library said, as tests/references/make.py stored it."""
    return json.loads((Path(__file__).parent / "references" / f"{name}.json").read_text())["values"]


def moments(key: jax.Array, view: Any) -> dict[str, jax.Array]:
    """The fitted mean [d] and covariance [d, d] of a Gaussian generation."""
    return {"mean": view.params.mean, "cov": view.params.cov}


def gaussian_chain(dim: int = 1, ddof: int = 0, bias: float = 1.0, **fields: Any) -> Chain:
    fields = {"real": 10, "rows": 10, "held_out": 0, "probes": {"moments": moments}, **fields}
    return Chain(source=Truth(Gaussian(dim)), generator=Gaussian(dim, ddof, bias), **fields)


@pytest.fixture(autouse=True)
def the_same_chance(request: pytest.FixtureRequest) -> None:
    """Random numbers of a test do not depend on which tests ran before it."""
    if hasattr(request.module, "CHANCE"):
        request.module.CHANCE = np.random.default_rng(0)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB, mounted for the test."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    subprocess.run(mount, check=True, capture_output=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets, for tests marked `data`."""
    return Path(os.environ["GENLOSS_DATA"])


def may_mount() -> bool:
    """Whether this process may mount file systems (CAP_SYS_ADMIN, Linux)."""
    status = Path("/proc/self/status")
    found = re.search(r"CapEff:\s*(\w+)", status.read_text()) if status.exists() else None
    return found is not None and bool(int(found[1], 16) >> 21 & 1)


# What tests need that an installation may lack: those so marked are left out where it does, and the summary says so.
NEEDS = {
    "torch": (
        all(importlib.util.find_spec(name) for name in ("torch", "torchmetrics", "transformers")),
        "need the extra `torch`; without it what torch says is read from tests/references",
    ),
    "mount": (may_mount(), "mount a file system to fill, which takes root"),
    "browser": (
        importlib.util.find_spec("playwright") is not None and shutil.which("chromium") is not None,
        "open a page in a browser, which takes the extra `browser` and chromium",
    ),
    "data": ("GENLOSS_DATA" in os.environ, "need the folder of data sets that GENLOSS_DATA names"),
}
MISSING = {mark: why for mark, (there, why) in NEEDS.items() if not there}


def lacks(item: pytest.Item) -> str | None:
    """Why an installation leaves a test out, or nothing."""
    extras = [name for mark in item.iter_markers("extra") for name in mark.args]
    without = next((name for name in extras if importlib.util.find_spec(name) is None), None)
    return next((mark for mark in MISSING if item.get_closest_marker(mark)), without)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--within", type=float, metavar="SECONDS", help="begin no test later; say which were left out")


STARTED = time.monotonic()


def pytest_runtest_setup(item: pytest.Item) -> None:
    seconds = item.config.getoption("--within")
    if seconds is not None and time.monotonic() - STARTED > seconds:
        pytest.skip(f"left out: it would begin after {seconds:g} s")


MAPS = Path("/proc/self/maps")
ENDED = itertools.count(1)


def pytest_runtest_teardown() -> None:
    # Each program on CPU holds some mappings of memory, of which Linux gives a process 65,530: a long list of tests
    # comes near them, and past them jaxlib ends the process.  Counting them takes some milliseconds.
    if next(ENDED) % 10 == 0 and MAPS.exists() and MAPS.read_bytes().count(b"\n") > 20_000:
        jax.clear_caches()


def pytest_collection_finish() -> None:
    # What is imported stays, and is not looked through for garbage again; nor is what jax remembers, often.
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)


SLOW = [0]  # how many cases are
WITHOUT: set[str] = set()  # packages that tests left out need


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    SLOW[0] = getattr(node, "workeroutput", {}).get("slow", SLOW[0])
    WITHOUT.update(getattr(node, "workeroutput", {}).get("without", ()))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    marked: dict[str, set[str]] = {}
    for item in items:
        mark = item.get_closest_marker("quick")
        if mark:
            case = item.nodeid.removeprefix(item.nodeid.split("[")[0])[1:-1]
            marked.setdefault(item.nodeid.split("[")[0], set(mark.args)).discard(case)
            if case not in mark.args:
                item.add_marker(pytest.mark.slow)
    unknown = {name: left for name, left in marked.items() if left}
    if unknown and not any("::" in given for given in config.args):
        raise pytest.UsageError(f"marked quick, but no case of the test: {unknown}")
    SLOW[0] = sum(item.get_closest_marker("slow") is not None for item in items)
    out = [item for item in items if lacks(item)]
    WITHOUT.update(why for item in out if (why := lacks(item)) is not None and why not in MISSING)
    if hasattr(config, "workeroutput"):
        config.workeroutput |= {"slow": SLOW[0], "without": sorted(WITHOUT)}  # pyright: ignore[reportAttributeAccessIssue]
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in out]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.option.markexpr == "not slow":
        terminalreporter.write_line(f"left out: {SLOW[0]} cases marked `slow`; `pytest -m slow` runs them")
    for mark, why in MISSING.items():
        terminalreporter.write_line(f"left out: tests marked `{mark}`, which {why}")
    if WITHOUT:
        terminalreporter.write_line(f"left out: tests of extras that need {', '.join(sorted(WITHOUT))}")
