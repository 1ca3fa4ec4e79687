"""Tables: numbers, whole numbers and categories, with gaps, from a file or among those that scikit-learn ships."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from simulator.checks import fields
from simulator.pool import Rows
from simulator.sources.split import Split, Stream, refuse_leak, stratified
from simulator.sources.tables import refuse, share_of
from simulator.types import Array, GenlossError, Key

SHIPPED = ("wine", "breast_cancer", "diabetes")
MISSING = "(missing)"  # the kind of a category that is not there
MOST_KINDS = 100  # of a column of text: more are names or texts
MOST_LABELS = 20  # whole numbers that a target may have, to be a label and no number
EXACT = 2**24  # whole numbers up to which float32 has all


@dataclass(frozen=True)
class Table(Stream):
    """Real rows of a CSV or parquet file with a held-out share, as `simulator.sources.columns.Layout` says.

    Types are found: text and truth values are categories, and so are whole numbers of at most two values or of columns
    named in `categorical`; floats that are all whole are whole numbers.  A gap (an empty cell, NA, NaN, null, ?) is a
    state of its own: of a category one more kind, of a number a flag in "missing".  The target `label` is labels where
    it is categories or has at most 20 whole numbers, else a number, y.  A stream is one permutation of the rows that
    are not held out, in which every label is.
    """

    path: str = "wine"  # a CSV or parquet file; or "wine", "breast_cancer", "diabetes", which scikit-learn ships
    label: str | None = None  # the target's column; None: there is no target, but for a shipped table its own
    categorical: tuple[str, ...] = ()  # columns of numbers that stand for categories
    leave_out: tuple[str, ...] = ()  # columns that are not read, such as names
    delimiter: str = ","  # between the cells of a CSV file
    test: str = "20%"  # how much of a shuffle is held out
    reuse: bool = False  # start the permutation again when it runs out, instead of an error

    def __post_init__(self) -> None:
        fields.check(self)
        if share_of(self.test) is None:
            raise GenlossError(f"`test` is '{self.test}'; give the share of rows to hold out, such as 20%.")
        if len(self.delimiter) != 1:
            raise GenlossError(f"`delimiter` is {self.delimiter!r}; give one character, such as ';'.")

    @classmethod
    def wine(cls) -> Table:
        """178 wines of three cultivars, 13 numbers each."""
        return cls("wine")

    @classmethod
    def breast_cancer(cls) -> Table:
        """569 tumours, benign or malignant, 30 numbers each."""
        return cls("breast_cancer")

    @classmethod
    def diabetes(cls) -> Table:
        """442 patients: age, sex and eight measurements, and y, the progression of their disease."""
        return cls("diabetes")

    @property
    def split(self) -> Split:
        """The rows on the host, read once per process."""
        return self._read.split

    @property
    def columns(self) -> Mapping[str, tuple[str, ...]]:
        """The names of the columns of each leaf of rows."""
        return self._read.columns

    @property
    def supply(self) -> str:
        return f"{self.path} has {self.size} that are not held out"

    @property
    def _read(self) -> _Read:
        return _read(self.path, self.label, self.categorical, self.leave_out, self.delimiter, self.test)

    def permuted(self, key: Key, rows: Rows, held_out: bool) -> Array:
        """Held-out rows are stratified: one of each label comes first, then all in proportion."""
        order = super().permuted(key, rows, held_out)  # [size]
        if held_out and "label" in rows:
            order = order[stratified(jnp.asarray(rows["label"])[order], len(self.split.classes))]
        return order

    def guard(self, rows: Rows) -> None:
        """Raises where one of `rows` is a held-out row, and none to train on."""
        refuse_leak(rows, self.split.test, f"are held-out rows of {self.path}", self.split.train)

    def frame(self, rows: Rows) -> Any:
        """Rows as the pandas table they would be in a file: columns by name, kinds by theirs, gaps as such."""
        import pandas

        host, names = jax.tree.map(np.asarray, rows), self.columns
        found: dict[str, Any] = {}
        numbers = [name for leaf in ("numbers", "wholes") for name in names.get(leaf, ())]
        for i, name in enumerate(numbers):
            d = len(names.get("numbers", ()))
            cells = pandas.Series(host["numbers"][:, i] if i < d else host["wholes"][:, i - d])
            if "missing" in host:
                cells = cells.astype("Int64" if i >= d else "Float64").mask(host["missing"][:, i])
            found[name] = cells
        for name, kinds, member in zip(names.get("kinds", ()), self._read.kinds, host.get("kinds", ()), strict=True):
            cells = pandas.Series(np.array(kinds, object)[member.argmax(1)])
            found[name] = cells.mask(cells == MISSING)
        if "y" in host:
            found[names["y"][0]] = host["y"]
        if "label" in host:
            found[names["label"][0]] = np.array(self.split.classes, object)[host["label"]]
        return pandas.DataFrame(found)


class _Read(NamedTuple):
    split: Split
    columns: Mapping[str, tuple[str, ...]]
    kinds: tuple[tuple[str, ...], ...]  # names, of each column of categories


@functools.lru_cache(maxsize=8)
def _read(
    path: str, label: str | None, categorical: tuple[str, ...], leave_out: tuple[str, ...], delimiter: str, test: str
) -> _Read:
    shipped = path in SHIPPED
    cells = _shipped(path) if shipped else _file(path, delimiter)
    for name in (*categorical, *leave_out, *([label] if label else [])):
        if name not in cells:
            raise GenlossError(f"{path} has no column '{name}'; it has: {', '.join(cells)}.")
    cells = {name: column for name, column in cells.items() if name not in leave_out}
    label = label or ("target" if shipped and "target" in cells else None)
    found = {name: _column(path, name, column, name in categorical, name == label) for name, column in cells.items()}
    if not set(found) - {label}:
        raise GenlossError(f"{path} has no columns beside the target; give some.")
    rows, columns, classes = _rows(path, found, label)
    size = len(next(iter(found.values())).cells)
    held_out = _held_out(path, size, share_of(test) or 0.2, rows.get("label"), classes)  # [n] bool
    kinds = tuple(found[name].kinds for name in columns.get("kinds", ()))
    total = hashlib.blake2b(repr((columns, kinds, classes)).encode(), digest_size=10)
    for leaf in jax.tree.leaves(rows):
        total.update(np.ascontiguousarray(leaf).tobytes())
    train, test = (jax.tree.map(lambda leaf, which=which: leaf[which], rows) for which in (~held_out, held_out))
    return _Read(Split(train, test, classes, total.hexdigest()), columns, kinds)


class _Column(NamedTuple):
    cells: np.ndarray  # [n]: int32 of kinds, or float64
    missing: np.ndarray  # [n] bool
    kinds: tuple[str, ...] = ()  # names of kinds; none for numbers
    whole: bool = False


def _shipped(name: str) -> dict[str, Any]:
    """A table of scikit-learn as arrow columns by name, its target as "target"."""
    import pyarrow
    from sklearn import datasets

    # In the units of their papers: those of the diabetes are otherwise scaled by the whole table.
    found: Any = datasets.load_diabetes(scaled=False) if name == "diabetes" else getattr(datasets, f"load_{name}")()
    target = found.target if name == "diabetes" else np.array(found.target_names, str)[found.target]
    columns = {str(named).replace(" ", "_"): found.data[:, i] for i, named in enumerate(found.feature_names)}
    return {named: pyarrow.chunked_array([pyarrow.array(a)]) for named, a in {**columns, "target": target}.items()}


def _file(path: str, delimiter: str) -> dict[str, Any]:
    """The columns of a file by name, as arrow has them."""
    import pyarrow
    from pyarrow import csv, parquet

    file = Path(path).expanduser()
    if not file.is_file():
        raise GenlossError(f"There is no table at {path}; give a CSV or parquet file, or one of {', '.join(SHIPPED)}.")
    nulls = ["", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "?"]
    options = csv.ConvertOptions(null_values=nulls, strings_can_be_null=True)
    try:
        with file.open("rb") as head:
            columnar = head.read(4) == b"PAR1"
        if columnar:
            table = parquet.read_table(file)
        else:
            table = csv.read_csv(file, parse_options=csv.ParseOptions(delimiter=delimiter), convert_options=options)
        names = table.column_names
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        first = str(error).strip().splitlines()[0]
        raise GenlossError(f"{path} cannot be read as a table ({first.rstrip('.')}); mend or replace it.") from None
    if len(names) == 1 and not columnar and (other := next((c for c in ";\t|" if c in names[0]), None)):
        raise GenlossError(f"{path} has one column, '{names[0][:40]}'; set `delimiter` to {other!r}.")
    if twice := {name for name in names if names.count(name) > 1 or not name}:
        raise GenlossError(f"{path} has the column name '{min(twice)}' twice or empty; give each column its own name.")
    if table.num_rows < 2:
        raise GenlossError(f"{path} has {table.num_rows} rows; give at least 2, one to learn from and one to hold out.")
    return dict(zip(names, table.columns, strict=True))


def _column(path: str, name: str, cells: Any, categorical: bool, target: bool) -> _Column:
    """What a column holds."""
    from pyarrow import types

    kind = cells.type
    if types.is_dictionary(kind):
        cells, kind = cells.cast(kind.value_type), kind.value_type
    what = f"{path}: the column '{name}'"
    if cells.null_count == len(cells):
        raise GenlossError(f"{what} is empty; name it in `leave_out`.")
    if types.is_string(kind) or types.is_large_string(kind) or types.is_boolean(kind):
        return _kinds(what, cells.to_pylist(), str)
    if not (types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)):
        raise GenlossError(
            f"{what} holds {kind}, and numbers, text and truth values are read; write it as one of these, or name it "
            "in `leave_out`."
        )
    numbers = np.array([np.nan if cell is None else float(cell) for cell in cells.to_pylist()], np.float64)
    missing = np.isnan(numbers)
    known = numbers[~missing]
    if not len(known):
        raise GenlossError(f"{what} is empty; name it in `leave_out`.")
    if not (np.abs(known) <= np.finfo(np.float32).max).all():
        row = int(np.flatnonzero(~missing & ~(np.abs(numbers) <= np.finfo(np.float32).max))[0])
        raise GenlossError(f"{what} holds {numbers[row]:g} in row {row}, which is no number a float32 has; mend it.")
    whole = bool((known == np.floor(known)).all() and (np.abs(known) <= EXACT).all())
    different = len(np.unique(known))
    if categorical or (whole and different <= (MOST_LABELS if target else 2)):
        listed = [None if gap else cell for cell, gap in zip(numbers.tolist(), missing.tolist(), strict=True)]
        return _kinds(what, listed, lambda cell: f"{cell:g}")
    return _Column(np.where(missing, 0.0, numbers), missing, whole=whole)


def _kinds(what: str, cells: list[Any], named: Callable[[Any], str]) -> _Column:
    """A column of categories; a gap is the last kind."""
    missing = np.array([cell is None for cell in cells])
    different = sorted({cell for cell in cells if cell is not None})
    if len(different) > MOST_KINDS:
        raise GenlossError(
            f"{what} has {len(different)} different values, such as {str(different[0])[:20]!r}, and at most "
            f"{MOST_KINDS} are kinds; name it in `leave_out`."
        )
    number = {cell: i for i, cell in enumerate(different)} | {None: len(different)}
    names = (*map(named, different), *((MISSING,) if missing.any() else ()))
    return _Column(np.array([number[cell] for cell in cells], np.int32), missing, names)


def _rows(
    path: str, found: dict[str, _Column], label: str | None
) -> tuple[dict[str, Any], dict[str, tuple[str, ...]], tuple[str, ...]]:
    """(rows, names of columns and kinds, names of labels)."""
    rows: dict[str, Any] = {}
    columns: dict[str, tuple[str, ...]] = {}
    classes: tuple[str, ...] = ()
    if label is not None:
        target = found[label]
        refuse(path, [f"row {i} has no {label}" for i in np.flatnonzero(target.missing)])
        rows["label" if target.kinds else "y"] = target.cells.astype(np.int32 if target.kinds else np.float32)
        columns["label" if target.kinds else "y"] = (label,)
        classes = target.kinds
    rest = {name: column for name, column in found.items() if name != label}
    by_leaf = {
        "numbers": {name: column for name, column in rest.items() if not (column.kinds or column.whole)},
        "wholes": {name: column for name, column in rest.items() if column.whole},
    }
    for leaf, group in by_leaf.items():
        if group:
            kind = np.float32 if leaf == "numbers" else np.int32
            rows[leaf] = np.stack([column.cells for column in group.values()], 1).astype(kind)
            columns[leaf] = tuple(group)
    numbers = [column for group in by_leaf.values() for column in group.values()]
    if any(column.missing.any() for column in numbers):
        rows["missing"] = np.stack([column.missing for column in numbers], 1)
    kinds = {name: column for name, column in rest.items() if column.kinds}
    if kinds:
        rows["kinds"] = tuple(np.eye(len(column.kinds), dtype=bool)[column.cells] for column in kinds.values())
        columns["kinds"] = tuple(kinds)
    return rows, columns, classes


def _held_out(path: str, size: int, share: float, label: np.ndarray | None, classes: tuple[str, ...]) -> np.ndarray:
    """Which rows are held out, [n] bool: of each label that share of a shuffle, and at least one."""
    group = np.zeros(size, int) if label is None else label  # [n]
    held_out = np.zeros(size, bool)
    for one in range(len(classes) or 1):
        members = np.flatnonzero(group == one)
        if len(members) < 2:
            raise GenlossError(
                f"{path} has one row of the label '{classes[one]}', which cannot be both learned from and held out; "
                "leave it out of the file."
            )
        cut = min(max(round(share * len(members)), 1), len(members) - 1)
        held_out[np.random.default_rng(one).permutation(members)[:cut]] = True
    return held_out
