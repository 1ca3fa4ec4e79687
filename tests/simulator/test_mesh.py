"""Many devices, in one process and in two, give the records of one, which can go on where they stopped."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import mesh_runs
import numpy as np
import pytest
from conftest import ROOT, SHARED
from equality import close, same
from mesh_runs import KEY, RUNS
from stored_runs import contents

from experiments.cli import main
from simulator import GenlossError, Store, run
from simulator.running.mesh import devices


def start(devices: int, *command: str) -> subprocess.Popen[str]:
    """Python on so many simulated devices."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}:{SHARED}"}
    return subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )


def free_address() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{found.getsockname()[1]}"


def finished(*processes: subprocess.Popen[str]) -> list[str]:
    """What each said; all must have ended well."""
    try:
        said = [process.communicate(timeout=500)[0] for process in processes]
    finally:
        for process in processes:  # one that waits for another which failed
            process.kill()
    assert not any(process.returncode for process in processes), "\n".join(said)
    return said


def on_one_process(folder: Path, *names: str) -> list[subprocess.Popen[str]]:
    return [start(8, "-c", PROGRAM.format(join="", folder=folder, names=names))]


def on_two_processes(folder: Path, *names: str) -> list[subprocess.Popen[str]]:
    address = free_address()
    joins = [f"join('{address}', 2, {i})" for i in range(2)]
    return [start(4, "-c", PROGRAM.format(join=join, folder=folder, names=names)) for join in joins]


# Joined before anything is computed, which `mesh_runs` does when it is imported.
PROGRAM = """
from pathlib import Path
from simulator.numerics.processes import join
{join}
import mesh_runs
folder = Path("{folder}")
folder.mkdir(exist_ok=True)
mesh_runs.main(folder, {names})
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """What 8 devices stored, of one process and of two."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    finished(
        *on_one_process(one, "settings", "network", "ensemble"),
        *on_two_processes(two, "settings", "network"),
    )
    return one, two


def record(name: str, folder: Path | None = None) -> Any:
    """The record of a run, as it is stored, or as one device gives it."""
    subject, generations, replicates, every, *_ = RUNS[name]
    return run(subject, KEY, generations, folder and folder / name, replicates=replicates, every=every)


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    return {name: record(name) for name in ("settings", "network")}


def stored(folder: Path) -> list[Any]:
    store = Store(folder)
    with store.opened(store.about()["run"], 1):
        return contents(store)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["settings", "network"])
def test_eight_devices_give_the_records_of_one(name: str, folders: tuple[Path, Path], alone: dict[str, Any]):
    assert close(record(name, folders[0]), alone[name], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_chain_is_that_of_one_device_with_as_many_chains_to_the_bit(folders: tuple[Path, Path]):
    assert json.loads((folders[0] / "said0.json").read_text())["same"]


@pytest.mark.slow
def test_two_processes_give_the_records_of_one(folders: tuple[Path, Path], alone: dict[str, Any]):
    eight, two = folders
    assert same(stored(two / "settings"), stored(eight / "settings"))  # no sum is over devices
    for one in (record("network", eight), alone["network"]):
        assert close(record("network", two), one, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_what_eight_devices_stored_goes_on_on_one(folders: tuple[Path, Path], tmp_path: Path):
    shutil.copytree(folders[0] / "network", tmp_path / "network")
    longer = run(mesh_runs.network, KEY, 5, tmp_path / "network")
    assert same(jax.tree.map(lambda a: a[:3], longer), record("network", folders[0]))
    assert close(longer, run(mesh_runs.network, KEY, 5), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_what_cannot_be_is_refused_by_all(folders: tuple[Path, Path]):
    eight, two = folders
    for file in (eight / "said0.json", two / "said0.json", two / "said1.json"):
        said = json.loads(file.read_text())
        assert "holds another run, which differs in chain.generator.batch: 16 -> 12" in said["another run"], said
        assert "8 devices cannot share a batch of 12 rows" in said["batch"]
        assert "8 devices cannot share 7 chains evenly" in said["chains"]
        assert "needs 16 devices and there are 8" in said["devices"]


def test_a_mesh_of_one_device(alone: dict[str, Any]):
    assert close(run(mesh_runs.network, KEY, 3, mesh=devices()), alone["network"], rtol=1e-5, atol=1e-6)
    with pytest.raises(GenlossError, match="has none"):
        devices(0)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--mesh", "8"], "two numbers of devices, such as 8x1"),
        (["--mesh", "64x2"], "needs 128 devices and there are"),
        (["--processes", "here,2"], "takes HOST:PORT,N,I"),
        (["--processes", "127.0.0.1:1,2,2"], "no process 2 of 2"),
    ],
)
def test_the_command_refuses(
    words: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("GENLOSS_CACHE", "off")
    monkeypatch.setattr("warnings.showwarning", None)
    assert main(["run", str(SHARED / "tiny_gaussian.py"), "--out", str(tmp_path / "run"), *words]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.slow
def test_networks_side_by_side_with_their_minibatches_cut(tmp_path: Path):
    one, two = tmp_path / "one", tmp_path / "two"
    finished(*on_one_process(one, "networks"), *on_two_processes(two, "networks"))
    for folder in (one, two):
        assert close(record("networks", folder), record("networks"), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_fit_stopped_on_a_mesh_goes_on_to_the_bit(tmp_path: Path):
    for on in (on_one_process, on_two_processes):
        folder = tmp_path / on.__name__
        finished(*on(folder, "network", "stopped"))
        assert json.loads((folder / "said0.json").read_text())["saved"]
        assert same(stored(folder / "network"), stored(folder / "stopped")), on.__name__
        assert not (folder / "stopped" / "fit.npz").exists()


@pytest.mark.slow
def test_the_command_on_two_processes(tmp_path: Path):
    address, file = free_address(), str(SHARED / "tiny_gaussian.py")
    command = ["-m", "experiments.cli", "run", file, "--generations", "4", "--replicates", "8", "--cache", "off"]
    command += ["--mesh", "8x1", "--out", str(tmp_path / "run")]
    first, second = finished(*(start(4, *command, "--processes", f"{address},2,{i}") for i in range(2)))
    assert "4/4 after" in first and "page:" in first and "page:" not in second
    subject = mesh_runs.spec.decode(Store(tmp_path / "run").about()["run"]["chain"])
    whole = run(subject, KEY, 4, replicates=8, every=2)
    frame = Store(tmp_path / "run").records()
    values = frame[frame.metric == "diversity.variance"].sort_values(["replicate", "generation"]).value
    assert np.allclose(values, np.asarray(whole["diversity.variance"]).ravel(), rtol=1e-5)
