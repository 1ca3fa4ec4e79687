"""`genloss plan --budget`: a schedule as text, data and picture, and what is refused before anything is run."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.cli import main
from experiments.command.spending import measure, spent_on
from simulator import GenlossError

EXPERIMENT = """
from generators import Gaussian
from simulator import Chain, Truth
from simulator.probes import Moments
from simulator.recipe import Mix

def own(key, view):
    return view.params.mean.mean()

chain = Chain(source=Truth(Gaussian(2)), generator=Gaussian(2), recipe=Mix(real=0.3, size=20, fresh=True),
              probes={"own": own, "moments": Moments()}, real=20, rows=16, fresh=12, held_out=0)
generations = 6
"""


@pytest.fixture(scope="session")  # work that is stolen may leave a module and come back to it
def experiment(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("spend") / "spent_gaussian.py"
    file.write_text(EXPERIMENT)
    return str(file)


@pytest.mark.slow
def test_a_schedule_as_data_and_as_a_picture(experiment: str, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    picture = tmp_path / "budget.png"
    words = ["--budget", "30", "--over", "recipe.real", "--chains", "100", "--json", "--figure", str(picture)]
    assert main(["plan", experiment, *words]) == 0
    found = json.loads(capsys.readouterr().out)
    amounts = np.array([one["amounts"] for one in found["outcomes"].values()])
    assert (
        (amounts.sum(1) == 30).all() and amounts.min() >= 4 and amounts.max() <= 12
    )  # 16 synthetic rows of 20 at most
    assert found["measure"] == "moments.variance" and found["field"] == "recipe.real"
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_schedule_as_text(experiment: str, capsys: pytest.CaptureFixture[str]):
    words = ["--budget", "30", "--over", "recipe.real", "--keep", "moments.mean_error", "--chains", "100"]
    assert main(["plan", experiment, *words, "--rows", "20", "--fresh", "20"]) == 0
    said = capsys.readouterr().out
    assert "recipe.real: 30 rows over generations 1 to 5, moments.mean_error lowest at its worst" in said
    assert "warning: the schedule for the end alone spends" in said and "back-loaded" in said


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["--budget", "30"], "Say which one field the budget is spent on"),
        (["--budget", "61", "--over", "recipe.real"], "takes 12 rows at most, so 5 of them take 60"),
        (["--budget", "19", "--over", "recipe.real"], "takes 4 rows at least, so 5 of them take 20"),
        (["--budget", "30.5", "--over", "recipe.real"], "give a whole number"),
        (["--budget", "30", "--over", "rows=10..20"], "takes one number for all generations"),
        (["--budget", "30", "--over", "recipe.reel"], "the nearest is"),
        (["--budget", "30", "--over", "recipe.real", "--keep", "moments.variance >= 1"], "--keep names a measure"),
        (["--budget", "30", "--over", "recipe.real", "--keep", "own"], "say 'max own' or 'min own'"),
        (["--budget", "30", "--over", "recipe.real", "--keep", "max own"], "has no law (no law is known for"),
    ],
)
def test_bad_input_is_one_sentence(
    experiment: str, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
):
    assert main(["plan", experiment, *words]) == 2
    said = capsys.readouterr()
    assert sentence in " ".join(said.err.split()) and not said.out


def test_the_measure_is_the_one_asked_for_or_the_variance(experiment: str):
    chain: Any = load(experiment)
    assert measure(chain, None) == ("moments.variance", 1)
    assert measure(chain, "moments.mean_error") == ("moments.mean_error", -1)
    assert measure(chain, "min own") == ("own", -1) and measure(chain, "max own") == ("own", 1)
    with pytest.raises(GenlossError, match="max METRIC"):
        measure(chain, "most own")


def test_the_bounds_are_those_that_the_chain_can_be_built_with(experiment: str):
    chain: Any = load(experiment)
    of = lambda text: spent_on(chain, text, 30, 6)  # noqa: E731
    assert (of("recipe.real").least, of("recipe.real").most) == (4, 12)
    assert (of("recipe.real=0.3..0.5").least, of("recipe.real=0.3..0.5").most) == (6, 10)
    assert (of("fresh").least, of("fresh").most, of("fresh").served) == (0, 16, True)


def load(experiment: str) -> Any:
    from experiments.command.loading import load_module

    return load_module(experiment).chain
