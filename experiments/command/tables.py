"""Tables as the commands print them: on a terminal as wide as it is, elsewhere plain and in full."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

GAP = 2  # between columns
LEAST, NAME = 24, 12  # as narrow as a column of prose, or of names, is made


@dataclass(frozen=True)
class Column:
    """The head of a column.

    Numbers are at the `right`.  Prose takes what the others leave: by words on several lines, or `cut` after a word.
    What is `spare` is left out of a terminal where there is no room for it.
    """

    name: str
    right: bool = False
    prose: bool = False
    cut: bool = False
    spare: bool = False


def show(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], title: str = "", console: Console | None = None
) -> None:
    """Prints the rows, a cell for each column; what others named is `plain` already (`simulator.report.names`)."""
    console = console or Console()
    chosen = list(range(len(columns)))
    widths = [max([cell_len(c.name), *(cell_len(row[i]) for row in rows)]) for i, c in enumerate(columns)]
    if console.is_terminal:
        least = [min(width, LEAST) if c.prose else width for c, width in zip(columns, widths, strict=True)]
        for i in reversed(range(len(columns))):
            if columns[i].spare and sum(least[j] + GAP for j in chosen) - GAP > console.width:
                chosen.remove(i)
        widths = _fitted(columns, widths, chosen, console.width)
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for i in chosen:
        justify = "right" if columns[i].right else "left"
        table.add_column(Text(columns[i].name), justify=justify, width=widths[i], overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cut(row[i], widths[i]) if columns[i].cut else row[i]) for i in chosen))
    wide = max(sum(widths[i] + GAP for i in chosen), console.width)
    if title:
        console.print(Text(title, style="italic"), soft_wrap=not console.is_terminal)
    for line in console.render_lines(table, console.options.update(width=wide), pad=False):
        text = Text.assemble(*((part.text, part.style or "") for part in line))
        text.rstrip()
        console.print(text, soft_wrap=True, highlight=False)


def _fitted(columns: Sequence[Column], natural: Sequence[int], chosen: Sequence[int], most: int) -> list[int]:
    """Widths that together fit: prose shares what the others leave; then the widest names give way, never numbers."""
    widths = list(natural)

    def over() -> int:
        return sum(widths[i] + GAP for i in chosen) - GAP - most

    prose, names = ([i for i in chosen if not columns[i].right and columns[i].prose is kind] for kind in (True, False))
    for some, least in ((prose, LEAST), (names, NAME), (prose, NAME)):
        while over() > 0 and (wider := [i for i in some if widths[i] > least]):
            widths[max(wider, key=lambda i: widths[i])] -= 1
    return widths


def _cut(text: str, width: int) -> str:
    """On one line, after a whole word."""
    if cell_len(text) <= width:
        return text
    kept = ""
    for word in text.split():
        if cell_len(f"{kept} {word} …".strip()) > width:
            break
        kept = f"{kept} {word}".strip()
    return f"{kept} …".strip()
