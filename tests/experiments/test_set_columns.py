"""Labels, captions and other columns of an image set arrive in what is made of it; classes are told apart truly."""

import csv
import io
import json
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from experiments.cli import main
from experiments.imagesets.images import open_set
from experiments.imagesets.names import alike

CHANCE = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GENLOSS_CACHE", "off")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("warnings.showwarning", None)


def encoded() -> bytes:
    file = io.BytesIO()
    Image.fromarray(CHANCE.integers(0, 256, (4, 4), np.uint8)).save(file, "PNG")
    return file.getvalue()


def described(root: str, n: int, whose: str, form: str = "jsonl", labels: Any = None) -> None:
    """An image folder of one folder, whose metadata say label, caption and more."""
    Path(root).mkdir(parents=True)
    rows = [
        {"file_name": f"{i:03d}.png", "label": labels[i % 4] if labels else i % 4, "text": f"{whose} {i}, a “b”\n"}
        | {"box": [1, i] if form == "jsonl" else i, "score": i / 2}
        for i in range(n)
    ]
    for row in rows:
        Path(root, row["file_name"]).write_bytes(encoded())
    if form == "jsonl":
        text = "".join(json.dumps(row) + "\r\n" for row in rows)
        Path(root, "metadata.jsonl").write_text(text, encoding="utf-8")
        return
    with Path(root, "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)


def go(out: str, *more: str, real: str = "real", synthetic: str = "fake") -> int:
    return main(["contaminate", "--real", real, "--synthetic", synthetic, "--ratio", "0.5", "--out", out, *more])


def lines(file: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(file).read_text(encoding="utf-8").split("\n")[:-1]]


@pytest.mark.parametrize("form", ["jsonl", "csv"])
@pytest.mark.parametrize("split", ["", "train"])
def test_metadata_of_a_folder_arrive_and_labels_are_kept(form: str, split: str):
    described(f"real/{split}", 40, "real", form)
    described(f"fake/{split}", 48, "fake", form)
    if split:
        described("real/test", 4, "test", form)
        described("fake/test", 4, "test", form)
    assert go("out") == go("rows", "--format", "parquet") == 0
    manifest = lines("out/manifest.jsonl")
    assert Counter((row["class"], row["origin"]) for row in manifest) == Counter(
        {(str(i), origin): 5 for i in range(4) for origin in ("real", "synthetic")}
    )
    said = {row["file_name"]: row for row in lines("out/metadata.jsonl")}
    for row in manifest:
        number = int(Path(row["source"]).stem)
        whose = "fake" if row["origin"] == "synthetic" else "real"
        told = said[row["file"]]
        assert (
            told["text"] == f"{whose} {number}, a “b”\n" and told["score"] == number / 2
        )  # of the image that is there
        assert told["label"] == int(row["class"]) == number % 4  # and the label of the one that was
        assert Path("out", row["file"]).read_bytes() == Path(whose, split, row["source"]).read_bytes()
    rows = pyarrow.parquet.read_table("rows/data").to_pylist()
    assert [(row["label"], row["text"], row["score"], row["box"]) for row in rows] == [
        (said[row["file"]]["label"], *(said[row["file"]][name] for name in ("text", "score", "box")))
        for row in manifest
    ]


def test_datasets_reads_the_columns(monkeypatch: pytest.MonkeyPatch):
    import datasets

    datasets.disable_progress_bars()
    described("real", 12, "real")
    described("fake", 12, "fake")
    assert go("out") == go("rows", "--format", "parquet") == 0
    expected = {name: feature for name, feature in _loaded("real").features.items() if name != "label"}
    for out in ("out", "rows"):
        found = _loaded(out)
        assert {name: feature for name, feature in found.features.items() if name != "label"} == expected
        assert [found[i]["label"] for i in range(12)] == [i % 4 for i in range(12)]
        assert all(set(row) == {"image", *expected, "label"} for row in found)


def _loaded(path: str) -> Any:
    import datasets

    return datasets.load_dataset(str(Path(path).resolve()), cache_dir=str(Path("cache").resolve()), split="train")


def table(root: str, whose: str, n: int = 8) -> None:
    """Parquet with two kinds of label, a caption, and what cannot be a column of text."""
    image = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    columns = {
        "image": pyarrow.array([{"bytes": encoded(), "path": f"{i}.png"} for i in range(n)], image),
        "fine": [i % 2 for i in range(n)],
        "coarse": [1 - i % 2 for i in range(n)],
        "text": [f"{whose} {i}" for i in range(n)],
    }
    features = {
        "image": {"_type": "Image"},
        "fine": {"_type": "ClassLabel", "names": ["cat", "dog"]},
        "coarse": {"_type": "ClassLabel", "names": ["pet", "beast"]},
        "text": {"_type": "Value", "dtype": "string"},
    }
    Path(root).mkdir()
    about = {"huggingface": json.dumps({"info": {"features": features}})}
    pyarrow.parquet.write_table(pyarrow.table(columns).replace_schema_metadata(about), f"{root}/train.parquet")


def test_columns_of_parquet_arrive_too():
    table("real", "real")
    table("fake", "fake")
    with pytest.MonkeyPatch.context() as patched:  # of the other set the columns of labels are several, too
        patched.setattr("sys.stderr", io.StringIO())
        assert go("no", "--label", "fine") == 2
    Path("fake/train.parquet").unlink()
    Path("fake").rmdir()
    for name in ("cat", "dog"):
        Path("fake", name).mkdir(parents=True)
        for i in range(4):
            Path("fake", name, f"{i}.png").write_bytes(encoded())
    assert go("rows", "--label", "fine", "--format", "parquet") == go("out", "--label", "fine") == 0
    found = _loaded("rows")
    assert found.features["coarse"].names == ["pet", "beast"] and found.features["label"].names == ["cat", "dog"]
    assert [(r["label"], r["coarse"], r["text"]) for r in found] == [(i % 2, 1 - i % 2, f"real {i}") for i in range(8)]
    said = lines("out/metadata.jsonl")
    assert {(row["label"], row["coarse"]) for row in said} == {("cat", 1), ("dog", 0)}
    assert {row["text"] for row in said} == {f"real {i}" for i in range(8)}


def test_captions_of_a_set_without_labels_arrive():
    for root in ("real", "fake"):
        described(root, 8, root)
        rows = [
            {name: said for name, said in row.items() if name in ("file_name", "text")}
            for row in lines(f"{root}/metadata.jsonl")
        ]
        Path(root, "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert go("out") == 0
    said = {row["file_name"]: row["text"] for row in lines("out/metadata.jsonl")}
    for row in lines("out/manifest.jsonl"):
        assert said[row["file"]].startswith(
            f"{'real' if row['origin'] == 'real' else 'fake'} {int(Path(row['source']).stem)},"
        )


BAD = {
    "no JSON": ('{"file_name": "000.png", "label": 0}\n{"file', "Line 2 of real/metadata.jsonl is no JSON"),
    "nested": ("[" * 100_000, "Line 1 of real/metadata.jsonl is no JSON"),
    "a list": ("[1]", "Row 1 of real/metadata.jsonl is no row"),
    "no file": ('{"label": 1}', "Row 1 of real/metadata.jsonl is no row"),
    "half a character": ('{"file_name": "000.png", "text": "\\ud800"}', "Row 1 of real/metadata.jsonl is no row"),
    "the same twice": (
        '{"file_name": "000.png"}\n{"file_name": "000.png"}',
        "Row 2 of real/metadata.jsonl is a second",
    ),
    "not all": ('{"file_name": "000.png", "label": 1}', "real/001.png: has no row in the metadata"),
    "too many": (
        '{"file_name": "../x.png", "label": 1}',
        "real/../x.png: has a row of metadata, and no image is there",
    ),
    "no label": ('{"file_name": "000.png", "label": null}', "real/000.png: has no label"),
    "a label out of range": (f'{{"file_name": "000.png", "label": {2**40}}}', f"real/000.png: has the label {2**40}"),
}


@pytest.mark.parametrize("kind", BAD)
def test_metadata_that_cannot_be_used_are_named(kind: str, capsys: pytest.CaptureFixture[str]):
    described("real", 4, "real")
    described("fake", 4, "fake")
    text, sentence = BAD[kind]
    Path("real/metadata.jsonl").write_text(text)
    assert go("out") == 2 and not Path("out").exists()
    assert sentence in capsys.readouterr().err


def test_a_column_of_several_kinds_is_kept_by_a_folder_and_refused_by_parquet(capsys: pytest.CaptureFixture[str]):
    described("real", 4, "real", labels=["a", "b", "c", "d"])
    described("fake", 4, "fake", labels=["a", "b", "c", "d"])
    rows = lines("real/metadata.jsonl")
    for row, odd in zip(rows, (1, "x", None, [1]), strict=True):
        row["odd"] = odd
    Path("real/metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert go("rows", "--format", "parquet") == 2 and not Path("rows").exists()
    assert "'odd'" in capsys.readouterr().err
    assert go("out") == 0 and [row["odd"] for row in lines("out/metadata.jsonl")] == [1, "x", None, [1]]


@pytest.mark.parametrize("command", ["contaminate", "compare-data"])
def test_two_labels_of_one_name_are_refused(command: str, capsys: pytest.CaptureFixture[str]):
    """They would be merged, and the first become the last."""
    image = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    features = {"label": {"_type": "ClassLabel", "names": ["crane", "boat", "crane"]}}
    for root in ("real", "fake"):
        Path(root).mkdir()
        rows = pyarrow.array([{"bytes": encoded(), "path": None} for _ in range(6)], image)
        found = pyarrow.table({"image": rows, "label": [0, 1, 2] * 2})
        about = {"huggingface": json.dumps({"info": {"features": features}})}
        pyarrow.parquet.write_table(found.replace_schema_metadata(about), f"{root}/train.parquet")
    more = ["--ratio", "0.5", "--format", "parquet"] if command == "contaminate" else []
    assert main([command, "--real", "real", "--synthetic", "fake", "--out", "out", *more]) == 2
    said = capsys.readouterr().err
    assert "names two labels 'crane', 0 and 2" in said and not Path("out").exists()


@pytest.mark.parametrize(
    ("one", "other", "what"),
    [
        ("caf\u00e9", "cafe\u0301", "Unicode form (NFC, NFD)"),
        ("Cat", "cat", "case"),
        ("dog", "dog ", "blanks"),
        ("\u00dcber mir", "u\u0308ber  mir", "case, blanks and Unicode form"),
    ],
)
def test_names_that_look_the_same_are_told_apart(one: str, other: str, what: str, capsys: pytest.CaptureFixture[str]):
    for root, name in (("real", one), ("fake", other)):
        for label in (name, "nap"):
            Path(root, label).mkdir(parents=True)
            for i in range(4):
                Path(root, label, f"{i}.png").write_bytes(encoded())
    assert go("out") == 2 and not Path("out").exists()
    said = capsys.readouterr().err
    assert f"differ in {'their ' if 'NFC' in what else ''}{what} alone" in said and repr(other)[1:-1] in said.replace(
        ascii(other), repr(other)
    )
    assert alike(one, ["nap", unicodedata.normalize("NFC", one) + "s"]) is None


def test_names_of_classes_of_a_table_keep_their_order():
    names = ["zero", "one", "two", "three", "ten"]
    image = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    features = {"label": {"_type": "ClassLabel", "names": names}}
    for root in ("real", "fake"):
        Path(root).mkdir()
        rows = pyarrow.array([{"bytes": encoded(), "path": None} for _ in range(20)], image)
        found = pyarrow.table({"image": rows, "label": [4, 3, 2, 1, 0] * 4})
        about = {"huggingface": json.dumps({"info": {"features": features}})}
        pyarrow.parquet.write_table(found.replace_schema_metadata(about), f"{root}/train.parquet")
    assert go("out", "--format", "parquet") == 0
    written: Any = open_set("out")
    assert written.names == tuple(names)
    assert pyarrow.parquet.read_table("out/data")["label"].to_pylist() == [4, 3, 2, 1, 0] * 4
