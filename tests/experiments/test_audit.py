"""`genloss audit`: sets of known share, what files say of themselves, what others lost, and what is refused."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from experiments.cli import main
from experiments.contamination.known import Curve, curves
from experiments.imagesets.traces import scores
from simulator.analysis.audit import auroc
from simulator.recipe.contamination import RATIOS


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GENLOSS_CACHE", "off")
    monkeypatch.setattr("warnings.showwarning", None)


def spots(root: str, n: int, seed: int, grain: float = 8.0, side: int = 8, classes: int = 2, first: int = 0) -> None:
    """Images of a bright spot that lies anywhere, with noise: real ones of grain 8, generated ones of another."""
    chance = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    for i in range(first, first + n):
        a, b = chance.uniform(0, side, 2)
        values = 200 * np.exp(-((x - a) ** 2 + (y - b) ** 2) / 4) + grain * chance.standard_normal((side, side))
        folder = Path(root) / f"kind{i % classes}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(folder / f"{i:04d}.png")


def go(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(["audit", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], sentence: str, *words: str) -> None:
    assert main(["audit", *words]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("genloss: ") and said.endswith(".") and sentence in said, said


def test_a_set_of_known_share_copies_of_real_images_and_its_page(capsys: pytest.CaptureFixture[str]):
    spots("real", 400, 0)
    spots("mixed", 180, 1)
    spots("mixed", 120, 2, grain=25.0, first=180)
    found = go(capsys, "mixed", "--real", "real", "--out", "out")
    assert found["low"] <= 0.4 <= found["high"] and found["low"] > 0.3 and found["auroc"] > 0.6
    assert found["used"] == {"real": 400, "set": 300} and found["same"] == 0
    page = Path("out/audit.html").read_text()
    assert "data:image/png;base64," in page and not re.search(r'<script|(src|href)="(?!data:)', page)
    assert Path("out/audit.txt").read_text().splitlines()[0] in page.replace("&#x27;", "'")
    assert json.loads(Path("out/audit.json").read_text()).items() >= found.items()
    assert {one["on"] for one in found["costs"]} == {curve.name for curve in curves()}

    # A hundred images of the real set, one of them stored otherwise: a quarter of the set is known to be real.
    for i, file in enumerate(sorted(Path("real").rglob("*.png"))[:100]):
        place = Path("mixed") / file.parent.name / f"copy{file.name}"
        if i:
            shutil.copy(file, place)
        else:
            Image.open(file).save(place.with_suffix(".bmp"))
    more = go(capsys, "mixed", "--real", "real")
    assert more["same"] == 100 and more["used"]["set"] == 300
    assert more["low"] <= 0.3 <= more["high"] <= 0.75
    capsys.readouterr()
    refused(capsys, "All of real is in real", "real", "--real", "real")


def test_rows_of_numbers_are_read_from_tables(capsys: pytest.CaptureFixture[str]):
    import pyarrow
    import pyarrow.csv
    import pyarrow.parquet

    chance = np.random.default_rng(0)

    def table(n: int, generated: int) -> Any:
        x = np.concatenate([chance.normal(size=(n - generated, 3)), 6 + chance.normal(size=(generated, 3))])
        return pyarrow.table({"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "name": ["x"] * n})

    pyarrow.csv.write_csv(table(600, 0), "real.csv")
    pyarrow.parquet.write_table(table(500, 150), "mixed.parquet")
    found = go(capsys, "mixed.parquet", "--real", "real.csv")
    assert found["low"] <= 0.3 <= found["high"] and found["value"] is not None
    assert found["notes"] == ["columns that are no numbers are left out: name"]
    pyarrow.csv.write_csv(table(500, 0).select(["a", "b"]), "other.csv")
    refused(capsys, "have other columns", "mixed.parquet", "--real", "other.csv")


def test_a_copy_within_a_set_gives_no_row_away():
    chance = np.random.default_rng(0)
    real, twice = chance.normal(size=(400, 4)), chance.normal(size=(200, 4)).repeat(2, 0)
    area, error = auroc(*scores(real, chance.permutation(twice)))
    assert abs(area - 0.5) < 4 * 2**0.5 * error  # of half as many rows of the set


def test_what_files_say_of_themselves_is_told_and_is_no_guess(capsys: pytest.CaptureFixture[str]):
    spots("real", 40, 0)
    spots("fake", 40, 1)
    assert main(["contaminate", "--real", "real", "--synthetic", "fake", "--ratio", "0.4", "--out", "mixed"]) == 0
    capsys.readouterr()
    found = go(capsys, "mixed")
    assert found["value"] is None and found["written"]["whole"] and found["written"]["generated"] == 16
    manifest = Path("mixed/manifest.jsonl")
    manifest.write_text("".join(manifest.read_text().splitlines(keepends=True)[:-1]))  # of which a line is lost
    assert go(capsys, "mixed")["written"] == {"generated": 0, "whole": False, "said": {}}
    for i, file in enumerate(sorted(Path("real").rglob("*.png"))[:10]):
        told = PngImagePlugin.PngInfo()
        told.add_text("parameters" if i < 7 else "author", "a spot")
        Image.open(file).save(file, pnginfo=told)
    assert main(["audit", "real"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("cannot tell what share is generated: give real rows of the same kind with --real")
    assert "by what its files say at least 17.5 % of 40 is generated" in said
    spots("plain", 4, 0)
    assert main(["audit", "plain"]) == 0
    assert "say nothing of where they come from" in capsys.readouterr().out


def test_a_watermark_is_read_by_its_seed_and_by_no_other(capsys: pytest.CaptureFixture[str]):
    from simulator.recipe.watermark import Watermark

    spots("mixed", 40, 0, grain=20.0, side=24)
    files = sorted(Path("mixed").rglob("*.png"))[:10]
    marked = Watermark(7).embed(jnp.stack([np.asarray(Image.open(file)) for file in files])[..., None])
    for file, image in zip(files, np.asarray(marked), strict=True):
        Image.fromarray(image[..., 0]).save(file)
    assert go(capsys, "mixed", "--watermark", "7")["written"]["said"] == {"the watermark of seed 7": 10}
    assert go(capsys, "mixed", "--watermark", "8")["written"]["said"] == {}


def test_a_watermark_is_told_where_its_seed_reads_more_images_than_each_of_the_nineteen_after_it():
    from experiments.imagesets.audit import _marked
    from simulator.recipe.watermark import Watermark

    plain = jnp.asarray(np.random.default_rng(0).integers(0, 256, (12, 24, 24, 1), np.uint8))
    by = {3: slice(0, 2), 9: slice(2, 7), 23: slice(7, 12)}
    rows = plain
    for seed, some in by.items():
        rows = rows.at[some].set(Watermark(seed).embed(plain[some]))
    reads = {seed: int(Watermark(seed).marked(rows).sum()) for seed in by}
    assert reads == {3: 2, 9: 5, 23: 5}
    images = list(np.asarray(rows))
    assert _marked(images, 3) == 0  # fewer than 9 reads
    assert _marked(images, 9) == 0  # as many as 23 reads, of fewer it cannot be told
    assert _marked(images, 23) == 5 and _marked(images, 10) == 0
    assert _marked(images[:7], 9) == 5 and _marked(images[:2], 3) == 2


def test_what_cannot_be_asked_is_refused_in_one_sentence(capsys: pytest.CaptureFixture[str]):
    spots("real", 100, 0)
    spots("mixed", 99, 1)
    refused(capsys, "real has 100 and mixed 99", "mixed", "--real", "real")
    spots("mixed", 20, 2, first=200, classes=3)
    refused(capsys, "have other classes ('kind2' is in mixed alone)", "mixed", "--real", "real")
    shutil.rmtree("mixed/kind2")
    refused(capsys, "choose another --out", "mixed", "--real", "real", "--out", "mixed/audit")
    Path("theirs").mkdir()
    Path("theirs/audit.html").write_text("mine")
    refused(capsys, "is not of this audit", "mixed", "--real", "real", "--out", "theirs")
    assert Path("theirs/audit.html").read_text() == "mine"
    Path("mixed/kind0/bad.png").write_bytes(b"nothing")
    refused(capsys, "1 entries cannot be used", "mixed", "--real", "real")
    Path("mixed/kind0/bad.png").unlink()
    spots("large", 3, 3, side=9)
    refused(capsys, "give --side PX", "large", "--real", "real")
    Path("empty").mkdir()
    refused(capsys, "holds no image that can be used", "empty", "--real", "real")
    refused(capsys, "There is no image set at nowhere", "nowhere")
    refused(capsys, "--limit is 50 and must be at least 100", "mixed", "--real", "real", "--limit", "50")
    refused(capsys, "--confidence is 1.0 and must be at most", "mixed", "--confidence", "1")
    assert not Path("mixed/audit").exists() and not list(Path().glob("*.html"))


def test_curves_of_what_others_lost_are_those_of_the_table():
    known = {curve.name: curve for curve in curves()}
    text = (Path(__file__).parents[2] / "experiments/figures/reproductions.md").read_text()
    assert len(known) > 1
    for name, curve in known.items():
        assert curve.ratios == RATIOS and curve.at(0) == (0, 0)
        for ratio, points, error in zip(curve.ratios[1:], curve.points[1:], curve.errors[1:], strict=True):
            assert curve.at(ratio) == (points, error)
            line = next(
                (line for line in text.splitlines() if f"{name}: excess harm at {100 * ratio:.0f} %" in line), ""
            )
            assert "ImageNet" in name or f"{points:g}" in line


def test_the_least_that_pays_is_where_the_gain_leaves_the_errors():
    straight = Curve("", 100, (0.0, 0.5, 1.0), (0.0, 5.0, 10.0), (0.0, 0.3, 0.3))
    assert straight.worth(0.7) == pytest.approx(0.1) and straight.at(0.25)[0] == pytest.approx(2.5)
    least = straight.least(1.0, 2.0)  # 10 δ > 2·0.3·√2
    assert least is not None and least == pytest.approx(0.06 * 2**0.5, abs=1e-3)
    assert straight.least(0.02, 2.0) is not None  # down to 0, which is known
    assert Curve("", 100, (0.0, 1.0), (0.0, 0.5), (0.0, 0.3)).least(1.0, 2.0) is None
    assert straight.least(0.0, 2.0) is None
