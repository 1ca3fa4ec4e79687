"""Runs on disk: killed, damaged, full, foreign, forked; and each row once."""

import errno
import gc
import json
import os
import random
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas
import pytest
import tiny_gaussian
import tiny_vae
from conftest import CACHE, SHARED, gaussian_chain
from equality import same
from stored_runs import contents, run_gaussian

from generators.vae import VAE
from simulator import Chain, Dataset, GenlossError, Progress, Record, RunFailed, Store, disk, run
from simulator.recipe import Accumulate, Mix, Replace
from simulator.running import spec
from simulator.running.drive import identity

# After a read or write that failed, Orbax leaves futures on an event loop it has closed.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True, scope="module")
def collected() -> Iterator[None]:
    """Those futures are collected among these tests, not within another file's."""
    yield
    gc.collect()


KEY = jax.random.key(0)


def start(file: str, out: Path, *more: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "experiments.cli",
        "run",
        str(SHARED / file),
        "--out",
        str(out),
        "--cache",
        str(CACHE),
        *more,
    ]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def finish(file: str, out: Path, *more: str) -> tuple[float, float]:
    """Runs to the end; seconds from the first word of progress to the first generation, and from there to the last."""
    process = start(file, out, *more)
    assert process.stdout is not None
    process.stdout.readline()
    began, done = time.perf_counter(), []
    said = ""
    for line in process.stdout:
        said += line
        done += [time.perf_counter()] * (" after " in line)
    assert process.wait() == 0, said
    return (done[0] - began, done[-1] - done[0]) if done else (0.0, 0.0)


def kill_and_compare(file: str, folder: Path, kills: int, seed: int, *more: str) -> list[str]:
    """Kills runs at random moments until there were `kills`, resuming each; says when they fell."""
    finish(file, folder / "warm", *more)  # compiles
    before, meanwhile = finish(file, folder / "whole", *more)
    whole = Store(folder / "whole")
    chance, moments, turn = random.Random(seed), [], 0
    while len(moments) < kills:
        out = folder / f"killed{turn}"
        turn += 1
        while True:
            process = start(file, out, *more)
            assert process.stdout is not None
            process.stdout.readline()  # the folder's name: imports are over
            if chance.random() < 0.5:
                time.sleep(chance.uniform(0.1, before))
            elif any(" after " in line for line in process.stdout):  # where none is left to do, this reads to the end
                time.sleep(chance.uniform(0, meanwhile))
            else:
                process.wait()
            if process.poll() is not None:
                assert process.returncode == 0, process.stdout.read()
                break
            process.kill()
            process.wait()
            steps = Store(out).steps()
            tmp = [p.name for p in out.rglob("*tmp*")] + [p.name for p in out.rglob(".*.part")]
            moments.append(f"after {steps[-1] if steps else None}" + (f", writing {tmp[0]}" if tmp else ""))
            moments[-1] += ", in a fit" * (out / "fit.npz").exists()
            if len(moments) >= kills:
                finish(file, out, *more)
                break
        killed = Store(out)
        with killed.opened(killed.about()["run"], 1), whole.opened(whole.about()["run"], 1):
            assert same(contents(whole), contents(killed))
        assert (out / "records.parquet").read_bytes() == (whole.path / "records.parquet").read_bytes()
        assert not list(out.rglob(".*.part")) and not (out / "damaged").exists() and not (out / "fit.npz").exists()
    return moments


@pytest.mark.slow
def test_killed_and_resumed_equals_uninterrupted(tmp_path: Path):
    kill_and_compare("tiny_gaussian.py", tmp_path, kills=2, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("file", ["tiny_vae.py", "tiny_gaussian.py"])
def test_killed_at_fifty_moments(file: str, tmp_path: Path):
    moments = kill_and_compare(file, tmp_path, kills=50, seed=2)
    print("\n".join(moments))
    assert len({m.split(",")[0] for m in moments}) > 5  # they fell all over the run


@pytest.mark.slow
def test_killed_at_fifty_moments_of_long_fits(tmp_path: Path):
    moments = kill_and_compare("long_vae.py", tmp_path, 50, 3, "--save-seconds", "0.2")
    print("\n".join(moments))
    assert sum("in a fit" in m for m in moments) > len(moments) // 4  # the others fell while it started or reported


class Stopped(Exception):
    pass


@pytest.mark.quick("threefry2x32")
@pytest.mark.parametrize("kind", ["threefry2x32", "rbg", pytest.param("unsafe_rbg", marks=pytest.mark.slow)])
def test_a_fit_that_was_stopped_goes_on_where_it_was(kind: str, tmp_path: Path):
    key = jax.random.key(0, impl=kind)
    chain = Chain(source=Dataset.digits(), generator=VAE(steps=40, chunk=4, hidden=(16,)), real=50, rows=50)
    whole = run(chain, key, 2, tmp_path / "whole")
    parts: list[float] = []

    def stop(progress: Progress) -> None:
        parts.append(progress.part)
        if progress.done == 1 and progress.part > 0.55:
            raise Stopped

    with pytest.raises(Stopped):
        run(chain, key, 2, tmp_path / "stopped", save_seconds=0, report=stop)
    key = spec.decode(Store(tmp_path / "stopped").about()["run"]["key"])
    assert jax.random.key_impl(key) == kind
    assert (tmp_path / "stopped" / "fit.npz").exists()
    parts.clear()
    again = run(chain, key, 2, tmp_path / "stopped", save_seconds=0, report=lambda p: parts.append(p.part))
    assert min(p for p in parts if p > 0) > 0.15  # the first call, a tenth of the fit, was not made again
    assert same(whole, again) and not (tmp_path / "stopped" / "fit.npz").exists()


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Store]:
    """The folder of a run that has done nothing yet."""
    store = Store(tmp_path / "held")
    with store.opened(identity(tiny_gaussian.chain, KEY), 3):
        yield store


