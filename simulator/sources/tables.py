"""Tables of data sets: opened by path or hub id, the columns that are meant, and what their cells hold."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simulator.sources.images import Unreadable, decode, stacked
from simulator.types import GenlossError

MOST_CLASSES = 2**20  # numbers that a label may be, where classes have no names
_TOLD = 5  # rows that cannot be used, by name


def share_of(test: str) -> float | None:
    """The share of "20%", 0.2; None where a split is named."""
    if not test.endswith("%"):
        return None
    try:
        share = float(test[:-1])
    except ValueError:
        share = 0.0
    if not 0 < share < 100:
        raise GenlossError(f"`test` is '{test}'; a held-out share lies between 0% and 100%, such as 20%.")
    return share / 100


def opened(path: str, train: str, test: str) -> Any:
    """The splits at a path or hub id by name; `train` is one of them, and so is `test` unless it is a share."""
    dataset = _open(path)
    for split in (train, test) if share_of(test) is None else (train,):
        if split not in dataset:
            raise GenlossError(
                f"{path} has no split '{split}'; it has: {', '.join(dataset)}."
                + (
                    " A held-out share can be cut from the train split with test='20%' (--source.test 20%)."
                    if split == test
                    else ""
                )
            )
    return dataset


def _open(path: str) -> Any:
    """What `datasets.load_dataset` makes of a path or hub id, within seconds also where no hub can be reached."""
    local = Path(path).expanduser()
    if not local.exists():
        if path.count("/") != 1 or path.startswith((".", "/", "~")):
            raise GenlossError(f"There is no data set at {path}; give a folder, a parquet file or a hub id owner/name.")
        if not _hub_answers(path):
            # Both are read once, at import: `datasets` then looks into the local cache only, and says so at once.
            os.environ["HF_HUB_OFFLINE"] = "1"
            import huggingface_hub.constants

            huggingface_hub.constants.HF_HUB_OFFLINE = True
    import datasets

    datasets.disable_progress_bars()
    try:
        if local.is_file():
            return datasets.load_dataset("parquet", data_files={"train": str(local)})
        return datasets.load_dataset(str(local) if local.exists() else path)
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if local.exists():
            raise GenlossError(f"{path} cannot be read as a data set: {first}") from None
        raise GenlossError(
            f"The data set {path} is neither in the local cache nor on a hub that can be reached; check the name and "
            "the network, or give a local path."
        ) from None


def _hub_answers(path: str) -> bool:
    if os.environ.get("HF_HUB_OFFLINE") == "1":
        return False
    from huggingface_hub import HfApi

    try:
        HfApi().dataset_info(path, timeout=2)
    except Exception:  # no route, no such id, gated: the cache decides
        return False
    return True


def column(path: str, features: Any, given: str | None, name: str, *kinds: str) -> str:
    """The column that is given, or the only one of the first of these kinds that there is, or the one named so."""
    if given is not None:
        if given not in features:
            raise GenlossError(f"{path} has no column '{given}'; it has: {', '.join(features)}.")
        return given
    of = [[column for column, feature in features.items() if _kind(feature) == kind] for kind in kinds]
    found = next(filter(None, of), [name] if name in features else [])
    if len(found) == 1:
        return found[0]
    what = "no" if not found else "more than one"
    there = ", ".join(f"{column} ({_kind(feature)})" for column, feature in features.items())
    raise GenlossError(f"{path} has {what} {kinds[0]} column among {there}; name it with `{name}`.")


def _kind(feature: Any) -> str:
    """The kind of a column: "Image", "ClassLabel", "bytes" of images without a name, or of plain values their type."""
    kind = type(feature).__name__
    if kind == "Value":
        return "bytes" if "binary" in feature.dtype else feature.dtype
    return "bytes" if isinstance(feature, Mapping) and "bytes" in feature else kind


def cells(path: str, parts: Iterable[Any], image: str, other: str) -> Iterator[tuple[str, Any, Any]]:
    """Of each row of some splits: where it is, its image, still encoded, and its cell of another column."""
    import datasets

    for part in parts:
        encoded = part.select_columns([image, other])
        if isinstance(part.features[image], datasets.Image):
            encoded = encoded.cast_column(image, datasets.Image(decode=False))
        for i, row in enumerate(encoded):
            found = row[image]
            is_file = isinstance(found, Mapping) and found.get("bytes") is None and found.get("path") is not None
            yield _below(path, found["path"]) if is_file else f"row {i} of '{part.split}'", found, row[other]


def _below(path: str, file: str) -> str:
    """A file as its path below the data set's, where it is; nothing is looked up, since a name may be no file's."""
    root = Path(path).expanduser()
    below = (Path(file).relative_to(top) for top in (root.absolute(), root.resolve()) if Path(file).is_relative_to(top))
    return str(next(below, file))


def encoded(cell: Any, where: str, path: str | os.PathLike[str]) -> bytes | Path:
    """The image in a cell as bytes or a file: plain bytes, a path, or a struct of both, as any writer of tables has it.

    A relative path is one below the folder of the table at `path`.  Raises `Unreadable` for anything else.
    """
    if isinstance(cell, Mapping) and {"bytes", "path"} & cell.keys():
        cell = cell.get("path") if cell.get("bytes") is None else cell["bytes"]
    if isinstance(cell, bytes):
        return cell
    if cell is None:
        raise Unreadable(where, "has no image")
    if not isinstance(cell, str):
        kind = "a list" if isinstance(cell, Sequence) else f"a {type(cell).__name__}"
        raise Unreadable(where, f"holds {kind} where one image, its bytes or its path, is read")
    if "://" in cell:
        raise Unreadable(where, f"has its image at {cell}, and only files are read")
    root = Path(path).expanduser()
    return (root.parent if root.is_file() else root) / cell


def label(cell: Any, where: str, names: Sequence[str] = ()) -> int | str:
    """The label in a cell: a number of a class, one of `names` where there are, or the name of a class.

    Whole numbers may be stored as floats, as tables do that have gaps; True and False are 1 and 0.  Raises
    `Unreadable` for a gap and for whatever is no class.
    """
    if isinstance(cell, str) and cell:
        return cell
    if cell is None or cell == "" or cell != cell:
        raise Unreadable(where, "has no label")
    bound = len(names) or MOST_CLASSES
    if not isinstance(cell, bool | int | float) or cell != cell // 1 or not 0 <= cell < bound:
        raise Unreadable(where, f"has the label {cell}, and labels are names or whole numbers from 0 to {bound - 1:,}")
    return int(cell)


def numbered(labels: Sequence[int | str], names: Sequence[str] = ()) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels as numbers, int32 [n], and the names of the numbers.

    Names that the table has keep their order, other names are sorted, and plain numbers have all up to the highest.
    """
    if any(isinstance(said, str) for said in labels):
        order = tuple(names) or tuple(sorted({str(said) for said in labels}))
        number = {name: i for i, name in enumerate(order)}
        return np.array([number[str(said)] for said in labels], np.int32), order
    numbers = np.asarray(labels, np.int32)
    return numbers, tuple(names) or tuple(str(i) for i in range(1 + max(numbers, default=-1)))


