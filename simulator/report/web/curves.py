"""What is drawn over generations, of one run or of many: lines, measures, and their values as one string of CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from simulator.analysis import collapse
from simulator.analysis.verdicts import Verdict
from simulator.report.figures import HEADLINES, shown, single
from simulator.report.names import plain

MOST, VALUES = 200, 40_000  # generations that a curve has, and values of all curves, about 30 bytes each
FIRST = 6  # measures of the first view
COLOURS, DASHES = 8, 4  # how many the page has
OWN = ("replicate", "generation", "metric", "value", "line")  # columns of records that are no field


class Curves(NamedTuple):
    """What is drawn, for JSON."""

    lines: list[dict[str, Any]]  # name, fields, colour, dash, control
    measures: list[dict[str, Any]]  # name, title, group, log, first, band, theory
    csv: str  # measure and line by number, generation, mean, low, high, theory
    levels: list[tuple[int, float, str]]  # measure, value of real rows against held-out real ones, the run's name
    left: int  # generations that are not drawn, since they are many


def curves(
    records: Any,
    lines: list[dict[str, Any]],
    laws: Any = None,
    ceilings: Mapping[str, Mapping[str, float]] | None = None,
    most: int = MOST,
) -> Curves:
    """Of `numbered` records the mean of each line over replicates, between mean ± 2 standard errors.

    `laws` are `law_of` the lines; `ceilings` are those of runs by name.
    """
    known = list(dict.fromkeys(records["metric"]))
    first = shown(known, FIRST)
    names = list(dict.fromkeys([*first, *single(known)]))
    generations = np.unique(records["generation"])
    kept = spread(generations, int(np.clip(VALUES // (len(names) * len(lines)), min(20, most), most)))
    rows = records[records["metric"].isin(names) & records["generation"].isin(kept)]
    found = rows.groupby(["metric", "line", "generation"], sort=False)["value"]
    with np.errstate(invalid="ignore"):  # what is not finite has no error
        table = found.agg(["mean", "std", "count"]).reset_index()
    reach = 2 * table["std"] / np.sqrt(table["count"])
    table["low"], table["high"] = table["mean"] - reach, table["mean"] + reach
    table["theory"] = np.nan
    if laws is not None:
        both = table.merge(laws, on=["metric", "line", "generation"], how="left")
        table["theory"] = both["value"].to_numpy()
    measures = []
    for i, name in enumerate(names):
        of = table["metric"] == name
        log = _spans_decades(table.loc[of, ["mean", "theory"]].to_numpy())
        if log:  # a band may reach below what a logarithm has
            table.loc[of, "low"] = table.loc[of, "low"].clip(lower=table.loc[of, "mean"].min() / 2)
        title = plain(HEADLINES.get(name, name))
        measures.append({"name": plain(name), "title": title, "group": plain(name).partition(".")[0], "log": log})
        has = {part: bool(table.loc[of, part].notna().any()) for part in ("low", "theory")}
        measures[-1] |= {"first": i < len(first), "band": has["low"], "theory": has["theory"]}
    table["measure"] = table["metric"].map({name: i for i, name in enumerate(names)})
    table = table.replace([np.inf, -np.inf], np.nan).sort_values(["measure", "line", "generation"])
    columns = ["measure", "line", "generation", "mean", "low", "high", "theory"]
    csv = table[columns].to_csv(index=False, float_format="%.5g", lineterminator="\n")
    levels = [
        (i, level, plain(run))
        for run, ceiling in (ceilings or {}).items()
        for i, name in enumerate(names)
        if np.isfinite(level := ceiling.get(name, np.nan)) and not (measures[i]["log"] and level <= 0)
    ]
    return Curves(lines, measures, csv, levels, len(generations) - len(kept))


def onsets(
    records: Any, measures: Sequence[Mapping[str, Any]], found: Mapping[str, Sequence[Verdict]]
) -> list[dict[str, Any]]:
    """Where definitions of collapse begin to hold, on the curves: measure and line by number, generation, mean there,
    definition.  `records` are `numbered`; `found` are verdicts of runs by name, "" of one alone.
    """
    places = {measure["name"]: i for i, measure in enumerate(measures)}
    marks = []
    for run, verdicts in found.items():
        rows = records[records["run"] == run] if run else records
        for one in verdicts:
            if one.onset is None or plain(str(one.metric)) not in places:
                continue
            of = rows["setting"].eq(one.setting) & rows["metric"].eq(one.metric) & rows["generation"].eq(one.onset)
            for line, values in rows[of].groupby("line")["value"]:
                if np.isfinite(value := values.mean()):
                    mark = {"measure": places[plain(str(one.metric))], "line": int(line), "generation": int(one.onset)}
                    marks.append({**mark, "mean": float(f"{value:.5g}"), "definition": plain(one.definition)})
    return marks


def fields(records: Any) -> list[str]:
    """The columns that set lines apart: all beside `OWN`, without "setting" and "run" where these say nothing more."""
    found = sorted((n for n in records.columns if n not in OWN), key=lambda n: {"run": 0, "setting": 2}.get(n, 1))
    swept = [name for name in found if name not in ("setting", "run")]
    for name in ("setting", "run") if swept else ("setting",):
        others = [other for other in found if other != name]
        if name in found and others and records.groupby(others, dropna=False)[name].nunique().max() == 1:
            found = others
    return found


def numbered(records: Any) -> tuple[Any, list[dict[str, Any]]]:
    """The records with a column "line", and of each line its name, what sets it apart, and how it is drawn."""
    by = fields(records)
    groups = records.groupby(by, sort=False, dropna=False)
    records = records.assign(line=groups.ngroup())
    apart = [{name: _value(row[name]) for name in by} for _, row in groups.head(1)[by].iterrows()]
    controls = set()
    for _, run in records.groupby("run", sort=False) if "run" in by else [("", records)]:
        if "line" in run and (control := collapse.control(run.assign(setting=run["line"]))) is not None:
            controls.add(int(control))
    runs = list(dict.fromkeys(of["run"] for of in apart)) if "run" in by and len(by) > 1 else []
    inner = [tuple(v for name, v in of.items() if name != "run" or not runs) for of in apart]
    kinds = list(dict.fromkeys(inner))
    lines = []
    for i, of in enumerate(apart):
        at = kinds.index(inner[i])
        dash = runs.index(of["run"]) if runs else at // COLOURS
        name = ": ".join(v if n in ("run", "setting") else f"{n}={v}" for n, v in of.items())
        lines.append({"name": plain(name), "fields": {plain(n): v for n, v in of.items()}, "control": i in controls})
        lines[-1] |= {"colour": at % COLOURS, "dash": dash % DASHES}
    for i, name in enumerate(unique([line["name"] for line in lines])):
        lines[i]["name"] = name
    return records, lines


def unique(names: Sequence[str]) -> list[str]:
    """The names, those that came before with their number behind."""
    found: list[str] = []
    for name in names:
        n = names[: len(found)].count(name)
        found.append(f"{name} ({n + 1})" if n else name)
    return found


def diets(records: Any, lines: int, most: int = 12) -> dict[str, Any] | None:
    """Shares of each line's diet by birth, mean over replicates: names of parts, and CSV of line, generation, part,
    share.  Births are put together where they are more than `most`.  `records` are `numbered`.
    """
    rows = records[records["metric"].str.fullmatch(r"diet\.(real|birth\.\d+)")]
    if rows.empty or not rows["metric"].str.startswith("diet.birth.").any():
        return None
    birth = rows["metric"].str.extract(r"birth\.(\d+)")[0].astype(float)  # NaN of real rows
    written = birth[rows["value"] > 0]
    last = int(written.max()) if written.notna().any() else 0
    width = -(-(last + 1) // most)
    kept = spread(np.unique(rows["generation"]), int(np.clip(8_000 // (lines * (last // width + 2)), 12, 100)))
    part = (birth // width + 1).fillna(0).astype(int)
    rows = rows.assign(part=part)[rows["generation"].isin(kept) & (birth.isna() | (birth <= last))]
    births = rows.groupby(["line", "replicate", "generation", "part"])["value"].sum()
    shares = births.groupby(["line", "generation", "part"]).mean().rename("share").reset_index()
    ends = [(i, min(i + width - 1, last)) for i in range(0, last + 1, width)]
    parts = ["real", *(f"by generation {a}" if a == b else f"by generations {a} to {b}" for a, b in ends)]
    return {"parts": parts, "csv": shares.to_csv(index=False, float_format="%.4g", lineterminator="\n")}


def spread(values: Any, most: int) -> Any:
    """At most so many of the values, from the first to the last."""
    return (
        values if len(values) <= most else values[np.unique(np.linspace(0, len(values) - 1, most).round().astype(int))]
    )


def law_of(records: Any, laws: Any) -> Any:
    """Laws, a data frame of metric, generation, value and any columns of `numbered` records, by line."""
    by = [name for name in laws.columns if name not in OWN]
    return laws.merge(records.drop_duplicates("line")[[*by, "line"]], on=by)[["metric", "line", "generation", "value"]]


def _value(value: Any) -> str:
    return plain(f"{value:g}" if isinstance(value, float | np.floating) else value)


def _spans_decades(values: np.ndarray) -> bool:
    """Whether values are above 0 throughout and span more than two decades."""
    values = values[np.isfinite(values)]
    return len(values) > 0 and bool(values.min() > 0 and values.max() > 100 * values.min())
