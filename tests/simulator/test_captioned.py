"""Folders and tables of captioned images: read as they were written, split by image, refused by name."""

import gc
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from generators.nets.captions import Captioner, TextTower
from generators.nets.mlp import MLP
from simulator import Chain, Dataset, GenlossError, Pool, simulate
from simulator.numerics.selection import draw
from simulator.pool import take
from simulator.probes.features import training
from simulator.probes.paired import Captioning, Retrieval
from simulator.sources.captioned import Captioned
from simulator.sources.scenes import END, PAD, START, Scenes
from simulator.sources.tokens import UNKNOWN

CHANCE = np.random.default_rng(0)
SCENES = Scenes(Dataset.digits(), most=2, margin=0)


@pytest.fixture(autouse=True)
def apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def written(folder: Path, images: Any, captions: list[Any]) -> Path:
    """A folder as `genloss synthesize --captions` writes it: images in folders, and their names and captions."""
    rows = []
    for i, (image, caption) in enumerate(zip(images, captions, strict=True)):
        file = folder / "00" / f"{i:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(image).squeeze()).save(file)
        rows.append({"file_name": f"00/{i:03d}.png", "caption": caption})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "config.json").write_text("{}")
    (folder / "manifest.jsonl").write_text("".join(json.dumps({"file": row["file_name"]}) + "\n" for row in rows))
    return folder


def table(file: Path, images: Any, columns: dict[str, list[Any]]) -> Path:
    """A parquet file in the hub's layout, with features."""
    import datasets

    found = datasets.Dataset.from_dict({"img": [Image.fromarray(np.asarray(x).squeeze()) for x in images], **columns})
    file.parent.mkdir(parents=True, exist_ok=True)
    found.to_parquet(str(file))
    return file


def pictures(n: int, side: int = 4, channels: int = 1) -> np.ndarray:
    return CHANCE.integers(0, 256, (n, side, side, channels)).astype(np.uint8)


def said(source: Captioned) -> list[tuple[bytes, str]]:
    """All pairs, training and held-out."""
    parts = (source.split.train, source.split.test)
    return [
        (image.tobytes(), text)
        for part in parts
        for image, text in zip(part["image"], source.decode(part["caption"]), strict=True)
    ]


@pytest.fixture
def scenes(tmp_path: Path) -> tuple[Path, dict[str, np.ndarray]]:
    rows = jax.tree.map(np.asarray, jax.jit(SCENES.draw, static_argnums=1)(jax.random.key(0), 140))
    first = np.sort(np.unique(rows["image"], axis=0, return_index=True)[1])[:120]  # a few scenes are drawn twice
    rows = {name: leaf[first] for name, leaf in rows.items()}
    return written(tmp_path / "scenes", rows["image"], SCENES.decode(rows["caption"])), rows


def test_scenes_come_back_byte_for_byte_and_word_for_word(scenes: tuple[Path, dict[str, np.ndarray]], tmp_path: Path):
    folder, rows = scenes
    source = Captioned(str(folder), test="25%")
    texts = SCENES.decode(rows["caption"])
    assert sorted(said(source)) == sorted((x.tobytes(), text) for x, text in zip(rows["image"], texts, strict=True))
    split = source.split
    assert source.size == 90 and split.test["image"].shape == (30, 16, 16, 1) and split.classes == ()
    # The same names, shapes and types as the scenes themselves have.
    like = jax.eval_shape(lambda: SCENES.draw(jax.random.key(0), 7))
    assert jax.eval_shape(lambda: source.draw(jax.random.key(0), 7)) == like
    # The folder as a table, in the hub's layout.
    table(tmp_path / "hub" / "train.parquet", rows["image"][:100], {"text": texts[:100]})
    table(tmp_path / "hub" / "test.parquet", rows["image"][100:], {"text": texts[100:]})
    other = Captioned(str(tmp_path / "hub"))
    assert sorted(said(other)) == sorted(said(source)) and other.fingerprint != source.fingerprint
    assert np.array_equal(other.split.train["image"], rows["image"][:100])
    assert other.decode(other.split.test["caption"]) == texts[100:]


