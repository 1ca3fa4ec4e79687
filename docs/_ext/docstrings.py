"""Docstrings of the house are plain text; here they become reST, and fields of dataclasses a table of their own."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from typing import Any


def plain(lines: list[str]) -> list[str]:
    """Text with its marks escaped, what is in backticks as code, indented lines as they are, metrics as a table."""
    text = re.sub(r"`[^`]*`", lambda code: " ".join(code[0].split("\n")), "\n".join(lines))  # code on one line
    made: list[str] = []
    before = ""
    for line in text.split("\n"):
        kind = _kind(line, before)
        if kind != before:
            made += {"cell": ["", ".. list-table::", "   :widths: auto", ""], "code": ["", "::", ""]}.get(kind, [""])
        if kind == "cell":
            first, *others = (marked(cell.strip()) for cell in line.split(" | "))
            made += [f"   * - {first}", *(f"     - {cell}" for cell in others)]
        else:
            goes_on = before == "line" and not made[-1].endswith((";", ":", "."))
            inset = f"{' ' if goes_on else '|'} {marked(line.strip())}" if kind == "line" else marked(line)
            made.append(line if kind in ("code", "example") else inset)
        before = kind
    return made


def _kind(line: str, before: str) -> str:
    """What a line is, knowing what the one before it was."""
    if not line.strip():
        return before if before == "code" else ""
    if line.startswith(">>> ") or before == "example":  # up to an empty line
        return "example"
    if line.count(" | ") == 4:
        return "cell"
    return "code" if line[:4].isspace() else "line" if line[:2].isspace() else ""


def marked(line: str) -> str:
    """A line of text, in which only backticks mean something."""
    parts = re.split(r"(`[^`]*`)", re.sub(r"`+", "`", line))
    made = "".join(f"\\ ``{p[1:-1]}``\\ " if p[:1] == "`" else re.sub(r"([\\*|_])", r"\\\1", p) for p in parts)
    return re.sub(r"\\ (?=[\s.,;:)]|$)|(?<=[\s(])\\ |^\\ ", "", made)  # code need not be parted from what parts it


def fields(cls: type) -> list[str]:
    """The fields of a dataclass or named tuple, with their types, defaults and the comments beside them, as reST."""
    comments: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        try:
            source = inspect.getsource(base)
        except (OSError, TypeError):
            continue
        comments |= dict(re.findall(r"^ {4}(\w+): .*?  # (.+)$", source, re.MULTILINE))
    if dataclasses.is_dataclass(cls):
        of = {f.name: (f.type, f.default) for f in dataclasses.fields(cls)}
    else:
        defaults = getattr(cls, "_field_defaults", {})
        of = {name: (cls.__annotations__.get(name), defaults.get(name, dataclasses.MISSING)) for name in cls._fields}
    rows = ["", ".. list-table::", "   :widths: auto", "   :header-rows: 1", ""]
    rows += ["   * - field", "     - type", "     - default", "     - meaning"]
    for name, (kind, default) in of.items():
        said = kind if isinstance(kind, str) else getattr(kind, "__name__", str(kind))
        value = "" if default is dataclasses.MISSING else f"``{default!r}``"
        value = re.sub(r" at 0x\w+", "", value) if len(value) < 60 else "(see the source)"
        rows += [
            f"   * - ``{name}``",
            f"     - ``{said}``",
            f"     - {value}",
            f"     - {marked(comments.get(name, ''))}",
        ]
    return rows if of else []


def processed(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """For `autodoc-process-docstring`."""
    generated = isinstance(thing, type) and lines and lines[0].startswith(f"{thing.__name__}(")
    lines[:] = [] if generated or lines[:1] == ["Create new instance"] else plain(lines)
    if what == "class" and (dataclasses.is_dataclass(thing) or hasattr(thing, "_fields")):
        lines += fields(typing.cast(type, thing))


def signed(app: Any, what: str, name: str, thing: Any, options: Any, said: str | None, gives: str | None) -> Any:
    """For `autodoc-process-signature`: types of fields are in the table of fields already."""
    if what != "class" or not dataclasses.is_dataclass(thing):
        return None
    signature = inspect.signature(typing.cast(type, thing))
    bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    text = str(signature.replace(parameters=bare, return_annotation=signature.empty))
    return re.sub(r"<function (\w+)[^>]*>|<factory>", lambda found: found[1] or "...", text), None


def skipped(app: Any, what: str, name: str, thing: Any, skip: bool, options: Any) -> bool | None:
    """For `autodoc-skip-member`: fields of named tuples are in the table of fields already."""
    return True if type(thing).__name__ == "_tuplegetter" else None


def setup(app: Any) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", processed)
    app.connect("autodoc-process-signature", signed)
    app.connect("autodoc-skip-member", skipped)
    return {"parallel_read_safe": True}
