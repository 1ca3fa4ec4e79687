"""Rows of numbers: the columns of a CSV or parquet file that hold no images."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from simulator.types import GenlossError


class Numbers(NamedTuple):
    """A table's numbers, and what it has beside them."""

    names: tuple[str, ...]
    rows: np.ndarray  # float64 [n, columns]; NaN where there is none
    others: tuple[str, ...]


def read(path: str | os.PathLike[str]) -> Numbers | None:
    """The numbers of a CSV or parquet file; None where the place is another, or holds images.

    Raises `GenlossError` where it has no column of numbers, or cannot be read.
    """
    import pyarrow
    import pyarrow.csv
    import pyarrow.parquet

    file = Path(path).expanduser()
    if not file.is_file() or file.suffix.lower() not in (".csv", ".parquet"):
        return None
    try:
        if file.suffix.lower() == ".csv":
            table: Any = pyarrow.csv.read_csv(file)
        else:
            schema = pyarrow.parquet.read_schema(file)
            if "image" in schema.names or any("binary" in str(kind) for kind in schema.types):
                return None
            table = pyarrow.parquet.read_table(file)
    except (pyarrow.ArrowException, OSError) as error:
        raise GenlossError(
            f"{path} cannot be read as a table ({str(error).splitlines()[0]}); write it again."
        ) from None
    tests = (pyarrow.types.is_integer, pyarrow.types.is_floating, pyarrow.types.is_boolean)
    names = tuple(column.name for column in table.schema if any(test(column.type) for test in tests))
    if not names:
        raise GenlossError(f"{path} has no column of numbers; it has: {', '.join(table.schema.names)}.")
    rows = np.stack([table[name].cast(pyarrow.float64()).to_numpy() for name in names], 1)  # [n, columns]
    return Numbers(names, rows, tuple(name for name in table.schema.names if name not in names))
