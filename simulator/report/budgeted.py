"""A budget drawn: what each schedule spends in each generation, and what comes of it."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from simulator.report.figures import COLOURS, dressed
from simulator.report.names import in_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from simulator.analysis.budget import Spending


def runs(amounts: np.ndarray) -> str:
    """What generations 1, 2, ... are given, alike neighbours as one: "0 ×5, 3, 4 ×2".

    >>> runs(np.array([0, 0, 3, 4, 4]))
    '0 ×2, 3, 4 ×2'
    """
    alike = [(name, len(list(some))) for name, some in groupby(f"{amount:.3g}" for amount in amounts)]
    return ", ".join(name if many == 1 else f"{name} ×{many}" for name, many in alike)


def drawn(spending: Spending, field: str) -> Figure:
    """Left the schedules; right the measure under each: the law as a line, means over held-out chains as dots.

    Bars are 2 standard errors; where there is no law the line joins the means.  The worst of each is ringed.  Schedules
    that are the same are one line, and amounts beyond twice the even one are drawn on a logarithm.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    alike: dict[bytes, list[str]] = {}  # amounts -> names
    for name, found in spending.outcomes.items():
        alike.setdefault(found.amounts.tobytes(), []).append(name)
    for i, names in enumerate(alike.values()):
        first, found = i == 0, spending.outcomes[names[0]]
        look = {"color": COLOURS[i % len(COLOURS)], "lw": 2.4 if first else 1.2, "zorder": 4 if first else 2}
        label = in_figure(", ".join(names))
        left.step(np.arange(1, len(found.amounts) + 1), found.amounts, where="mid", label=label, **look)
        t = np.arange(len(found.mean))
        line = found.mean if found.law is None else found.law
        right.plot(t, line, **look)
        shift = (i - len(alike) / 2) * 0.08  # side by side, where bars would hide each other
        right.errorbar(t + shift, found.mean, 2 * found.error, fmt=".", ms=3, lw=0.7, color=look["color"])
        right.plot(found.worst, line[found.worst], "o", ms=8, mfc="none", mew=1.2, color=look["color"], zorder=5)
    even = np.mean([found.amounts for found in spending.outcomes.values()])
    left.set_yscale("asinh", linear_width=2 * even)
    left.yaxis.set_major_formatter("{x:g}")
    unit = "real rows" if spending.counts else in_figure(field)
    left.set_ylabel(f"{unit} in the generation, {spending.budget:g} in all")
    right.set_ylabel(in_figure(spending.measure))
    best = "the worst generation of each is ringed"
    right.set_title(best, fontsize=10)
    left.set_title(in_figure(field), fontsize=10)
    for panel in (left, right):
        dressed(panel)
        panel.set_xlabel("generation", fontsize=9)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure
