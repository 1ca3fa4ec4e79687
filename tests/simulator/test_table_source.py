"""Tables: types found, gaps kept, rows held out, and files that are refused."""

import datetime
import io
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas
import pyarrow
import pyarrow.parquet
import pytest
from sklearn import datasets

from generators import Copula
from simulator import Chain, GenlossError, Table
from simulator.pool import Pool
from simulator.sources.columns import Layout

CSV = """id,income,age,sex,colour,rating,owns,bad
a1,1.5,30,1,red,3,true,no
a2,,41,2,blue,1,false,no
a3,2.25,?,1,NA,2,,yes
a4,1e3,22,2,"red",5,true,no
a5,-3,35,2,blue,4,true,yes
a6,0.125,NaN,1,green,3,false,no
"""
MARKS: dict[str, Any] = {"label": "bad", "leave_out": ("id",), "categorical": ("rating",), "test": "34%"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "people.csv"
    path.write_text(CSV)
    return path


def whole(table: Table) -> Any:
    """All rows, those that are held out last."""
    return jax.tree.map(lambda *parts: np.concatenate(parts), table.split.train, table.split.test)


@pytest.mark.parametrize("name", ["wine", "breast_cancer", "diabetes"])
def test_shipped_tables_are_those_of_scikit_learn(name: str):
    table: Table = getattr(Table, name)()
    theirs: Any = getattr(datasets, f"load_{name}")(**({"scaled": False} if name == "diabetes" else {}))
    frame: Any = table.frame(whole(table))
    assert (
        table.size == len(table.split.train["numbers"])
        and abs(len(table.split.test["numbers"]) / len(frame) - 0.2) < 0.01
    )
    target = theirs.target if name == "diabetes" else theirs.target_names[theirs.target]
    real: Any = pandas.DataFrame(theirs.data, columns=[n.replace(" ", "_") for n in theirs.feature_names]).assign(
        target=target
    )
    ours = frame.assign(sex=frame["sex"].astype(float)) if name == "diabetes" else frame
    both = [part[sorted(part)].sort_values(sorted(part)).reset_index(drop=True) for part in (ours, real)]
    pandas.testing.assert_frame_equal(*both, check_dtype=False, rtol=1e-6)


def test_types_are_found_and_gaps_kept(file: Path):
    table = Table(str(file), **MARKS)
    assert dict(table.columns) == {
        "numbers": ("income",), "wholes": ("age",), "kinds": ("sex", "colour", "rating", "owns"), "label": ("bad",),
    }  # fmt: skip
    rows = whole(table)
    assert Layout.of(rows) == Layout(numbers=1, wholes=1, kinds=(2, 4, 5, 3), gaps=True, classes=2)
    assert {name: leaf.dtype for name, leaf in rows.items() if name != "kinds"} == {
        "numbers": np.float32, "wholes": np.int32, "missing": bool, "label": np.int32,
    }  # fmt: skip
    assert table.split.classes == ("no", "yes") and (rows["numbers"][rows["missing"][:, :1]] == 0).all()
    assert rows["missing"].sum(0).tolist() == [1, 2] and set(np.unique(rows["label"])) == {0, 1}
    assert set(table.split.test["label"]) == {0, 1}
    read: Any = pandas.read_csv(io.StringIO(CSV), na_values="?")
    expected = read.drop(columns="id").assign(
        sex=read["sex"].astype(str),
        rating=read["rating"].astype(str),
        owns=read["owns"].map({True: "True", False: "False"}),
    )
    frame = table.frame(rows).astype({"income": float, "age": float})
    both = [
        part[list(expected)].sort_values("rating").sort_values("income").reset_index(drop=True)
        for part in (frame, expected)
    ]
    pandas.testing.assert_frame_equal(*both, check_dtype=False)


def test_a_parquet_file_is_the_same_table(file: Path, tmp_path: Path):
    frame = pandas.read_csv(file, na_values="?", dtype={"colour": "category", "owns": "boolean"})
    frame.to_parquet(tmp_path / "people.parquet")
    ours, theirs = (whole(Table(str(path), **MARKS)) for path in (file, tmp_path / "people.parquet"))
    assert jax.tree.all(jax.tree.map(np.array_equal, ours, theirs))


def test_a_target_is_a_label_or_a_number():
    assert Table("diabetes", label="age").split.train["y"].dtype == np.float32
    assert Table("diabetes", label="sex").split.classes == ("1", "2")
    assert "target" in Table("diabetes", label="sex").columns["wholes"]


def test_a_stream_is_one_permutation_and_held_out_rows_are_in_proportion():
    table = Table.breast_cancer()
    rows = table.draw(jax.random.key(0), table.size)
    part = table.draw(jax.random.key(0), 20, skip=40)
    assert np.array_equal(rows["numbers"][40:60], part["numbers"])
    assert len(np.unique(np.asarray(rows["numbers"]), axis=0)) == table.size
    label = np.asarray(table.draw(jax.random.key(0), 114, held_out=True)["label"])
    assert set(label[:2]) == {0, 1}
    assert all(abs(label[:n].mean() - label.mean()) < 2 / n for n in range(2, 115))
    with pytest.raises(GenlossError, match="set `reuse`"):
        table.check(table.size + 1)


def test_rows_alike_are_no_leak_and_held_out_ones_are(tmp_path: Path):
    lines = ["a,b", *(f"{i % 3},{'x' if i % 2 else 'y'}" for i in range(60)), "7,z"]
    (tmp_path / "alike.csv").write_text("\n".join(lines))
    table = Table(str(tmp_path / "alike.csv"))
    table.guard(table.split.train)
    table.guard(table.split.test if not (table.split.test["wholes"] == 7).any() else table.split.train)
    other = Table.wine()
    with pytest.raises(GenlossError, match="held-out rows of wine"):
        other.guard(other.split.test)
    chain = Chain(source=other, generator=Copula(size=10), real=20, rows=20)
    state = chain.init(jax.random.key(0), 2)
    assert isinstance(state.pool, Pool)


def test_other_names_are_another_table(file: Path):
    before = Table(str(file), **MARKS).fingerprint
    other = file.with_name("other.csv")
    other.write_text(CSV.replace("green", "pink"))
    assert Table(str(other), **MARKS).fingerprint != before  # the same numbers
    other.write_text(CSV)
    from simulator.sources import table

    table._read.cache_clear()
    assert Table(str(other), **MARKS).fingerprint == before


def frame(**columns: Any) -> Any:
    return pyarrow.table({"x": [1.5, 2.5, 3.5], **columns})


HOSTILE: dict[str, tuple[Any, dict[str, Any], str]] = {
    "no file": (None, {}, "no table at .* give a CSV or parquet file, or one of wine"),
    "empty": ("", {}, "cannot be read as a table"),
    "ragged": ("a,b\n1,2\n3\n", {}, "cannot be read as a table"),
    "no text": (b"\xff\xfe\x00\x01,\n\x80,\n\x81,2\n", {}, "cannot be read as a table"),
    "half a parquet": (b"PAR1\x00\x00", {}, "cannot be read as a table"),
    "one row": ("a,b\n1,2\n", {}, "1 rows; give at least 2"),
    "semicolons": ("a;b\n1;2\n3;4\n", {}, "set `delimiter` to ';'"),
    "twice": ("a,a\n1,2\n3,4\n", {}, "the column name 'a' twice"),
    "no name": ("a,\n1,2\n3,4\n", {}, "twice or empty"),
    "nothing in it": ("a,b\n1,\n2,NA\n", {}, "column 'b' is empty; name it in `leave_out`"),
    "nothing but the target": ("b\n1\n2\n", {"label": "b"}, "no columns beside the target"),
    "texts": ("a,b\n" + "".join(f"{i},word{i}\n" for i in range(101)), {}, "101 different values, such as 'word0'"),
    "a label once": ("a,b\n1,x\n2,x\n3,y\n", {"label": "b"}, "one row of the label 'y'"),
    "no label": ("a,b\n1,x\n2,x\n3,\n", {"label": "b"}, "row 2 has no b"),
    "no column": ("a,b\n1,x\n2,x\n", {"label": "c"}, "no column 'c'; it has: a, b"),
    "nothing to leave out": ("a,b\n1,x\n2,x\n", {"leave_out": ("c",)}, "no column 'c'"),
    "infinite": ("a,b\n1,x\ninf,x\n", {}, "'a' holds inf in row 1"),
    "too large": ("a,b\n1,x\n1e39,x\n", {}, "'a' holds 1e.39 in row 1"),
    "dates": (frame(when=[datetime.datetime(2020, 1, i) for i in (1, 2, 3)]), {}, "'when' holds timestamp"),
    "lists": (frame(many=[[1], [2], [3]]), {}, "'many' holds list"),
    "bytes": (frame(raw=[b"a", b"b", b"c"]), {}, "'raw' holds binary"),
    "all NaN": (frame(gone=[float("nan")] * 3), {}, "'gone' is empty"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_files_that_are_no_such_table_are_refused_in_one_sentence(name: str, tmp_path: Path):
    content, fields, words = HOSTILE[name]
    path = tmp_path / "people.csv"
    if isinstance(content, str):
        path.write_text(content)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        pyarrow.parquet.write_table(content, path)
    with pytest.raises(GenlossError, match=words) as caught:
        _ = Table(str(path), **fields).split
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"test": "test"}, "such as 20%"),
        ({"test": "120%"}, "between 0% and 100%"),
        ({"delimiter": ";;"}, "one character"),
    ],
)
def test_fields_that_mean_nothing_are_refused(fields: Any, words: str):
    with pytest.raises(GenlossError, match=words):
        Table(**fields)
