"""Pages that repeat what code knows, made from it when the site is built: `docs/made/`, which git ignores."""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import os
import pkgutil
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PACKAGES = ("simulator", "simulator.recipe", "simulator.probes", "simulator.theory", "generators", "generators.hub")
ROOMS = ("simulator.sources", "simulator.running", "simulator.analysis", "simulator.report", "simulator.numerics")


def pages() -> dict[str, str]:
    """Path below `docs/made/` -> text, of every page there is."""
    return {**measures(), **commands(), **experiments(), **interface()}


# Measures: the docstrings of probes, as `genloss list metrics` reads them.


def measures() -> dict[str, str]:
    from experiments.command.listing import metrics

    text = "# Every measure\n\nWhat `genloss list metrics` says, with the mathematics. "
    text += "Rows of a probe are its metrics: name, meaning, unit or range, direction, cost.\n"
    said = {
        node.name: ast.get_docstring(node) or ""
        for file in sorted((ROOT / "simulator" / "probes").glob("*.py"))
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.ClassDef)
    }
    for probe, rows in metrics().items():
        prose = [line for line in said[probe].splitlines() if line.count(" | ") != 4 and line != "Metrics:"]
        text += f"\n## {probe}\n\n{markdown(chr(10).join(prose).strip())}\n\n"
        text += table(["metric", "what it is", "unit or range", "direction", "cost"], [list(row) for row in rows])
    return {"measures.md": text}


# Commands: what each prints for --help.


def commands() -> dict[str, str]:
    from experiments.cli import COMMANDS

    text = f"# Every command\n\n```text\n{printed('--help')}```\n"
    for verb in COMMANDS:
        text += f"\n## genloss {verb}\n\n```text\n{printed(verb, '--help')}```\n"
    return {"commands.md": text}


def printed(*arguments: str) -> str:
    """What `genloss ARGUMENTS` prints at 80 columns."""
    from experiments.cli import main

    os.environ["COLUMNS"] = "80"
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        main(arguments)
    return said.getvalue()


# Experiments: docstring, figure, and what was measured.


INDEX = """# Every experiment

Question, paper, command, result and figure of each; tables are those that `genloss reproduce` last wrote.
"""


def experiments() -> dict[str, str]:
    from experiments.command import listing
    from experiments.command.loading import files

    measured, made, rooms = findings(), {}, {}
    for name, text in listing.experiments().items():
        asked, file = listing.described(text), files()[name].relative_to(ROOT)
        took = {words: listing.took(found) for words, found in listing.measured(name).items()}
        link = f"[{name}]({name}.md)"
        rooms.setdefault(file.parent.name, []).append([link, *asked, took.get("run", ""), took.get("reproduce", "")])
        page = f"# {name}\n\n**{asked.question}** {markdown(asked.paper)}\n\n"
        page += f"{markdown(text.partition(chr(10) * 2)[2])}\n"
        if (ROOT / "experiments" / "figures" / f"{name}.png").exists():
            page += f"\n![What `genloss` drew for {name}](../../../experiments/figures/{name}.png)\n"
        page += "\n## Measured\n\n"
        for words, found in listing.measured(name).items():
            verb, _, more = words.partition(" ")
            about = {key: value for key, value in found.items() if not key.endswith("seconds")}
            said = ", ".join(f"{value}" if key in ("on", "date") else f"{key} {value}" for key, value in about.items())
            page += f"- `{f'genloss {verb} {name} {more}'.strip()}`: {took[words]} ({said})\n"
        if name in measured:
            page += "\n" + table(["", "published", "theory", "ours ± one s.e.", ""], measured[name])
        made[f"experiments/{name}.md"] = f"{page}\n## The file\n\n```{{literalinclude}} ../../../{file}\n```\n"
    heads = ["experiment", "question", "paper", "run", "reproduce"]
    tables = [f"\n## {room.capitalize()}\n\n{table(heads, rows, plain=False)}" for room, rows in rooms.items()]
    contents = "\n```{toctree}\n:hidden:\n" + "\n".join(listing.experiments()) + "\n```\n"
    return {**made, "experiments/index.md": INDEX + "".join(tables) + contents}


