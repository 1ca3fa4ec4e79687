"""A run verified: what was edited, forged with all its checksums, or cannot be computed again here, is named."""

import json
import shutil
import stat
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyarrow
import pytest
import tiny_gaussian
import tiny_vae
from conftest import gaussian_chain
from stored_runs import KEY, run_gaussian

from generators.gaussian import Gaussian
from simulator import Chain, GenlossError, Store, Sweep, Truth, run
from simulator.probes import Diversity, Fidelity
from simulator.probes.features import Pca
from simulator.recipe import Accumulate, Mix, Replace, Select, Window
from simulator.running import bundle, files, spec
from simulator.running.replay import Replay, recipe_of
from simulator.running.verify import Found, Verification

BESIDE = ["prepared.npz", "ceiling.json"]
ALL = (1, 3, 5)  # the checkpoints of `finished`


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("runs") / "gaussian")
    run_gaussian(store)
    return store


@pytest.fixture
def store(finished: Store, tmp_path: Path) -> Store:
    shutil.copytree(finished.path, tmp_path / "copy")
    return Store(tmp_path / "copy")


@pytest.fixture(scope="module")
def replay(finished: Store) -> Replay:
    """What computes any copy of `finished`, compiled once."""
    return Replay(finished, finished.chain(), Verification(finished).there)


@pytest.fixture
def verify(replay: Replay, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Found]]:
    """Verifies a copy of `finished`: what is found, by where."""

    def verify(store: Store, *chosen: int) -> dict[str, Found]:
        checked = Verification(store)
        monkeypatch.setattr(replay, "store", store)
        monkeypatch.setattr(replay, "there", checked.there)
        return {one.where: one for one in [*checked.found, *checked.check(replay, chosen)]}

    return verify


def wrong(found: dict[str, Found]) -> dict[str, str]:
    return {where: one.said for where, one in found.items() if one.verdict != "equal"}


def forge(store: Store, last: int, part: str) -> Store:
    """Changes a checkpoint and makes all that depends on it again: its checksum, and records.parquet."""
    chunks = [jax.tree.map(np.array, chunk) for chunk in store.chunks()]  # that may be written to
    [changed] = [chunk for chunk in chunks if chunk.last == last]
    if part == "record":
        changed.record.metrics["diversity"]["variance"][1, 0] *= 1.02
    elif part == "rows":
        changed.rows[-1]["0"][1, 0] += 0.05
    else:
        changed.params["0"][0] += 0.01
    about = store.about()
    shutil.rmtree(store.path / "checkpoints")
    store = Store(store.path)
    with store.opened(about["run"], about["generations"]):
        for first, last, params, rows, record in chunks:
            store.save(int(first), int(last), list(params.values()), [list(block.values()) for block in rows], record)
        store.write_records(files.joined([chunk.record for chunk in chunks], 1), ["chain"], 1)
    return store


def test_a_run_is_verified_to_the_bit(finished: Store, verify: Any):
    found = verify(finished, *ALL)
    assert not wrong(found)
    assert [one.said.rpartition(": ")[2] for where, one in found.items() if "generations" in where] == 3 * [
        "equal to the bit"
    ]
    assert not wrong(verify(finished, 5))  # from as many generations before it as the pool has room for, and no others


@pytest.mark.parametrize("part", ["record", "rows", "parameters"])
def test_a_forged_checkpoint_whose_checksums_are_right_is_found_by_computing_it_again(
    part: str, store: Store, verify: Any
):
    store = forge(store, 3, part)
    assert not wrong(verify(store))  # of files alone nothing is amiss
    told = wrong(verify(store, 3))
    assert list(told) == ["generations 2 to 3"]
    assert {"record": "diversity.variance is ", "rows": "numbers of rows", "parameters": "of parameters"}[part] in (
        told["generations 2 to 3"]
    )


def test_rows_that_were_exchanged_are_also_found_in_the_generation_that_learned_from_them(store: Store, verify: Any):
    assert list(wrong(verify(forge(store, 3, "rows"), 1, 5))) == ["generations 4 to 5"]


def edited_records(store: Store) -> None:
    table = files.load_table((store.path / "records.parquet").read_bytes(), store.signature)
    at = (table["generation"].to_numpy() == 4) & (table["metric"].to_numpy() == "diversity.variance")
    values = np.where(at, 1.01, 1.0) * table["value"].to_numpy()
    table = table.set_column(table.column_names.index("value"), "value", [values])
    (store.path / "records.parquet").write_bytes(files.dump_table(store.signature, table))


def added_records(store: Store, metric: str) -> None:
    table = files.load_table((store.path / "records.parquet").read_bytes(), store.signature)
    more = table.slice(0, 1).set_column(table.column_names.index("metric"), "metric", [[metric]])
    made = pyarrow.concat_tables([table, more])
    (store.path / "records.parquet").write_bytes(files.dump_table(store.signature, made))


