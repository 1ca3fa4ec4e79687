"""`genloss contaminate`: exact counts, nested masks, any trainer's loader, kills, and every kind of broken input."""

import io
import itertools
import json
import os
import subprocess
import sys
import time
import zlib
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from experiments.cli import main
from experiments.imagesets.images import Item, open_set
from experiments.imagesets.masks import half_up
from experiments.imagesets.writing import write_parquet
from simulator import GenlossError

SHARD = 20_000  # bytes of a parquet file, so that there are several
COUNTS = {"cat": 11, "dog": 7, "fish": 2}


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GENLOSS_CACHE", "off")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("warnings.showwarning", None)


def encoded(value: int, side: int = 4, mode: str = "L", kind: str = "png") -> bytes:
    file = io.BytesIO()
    Image.new(mode, (side, side), tuple([value % 256] * len(mode)) if mode != "L" else value % 256).save(file, kind)
    return file.getvalue() + str(value).encode()  # so that no two are alike


def images(root: str, counts: dict[str, int], first: int = 0, **looks: Any) -> Path:
    """An image folder with `counts` images of each class."""
    for label, n in counts.items():
        (Path(root) / label).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            (Path(root) / label / f"{i:03d}.png").write_bytes(encoded(first := first + 1, **looks))
    return Path(root)


def parquet(root: str, counts: dict[str, int], first: int = 0) -> None:
    """The same as hub-layout parquet in two files, rows of classes mixed, classes in an order of their own."""
    rows = [(label, f"{i:03d}.png") for label, n in counts.items() for i in range(n)]
    items = [Item(label, name, "", encoded(first + 1 + i)) for i, (label, name) in enumerate(rows)]
    order = np.random.default_rng(0).permutation(len(items))
    write_parquet(Path(root), [items[i] for i in order], tuple(reversed(counts)), len(items), 2)


def go(ratio: str, out: str, *more: str, real: str = "real", synthetic: str = "fake") -> int:
    return main(["contaminate", "--real", real, "--synthetic", synthetic, "--ratio", ratio, "--out", out, *more])


def contents(root: str) -> dict[str, bytes]:
    """Every file of a folder."""
    return {str(f.relative_to(root)): f.read_bytes() for f in sorted(Path(root).rglob("*")) if f.is_file()}


def rows(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(out) / "manifest.jsonl").read_text().splitlines()]


def replaced(out: str) -> dict[str, str]:
    """What was replaced, and by what."""
    return {row["replaced"]: row["source"] for row in rows(out) if row["replaced"]}


def items(out: str) -> dict[str, bytes]:
    return {item.file: item.read() for item in open_set(out).items(lambda where, why: pytest.fail(f"{where} {why}"))}


@pytest.mark.parametrize("ratio", ["0", "0.2", "0.4", "80%", "1"])
def test_counts_are_exact_and_labels_kept(ratio: str):
    images("real", COUNTS)
    images("fake", dict.fromkeys(COUNTS, 20), first=1000)
    assert go(ratio, "out") == 0
    share = Fraction(ratio.strip("%")) / (100 if "%" in ratio else 1)
    table = rows("out")
    assert Counter(row["class"] for row in table) == COUNTS
    assert {c: sum(r["class"] == c and r["origin"] == "synthetic" for r in table) for c in COUNTS} == {
        label: int(share * n + Fraction(1, 2)) for label, n in COUNTS.items()
    }
    for row in table:  # bytes as they were, in the folder of their class
        source = Path("fake" if row["origin"] == "synthetic" else "real") / row["source"]
        assert (Path("out") / row["file"]).read_bytes() == source.read_bytes()
        assert row["file"].split("/")[0] == row["source"].split("/")[0] == row["class"]
    assert {row["file"] for row in table} == set(items("out")) == set(items("real"))
    about = json.loads(Path("out/config.json").read_text())
    assert (about["images"], about["replaced"]) == (20, len(replaced("out")))


