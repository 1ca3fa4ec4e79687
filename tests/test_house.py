"""The shape of the house: who imports whom, and what is needed to start."""

import ast
import re
import subprocess
import sys
import tomllib
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = {
    "simulator": {"generators", "experiments"},
    "generators": {"experiments"},
}
LAZY = (
    "tyro",
    "datasets",
    "diffusers",
    "matplotlib",
    "sklearn",
    "orbax",
    "pandas",
    "pyarrow",
    "torch",
    "msgspec",
    "tokenizers",
)


def imports(file: Path) -> set[str]:
    return of(ast.parse(file.read_text()))


def of(tree: ast.AST) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_the_arrow(room: str):
    for file in (ROOT / room).rglob("*.py"):
        wrong = {name for name in imports(file) if name.partition(".")[0] in ROOMS[room]}
        assert not wrong, f"{file} imports {wrong}"


# Rooms of the simulator from the ground up: each knows those before it, and itself.
FLOORS = [
    "errors",
    "disk",
    "numerics",
    "pool",
    "types",
    "abilities",
    "ring",
    "checks",
    "sources",
    "probes",
    "recipe",
    "chain",
    "running",
    "theory",
    "analysis",
    "report",
]


def modules(*rooms: str) -> dict[str, Path]:
    """Files by the names that they are imported under."""
    files = [file for room in rooms for file in (ROOT / room).rglob("*.py")]
    return {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def needs(name: str, known: dict[str, Path]) -> set[str]:
    """Modules that one imports, at its top or inside a function; what a type checker alone reads is not counted."""
    tree = ast.parse(known[name].read_text())
    typing = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    unread = {inner for node in typing for inner in ast.walk(node)}
    found: set[str] = set()
    for node in set(ast.walk(tree)) - unread:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inside & known.keys() or {node.module}
    return found & known.keys() - {name}


def test_the_arrow_inside_the_simulator():
    known = modules("simulator")
    for name in known.keys() - {"simulator"}:
        room = name.split(".")[1]
        above = FLOORS[FLOORS.index(room) + 1 :]  # a room that is none of them fails here
        wrong = {other for other in needs(name, known) if other == "simulator" or other.split(".")[1] in above}
        assert not wrong, f"{name} imports {wrong}"


def test_no_module_needs_itself():
    known = modules(*ROOMS, "experiments")
    known = {name: file for name, file in known.items() if not name.startswith("experiments.bench.")}
    graph = {name: needs(name, known) for name in known}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"a circle: {' <- '.join(error.args[1])}")


def test_a_file_is_read_in_one_sitting():
    long = {
        name: lines
        for name, file in modules(*ROOMS, "experiments").items()
        if (lines := file.read_text().count("\n")) > 400
    }
    assert not long


def test_no_generator_imports_another():
    named = imports(ROOT / "generators/__init__.py")  # the others are what they are made of
    generators = {name for name in named if name.startswith("generators.")}
    for file in (ROOT / "generators").rglob("*.py"):
        assert file.stem == "__init__" or not imports(file) & generators, file


def test_what_is_imported_is_declared():
    """At the top of a file as a dependency; inside a function, or in a benchmark, as one of an extra at least."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    needed, known = (
        {re.split(r"[^\w-]", line)[0].replace("-", "_") for line in lines}
        for lines in (project["dependencies"], [*project["dependencies"], *extras])
    )
    called = {
        "PIL": "pillow",
        "sklearn": "scikit_learn",
        "orbax": "orbax_checkpoint",
        "ot": "pot",
        "mlflow": "mlflow_skinny",
    }
    own = {"simulator", "generators", "experiments", *sys.stdlib_module_names}
    for file in [f for room in ("simulator", "generators", "experiments") for f in (ROOT / room).rglob("*.py")]:
        body = ast.parse(file.read_text()).body
        top = ast.Module([node for node in body if isinstance(node, ast.Import | ast.ImportFrom)], [])
        for names, declared in ((imports(file), known), (of(top), known if "bench" in file.parts else needed)):
            found = {called.get(name, name) for name in {n.partition(".")[0] for n in names} - own}
            assert found <= declared, f"{file} imports {found - declared}"


def test_one_file_knows_the_engines():
    known = modules(*ROOMS, "experiments")
    knows = {name for name, file in known.items() if imports(file) & {"ray", "submitit", "submitit.helpers"}}
    named = {name for name, file in known.items() if re.search(r"""['"](ray|submitit|slurm)['"]""", file.read_text())}
    assert knows | named == {"experiments.command.engines"}


def test_nothing_is_unpickled():
    for file in [f for room in ("simulator", "generators", "experiments") for f in (ROOT / room).rglob("*.py")]:
        assert not imports(file) & {"pickle", "cloudpickle", "dill", "joblib"}, file
        assert "allow_pickle" not in file.read_text()


def test_nothing_rare_is_drawn_by_floats_of_23_bits():
    """Tails are the subject: `selection.draw` and `chance.bernoulli` lose none."""
    for file in [f for room in ("simulator", "generators") for f in (ROOT / room).rglob("*.py")]:
        assert not re.search(r"random\.(categorical|bernoulli|choice)\(", file.read_text()), file


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_core_runs_without_the_heavy_packages():
    block = f"import sys\nfor name in {LAZY}: sys.modules[name] = None\n"
    code = block + (
        "import jax\n"
        "from simulator import Chain, Truth, simulate, ensemble, run\n"
        "from simulator.recipe import Mix\n"
        "from generators import Gaussian\n"
        "model = Gaussian(2)\n"
        "chain = Chain(source=Truth(model), generator=model, recipe=Mix(real=.5, size=10), real=10, rows=10)\n"
        "print(simulate(chain, jax.random.key(0), 3).t.tolist(), run(chain, jax.random.key(0), 2).t.tolist())"
    )
    assert python(code).strip() == "[0, 1, 2] [0, 1]"


def test_help_and_list_import_nothing_heavy():
    code = (
        "import sys\nfrom experiments.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "main(['list'])\n"
        f"print([n for n in ('jax', 'flax', 'numpy', *{LAZY}) if n in sys.modules])"
    )
    assert python(code).strip().endswith("[]")


def test_every_experiment_has_a_docstring_with_its_command_and_result_and_says_what_time_it_took():
    from experiments.command.listing import experiments, measured

    for name, text in experiments().items():
        assert f"genloss run {name}" in text and "Result" in text, name
        assert measured(name), name
        for command, found in measured(name).items():
            assert f"genloss {command.split()[0]} {name}" in text, f"{name} has a time of another command, {command}"
            assert found.get("seconds", found.get("cpu_seconds", 0)) > 0 and found["on"] and found["date"], name