def edited_configuration(store: Store, signed: bool) -> None:
    about = store.about()
    about["run"]["chain"]["real"] = 21
    about["signature"] = spec.signature(about["run"]) if signed else about["signature"]
    (store.path / "chain.json").write_text(json.dumps(about))


def cut(store: Store) -> None:
    file = max((store.path / "checkpoints" / "3").rglob("*"), key=lambda f: f.stat().st_size * f.is_file())
    file.write_bytes(file.read_bytes()[:-20] + bytes(20))


EDITS: dict[str, tuple[Callable[[Store], object], str, str]] = {
    "records": (edited_records, "records.parquet", r"diversity.variance of generation 4, .* and 1 more"),
    "records added": (
        lambda s: added_records(s, "glory"),
        "records.parquet",
        "glory of generation 0, .* nan in the check",
    ),
    "records twice": (lambda s: added_records(s, str(s.records()["metric"][0])), "records.parquet", "is in it twice"),
    "configuration": (lambda s: edited_configuration(s, False), "chain.json", "signature .* no more: it was edited"),
    "configuration and signature": (lambda s: edited_configuration(s, True), "checkpoints/1", "it is of another run"),
    "checkpoint": (cut, "checkpoints/3", "it is damaged or was edited"),
    "records cut": (
        lambda s: (s.path / "records.parquet").write_bytes(b"PAR1"),
        "records.parquet",
        "damaged or was edited",
    ),
}


@pytest.mark.parametrize("case", EDITS)
def test_what_was_edited_is_named(case: str, store: Store):
    import re

    edit, where, said = EDITS[case]
    edit(store)
    told = wrong({one.where: one for one in Verification(store).found})
    assert re.search(said, told[where])


def test_records_of_generations_that_are_not_written_yet_are_no_disagreement(store: Store):
    store.write_records(store.chunk(1).record, ["chain"], 1)
    [told] = [one for one in Verification(store).found if one.where == "records.parquet"]
    assert told.verdict == "equal" and "4 generations are not in it yet" in told.said


# What a run can be.


def all_of(store: Store) -> tuple[list[Found], Replay, list[int]]:
    checked = Verification(store)
    replay = Replay(store, store.chain(True), checked.there, True)
    can, _ = replay.possible()
    return [*checked.found, *checked.check(replay, can)], replay, can


def forked(parent: Store, last: int, path: Path, reach: int) -> tuple[Store, Chain]:
    chain = spec.override(tiny_gaussian.chain, {"recipe.generations": reach})
    return parent.fork(last, path, chain), chain


def test_a_fork_knows_the_recipes_that_its_generations_had(finished: Store, tmp_path: Path):
    child, _ = forked(finished, 3, tmp_path / "child", 2)
    grandchild, _ = forked(child, 1, tmp_path / "grandchild", 1)
    assert [recipe_of(child.about(), t)["generations"] for t in (0, 3, 4)] == [3, 3, 2]
    about = grandchild.about()
    assert [recipe_of(about, t)["generations"] for t in (1, 2)] == [3, 1]
    about["fork"]["fork"]["recipe"]["generations"] = 4
    with pytest.raises(ValueError, match="verify that one"):
        recipe_of(about, 1)


@pytest.mark.slow
def test_a_fork_of_a_fork_is_verified_by_the_recipes_that_its_generations_had(finished: Store, tmp_path: Path):
    child, chain = forked(finished, 1, tmp_path / "child", 2)
    run(chain, KEY, 4, child, replicates=2, every=2)
    grandchild, chain = forked(child, 3, tmp_path / "grandchild", 1)
    run(chain, KEY, 6, grandchild, replicates=2, every=2)
    found, _, can = all_of(grandchild)
    assert can == [1, 3, 5] and {one.verdict for one in found} == {"equal"}


@pytest.mark.slow
def test_a_run_that_was_extended_and_whose_old_checkpoints_are_gone_is_verified_as_far_as_it_is_there(tmp_path: Path):
    chain = gaussian_chain(2, recipe=Select((Replace(), Accumulate(), Mix(real=0.5, size=10)), 0), fresh=3)
    sweep, store = Sweep(chain, "recipe.index", {"a": 0, "b": 1, "c": 2}), Store(tmp_path / "run")
    for generations in (3, 5):
        run(sweep, KEY, generations, store, replicates=2)
    found, replay, can = all_of(store)
    assert can == [0, 1, 2, 3, 4] and {one.verdict for one in found} == {"equal"}
    assert [drive.generations for _, drive, _ in replay.states(can)] == [3, 3, 3, 5, 5]  # in a pool of the size of then
    shutil.rmtree(store.path / "checkpoints" / "1")
    found, replay, can = all_of(store)
    assert can == [0] and "it needs what generation 1 said" in replay.possible()[1][4]
    # A recipe that forgets needs no more than it remembers.
    store = Store(tmp_path / "forgets")
    run(gaussian_chain(2, recipe=Window(2), fresh=3), KEY, 6, store)
    shutil.rmtree(store.path / "checkpoints" / "1")
    found, replay, can = all_of(store)
    assert can == [0, 4, 5] and {one.verdict for one in found} == {"equal"}