def test_a_stream_is_one_permutation_and_held_out_rows_are_others(scenes: tuple[Path, dict[str, np.ndarray]]):
    source = Captioned(str(scenes[0]), test="25%")
    whole = jax.tree.map(np.asarray, source.draw(jax.random.key(0), source.size))
    part = source.draw(jax.random.key(0), 20, skip=30)
    assert all(np.array_equal(whole[name][30:50], part[name]) for name in whole)
    flat = lambda rows: sorted(zip([x.tobytes() for x in rows["image"]], rows["caption"].tolist(), strict=True))  # noqa: E731
    assert flat(whole) == flat(source.split.train) == flat(training(jax.random.key(0), source))
    held_out = {x.tobytes() for x in np.asarray(source.draw(jax.random.key(1), 30, held_out=True)["image"])}
    assert held_out == {x.tobytes() for x in source.split.test["image"]}
    source.guard(whole)
    planted = {**whole, "image": np.concatenate([whole["image"][3:], source.split.test["image"][:3]])}
    with pytest.raises(GenlossError, match="3 of the pool's real rows have held-out images"):
        source.guard(planted)
    with pytest.raises(GenlossError, match=r"asks for 91 real rows and .* has 90 pairs"):
        source.check(91)
    Captioned(str(scenes[0]), test="25%", reuse=True).check(91)


def test_an_image_with_several_captions_is_on_one_side(tmp_path: Path):
    images = pictures(20).repeat(3, 0)
    source = Captioned(str(written(tmp_path / "x", images, [f"caption {i}" for i in range(60)])), test="30%")
    train, test = ({x.tobytes() for x in part["image"]} for part in (source.split.train, source.split.test))
    assert (len(train), len(test), source.size) == (14, 6, 42) and not train & test
    for name, part in (("train", images[:30]), ("test", images[28:])):
        table(tmp_path / "both" / f"{name}.parquet", part, {"caption": ["a cat"] * len(part)})
    with pytest.raises(GenlossError, match=r"1 images of the 'train' split .* are also in its 'test' split"):
        _ = Captioned(str(tmp_path / "both")).split


def test_words_are_numbered_by_frequency_and_the_others_are_unknown(tmp_path: Path):
    train, test = ["A cat, a dog!", "a cat", "a  CAT sat"], ["a bird sat on a cat"]
    for name, texts in (("train", train), ("test", test)):
        table(tmp_path / "x" / f"{name}.parquet", pictures(len(texts)), {"url": ["x"] * len(texts), "caption": texts})
    source = Captioned(str(tmp_path / "x"))
    assert source.vocabulary[3:] == (UNKNOWN, "a", "cat", "!", ",", "dog", "sat")
    assert source.decode(source.split.train["caption"]) == ["a cat , a dog !", "a cat", "a cat sat"]
    assert source.decode(source.split.test["caption"]) == [f"a {UNKNOWN} sat {UNKNOWN} a cat"]
    assert source.split.train["caption"].tolist()[1] == [START, 4, 5, END, *[PAD] * 4]
    few = Captioned(str(tmp_path / "x"), words=2, length=5)
    assert few.vocabulary == source.vocabulary[:6]
    assert few.decode(few.split.train["caption"]) == [f"a cat {UNKNOWN}", "a cat", f"a cat {UNKNOWN}"]
    assert few.split.train["caption"].tolist()[0] == [START, 4, 5, 3, END]  # cut, and ended
    assert few.fingerprint != source.fingerprint
    assert Captioned(str(tmp_path / "x"), caption="url").decode(source.split.test["caption"][:, :1]) == [""]


