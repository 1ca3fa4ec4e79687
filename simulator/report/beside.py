"""Runs beside each other: what decays in each, and below it the difference to the first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from simulator.analysis.compare import Pair, mean
from simulator.report.figures import COLOURS, HEADLINES, dressed, scaled
from simulator.report.names import in_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINES = ("-", "--", "-.", ":")  # of the settings of the first run


def drawn(pairs: Sequence[Pair], differences: Any, level: float = 0.95, columns: int = 3) -> Figure:
    """Two panels for each metric of `differences` (`simulator.analysis.compare`): means of each run, and differences.

    Bands are confidence intervals at the level, over replicates.  The first run is black, with a kind of line for each
    of its settings; a difference has the colour of its run and the line of what it is a difference to.
    """
    from matplotlib.figure import Figure

    metrics = list(dict.fromkeys(differences["metric"]))
    columns = min(columns, len(metrics))
    lines = -(-len(metrics) // columns)
    figure = Figure(figsize=(4.1 * columns, 4.4 * lines + 0.5), layout="constrained")
    panels = figure.subplots(2 * lines, columns, squeeze=False, height_ratios=[3, 2] * lines)
    looks = _looks(pairs)
    for i in range(lines * columns):
        above, below = (panels[2 * (i // columns) + j, i % columns] for j in (0, 1))
        if i >= len(metrics):
            above.axis("off")
            below.axis("off")
            continue
        for (run, setting), look in looks.items():
            values = run.values(setting, metrics[i])
            _curve(above, values.columns, *mean(values.to_numpy().T, level), look)
        scaled(above)
        below.axhline(0, color="0.6", lw=0.8)
        rows = differences[differences["metric"] == metrics[i]]
        for pair in pairs:
            found = rows[(rows["run"] == pair.run.name) & (rows["setting"] == pair.called)]
            look = looks[pair.run, pair.setting] | {"ls": looks[pair.reference, pair.reference_setting]["ls"]}
            _curve(below, found["generation"], found["difference"], found["low"], found["high"], look)
        above.set_title(in_figure(HEADLINES.get(metrics[i], metrics[i])), fontsize=10)
        below.set_xlabel("generation", fontsize=9)
        below.set_ylabel("difference", fontsize=8)
        below.set_xlim(above.get_xlim())
        dressed(above)
        dressed(below)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    place: dict[str, Any] = {"loc": "outside lower center", "ncols": min(2 * columns, len(labels)), "handlelength": 3}
    figure.legend(handles, labels, frameon=False, fontsize=9, **place)
    return figure


def _looks(pairs: Sequence[Pair]) -> dict[Any, dict[str, Any]]:
    """How each run is drawn in each of its settings."""
    *colours, black = COLOURS
    looks: dict[Any, dict[str, Any]] = {}
    for i, setting in enumerate(dict.fromkeys(pair.reference_setting for pair in pairs)):
        looks[pairs[0].reference, setting] = {"color": black, "ls": LINES[i % len(LINES)]}
    others = dict.fromkeys((pair.run, pair.setting) for pair in pairs)
    for pair in pairs:
        at = list(others).index((pair.run, pair.setting))
        line = looks[pair.reference, pair.reference_setting]["ls"]
        looks.setdefault((pair.run, pair.setting), {"color": colours[at % len(colours)], "ls": line})
    for (run, setting), look in looks.items():
        look["label"] = in_figure(f"{run.name}: {setting}" if len(run.settings) > 1 else run.name)
    return looks


def _curve(panel: Axes, t: Any, middle: Any, low: Any, high: Any, look: dict[str, Any]) -> None:
    panel.plot(t, middle, lw=1.8, marker="o", ms=2.5, **look)
    if np.isfinite(low).any():
        panel.fill_between(t, low, high, color=look["color"], alpha=0.2, lw=0)
