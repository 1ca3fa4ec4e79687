"""A plan drawn: what chains kept above the bound at each value, where they cross it, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from simulator.report.figures import COLOURS, dressed
from simulator.report.names import in_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from simulator.analysis.planner import Plan


def curve(plan: Plan, parts: int = 12) -> list[tuple[float, float, float, int]]:
    """(value, mean margin, its standard error, chains) of as many chains each, in the order of their values."""
    values, margins = plan.evaluated  # [n], [n]
    found = []
    for part in np.array_split(np.argsort(values, kind="stable"), parts):
        h = margins[part]
        found.append((float(values[part].mean()), float(h.mean()), float(h.std(ddof=1) / np.sqrt(len(h))), len(h)))
    return found


def drawn(plan: Plan, field: str) -> Figure:
    """Margins of chains (dots) and their means (± 1 standard error), the answer with its interval, and the law's."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import AutoLocator

    figure = Figure(figsize=(6.2, 3.8), layout="constrained")
    panel = figure.subplots()
    values, margins = plan.evaluated  # [n], [n]
    panel.plot(values, margins, ".", ms=2, color="0.75", zorder=1, label="one chain")
    at, mean, error, _ = np.array(curve(plan)).T
    panel.errorbar(at, mean, error, fmt="o", ms=4, color=COLOURS[1], zorder=3, label="mean ± standard error")
    panel.axhline(0, color="0.4", lw=0.8)
    answer = f"answer {plan.value:.3g}, {plan.confidence:.0%} interval"
    panel.axvspan(plan.low, plan.high, color=COLOURS[0], alpha=0.2, lw=0, zorder=0, label=answer)
    panel.axvline(plan.value, color=COLOURS[0], lw=1.2, zorder=2)
    if plan.law is not None:
        panel.axvline(plan.law, color="black", lw=1, ls="--", zorder=2, label=f"law {plan.law:.3g}")
    panel.set_ylim(*np.quantile(margins, [0.01, 0.99]) + 0.1 * np.ptp(margins) * np.array([-1, 1]))
    panel.set_xlabel(in_figure(field))
    panel.set_ylabel("above the bound")
    panel.set_title(in_figure(plan.keep), fontsize=10)
    panel.legend(frameon=False, fontsize=8)
    dressed(panel)
    panel.xaxis.set_major_locator(AutoLocator())
    return figure


def phases(plans: Mapping[float, Plan], field: str, beside: str) -> Figure:
    """Mean margins over two fields as a heat map, and the boundary with its interval at each value of the second."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.2, 4.2), layout="constrained")
    panel = figure.subplots()
    heights = np.array(list(plans))  # [values]
    edges = np.r_[heights[0], (heights[1:] + heights[:-1]) / 2, heights[-1]]
    span = np.ptp(heights) / max(1, len(heights) - 1) or 1.0
    edges[[0, -1]] += span / 2 * np.array([-1, 1])
    worst = max(np.abs([mean for plan in plans.values() for _, mean, _, _ in curve(plan)]))
    image = None
    for i, plan in enumerate(plans.values()):
        at, mean, _, _ = np.array(curve(plan, 16)).T
        low, high = plan.evaluated.values.min(), plan.evaluated.values.max()
        cells = np.r_[low, (at[1:] + at[:-1]) / 2, high]
        image = panel.pcolormesh(cells, edges[i : i + 2], mean[None], cmap="RdBu", vmin=-worst, vmax=worst)
    centre = np.array([plan.value for plan in plans.values()])
    reach = np.array([[p.value - p.low, p.high - p.value] for p in plans.values()]).T
    name = f"boundary, {next(iter(plans.values())).confidence:.0%} intervals"
    panel.errorbar(centre, heights, xerr=reach, fmt="o-", ms=4, color="black", lw=1, capsize=2, label=name)
    laws = np.array([np.nan if p.law is None else p.law for p in plans.values()])
    if np.isfinite(laws).any():
        panel.plot(laws, heights, "x--", ms=5, color=COLOURS[2], zorder=3, label="law")
    assert image is not None
    figure.colorbar(image, label="above the bound")
    panel.set_xlabel(in_figure(field))
    panel.set_ylabel(in_figure(beside))
    panel.set_yticks(heights)
    panel.set_title(in_figure(next(iter(plans.values())).keep), fontsize=10)
    panel.legend(frameon=False, fontsize=8)
    return figure
