"""Names of settings, metrics, classes and folders, which may hold anything, as each medium is to show them."""

from __future__ import annotations

import html
from typing import Any


def plain(name: Any) -> str:
    """One line without control characters, which could move a terminal's cursor or change its title."""
    return "".join(c if c.isprintable() else "�" for c in str(name))


def on_terminal(name: Any) -> Any:
    """A rich `Text`, in which brackets are brackets."""
    from rich.text import Text

    return Text(plain(name))


def in_figure(name: Any, most: int = 80) -> str:
    """Text for matplotlib: a dollar is no formula, a name that begins with _ is in the legend, none fills the page."""
    text = plain(name)
    text = text if len(text) <= most else text[: most - 1] + "…"
    return (" " if text.startswith("_") else "") + text.replace("$", r"\$")


def in_page(name: Any) -> str:
    """Text for HTML."""
    return html.escape(plain(name))


_TEX = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def in_tex(name: Any) -> str:
    """Text for LaTeX."""
    return "".join(_TEX.get(c, c) for c in plain(name))


def in_pre(text: str, most: int = 2_000) -> str:
    """Text of several lines for a <pre> of HTML."""
    return "\n".join(map(in_page, text[:most].split("\n"))) + "…" * (len(text) > most)
