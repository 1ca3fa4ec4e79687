"""Tables of a page: first and last generation, definitions of collapse, onsets, runs beside each other; as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from simulator.analysis import collapse, compare
from simulator.analysis.verdicts import Verdict
from simulator.report import collapsed
from simulator.report.figures import HEADLINES, shown, single
from simulator.report.names import plain
from simulator.running.store import Store
from simulator.types import GenlossError

Table = dict[str, Any]  # title, notes, head, rows


def table(title: str, head: Sequence[Any], rows: Sequence[Sequence[Any]], notes: Sequence[str] = ()) -> Table:
    return {
        "title": plain(title),
        "notes": list(map(plain, notes)),
        "head": list(map(plain, head)),
        "rows": [list(map(plain, row)) for row in rows],
    }


def ends(records: Any, lines: Sequence[Mapping[str, Any]], laws: Any = None) -> Table:
    """Means over replicates at the first and the last generation, and the law's value there, by line."""
    metrics = shown(records["metric"])
    last = int(records["generation"].max())
    at = records[records["metric"].isin(metrics) & records["generation"].isin([0, last])]
    means = at.groupby(["metric", "line", "generation"])["value"].mean()
    law: dict[Any, float] = {}
    if laws is not None:
        law = laws[laws["generation"] == last].set_index(["metric", "line"])["value"].to_dict()
    rows = []
    for metric in metrics:
        for i, line in enumerate(lines):
            found = [means.get((metric, i, t)) for t in dict.fromkeys((0, last))] + [law.get((metric, i))] * bool(law)
            rows.append([HEADLINES.get(metric, metric), line["name"], *map(_number, found)])
    head = ["measure", "line", *(f"generation {t}" for t in dict.fromkeys((0, last))), *["theory"] * bool(law)]
    return table("first and last generation", head, rows)


def has_it_collapsed(store: Store, found: Sequence[Verdict]) -> list[Table]:
    if not found:
        return []
    head = ("definition", "measure", "holds", "does not", "cannot be told")
    notes = collapsed.sentences(found, store.ceiling(), store.noise())
    return [table("has it collapsed?", head, collapsed.lines(found), notes)]


def onsets(records: Any) -> list[Table]:
    """From which generation on measures are apart from the control's, in each other setting of one run."""
    found = collapse.onsets(records, single(records["metric"]))
    if found.empty:
        return []
    replicates = records["replicate"].nunique()
    reach = collapse.reach(replicates, 0.05 / found.size)
    said = (
        f"Means of {replicates} replicates differ by more than {reach:.1f} standard errors: at most 5 % of runs have a "
        f"false alarm among all {found.size}.  What is not seen may be small, not absent."
    )
    rows = [[metric, *(found.loc[metric].astype(object).fillna("not"))] for metric in found.index]
    title = f"apart from '{collapse.control(records)}' from which generation on"
    return [table(title, ["measure", *found.columns], rows, [said])]


def beside(runs: Mapping[str, tuple[Mapping[str, Any], Any]]) -> list[Table]:
    """Differences of runs, name -> (chain.json, records), to the first, at the last generation that all have."""
    try:
        of = [compare.Run(name, about, records) for name, (about, records) in runs.items()]
        pairs, metrics = compare.pairs(of), shown(compare.measures(of))
        last = compare.generations(of)[-1]
        found = compare.differences(pairs, metrics, [last])
    except GenlossError as error:  # they share nothing that could be compared
        return [table("runs beside the first", (), (), [str(error)])]
    rows = [
        [HEADLINES.get(r["metric"], r["metric"]), r["run"], r["setting"]]
        + [_number(r[name]) for name in ("reference_value", "value", "difference", "low", "high")]
        for r in found.to_dict("records")
    ]
    head = ("measure", "run", "setting", of[0].name, "value", "difference", "low", "high")
    how = "replicate by replicate where runs share their keys, by Welch's interval where not"
    return [
        table(f"runs beside {of[0].name}, generation {last}", head, rows, [f"95 % intervals, each by itself, {how}."])
    ]


def _number(value: float | None) -> str:
    return "" if value is None or value != value else f"{value:.3g}"