def test_larger_masks_hold_smaller_ones_and_depend_on_seed_and_names_alone():
    images("real", {"cat": 100, "dog": 50})
    images("fake", {"cat": 100, "dog": 60}, first=1000)
    masks = []
    for ratio in ("0.2", "0.4", "0.8", "1"):
        assert go(ratio, f"at{ratio}") == 0
        masks.append(replaced(f"at{ratio}"))
    for smaller, larger in itertools.pairwise(masks):
        assert smaller.items() < larger.items()  # the same synthetic image, too
    assert len(set(masks[-1].values())) == 150  # none is used twice
    parquet("real_rows", {"cat": 100, "dog": 50}, first=5000)  # other images, elsewhere, in another order
    assert go("0.4", "rows", real="real_rows") == 0
    assert {r["file"]: r["source"] for r in rows("rows") if r["replaced"]} == masks[1]
    assert go("0.4", "again", "--seed", "1") == go("0.4", "own", "--independent") == 0
    assert len({frozenset(replaced(name)) for name in ("at0.4", "again", "own")}) == 3
    assert not masks[0].keys() <= replaced("own").keys()


def test_control_and_drop_have_the_same_mask():
    images("real", COUNTS)
    images("fake", COUNTS, first=1000)
    images("other", COUNTS, first=2000)
    assert go("0.4", "a") == go("0.4", "b", "--origin", "control", synthetic="other") == 0
    assert replaced("a") == replaced("b")
    assert Counter(row["origin"] for row in rows("b")) == {"real": 12, "control": 8}
    assert main(["contaminate", "--real", "real", "--drop", "--ratio", "0.4", "--out", "c"]) == 0
    kept = {row["file"] for row in rows("c")}
    assert kept == set(items("c")) == set(items("real")) - set(replaced("a"))


def test_not_stratified_is_exact_over_the_set():
    images("real", {"cat": 30, "dog": 30, "fish": 30})
    images("fake", {"cat": 30, "dog": 30, "fish": 30}, first=1000)
    assert go("0.3", "a", "--not-stratified") == go("0.6", "b", "--not-stratified") == 0
    small, large = replaced("a"), replaced("b")
    assert (len(small), len(large)) == (27, 54) and small.items() < large.items()
    assert len(set(Counter(where.split("/")[0] for where in small).values())) > 1  # chance, not nine of each
    assert all(where.split("/")[0] == by.split("/")[0] for where, by in large.items())


def test_rounding_keeps_masks_nested():
    shares = sorted(Fraction(i, 97) for i in range(98))
    for n in (1, 2, 7, 13):
        counts = [half_up(share * n) for share in shares]
        assert counts == sorted(counts) and counts[0] == 0 and counts[-1] == n


@pytest.mark.parametrize("real", ["folder", "rows"])
@pytest.mark.parametrize("fake", ["folder", "rows"])
def test_parquet_and_folders_hold_the_same(real: str, fake: str):
    images("real", COUNTS)
    parquet("real_rows", COUNTS)
    images("fake", COUNTS, first=1000)
    parquet("fake_rows", COUNTS, first=1000)
    assert go("0.4", "plain") == 0
    names = {"folder": ("real", "fake"), "rows": ("real_rows", "fake_rows")}
    pair = {"real": names[real][0], "synthetic": names[fake][1]}
    assert go("0.4", "folder", **pair) == go("0.4", "rows", "--format", "parquet", **pair) == 0
    assert items("plain") == items("folder") == items("rows")
    written = open_set("rows")
    order = list(written.items(lambda where, why: pytest.fail(why)))
    assert [row["file"] for row in rows("rows")] == [item.where for item in order]
    assert [row["class"] for row in rows("rows")] == [item.label for item in order]
    if real == "rows":  # the order of rows, and of the numbers of the labels, is the real set's
        assert [i.file for i in order] == list(items("real_rows"))
        assert getattr(written, "names", None) == getattr(open_set("real_rows"), "names", None)


