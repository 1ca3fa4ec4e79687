"""What a data set says of each image beside its class: rows of metadata.jsonl or metadata.csv, or further columns."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from simulator.types import GenlossError

FILES = ("metadata.jsonl", "metadata.csv")
FILE = "file_name"  # the column of an image's path below the folder of the file


def read_metadata(folder: Path, below: str = "") -> dict[str, dict[str, Any]]:
    """The row of each file by its path below `folder / below`; {} where no file of metadata is there.

    All rows are held: some hundred bytes an image.  Raises `GenlossError` for what are no rows.
    """
    file = next((folder / name for name in FILES if (folder / name).is_file()), None)
    found: dict[str, dict[str, Any]] = {}
    for i, row in enumerate(() if file is None else _lines(file) if file.suffix == ".jsonl" else _table(file), 1):
        name = row.pop(FILE, None) if isinstance(row, dict) else None
        if not isinstance(name, str) or not is_text(json.dumps(row, ensure_ascii=False, default=str)):
            raise GenlossError(f"Row {i} of {file} is no row of text and numbers with a {FILE}; give it one.")
        name = name.removeprefix("./")
        if not name.startswith(below):
            continue
        if name[len(below) :] in found:
            raise GenlossError(f"Row {i} of {file} is a second one of {name!a}; give each image one.")
        found[name[len(below) :]] = row
    return found


def _lines(file: Path) -> Iterator[Any]:
    try:
        with file.open(encoding="utf-8-sig") as lines:
            for i, line in enumerate(lines, 1):
                if line.strip():
                    try:
                        yield json.loads(line)
                    except (ValueError, RecursionError):
                        raise GenlossError(f"Line {i} of {file} is no JSON; write a row in each line.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise GenlossError(f"{file} cannot be read ({getattr(error, 'strerror', 'it is not UTF-8')}).") from None


def _table(file: Path) -> Iterable[Any]:
    import pyarrow
    import pyarrow.csv

    try:
        options = pyarrow.csv.ParseOptions(newlines_in_values=True)
        return pyarrow.csv.read_csv(file, parse_options=options).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise GenlossError(f"{file} cannot be read as a table ({str(error).splitlines()[0]}).") from None


def is_text(said: str) -> bool:
    """Whether it can be written in UTF-8."""
    return said.encode(errors="replace").decode() == said


def written(row: Mapping[str, Any]) -> str:
    """A row as JSON; "" where nothing is in it."""
    return json.dumps(row, ensure_ascii=False, default=str) if row else ""


def replaced(real: str, other: str, label: str | None) -> str:
    """The row, as JSON, of an image in whose place another stands: columns of the real one, said of the other.

    What the other's row does not say, and the label, stay the real one's.
    """
    if not real or not other:
        return real
    row, new = json.loads(real), json.loads(other)
    return written(row | {name: new[name] for name in row if name in new and name != label})


def types(rows: Iterable[str], but: Iterable[str]) -> dict[str, Any]:
    """The Arrow type of each column of rows as JSON, without the columns `but`.

    Raises `GenlossError` where rows do not agree.
    """
    import pyarrow

    found: dict[str, Any] = {}
    for chunk in _chunks(rows, 4096):
        for name in sorted({name for row in chunk for name in row} - set(but)):
            try:
                schemas = [pyarrow.schema([(name, pyarrow.array([row.get(name) for row in chunk]).type)])]
                if name in found:
                    schemas.append(pyarrow.schema([(name, found[name])]))
                found[name] = pyarrow.unify_schemas(schemas, promote_options="permissive").field(name).type
            except (pyarrow.ArrowException, OverflowError):
                raise GenlossError(
                    f"The column '{name}' of the real set's metadata holds values of several kinds; "
                    "--format folder keeps them."
                ) from None
    return found


def _chunks(rows: Iterable[str], n: int) -> Iterator[list[dict[str, Any]]]:
    chunk: list[dict[str, Any]] = []
    for row in rows:
        chunk.append(json.loads(row) if row else {})
        if len(chunk) == n:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def feature(kind: Any) -> Any:
    """What `datasets` calls an Arrow type."""
    import pyarrow

    if pyarrow.types.is_struct(kind):
        return {field.name: feature(field.type) for field in kind}
    if pyarrow.types.is_list(kind):
        return [feature(kind.value_type)]
    return {"dtype": {"double": "float64", "float": "float32"}.get(str(kind), str(kind)), "_type": "Value"}
