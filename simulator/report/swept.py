"""The runs of a sweep as one: records with the swept fields as columns, one figure, one page."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simulator import disk
from simulator.analysis.compare import Run
from simulator.analysis.joined import dumped, joined
from simulator.analysis.series import COLUMNS
from simulator.report import figures
from simulator.report.names import in_page
from simulator.report.page import document, picture
from simulator.running.store import Store
from simulator.theory import kept


def write(out: str | os.PathLike[str], stores: Mapping[str, Store]) -> Path:
    """records.parquet, report/decay.png and .svg, and report/index.html below `out`; returns the page.

    Lines are called by the run and, where it has several, its setting.
    """
    place = Path(out)
    table = joined([Run(name, store.about(), store.records()) for name, store in stores.items()])
    disk.write(place, "records.parquet", dumped(table))
    lines = table.assign(setting=[_line(*pair) for pair in zip(table["run"], table["setting"], strict=True)])
    laws = {_line(name, setting): law for name, store in stores.items() for setting, law in kept(store).items()}
    figure = figures.decay(lines, metrics=_common(lines), theory=laws)
    png = figures.rendered(figure, "png")
    disk.write(place, "report/decay.png", png)
    disk.write(place, "report/decay.svg", figures.rendered(figure, "svg"))
    body = f"<h2>decay</h2>{picture('decay', png)}<h2>last generation</h2>{_table(table)}"
    return disk.write(place, "report/index.html", document(place.name, body).encode())


def _line(run: str, setting: str) -> str:
    return run if setting == "chain" else f"{run}, {setting}"


def _common(lines: Any) -> list[str]:
    """The metrics to show of those that every line has."""
    count = lines.groupby("metric", sort=False)["setting"].nunique()
    return figures.shown(count.index[count == lines["setting"].nunique()])


def _table(table: Any) -> str:
    """Means over replicates at each run's last generation: a row for every combination of the swept fields."""
    fields = [name for name in table.columns if name not in ("run", *COLUMNS)]
    last = table[table["generation"] == table.groupby("run")["generation"].transform("max")]
    last = last[last["metric"].isin(figures.shown(table["metric"]))]
    shown = last.pivot_table(index=[*fields, "generation"], columns="metric", values="value", sort=False)
    return (
        shown.map("{:.3g}".format)
        .reset_index()
        .rename(columns=in_page)
        .map(in_page)
        .to_html(border=0, escape=False, index=False)
    )
