"""A league drawn: what each entry gains over the baseline, and the chance of each of its ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from simulator.report.figures import COLOURS
from simulator.report.names import in_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from simulator.analysis.league import Standing

BETTER, WORSE, UNSURE = COLOURS[3], COLOURS[0], "0.45"


def drawn(worlds: Mapping[str, Sequence[Standing]], judged: Mapping[str, tuple[str, str]]) -> Figure:
    """A line of two panels a world: differences to the baseline with their intervals, and chances of ranks.

    `judged` says of each world its measure and whether "higher" or "lower" is better.  Entries are in the order of
    their means; those whose interval is on one side of 0 are coloured.  What is not finite is left out of the first,
    whose axis is linear up to the median size of a difference and logarithmic beyond where one is 20 times as large.
    """
    from matplotlib.figure import Figure

    heights = [0.24 * len(standings) + 0.9 for standings in worlds.values()]
    figure = Figure(figsize=(9.6, sum(heights)), layout="constrained")
    panels = figure.subplots(len(worlds), 2, squeeze=False, height_ratios=heights, width_ratios=[3, 2])
    for (left, right), (name, standings) in zip(panels, worlds.items(), strict=True):
        metric, better = judged[name]
        y = np.arange(len(standings))
        sign = 1 if better == "higher" else -1
        for i, s in enumerate(standings):
            gains = sorted((sign * s.low, sign * s.high))
            colour = BETTER if gains[0] > 0 else WORSE if gains[1] < 0 else UNSURE
            if np.isfinite([s.low, s.high]).all():
                left.plot([s.low, s.high], [i, i], color=colour, lw=2)
                left.plot([s.difference], [i], "o", ms=4, color=colour)
        sizes = np.abs([s.difference for s in standings if np.isfinite(s.difference) and s.difference])
        if len(sizes) and sizes.max() > 20 * np.median(sizes):
            left.set_xscale("symlog", linthresh=float(np.median(sizes)))
        left.axvline(0, color="0.6", lw=0.8)
        left.set_yticks(y, [in_figure(s.entry, 40) for s in standings], fontsize=8)
        left.set_ylim(len(standings) - 0.5, -0.5)
        left.set_title(in_figure(f"{name}: {metric}, {better} is better"), fontsize=10, loc="left")
        left.set_xlabel("difference to the baseline, 95 % interval", fontsize=9)
        left.spines[["top", "right"]].set_visible(False)
        chances = np.array([s.ranks for s in standings])  # [entries, ranks]
        right.imshow(chances, cmap="Greys", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        right.set_yticks([])
        right.set_xticks(y[:: 1 if len(y) < 12 else 2], (y + 1)[:: 1 if len(y) < 12 else 2])
        right.set_xlabel("rank, chance of it (black: 1)", fontsize=9)
        for panel in (left, right):
            panel.tick_params(labelsize=8)
    return figure