def test_elsewhere_it_is_verified_within_tolerances_that_rounding_sets(store: Store, verify: Any):
    about = store.about()
    about["stretches"][0]["processor"] = "another"
    (store.path / "chain.json").write_text(json.dumps(about))
    checked = Verification(store)
    replay = Replay(store, store.chain(), checked.there)
    assert replay.other(3) and not replay.changed()
    [found] = checked.check(replay, [3])
    assert found.verdict == "equal" and " within tolerances (record 0.0" in found.said
    replay.store = forge(store, 5, "record")  # by 2 %
    assert "diversity.variance is" in next(checked.check(replay, [5])).said


@pytest.mark.slow
def test_what_probes_learned_and_say_of_real_rows_is_learned_and_measured_again(tmp_path: Path):
    probes = {"fidelity": Fidelity(features=Pca(1)), "diversity": Diversity()}
    chain = Chain(source=Truth(Gaussian(2)), generator=Gaussian(2), probes=probes, real=30, rows=30, held_out=20)
    store = Store(tmp_path / "run")
    run(chain, KEY, 2, store, replicates=2)
    found, replay, _ = all_of(store)
    found += Verification(store).beside(replay)
    assert {one.verdict for one in found} == {"equal"} and [one.where for one in found[-2:]] == BESIDE
    # Forged with their checksums.
    stored = files.load_arrays(store.path / "prepared.npz", store.signature)
    forged = {name: np.where(np.isfinite(leaf), leaf + 1, leaf).astype(leaf.dtype) for name, leaf in stored.items()}
    (store.path / "prepared.npz").write_bytes(files.dump_arrays(store.signature, forged))
    store.write_ceiling(files.Ceiling({**store.ceiling(), "diversity.variance": 2.5}, store.noise()))
    found, replay, _ = all_of(Store(store.path))
    assert wrong({one.where: one for one in found})  # what was measured by them is not what is recorded
    told = wrong({one.where: one for one in Verification(store).beside(replay)})
    assert list(told) == BESIDE and told["ceiling.json"].startswith("diversity.variance, ")


@pytest.mark.slow
def test_a_sweep_of_networks_is_verified_to_the_bit(tmp_path: Path):
    store = Store(tmp_path / "run")
    run(tiny_vae.sweep, KEY, 3, store, replicates=2)
    found, _, can = all_of(store)
    assert can == [0, 1, 2] and {one.verdict for one in found} == {"equal"}


# Bundles.


