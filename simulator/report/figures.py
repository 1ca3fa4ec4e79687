"""Figures of a run: what decays, what each generation ate, and what it says."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from simulator.probes.language import PER_DOUBLING
from simulator.report.names import in_figure
from simulator.sources.images import decode

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from simulator.theory import Overlay

# Metrics drawn when a run has them and nothing else is asked for, with the words on their axes.
HEADLINES = {
    "diversity.variance": "variance of samples",
    "fidelity.recall": "recall",
    "fidelity.coverage": "coverage",
    "fidelity.frechet": "Fréchet distance to held-out real",
    "downstream.samples.accuracy": "accuracy, trained on samples",
    "downstream.diet.accuracy": "accuracy, trained on the diet",
}
# Measured beside the headlines, shown where asked for.
SUPPORTING = ("fit.", "diversity.", "fidelity.", "downstream.", "diet.")


def shown(known: Iterable[str], most: int = 9) -> list[str]:
    """The metrics to show of those a run has: the headlines, then those of the user's own probes, one number each."""
    known = list(dict.fromkeys(known))
    last = lambda m: m.rpartition(".")[2]  # noqa: E731
    own = [m for m in known if not (m.startswith(SUPPORTING) or last(m).isdecimal() or last(m).endswith("rows"))]
    return [*[m for m in HEADLINES if m in known], *own][:most] or [m for m in known if m != "fit.mass"][:6] or known


def single(known: Iterable[str]) -> list[str]:
    """Every measure that is one number: no entry of a vector, no count of rows, no standard error, not the diet's."""
    return [m for m in dict.fromkeys(known) if not m.startswith(("fit.", "diet.")) and not _is_beside(m)]


def _is_beside(metric: str) -> bool:
    last = metric.rpartition(".")[2]
    return last.isdecimal() or last.endswith(("rows", "error"))


COLOURS = ("#c1272d", "#0072b2", "#e69f00", "#009e73", "#7b3fa0", "#56b4e9", "#8c6d31", "#000000")
MARKERS = ("o", "s", "^", "D")  # of settings beyond the colours, each with the line broken


def decay(
    records: Any,
    ceiling: Mapping[str, float] | None = None,
    metrics: Sequence[str] | None = None,
    theory: Mapping[str, Overlay] | None = None,
    columns: int = 3,
) -> Figure:
    """Small multiples of metrics against generation: one line per setting, a band over its replicates.

    `records` is the tidy data frame.  The line is the mean, the band two standard errors of it.  `ceiling`, the value
    of real rows against held-out real rows, is dotted; `theory`, the law of each setting where it has one, is dashed.
    Positive values that span more than two decades are drawn on a logarithmic axis.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    metrics = metrics or shown(records["metric"])
    columns = min(columns, len(metrics))
    lines = -(-len(metrics) // columns)
    figure = Figure(figsize=(4.1 * columns, 2.9 * lines + 0.5), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    settings = list(dict.fromkeys(records["setting"]))
    named: dict[str, Any] = {}  # label -> handle
    found = dict(iter(records[records["metric"].isin(metrics)].groupby(["metric", "setting"], sort=False)))
    for panel, metric in zip(panels, metrics, strict=False):
        for i, setting in enumerate(settings):
            turn, colour = i // len(COLOURS) % len(MARKERS), COLOURS[i % len(COLOURS)]
            values = found[metric, setting].pivot(index="generation", columns="replicate", values="value")
            mean = values.mean(axis=1)
            mark = {"marker": MARKERS[turn], "ms": 2.5 if turn == 0 else 5, "ls": "-" if turn == 0 else "-."}
            panel.plot(values.index, mean, color=colour, lw=1.8, label=in_figure(setting), **mark)
            if values.shape[1] > 1:
                with np.errstate(invalid="ignore"):  # a logarithm of nothing left has no error
                    error = 2 * values.std(axis=1) / np.sqrt(values.shape[1])
                panel.fill_between(values.index, mean - error, mean + error, color=colour, alpha=0.2, lw=0)
            if theory and setting in theory and metric in theory[setting].curves:
                law = theory[setting].curves[metric][: len(mean)]  # which may be shorter
                panel.plot(values.index[: len(law)], law, color=_darker(colour), lw=1.3, ls="--", zorder=3)
                named["theory"] = Line2D([], [], color="0.2", lw=1.3, ls="--")
        level, decades = (ceiling or {}).get(metric, np.nan), _spans_decades(panel)
        if np.isfinite(level) and not (decades and level <= 0):
            panel.axhline(level, color="0.35", ls=":", lw=1.3, label="real against real")
        scaled(panel, decades)
        panel.set_title(in_figure(HEADLINES.get(metric, metric)), fontsize=10)
        dressed(panel)
        panel.set_xlabel("generation", fontsize=9)
        named = dict(zip(*panel.get_legend_handles_labels()[::-1], strict=True)) | named
    for panel in panels[len(metrics) :]:
        panel.axis("off")
    across = min(2 * columns, len(named))
    place: dict[str, Any] = {"loc": "outside lower center", "ncols": across, "handlelength": 3}
    figure.legend(named.values(), named, frameon=False, fontsize=9, **place)
    return figure


def scaled(panel: Axes, decades: bool | None = None) -> None:
    """A logarithmic axis where what is drawn, or was before, spans decades."""
    if _spans_decades(panel) if decades is None else decades:
        low, high = np.nanmin(_drawn(panel)), np.nanmax(_drawn(panel))
        panel.set(yscale="log", ylim=(low / 2, high * 2))  # by the lines: a band may reach down to 0


def dressed(panel: Axes) -> None:
    """A panel over generations."""
    from matplotlib.ticker import MaxNLocator

    panel.spines[["top", "right"]].set_visible(False)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.tick_params(labelsize=8)


def _darker(colour: str) -> tuple[float, ...]:
    from matplotlib.colors import to_rgb

    return tuple(0.55 * part for part in to_rgb(colour))


def _drawn(panel: Axes) -> np.ndarray:
    """Every value of the panel's lines."""
    return np.concatenate([np.asarray(line.get_ydata(), float) for line in panel.lines])


