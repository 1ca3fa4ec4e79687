"""The report of a run: figures as files, and one page that needs nothing beside it."""

from __future__ import annotations

import base64
import html
import json
from pathlib import Path
from typing import Any

from simulator.report import figures
from simulator.store import Store


def write(store: Store) -> Path:
    """report/: decay, diets and samples as SVG and PNG, and index.html with all of them; returns the page."""
    about, records = store.about(), store.records()
    settings = list(dict.fromkeys(records["setting"]))
    parts = {"decay": figures.decay(records, store.ceiling()), "diets": figures.diets(records)}
    if pictures := {t: file.read_bytes() for t, file in _spread(store.pictures()).items()}:
        lines = settings if about["run"]["sweep"] else [str(r) for r in range(about["run"]["replicates"] or 1)]
        parts["samples"] = figures.gallery(pictures, lines)
    body = []
    for name, figure in parts.items():
        if figure is None:
            continue
        png = figures.rendered(figure, "png")
        store.write(f"report/{name}.png", png)
        store.write(f"report/{name}.svg", figures.rendered(figure, "svg"))
        body.append(f'<h2>{name}</h2><img alt="{name}" src="data:image/png;base64,{base64.b64encode(png).decode()}">')
    title = html.escape(store.path.name)
    page = f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>body{{font:15px/1.5 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem}}img{{max-width:100%}}
td,th{{padding:.15rem .8rem;text-align:right}}td:first-child,th:first-child{{text-align:left}}
pre{{background:#f4f4f4;padding:1rem;overflow:auto}}</style>
<h1>{title}</h1>{"".join(body)}<h2>last generation</h2>{_table(records)}
<h2>configuration</h2><pre>{html.escape(json.dumps(about, indent=1))}</pre></html>"""
    return store.write("report/index.html", page.encode())


def summary(records: Any, metrics: list[str] | None = None) -> Any:
    """Mean over replicates at the first and the last generation: a data frame [setting, metric at generation]."""
    metrics = metrics or figures.shown(records["metric"])
    last = records["generation"].max()
    chosen = records[records["metric"].isin(metrics) & records["generation"].isin([0, last])]
    table = chosen.pivot_table(index="setting", columns=["metric", "generation"], values="value", sort=False)
    return table.reindex(columns=[(m, g) for m in metrics for g in dict.fromkeys((0, last))])


def _table(records: Any) -> str:
    return summary(records).map("{:.3g}".format).to_html(border=0)


def _spread(found: dict[int, Path], most: int = 4) -> dict[int, Path]:
    """At most four of the pictures, from the first to the last."""
    keys = sorted(found)
    chosen = sorted({keys[round(i * (len(keys) - 1) / (most - 1))] for i in range(most)}) if keys else []
    return {t: found[t] for t in chosen}
