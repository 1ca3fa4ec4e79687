"""Figures for papers: as wide as a column, fonts in the file, lines told apart by colour, dashes and marks.

runs = [Run("mine", store.about(), store.records())]
with matplotlib.rc_context(paper.style()):
    figure = paper.drawn(paper.lines(runs), ["fidelity.recall"], width=84 / 25.4)
    data = figures.rendered(figure, "pdf")
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from simulator.analysis.compare import Run, mean
from simulator.report.figures import HEADLINES, scaled
from simulator.report.names import in_figure
from simulator.types import GenlossError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from simulator.theory import Overlay

# Told apart with colour-blind eyes (Okabe and Ito 2008, "Color universal design"), the light yellow left out.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
DASHES = ("-", "--", "-.")
MARKS = ("o", "s", "^", "D", "v")
LAW: dict[str, Any] = {"lw": 0.9, "ls": (0, (1, 1)), "marker": "", "zorder": 3}  # of theory
REAL: dict[str, Any] = {"lw": 0.8, "color": "0.55", "zorder": 1}  # of real rows
LEAST = 1.5  # inches of a panel, below which there is one less beside it
ASPECT = 0.72  # of a panel: height by width
LETTER = 0.55  # of a font's size: the width of a letter
LARGEST = 2**16  # bytes of a style

# What a style may set: how things look, and nothing that names a file, a program or code.
_MAY = re.compile(
    r"(axes|errorbar|font|grid|hatch|legend|lines|markers|mathtext|patch|[xy]tick)\..+|text\.(color|hinting.*|anti.*)"
    r"|figure\.(dpi|edgecolor|facecolor|frameon|labelsize|labelweight|titlesize|titleweight|constrained_layout\..+)"
    r"|savefig\.(dpi|facecolor|edgecolor|transparent)|(pdf|ps|svg)\.fonttype"
)


class Line(NamedTuple):
    """A line of every panel: what a run measured in one of its settings."""

    label: str
    run: Run
    setting: str
    law: Overlay | None = None
    ceiling: Mapping[str, float] = {}  # what the probes say of real rows, by metric


def lines(
    runs: Sequence[Run],
    laws: Sequence[Mapping[str, Overlay]] = (),
    ceilings: Sequence[Mapping[str, float]] = (),
    labels: Sequence[str] = (),
) -> list[Line]:
    """A line for each setting of each run, called by what tells it apart, or as `labels` say, in their order.

    `laws` (`simulator.theory.kept`) and `ceilings` (`Store.ceiling`) are those of each run.
    """
    found = []
    for run, law, ceiling in itertools.zip_longest(runs, laws, ceilings, fillvalue={}):
        assert isinstance(run, Run)
        for setting in run.settings:
            named = setting if len(runs) == 1 else f"{run.name}: {setting}" if len(run.settings) > 1 else run.name
            found.append(Line(named, run, setting, law.get(setting), ceiling))
    if labels and len(labels) != len(found):
        raise GenlossError(
            f"{len(labels)} labels were given for {len(found)} lines: {', '.join(line.label for line in found)}."
        )
    if len(set(labels)) < len(labels):
        raise GenlossError("Two lines would be called the same; give each a label of its own.")
    return [line._replace(label=label) for line, label in zip(found, labels, strict=True)] if labels else found


def style(file: Path | None = None) -> dict[Any, Any]:
    """matplotlib's parameters of such a figure, for `matplotlib.rc_context`; those of a .mplstyle file stand over them.

    Raises `GenlossError` where the file sets anything but how things look: what names a file, a program or code.
    """
    from matplotlib.rcsetup import cycler

    n = len(COLOURS) * len(DASHES) * len(MARKS)  # whose lengths have no common divisor
    parts = {"color": COLOURS, "linestyle": DASHES, "marker": MARKS}
    looks: Any = cycler(**{name: [some[i % len(some)] for i in range(n)] for name, some in parts.items()})
    widths = dict.fromkeys((f"{axis}tick.{kind}.width" for axis in "xy" for kind in ("major", "minor")), 0.5)
    sizes = dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), 7.0)
    own = {
        "axes.prop_cycle": looks,
        "axes.linewidth": 0.5,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlelocation": "left",
        "legend.frameon": False,
        "legend.columnspacing": 1.2,
        "legend.handlelength": 2.8,
        "lines.linewidth": 1.0,
        "lines.markersize": 3.0,
        "pdf.fonttype": 42,
        "ps.fonttype": 42,
        "savefig.bbox": None,  # as wide as asked for, whatever is in it
        "svg.hashsalt": "genloss",
        "text.usetex": False,
        **dict.fromkeys(("font.size", "axes.labelsize", "axes.titlesize"), 8.0),
        **sizes,
        **widths,
    }
    return own if file is None else own | _read(file)


def drawn(
    lines: Sequence[Line],
    metrics: Sequence[str],
    width: float = 84 / 25.4,
    height: float | None = None,
    level: float = 0.95,
) -> Figure:
    """A panel a metric, `width` inches all of them: means of each line, bands their intervals at the level.

    Intervals are Student's t over replicates, each generation by itself; one replicate has none.  Theory is dotted, in
    the darker colour of its line, and the value of real rows a thin grey line.  Call it, and save the figure, within
    `matplotlib.rc_context(style())`.  `height` is what panels of a common shape need where it is not given.
    """
    import matplotlib
    from matplotlib.figure import Figure

    size = matplotlib.rcParams["legend.fontsize"], matplotlib.rcParams["axes.titlesize"]
    legend, title = (each if isinstance(each, float | int) else matplotlib.rcParams["font.size"] for each in size)
    columns = max(1, min(len(metrics), int(width / LEAST)))
    rows = -(-len(metrics) // columns)
    columns = -(-len(metrics) // rows)
    letters = max(8, int(width / columns * 72 / (LETTER * title)) - 5)  # of a title, beside the axis's numbers
    titles = [_wrapped(_title(i, metric, len(metrics)), letters) for i, metric in enumerate(metrics)]
    most = int(width * 72 / (LETTER * legend)) - 8  # letters of a label, whose line takes some
    labels = [in_figure(line.label, max(8, most)) for line in lines]
    named = max(map(len, [*labels, "theory", "real rows"]))
    across = max(1, int(width * 72 / (legend * (LETTER * named + 5))))
    below = -(-(len(labels) + 2) // across) * 1.5 * legend / 72
    above = max(text.count("\n") + 1 for text in titles) * 1.3 * title / 72
    needed = rows * (ASPECT * width / columns + above) + below
    figure = Figure(figsize=(width, height or needed), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    handles: dict[str, Any] = {}
    for panel, metric, text in zip(panels, metrics, titles, strict=False):
        handles |= _panel(panel, lines, labels, metric, level)
        panel.set_title(text)
    for i, panel in enumerate(panels):
        if i >= len(metrics):
            panel.axis("off")
        elif i + columns >= len(metrics):  # nothing is below it
            panel.set_xlabel("generation")
    if len(handles) > 1:
        figure.legend(handles.values(), handles, loc="outside lower center", ncols=min(across, len(handles)))
    return figure


def caption(lines: Sequence[Line], metrics: Sequence[str], level: float = 0.95) -> str:
    """What is drawn, as a sentence to put below it."""
    counts = sorted({line.run.records["replicate"].nunique() for line in lines})
    said = f"Means over {' to '.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} replicates"
    if counts == [1]:
        said = "One replicate, so without intervals"
    elif counts[-1] > 1:
        said += f"; bands are their {100 * level:g} % intervals by Student's t, each generation by itself"
    if any(line.law and metric in line.law.curves for line in lines for metric in metrics):
        said += "; dotted: theory"
    if any(np.isfinite(line.ceiling.get(metric, np.nan)) for line in lines for metric in metrics):
        said += "; grey: real rows against held-out real ones"
    return f"{said}."


def _panel(panel: Axes, lines: Sequence[Line], labels: Sequence[str], metric: str, level: float) -> dict[str, Any]:
    """Draws a panel; its lines by what they are called."""
    import matplotlib
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    handles: dict[str, Any] = {}
    later: dict[str, Any] = {}
    looks = itertools.cycle(matplotlib.rcParams["axes.prop_cycle"])
    for i, (line, label, look) in enumerate(zip(lines, labels, looks, strict=False)):
        values = line.run.values(line.setting, metric)  # [replicates, generations]
        t = values.columns.to_numpy()
        with np.errstate(invalid="ignore"):  # what is not finite has no interval
            middle, low, high = mean(values.to_numpy().T, level)  # [generations] each
        apart = max(1, len(t) // 6)  # generations between marks, which begin at different ones
        (handles[label],) = panel.plot(t, middle, markevery=(i * apart // len(lines), apart), **look)
        colour = handles[label].get_color()
        if np.isfinite(low).any():
            panel.fill_between(t, low, high, color=colour, alpha=0.2, lw=0)
        if line.law is not None and metric in line.law.curves:
            law = line.law.curves[metric][: len(t)]  # which may be shorter
            panel.plot(t[: len(law)], law, color=_darker(colour), **LAW)
            later["theory"] = Line2D([], [], color="0.2", **LAW)
    levels = dict.fromkeys(line.ceiling.get(metric, np.nan) for line in lines)
    scaled(panel)
    for value in levels:
        if np.isfinite(value) and (panel.get_yscale() == "linear" or value > 0):
            later["real rows"] = panel.axhline(value, **REAL)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5, steps=[1, 2, 5, 10]))
    return handles | later


def _darker(colour: Any) -> tuple[float, ...]:
    from matplotlib.colors import to_rgb

    return tuple(0.6 * part for part in to_rgb(colour))


def _title(i: int, metric: str, count: int) -> str:
    """What a panel shows, with its letter where there are several."""
    name = in_figure(HEADLINES.get(metric, metric))
    return f"({chr(ord('a') + i)}) {name}" if 1 < count <= 26 else name


def _wrapped(text: str, letters: int) -> str:
    """On lines of so many letters where blanks and dots allow it."""
    found = [""]
    for part in re.findall(r"[^ .]*[ .]?", text):
        if len(found[-1]) + len(part.rstrip()) > letters and found[-1]:
            found.append("")
        found[-1] += part
    return "\n".join(line.rstrip() for line in found)


def _read(file: Path) -> dict[str, Any]:
    """The parameters that a file of style sets."""
    import matplotlib

    try:
        text = file.read_text("utf-8") if file.is_file() and file.stat().st_size <= LARGEST else None
    except (OSError, ValueError) as error:
        raise GenlossError(f"{file} cannot be read ({getattr(error, 'strerror', 'it is not UTF-8')}).") from None
    if text is None:
        raise GenlossError(f"{file} is no file of style; give one of matplotlib's, of lines such as 'font.size: 8'.")
    for number, line in enumerate(text.splitlines(), 1):
        if not line.partition("#")[0].strip():
            continue
        name, colon, value = (part.strip() for part in line.partition(":"))
        if not colon or name not in matplotlib.rcParams:
            raise GenlossError(f"Line {number} of {file} sets nothing that matplotlib knows; write 'font.size: 8'.")
        if not _MAY.fullmatch(name) or (name == "axes.prop_cycle" and not _is_cycle(value)):
            raise GenlossError(f"{file} sets {name}, and a style may say how things look alone; leave that line out.")
    try:
        found = matplotlib.rc_params_from_file(file, fail_on_error=True, use_default_template=False)
    except Exception as error:
        raise GenlossError(
            f"{file} has a value that matplotlib does not take ({str(error).splitlines()[0]})."
        ) from None
    return {name: value for name, value in found.items() if _MAY.fullmatch(name)}


def _is_cycle(value: str) -> bool:
    """Whether it is calls of `cycler` with plain values, which older versions of matplotlib evaluate."""
    plain = (
        ast.Expression | ast.BinOp | ast.Add | ast.Call | ast.keyword | ast.Constant | ast.List | ast.Tuple | ast.Load
    )
    try:
        nodes = list(ast.walk(ast.parse(value, mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return all(node.id == "cycler" if isinstance(node, ast.Name) else isinstance(node, plain) for node in nodes)
