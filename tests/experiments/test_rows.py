"""`genloss rows`: what the run kept is what is written, to the bit; more of it obeys the same parameters."""

import itertools
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas
import pytest
import tiny_sweep
from conftest import assert_mean, gaussian_chain
from datasets import load_dataset
from image_arrays import pictures
from PIL import Image

from experiments.cli import main
from experiments.imagesets.images import open_set
from experiments.imagesets.spoken import write_images
from generators import Archive, Categorical, Cohort, Copula, Linear, Ngram
from simulator import Chain, Dataset, GenlossError, Store, Table, Text, Truth, run
from simulator.recipe import Accumulate, Replace
from simulator.running.stored import StoredChain
from simulator.sources.captioned import Captioned
from simulator.sources.given import Prompts

KEY = jax.random.key(0)
WORDS = 'what was once said is said again, and\nagain it "is said"; and so on and on. ' * 40


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    run(tiny_sweep.sweep, KEY, 2, folder / "swept", replicates=2)
    run(gaussian_chain(2, recipe=Replace(), probes={}), KEY, 4, folder / "single", every=2)
    (folder / "words.txt").write_text(WORDS)
    text = Text(str(folder / "words.txt"), length=12)
    language = Chain(source=text, generator=Ngram(len(text.alphabet)), real=50, rows=30, held_out=0)
    run(language, KEY, 1, folder / "texts")
    table = {"source": Table.diabetes(), "generator": Copula(size=20), "recipe": Replace(), "held_out": 0}
    run(Chain(real=40, rows=30, **table), KEY, 1, folder / "table")
    digits = Dataset.digits()
    told = {"given": Prompts("label", of="real"), "real": 40, "rows": 30, "held_out": 0}
    run(Chain(source=digits, generator=Archive(digits), recipe=Replace(), **told), KEY, 2, folder / "images")
    return folder


@pytest.fixture(autouse=True)
def somewhere(runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(runs)
    monkeypatch.setenv("GENLOSS_CACHE", "off")
    capsys.readouterr()


def said(capsys: pytest.CaptureFixture[str], *words: Any) -> str:
    assert main(["rows", *map(str, words)]) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *words: Any) -> str:
    """The one sentence on bad input."""
    assert main(["rows", *map(str, words)]) == 2
    told = capsys.readouterr().err.removeprefix("genloss: ")
    assert told.count("\n") == 1
    return told


