"""Data sets: found, read, split and refused."""

import io
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from image_folders import pictures, table
from PIL import Image
from sklearn.datasets import load_digits

from generators import Gaussian
from simulator import Dataset, GenlossError, Truth

CHANCE = np.random.default_rng(1)


@pytest.fixture(autouse=True)
def apart(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def test_digits_are_those_of_scikit_learn_to_the_bit():
    theirs: Any = load_digits()
    order = np.random.default_rng(0).permutation(1797)
    ours = [np.concatenate([part[name] for part in Dataset.digits().split[:2]]) for name in ("image", "label")]
    assert ours[0].dtype == np.uint8 and ours[1].dtype == np.int32
    assert np.array_equal(ours[0][..., 0], np.round(theirs.images[order] * 255 / 16))
    assert np.array_equal(ours[1], theirs.target[order])


def test_digits():
    data = Dataset.digits()
    assert data.size == 1438 and len(data.split.test["label"]) == 359
    assert data.split.train["image"].shape == (1438, 8, 8, 1) and data.split.train["image"].dtype == np.uint8
    assert set(data.split.test["label"]) == set(range(10))
    both = np.concatenate([data.split.train["image"], data.split.test["image"]]).reshape(1797, -1)
    assert len(np.unique(both, axis=0)) == 1797


def test_a_stream_is_one_permutation():
    data = Dataset.digits()
    whole = data.draw(jax.random.key(0), 100)["image"]
    assert np.array_equal(whole[40:60], data.draw(jax.random.key(0), 20, skip=40)["image"])
    assert not np.array_equal(whole, data.draw(jax.random.key(1), 100)["image"])
    assert (
        len(np.unique(np.asarray(data.draw(jax.random.key(0), data.size)["image"]).reshape(data.size, -1), axis=0))
        == 1438
    )


def test_any_beginning_of_the_held_out_rows_has_all_classes_in_proportion():
    label = np.asarray(Dataset.digits().draw(jax.random.key(0), 359, held_out=True)["label"])
    assert set(label[:10]) == set(range(10))
    for n in (50, 100, 300):
        assert np.abs(np.bincount(label[:n]) - np.bincount(label) * n / 359).max() < 2


def test_image_folder_hub_layout_and_parquet_file(tmp_path: Path):
    pictures(tmp_path / "images", "train", 6)
    pictures(tmp_path / "images", "test", 2)
    data = Dataset.load(tmp_path / "images")
    assert data.split.train["image"].shape == (18, 6, 6, 1) and data.split.classes == ("kind0", "kind1", "kind2")

    table(tmp_path / "hub", "train-00000-of-00001.parquet", [0, 1] * 6, image="img")
    table(tmp_path / "hub", "test-00000-of-00001.parquet", [0, 1] * 2, image="img")
    data = Dataset.load(tmp_path / "hub")
    assert data.split.train["image"].shape == (12, 5, 5, 1) and data.split.classes == ("a", "b")

    one = Dataset.load(table(tmp_path, "all.parquet", [0, 1] * 20), test="20%")
    assert one.size == 32 and len(one.split.test["label"]) == 8


def test_colour_and_resizing(tmp_path: Path):
    pictures(tmp_path, "train", 2, mode="RGB")
    pictures(tmp_path, "test", 2, mode="RGB")
    assert Dataset.load(tmp_path, side=4).split.test["image"].shape == (6, 4, 4, 3)


def test_what_is_wrong_with_a_data_set_is_said(tmp_path: Path):
    with pytest.raises(GenlossError, match="no data set at /nowhere/at/all"):
        Dataset.load("/nowhere/at/all")
    pictures(tmp_path / "mixed", "train", 2)
    pictures(tmp_path / "mixed", "test", 2, size=7)
    with pytest.raises(GenlossError, match="set `side`"):
        Dataset.load(tmp_path / "mixed")
    with pytest.raises(GenlossError, match="no split 'validation'; it has: train, test"):
        Dataset.load(tmp_path / "mixed", test="validation")
    with pytest.raises(GenlossError, match="no column 'picture'"):
        Dataset.load(tmp_path / "mixed", image="picture")
    file = table(tmp_path / "empty", "train.parquet", [0] * 6)
    table(tmp_path / "empty", "test.parquet", [0, 1])
    with pytest.raises(GenlossError, match=r"Class 1 \('b'\) has no rows in the 'train' split"):
        Dataset.load(tmp_path / "empty")
    with pytest.raises(GenlossError, match=r"A held-out share can be cut"):
        Dataset.load(file)
    (tmp_path / "junk.parquet").write_bytes(b"this is no parquet")
    with pytest.raises(GenlossError, match="cannot be read as a data set"):
        Dataset.load(tmp_path / "junk.parquet")
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a", "b"]}), tmp_path / "text.parquet")
    with pytest.raises(GenlossError, match=r"no Image column among text \(string\)"):
        Dataset.load(tmp_path / "text.parquet", test="50%")


def plain(folder: Path, image: Any, label: Any = None, rows: int = 20) -> Path:
    """A parquet file as other writers make it, without the metadata of `datasets`."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = pyarrow.array([i % 2 for i in range(rows)]) if label is None else label
    pyarrow.parquet.write_table(pyarrow.table({"image": image, "label": labels}), folder / "train.parquet")
    return folder


def pngs(n: int = 20) -> list[bytes]:
    files = [io.BytesIO() for _ in range(n)]
    for file in files:
        Image.fromarray(CHANCE.integers(0, 256, (5, 5)).astype(np.uint8)).save(file, "PNG")
    return [file.getvalue() for file in files]


STRUCT = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])


def test_images_in_plain_columns_of_bytes_structs_and_paths_are_the_same_images(tmp_path: Path):
    data = pngs()
    (tmp_path / "paths" / "pictures").mkdir(parents=True)
    for i, x in enumerate(data):
        (tmp_path / "paths" / "pictures" / f"{i}.png").write_bytes(x)
    relative = [f"pictures/{i}.png" for i in range(20)]
    absolute = [str(tmp_path / "paths" / name) for name in relative]
    columns = {
        "bytes": pyarrow.array(data, pyarrow.binary()),
        "large": pyarrow.array(data, pyarrow.large_binary()),
        "struct": pyarrow.array([{"bytes": x, "path": None} for x in data], STRUCT),
        "paths": pyarrow.array(relative),
        "files": pyarrow.array([{"bytes": None, "path": x} for x in absolute], STRUCT),
    }
    found = {}
    for name, image in columns.items():
        # Files are read where the table says, relative ones below its folder.
        folder = plain(tmp_path / ("paths" if name == "paths" else name), image)
        found[name] = Dataset.load(folder / "train.parquet", test="25%").split
        assert found[name].classes == ("0", "1")
    assert len({split.digest for split in found.values()}) == 1
    pixels = sorted(x.tobytes() for part in found["bytes"][:2] for x in part["image"])
    assert pixels == sorted(np.asarray(Image.open(io.BytesIO(x))).tobytes() for x in data)


@pytest.mark.parametrize(
    ("labels", "classes", "numbers"),
    [
        (pyarrow.array(["dog", "cat"] * 10), ("cat", "dog"), [1, 0] * 10),
        (pyarrow.array(["10", "9"] * 10), ("10", "9"), [0, 1] * 10),
        (pyarrow.array([True, False] * 10), ("0", "1"), [1, 0] * 10),
        (pyarrow.array([1.0, 0.0] * 10), ("0", "1"), [1, 0] * 10),
        (pyarrow.array([1, 0] * 10, pyarrow.uint8()), ("0", "1"), [1, 0] * 10),
    ],
    ids=["text", "digits", "bool", "float", "uint8"],
)
def test_labels_are_names_or_whole_numbers_of_any_type(labels: Any, classes: Any, numbers: list[int], tmp_path: Path):
    data = pngs()
    split = Dataset.load(plain(tmp_path, pyarrow.array(data, pyarrow.binary()), labels), test="25%").split
    assert split.classes == classes
    of = {np.asarray(Image.open(io.BytesIO(x))).tobytes(): number for x, number in zip(data, numbers, strict=True)}
    for part in split[:2]:
        assert part["label"].dtype == np.int32
        assert [of[x.tobytes()] for x in part["image"]] == part["label"].tolist()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            [0] * 19 + [2**40],
            "row 19 of 'train' has the label 1099511627776, and labels are names or whole numbers from",
        ),
        ([-1] + [0] * 19, "row 0 of 'train' has the label -1, "),
        ([None] + [0] * 19, "row 0 of 'train' has no label; "),
        ([float("nan")] + [0.0] * 19, "row 0 of 'train' has no label; "),
        ([float("inf")] + [0.0] * 19, "row 0 of 'train' has the label inf, "),
        ([0.5] + [0.0] * 19, r"row 0 of 'train' has the label 0\.5, "),
        ([""] + ["cat"] * 19, "row 0 of 'train' has no label; "),
        ([[1]] * 20, r"row 0 of 'train' has the label \[1\], .* and 15 more; mend these"),
    ],
    ids=["large", "negative", "missing", "nan", "inf", "half", "empty", "list"],
)
def test_what_is_no_label_is_said_by_its_row(values: list[Any], words: str, tmp_path: Path):
    began = time.process_time()
    with pytest.raises(GenlossError, match=words):
        Dataset.load(plain(tmp_path, pyarrow.array(pngs(), pyarrow.binary()), pyarrow.array(values)), test="25%")
    assert time.process_time() - began < 5


def test_what_cannot_be_read_of_a_column_of_images_is_said_truthfully(tmp_path: Path):
    data = pngs()
    lists = pyarrow.array([[x, x] for x in data], pyarrow.list_(pyarrow.binary()))
    columns = {
        "lists": (lists, "row 0 of 'train' holds a list where one image, its bytes or its path, is read"),
        "numbers": (pyarrow.array(range(20)), "row 0 of 'train' holds a int where one image"),
        "gap": (pyarrow.array([*data[:19], None], pyarrow.binary()), "row 19 of 'train' has no image; mend"),
        "address": (pyarrow.array(["https://x.y/z.png"] * 20), "has its image at https://x.y/z.png, and only files"),
        "nul": (pyarrow.array(["a\0b.png"] * 20), "has a name that no file can have"),
        "device": (pyarrow.array([{"bytes": None, "path": "/dev/zero"}] * 20, STRUCT), "/dev/zero is no regular file"),
        "nul in a struct": (pyarrow.array([{"bytes": None, "path": "a\0b"}] * 20, STRUCT), "no file can have"),
        "junk": (pyarrow.array([*data[:19], b"junk"], pyarrow.binary()), "row 19 of 'train' is no whole image"),
    }
    for name, (image, words) in columns.items():
        with pytest.raises(GenlossError, match=words):
            Dataset.load(plain(tmp_path / name, image), test="25%")
    table = pyarrow.table({"images": lists, "label": [0, 1] * 10})
    pyarrow.parquet.write_table(table, tmp_path / "other.parquet")
    with pytest.raises(GenlossError, match=r"no Image column among images \(List\), label \(int64\); name it"):
        Dataset.load(tmp_path / "other.parquet", test="25%")


def test_an_image_folder_is_read_like_every_set_of_images(tmp_path: Path):
    """Sixteen bits, orientation and an end that is missing: `decode` says how; and colour if any image has colour."""
    pictures(tmp_path, "train", 10, classes=2)
    deep = CHANCE.integers(0, 65536, (6, 6)).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "train" / "kind0" / "0.png")
    exif = Image.Exif()
    exif[0x0112] = 3
    turned = CHANCE.integers(0, 256, (6, 6)).astype(np.uint8)
    Image.fromarray(turned).save(tmp_path / "train" / "kind0" / "1.png", exif=exif)
    grey = Dataset.load(tmp_path, test="25%").split
    all_of = lambda split: {x.tobytes() for part in split[:2] for x in part["image"]}  # noqa: E731
    assert {(deep >> 8).astype(np.uint8).tobytes(), turned[::-1, ::-1].tobytes()} <= all_of(grey)
    assert grey.train["image"].shape == (15, 6, 6, 1)
    Image.new("RGB", (6, 6), (9, 99, 200)).save(tmp_path / "train" / "kind1" / "last.png")
    colour = Dataset.load(tmp_path, test="25%", side=6).split  # other arguments: what was read is kept
    assert colour.train["image"].shape[1:] == (6, 6, 3)
    assert np.repeat(turned[::-1, ::-1, None], 3, -1).tobytes() in all_of(colour)
    file = tmp_path / "train" / "kind1" / "0.png"
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(GenlossError, match=r": train/kind1/0\.png is no whole image \(.+\); mend"):
        Dataset.load(tmp_path, test="26%")


def test_rows_in_both_splits_are_refused(tmp_path: Path):
    file = table(tmp_path, "train.parquet", [0, 1] * 4)
    (tmp_path / "test.parquet").write_bytes(file.read_bytes())
    with pytest.raises(GenlossError, match=r"8 rows of the 'train' split .* are also in its 'test' split"):
        Dataset.load(tmp_path)


def test_a_hub_that_cannot_be_reached_is_said_at_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(GenlossError, match="neither in the local cache nor on a hub"):
        Dataset.load("nobody/nothing-of-this-name")


def test_truth_serves_independent_rows():
    truth = Truth(Gaussian(3))
    a, b, c = (
        truth.draw(jax.random.key(0), 5),
        truth.draw(jax.random.key(0), 5, skip=5),
        truth.draw(jax.random.key(0), 5, held_out=True),
    )
    assert not np.allclose(a, b) and not np.allclose(a, c)
    moved = Truth(Gaussian(1), Gaussian(1).init(jax.random.key(0))._replace(mean=np.array([100.0])))
    assert float(np.asarray(moved.draw(jax.random.key(0), 10)).min()) > 90


@pytest.mark.data
def test_fashion_mnist(real_data: Path):
    began = time.perf_counter()
    data = Dataset.load(real_data / "fashion_mnist")
    print(f"{time.perf_counter() - began:.1f} s")
    assert data.split.train["image"].shape == (60_000, 28, 28, 1) and len(data.split.classes) == 10
    assert data.split.test["image"].shape == (10_000, 28, 28, 1)


@pytest.mark.data
def test_cifar10(real_data: Path):
    assert Dataset.load(real_data / "cifar10").split.train["image"].shape == (50_000, 32, 32, 3)
