"""The files of a run folder: damaged, foreign, edited or another run's, each is rebuilt or named in one sentence."""

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pandas
import pytest
import tiny_gaussian
from conftest import gaussian_chain
from equality import same
from stored_runs import run_gaussian

from experiments.cli import main
from generators.vae import VAE
from simulator import Chain, Dataset, GenlossError, Record, Store, run
from simulator.report import page
from simulator.running import files, here, spec

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Record]:
    store = Store(tmp_path_factory.mktemp("runs") / "gaussian")
    return store, run_gaussian(store)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the same chain, with another seed."""
    folder = tmp_path_factory.mktemp("runs") / "other"
    run(tiny_gaussian.chain, jax.random.key(1), 6, folder, replicates=2, every=2)
    return folder


@pytest.fixture
def store(finished: tuple[Store, Record], tmp_path: Path) -> Store:
    shutil.copytree(finished[0].path, tmp_path / "copy")
    return Store(tmp_path / "copy")


def edited(change: Callable[[dict], None]) -> Callable[[Path], None]:
    def edit(file: Path) -> None:
        about = json.loads(file.read_text())
        change(about)
        file.write_text(json.dumps(about))

    return edit


def a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


ABOUT: dict[str, Callable[[Path], object]] = {
    "a list": lambda file: file.write_text("[]"),
    "null": lambda file: file.write_text("null"),
    "bytes": lambda file: file.write_bytes(bytes(range(256))),
    "empty": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:100]),
    "a folder": a_folder,
    "nested deep": lambda file: file.write_text("[" * 1000 + "]" * 1000),
    "nested deeper": lambda file: file.write_text("[" * 100_000 + "]" * 100_000),
    "a chain nested deep": edited(lambda a: a["run"].update(chain=json.loads('{"a":' * 600 + "1" + "}" * 600))),
    "no run": edited(lambda a: a.pop("run")),
    "no chain": edited(lambda a: a["run"].pop("chain")),
    "no key": edited(lambda a: a["run"].pop("key")),
    "no signature": edited(lambda a: a.pop("signature")),
    "a run that is text": edited(lambda a: a.update(run="x")),
    "generations that are text": edited(lambda a: a.update(generations="6")),
    "10^400 generations": edited(lambda a: a.update(generations=10**400)),
    "no generations": edited(lambda a: a.update(generations=0)),
    "a sweep without values": edited(lambda a: a["run"].update(sweep={"path": "real"})),
    "negative replicates": edited(lambda a: a["run"].update(replicates=-1)),
    "stretches that are none": edited(lambda a: a.update(stretches=[{"first": -1}])),
    "a device that is a list": edited(lambda a: a.update(device=[])),
}


@pytest.mark.parametrize("harm", ABOUT.values(), ids=ABOUT)
def test_a_chain_json_that_describes_no_run_is_named(
    harm: Callable[[Path], object], store: Store, capsys: pytest.CaptureFixture[str]
):
    harm(store.path / "chain.json")
    before = {p: p.stat().st_mtime_ns for p in store.path.rglob("*")}
    for command in (["show"], ["report"], ["fork", "--at", "3", "--out", str(store.path.parent / "fork")]):
        assert main([command[0], str(store.path), *command[1:], "--cache", "off"]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and "chain.json" in said and "restore it or choose another folder" in said
    with pytest.raises(GenlossError, match=r"chain\.json"):
        run_gaussian(store)
    assert before == {p: p.stat().st_mtime_ns for p in before}


def table(change: Callable[[pandas.DataFrame], pandas.DataFrame]) -> Callable[[Path], None]:
    return lambda file: change(pandas.read_parquet(file)).to_parquet(file)


RECORDS: dict[str, Callable[[Path], object]] = {
    "empty": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-200]),
    "flipped": lambda file: file.write_bytes(bytes(b ^ 0x55 for b in file.read_bytes())),
    "a folder": a_folder,
    "gone": lambda file: file.unlink(),
    "other columns": table(lambda frame: frame.rename(columns={"value": "values"})),
    "text": table(lambda frame: frame.astype({"value": str})),
    "infinities": table(lambda frame: frame.assign(value=np.inf)),
    "doubled rows": table(lambda frame: pandas.concat([frame, frame])),
    "a gap": table(lambda frame: frame[frame.generation != 2]),  # pyright: ignore
    "one number": table(lambda frame: frame.assign(value=frame.value.where(frame.index != 3, 0.0))),
}


@pytest.mark.parametrize("harm", RECORDS.values(), ids=RECORDS)
def test_records_that_are_not_whole_are_those_of_the_checkpoints(
    harm: Callable[[Path], object], finished: tuple[Store, Record], store: Store
):
    file, whole = store.path / "records.parquet", finished[0].records()
    harm(file)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert store.records().equals(whole)
    assert not file.exists() or any("records.parquet is not used" in str(w.message) for w in said)
    if file.is_dir():
        file.rmdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run_gaussian(store, 2)  # of a finished run: nothing is computed
    assert files.load_table(file.read_bytes(), store.signature).to_pandas().equals(whole)


def test_a_report_writes_records_again(finished: tuple[Store, Record], store: Store):
    (store.path / "records.parquet").write_bytes(b"PAR1")
    with pytest.warns(UserWarning, match=r"records\.parquet is not used"):
        page.write(store, {})
    assert store.records().equals(finished[0].records())


def test_records_that_nothing_holds_are_named(store: Store):
    shutil.rmtree(store.path / "checkpoints")
    assert len(store.records())  # whole, so enough
    (store.path / "records.parquet").write_bytes(b"PAR1")
    with pytest.warns(UserWarning, match="not used"), pytest.raises(GenlossError, match="no whole records"):
        store.records()


CEILING: dict[str, Callable[[Path], object]] = {
    "a list": lambda file: file.write_text("[]"),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:20]),
    "text for a number": edited(lambda c: c["metrics"].update({"fit.mass": "x"})),
    "another number": edited(lambda c: c["metrics"].update({"fit.mass": -1.0})),
    "another run's": edited(lambda c: c.update(run="0123456789")),
}


@pytest.mark.parametrize("harm", CEILING.values(), ids=CEILING)
def test_a_damaged_ceiling_is_named_and_measured_again(
    harm: Callable[[Path], object], finished: tuple[Store, Record], store: Store
):
    harm(store.path / "ceiling.json")
    with pytest.warns(UserWarning, match=r"ceiling\.json is not used"):
        assert store.ceiling() == {}
    with pytest.warns(UserWarning, match=r"ceiling\.json is not used"):
        assert same(run_gaussian(store), finished[1])
    assert store.ceiling() == finished[0].ceiling() != {}


def test_a_metric_without_a_finite_ceiling_is_nan():
    written = files.dump_ceiling("run", files.Ceiling({"a": np.nan, "b": 2.5, "c": np.inf}, {"a": np.nan, "b": 0.5}))
    assert json.loads(written)["metrics"] == {"a": None, "b": 2.5, "c": None}
    found = files.load_ceiling(written, "run")
    assert np.isnan(found.means["a"]) and found.means["b"] == 2.5
    assert np.isnan(found.deviations["a"]) and found.deviations["b"] == 0.5
    with pytest.raises(ValueError, match="checksum"):
        files.load_ceiling(written.replace(b"0.5", b"0.6"), "run")


def test_a_ceiling_without_deviations_is_one():
    """As they were written before."""
    written = json.loads(files.dump_ceiling("run", files.Ceiling({"a": 2.5}, {})))
    del written["deviations"]
    assert files.load_ceiling(json.dumps(written).encode(), "run") == files.Ceiling({"a": 2.5}, {})


def test_a_sample_that_is_no_picture_is_left_out(store: Store, capsys: pytest.CaptureFixture[str]):
    from simulator.sources.images import sheet

    (store.path / "samples").mkdir()
    for t in (1, 3):
        store.write(f"samples/{t}.png", sheet(np.zeros((2, 4, 8, 8, 1), np.uint8), 1))
    good = (store.path / "samples" / "3.png").read_bytes()
    for name in ("²", "003", "-1", "٣", "9" * 200, "x"):
        (store.path / "samples" / f"{name}.png").write_bytes(good)
    (store.path / "samples" / "5.png").write_bytes(good[: len(good) // 2])
    (store.path / "samples" / "4.png").mkdir()
    (store.path / "samples" / "2.png").write_text("<svg onload=alert(1)>")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(["report", str(store.path), "--cache", "off"]) == 0
        said = capsys.readouterr().err
        assert set(store.pictures()) == {1, 3}
    assert [f"{t}.png is left out: it is no picture" in said for t in range(1, 6)] == [False, True, False, True, True]


def vae_chain() -> Chain:
    return Chain(source=Dataset.digits(), generator=VAE(steps=8, chunk=2, hidden=(4,)), real=50, rows=50, held_out=0)


class Stopped(Exception):
    pass


@pytest.mark.slow
def test_a_folder_taken_over_has_nothing_of_the_run_before(tmp_path: Path):
    """A run that was stopped in its first fit leaves no checkpoint, and another may have its folder."""

    def stop(progress) -> None:
        if progress.part > 0.6:
            raise Stopped

    chain, other = vae_chain(), jax.random.key(5)
    with pytest.raises(Stopped):
        run(chain, KEY, 1, tmp_path / "run", save_seconds=0, report=stop)
    assert (tmp_path / "run" / "fit.npz").exists() and not (tmp_path / "run" / "ceiling.json").exists()
    with pytest.warns(UserWarning, match="of another run"):
        found = run(chain, other, 1, tmp_path / "run")
    assert same(found, run(chain, other, 1))
    assert not (tmp_path / "run" / "fit.npz").exists()


@pytest.mark.parametrize("step", [1, 3, 5])
def test_a_checkpoint_of_another_run_is_no_checkpoint_of_this_one(
    step: int, finished: tuple[Store, Record], store: Store, other: Path
):
    mine = store.path / "checkpoints" / str(step)
    shutil.rmtree(mine)
    shutil.copytree(other / "checkpoints" / str(step), mine)
    with pytest.raises(GenlossError, match="of another run"):
        store.params(step)
    with pytest.warns(UserWarning, match=rf"generation {step} .* \(it is of another run\)"):
        assert same(run_gaussian(store), finished[1])


def test_checkpoints_that_name_no_run_are_gone_on_with(finished: tuple[Store, Record], store: Store):
    """As they were saved at first."""
    for meta in store.path.glob("checkpoints/*/meta/metadata"):
        edited(lambda about: about.pop("run"))(meta)
    assert same(jax.tree.map(lambda a: a[:, :6], run_gaussian(store, 8)), finished[1])
    assert "run" in json.loads((store.path / "checkpoints/7/meta/metadata").read_text())


def test_a_fork_of_a_fork_goes_on_with_what_each_before_it_made(store: Store, tmp_path: Path):
    chains = [spec.override(tiny_gaussian.chain, {"recipe.generations": n}) for n in (2, 1)]
    child = store.fork(3, tmp_path / "child", chains[0])
    run(chains[0], KEY, 8, child, replicates=2, every=2)
    grandchild = child.fork(5, tmp_path / "grandchild", chains[1])
    found = run(chains[1], KEY, 8, grandchild, replicates=2, every=2)
    for name, last in (("copy", 3), ("child", 5)):
        theirs = {chunk.last: chunk for chunk in Store(tmp_path / name).chunks()}
        assert all(same(chunk, theirs[chunk.last]) for chunk in grandchild.chunks() if chunk.last <= last)
    assert found.t.shape == (2, 8)
    shutil.rmtree(grandchild.path / "checkpoints" / "1")  # which it cannot make again
    with pytest.raises(GenlossError, match="not whole from generation 0 on; fork that run again"):
        run(chains[1], KEY, 9, grandchild, replicates=2, every=2)
    assert grandchild.steps() == [3, 5, 7] and not (grandchild.path / "damaged").exists()


def test_a_folder_with_records_is_taken_over_by_none(store: Store):
    shutil.rmtree(store.path / "checkpoints")  # to save room: the results are still there
    before = (store.path / "records.parquet").read_bytes()
    with pytest.raises(GenlossError, match="holds another run"):
        run(gaussian_chain(), KEY, 2, store)
    assert (store.path / "records.parquet").read_bytes() == before


def test_each_stretch_of_generations_keeps_its_versions_and_device(store: Store, monkeypatch: pytest.MonkeyPatch):
    about = store.about()
    assert about["stretches"] == [{"first": 0, **here.here(), "generations": 6, "mesh": None}]
    monkeypatch.setattr(here, "version", lambda name: "9.9" if name == "jax" else about["versions"][name])
    assert run_gaussian(store) is not None and store.about() == about  # nothing is computed, and nothing said
    with pytest.warns(UserWarning, match=r"at generation 6 with other versions .*versions\.jax: .* -> \"9\.9\""):
        run_gaussian(store, 8)
    run_gaussian(store, 10)
    first, second, third = store.about()["stretches"]
    assert first == about["stretches"][0]
    assert second["first"] == 6 and second["versions"]["jax"] == "9.9" and second["device"] == about["device"]
    assert third == {**second, "first": 8, "generations": 10}  # of the pool, on whose size last bits depend


@pytest.mark.parametrize("name", ["checkpoints", "damaged", "samples", "report"])
def test_nothing_is_written_through_a_link(name: str, store: Store, tmp_path: Path):
    mine = tmp_path / "mine"
    if (store.path / name).exists():
        (store.path / name).rename(mine)
    else:
        mine.mkdir()
    (store.path / name).symlink_to(mine)
    before = sorted(mine.rglob("*"))
    with pytest.raises(GenlossError, match="links are not followed"):
        if name in ("checkpoints", "damaged"):
            run_gaussian(store, 8)
        else:
            store.write(f"{name}/0.png", b"new")
    assert sorted(mine.rglob("*")) == before


def test_who_reads_a_run_leaves_what_another_is_writing(store: Store):
    writing = store.path / "checkpoints" / "7.orbax-checkpoint-tmp-1"
    shutil.copytree(store.path / "checkpoints" / "5", writing)
    assert store.steps() == [1, 3, 5]
    assert [chunk.last for chunk in store.chunks()] == [1, 3, 5]
    store.close()
    assert writing.exists()