def stored(run: str, generation: int) -> np.ndarray:
    """The first leaf of the rows of a generation, as the checkpoints hold it."""
    chunk = next(chunk for chunk in Store(run).chunks() if chunk.first <= generation <= chunk.last)
    return chunk.rows[generation - chunk.last - 1]["0"]


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_the_first_rows_are_those_that_the_run_kept_to_the_bit(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = tmp_path / f"rows.{form}"
    out = said(
        capsys, "swept", "--setting", "accumulate", "--replicate", 1, "--generation", 0, "--rows", 33, "--to", file
    )
    assert out.endswith(": 33 rows of generation 0: 20 that the run kept, then 13 sampled anew (seed 0)\n")
    if form == "jsonl":
        found = np.array([json.loads(line)["x"] for line in file.read_text().splitlines()])
    else:
        table: Any = pandas.read_parquet(file) if form == "parquet" else pandas.read_csv(file)
        assert list(table) == ["x.0"]
        found = table.to_numpy()
    kept = stored("swept", 0)[1, 1]  # [20, 1]
    assert found.shape == (33, 1) and np.array_equal(found[:20].astype(np.float32), kept)
    assert not np.isin(found[20:].astype(np.float32), kept).any()


def test_fewer_rows_are_the_first_of_more_whatever_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    found = []
    for n in (5, 20, 50, 70):
        out = said(capsys, "swept", "--rows", n, "--seed", 3, "--to", tmp_path / f"{n}.parquet")
        assert ("kept" in out, "anew (seed 3)" in out) == (True, n > 20)
        found.append(pandas.read_parquet(tmp_path / f"{n}.parquet").to_numpy())
    for less, more in itertools.pairwise(found):
        assert np.array_equal(less, more[: len(less)])


def test_rows_sampled_anew_obey_the_parameters_and_repeat_nothing(runs: Path):
    """Means in standard errors; no number is drawn twice, by the run, under another seed, or for another replicate."""
    streams, seen = {}, [stored("swept", 1)[0].ravel()]  # of both replicates
    for replicate, seed in ((0, 0), (0, 1), (1, 0)):
        chain = StoredChain.of(Store(runs / "swept"), "replace", replicate)
        rows = np.concatenate(list(itertools.islice(chain.anew(1, seed), 100)))  # [2000, 1]
        model = chain.params(1)
        assert_mean((rows - model.mean) ** 2, model.cov[0])
        assert_mean(rows, model.mean)
        streams[replicate, seed] = rows
        seen.append(rows.ravel())
    for other in ((0, 1), (1, 0)):
        assert abs(np.corrcoef(streams[0, 0].T, streams[other].T)[0, 1]) < 5 / np.sqrt(2000)
    every = np.concatenate(seen)
    assert len(np.unique(every)) > 0.999 * len(every)  # of numbers of 24 bits a few are alike


def test_of_a_checkpoint_of_several_generations_there_is_what_it_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """It has the rows of the last one alone under Replace, and the parameters of the last."""
    for t in (1, 3):
        assert "10 that the run kept" in said(capsys, "single", "--generation", t, "--to", tmp_path / f"{t}.csv")
        assert np.array_equal(pandas.read_csv(tmp_path / f"{t}.csv").to_numpy(np.float32), stored("single", t))
    for t in (0, 2):
        why = refused(capsys, "single", "--generation", t, "--to", tmp_path / "x.csv")
        assert f"kept no rows of generation {t} and no parameters" in why and "checkpoints of: 1, 3." in why
    assert not (tmp_path / "x.csv").exists()


def test_texts_are_written_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for form in ("jsonl", "csv", "parquet"):
        said(capsys, "texts", "--to", tmp_path / f"x.{form}", "--rows", 40)
    tokens = stored("texts", 0)
    expected = Text("words.txt", length=12).decode(tokens)
    assert any("\n" in text for text in expected) and any('"' in text for text in expected)
    read = [json.loads(line)["text"] for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    table: Any = pandas.read_parquet(tmp_path / "x.parquet")
    csv: Any = pandas.read_csv(tmp_path / "x.csv", keep_default_na=False)
    assert read[:30] == expected and list(table["text"]) == read == list(csv["text"])
    assert np.array_equal(np.stack(table["tokens"])[:30], tokens)


@pytest.mark.parametrize("form", ["images", "parquet"])
def test_images_are_a_set_with_their_classes_in_their_order(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Labels were given, from real rows in their order, and so are those of rows sampled anew."""
    out = tmp_path / "set"
    said(capsys, "images", "--to", out, "--rows", 55, "--format", form)
    lines = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    assert [line["kept"] for line in lines] == [True] * 30 + [False] * 25
    assert json.loads((out / "config.json").read_text())["set"] == "synthetic"
    items = {item.where: item for item in open_set(str(out), None, None).items(lambda *why: pytest.fail(str(why)))}
    found = list(items.values()) if form == "parquet" else [items[line["file"]] for line in lines]
    shown = np.stack([item.decode() for item in found])  # [55, 8, 8, 1]
    kept: Any = StoredChain.of(Store("images")).kept(1)
    assert np.array_equal(shown[:30], kept["image"])
    labels = np.array([int(item.label) for item in found])
    assert np.array_equal(labels[:30], kept["label"]) and np.array_equal(labels[30:], kept["label"][:25])


def test_what_is_given_of_rows_sampled_anew_is_out_of_the_generations_own_diet(tmp_path: Path):
    """The labels that generation 1 goes on with are of the four rows of generation 0, in their shares."""
    digits = Dataset.digits()
    told = {"given": Prompts("label"), "real": 40, "rows": 4, "held_out": 0}
    run(Chain(source=digits, generator=Archive(digits), recipe=Replace(), **told), KEY, 2, tmp_path / "few")
    chain = StoredChain.of(Store(tmp_path / "few"))
    before: Any = chain.kept(0)
    anew = np.concatenate([piece["label"] for piece in itertools.islice(chain.anew(1), 100)])  # [400]
    for label in set(before["label"]):
        assert_mean(anew == label, np.mean(before["label"] == label))
    assert set(anew) == set(before["label"])


def test_captions_stand_beside_their_images_as_a_source_reads_them(tmp_path: Path):
    rows = {"image": pictures(12, 5, 5, 3), "caption": np.zeros((12, 3), np.int32)}
    captions = [" and ".join("no" if i >> bit & 1 else "yes" for bit in range(4)) for i in range(12)]
    for parquet in (False, True):
        out = tmp_path / str(parquet)
        write_images(out, rows, (), captions, {}, 12, parquet)
        source = Captioned(str(out), test="25%")
        both = [source.split.train, source.split.test]
        found = [pair for part in both for pair in zip(part["image"], source.decode(part["caption"]), strict=True)]
        expected = {image.tobytes(): text for image, text in zip(rows["image"], captions, strict=True)}
        assert {image.tobytes(): text for image, text in found} == expected


def test_other_parts_of_an_image_are_kept_beside_it(tmp_path: Path):
    images = pictures(3, 4, 4, 1)
    rows = {"image": images, "label": np.array([11, 2, 11]), "score": np.array([[0.5, 1], [2, 3], [4, 5]])}
    names = [f"{i:02d}" for i in range(12)]
    write_images(tmp_path / "x", rows, names, None, {}, 3, True)
    found: Any = load_dataset("parquet", data_files=str(tmp_path / "x/data/*.parquet"), split="train")
    assert found["score"][:] == [[0.5, 1], [2, 3], [4, 5]]
    assert [found.features["label"].int2str(i) for i in found["label"]] == ["11", "02", "11"]
    write_images(tmp_path / "y", rows, names, None, {}, 3, False)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "y/11/00001.png")), images[2, ..., 0])


def test_rows_of_several_parts_and_of_cohorts_are_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model = Linear(2)
    run(Chain(source=Truth(model), generator=model, real=30, rows=20, held_out=0), KEY, 1, tmp_path / "pairs")
    said(capsys, tmp_path / "pairs", "--to", tmp_path / "pairs.parquet")
    found = pandas.read_parquet(tmp_path / "pairs.parquet")
    assert list(found) == ["x.0", "x.1", "y"] and found["y"].dtype == np.float32
    # One chain of cohorts, of which all are kept as one: what a generation says is sampled anew.
    pile = Cohort(Categorical(4), n=1000)
    chain = Chain(source=Truth(pile), generator=pile, recipe=Accumulate(), real=1, rows=1, held_out=0)
    run(chain, KEY, 2, tmp_path / "cohorts")
    out = said(capsys, tmp_path / "cohorts", "--to", tmp_path / "cohorts.csv", "--rows", 3)
    assert out.endswith(": 3 rows of generation 1: 3 sampled anew (seed 0)\n")
    assert (pandas.read_csv(tmp_path / "cohorts.csv").sum(axis=1) % 1000 == 0).all()


@pytest.mark.parametrize(
    "words, why",
    [
        (("swept", "--to", "x.png"), "a name that ends in .parquet, .csv, .jsonl; it was given 'x.png'."),
        (("swept",), "--to takes the file to write"),
        (("swept", "--to", "x.csv", "--format", "parquet"), "a name that ends in .parquet;"),
        (("swept", "--to", "x", "--format", "images"), "These rows are no images;"),
        (("swept", "--to", "x.csv", "--generation", "2"), "has no generation 2; its last is 1."),
        (("swept", "--to", "x.csv", "--setting", "replaced"), "the nearest is 'replace'"),
        (("swept", "--to", "x.csv", "--replicate", "2"), "there are 0 to 1."),
        (("single", "--to", "x.csv", "--setting", "replace"), "The run has no setting 'replace'"),
        (("images", "--to", "x.csv"), "These rows are images: --to DIR"),
        (("images", "--to", "images"), "is not empty"),
        (("images", "--to", "words.txt"), "a file is where a folder should be"),
        (("nothing", "--to", "x.csv"), "holds no run"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    words: tuple[str, ...], why: str, runs: Path, capsys: pytest.CaptureFixture[str]
):
    before = sorted(runs.iterdir())
    assert why in refused(capsys, *words)
    assert sorted(runs.iterdir()) == before


def test_nothing_is_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "x.csv").write_text("mine")
    assert "is there already" in refused(capsys, "swept", "--to", tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_text() == "mine"


def test_a_folder_of_somebody_elses_runs_no_code(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "theirs").mkdir()
    about = json.loads((runs / "single" / "chain.json").read_text())
    about["run"]["chain"]["recipe"] = {"$type": "their_code:Recipe"}
    (tmp_path / "theirs" / "chain.json").write_text(json.dumps(about))
    assert "say --trust" in refused(capsys, tmp_path / "theirs", "--to", tmp_path / "x.csv")


def test_a_generation_that_is_damaged_is_said(runs: Path, tmp_path: Path):
    import shutil

    shutil.copytree(runs / "single", tmp_path / "single")
    for file in (tmp_path / "single" / "checkpoints" / "3").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(GenlossError, match="damaged"):
        StoredChain.of(Store(tmp_path / "single")).kept(3)


@pytest.mark.parametrize("form", ["csv", "parquet", "jsonl"])
def test_rows_of_a_table_are_written_as_the_table_they_are_of(form: str, capsys: pytest.CaptureFixture[str]):
    """Read back as a source, it serves what was kept."""
    said(capsys, "table", "--to", f"patients.{form}")
    kept: Any = StoredChain.of(Store("table")).kept(0)
    if form == "jsonl":
        lines = [json.loads(line) for line in Path("patients.jsonl").read_text().splitlines()]
        assert [line["sex"] for line in lines] == [("1", "2")[i] for i in np.asarray(kept["kinds"][0]).argmax(1)]
        assert np.array_equal([line["age"] for line in lines], np.asarray(kept["wholes"])[:, 0])
        return
    again = Table(f"patients.{form}", label="target")
    assert dict(again.columns) == dict(Table.diabetes().columns)
    rows = jax.tree.map(lambda *parts: np.concatenate(parts), again.split.train, again.split.test)
    order = [np.lexsort(np.asarray(part["numbers"]).T) for part in (rows, kept)]
    for a, b in zip(jax.tree.leaves(rows), jax.tree.leaves(kept), strict=True):
        assert np.array_equal(a[order[0]], np.asarray(b)[order[1]])
