"""Run folders that somebody else made: nothing in them is run, and nothing outside them is written."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import pytest
from conftest import SHARED, gaussian_chain

from experiments.cli import main
from experiments.command.loading import files, load_module
from simulator import Chain, GenlossError, Store, run, theory
from simulator.probes import Moments
from simulator.recipe import Accumulate
from simulator.report import page
from simulator.running import spec

GAUSSIAN = str(SHARED / "tiny_gaussian.py")


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("honest") / "run"
    chain = gaussian_chain(recipe=Accumulate(), probes={"moments": Moments()})
    run(chain, jax.random.key(0), 2, folder)
    theory.keep(Store(folder), chain)
    return folder


@pytest.fixture
def folder(honest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GENLOSS_CACHE", "off")
    shutil.copytree(honest, tmp_path / "run")
    return tmp_path / "run"


def changed(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    about = json.loads((folder / "chain.json").read_text())
    change(about)
    (folder / "chain.json").write_text(json.dumps(about))


def a_file_that_acts(folder: Path) -> Path:
    """A Python file beside the run that leaves a mark where it is imported."""
    file = folder.parent / "acting_idea.py"
    file.write_text(
        f"from pathlib import Path\nPath({str(folder.parent / 'acted')!r}).touch()\n"
        "from simulator.recipe import Replace\n"
        "def newest(key, t, pool):\n    return Replace()(key, t, pool)\n"
    )
    return file


CODE: dict[str, Callable[[Path], Any]] = {
    "a process": lambda mark: {"$type": "subprocess:Popen", "args": ["touch", str(mark)]},
    "a call": lambda mark: {"$partial": {"$name": "os:system"}, "args": [f"touch {mark}"], "keywords": {}},
    "a module of ours that holds another": lambda mark: {
        "$partial": {"$name": "simulator.running.store:os.system"}, "args": [f"touch {mark}"], "keywords": {},
    },
    "our importer": lambda mark: {
        "$partial": {"$name": "experiments.command.loading:load_module"},
        "args": [str(mark.parent / "acting_idea.py")],
        "keywords": {},
    },
    "our importer, wrapped": lambda mark: {
        "$partial": {"$partial": {"$name": "experiments.command.loading:load_module"}, "args": [], "keywords": {}},
        "args": [],
        "keywords": {"name": str(mark.parent / "acting_idea.py")},
    },
    "a maker of images": lambda mark: {"$type": "experiments.imagesets.stored:StoredRun", "path": ".", "trust": True},
    "a class that acts": lambda mark: {"$type": "simulator.running.store:Store", "path": str(mark)},
    "a file": lambda mark: {"$name": "acting_idea:newest"},
    "a pickle": lambda mark: {"$array": ["gASVHw=="], "dtype": "object"},
    "no name": lambda mark: {"$name": ["os", "system"]},
    "a name of nothing": lambda mark: {"$type": ":"},
    "many levels": lambda mark: json.loads('{"a":' * 400 + "1" + "}" * 400),
}  # fmt: skip


@pytest.mark.parametrize("make", CODE.values(), ids=CODE)
def test_nothing_a_run_names_is_run(make: Callable[[Path], Any], folder: Path, capsys: pytest.CaptureFixture[str]):
    file, mark = a_file_that_acts(folder), folder.parent / "acted"

    def change(about: dict[str, Any]) -> None:
        about["run"]["chain"]["recipe"] = make(mark)
        about["experiment"] = str(file)

    changed(folder, change)
    shutil.copytree(folder, "other")
    assert main(["show", "run"]) == 0 and main(["report", "run"]) == 0 and main(["compare", "run", "other"]) == 0
    assert main(["fork", "run", "--at", "0", "--out", "forked"]) == 2
    assert main(["export", "run", "--to", "exported"]) == 2
    assert main(["synthesize", "--pipeline", "run", "--count", "1", "--out", "made"]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("genloss: ")]
    assert len(said) == 3 and all(line.endswith(".") for line in said), said
    for way in (lambda: Store("run").chain(), lambda: spec.decode(make(mark)) and Store("run").chain()):
        with pytest.raises(GenlossError):
            way()
    assert not mark.exists() and "acting_idea" not in sys.modules
    assert not any(Path(name).exists() for name in ("forked", "exported", "made"))


def test_what_would_be_imported_is_said_and_imported_on_trust_only(folder: Path, capsys: pytest.CaptureFixture[str]):
    file, mark = a_file_that_acts(folder), folder.parent / "acted"

    def change(about: dict[str, Any]) -> None:
        about["run"]["chain"]["recipe"] = {"$name": "acting_idea:newest"}
        about["experiment"] = str(file)

    changed(folder, change)
    fork = ["fork", "run", "--at", "0", "--out"]
    assert main([*fork, "first"]) == 2 and not mark.exists()
    assert f"imports acting_idea ({file})" in capsys.readouterr().err
    assert main([*fork, "first", "--code", "acting_idea.py"]) == 0 and mark.exists()
    sys.modules.pop("acting_idea")
    assert main([*fork, "second", "--trust"]) == 0
    sys.modules.pop("acting_idea")

    # A file of one's own is trusted, and nothing else that the run names.
    changed(folder, lambda about: about["run"]["chain"]["probes"].update(other={"$name": "os:getcwd"}))
    assert main([*fork, "third", "--code", "acting_idea.py"]) == 2
    assert "imports os" in capsys.readouterr().err
    sys.modules.pop("acting_idea")


def test_a_report_computes_theory_on_trust(folder: Path, capsys: pytest.CaptureFixture[str]):
    (folder / "theory.json").unlink()
    assert main(["report", "run"]) == 0
    assert "no theory was kept with the run" in (folder / "report" / "index.html").read_text()
    assert main(["report", "run", "--trust"]) == 0
    assert (
        "theory, moments.variance" in (folder / "report" / "index.html").read_text()
        and (folder / "theory.json").exists()
    )


def test_runs_of_this_project_ask_for_nothing():
    """Every experiment whose data set is at hand is built again from what is stored of it."""
    seen = 0
    for name in files():
        try:
            chain = load_module(name).chain
        except GenlossError:  # a data set that is not here
            continue
        data = json.loads(json.dumps(spec.encode(chain)))
        assert isinstance(spec.decode(data), Chain) and spec.encode(spec.decode(data)) == data
        seen += 1
    assert seen > 5


def test_a_link_in_a_run_is_not_followed_by_a_report(folder: Path):
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "index.html").write_text("mine")
    (folder / "report").symlink_to(outside)
    with pytest.raises(GenlossError, match="links are not followed"):
        page.write(Store(folder))
    assert (outside / "index.html").read_text() == "mine" and len(list(outside.iterdir())) == 1
