"""Image sets made by somebody else: no name leads out of --out, nothing of another's is overwritten or removed."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from experiments.cli import main
from experiments.imagesets import job
from experiments.imagesets.images import open_set
from experiments.imagesets.names import LONGEST, OWN, unfit, unfit_path
from simulator.sources.images import decode

CHANCE = np.random.default_rng(0)
SPLIT = "train-00000-of-00001.parquet"
STRUCT = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("GENLOSS_CACHE", "off")
    monkeypatch.setattr("warnings.showwarning", None)


def encoded(side: int = 4, kind: str = "PNG", **more: Any) -> bytes:
    """An encoded picture of noise."""
    file = io.BytesIO()
    Image.fromarray(CHANCE.integers(0, 256, (side, side), np.uint8)).save(file, kind, **more)
    return file.getvalue()


def folder(root: str, classes: tuple[str, ...] = ("cat", "dog"), n: int = 4) -> None:
    for name in classes:
        Path(root, name).mkdir(parents=True)
        for i in range(n):
            Path(root, name, f"{i}.png").write_bytes(encoded())


def rows(root: str, labels: list[Any], paths: list[Any] | None = None, names: list[str] | None = None) -> None:
    """Parquet as somebody else writes it: a row for each label (none of None), with these paths of images."""
    Path(root).mkdir()
    paths = paths or [None] * len(labels)
    columns: dict[str, Any] = {"image": pyarrow.array([{"bytes": encoded(), "path": p} for p in paths], STRUCT)}
    if labels[0] is not None:
        columns["label"] = labels
    table = pyarrow.table(columns)
    if names is not None:
        features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": names}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pyarrow.parquet.write_table(table, f"{root}/{SPLIT}")


def go(out: str, *more: str, real: str = "real", synthetic: str = "fake") -> int:
    return main(["contaminate", "--real", real, "--synthetic", synthetic, "--ratio", "0.5", "--out", out, *more])


def tree(root: str | Path) -> dict[str, bytes | str]:
    """Every file, link and folder below a folder."""
    return {
        str(f.relative_to(root)): str(f.readlink()) if f.is_symlink() else f.read_bytes() if f.is_file() else "folder"
        for f in Path(root).rglob("*")
    }


def refused(capsys: pytest.CaptureFixture[str], code: int, sentence: str) -> None:
    """Exit code 2, and one sentence that holds these words."""
    said = capsys.readouterr().err
    assert code == 2 and "Traceback" not in said
    last = said.strip().splitlines()[-1]
    assert last.startswith("genloss: ") and last.endswith(".") and sentence in said, said


BAD_NAMES = ["", ".", "..", "../up", "/etc/passwd", "a/../b", "a//b", ".hidden", "nul\0", "a\\b", "line\n", "x" * 300]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_what_cannot_be_a_part_of_a_path_is_said(name: str):
    assert unfit(name) is not None and unfit_path(name) is not None


def test_names_of_files_of_the_set_are_its_own_at_the_top_alone():
    for name in OWN:
        assert unfit_path(name) and unfit_path(f"{name}/1.png") and not unfit_path(f"cat/{name}")
    for name in ("cat", "T - shirt %2F top", "café", "日本", "x" * LONGEST, "a..b", "CON ", "1.png"):
        assert unfit(name) is unfit_path(name) is None


@pytest.mark.parametrize("form", ["folder", "parquet"])
@pytest.mark.parametrize("name", ["..", ".", "../up", "nul\0", "a\\b", "", "config.json", ".ssh", "x" * 300, "a%2Fb"])
def test_class_names_of_parquet_do_not_lead_out_of_the_folder(
    name: str, form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    rows("real", [0, 1] * 4, [f"{i}.png" for i in range(8)], [name, "dog"])
    rows("fake", [0, 1] * 4, [f"{i}.png" for i in range(8)], [name, "dog"])
    (tmp_path / "0.png").write_text("mine")
    before = tree(tmp_path)
    refused(capsys, go("out", "--format", form), "a name that")
    assert tree(tmp_path) == before
    rows("texts", [name, "dog"] * 4)  # labels that say it themselves
    before = tree(tmp_path)
    refused(capsys, go("out", "--format", form, real="texts"), "a name that")
    assert tree(tmp_path) == before


def test_names_of_images_in_parquet_stay_names(tmp_path: Path):
    """Those that can be none are numbers of rows; no image is lost to another, nor the set's own files to one."""
    odd = ["config.json", "manifest.jsonl", "../../x.png", "..", "/etc/passwd", "C:\\x\\y.png", "nul\0.png", ""]
    odd += ["a.png", "a.png", "00000009-a.png", "README.md", ".hidden.png", "z" * 300 + ".png", "b.parquet", None]
    rows("real", [None] * len(odd), odd)
    rows("fake", [None] * len(odd), odd)
    before = {name: data for name, data in tree(tmp_path).items() if name.startswith(("work/real", "work/fake"))}
    assert go("out") == 0
    written = {name.removeprefix("work/out/") for name in tree(tmp_path) if name.startswith("work/out/")}
    assert tree(tmp_path).keys() == {"work", "work/out", *before, *(f"work/out/{name}" for name in written)}
    assert len(written) == len(odd) + 2 and {"config.json", "manifest.jsonl"} < written
    assert all(decode(f"out/{name}", name).shape == (4, 4, 1) for name in written - OWN)
    assert json.loads(Path("out/config.json").read_text())["genloss_image_set"] == 1


