"""A scaling law drawn: errors over sizes, shares and generations, the surface through them, and what it foretold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simulator.report.figures import COLOURS, dressed
from simulator.report.names import in_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from simulator.analysis.scaling import Scaling


def drawn(found: Scaling, size: str, share: str | None) -> Figure:
    """Errors at the last generation over sizes, with the surface and the check; over generations; the best share.

    Dots are means over chains with a standard error each way, lines and bands the surface with its interval, which is
    dashed beyond the sizes that it was fitted to; open dots were measured there, after it was.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    panels = 1 + (len(found.generations) > 1) + bool(found.best)
    figure = Figure(figsize=(4.2 * panels, 4.0), layout="constrained")
    first, *others = figure.subplots(1, panels, squeeze=False)[0]
    colours = colormaps["viridis"](np.linspace(0, 0.9, len(found.shares)))
    _over_sizes(first, found, colours, size, share is not None)
    if len(found.generations) > 1:
        _over_generations(others.pop(0), found, colours, size)
    if found.best:
        _best(others.pop(0), found, size)
    if share is not None:
        handles = first.get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=8, frameon=False, fontsize=8, title=in_figure(share))
    alpha = found.exponent
    said = "no power law fits" if alpha is None else f"α = {alpha.value:.3g} ± {alpha.error:.1g}"
    figure.suptitle(in_figure(f"{found.metric}: {said}"), fontsize=10)
    return figure


def _over_sizes(panel: Axes, found: Scaling, colours: np.ndarray, size: str, named: bool) -> None:
    mean, error = _measured(found)
    beyond = max(found.beyond, found.sizes[-1])
    parts = ((found.sizes[0], found.sizes[-1], "-"), (found.sizes[-1], beyond, "--")) if found.exponent else ()
    for j, colour in enumerate(colours):
        name = f"{found.shares[j]:g}" if named else None
        panel.errorbar(found.sizes, mean[:, j, -1], error[:, j, -1], fmt="o", ms=3.5, color=colour, label=name)
    for low, high, style in parts:
        sizes = np.geomspace(low, high, 30)
        level = [found.at(n) for n in sizes]
        value, bottom, top = (np.array([e[part][:, -1] for e in level]) for part in (0, 2, 3))  # [sizes, shares]
        for j, colour in enumerate(colours):
            panel.plot(sizes, value[:, j], style, color=colour, lw=1.2)
            panel.fill_between(sizes, bottom[:, j], top[:, j], color=colour, alpha=0.2, lw=0)
    for check, colour in zip(found.checks, colours, strict=False):
        panel.errorbar(found.beyond, check.measured, check.error, fmt="o", ms=5, mfc="white", color=colour, zorder=4)
    panel.set_yscale("log")
    panel.set_title(f"error at generation {found.generations[-1]}", fontsize=10)
    _by_sizes(panel, found, size)


def _over_generations(panel: Axes, found: Scaling, colours: np.ndarray, size: str) -> None:
    mean, error = _measured(found)
    level = found.at(found.sizes[-1]) if found.exponent else None
    for j, colour in enumerate(colours):
        panel.errorbar(found.generations, mean[-1, j], error[-1, j], fmt="o", ms=3.5, color=colour)
        if level is not None:
            panel.plot(found.generations, level.value[j], "-", color=colour, lw=1.2)
            panel.fill_between(found.generations, level.low[j], level.high[j], color=colour, alpha=0.2, lw=0)
    panel.set_yscale("log")
    panel.set_xlabel("generation", fontsize=9)
    panel.set_title(in_figure(f"error at {size} = {found.sizes[-1]:,.10g}"), fontsize=10)
    dressed(panel)
    panel.tick_params(which="both", labelsize=8)


def _best(panel: Axes, found: Scaling, size: str) -> None:
    sizes = np.array([best.size for best in found.best])
    value, _, low, high = np.array([best.share for best in found.best], np.float64).T
    name = f"measured, {found.confidence:.0%} interval"
    panel.errorbar(
        sizes, value, [value - low, high - value], fmt="o-", ms=4, color="black", lw=1, capsize=2, label=name
    )
    laws = np.array([np.nan if best.law is None else best.law for best in found.best])
    if np.isfinite(laws).any():
        panel.plot(sizes, laws, "_", ms=14, color=COLOURS[0], label="law", zorder=4)
    panel.set_ylim(found.shares[0], found.shares[-1])
    panel.set_title(f"share of least error at generation {found.generations[-1]}", fontsize=10)
    panel.legend(frameon=False, fontsize=8)
    _by_sizes(panel, found, size)


def _measured(found: Scaling) -> tuple[np.ndarray, np.ndarray]:
    """Means over chains and their standard errors, [sizes, shares, generations]."""
    chains = found.values.shape[2]
    return found.values.mean(2), found.values.std(2, ddof=1) / np.sqrt(chains)


def _by_sizes(panel: Axes, found: Scaling, size: str) -> None:
    """A logarithmic axis with ticks at the sizes that there are."""
    from matplotlib.ticker import FixedLocator, NullLocator

    sizes = [*found.sizes, *([found.beyond] if found.checks else [])]
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(FixedLocator(sizes))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(lambda n, _: f"{n:,.10g}")
    panel.set_xlabel(in_figure(size), fontsize=9)
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(which="both", labelsize=8)
