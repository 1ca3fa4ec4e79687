"""Contaminating 100,000 small images against a plain copy of the same files, and its peak memory at two sizes."""

from __future__ import annotations

import io
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from experiments.bench import say, table

SIZES = (10_000, 100_000)
CLASSES = tuple(f"class{i}" for i in range(10))


def main() -> None:
    found = table(
        "contaminating at ratio 0.4, 28 x 28 PNG (TMPDIR says on which disk)",
        *(
            "images",
            "format",
            "plain copy, s",
            "rewritten, s",
            "contaminate, s",
            "ratio to the copy",
            "peak memory, MiB",
        ),
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for n in SIZES:
            for form in ("folder", "parquet"):
                make(folder / "real", n, form, 0)
                make(folder / "fake", n // 2, form, n)
                copied = timed(lambda: shutil.copytree(folder / "real", folder / "copy"))
                rewritten = timed(lambda: rows(folder / "real", folder / "rewritten")) if form == "parquet" else None
                took, peak = contaminated(folder, form)
                shown = "" if rewritten is None else f"{rewritten:.2f}"
                found.add_row(
                    *(f"{n:,}", form, f"{copied:.2f}", shown, f"{took:.2f}", f"{took / copied:.2f}", f"{peak:.0f}")
                )
                for part in ("real", "fake", "copy", "rewritten", "out"):
                    shutil.rmtree(folder / part, ignore_errors=True)
    say(found)


def timed(work: Callable[[], Any]) -> float:
    """Seconds until what was written is on the disk."""
    os.sync()
    started = time.perf_counter()
    work()
    os.sync()
    return time.perf_counter() - started


def make(root: Path, n: int, form: str, first: int) -> None:
    """An image set of noise, classes in turn."""
    from experiments.imagesets.images import Item
    from experiments.imagesets.writing import write_image, write_parquet

    chance = np.random.default_rng(first)

    def items():
        for i in range(n):
            file = io.BytesIO()
            Image.fromarray(chance.integers(0, 256, (28, 28), np.uint8)).save(file, "png", compress_level=1)
            yield Item(CLASSES[i % 10], f"{i:06d}.png", "", file.getvalue())

    if form == "parquet":
        return write_parquet(root, items(), CLASSES, n, 1)
    for item in items():
        write_image(root, item)
    return None


def rows(real: Path, out: Path) -> None:
    """The same rows read and written by pyarrow, which is the least that changing some of them costs."""
    import pyarrow.parquet

    for file in (real / "data").iterdir():
        out.mkdir()
        with (
            pyarrow.parquet.ParquetFile(file) as source,
            pyarrow.parquet.ParquetWriter(out / file.name, source.schema_arrow, use_dictionary=False) as to,
        ):
            for batch in source.iter_batches(4096):
                to.write_batch(batch)


def contaminated(folder: Path, form: str) -> tuple[float, float]:
    """Seconds, without starting Python, and peak memory in MiB, of a process of its own."""
    code = (
        "from experiments.bench.contamination import one\n"
        f"one({str(folder / 'real')!r}, {str(folder / 'fake')!r}, {str(folder / 'out')!r}, {form!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    took, peak = done.stdout.split()[-2:]
    return float(took), float(peak)


def one(real: str, fake: str, out: str, form: Any) -> None:
    from experiments.imagesets.contaminate import contaminate
    from experiments.imagesets.masks import Contamination

    asked = Contamination(real, out, Fraction(2, 5), fake, form)
    took = timed(lambda: contaminate(asked))
    print(took, peak())


def peak() -> float:
    """The most memory this process has held, MiB; `getrusage` also counts that of the process that started it."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return int(next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM"))) / 1024


if __name__ == "__main__":
    main()
