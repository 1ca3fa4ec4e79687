"""What a generation of a run says, where that is images, as a set: an image folder, or hub-layout parquet."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.imagesets.images import Item
from experiments.imagesets.metadata import types, written
from experiments.imagesets.names import escaped
from experiments.imagesets.writing import CONFIG, LAYOUT, MARK, shards, write_image, write_manifest, write_parquet
from simulator import disk
from simulator.sources.images import png


def write_images(
    out: Path,
    rows: Mapping[str, np.ndarray],
    names: Sequence[str],
    captions: Sequence[str] | None,
    about: Mapping[str, Any],
    kept: int,
    parquet: bool,
) -> None:
    """Writes rows {"image": uint8 [n, h, w, c], ...} into the folder `out`, in their order.

    `names` are those of the labels in the order of their numbers, () where rows have none; `captions` one for each
    row, in place of its numbers.  `about` is what the set's configuration says of it, and the manifest of each image
    whether it is among the `kept` first ones.
    """
    items = list(_items(rows, names, captions))
    if parquet:
        size = sum(len(item.data) for item in items)
        others = types((item.said for item in items), ("label",))
        classes = tuple(map(escaped, names))
        write_parquet(out, items, classes, len(items), shards(len(items), size), others=others)
    else:
        for item in items:
            write_image(out, item)
        if captions is not None:  # as `datasets` reads an image folder
            lines = (
                json.dumps({"file_name": item.file, **json.loads(item.said)}, ensure_ascii=False) for item in items
            )
            disk.write(out, "metadata.jsonl", "".join(f"{line}\n" for line in lines).encode())
    write_manifest(out, (_line(i, item, kept) for i, item in enumerate(items)))
    text = json.dumps({MARK: LAYOUT, "set": "synthetic", **about}, indent=2, ensure_ascii=False) + "\n"
    disk.write(out, CONFIG, text.encode(errors="backslashreplace"))


def class_names(labels: np.ndarray, known: Sequence[str]) -> list[str]:
    """The name of each number: those known, or the numbers themselves, written so that they are in order."""
    count = max(int(labels.max(initial=-1)) + 1, len(known))
    return [*known, *(f"{i:0{len(str(count - 1))}d}" for i in range(len(known), count))]


def _items(rows: Mapping[str, np.ndarray], names: Sequence[str], captions: Sequence[str] | None) -> Iterator[Item]:
    others = [name for name in rows if name not in ("image", "label", "caption")]
    seen: Counter[str] = Counter()
    for i, image in enumerate(rows["image"]):
        label = escaped(names[int(rows["label"][i])]) if names else ""
        name = f"{seen[label]:05d}.png" if names else f"{i:07d}.png"
        seen[label] += 1
        said = {name: rows[name][i].tolist() for name in others}
        if captions is not None:
            said["caption"] = captions[i]
        yield Item(label, name, f"row {i}", png(image), said=written(said))


def _line(i: int, item: Item, kept: int) -> dict[str, Any]:
    """A line of the manifest."""
    return {"file": item.file, "row": i, "kept": i < kept, "class": item.label or None, **json.loads(item.said or "{}")}
