"""A forecast drawn: what was seen, what is believed of later generations, and when the bound is missed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from simulator.report.figures import COLOURS, dressed
from simulator.report.names import in_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from simulator.analysis.forecast import Forecast


def drawn(found: Mapping[str, Forecast], seen: Mapping[str, np.ndarray], columns: int = 3) -> Figure:
    """A panel a setting, and below it the probability that the bound is missed by each generation, where there is one.

    `seen` is all that the records hold, [replicates, generations]: what came after a forecast was made is drawn in
    circles, and was not used.  Means are thick, replicates thin.
    """
    from matplotlib.figure import Figure

    lines = -(-len(found) // columns)
    columns = -(-len(found) // lines)  # lines as full as each other
    bounded = next(iter(found.values())).keep is not None
    heights = [3, 1] if bounded else [1]
    figure = Figure(figsize=(4.6 * columns, (4.3 if bounded else 3.2) * lines + 0.4), layout="constrained")
    panels = figure.subplots(len(heights) * lines, columns, squeeze=False, height_ratios=heights * lines)
    for panel in panels.ravel():
        panel.axis("off")
    for i, (setting, one) in enumerate(found.items()):
        above = panels[len(heights) * (i // columns), i % columns]
        above.axis("on")
        _curve(above, one, seen[setting])
        above.set_title(in_figure(f"{setting}: {one.metric}" if len(found) > 1 else one.metric), fontsize=10)
        lowest = above
        if one.keep is not None:
            lowest = panels[len(heights) * (i // columns) + 1, i % columns]
            lowest.axis("on")
            _crossing(lowest, one)
            lowest.set_xlim(above.get_xlim())
            above.tick_params(labelbottom=False)
        lowest.set_xlabel("generation", fontsize=9)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure


def _curve(panel: Axes, one: Forecast, seen: np.ndarray) -> None:
    known = len(one.past)
    t = one.begin + np.arange(max(seen.shape[1], known + len(one.low)))
    for i, own in enumerate(seen if len(seen) > 1 else ()):
        panel.plot(t[:known], own[:known], color="0.75", lw=0.7, label=None if i else "a replicate")
    panel.plot(t[:known], one.past, color="black", lw=1.8, marker="o", ms=2.5, label="seen, mean over replicates")
    later = t[known : known + len(one.low)]
    joined = np.r_[t[known - 1], later]
    low, middle, high = (np.r_[one.past[-1], part] for part in (one.low, one.median, one.high))
    colour = COLOURS[1]
    panel.fill_between(joined, low, high, color=colour, alpha=0.2, lw=0, label=f"{one.confidence:.0%} interval")
    panel.plot(joined, middle, color=colour, lw=1.8, label="forecast")
    if seen.shape[1] > known:
        came = seen[:, known : known + len(one.low)].mean(0)
        panel.plot(t[known : known + len(came)], came, "o", mfc="none", color="black", ms=3.5, lw=0, label="what came")
    if one.level is not None:
        panel.plot(later, one.level, color=COLOURS[0], lw=1.2, ls="--", label="bound")
    dressed(panel)


def _crossing(panel: Axes, one: Forecast) -> None:
    assert one.first_missed is not None and one.crossing is not None
    t = one.begin + len(one.past) + np.arange(len(one.low))
    by = (one.first_missed <= t[:, None]).mean(-1)  # [later]
    panel.fill_between(t, by, step="mid", color=COLOURS[0], alpha=0.4, lw=0)
    panel.set_ylim(0, 1)
    panel.set_ylabel("missed by then", fontsize=8)
    dressed(panel)