def test_loads_by_datasets_and_by_a_plain_folder_loop():
    import datasets

    datasets.disable_progress_bars()
    images("real", COUNTS)
    images("fake", COUNTS, first=1000)
    assert go("0.4", "folder") == go("0.4", "rows", "--format", "parquet") == 0
    for out in ("folder", "rows"):
        found: Any = datasets.load_dataset(out, cache_dir="cache")["train"]
        assert type(found.features["image"]).__name__ == "Image"
        assert found.features["label"].names == sorted(COUNTS)
        expected = Counter((item.label, int(item.decode()[0, 0, 0])) for item in open_set(out).items(print))
        named = found.features["label"].int2str
        assert Counter((named(row["label"]), row["image"].getpixel((0, 0))) for row in found) == expected
        # the reference: `datasets` itself, from a folder and from what it writes
        assert datasets.load_dataset("real", cache_dir="cache")["train"].features == found.features

    # What every image-folder loader does.
    classes = sorted(entry.name for entry in os.scandir("folder") if entry.is_dir())
    files = [(file, i) for i, name in enumerate(classes) for file in sorted(Path("folder", name).iterdir())]
    assert classes == sorted(COUNTS) and {np.array(Image.open(file)).shape for file, _ in files} == {(4, 4)}
    assert np.bincount([label for _, label in files]).tolist() == [11, 7, 2]


def test_a_name_with_a_slash_is_one_class_and_a_nested_folder_stays_nested():
    parquet("real", {"shirt / top": 4, "bag": 4})
    parquet("fake", {"shirt / top": 4, "bag": 4}, first=1000)
    assert go("0.5", "folder") == go("0.5", "rows", "--format", "parquet") == 0
    assert sorted(entry.name for entry in Path("folder").iterdir() if entry.is_dir()) == ["bag", "shirt %2F top"]
    assert set(getattr(open_set("rows"), "names", ())) == {"shirt / top", "bag"}
    deep = {"pets/cat": 3, "pets/dog": 3, "fish": 2}
    images("deep", deep)
    images("deeper", deep, first=100)
    assert go("0.5", "nested", real="deep", synthetic="deeper") == 0
    assert set(items("nested")) == set(items("deep"))


def test_suffixes_follow_the_bytes_and_names_of_rows_are_told_apart():
    images("real", {"cat": 3})
    images("fake", {})
    Path("fake/cat").mkdir(parents=True)
    for i in range(3):
        (Path("fake/cat") / f"{i}.JPEG").write_bytes(encoded(i, kind="jpeg"))
    assert go("1", "out") == 0
    assert sorted(items("out")) == ["cat/000.png.JPEG", "cat/001.png.JPEG", "cat/002.png.JPEG"]
    same = [Item("cat", "image.png", "", encoded(i)) for i in range(4)]
    write_parquet(Path("rows"), same, ("cat",), 4, 1)
    assert go("0.5", "apart", real="rows", synthetic="rows") == 0
    assert len(items("apart")) == 4


# What is wrong with the input.


def broken_set() -> dict[str, str]:
    """A folder with every kind of damage; path below it -> what is said of it."""
    root = images("real", {"cat": 30, "dog": 30})
    whole = encoded(7, side=16)
    cut = io.BytesIO()
    Image.effect_noise((64, 64), 90).save(cut, "jpeg")
    (root / "cat/a.png").write_bytes(b"")
    (root / "cat/b.png").write_bytes(b"no image at all")
    (root / "cat/c.png").write_bytes(whole[:40])
    (root / "cat/d.jpg").write_bytes(cut.getvalue()[:500])
    (root / "cat/e.png").write_bytes(whole[:45] + b"\x00\x01" + whole[47:])
    (root / "cat/f.png").symlink_to("nowhere.png")
    (root / "cat/g.png").symlink_to("g.png")
    (root / "cat/h.png").symlink_to("/proc/self/mem")  # can be opened and not read
    os.mkfifo(root / "cat/i.png")
    (root / "cat/notes.txt").write_text("mine")
    (root / "dog/up").symlink_to("..")
    (root / "empty").mkdir()
    (root / "cat" / os.fsdecode(b"\xff.png")).write_bytes(whole)
    return {
        "cat/a.png": "is empty",
        "cat/b.png": "is no whole image",
        "cat/c.png": "is no whole image",
        "cat/d.jpg": "is no whole image",
        "cat/e.png": "is no whole image",
        "cat/f.png": "cannot be opened",
        "cat/g.png": "cannot be opened",
        "cat/h.png": "cannot be read",
        "cat/i.png": "is no regular file",
        "cat/notes.txt": "has no suffix of an image",
        "dog/up": "is a link to a folder that it lies in",
        "empty": "is an empty folder",
        "cat/\\udcff.png": "has a name that is not UTF-8",
    }


