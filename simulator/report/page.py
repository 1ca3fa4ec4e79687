"""The report of a run: figures as files, and one page that needs nothing beside it."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simulator.report import figures
from simulator.report.names import in_page
from simulator.report.web import filled
from simulator.report.web.told import of_records as told_of_records
from simulator.report.web.told import of_runs
from simulator.running.store import Store
from simulator.theory import Overlay, kept


def write(store: Store, laws: Mapping[str, Overlay] | None = None, command: str = "") -> Path:
    """report/: decay, measures, diets and samples as SVG and PNG, and index.html (`simulator.report.web`), which is
    returned.

    decay has the headlines, measures every metric that is one number, where there are more.  The page says which
    definitions of collapse hold; and, where one setting ate real rows alone, from which generation on each metric of
    each other setting is apart from it.

    `laws` are drawn over what was measured: by default those `simulator.theory.kept` with the run.  `command` is what
    the page says it was made by.  Nothing of the folder is run: its chain is not built.
    """
    store.mend_records()
    about, records = store.about(), store.records()
    laws = kept(store) if laws is None else laws
    ceiling, known = store.ceiling(), figures.single(records["metric"])
    parts: dict[str, Any] = {"decay": figures.decay(records, ceiling, theory=laws)}
    if not set(known) <= set(figures.shown(records["metric"])):
        parts["measures"] = figures.decay(records, ceiling, known, laws, columns=6)
    parts["diets"] = figures.diets(records)
    if pictures := {t: file.read_bytes() for t, file in _spread(store.pictures()).items()}:
        settings = list(dict.fromkeys(records["setting"]))
        lines = settings if about["run"]["sweep"] else [str(r) for r in range(about["run"]["replicates"] or 1)]
        parts["samples"] = figures.gallery(pictures, lines)
    for i, figure in enumerate(figures.perplexities(records)):
        parts["perplexities" if i == 0 else f"perplexities-{i + 1}"] = figure
    for name, figure in parts.items():
        if figure is not None:
            store.write(f"report/{name}.png", figures.rendered(figure, "png"))
            store.write(f"report/{name}.svg", figures.rendered(figure, "svg"))
    told = of_runs([store], [laws], command or f"genloss report {shlex.quote(store.path.name)}")
    return store.write("report/index.html", filled.page(told).encode())


def of_records(records: Any, title: str, command: str = "", laws: Any = None) -> str:
    """A page like that of a run, of records alone: a data frame of setting, replicate, generation, metric and value,
    and a column of each field that was swept, by which its lines are named and chosen.

    `laws` are those of its settings, or of runs in a column "run": `laws_of`, `laws_of_runs` of `report.web.told`.
    """
    return filled.page(told_of_records(records, title, command, laws))


def document(title: str, body: str) -> str:
    """A page of HTML that needs nothing beside it."""
    title = in_page(title)
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>body{{font:15px/1.5 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem}}img{{max-width:100%}}
td,th{{padding:.15rem .8rem;text-align:right}}td:first-child,th:first-child{{text-align:left}}
td.text{{text-align:left;vertical-align:top;max-width:18rem}}
td pre{{white-space:pre-wrap;padding:.3rem}}pre{{background:#f4f4f4;padding:1rem;overflow:auto}}</style>
<h1>{title}</h1>{body}</html>"""


def picture(name: str, png: bytes) -> str:
    """A figure within a page."""
    return f'<img alt="{name}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def summary(records: Any, metrics: list[str] | None = None) -> Any:
    """Mean over replicates at the first and the last generation: a data frame [setting, metric at generation]."""
    metrics = metrics or figures.shown(records["metric"])
    last = records["generation"].max()
    chosen = records[records["metric"].isin(metrics) & records["generation"].isin([0, last])]
    table = chosen.pivot_table(index="setting", columns=["metric", "generation"], values="value", sort=False)
    return table.reindex(columns=[(m, g) for m in metrics for g in dict.fromkeys((0, last))])


def _spread(found: dict[int, Any], most: int = 4) -> dict[int, Any]:
    """At most four of what generations have, from the first to the last."""
    keys = sorted(found)
    chosen = sorted({keys[round(i * (len(keys) - 1) / (most - 1))] for i in range(most)}) if keys else []
    return {t: found[t] for t in chosen}