def pictures(
    path: str, found: Iterable[tuple[str, Any]], side: int | None, channels: int | None, troubles: list[str]
) -> np.ndarray:
    """The images of cells, each told where it is, as uint8 [n, h, w, c], in colour if any is.

    What cannot be used is told to `troubles`; then images do not matter.
    """
    images: list[np.ndarray] = []
    first = ""
    for where, cell in found:
        try:
            image = decode(encoded(cell, where, path), where, side, channels)
        except Unreadable as error:
            troubles.append(f"{where} {error.why}")
            continue
        first = first or where
        if images and image.shape[:2] != images[0].shape[:2]:
            sizes = [f"{shape[1]}x{shape[0]}" for shape in (image.shape, images[0].shape)]
            troubles.append(f"{where} is {sizes[0]} pixels and {first} {sizes[1]} (set `side` to make all alike)")
        images.append(image)
    if not troubles and not images:
        raise GenlossError(f"{path} has no rows; give some.")
    return np.zeros((0, 1, 1, 1), np.uint8) if troubles else stacked(images)


def refuse(path: str, troubles: list[str]) -> None:
    """Raises where there are troubles, and tells the first."""
    if troubles:
        told = "; ".join(troubles[:_TOLD]) + (f"; and {len(troubles) - _TOLD} more" * (len(troubles) > _TOLD))
        raise GenlossError(f"{path}: {told}; mend these, or remove image and row.")