def test_two_images_are_never_written_under_one_name(capsys: pytest.CaptureFixture[str]):
    folder("real", ("cat",), 0)
    folder("fake", ("cat",), 2)
    for name, kind in (("a.jpg", "JPEG"), ("a.jpg.png", "PNG")):
        Path("real/cat", name).write_bytes(encoded(kind=kind))
    for seed in range(8):  # where a.jpg is replaced, by a PNG file
        if code := go(f"out{seed}", "--seed", str(seed)):
            refused(capsys, code, "would both be written as cat/a.jpg.png")
            break
        assert len(list(Path(f"out{seed}/cat").iterdir())) == 2
    else:
        pytest.fail("a.jpg was never replaced")


FOREIGN = {
    "another tool's": {"model_type": "vit"},
    "a list": [1],
    "nothing": None,
    "nested": "[" * 100_000,
    "no JSON": "{",
    "another version's": {"genloss_image_set": 99},
    "of an older one": {"command": "contaminate", "seed": 0, "ratio": 0.5},
}


@pytest.mark.parametrize("command", ["contaminate", "contaminate to parquet", "synthesize", "synthesize to parquet"])
@pytest.mark.parametrize("kind", FOREIGN)
def test_a_folder_with_another_configuration_is_left_alone(
    kind: str, command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    folder("real")
    folder("fake")
    folder("out")
    rows("out/data", [0])  # their own, under the name of ours
    said = FOREIGN[kind]
    Path("out/config.json").write_text(said if isinstance(said, str) else json.dumps(said))
    before = tree(".")
    form = "parquet" if command.endswith("parquet") else "folder"
    code = go("out", "--format", form) if command.startswith("c") else synthesize(monkeypatch, "--format", form)
    refused(capsys, code, "is none that genloss wrote")
    assert tree(".") == before


@pytest.mark.parametrize("format", ["folder", "parquet"])
@pytest.mark.parametrize("place", ["", "cat", "data", "config.json", "manifest.jsonl", ".config.json.part"])
def test_links_below_the_folder_are_not_followed(place: str, format: str, tmp_path: Path):
    folder("real")
    folder("fake")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "0.png").write_text("mine")
    assert go("twin", "--format", format) == 0
    Path("out").mkdir()
    Path("out/config.json").write_bytes(Path("twin/config.json").read_bytes())
    if place == "":
        Path("out/config.json").unlink()
        Path("out").rmdir()
        (tmp_path / "elsewhere").mkdir()
        Path("out").symlink_to(tmp_path / "elsewhere")  # what the user names may be a link
        assert go("out", "--format", format) == 0 and Path("out/manifest.jsonl").exists()
        return
    Path("out", place).unlink(missing_ok=True)
    Path("out", place).symlink_to(tmp_path / "theirs" / ("" if place in ("cat", "data") else "0.png"))
    before = tree(tmp_path / "theirs")
    code = go("out", "--format", format)
    assert tree(tmp_path / "theirs") == before
    used = place in ("config.json", ".config.json.part") or place == {"folder": "cat", "parquet": "data"}[format]
    assert code == (2 if used and place != ".config.json.part" else 0)


