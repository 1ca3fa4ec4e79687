"""An audit drawn: how rows score beside real ones, where the share was read, and what it was measured to cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from simulator.analysis.audit import Share, ratios
from simulator.report.figures import COLOURS
from simulator.report.names import in_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Lines = Mapping[str, tuple[Sequence[float], Sequence[float]]]  # name -> (ratios, points)


def drawn(share: Share | None, scores: Any, costs: Lines, names: tuple[str, str]) -> Figure:
    """Panels of scores, of the share read in ever more real rows (band: the interval), and of cost by share.

    `names` are those of the real set and of the set.  Without scores there is the last panel alone.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3.9) if share else (5, 3.9), layout="constrained")
    panels = figure.subplots(1, 3 if share else 1, squeeze=False)[0]
    if share is not None:
        _scores(panels[0], scores, names)
        _read(panels[1], share, scores)
    _costs(panels[-1], share, costs)
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8)
    return figure


def _scores(panel: Axes, scores: Any, names: tuple[str, str]) -> None:
    real, given = (np.concatenate(folds) for folds in scores)
    low, high = np.quantile(np.concatenate([real, given]), [0.001, 0.999])
    edges = np.linspace(low, high, 50)
    for values, name, colour in ((real, names[0], COLOURS[1]), (given, names[1], COLOURS[0])):
        weight = np.full(len(values), 1 / len(values))
        panel.hist(
            values, edges, weights=weight, histtype="stepfilled", alpha=0.45, color=colour, label=in_figure(name)
        )
    panel.set_xlabel("log-odds of being of the set, not real")
    panel.set_ylabel("share of rows")
    panel.legend(frameon=False, fontsize=8)


def _read(panel: Axes, share: Share, scores: Any) -> None:
    part, ratio, error = ratios(*scores)  # [parts] each
    from scipy.special import ndtri

    z = float(ndtri((1 + share.confidence) / 2))
    low, high = (100 * (1 - ratio * np.exp(sign * z * error)) for sign in (1, -1))
    panel.fill_between(100 * part, low, high, color=COLOURS[1], alpha=0.2, lw=0, label="each alone, its interval")
    panel.plot(100 * part, 100 * (1 - ratio), color=COLOURS[1], lw=1.6)
    panel.axvline(100 * share.part, color="0.4", lw=0.8, ls=":", label="where it is read")
    ends = f"[{100 * share.low:.1f}, {100 * share.high:.1f}]"
    answer = f"cannot tell {ends}" if share.value is None else f"{100 * share.value:.1f} % {ends}"
    panel.axhspan(100 * share.low, 100 * share.high, color=COLOURS[0], alpha=0.15, lw=0, label=answer)
    if share.value is not None:
        panel.axhline(100 * share.value, color=COLOURS[0], lw=1.2)
    panel.set_ylim(min(0, 100 * share.low) - 3, 103)
    panel.set_xlabel("real rows that look most real, %")
    panel.set_ylabel("generated, by the ratio there, %")
    panel.legend(frameon=False, fontsize=8)


def _costs(panel: Axes, share: Share | None, costs: Lines) -> None:
    for i, (name, (shares, points)) in enumerate(costs.items()):
        panel.plot(100 * np.array(shares), points, "o-", ms=3.5, color=COLOURS[(i + 1) % len(COLOURS)],
                   label=in_figure(name))  # fmt: skip
    if share is not None:
        panel.axvspan(100 * share.low, 100 * share.high, color=COLOURS[0], alpha=0.15, lw=0)
    panel.set_yscale("symlog", linthresh=10)
    panel.set_yticks([0, 2, 4, 6, 8, 10, 20, 50], ["0", "2", "4", "6", "8", "10", "20", "50"])
    panel.set_xlabel("rows that are generated, %")
    panel.set_ylabel("points of accuracy lost, as measured")
    panel.legend(frameon=False, fontsize=7)
