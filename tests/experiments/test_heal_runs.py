"""`genloss heal`: the table and files it makes of a stored run, how it chooses, and what it refuses."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas
import pytest
from conftest import gaussian_chain
from scipy import stats

from experiments.cli import main
from generators.heal import healed
from simulator import Chain, Store, Sweep, run
from simulator.probes import Diet, Moments
from simulator.recipe import Mix, Replace, Select
from simulator.running import files
from simulator.running.again import Again

SETTINGS = {"replace": 0, "real only": 1}


def chain(**fields: Any) -> Chain:
    recipe = Select((Replace(), Mix(real=1.0, size=10)), 0)
    return gaussian_chain(recipe=recipe, probes={"moments": Moments(), "diet": Diet()}, held_out=50, **fields)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("heal")
    run(Sweep(chain(), "recipe.index", SETTINGS), jax.random.key(0), 4, folder / "run", replicates=6)
    run(chain(), jax.random.key(0), 4, folder / "sparse", replicates=1, every=2)
    return folder


@pytest.fixture(autouse=True)
def somewhere(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("GENLOSS_CACHE", "off")
    capsys.readouterr()


def said(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert main(["heal", "run", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def recorded(setting: str, t: int) -> np.ndarray:
    """[replicates]: variance."""
    frame: Any = pandas.read_parquet("run/records.parquet")
    frame = frame[(frame["metric"] == "moments.variance") & (frame["setting"] == setting) & (frame["generation"] == t)]
    return frame.sort_values("replicate")["value"].to_numpy()


def test_values_beside_the_healed_one_are_the_records_and_the_interval_is_paired(capsys: pytest.CaptureFixture[str]):
    found = said(capsys, "--by", "neon", "--w", "0.5", "--generation", "2", "--metric", "moments.variance")
    assert [row["setting"] for row in found["values"]] == list(SETTINGS) and found["generation"] == 2
    store, subject = Store("run"), Sweep(chain(), "recipe.index", SETTINGS)
    again = Again(store, subject, 2)
    frame = again.measured(healed(chain(), "neon", 0.5, [again.params(t) for t in range(3)]))
    for row in found["values"]:
        chosen = (frame["metric"] == "moments.variance") & (frame["setting"] == row["setting"])
        values, last = frame[chosen]["value"].to_numpy(), recorded(row["setting"], 2)
        for over, before in (("over_first", recorded(row["setting"], 0)), ("over_last", last)):
            test: Any = stats.ttest_rel(values, before).confidence_interval(0.95)
            ends = [row[over][end] for end in ("mean", "low", "high")]
            assert np.allclose(ends, [(values - before).mean(), test.low, test.high])
        assert np.allclose([row["healed"], row["last"]], [values.mean(), last.mean()])
        assert np.isclose(row["first"], recorded(row["setting"], 0).mean())
        assert np.isclose(row["control"], recorded("real only", 2).mean())
        assert row["real"] == store.ceiling()["moments.variance"]


def test_w_is_chosen_on_one_half_of_the_replicates_and_told_of_the_other(capsys: pytest.CaptureFixture[str]):
    """In each setting the one nearest to real rows; told alone, that w has the same numbers in the other half."""
    words = ["--metric", "moments.variance"]
    found = said(capsys, *words, "--w", "0,0.5,2", "--choose", "moments.variance")
    assert (found["choosing"], found["telling"]) == ([0, 1, 2], [3, 4, 5])
    real = Store("run").ceiling()["moments.variance"]
    again = Again(Store("run"), Sweep(chain(), "recipe.index", SETTINGS), 3)
    generations = [again.params(t) for t in range(4)]
    frames = {w: again.measured(healed(chain(), "neon", w, generations)) for w in (0.0, 0.5, 2.0)}
    for row in found["values"]:
        means: dict[float, Any] = {}
        for w, frame in frames.items():
            chosen = frame[(frame["metric"] == "moments.variance") & (frame["setting"] == row["setting"])]
            means[w] = [chosen[chosen["replicate"].isin(half)]["value"].mean() for half in ((0, 1, 2), (3, 4, 5))]
        best = min(means, key=lambda w: abs(means[w][0] - real))
        assert row["w"] == best and np.isclose(row["healed"], means[best][1])
        assert np.isclose(row["last"], recorded(row["setting"], 3)[3:].mean())


def test_the_table_is_text_too_and_the_parameters_are_written(capsys: pytest.CaptureFixture[str]):
    words = ["--by", "average", "--w", "1", "--metric", "moments.variance"]
    data = said(capsys, *words)["values"]
    assert main(["heal", "run", *words, "--to", "made"]) == 0
    text = capsys.readouterr().out
    lines = [line.split() for line in text.splitlines()]
    assert text.startswith("measure") and lines[0][-2:] == ["control", "real"]
    for line, row in zip(lines[1:3], data, strict=True):
        gain = row["over_last"]
        shown = [f"{gain['mean']:+.3g}", "±", f"{gain['high'] - gain['mean']:.2g}"]
        assert line[-5:] == [*shown, f"{row['control']:.3g}", f"{row['real']:.3g}"]
    assert "average of generation 3; means of 6 replicates" in text and "parameters: made" in text
    leaves = files.load_arrays(Path("made/params.npz"), Store("run").signature)
    stored = [Store("run").params(t) for t in range(4)]
    for name, leaf in leaves.items():
        assert np.allclose(leaf, np.mean([params[name] for params in stored], 0), rtol=1e-5, atol=1e-7)
    told = json.loads(Path("made/heal.json").read_text())
    assert told["w"] == {"replace": 1.0, "real only": 1.0} and told["values"] == data


def test_each_setting_is_written_as_its_own_w_made_it(capsys: pytest.CaptureFixture[str]):
    words = ["heal", "run", "--by", "neon", "--w", "0,2", "--choose", "moments.variance", "--to", "each"]
    assert main(words) == 0
    chosen = json.loads(Path("each/heal.json").read_text())["w"]
    leaves = files.load_arrays(Path("each/params.npz"), Store("run").signature)
    first, last = Store("run").params(0), Store("run").params(3)
    for i, w in enumerate(chosen.values()):
        for name, leaf in leaves.items():
            assert np.array_equal(leaf[i], np.float32(1 + w) * first[name][i] - np.float32(w) * last[name][i])


def test_nothing_of_the_run_changes_and_nothing_it_names_is_run(folder: Path, capsys: pytest.CaptureFixture[str]):
    before = {file: file.read_bytes() for file in (folder / "run").rglob("*") if file.is_file()}
    assert main(["heal", "run", "--w", "0.5"]) == 0
    assert before == {file: file.read_bytes() for file in (folder / "run").rglob("*") if file.is_file()}
    shutil.copytree("run", "theirs")
    about = json.loads(Path("theirs/chain.json").read_text())
    about["run"]["chain"]["recipe"] = {"$name": "acting_cure:newest"}
    Path("theirs/chain.json").write_text(json.dumps(about))
    Path("acting_cure.py").write_text("raise SystemExit('it was run')")
    assert main(["heal", "theirs"]) == 2
    assert "say --trust" in capsys.readouterr().err and "acting_cure" not in sys.modules


BAD = {
    "no run": (["nowhere"], "nowhere holds no run"),
    "generation 0": (["run", "--generation", "0"], "--generation is 0 and must be at least 1"),
    "no such generation": (["run", "--generation", "9"], "has no generation 9 that a cure could help; it has 0 to 3"),
    "no such cure": (["run", "--by", "prayer"], "invalid choice: 'prayer'"),
    "no number": (["run", "--w", "1,much"], "numbers of at least 0 with commas between, not '1,much'"),
    "below 0": (["run", "--w", "-1"], "numbers of at least 0"),
    "one twice": (["run", "--w", "1,1.0"], "different numbers"),
    "several and no choice": (["run", "--w", "1,2"], "take --choose M and two replicates or more"),
    "no such measure of real rows": (["run", "--w", "1,2", "--choose", "moments.varianc"], "the nearest is 'moments.v"),
    "no such measure": (["run", "--metric", "moments.varianc"], "the nearest is 'moments.variance'"),
    "checkpoints too far apart": (["sparse", "--generation", "1"], "run it with --every 1"),
    "a place that is taken": (["run", "--to", "sparse"], "is there already; choose another place"),
}


@pytest.mark.parametrize(("words", "sentence"), BAD.values(), ids=BAD)
def test_bad_input_is_one_sentence_and_exit_code_2(
    words: list[str], sentence: str, folder: Path, capsys: pytest.CaptureFixture[str]
):
    before = set(folder.rglob("*"))
    assert main(["heal", *words]) == 2
    found = capsys.readouterr()
    assert found.err.startswith("genloss: ") and sentence in found.err and found.err.endswith(".\n")
    assert len(found.err.splitlines()) == 1 and not found.out and before == set(folder.rglob("*"))
