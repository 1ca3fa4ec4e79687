"""`genloss compare-data`: what it says of equal, narrow and different sets, and of what cannot be used."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments.cli import main
from simulator import GenlossError


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GENLOSS_CACHE", "off")
    monkeypatch.setattr("warnings.showwarning", None)


def blobs(root: str, n: int, seed: int, spread: float = 1.0, noise: float = 8.0, classes: int = 2) -> None:
    """Images [8, 8] of a bright spot that lies anywhere within `spread` of the middle, with noise."""
    chance = np.random.default_rng(seed)
    y, x = np.mgrid[:8, :8]
    for i in range(n):
        a, b = 3.5 + 3 * spread * chance.uniform(-1, 1, 2)
        values = 200 * np.exp(-((x - a) ** 2 + (y - b) ** 2) / 4) + noise * chance.standard_normal((8, 8))
        folder = Path(root) / f"kind{i % classes}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(folder / f"{i:03d}.png")


WORDS = ["--real", "real", "--synthetic", "fake"]


def go(*more: str, out: str = "out", synthetic: str = "fake") -> tuple[int, dict[str, Any]]:
    code = main(["compare-data", "--real", "real", "--synthetic", synthetic, "--out", out, *more])
    file = Path(out) / "compare.json"
    return code, json.loads(file.read_text()) if file.exists() else {}


@pytest.mark.slow  # half a minute
def test_equal_sets_are_equal_and_a_narrow_noisy_one_is_found():
    blobs("real", 240, 0)
    blobs("same", 120, 1)
    blobs("narrow", 120, 2, spread=0.2, noise=40.0)
    code, same = go(out="same_out", synthetic="same")
    assert code == 0 and same["images"] == 120
    for share in ("precision", "recall", "density", "coverage"):  # of n = 120: within 5 standard errors of a share
        assert abs(same["synthetic"][share] - same["real"][share]) < 5 * (2 * 0.25 / 120) ** 0.5
    for detector in ("spectrum", "network", "entropy"):
        assert abs(same["detectors"][detector]["auroc"] - 0.5) < 5 * same["detectors"]["error"]
    code, narrow = go(out="narrow_out", synthetic="narrow")
    assert code == 0
    assert narrow["synthetic"]["coverage"] < 0.5 * narrow["real"]["coverage"]
    assert narrow["synthetic"]["frechet"] > 3 * narrow["real"]["frechet"]
    assert narrow["detectors"]["spectrum"]["auroc"] > 0.9
    assert (Path("narrow_out") / "compare.png").stat().st_size > 10_000


def test_what_cannot_be_used_is_named(capsys: pytest.CaptureFixture[str]):
    blobs("real", 80, 0)
    blobs("fake", 40, 1, classes=1)
    (Path("fake/kind0") / "bad.png").write_bytes(b"nothing")
    assert go()[0] == 2 and not Path("out").exists()
    assert "fake/kind0/bad.png: is no whole image" in capsys.readouterr().err
    Image.new("L", (9, 9)).save("fake/kind0/other.png")
    assert go("--skip-broken")[0] == 2
    assert "fake/kind0/other.png: is of size 9x9, where real images are 8x8" in capsys.readouterr().err


@pytest.mark.slow
def test_what_is_left_out_is_counted(capsys: pytest.CaptureFixture[str]):
    blobs("real", 80, 0)
    blobs("fake", 40, 1, classes=1)
    (Path("fake/kind0") / "bad.png").write_bytes(b"nothing")
    code, found = go("--skip-broken")
    said = capsys.readouterr().err
    assert code == 1 and found["left out"] == 1 and found["classes missing"] == ["kind1"]
    assert "class 'kind1' of real has no image in fake" in said
    Image.new("L", (9, 9)).save("fake/kind0/other.png")
    assert go("--skip-broken", "--side", "8", out="sized")[0] == 1


def test_the_same_pictures_are_the_same_however_they_are_stored(monkeypatch: pytest.MonkeyPatch):
    """Turned with an EXIF orientation, 16 bits deep, of a palette, and as rows of parquet that is not of `datasets`."""
    import pyarrow
    import pyarrow.parquet

    given: list[np.ndarray] = []

    def measure(asked: Any, reference: Any, other: Any, fake: Any) -> Any:
        given.append(np.asarray(fake["image"]))
        raise GenlossError("That is all that is asked for.")

    monkeypatch.setattr("experiments.imagesets.compare.measure", measure)
    blobs("real", 80, 0)
    blobs("plain", 40, 1)
    exif = Image.Exif()
    exif[0x0112] = 6
    files = sorted(Path("plain").rglob("*.png"))
    for file in files:
        picture = Image.open(file)
        for kind in ("turned", "deep", "palette", "colour"):
            (kind / file.relative_to("plain")).parent.mkdir(parents=True, exist_ok=True)
        name = file.relative_to("plain")
        picture.transpose(Image.Transpose.ROTATE_90).save("turned" / name, exif=exif)
        Image.fromarray(np.asarray(picture).astype(np.uint16) * 256 + 99).save("deep" / name)
        picture.convert("P").save("palette" / name)
        picture.convert("RGB").save("colour" / name)
    images = [file.read_bytes() for file in files]
    rows = {"image": pyarrow.array(images, pyarrow.large_binary()), "label": [file.parent.name for file in files]}
    Path("rows").mkdir()
    pyarrow.parquet.write_table(pyarrow.table(rows), "rows/train.parquet")
    for kind in ("plain", "turned", "deep", "palette", "rows", "colour"):
        assert go("--limit", "40", synthetic=kind, out=kind + "_out")[0] == 2
    assert len(given) == 6 and given[0].shape == (40, 8, 8, 1)
    assert all(np.array_equal(other, given[0]) for other in given[1:4])
    assert sorted(x.tobytes() for x in given[4]) == sorted(x.tobytes() for x in given[0])  # names differ: another order
    assert np.array_equal(given[5], given[0].repeat(3, -1))  # all in colour if any is


@pytest.mark.parametrize("more", [["--limit", "3"], ["--side", "1"], ["--side", "5000"]])
def test_bad_input_is_one_sentence(more: list[str], capsys: pytest.CaptureFixture[str]):
    blobs("real", 80, 0)
    blobs("fake", 40, 1)
    assert go(*more)[0] == 2
    assert "--limit of at least 20 images, and --side of at least 4" in capsys.readouterr().err


def test_where_the_result_goes_is_asked_before_anything_is_read(capsys: pytest.CaptureFixture[str]):
    """And what is there that is no result of this comparison stays."""
    blobs("real", 40, 0)
    blobs("fake", 20, 1)
    for kind in ("real", "fake"):  # nothing is read: these would be told of
        (Path(kind) / "kind0/bad.png").write_bytes(b"nothing")
    Path("file").write_text("mine")
    Path("full").mkdir()
    Path("full/compare.png").write_text("mine")
    Path("other").mkdir()
    Path("other/compare.json").write_text('{"loss": 1}')
    Path("linked").mkdir()
    Path("linked/compare.json").symlink_to("../file")
    for out in ("file", "file/below", "x" * 300, "full", "other", "linked"):
        assert main(["compare-data", *WORDS, "--out", out]) == 2
        said = capsys.readouterr().err
        assert "bad.png" not in said and len(said.splitlines()) == 1 and said.startswith("genloss: "), said
    assert Path("file").read_text() == Path("full/compare.png").read_text() == "mine"
    assert Path("other/compare.json").read_text() == '{"loss": 1}'


def test_images_without_bounds_are_refused_by_their_headers(capsys: pytest.CaptureFixture[str]):
    import zlib

    blobs("real", 40, 0)
    blobs("fake", 20, 1)
    header = b"IHDR" + (30_000).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0"
    large = b"\x89PNG\r\n\x1a\n\0\0\0\r" + header + zlib.crc32(header).to_bytes(4, "big") + b"\0\0\0\0IDAT"
    for i in range(45):
        (Path("fake/kind0") / f"large{i}.png").write_bytes(large)  # no pixels follow
    assert go()[0] == 2 and not Path("out").exists()
    assert ": has more than 67,108,864 pixels" in capsys.readouterr().err


def test_too_few_images(capsys: pytest.CaptureFixture[str]):
    blobs("real", 80, 0)
    blobs("fake", 10, 1)
    assert go()[0] == 2
    assert "too few can be used" in capsys.readouterr().err
