"""`genloss league`: ranks with as many real rows, somebody's recipe beside them, runs that are done once."""

import dataclasses
import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from experiments.cli import main
from experiments.league import mitigations, world
from experiments.league.world import World
from generators import Gaussian
from simulator import Chain, GenlossError, RunFailed, Truth
from simulator.probes import Moments
from simulator.recipe import Accumulate, Replace
from simulator.running.drive import Drive

CHAIN = Chain(
    source=Truth(Gaussian(2)),
    generator=Gaussian(2),
    recipe=Replace(),
    probes={"moments": Moments()},
    real=12,
    rows=12,
    held_out=0,
)
SHRUNK = dataclasses.replace(CHAIN, generator=Gaussian(2, bias=0.9))
TINY = World(
    entries={
        **mitigations.eating(CHAIN, {"replace": Replace(), "accumulate": Accumulate()}),
        "shrunk": SHRUNK,
    },
    generations=8,
    replicates=40,
    metric="moments.variance",
    better="higher",
    every=8,
)
OWN = '''"""Every other data set."""
def recipe(key, t, pool):
    return pool.weight * (pool.age(t) % 2 == 0)
'''


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(world, "load", lambda name: TINY)


def call(out: Path, *words: str) -> int:
    return main(["league", "--world", "tiny", "--out", str(out), *words])


def test_a_league_that_was_stopped_goes_on_and_takes_somebodys_recipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    own, same, out = tmp_path / "every_other.py", tmp_path / "everything.py", tmp_path / "league"
    own.write_text(OWN)
    same.write_text("from simulator.recipe import Accumulate\n\nrecipe = Accumulate()\n")
    driven: list[str] = []  # runs that were not done yet
    go = Drive.go

    def counted(self: Drive, store: Any, *rest: Any) -> Any:
        driven.append(store.path.name.rpartition("-")[0])
        if len(driven) == 2:
            raise RunFailed("the disk is full.")
        return go(self, store, *rest)

    monkeypatch.setattr(Drive, "go", counted)
    assert call(out, "--json") == 1 and driven == ["2-recipes", "shrunk"]
    capsys.readouterr()
    assert call(out, "--json") == 0 and driven[2:] == ["shrunk"]
    first = json.loads(capsys.readouterr().out)["tiny"]
    assert [e["entry"] for e in first["entries"]] == ["accumulate", "replace", "shrunk"] and first["real_rows"] == 12
    assert call(out, "--add", str(own), "--add", str(same), "--json") == 0
    assert driven[3:] == ["every-other", "everything"]
    found = {e["entry"]: e for e in json.loads(capsys.readouterr().out)["tiny"]["entries"]}
    assert found["replace"]["value"] < found["every_other"]["value"] < found["accumulate"]["value"]  # so are the laws
    for old in first["entries"]:
        assert found[old["entry"]]["value"] == old["value"] and found[old["entry"]]["seconds"] == old["seconds"] > 0
    alone, among = found["everything"], found["accumulate"]  # one mitigation, in a program of its own and in another
    assert alone["value"] == pytest.approx(among["value"], rel=1e-5)
    for entry in found.values():
        assert sum(entry["ranks"]) == pytest.approx(1, abs=1e-3)
    assert json.loads((out / "league.json").read_text())["tiny"]["entries"] == list(found.values())
    assert (out / "league.png").read_bytes().startswith(b"\x89PNG")
    assert call(out) == 0 and len(driven) == 5
    said = capsys.readouterr().out
    assert "12 real rows in all" in said and "to replace" in said and "every_other" not in said


def test_an_entry_sees_as_many_real_rows_and_is_judged_alike():
    streamed = dataclasses.replace(CHAIN, real=5, fresh=1)
    assert TINY.budget(streamed) == 12 and TINY.admit("streamed", streamed) is streamed
    with pytest.raises(GenlossError, match=r"'more' sees 19 real rows .* and the others 12"):
        TINY.admit("more", dataclasses.replace(CHAIN, fresh=1))
    with pytest.raises(GenlossError, match="'judged' changes `probes`"):
        TINY.admit("judged", dataclasses.replace(CHAIN, probes={}))
    with pytest.raises(GenlossError, match="'wide' changes `rows`"):
        TINY.admit("wide", dataclasses.replace(CHAIN, rows=13))
    again = dataclasses.replace(CHAIN, source=Truth(Gaussian(2)), probes={"moments": Moments()})
    assert TINY.admit("equal", again) is again


def test_every_mitigation_of_diets_sees_as_many_real_rows():
    chain = dataclasses.replace(CHAIN, real=30, rows=30)
    made = mitigations.diets(chain, 8)
    World(entries=made, generations=8, replicates=2, metric="moments.variance", better="higher")
    assert {(c.real, c.fresh) for c in made.values()} == {(30, 0), (16, 2)}


@pytest.mark.parametrize(
    "text, words, sentence",
    [
        (None, ["--add", "none.py"], "There is no file none.py."),
        ("x = 1", ["--add", "nothing.py"], "nothing defines neither `recipe` nor `entry`"),
        ("def entry(chain):\n    return 1", ["--add", "one.py"], "'one' is no chain"),
        (None, ["--world", "tiny,tiny"], "names a world twice"),
        (None, ["--replicates", "1"], "--replicates is 1 and must be at least 2."),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str | None,
    words: list[str],
    sentence: str,
):
    monkeypatch.chdir(tmp_path)
    if text is not None:
        Path(words[-1]).write_text(text)
    assert call(tmp_path / "out", *words) == 2
    assert sentence in " ".join(capsys.readouterr().err.split()) and not (tmp_path / "out").exists()


def test_an_unknown_world_names_those_there_are(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.undo()
    assert main(["league", "--world", "mixtur"]) == 2
    assert "the nearest is 'mixture'" in capsys.readouterr().err


def test_every_world_can_be_built():
    free = {"mixture", "characters", "transformer", "digits"}
    assert world.files().keys() == free | {"fashion"}  # which wants data
    for name in free:
        found: World = importlib.import_module(f"experiments.league.{name}").world
        assert world.BASELINE in found.entries and len(found.entries) > 5 and found.replicates > 1