def test_images_are_brought_to_one_size_and_to_one_number_of_channels(tmp_path: Path):
    grey, colour = pictures(4, 6), pictures(4, 5, 3)
    folder = written(tmp_path / "x", [*grey, *colour], ["a cat"] * 8)
    for channels, mode in ((1, "L"), (3, "RGB")):
        source = Captioned(str(folder), test="25%", side=5, channels=channels)  # pyright: ignore[reportArgumentType]
        found = {x.tobytes() for part in (source.split.train, source.split.test) for x in part["image"]}
        expected = [Image.fromarray(x.squeeze()).convert(mode).resize((5, 5)) for x in (*grey, *colour)]
        assert source.split.test["image"].shape == (2, 5, 5, channels) and source.split.test["image"].dtype == np.uint8
        assert found == {np.asarray(x).tobytes() for x in expected}
    assert Captioned(str(folder), test="25%", side=5).split.digest == source.split.digest  # in colour if any is
    with pytest.raises(GenlossError, match=r"00/004.png is 5x5 pixels and 00/000.png 6x6 \(set `side` to make"):
        _ = Captioned(str(folder), test="25%", channels=3).split


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")  # datasets'
def test_a_table_of_commas_is_read_too(tmp_path: Path):
    images = pictures(5)
    folder = written(tmp_path / "x", images, [f"a cat {i}" for i in range(5)])
    lines = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    (folder / "metadata.jsonl").unlink()
    text = "file_name,caption\n" + "".join(f"{row['file_name']},{row['caption']}\n" for row in lines)
    (folder / "metadata.csv").write_text(text)
    source = Captioned(str(folder), test="20%")
    held_out = {text for x, text in said(source)} - set(source.decode(source.split.train["caption"]))
    assert len(held_out) == 1 and {x for x, _ in said(source)} == {x.tobytes() for x in images}
    gc.collect()  # of the file that `datasets` leaves open, here, where its warning is no error


@dataclass(frozen=True)
class Echo:
    """A generator that says pairs of its diet again, of those that it kept."""

    source: Captioned
    kept: int = 50

    def init(self, key: jax.Array) -> Any:
        return self.source.draw(key, self.kept)

    def fit(self, key: jax.Array, params: Any, pool: Pool) -> Any:
        return take(pool.rows, draw(key, pool.weight, (self.kept,))), {}

    def sample(self, key: jax.Array, params: Any, n: int) -> Any:
        return take(params, jax.random.randint(key, (n,), 0, self.kept))


@pytest.mark.slow
def test_retrieval_and_captioning_of_a_folder_run_in_a_chain(scenes: tuple[Path, dict[str, np.ndarray]]):
    source = Captioned(str(scenes[0]), test="25%")
    words, length = len(source.vocabulary), source.split.train["caption"].shape[1]
    eyes = partial(Captioner, patch=4, width=16, depth=1, length=length)
    texts = partial(TextTower, vocabulary=words, width=16)
    chain = Chain(
        source=source,
        generator=Echo(source),
        probes={
            "retrieval": Retrieval(partial(MLP, hidden=(32,)), texts, steps=60, batch=32, ks=(1, 30)),
            "captioning": Captioning(eyes, words, steps=60, batch=32),
        },
        real=90,
        rows=50,
        held_out=30,
    )
    found = simulate(chain, jax.random.key(0), 2)
    assert (np.asarray(found["retrieval.reference_rows"]) == 30).all()
    assert (np.asarray(found["retrieval.caption_of_image.30"]) == 1).all()  # all captions are among as many
    assert (np.asarray(found["captioning.nll"]) < np.log(words)).all()  # better than by chance, which is log words
    assert all(np.isfinite(np.asarray(value)).all() for value in found.flat().values())


def _cut(folder: Path) -> None:
    file = folder / "00" / "001.png"
    file.write_bytes(file.read_bytes()[:60])