def test_everything_broken_is_named(capsys: pytest.CaptureFixture[str]):
    expected = broken_set()
    images("fake", {"cat": 30, "dog": 30}, first=1000)
    assert go("0.5", "out") == 2 and not Path("out").exists()
    said = capsys.readouterr().err
    for path, why in expected.items():
        assert any(line.startswith(f"real/{path}: {why}") for line in said.splitlines()), (path, said)
    assert "13 entries cannot be used, and nothing was written" in said and "--skip-broken" in said
    assert go("0.5", "out", "--skip-broken") == 1
    assert Counter(row["class"] for row in rows("out")) == {"cat": 30, "dog": 30}


def test_many_troubles_are_all_in_a_file(capsys: pytest.CaptureFixture[str]):
    images("real", {"cat": 40})
    images("fake", {"cat": 40})
    for i in range(30):
        (Path("fake/cat") / f"{i:03d}.png").write_bytes(b"")
    assert go("0.25", "out") == 2
    said = capsys.readouterr().err
    assert said.count("is empty") == 20 and "and 10 more; all are in out.unusable.txt" in said
    listed = Path("out.unusable.txt").read_text().splitlines()
    assert {line.partition(":")[0] for line in listed} == {f"fake/cat/{i:03d}.png" for i in range(30)}
    assert go("0.25", "out", "--skip-broken") == 1 and len(replaced("out")) == 10


def test_rows_that_cannot_be_used_are_named(capsys: pytest.CaptureFixture[str]):
    import pyarrow
    import pyarrow.parquet

    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["cat"]}}
    table = pyarrow.table(
        {
            "image": [{"bytes": encoded(1), "path": None}, {"bytes": None, "path": None}, {"bytes": b"x", "path": "x"}]
            + [{"bytes": encoded(i), "path": None} for i in range(3)],
            "label": [0, 0, 0, None, 5, 0],
        }
    ).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    Path("real").mkdir()
    pyarrow.parquet.write_table(table, "real/train-00000-of-00002.parquet")
    Path("real/train-00001-of-00002.parquet").write_bytes(b"PAR1 and then nothing")
    images("fake", {"cat": 3})
    assert go("0.5", "out") == 2
    said = capsys.readouterr().err
    for where, why in {
        "train-00000-of-00002.parquet#1": "has no image",
        "train-00000-of-00002.parquet#2": "is no whole image",
        "train-00000-of-00002.parquet#3": "has no label",
        "train-00000-of-00002.parquet#4": "has the label 5, and labels are names or whole numbers from 0 to 0",
        "train-00001-of-00002.parquet": "cannot be read from row 0 on",
    }.items():
        assert f"real/{where}: {why}" in said
    assert go("0.5", "out", "--skip-broken") == 1 and len(items("out")) == 2


def test_other_sizes_and_modes_are_named(capsys: pytest.CaptureFixture[str]):
    images("real", {"cat": 20})
    images("fake", {"cat": 18}, first=1000)
    (Path("fake/cat") / "large.png").write_bytes(encoded(1, side=8))
    (Path("fake/cat") / "colour.png").write_bytes(encoded(1, mode="RGB"))
    assert go("0.5", "out") == 2 and not Path("out").exists()
    said = capsys.readouterr().err
    assert "fake/cat/large.png: is of size 8x8, where real images are 4x4" in said
    assert "fake/cat/colour.png: is of mode RGB, where real images are L" in said and "--mixed" in said
    assert go("1", "out", "--mixed") == 0 and len(replaced("out")) == 20


BAD: dict[str, tuple[list[str], str]] = {
    "no such folder": (["0.5", "--real", "none"], "There is no image set at none"),
    "an empty folder": (["0.5", "--real", "nothing"], "holds no image that can be used"),
    "a class without images": (["0.5", "--synthetic", "cats"], "too few images of 2 classes (of 'dog' 0, and 4"),
    "the same set": (["0.5", "--synthetic", "real"], "real and real hold the same images"),
    "other classes": (
        ["0.5", "--synthetic", "cows"],
        "have no class in common, 'cat' being one of the first and 'cow'",
    ),
    "no folders": (["0.5", "--real", "loose"], "3 of the images of loose to be replaced lie in no class's folder"),
    "too few images": (["1", "--synthetic", "few"], "too few images of 1 classes (of 'cat' 9, and 11 are needed)"),
    "none to repeat": (["1", "--synthetic", "cats", "--repeat"], "too few images of 2 classes"),
    "a ratio above 1": (["1.5"], "must lie between 0 and 1"),
    "no number": (["half"], "a number such as 0.4"),
    "nothing left": (["1", "--drop"], "leaves no image"),
    "out in real": (["0.5", "--out", "real/out"], "lies in real"),
    "out of others": (["0.5", "--out", "fake"], "holds other files, such as cat; choose another folder"),
    "no such split": (["0.5", "--split", "test"], "no split 'test'"),
    "a file": (["0.5", "--real", "real/cat/000.png"], "is a file and no parquet"),
    "origin real": (["0.5", "--origin", "real"], "choose another, such as control"),
}


