"""Data sets: found, read, split and refused."""

import time
from pathlib import Path

import jax
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from generators import Gaussian
from simulator import Dataset, GenlossError, Truth

CHANCE = np.random.default_rng(1)


def pictures(folder: Path, split: str, count: int, classes: int = 3, size: int = 6, mode: str = "L") -> None:
    """An image folder: split/class/i.png."""
    for label in range(classes):
        (folder / split / f"kind{label}").mkdir(parents=True, exist_ok=True)
        for i in range(count):
            shape = (size, size) if mode == "L" else (size, size, 3)
            Image.fromarray(CHANCE.integers(0, 256, shape).astype(np.uint8)).save(
                folder / split / f"kind{label}" / f"{i}.png"
            )


def table(folder: Path, file: str, labels: list[int], image: str = "image", names: list[str] | None = None) -> Path:
    """A parquet file in the hub's layout, with features."""
    import datasets

    images = [Image.fromarray(CHANCE.integers(0, 256, (5, 5)).astype(np.uint8)) for _ in labels]
    kind = datasets.ClassLabel(names=names or ["a", "b"])
    features = datasets.Features({image: datasets.Image(), "label": kind})
    folder.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_dict({image: images, "label": labels}, features=features).to_parquet(str(folder / file))
    return folder / file


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
    with pytest.raises(GenlossError, match="no Image column among text"):
        Dataset.load(tmp_path / "text.parquet", test="50%")


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
