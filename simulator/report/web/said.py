"""What generations say, for a slider: images as one sprite, texts, or points over the truth."""

from __future__ import annotations

import base64
import functools
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from simulator.report.names import plain
from simulator.report.web.curves import spread
from simulator.running import spec
from simulator.running.checkpoints import Checkpoints
from simulator.running.store import Store
from simulator.sources.images import decode
from simulator.sources.truth import Truth

STOPS = 24  # generations of the slider
BYTES = 600_000  # of a sprite, unless one generation has more
POINTS = 10_000  # of all generations and lines


def said(store: Store) -> dict[str, Any] | None:
    """What the run has of its generations: a kind, their numbers, the names of the lines, and the rest by kind."""
    about = store.about()
    sweep, replicates = about["run"]["sweep"], about["run"]["replicates"]
    settings = [plain(name) for name in sweep["values"]] if sweep else []
    names = settings or ([f"replicate {r}" for r in range(replicates)] if replicates else ["chain"])
    axes = 2 if sweep else 1 if replicates else 0
    if pictures := store.pictures():
        found = sprite({t: pictures[t].read_bytes() for t in spread(np.array(sorted(pictures)), STOPS)}, len(names))
    elif texts := store.texts():
        found = _texts({t: texts[t] for t in spread(np.array(sorted(texts)), STOPS)})
    else:
        found = _points(store, about, axes)
    return found and {**found, "names": names}


def sprite(pictures: Mapping[int, bytes], lines: int) -> dict[str, Any]:
    """Sheets one above the other in a PNG, half of them where that is too large; of the size of the first."""
    from PIL import Image

    sheets = {int(t): decode(data, f"the picture of generation {t}") for t, data in pictures.items()}  # [h, w, c]
    shape = next(iter(sheets.values())).shape
    sheets = {t: sheet for t, sheet in sheets.items() if sheet.shape == shape}
    while True:
        tall = np.concatenate(list(sheets.values()))
        sink = io.BytesIO()
        Image.fromarray(tall[..., 0] if shape[2] == 1 else tall).save(sink, "PNG", optimize=True)
        if len(sink.getvalue()) <= BYTES or len(sheets) == 1:
            break
        sheets = {int(t): sheets[t] for t in spread(np.array(list(sheets)), len(sheets) // 2)}
    source = f"data:image/png;base64,{base64.b64encode(sink.getvalue()).decode()}"
    return {"kind": "images", "generations": list(sheets), "sprite": source, "height": shape[0] // max(1, lines)}


def _texts(texts: Mapping[int, Sequence[Sequence[str]]], most: int = 600) -> dict[str, Any]:
    shown = [[[_cut(text, most) for text in line[:3]] for line in of] for of in texts.values()]
    return {"kind": "texts", "generations": [int(t) for t in texts], "texts": shown}


def _cut(text: str, most: int) -> str:
    return "\n".join(map(plain, text[:most].split("\n"))) + "…" * (len(text) > most)


def _points(store: Store, about: Mapping[str, Any], axes: int) -> dict[str, Any] | None:
    """Of rows of floats [*axes, n, d], from checkpoints, the first two numbers, and of held-out rows of the truth."""
    reader, found = Checkpoints(store.path), {}
    steps = spread(np.array(store.steps()), STOPS)
    try:
        for t in steps:
            (*_, leaves), points = reader.read(int(t), about).rows or [{}], np.zeros(0)
            if list(leaves) == ["0"]:
                points = np.asarray(leaves["0"])
            if points.dtype.kind != "f" or points.ndim != axes + 2:
                return None
            found[int(t)] = points[:, 0] if axes == 2 else points if axes else points[None]  # [lines, n, d]
    except ValueError:  # what is damaged ends what is shown
        pass
    finally:
        reader.close()
    if not found:
        return None
    dim = next(iter(found.values())).shape[-1]
    most = max(20, POINTS // (len(found) * len(next(iter(found.values())))))
    csv = ["generation,line,x,y"[: None if dim > 1 else -2]]
    for t, lines in found.items():
        csv += [f"{t},{i},{_cells(row)}" for i, line in enumerate(lines) for row in line[:most, :2]]
    truth = _truth(json.dumps(about["run"]["chain"].get("source")), most)
    return {"kind": "points", "generations": list(found), "csv": "\n".join(csv), "truth": truth, "dim": dim}


def _cells(row: np.ndarray) -> str:
    return ",".join(f"{value:.4g}" for value in row)


@functools.lru_cache(maxsize=8)  # a page that is live asks again and again
def _truth(source: str, most: int) -> list[list[float]]:
    """Held-out rows of a `Truth`, given as JSON; none where it is code of somebody else's, which `decode` refuses, and
    none of data, which would be read.
    """
    import jax

    encoded = json.loads(source)
    if not isinstance(encoded, dict) or encoded.get("$type") != spec.encode(Truth)["$name"]:
        return []
    try:
        truth = spec.decode(encoded)
        rows = np.asarray(jax.jit(lambda key: truth.draw(key, most, held_out=True))(jax.random.key(0)))  # [n, d]
    except Exception:  # a source may fail in any way of its own; the page is none the worse for it
        return []
    return [[float(f"{value:.4g}") for value in row] for row in rows[:, :2]] if rows.ndim == 2 else []
