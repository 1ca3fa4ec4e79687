"""The documentation says what is there: every public name, every law, every file it names."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(f for f in DOCS.rglob("*.md") if "_build" not in f.parts)]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
sys.path.insert(0, str(DOCS / "_ext"))

import made  # noqa: E402


@pytest.mark.parametrize("package", made.PACKAGES)
def test_every_public_name_has_a_docstring_of_its_own(package: str):
    module = importlib.import_module(package)
    assert module.__doc__
    for name in made.public(package):
        thing = getattr(module, name)
        said = thing.__doc__ if callable(thing) else "a type"
        assert said and not said.startswith(f"{name}("), f"{package}.{name}"  # a dataclass's own is its signature


def test_every_generator_is_public():
    public = {name.lower(): name for name in made.public("generators")}
    for file in (ROOT / "generators").glob("*.py"):
        name = public.get(file.stem.replace("_", ""))
        assert name or f"generators.{file.stem}" in made.modules() or file.stem == "__init__", file
        classes = re.findall(r"^class (\w+)", file.read_text(), re.MULTILINE)
        assert name in classes or not name, f"{file} does not define {name}"


def test_every_law_is_on_the_page_of_laws():
    text = (DOCS / "laws.md").read_text()
    missing = [name for name in made.public("simulator.theory") if f"`simulator.theory.{name}`" not in text]
    assert not missing


def test_every_experiment_and_every_probe_has_its_page():
    from experiments.command.listing import experiments, metrics

    pages = made.experiments()
    assert {Path(name).stem for name in pages} == {*experiments(), "index"}
    assert all(f"]({name}.md)" in pages["experiments/index.md"] for name in experiments())
    assert set(re.findall(r"^## (\w+)$", made.measures()["measures.md"], re.MULTILINE)) == set(metrics())


def test_every_row_of_the_table_of_published_figures_is_on_a_page():
    rows = sum(map(len, made.findings().values()))
    assert rows == len((ROOT / "experiments" / "figures" / "reproductions.md").read_text().splitlines()) - 2


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_files_lead_somewhere(page: Path):
    text = page.read_text()
    for link in re.findall(r"\]\(([^)#\s]+)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        made_later = "made/" in link or "made" in page.parts  # when the site is built, which checks them
        assert link.startswith("http") or made_later or (page.parent / link).exists(), link
    for name in re.findall(r"\{(?:literal)?include\} (\S+)", text):
        assert (page.parent / name).exists(), name
    for name in re.findall(r"`((?:simulator|generators|experiments|tests|docs)/[\w/.]+)`", text):
        assert (ROOT / name).exists() or name.startswith("docs/_build"), name
    for name in re.findall(r"genloss run (docs/\S+\.py)", text):
        assert (ROOT / name).exists(), name


@pytest.mark.slow
@pytest.mark.parametrize("page", ["first_run", "own_data"])
def test_python_of_the_tutorial_runs(page: str, tmp_path: Path):
    """Of the pages that are no notebooks; those run when the site is built."""
    chance = np.random.default_rng(0)
    for i in range(20):  # the folder of images that `own_data` speaks of
        file = tmp_path / "photos" / "ab"[i % 2] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(chance.integers(0, 256, (8, 8, 3), np.uint8)).save(file)
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "tutorial" / f"{page}.md").read_text(), re.DOTALL)
    assert blocks
    subprocess.run([sys.executable, "-c", "\n".join(blocks)], check=True, cwd=tmp_path, env=ENVIRONMENT)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["forget", "contaminated"])
def test_examples_run(name: str, tmp_path: Path):
    small = ["--generations", "2", "--replicates", "2"] + ["--generator.steps", "100"] * (name == "contaminated")
    command = [sys.executable, "-m", "experiments.cli", "run", str(DOCS / "examples" / f"{name}.py"), *small]
    subprocess.run([*command, "--out", str(tmp_path / "run")], check=True, cwd=tmp_path, env=ENVIRONMENT)
    assert (tmp_path / "run" / "report" / "decay.png").exists()


def test_readme_is_a_page():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200
