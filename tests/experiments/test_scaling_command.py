"""`genloss scaling`: the price before it is run, text, data and picture, fields in their proportion, and refusals."""

import json
import re
from pathlib import Path

import pytest
from conftest import SHARED

from experiments.cli import main
from experiments.command.loading import load_module
from experiments.command.scaling import Axes
from simulator import GenlossError

EXPERIMENT = '''"""Gaussians that eat fresh rows and their own."""
from generators import Cohort, Gaussian
from simulator import Chain, Dataset, Truth
from simulator.probes import Moments
from simulator.recipe import Mix, Reweigh, Select, Then, Window

cohort = Cohort(Gaussian(2), 400)
chain = Chain(source=Truth(cohort), generator=cohort, recipe=Then(Window(1), Reweigh(real=0.5)),
              probes={"moments": Moments()}, real=1, rows=1, fresh=1, held_out=0)
generations = 5
mixed = dict(source=Truth(Gaussian(2)), generator=Gaussian(2), recipe=Mix(real=0.5, size=400),
             probes={"moments": Moments()}, real=400, rows=800, held_out=0)
presets = {"mixed": {"chain": Chain(**mixed), "generations": 3, "replicates": 12}}
'''
SIZES = "real,rows"  # of cohorts: those that each row stands for
OVER = ["--over", f"{SIZES},share"]


@pytest.fixture(scope="session")  # work that is stolen may leave a module and come back to it
def experiment(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("scaling") / "scaled_gaussian.py"
    file.write_text(EXPERIMENT)
    return str(file)


@pytest.mark.slow
def test_a_law_as_text_and_as_a_picture(experiment: str, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    words = ["scaling", experiment, "--over", f"{SIZES}=30,60,120", "--over", "share=0.4,0.6,0.8", "--replicates", "60"]
    assert main([*words, "--generations", "3", "--figure", str(tmp_path / "law.png")]) == 0
    said = capsys.readouterr().out
    for part in (
        "source.generator.n, generator.n: 30, 60, 120 and, for the check, 480",
        f"price: {4 * 3 * 60} chains of 3 generations, {4 * 3 * 60 * (1 + 3 + 2):,} rows, 1 program to compile",
        "moments.mean_error at generations 0, 1, 2: E = A·n^-α is not refuted",
        "law: 0.99", "best share", "check at 480, generation 2, 90% intervals",
    ):  # fmt: skip
        assert part in said
    exponent, error = map(float, re.findall(r"α: (\S+) ± (\S+), 90% interval", said)[0])
    assert abs(exponent - 1) < 4 * error
    assert (tmp_path / "law.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_law_as_data(experiment: str, capsys: pytest.CaptureFixture[str]):
    words = ["scaling", experiment, "--over", f"{SIZES}=30,60,120", "--over", "share=0.4,0.6,0.8", "--replicates", "60"]
    assert main([*words, "--json", "--seed", "3"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["fits"] and abs(found["exponent"]["value"] - 1) < 4 * found["exponent"]["error"]
    assert found["sizes"] == [30, 60, 120] and found["beyond"] == 480 and found["shares"] == [0.4, 0.6, 0.8]
    assert main([*words, "--json", "--seed", "3"]) == 0
    assert json.loads(capsys.readouterr().out) == found


def test_the_price_alone_runs_nothing(experiment: str, capsys: pytest.CaptureFixture[str]):
    assert main(["scaling", experiment, "--preset", "mixed", "--over", "real,rows,recipe.size,share", "--dry-run"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "real, rows, recipe.size: 12, 25, 50, 100 and, for the check, 400"
    assert said[1] == "recipe.real: 0.1, 0.25, 0.4, 0.55, 0.7, 0.85, 1"
    rows = 7 * 12 * (587 + 3 * 2 * 587)  # 7 shares, 12 replicates, real ones and 3 generations of twice as many
    assert said[2] == f"price: {7 * 12 * 5} chains of 3 generations, {rows:,} rows, 5 programs to compile"
    assert len(said) == 3


def test_sizes_keep_their_proportion(experiment: str):
    chain = load_module(experiment).presets["mixed"]["chain"]
    axes = Axes.read(chain, ["rows,real,recipe.size=40,80,160", "recipe.real=0.2,0.4"], 4.0)
    made = axes.made(chain)(80, 0.4)
    assert (made.real, made.rows, made.recipe.size, made.recipe.real) == (40, 80, 40, 0.4)
    assert axes.ladder == [40, 80, 160] and axes.share == "recipe.real" and axes.size == "rows"
    alone = Axes.read(chain, ["real=40,80,160", "rows,recipe.size"], 4.0)
    assert alone.parts == {"real": 1, "rows": 2, "recipe.size": 1} and alone.share is None
    with pytest.raises(GenlossError, match="no field"):
        Axes.read(chain, ["nothing"], 4.0)


@pytest.mark.parametrize(
    "words, sentence",
    [
        ([], "Say which numbers of rows grow, and which share varies: --over real,rows,share."),
        (["--over", "share"], "name what counts rows, too"),
        (["--over", f"{SIZES}=100", "--over", "share"], "wants 3 sizes or more; it was given 100."),
        (["--over", "generator.m,share"], "the nearest is 'generator.n'"),
        (["--over", "start"], "what is varied is a number"),
        (["--over", f"{SIZES},share=1,2"], "give the sizes and the share each an --over"),
        (["--over", f"{SIZES}=10,20,40", "--over", "fresh=1,2,4"], "sizes grow together"),
        (["--over", f"{SIZES}", "--over", "generator.n"], "sizes are named once"),
        (["--over", f"{SIZES}=1.5,2,3"], "takes whole numbers"),
        (["--over", f"{SIZES}=2,3,4"], "does not span 2 dimensions"),
        (["--over", "fresh"], "there is no ladder below; give sizes: fresh=..."),
        (["--over", SIZES, "--over", "share=0.5,1.5"], "between 0 and 1"),
        ([*OVER, "--metric", "moments.varianc"], "the nearest is 'moments.variance'"),
        ([*OVER, "--replicates", "3"], "10 replicates or more; it was given 3"),
        ([*OVER, "--confidence", "1.5"], "The confidence is 1.5"),
        ([*OVER, "--figure", "law.gif"], "--figure writes .png"),
        (["--preset", "mixed", "--over", "real,rows,share"], "lower the share; or let recipe.size grow with the rows."),
    ],
)
def test_bad_input_is_one_sentence(
    experiment: str, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
):
    assert main(["scaling", experiment, *words]) == 2
    said = capsys.readouterr().err
    assert sentence in " ".join(said.split()) and said.count(".\n") == 1


def test_sizes_that_a_data_set_cannot_serve_are_refused(capsys: pytest.CaptureFixture[str]):
    words = ["scaling", str(SHARED / "tiny_vae.py"), "--replicates", "10", "--metric", "fit.loss"]
    for sizes, sentence in (("100,200,1500", "asks for 1500 real rows"), ("100,200,800", "The check is at 3,200: The")):
        assert main([*words, "--over", f"real,rows={sizes}"]) == 2
        said = capsys.readouterr().err
        assert sentence in " ".join(said.split()) and "has 1438" in said and said.count(".\n") == 1