def findings() -> dict[str, list[list[str]]]:
    """Experiment -> its rows of the table that `genloss reproduce` wrote."""
    found: dict[str, list[list[str]]] = {}
    name = ""
    for line in (ROOT / "experiments" / "figures" / "reproductions.md").read_text().splitlines()[2:]:
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        name = cells[0].partition(" (")[0] or name
        found.setdefault(name, []).append([cell.replace(r"\|", "|") for cell in cells[1:]])
    return found


# The interface: every public name.


def public(package: str) -> list[str]:
    """The public names of a package: `__all__`, or what it names for type checkers."""
    module = importlib.import_module(package)
    if hasattr(module, "__all__"):
        return list(module.__all__)
    tree = ast.parse(Path(str(module.__file__)).read_text())
    lazy = [node for node in tree.body if isinstance(node, ast.If)]
    return [a.asname or a.name for n in ast.walk(lazy[0]) if isinstance(n, ast.ImportFrom) for a in n.names]


def modules() -> list[str]:
    """The modules whose public functions and classes are documented where they are defined."""
    models = {name.lower() for name in public("generators")}
    found = ["simulator.abilities", "simulator.pool", "simulator.ring"]
    found += [f"generators.{name}" for name in within("generators") if name.replace("_", "") not in models]
    return found + [f"{room}.{name}" for room in ROOMS for name in within(room)]


def within(package: str) -> list[str]:
    """The modules of a package, without packages in it."""
    return [m.name for m in pkgutil.iter_modules(importlib.import_module(package).__path__) if not m.ispkg]


def interface() -> dict[str, str]:
    made = {}
    for package in PACKAGES:
        text = f"# {package}\n\n```{{eval-rst}}\n.. automodule:: {package}\n   :no-members:\n\n"
        for name in public(package):
            thing = getattr(importlib.import_module(package), name)
            kind = "autoclass" if isinstance(thing, type) else "autofunction" if callable(thing) else "autodata"
            text += f".. {kind}:: {package}.{name}\n"
            text += "   :members:\n\n" if kind == "autoclass" else "\n"
        made[f"api/{package}.md"] = text + "```\n"
    text = "# Rooms below\n\nWhat is public in the rooms behind those names, for whoever builds on them.\n"
    for module in modules():
        text += f"\n## {module}\n\n```{{eval-rst}}\n.. automodule:: {module}\n```\n"
    made["api/rooms.md"] = text
    names = "\n".join([*PACKAGES, "rooms"])
    made["api/index.md"] = f"# Every public name\n\n```{{toctree}}\n:maxdepth: 1\n{names}\n```\n"
    return made


# Text.


def markdown(text: str) -> str:
    """A docstring's text: what Markdown would take for a mark is escaped, lines set in by two stay lines."""
    made: list[str] = []
    for line in text.splitlines():
        parts = re.split(r"(`+[^`]*`+)", line)
        code, inset = line.startswith("    "), line[:2].isspace()
        if inset and not code and made and made[-1].endswith((";", ":", ".")):
            made[-1] += "\\"
        made.append(line if code else "".join(p if p[:1] == "`" else re.sub(r"([*_<$\[])", r"\\\1", p) for p in parts))
    return "\n".join(made)


def table(head: list[str], rows: list[list[str]], plain: bool = True) -> str:
    """A Markdown table; cells of plain text have their marks escaped."""
    cells = [[markdown(cell).replace("|", r"\|") if plain else cell for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *cells]) + "\n"


def write(app: Any, config: Any) -> None:
    """Writes the pages, those that changed, and removes what is no page any more."""
    folder, text = ROOT / "docs" / "made", pages()
    for name, page in text.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists() or file.read_text() != page:
            file.write_text(page)
    for file in set(folder.rglob("*.md")) - {folder / name for name in text}:
        file.unlink()


def setup(app: Any) -> dict[str, bool]:
    app.connect("config-inited", write)
    return {"parallel_read_safe": True}