def _spans_decades(panel: Axes) -> bool:
    """Whether what is drawn is above 0 throughout and spans more than two decades."""
    values = _drawn(panel)
    values = values[np.isfinite(values)]
    return len(values) > 0 and values.min() > 0 and values.max() > 100 * values.min()


def diets(records: Any) -> Figure | None:
    """What each generation ate, by origin: a stacked share of mass per setting, mean over replicates."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch
    from matplotlib.ticker import MaxNLocator

    rows = records[records["metric"].str.startswith("diet.")]
    births = sorted({m for m in rows["metric"] if m.startswith("diet.birth.")}, key=lambda m: int(m.rsplit(".", 1)[1]))
    if not births:
        return None
    settings = list(dict.fromkeys(rows["setting"]))
    figure = Figure(figsize=(2.6 * len(settings) + 1, 2.9), layout="constrained")
    panels = figure.subplots(1, len(settings), squeeze=False, sharey=True)[0]
    colours = ["#4d4d4d", *colormaps["YlOrRd"](np.linspace(0.15, 0.95, len(births)))]
    for panel, setting in zip(panels, settings, strict=True):
        mean = rows[rows["setting"] == setting].groupby(["metric", "generation"])["value"].mean()
        shares = [mean[name] for name in ("diet.real", *births)]
        floor = np.zeros(len(shares[0]))
        for share, colour in zip(shares, colours, strict=True):
            panel.bar(share.index, share, bottom=floor, color=colour, width=0.92)
            floor = floor + np.asarray(share)
        panel.set_title(in_figure(setting), fontsize=10)
        panel.set_xlabel("generation", fontsize=9)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.tick_params(labelsize=8)
        panel.margins(0.02, 0)
    panels[0].set_ylabel("share of the diet's mass", fontsize=9)
    written = [m for m in births if rows[rows["metric"] == m]["value"].max() > 0]  # the last one's is never eaten
    named = ["real", *(f"by generation {m.rsplit('.', 1)[1]}" for m in written)]
    shown = sorted({0, min(1, len(written)), len(written)})
    figure.legend(
        [Patch(color=colours[i]) for i in shown], [named[i] for i in shown], loc="outside lower center", ncols=3,
        frameon=False, fontsize=9,
    )  # fmt: skip
    return figure


def perplexities(records: Any, most: int = 6) -> list[Figure]:
    """Histograms of single samples' perplexity (`SequencePerplexity`), one figure a probe: a row for every setting, a
    column for some generations, the first of them as a line in the others; mean over replicates.
    """
    from matplotlib.figure import Figure

    parts = records["metric"].str.extract(r"^(.+)\.histogram\.(\d+)$")  # probe, bin
    found = []
    for probe in parts[0].dropna().unique():
        rows = records.assign(bin=parts[1].astype(float))[parts[0] == probe]
        settings, known = list(dict.fromkeys(rows["setting"])), sorted(rows["generation"].unique())
        some = [known[round(i)] for i in np.linspace(0, len(known) - 1, min(most, len(known)))]
        table = rows.pivot_table(index=["setting", "generation"], columns="bin", values="value")  # mean over replicates
        edges = 2 ** (np.arange(table.shape[1] + 1) / PER_DOUBLING)
        used = np.flatnonzero((table.to_numpy() > 0).any(axis=0))
        figure = Figure(figsize=(2.1 * len(some) + 0.7, 1.7 * len(settings) + 0.8), layout="constrained")
        panels = figure.subplots(len(settings), len(some), squeeze=False, sharex=True, sharey=True)
        for line, setting in zip(panels, settings, strict=True):
            for panel, t in zip(line, some, strict=True):
                panel.stairs(table.loc[(setting, t)], edges, fill=True, color=COLOURS[1], alpha=0.7)
                panel.stairs(table.loc[(setting, some[0])], edges, color="0.2", lw=1)
                panel.set_title(f"generation {t}", fontsize=9)
                panel.spines[["top", "right"]].set_visible(False)
                panel.tick_params(labelsize=8)
            line[0].set_ylabel(in_figure(setting), fontsize=9)
        panels[0, 0].set_xscale("log")
        if len(used):
            low, high = edges[used[0]] / 1.2, edges[used[-1] + 1] * 1.2
            doublings = np.arange(np.ceil(np.log2(low)), np.log2(high))
            ticks = 2 ** doublings[:: -(-len(doublings) // 5)]  # five at most
            panels[0, 0].set_xlim(low, high)
            panels[0, 0].set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            panels[0, 0].set_xticks([], minor=True)
        figure.supxlabel(f"{in_figure(probe)}: perplexity of a sample (line: generation {some[0]})", fontsize=9)
        found.append(figure)
    return found


def gallery(pictures: Mapping[int, bytes], settings: Sequence[str]) -> Figure:
    """What the first, some middle and the last generation say: `sheet`s one above the other, a line per setting."""
    from matplotlib.figure import Figure

    sheets = {t: decode(data, f"the picture of generation {t}") for t, data in pictures.items()}  # [h, w, c]
    height, width = next(iter(sheets.values())).shape[:2]
    scale = 9 / width
    figure = Figure(figsize=(10.5, (height * scale + 0.3) * len(sheets)), layout="constrained")
    panels = figure.subplots(len(sheets), 1, squeeze=False)[:, 0]
    for panel, (t, image) in zip(panels, sheets.items(), strict=True):
        panel.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        panel.set_title(f"generation {t}", fontsize=10, loc="left")
        panel.set_xticks([])
        step = image.shape[0] / len(settings)
        panel.set_yticks([step * (i + 0.5) for i in range(len(settings))], list(map(in_figure, settings)), fontsize=9)
        panel.tick_params(length=0)
        panel.spines[:].set_visible(False)
    return figure


def rendered(figure: Figure, kind: str, dpi: int = 150) -> bytes:
    """The figure as "png", "svg" or "pdf", the same to the byte whenever it is made.

    What is where in it is settled once, by the first that is made.
    """
    if (layout := figure.get_layout_engine()) is not None:
        figure.set_dpi(dpi)
        for _ in range(2):  # the numbers of an axis are others once it has its place
            layout.execute(figure)
        figure.set_layout_engine(None)
    sink = io.BytesIO()
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    figure.savefig(sink, format=kind, dpi=dpi, metadata=undated.get(kind))
    return sink.getvalue()
