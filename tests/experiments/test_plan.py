"""`genloss plan`: an answer as text, data and picture, a phase map, and what is refused before anything is run."""

import json
from pathlib import Path
from typing import Any

import pytest

from experiments.cli import main
from experiments.command.ranges import Range
from simulator import GenlossError

EXPERIMENT = '''"""Gaussians that eat fresh rows and their own."""
from generators import Gaussian
from simulator import Chain, Truth
from simulator.probes import Moments
from simulator.recipe import Reweigh, Then, Window

chain = Chain(source=Truth(Gaussian(6)), generator=Gaussian(6), recipe=Then(Window(1), Reweigh(real=0.5)),
              probes={"moments": Moments()}, real=60, rows=60, fresh=60, held_out=0)
generations = 20
'''
KEEP = ["--keep", "moments.variance >= 0.9", "--over", "recipe.recipes.1.real"]


@pytest.fixture(scope="session")  # work that is stolen may leave a module and come back to it
def experiment(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("plan") / "planned_gaussian.py"
    file.write_text(EXPERIMENT)
    return str(file)


def test_an_answer_as_data_and_as_a_picture(experiment: str, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    picture = tmp_path / "plan.png"
    assert (
        main(["plan", experiment, *KEEP, "--chains", "400", "--confidence", "0.99", "--json", "--figure", str(picture)])
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert 0 < found["low"] < found["law"] < found["high"] < 0.2 and found["side"] == "least"
    assert len(found["evaluated"]["values"]) == len(found["evaluated"]["margins"]) == found["chains"] == 400
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_second_field_makes_a_plan_at_each_of_its_values(
    experiment: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    more = ["--over", "generator.bias=0.5,0.9,1", "--chains", "200", "--json", "--figure", str(tmp_path / "map.png")]
    assert main(["plan", experiment, *KEEP, *more]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["plans"]) | set(found["never"]) == {"0.5", "0.9", "1"}
    needed = [found["plans"][name]["value"] for name in ("0.5", "0.9", "1") if name in found["plans"]]
    assert needed == sorted(needed, reverse=True)  # who shrinks each fit needs more


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["--over", "recipe.recipes.1.real"], "Say what is to be kept"),
        (["--keep", "a >= 1"], "Say what is to be kept"),
        ([*KEEP[:2], "--over", "recipe.recipes.1.reel"], "the nearest is"),
        ([*KEEP[:2], "--over", "rows"], "has no two ends; give them: --over rows=LOW..HIGH"),
        ([*KEEP[:2], "--over", "rows=1.5..3"], "takes two whole numbers"),
        ([*KEEP[:2], "--over", "recipe.recipes.1.real=a..b"], "takes two numbers"),
        ([*KEEP[:2], "--over", "start"], "what is searched is a number"),
        ([*KEEP, "--figure", "plan.gif"], "--figure writes .png"),
        ([*KEEP, "--over", "recipe.recipes.1.real=0.1,0.2"], "was given twice"),
        (["--keep", "moments.variance", *KEEP[2:]], "What is to be kept is written as"),
        (["--keep", "moments.spread >= 1", *KEEP[2:]], "The chain has no measure"),
    ],
)
def test_bad_input_is_one_sentence(
    experiment: str, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
):
    assert main(["plan", experiment, *words]) == 2
    said = capsys.readouterr()
    assert sentence in " ".join(said.err.split()) and said.err.count(".\n") == 1 and not said.out


def test_a_range_is_that_of_the_field_or_the_one_given(experiment: str):
    from experiments.command.loading import load_module

    chain = load_module(experiment).chain
    of = lambda text: vars(Range.read(chain, text))  # noqa: E731
    assert list(of("recipe.recipes.1.real").values())[1:] == [0, 1, None, None]
    assert list(of("rows=10..40").values()) == ["rows", 10, 40, 1.0, None]
    some: Any = Range.read(chain, "rows=10..40").some(4)
    assert some == [10, 20, 30, 40] and Range.read(chain, "rows=30,10").some(4) == [10, 30]
    with pytest.raises(GenlossError, match="no field"):
        Range.read(chain, "nothing")
