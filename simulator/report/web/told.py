"""What a page is told: everything it shows, as data for JSON.  The page's own script makes text and charts of it."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from simulator.analysis import verdicts
from simulator.report import figures
from simulator.report.names import plain
from simulator.report.web import specs, tables
from simulator.report.web.curves import curves, diets, law_of, numbered, onsets, unique
from simulator.report.web.results import results
from simulator.report.web.said import said
from simulator.running.store import Store
from simulator.theory import Overlay, kept, sentences

Told = dict[str, Any]


def of_records(records: Any, title: str, command: str = "", laws: Any = None) -> Told:
    """Of a data frame of records, without a run's folder: setting, replicate, generation, metric and value, and a
    column for each field that was swept, whatever its name.  `laws` are `laws_of` its settings, or of runs.
    """
    return _told(records, title, command, laws)


def of_runs(
    stores: Sequence[Store], laws: Sequence[Mapping[str, Overlay]] | None = None, command: str = "", title: str = ""
) -> Told:
    """Of one run, or of several beside each other; `laws` of each by setting, by default those kept with it."""
    import pandas

    names = unique([plain(store.path.name) for store in stores])
    read = {name: (store.about(), store.records()) for name, store in zip(names, stores, strict=True)}
    laws = [kept(store) for store in stores] if laws is None else laws
    several = len(stores) > 1
    parts = [records.assign(run=name) if several else records for name, (_, records) in read.items()]
    law = laws_of_runs(dict(zip(names, laws, strict=True))) if several else laws_of(laws[0])
    ceilings = {name if several else "": store.ceiling() for name, store in zip(names, stores, strict=True)}
    judged = {name: verdicts.of_run(store) for name, store in zip(names, stores, strict=True)}
    collapsed = {name if several else "": of for name, of in judged.items()}
    found = _told(pandas.concat(parts, ignore_index=True), title or ", ".join(names), command, law, ceilings, collapsed)
    last = found["tables"]
    found["tables"] = tables.beside(read) if several else []
    for name, store, of in zip(names, stores, laws, strict=True):
        of_run = f"{name}: " if several else ""
        tabled = [*tables.has_it_collapsed(store, judged[name]), *tables.onsets(read[name][1])]
        found["tables"] += [{**one, "title": of_run + one["title"]} for one in tabled]
        found["theory"] += [of_run + plain(f"theory, {line}") for line in sentences(of)]
        found["configurations"].append({"title": name, "text": json.dumps(read[name][0], indent=1)})
        if (one := said(store)) is not None:
            found["said"].append({"run": name if several else "", **one})
        found["results"] += [one for one in results(store.path) if one not in found["results"]]
    found["tables"] += last
    return found


def of_results(folder: Path, command: str = "") -> Told | None:
    """Of a folder that is no run, but holds what a league or a plan left; None where it holds neither."""
    found = results(folder, above=0)
    return {**waiting(folder.name, "", command), "results": found} if found else None


def _told(
    records: Any,
    title: str,
    command: str,
    laws: Any = None,
    ceilings: Mapping[str, Mapping[str, float]] | None = None,
    collapsed: Mapping[str, Sequence[verdicts.Verdict]] | None = None,
) -> Told:
    lined, lines = numbered(records)
    laws = None if laws is None else law_of(lined, laws)
    drawn = curves(lined, lines, laws, ceilings)
    diet = diets(lined, len(lines))
    histograms = [] if "run" in records else figures.perplexities(records)
    pngs = [base64.b64encode(figures.rendered(figure, "png", 100)).decode() for figure in histograms]
    charts = {
        "curve": specs.curve(lines, records["generation"].nunique() == 1),
        "points": specs.points(),
        "density": specs.densities(),
    }
    return {
        "title": plain(title),
        "command": plain(command),
        "generations": int(records["generation"].max()) + 1,
        **drawn._asdict(),
        "onsets": onsets(lined, drawn.measures, collapsed or {}),
        "diet": diet,
        "specs": charts | ({"diet": specs.diet(diet["parts"])} if diet else {}),
        "tables": [tables.ends(lined, lines, laws)],
        "theory": [],
        "said": [],
        "results": [],
        "configurations": [],
        "pictures": [f"data:image/png;base64,{png}" for png in pngs],
    }


def laws_of(laws: Mapping[str, Overlay]) -> Any:
    """The laws of a run by setting, as records are: a data frame of setting, generation, metric and value."""
    import pandas

    rows = [
        (setting, t, metric, float(value))
        for setting, law in laws.items()
        for metric, curve in law.curves.items()
        for t, value in enumerate(curve)
    ]
    table = pandas.DataFrame(rows, columns=["setting", "generation", "metric", "value"])
    return table.astype({"generation": "int64", "value": "float64"})


def laws_of_runs(laws: Mapping[str, Mapping[str, Overlay]]) -> Any:
    """Those of runs by name, in a column "run"."""
    import pandas

    return pandas.concat([laws_of(of).assign(run=name) for name, of in laws.items()], ignore_index=True)


def waiting(title: str, why: str, command: str = "") -> Told:
    """Of runs that have no records yet."""
    nothing = dict.fromkeys(
        ("lines", "measures", "levels", "onsets", "tables", "said", "results", "configurations", "pictures"), ()
    )
    more = {
        "title": plain(title),
        "command": plain(command),
        "state": plain(why),
        "theory": (),
        "specs": {},
        "diet": None,
    }
    return {**nothing, **more, "csv": "", "left": 0, "generations": 0}
