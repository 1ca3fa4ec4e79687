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
from simulator.report.page import of_records
from simulator.report.web.told import laws_of
from simulator.running.store import Store
from simulator.theory import Overlay, kept

NAMED = 32  # lines of a figure, at most, that have a legend


def write(out: str | os.PathLike[str], stores: Mapping[str, Store], command: str = "") -> Path:
    """records.parquet, report/decay.png and .svg, and report/index.html below `out`; returns the page.

    Lines are combinations of the swept fields; runs that differ in their seed alone are replicates of one.  `command`
    is what the page says it was made by.
    """
    place = Path(out)
    table = joined([Run(name, store.about(), store.records()) for name, store in stores.items()])
    disk.write(place, "records.parquet", dumped(table))
    told = lines(table)
    laws = _laws(told, table, stores)
    figure = figures.decay(told, metrics=_common(told), theory=laws)
    if told["setting"].nunique() > NAMED:
        figure.legends[0].remove()
    disk.write(place, "report/decay.png", figures.rendered(figure, "png"))
    disk.write(place, "report/decay.svg", figures.rendered(figure, "svg"))
    page = of_records(told.drop(columns="run"), place.name, command, laws_of(laws))
    return disk.write(place, "report/index.html", page.encode())


def lines(table: Any) -> Any:
    """The records with settings called by the swept fields, and each chain a replicate."""
    fields = [name for name in table.columns if name not in ("run", *COLUMNS)]
    replicate = table.groupby(["run", "replicate"], sort=False).ngroup()
    if not fields:
        return table.assign(replicate=replicate)
    at = table.groupby(fields, sort=False, dropna=False).ngroup()
    combined = table[fields].drop_duplicates().to_dict("records")
    names = [", ".join(f"{field}={_short(value)}" for field, value in of.items()) for of in combined]
    return table.assign(setting=at.map(dict(enumerate(names))), replicate=replicate)


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _laws(told: Any, table: Any, stores: Mapping[str, Store]) -> dict[str, Overlay]:
    """Of each line the law that is kept with a run of it."""
    keys = table[["run", "setting"]].assign(line=told["setting"]).drop_duplicates("line")
    found = {run: kept(stores[run]) for run in keys["run"].unique()}
    named = zip(keys["run"], keys["setting"], keys["line"], strict=True)
    return {line: found[run][setting] for run, setting, line in named if setting in found[run]}


def _common(told: Any) -> list[str]:
    """The metrics to show of those that every line has."""
    count = told.groupby("metric", sort=False)["setting"].nunique()
    return figures.shown(count.index[count == told["setting"].nunique()])
