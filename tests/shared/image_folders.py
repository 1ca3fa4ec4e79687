"""Folders and tables of pictures on disk."""

from pathlib import Path

import numpy as np
from PIL import Image


def pictures(folder: Path, split: str, count: int, classes: int = 3, size: int = 6, mode: str = "L") -> None:
    """An image folder: split/class/i.png."""
    chance = np.random.default_rng(list(f"{folder.name}/{split}".encode()))
    for label in range(classes):
        (folder / split / f"kind{label}").mkdir(parents=True, exist_ok=True)
        for i in range(count):
            shape = (size, size) if mode == "L" else (size, size, 3)
            Image.fromarray(chance.integers(0, 256, shape).astype(np.uint8)).save(
                folder / split / f"kind{label}" / f"{i}.png"
            )


def table(folder: Path, file: str, labels: list[int], image: str = "image", names: list[str] | None = None) -> Path:
    """A parquet file in the hub's layout, with features."""
    import datasets

    chance = np.random.default_rng(list(f"{folder.name}/{file}".encode()))
    images = [Image.fromarray(chance.integers(0, 256, (5, 5)).astype(np.uint8)) for _ in labels]
    kind = datasets.ClassLabel(names=names or ["a", "b"])
    features = datasets.Features({image: datasets.Image(), "label": kind})
    folder.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_dict({image: images, "label": labels}, features=features).to_parquet(str(folder / file))
    return folder / file