def test_what_is_not_the_sets_is_not_overwritten(capsys: pytest.CaptureFixture[str]):
    folder("real")
    folder("fake")
    for format, file in (("folder", "cat/1.png"), ("parquet", f"data/{SPLIT}")):
        assert go(format, "--format", format) == 0
        Path(format, "manifest.jsonl").unlink()
        for theirs in (b"mine", pyarrow.BufferOutputStream()):
            if not isinstance(theirs, bytes):
                pyarrow.parquet.write_table(pyarrow.table({"x": [1]}), theirs)
                theirs = theirs.getvalue().to_pybytes()
            Path(format, file).write_bytes(theirs)
            refused(capsys, go(format, "--format", format), f"{file} is not what this set has there")
            assert Path(format, file).read_bytes() == theirs


class Maker:
    """Makes noise, and is told nothing."""

    takes, labels, names = None, None, None
    about = {"pipeline": "noise", "checkpoint": "0", "versions": {}}  # noqa: RUF012

    def draw(self, told: list[Any], seeds: list[int]) -> np.ndarray:
        return np.stack([np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8) for seed in seeds])


def synthesize(monkeypatch: pytest.MonkeyPatch, *more: str) -> int:
    monkeypatch.setattr(job, "_maker", lambda request: Maker())
    return main(["synthesize", "--pipeline", "noise", "--count", "5", "--out", "out", *more])


@pytest.mark.parametrize("format", ["folder", "parquet", "both"])
@pytest.mark.parametrize("kind", [".git", ".ssh", ".env", ".part", ".lock", ".images", "notes.txt"])
def test_synthesize_takes_no_folder_that_holds_anything_else(
    kind: str, format: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    Path("out").mkdir()
    if kind in (".git", ".ssh", ".images"):
        Path("out", kind).mkdir()
        Path("out", kind, "id").write_text("mine")
    else:
        Path("out", kind).write_text("mine")
    before = tree("out")
    refused(capsys, synthesize(monkeypatch, "--format", format), f"holds other files, such as {kind}")
    assert tree("out") == before


@pytest.mark.parametrize("format", ["folder", "parquet", "both"])
def test_synthesize_removes_what_it_made_and_nothing_else(format: str, monkeypatch: pytest.MonkeyPatch):
    """Also where what is another's came while the set was made."""
    assert synthesize(monkeypatch, "--format", format, "--shard", "1/2", "--batch", "1") == 0
    theirs = [".git/config", ".env", ".genloss.lock", ".genloss-images/mine.txt", "folder/.git/config", ".a.part"]
    for name in theirs:
        Path("out", name).parent.mkdir(exist_ok=True, parents=True)
        Path("out", name).write_text("mine")
    assert synthesize(monkeypatch, "--format", format, "--batch", "1") == 0
    left = {name for name, data in tree("out").items() if Path(name).name.startswith(".") or data == b"mine"}
    assert left == {*theirs, ".git", "folder/.git", ".genloss-images"}


def test_synthesize_writes_through_no_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "theirs").mkdir()
    for form, place in (("both", "folder"), ("both", "parquet"), ("parquet", "data"), ("parquet", ".genloss-images")):
        assert synthesize(monkeypatch, "--format", form, "--shard", "1/2", "--batch", "1") == 0
        if Path("out", place).exists():
            Path("out", place).rename(f"out/{place}-")
        Path("out", place).symlink_to(tmp_path / "theirs")
        capsys.readouterr()
        refused(capsys, synthesize(monkeypatch, "--format", form, "--batch", "1"), "is no folder of its own")
        assert not tree(tmp_path / "theirs")
        Path("out").rename(f"{form}-{place}")


def test_an_images_name_is_its_items_to_the_digit(monkeypatch: pytest.MonkeyPatch):
    """Neither 3.png, nor a folder or a link of that name, is image 3."""
    assert synthesize(monkeypatch, "--shard", "1/2", "--batch", "1") == 0  # images 0, 2 and 4
    Path("out/3.png").write_bytes(encoded())
    Path("out/000000\u0663.png").write_bytes(encoded())
    assert synthesize(monkeypatch, "--batch", "1") == 0
    assert {f"out/{i:07d}.png" for i in range(5)} <= set(map(str, Path("out").iterdir()))


