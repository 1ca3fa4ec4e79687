"""Doctests of the three packages run when the site is built, unless notebooks are left out."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def doctests(app: Any) -> None:
    """Raises where an example in a docstring does not say what it says."""
    from sphinx.errors import ExtensionError

    if app.config.nb_execution_mode == "off":
        return
    failed = []
    for file in sorted(f for room in ("simulator", "generators") for f in (ROOT / room).rglob("*.py")):
        if ">>> " in file.read_text():
            name = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            if doctest.testmod(importlib.import_module(name)).failed:
                failed.append(name)
    if failed:
        raise ExtensionError(f"examples in docstrings fail, as printed above: {', '.join(failed)}")


def setup(app: Any) -> dict[str, bool]:
    app.connect("builder-inited", doctests)
    return {"parallel_read_safe": True}