@pytest.mark.parametrize("words, sentence", BAD.values(), ids=BAD)
def test_bad_input_is_one_sentence_and_exit_code_2(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]):
    images("real", COUNTS)
    images("fake", COUNTS)
    images("cats", {"cat": 20})
    images("few", {**COUNTS, "cat": 9})
    images("cows", {"cow": 20})
    images("loose", {"": 6})
    Path("nothing").mkdir()
    before = contents(".")
    named = ["--real", "real", "--synthetic", "fake", "--out", "out", "--ratio", *words]
    assert main(["contaminate", *named]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("genloss: ") and sentence in said and said.endswith(".")
    assert before == contents(".")


@pytest.mark.parametrize(("name", "word"), [("bullet train", "train"), ("test", "test"), ("re-eval_2", "eval")])
def test_a_class_that_datasets_takes_for_a_split_is_named(name: str, word: str, capsys: pytest.CaptureFixture[str]):
    """And it is the image folder alone that `datasets` reads so."""
    import datasets

    counts = {name: 4, "cat": 4, "trainer": 4}  # the last is no such word
    images("real", counts)
    images("fake", counts, first=100)
    for form, loses in (("folder", True), ("parquet", False)):
        assert go("0.5", form, "--format", form) == 0
        said = capsys.readouterr().err
        assert (f"takes the folder of class '{name}' for a split, for the word '{word}'" in said) == loses
        loaded = datasets.load_dataset(str(Path(form).resolve()), cache_dir=str(Path("cache").resolve()))
        whole = set(loaded) == {"train"} and len(loaded["train"]) == 12 and "label" in loaded["train"].features
        assert whole != loses


def test_labels_that_a_folder_numbers_otherwise_are_told(capsys: pytest.CaptureFixture[str]):
    parquet("rows", {"cat": 4, "dog": 4})  # dog is 0
    images("fake", {"cat": 4, "dog": 4}, first=100)
    assert go("0.5", "out", real="rows") == 0
    assert "'dog' was 0 and is 1; --format parquet keeps them" in capsys.readouterr().err
    assert go("0.5", "kept", "--format", "parquet", real="rows") == 0
    assert "numbered" not in capsys.readouterr().err


def test_images_are_repeated_evenly_when_asked():
    images("real", {"cat": 10})
    images("few", {"cat": 4}, first=1000)
    assert go("1", "out", "--repeat", synthetic="few") == 0
    assert sorted(Counter(replaced("out").values()).values()) == [2, 2, 3, 3]


def test_another_image_of_the_same_name_and_size_is_another_set(capsys: pytest.CaptureFixture[str]):
    def plain(seed: int) -> bytes:
        file = io.BytesIO()
        pixels = np.random.default_rng(seed).integers(0, 256, (8, 8), np.uint8)
        Image.fromarray(pixels).save(file, "png", compress_level=0)
        return file.getvalue()

    # Chunks carry a CRC-32 of their own, so that of a whole PNG has some 16 bits: two of a few hundred agree.
    seen: dict[int, int] = {}
    now = next(i for i in range(5000) if seen.setdefault(zlib.crc32(plain(i)), i) != i)
    before = seen[zlib.crc32(plain(now))]
    assert len(plain(now)) == len(plain(before)) and plain(now) != plain(before)
    for seed, root in enumerate(["real", "fake"]):
        (Path(root) / "cat").mkdir(parents=True)
        for i in range(4):
            (Path(root) / "cat" / f"{i}.png").write_bytes(plain(10**4 + 10 * seed + i))
    (Path("real/cat") / "0.png").write_bytes(plain(before))
    assert go("0.5", "out") == 0
    (Path("real/cat") / "0.png").write_bytes(plain(now))
    assert go("0.5", "out") == 2
    assert "out holds another set (" in capsys.readouterr().err


def test_another_configuration_is_refused_and_the_set_kept(capsys: pytest.CaptureFixture[str]):
    images("real", COUNTS)
    images("fake", COUNTS, first=1000)
    assert go("0.4", "out") == 0
    before = contents("out")
    for more in (["--seed", "1"], ["--independent"], ["--format", "parquet"], ["--origin", "x"], ["--not-stratified"]):
        assert go("0.4", "out", *more) == 2
        assert "out holds another set (" in capsys.readouterr().err
    assert go("0.5", "out") == 2
    assert "(ratio is 0.4, and 0.5 is asked for)" in capsys.readouterr().err
    (Path("real/cat") / "000.png").write_bytes(encoded(99))  # other data
    assert go("0.4", "out") == 2
    assert before == contents("out")


def test_data_may_be_moved_between_calls():
    images("real", COUNTS)
    images("fake", COUNTS, first=1000)
    assert go("0.4", "out") == 0
    before = contents("out")
    (Path("out") / sorted(items("out"))[3]).unlink()
    Path("real").rename("elsewhere")
    assert go("0.4", "out", real="elsewhere") == 0
    assert before == contents("out")


# Kills.


def killed(delays: list[float], out: str, form: str) -> list[int]:
    """Files there are after each SIGKILL of a call, so many seconds after it began to write."""
    words = ["--real", "real", "--synthetic", "fake", "--ratio", "0.4", "--out", out, "--format", form]
    code = f"""
import os, threading
import experiments.imagesets.contaminate as module, experiments.imagesets.writing as writing, pyarrow.parquet
from experiments.cli import main
from simulator import GenlossError  # imported once; each call is a process of its own all the same
writing.SHARD = {SHARD}
write = module.write
for delay in {delays}:
    if (child := os.fork()) == 0:
        def slowly(*given):
            threading.Timer(delay, lambda: os.kill(os.getpid(), 9)).start()
            write(*given)
            while True: pass
        module.write = slowly
        main(["contaminate", *{words!r}])
    assert os.waitpid(child, 0)[1] == 9
    print(sum(len(files) for _, _, files in os.walk({out!r})))
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        text=True,
    )
    return [int(line) for line in done.stdout.split()]


@pytest.mark.parametrize("form", ["folder", "parquet"])
@pytest.mark.parametrize("kills", [2, pytest.param(30, marks=pytest.mark.slow)])
def test_killed_and_started_again_equals_uninterrupted(kills: int, form: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("experiments.imagesets.writing.SHARD", SHARD)
    images("real", {"cat": 400, "dog": 300})
    images("fake", {"cat": 400, "dog": 300}, first=1000)
    started = time.perf_counter()
    assert go("0.4", "whole", "--format", form) == 0
    most = (time.perf_counter() - started) / 2
    delays = np.random.default_rng(0).uniform(0.001, most, kills).tolist()
    seen = killed(delays, "out", form)
    assert len(seen) == kills and 0 < seen[0] <= len(contents("whole")) + 1
    assert go("0.4", "out", "--format", form) == 0
    assert contents("out") == contents("whole")


def test_a_file_that_changes_meanwhile_stops_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    import experiments.imagesets.contaminate as module

    images("real", {"cat": 10})
    images("fake", {"cat": 10}, first=1000)
    write = module.write

    def meddle(*given: Any) -> None:
        for file in Path("real/cat").iterdir():
            file.write_bytes(file.read_bytes() + b"!")
        write(*given)

    monkeypatch.setattr(module, "write", meddle)
    assert go("0.5", "out") == 1
    assert "has changed since it was checked" in capsys.readouterr().err
    assert not Path("out/manifest.jsonl").exists()


def test_a_written_class_stays_below_the_folder():
    from experiments.imagesets.writing import write_image

    for label in ("..", "../up", "/etc", ".hidden"):
        with pytest.raises(GenlossError, match="a name that"):
            write_image(Path("out"), Item(label, "a.png", "a row", b""))