@pytest.mark.parametrize("line", ["[" * 100_000, '{"caption": "\\ud800"}', '{"caption": "a", "id": {"b": 1}}'])
def test_captions_that_are_no_text_are_refused(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    Path("captions.jsonl").write_text(line + "\n")
    monkeypatch.setattr(Maker, "takes", "prompt")
    monkeypatch.setattr(job, "_maker", lambda request: Maker())
    for file, said in (("captions.jsonl", "Line 1 of captions.jsonl"), ("no\0file", "captions")):
        refused(capsys, main(["synthesize", "--pipeline", "x", "--captions", file, "--out", "out"]), said)
    assert not Path("out").exists()


BOMB = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (30_000).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0"


def test_an_image_beyond_all_bounds_is_refused_by_its_header(capsys: pytest.CaptureFixture[str]):
    import zlib

    folder("real")
    folder("fake")
    header = BOMB[12:]
    Path("fake/cat/0.png").write_bytes(BOMB + zlib.crc32(header).to_bytes(4, "big") + encoded()[33:])
    refused(capsys, go("out"), "fake/cat/0.png: has more than")
    assert not Path("out").exists()


def jpeg(side: int = 64) -> bytes:
    file = io.BytesIO()
    Image.fromarray(CHANCE.integers(0, 256, (side, side, 3), np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def cut_with_thumbnail() -> bytes:
    """A JPEG cut in the middle whose embedded thumbnail ends as a whole one does."""
    raw, small = jpeg(), b"Exif\0\0" + jpeg(8)
    return (raw[:2] + b"\xff\xe1" + (len(small) + 2).to_bytes(2, "big") + small + raw[2:])[: len(small) + len(raw) // 3]


def flipped() -> bytes:
    """A PNG whose pixels decode and are not those of its checksum."""
    raw = bytearray(encoded(16, compress_level=0))
    raw[80] ^= 1
    return bytes(raw)


DAMAGED = {
    "cut": lambda: (jpeg()[:1500], "jpg"), "cut, with a thumbnail": lambda: (cut_with_thumbnail(), "jpg"),
    "no end": lambda: (jpeg()[:-2], None), "a flipped bit": lambda: (flipped(), "png"),
    "cut TIFF": lambda: (encoded(16, "TIFF")[:-40], "tif"), "cut WebP": lambda: (encoded(16, "WEBP")[:-40], "webp"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGED)
def test_nothing_is_written_that_cannot_be_decoded(kind: str, capsys: pytest.CaptureFixture[str]):
    data, suffix = DAMAGED[kind]()
    folder("real")
    folder("fake")
    for root in ("real", "fake"):
        Path(root, "cat", f"broken.{suffix or 'jpg'}").write_bytes(data)
        if suffix is None:  # all its pixels are there
            assert go(f"out of {root}", "--mixed") == 0
            continue
        refused(capsys, go("out", "--mixed"), f"{root}/cat/broken.{suffix}: is no whole image")
        assert not Path("out").exists()
        assert go(f"out of {root}", "--mixed", "--skip-broken") == 1
        found = list(open_set(f"out of {root}").items(lambda *trouble: pytest.fail(str(trouble))))
        assert len(found) == 8 and all(item.decode().shape == (4, 4, 1) for item in found)
        Path(root, "cat", f"broken.{suffix}").unlink()


def test_a_label_beyond_all_classes_is_refused(capsys: pytest.CaptureFixture[str]):
    rows("real", [0, 1, 2**40])
    folder("fake", ("0", "1", str(2**40)))
    refused(capsys, go("out", "--format", "parquet"), f"#2: has the label {2**40}")
    assert not Path("out").exists()


def test_folders_without_end_are_named(capsys: pytest.CaptureFixture[str]):
    folder("real")
    folder("fake")
    Path("real/" + "/".join("d" * 900)).mkdir(parents=True)
    refused(capsys, go("out"), "lies below more than")