@pytest.fixture(scope="module")
def packed(finished: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("bundles") / "run.zip"
    bundle.write(finished, file)
    return file


def test_a_run_gives_the_same_bytes_each_time_and_comes_out_as_it_was(finished: Store, packed: Path, tmp_path: Path):
    copy = tmp_path / "copy"
    shutil.copytree(finished.path, copy, copy_function=shutil.copyfile)  # with other times
    (copy / "notes.txt").write_text("not of the run")
    bundle.write(Store(copy), tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == packed.read_bytes()
    with zipfile.ZipFile(packed) as entries:  # whenever and by whomever it is made
        assert {(e.date_time, e.external_attr, e.create_system) for e in entries.infolist()} == {
            ((1980, 1, 1, 0, 0, 0), (stat.S_IFREG | 0o644) << 16, 3)
        }
    with bundle.unpacked(packed) as (folder, about, altered):
        names = {f.relative_to(folder).as_posix(): f.read_bytes() for f in folder.rglob("*") if f.is_file()}
        assert set(names) == set(about["files"]) and not altered and about["all"]
        assert all((finished.path / name).read_bytes() == data for name, data in names.items())
        kept = folder
    assert not kept.exists()


def repacked(file: Path, out: Path, change: Callable[[dict[str, bytes]], None], checksums: bool) -> Path:
    """A bundle with other contents, its manifest made again."""
    import hashlib

    with zipfile.ZipFile(file) as source:
        contents = {name: source.read(name) for name in source.namelist()}
    change(contents)
    if checksums:
        about = json.loads(contents.pop(bundle.MANIFEST))
        about["files"] = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
        contents[bundle.MANIFEST] = json.dumps(about).encode()
    with zipfile.ZipFile(out, "w") as target:
        for name, data in contents.items():
            target.writestr(name, data)
    return out


def test_a_bundle_that_was_altered_is_caught_by_its_checksums_or_else_by_computing_again(
    store: Store, packed: Path, tmp_path: Path, verify: Any
):
    forge(store, 3, "record")
    forged = {p.relative_to(store.path).as_posix(): p.read_bytes() for p in store.path.rglob("*") if p.is_file()}

    def change(contents: dict[str, bytes]) -> None:
        for name in [name for name in contents if name.startswith("checkpoints/3/")]:
            del contents[name]
        contents |= {n: d for n, d in forged.items() if n == "records.parquet" or n.startswith("checkpoints/3/")}

    def page(contents: dict[str, bytes]) -> None:
        contents["records.parquet"] = forged["records.parquet"]

    with bundle.unpacked(repacked(packed, tmp_path / "naive.zip", page, checksums=False)) as (_, _, altered):
        assert altered == ["records.parquet"]
    with bundle.unpacked(repacked(packed, tmp_path / "forged.zip", change, checksums=True)) as (folder, _, altered):
        assert not altered and not wrong(verify(Store(folder)))
        assert list(wrong(verify(Store(folder), 3))) == ["generations 2 to 3"]


def hostile(file: Path) -> Iterator[tuple[str, zipfile.ZipInfo, bytes]]:
    """What no bundle holds."""

    def entry(name: str, kind: int = 0o100644, how: int = zipfile.ZIP_STORED) -> zipfile.ZipInfo:
        info = zipfile.ZipInfo(name)
        info.external_attr, info.compress_type = kind << 16, how
        return info

    yield "up", entry("../escaped"), b"x"
    yield "up inside", entry("samples/../../escaped"), b"x"
    yield "root", entry("/tmp/escaped"), b"x"
    yield "backslash", entry("samples\\..\\escaped"), b"x"
    yield "a link", entry("samples/1.png", 0o120777), b"/etc/passwd"
    yield "a pipe", entry("samples/1.png", 0o010644), b""
    yield "bomb", entry("samples/1.png", how=zipfile.ZIP_DEFLATED), bytes(10**7)
    yield "hidden", entry("samples/.lock"), b"x"
    yield "foreign", entry("sitecustomize.py"), b"x"
    yield "twice", entry("chain.json"), b"{}"
    yield "a folder", entry("samples/"), b""


@pytest.mark.parametrize("case", [name for name, *_ in hostile(Path())])
def test_a_hostile_zip_is_refused_before_anything_is_written(case: str, packed: Path, tmp_path: Path):
    file = tmp_path / "hostile.zip"
    shutil.copy(packed, file)
    [(info, data)] = [(info, data) for name, info, data in hostile(file) if name == case]
    with warnings.catch_warnings(), zipfile.ZipFile(file, "a") as target:
        warnings.simplefilter("ignore", UserWarning)  # of a name that is there
        target.writestr(info, data)
    with pytest.raises(GenlossError, match="which no bundle does"), bundle.unpacked(file):
        pass
    assert not list(tmp_path.parent.rglob("escaped")) and not Path("/tmp/escaped").exists()


def test_entries_that_overlap_to_hold_more_than_the_file_are_refused(packed: Path, tmp_path: Path):
    file = tmp_path / "overlapping.zip"
    with zipfile.ZipFile(file, "w") as target:
        for i in range(40):
            info = zipfile.ZipInfo(f"samples/{i}.png")
            target.writestr(info, bytes(10_000) if i == 0 else b"")
        first = target.infolist()[0]
        for info in target.infolist()[1:]:  # the directory says that all of them are the first
            info.file_size, info.compress_size = first.file_size, first.compress_size
            info.header_offset, info.CRC = first.header_offset, first.CRC
    with pytest.raises(GenlossError, match="no bundle's size"), bundle.unpacked(file):
        pass


@pytest.mark.parametrize("bytes_", [b"", b"PK", bytes(range(256))])
def test_what_is_no_zip_is_refused(bytes_: bytes, tmp_path: Path):
    (tmp_path / "x.zip").write_bytes(bytes_)
    with pytest.raises(GenlossError, match="no whole bundle"), bundle.unpacked(tmp_path / "x.zip"):
        pass


def test_packing_that_fails_leaves_what_was_there_before(store: Store, tmp_path: Path):
    (tmp_path / "run.zip").write_bytes(b"before")
    (store.path / "samples").symlink_to("/etc")
    with pytest.raises(GenlossError, match="links are not followed"):
        bundle.write(store, tmp_path / "run.zip")
    assert (tmp_path / "run.zip").read_bytes() == b"before" and not list(tmp_path.glob(".*part"))
