"""Figures of a run."""

from __future__ import annotations

import io
from typing import Any

import numpy as np


def sheet(images: np.ndarray, axes: int, columns: int = 24, zoom_to: int = 32) -> bytes:
    """A PNG of images uint8 [(settings,) (replicates,) n, h, w, c]: a line for each setting, or replicate, or chain.

    Of a sweep the first replicate is shown.  Small images are enlarged to about `zoom_to` pixels.
    """
    from PIL import Image

    lines = images[:, 0] if axes == 2 else images if axes == 1 else images[None]  # [lines, n, h, w, c]
    lines = lines[:, :columns]
    count, n, h, w, c = lines.shape
    zoom = max(1, round(zoom_to / h))
    framed = np.pad(lines.repeat(zoom, 2).repeat(zoom, 3), [(0, 0), (0, 0), (1, 1), (1, 1), (0, 0)])
    height, width = framed.shape[2:4]
    grid = framed.transpose(0, 2, 1, 3, 4).reshape(count * height, n * width, c)
    sink = io.BytesIO()
    Image.fromarray(grid[..., 0] if c == 1 else grid).save(sink, "PNG")
    return sink.getvalue()