def _row(**fields: Any) -> Callable[[Path], None]:
    """A change of the row of 00/001.png."""

    def change(folder: Path) -> None:
        lines = (folder / "metadata.jsonl").read_text().splitlines()
        row = {name: value for name, value in (json.loads(lines[1]) | fields).items() if value != "left out"}
        (folder / "metadata.jsonl").write_text("\n".join([lines[0], json.dumps(row), *lines[2:]]) + "\n")

    return change


def _deep(folder: Path) -> None:
    Image.fromarray(np.zeros((4, 4), np.float32)).save(folder / "00" / "001.png", "TIFF")


WRONG: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (lambda folder: (folder / "00" / "001.png").unlink(), r"00/001\.png is not there; mend"),
    "broken": (_cut, r"00/001\.png is no whole image \(.+\); mend"),
    "no bytes": (_deep, r"00/001\.png has pixels of the kind F; write it with 8 or 16 bits a channel; mend"),
    "no caption": (_row(caption="left out"), r"00/001\.png has no caption; mend"),
    "null": (_row(caption=None), r"00/001\.png has no caption"),
    "empty": (_row(caption=" \n"), r"00/001\.png has no caption"),
    "no name": (_row(file_name="left out"), r"00/001\.png has no row; row 1 of 'train' has no image"),
    "no row": (
        lambda folder: (folder / "00" / "more.png").write_bytes((folder / "00" / "000.png").read_bytes()),
        r"00/more\.png has no row",
    ),
    "junk": (lambda folder: (folder / "metadata.jsonl").write_text('{"file_name": '), "cannot be read as a data set"),
    "no captions": (
        lambda folder: (folder / "metadata.jsonl").unlink(),
        r"has images and no captions; write a metadata\.jsonl",
    ),
    "lists": (
        lambda folder: (folder / "metadata.jsonl").write_text('{"file_name": "00/000.png", "caption": ["a", "b"]}\n'),
        "'caption' of .* is no text; .* give each of several captions a row",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_a_row_is_said_by_name(case: str, tmp_path: Path):
    change, words = WRONG[case]
    folder = written(tmp_path / "x", pictures(8), ["a cat"] * 8)
    change(folder)
    with pytest.raises(GenlossError, match=words):
        _ = Captioned(str(folder), test="25%").split


def test_many_wrong_rows_are_counted(tmp_path: Path):
    folder = written(tmp_path / "x", pictures(12), ["a cat"] * 3 + [""] * 9)
    with pytest.raises(GenlossError, match=r"00/003.png has no caption; .*00/007.png has no caption; and 4 more; mend"):
        _ = Captioned(str(folder), test="25%").split


def test_what_is_wrong_with_a_set_is_said(tmp_path: Path):
    fields: dict[str, Any]
    for fields in ({"side": 0}, {"length": 2}, {"words": 0}, {"channels": 2}, {"test": "100%"}):
        with pytest.raises(GenlossError, match=next(iter(fields))):
            Captioned("x", **fields)
    with pytest.raises(GenlossError, match="no data set at /nowhere/at/all"):
        _ = Captioned("/nowhere/at/all").split
    folder = written(tmp_path / "x", pictures(3), ["a cat"] * 3)
    with pytest.raises(GenlossError, match=r"no split 'test'; .* can be cut from the train split with test='20%'"):
        _ = Captioned(str(folder)).split
    with pytest.raises(GenlossError, match="has 3 images, too few to train on some and hold out '10%'"):
        _ = Captioned(str(folder), test="10%").split
    with pytest.raises(GenlossError, match="no column 'text'"):
        _ = Captioned(str(folder), test="50%", caption="text").split
    file = table(tmp_path / "two.parquet", pictures(3), {"short": ["a"] * 3, "long": ["b"] * 3})
    with pytest.raises(GenlossError, match=r"more than one string column among .*; name it with `caption`"):
        _ = Captioned(str(file), test="50%").split
    assert Captioned(str(file), test="34%", caption="long").vocabulary[-1] == "b"
    assert jnp.asarray(Captioned(str(file), test="34%", caption="long").split.test["image"]).shape == (1, 4, 4, 1)
