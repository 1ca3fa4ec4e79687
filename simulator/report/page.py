"""The report of a run: figures as files, and one page that needs nothing beside it."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simulator.analysis import collapse, verdicts
from simulator.report import collapsed, figures
from simulator.report.names import in_page, in_pre
from simulator.running.store import Store
from simulator.theory import Overlay, kept, sentences


def write(store: Store, laws: Mapping[str, Overlay] | None = None) -> Path:
    """report/: decay, measures, diets and samples as SVG and PNG, and index.html with all of them; returns the page.

    decay has the headlines, measures every metric that is one number, where there are more.  The page says which
    definitions of collapse hold; and, where one setting ate real rows alone, from which generation on each metric of
    each other setting is apart from it.

    `laws` are drawn over what was measured: by default those `simulator.theory.kept` with the run.  Nothing of the
    folder is run: its chain is not built.
    """
    store.mend_records()
    about, records = store.about(), store.records()
    laws = kept(store) if laws is None else laws
    settings = list(dict.fromkeys(records["setting"]))
    ceiling, known = store.ceiling(), figures.single(records["metric"])
    parts: dict[str, Any] = {"decay": figures.decay(records, ceiling, theory=laws)}
    if not set(known) <= set(figures.shown(records["metric"])):
        parts["measures"] = figures.decay(records, ceiling, known, laws, columns=6)
    parts["diets"] = figures.diets(records)
    if pictures := {t: file.read_bytes() for t, file in _spread(store.pictures()).items()}:
        lines = settings if about["run"]["sweep"] else [str(r) for r in range(about["run"]["replicates"] or 1)]
        parts["samples"] = figures.gallery(pictures, lines)
    for i, figure in enumerate(figures.perplexities(records)):
        parts["perplexities" if i == 0 else f"perplexities-{i + 1}"] = figure
    body = []
    for name, figure in parts.items():
        if figure is None:
            continue
        png = figures.rendered(figure, "png")
        store.write(f"report/{name}.png", png)
        store.write(f"report/{name}.svg", figures.rendered(figure, "svg"))
        body.append(f"<h2>{name}</h2>{picture(name, png)}")
        if name == "decay":
            body.append("".join(f"<p>theory, {in_page(line)}</p>" for line in sentences(laws)))
    if texts := _spread(store.texts()):
        lines = settings if about["run"]["sweep"] else [str(r) for r in range(about["run"]["replicates"] or 1)]
        body.append(_side_by_side(texts, lines))
    body.append(f"<h2>last generation</h2>{_table(records, laws)}\n{_collapsed(store)}{_onsets(records, known)}")
    body.append(f"\n<h2>configuration</h2><pre>{html.escape(json.dumps(about, indent=1))}</pre>")
    page = document(store.path.name, "".join(body))
    return store.write("report/index.html", page.encode())


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


def _table(records: Any, laws: Mapping[str, Overlay]) -> str:
    """Beside each mean of a metric that has a law, the law's value at the last generation."""
    found, last = summary(records), int(records["generation"].max())
    table = found.map("{:.3g}".format)
    for metric in dict.fromkeys(metric for metric, _ in found.columns):
        law = [one.at(metric, last) if (one := laws.get(str(s))) else None for s in found.index]
        if any(value is not None for value in law):
            at = max(i for i, (name, _) in enumerate(table.columns) if name == metric) + 1
            table.insert(at, (metric, "theory"), ["" if value is None else f"{value:.3g}" for value in law])
    return _html(table)


def _html(table: Any, **how: Any) -> str:
    """A table of numbers, its names escaped, which pandas leaves as they are in a head of several lines."""
    return table.rename(index=in_page, columns=in_page).to_html(border=0, escape=False, **how)


def _collapsed(store: Store) -> str:
    found = verdicts.of_run(store)
    table = "".join(
        f"<tr>{''.join(f'<td>{in_page(part)}</td>' for part in line)}</tr>" for line in collapsed.lines(found)
    )
    head = "".join(f"<th>{name}</th>" for name in ("definition", "measure", "holds", "does not", "cannot be told"))
    said = "".join(f"<p>{in_page(line)}</p>" for line in collapsed.sentences(found, store.ceiling(), store.noise()))
    return f"<h2>has it collapsed?</h2><table><tr>{head}</tr>{table}</table>{said}" if found else ""


def _onsets(records: Any, metrics: list[str]) -> str:
    found = collapse.onsets(records, metrics)
    if found.empty:
        return ""
    against, replicates = in_page(collapse.control(records)), records["replicate"].nunique()
    seen = collapse.reach(replicates, 0.05 / found.size)
    said = (
        f"Means of {replicates} replicates differ by more than {seen:.1f} standard errors: at most 5 % of runs have a "
        f"false alarm among all {found.size}.  What is not seen may be small, not absent."
    )
    return f"<h2>apart from '{against}' from which generation on</h2><p>{said}</p>{_html(found, na_rep='not')}"


def _side_by_side(texts: Mapping[int, list[list[str]]], lines: list[str]) -> str:
    """What generations say: a column each, a row for every setting."""
    head = "".join(f"<th>generation {t}</th>" for t in texts)
    rows = []
    for i, name in enumerate(lines):
        said = ("".join(f"<pre>{in_pre(text)}</pre>" for text in dict(enumerate(t)).get(i, ())) for t in texts.values())
        cells = "".join(f'<td class="text">{cell}</td>' for cell in said)
        rows.append(f"<tr><td>{in_page(name)}</td>{cells}</tr>")
    return f"<h2>texts</h2><table><tr><th></th>{head}</tr>{''.join(rows)}</table>"


def _spread(found: dict[int, Any], most: int = 4) -> dict[int, Any]:
    """At most four of what generations have, from the first to the last."""
    keys = sorted(found)
    chosen = sorted({keys[round(i * (len(keys) - 1) / (most - 1))] for i in range(most)}) if keys else []
    return {t: found[t] for t in chosen}
