"""The records of many runs in one table, with the fields that tell their chains apart as columns."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from simulator.analysis.compare import Run
from simulator.analysis.series import COLUMNS


def joined(runs: Sequence[Run]) -> Any:
    """A data frame of run, fields, setting, replicate, generation, metric, value: a row for every value of every run.

    Fields are those by which two of the runs, or two settings of a sweep, differ, under their dotted names, as in
    `--recipe.real`; where things of two kinds stand, they are called by their classes.  Who has no such field has an
    empty cell.  A column is of numbers where all its cells are, else of text.
    """
    import pandas

    told = [fields(run.about) for run in runs]  # setting -> path -> value
    every = [of for settings in told for of in settings.values()]
    paths = [path for path in dict.fromkeys(path for of in every for path in of) if path not in ("run", *COLUMNS)]
    columns = {path: _kind(values) for path in paths if _differ(values := [of.get(path) for of in every])}
    frames = []
    for run, settings in zip(runs, told, strict=True):
        frame = {"run": pandas.Series(run.name, run.records.index)}
        for path, kind in columns.items():
            cells = {name: _text(of.get(path)) if kind == "object" else of.get(path) for name, of in settings.items()}
            frame[path] = run.records["setting"].map(cells).astype(kind)
        frames.append(pandas.DataFrame(frame).join(run.records[list(COLUMNS)]))
    return pandas.concat(frames, ignore_index=True)


def dumped(table: Any) -> bytes:
    """A table as .parquet."""
    sink = io.BytesIO()
    table.to_parquet(sink, index=False, compression="zstd")
    return sink.getvalue()


def fields(about: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Of each setting of a run, as its records call it, what its chain.json says of the chain, by dotted name."""
    run = about["run"]
    of_all = dict(_leaves(run["chain"]))
    if run["sweep"] is None:
        return {"chain": of_all}
    paths = [path.strip() for path in run["sweep"]["path"].split(",")]
    each = {name: value if isinstance(value, list) else [value] for name, value in run["sweep"]["values"].items()}
    return {name: of_all | dict(zip(paths, values, strict=False)) for name, values in each.items()}


def _leaves(data: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Of an encoded configuration; a list of plain values, which a command line can spell, is one."""
    if isinstance(data, Mapping):
        for name, value in data.items():
            if name in ("$type", "$name"):
                yield path, str(value).rpartition(":")[2]
            elif name != "$source":
                yield from _leaves(value, f"{path}.{name}" if path else str(name))
    elif isinstance(data, list) and any(isinstance(value, Mapping | list) for value in data):
        for i, value in enumerate(data):
            yield from _leaves(value, f"{path}.{i}")
    else:
        yield path, data


def _differ(values: Sequence[Any]) -> bool:
    return any(value != values[0] for value in values)


def _kind(values: Sequence[Any]) -> str:
    """The kind of a column."""
    kinds = {type(value) if isinstance(value, float) or _short(value) else str for value in values}
    whole, numbers = {int, type(None)}, {int, float, type(None)}
    return "Int64" if kinds <= whole else "float64" if kinds <= numbers else "object"


def _short(value: Any) -> bool:
    """Whether it is no number, or one of 64 bits."""
    return not isinstance(value, int) or abs(value) < 2**63


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value)