def test_a_damaged_fit_starts_anew(held: Store):
    training = {"a": jax.numpy.arange(5.0), "key": jax.random.key(3)}
    held.write_fit(4, 2, training)
    calls, found = held.fit(4, training) or (0, training)
    assert calls == 2
    assert same(found["a"], training["a"]) and bool((found["key"] == training["key"]).all())
    data = bytearray((held.path / "fit.npz").read_bytes())
    data[data.find(np.arange(5, dtype=np.float32).tobytes()) + 5] ^= 1
    (held.path / "fit.npz").write_bytes(data)
    with pytest.warns(UserWarning, match=r"checksum|CRC"):
        assert held.fit(4, training) is None


def test_a_fit_is_taken_up_by_its_own_generation_alone(held: Store):
    training = {"a": jax.numpy.arange(5.0)}
    held.write_fit(4, 2, training)
    assert held.fit(4, training) is not None
    assert held.fit(3, training) is None and held.fit(5, training) is None
    held.drop_fit(but=4)  # the run goes on with it
    assert (held.path / "fit.npz").exists()
    held.drop_fit(but=3)  # an earlier generation is made again, and all after it
    assert not (held.path / "fit.npz").exists()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Record]:
    store = Store(tmp_path_factory.mktemp("runs") / "gaussian")
    return store, run_gaussian(store)


def copy_of(finished: tuple[Store, Record], folder: Path) -> Store:
    shutil.copytree(finished[0].path, folder / "copy")
    return Store(folder / "copy")


def test_a_stored_run_equals_one_in_memory(finished: tuple[Store, Record]):
    assert same(finished[1], run(tiny_gaussian.chain, KEY, 6, replicates=2, every=2))


def test_a_second_call_returns_what_is_stored(finished: tuple[Store, Record], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("simulator.running.drive.Drive.go", None)  # nothing may be run
    before = {p: p.stat().st_mtime_ns for p in finished[0].path.rglob("*") if "checkpoints" in p.parts and p.is_file()}
    assert same(run_gaussian(finished[0]), finished[1])
    assert same(run_gaussian(finished[0], 4), jax.tree.map(lambda a: a[:, :4], finished[1]))
    assert before == {p: p.stat().st_mtime_ns for p in before}


def test_more_generations_extend_a_run(finished: tuple[Store, Record], tmp_path: Path):
    longer = run_gaussian(copy_of(finished, tmp_path), 10)
    assert same(jax.tree.map(lambda a: a[:, :6], longer), finished[1])
    direct = run(tiny_gaussian.chain, KEY, 10, replicates=2, every=2)
    assert jax.tree.all(jax.tree.map(lambda a, b: np.allclose(a, b, rtol=1e-4), longer, direct))


def test_records_are_tidy(finished: tuple[Store, Record]):
    frame = finished[0].records()
    assert list(frame.columns) == ["setting", "replicate", "generation", "metric", "value"]
    chosen = frame[(frame.metric == "diversity.variance") & (frame.replicate == 1)].sort_values("generation")
    assert chosen.generation.tolist() == list(range(6))
    assert np.array_equal(chosen.value, finished[1]["diversity.variance"][1].astype(float))
    assert not frame.duplicated(["setting", "replicate", "generation", "metric"]).any()


@pytest.mark.slow
def test_vector_metrics_are_numbered(tmp_path: Path):
    run(tiny_vae.sweep, KEY, 1, tmp_path / "vae", replicates=1)
    frame = pandas.read_parquet(tmp_path / "vae" / "records.parquet")
    assert {f"downstream.samples.class.{i}" for i in range(10)} <= set(frame.metric)
    assert set(frame.setting) == {"replace", "accumulate"}
    assert (tmp_path / "vae" / "samples" / "0.png").read_bytes().startswith(b"\x89PNG")
    ceiling = Store(tmp_path / "vae").ceiling()
    assert ceiling["fidelity.recall"] > 0.9 and ceiling["fidelity.frechet"] < frame[
        frame.metric == "fidelity.frechet"].value.min()  # fmt: skip


def test_the_chain_can_be_built_again(finished: tuple[Store, Record], tmp_path: Path):
    again = finished[0].chain()
    assert same(run(again, KEY, 6, replicates=2, every=2), finished[1])
    about = finished[0].about()
    assert about["versions"]["jax"] == jax.__version__ and about["device"]
    assert spec.decode(about["run"]["key"]) == KEY


def test_a_changed_chain_is_refused_with_what_differs(finished: tuple[Store, Record]):
    other = spec.override(tiny_gaussian.chain, {"real": 21, "recipe.generations": 2})
    with pytest.raises(GenlossError, match=r"chain.recipe.generations: 3 -> 2; chain.real: 20 -> 21"):
        run(other, KEY, 6, finished[0], replicates=2, every=2)
    with pytest.raises(GenlossError, match="differs in key"):
        run(tiny_gaussian.chain, jax.random.key(1), 6, finished[0], replicates=2, every=2)
    with pytest.raises(GenlossError, match="replicates: 2 -> 3"):
        run(tiny_gaussian.chain, KEY, 6, finished[0], replicates=3, every=2)


def test_a_folder_that_is_not_a_run_is_refused(tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(GenlossError, match=r"not a run's folder \(it has thesis.tex\)"):
        run_gaussian(tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_a_run_in_use_is_refused(finished: tuple[Store, Record], tmp_path: Path):
    store = copy_of(finished, tmp_path)
    with store.opened(store.about()["run"], 6), pytest.raises(GenlossError, match="Another process"):
        run_gaussian(Store(store.path))


@pytest.mark.parametrize(
    ("harm", "step"),
    [("truncated", 5), ("flipped", 5), ("flipped", 3), ("flipped", 1), ("emptied", 5), ("no metadata", 5)],
)
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    harm: str, step: int, finished: tuple[Store, Record], tmp_path: Path
):
    store = copy_of(finished, tmp_path)
    damaged = store.path / "checkpoints" / str(step)
    if harm == "no metadata":
        shutil.rmtree(damaged / "meta")
    else:
        for file in (p for p in damaged.rglob("*") if p.is_file() and "/d/" in str(p)):
            data = bytearray(file.read_bytes())
            data[len(data) // 2] ^= 0xFF
            file.write_bytes({"truncated": data[: len(data) // 2], "flipped": data, "emptied": b""}[harm])
    after = f"going on after generation {step - 2}" if step > 1 else "starting anew"
    with pytest.warns(UserWarning, match=rf"checkpoint of generation {step} .* is damaged .* {after}"):
        again = run_gaussian(store)
    assert same(again, finished[1])
    assert (store.path / "damaged" / str(step)).exists()


def test_a_missing_older_checkpoint_sets_later_ones_aside(finished: tuple[Store, Record], tmp_path: Path):
    store = copy_of(finished, tmp_path)
    shutil.rmtree(store.path / "checkpoints" / "3")
    with pytest.warns(UserWarning, match="generation 2 is missing before it"):
        assert same(run_gaussian(store), finished[1])


@pytest.mark.mount
def test_a_full_disk_fails_with_a_sentence_and_can_be_resumed(tmp_path: Path):
    """On a file system of 2 MB, mounted for the test."""
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(small)]
    subprocess.run(mount, check=True, capture_output=True)
    try:
        chain = gaussian_chain(dim=8, recipe=Accumulate(), real=300, rows=300)
        with pytest.raises(RunFailed, match=r"the disk is full .*; mend that and give the same command again"):
            run(chain, KEY, 40, small / "run")
        done = Store(small / "run").steps()
        assert done and done[-1] < 39
        shutil.copytree(small / "run", tmp_path / "moved")  # room is made
    finally:
        subprocess.run(["umount", str(small)], check=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a checkpoint that the full disk cut short may be set aside
        resumed = run(chain, KEY, 40, tmp_path / "moved")
    assert same(resumed, run(chain, KEY, 40))


def size_on_disk(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def test_each_row_is_on_disk_once(tmp_path: Path):
    """An accumulating run of 20 generations takes twice the room of one of 10, not four times."""
    chain = gaussian_chain(dim=16, recipe=Accumulate(), real=2000, rows=2000)
    row = 16 * 4
    sizes = {}
    for generations in (10, 20):
        run(chain, KEY, generations, tmp_path / str(generations))
        sizes[generations] = size_on_disk(tmp_path / str(generations) / "checkpoints")
    assert sizes[20] / sizes[10] == pytest.approx(2, rel=0.05)
    assert sizes[20] < 20 * 2000 * row * 1.2  # synthetic rows once, real rows never


def test_a_fork_shares_the_past_and_changes_the_recipe(tmp_path: Path):
    chain = gaussian_chain(recipe=Replace(), real=20, rows=20)
    parent = Store(tmp_path / "parent")
    whole = run(chain, KEY, 6, parent)
    saved = spec.override(chain, {"recipe": Mix(real=0.5, size=20)})
    fork = parent.fork(2, tmp_path / "fork", saved)
    healed = run(saved, KEY, 6, fork)
    assert same(jax.tree.map(lambda a: a[:3], healed), jax.tree.map(lambda a: a[:3], whole))
    assert not np.allclose(healed["moments.cov"][3:], whole["moments.cov"][3:])
    assert json.loads((tmp_path / "fork" / "chain.json").read_text())["fork"]["generation"] == 2
    with pytest.raises(GenlossError, match="may change the recipe only; this one changes rows: 20 -> 10"):
        parent.fork(2, tmp_path / "no", spec.override(chain, {"rows": 10}))
    with pytest.raises(GenlossError, match="no checkpoint of generation 17"):
        parent.fork(17, tmp_path / "no", saved)
    again = parent.fork(2, tmp_path / "fork", saved)  # as the same command does, after its run was stopped
    assert again.steps() == [0, 1, 2, 3, 4, 5] and same(run(saved, KEY, 6, again), healed)
    with pytest.raises(GenlossError, match="not empty"):
        parent.fork(1, tmp_path / "fork", saved)
    with pytest.raises(GenlossError, match="not empty"):
        parent.fork(2, tmp_path / "fork", spec.override(chain, {"recipe": Mix(real=0.2, size=20)}))


def test_a_fork_that_failed_leaves_nothing_and_is_made_again(
    finished: tuple[Store, Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    saved, copied = spec.override(tiny_gaussian.chain, {"recipe.generations": 2}), []

    def fills(source: Any, target: Any, *more: Any, **other: Any) -> None:
        copied.append(source)
        if len(copied) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        copytree(source, target, *more, **other)

    copytree = shutil.copytree
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copytree", fills)
        with pytest.raises(RunFailed, match="the disk is full; mend that and give the same command again"):
            finished[0].fork(5, tmp_path / "fork", saved)
    assert not (tmp_path / "fork").exists()
    shutil.copytree(finished[0].path, tmp_path / "fork" / disk.PART)  # as a kill leaves it
    assert finished[0].fork(5, tmp_path / "fork", saved).steps() == [1, 3, 5]
    assert not (tmp_path / "fork" / disk.PART).exists()


def test_a_run_with_a_gap_is_not_forked_behind_it(finished: tuple[Store, Record], tmp_path: Path):
    store = copy_of(finished, tmp_path)
    shutil.rmtree(store.path / "checkpoints" / "1")
    with pytest.warns(UserWarning, match="generation 0 is missing"), pytest.raises(GenlossError, match="whole"):
        store.fork(5, tmp_path / "fork", spec.override(tiny_gaussian.chain, {"recipe.generations": 2}))
    assert not (tmp_path / "fork").exists() and store.steps() == [3, 5]  # who only reads moves nothing


def test_nothing_on_disk_is_a_pickle(finished: tuple[Store, Record]):
    for file in finished[0].path.rglob("*"):
        assert not (file.is_file() and file.read_bytes().startswith(b"\x80"))


def test_other_data_at_the_same_path_is_another_run(tmp_path: Path, finished: tuple[Store, Record]):
    from image_folders import table

    first = table(tmp_path / "a", "all.parquet", [0, 1] * 20)
    other = table(tmp_path / "b", "all.parquet", [0, 1] * 20)
    copy = shutil.copy(first, tmp_path / "copy.parquet")
    prints = [Dataset.load(path, test="20%").fingerprint for path in (first, copy, other)]
    assert prints[0] == prints[1] != prints[2]
    model = tiny_vae.chain.generator
    assert identity(Chain(source=Dataset(), generator=model, real=9), KEY)["data"] == Dataset().fingerprint
    store = finished[0]
    with (
        pytest.raises(GenlossError, match="differs in data: null -> "),
        store.opened({**store.about()["run"], "data": prints[0]}, 6),
    ):
        pass


def test_a_fork_that_reaches_further_than_what_was_kept_is_refused(tmp_path: Path):
    chain = gaussian_chain(recipe=Replace(), real=20, rows=20)
    parent = Store(tmp_path / "parent")
    run(chain, KEY, 8, parent, every=4)
    everything = spec.override(chain, {"recipe": Accumulate()})
    with pytest.raises(GenlossError, match="holds the rows of 1 of its 4 generations"):
        run(everything, KEY, 8, parent.fork(3, tmp_path / "fork", everything), every=4)
