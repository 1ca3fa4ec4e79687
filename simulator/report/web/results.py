"""What `genloss league` and `genloss plan --json` left in a run's folder or above it, as charts and tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simulator.report.names import plain
from simulator.report.web import specs
from simulator.report.web.tables import table

FILES = ("league.json", "plan.json")
ABOVE = 2  # a league's runs lie in a folder a world


def results(folder: Path, above: int = ABOVE) -> list[dict[str, Any]]:
    """Of each file that is as those commands write it: its charts, {title, spec, data}, and its tables."""
    found = []
    for place in (folder, *list(folder.parents)[:above]):
        for name, read in zip(FILES, (_league, _plan), strict=True):
            file = place / name
            if file.is_file() and not file.is_symlink() and file.stat().st_size < 20_000_000:
                try:
                    found += read(json.loads(file.read_bytes()))
                except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                    continue  # somebody else's file of that name
    return found


def _league(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = []
    for world, of in told.items():
        sign = 1 if of["better"] == "higher" else -1
        rows = []
        for entry in of["entries"]:
            low, high = (float(entry[end]) if entry[end] is not None else float("nan") for end in ("low", "high"))
            gains = sorted((sign * low, sign * high))
            sure = "better" if gains[0] > 0 else "worse" if gains[1] < 0 else "unsure"
            if low == low and high == high:
                rows.append({"entry": plain(entry["entry"]), "low": low, "high": high, "sure": sure})
                rows[-1]["difference"] = float(entry["difference"])
        title = plain(f"league, {world}: {of['metric']}, {of['better']} is better")
        cells = [[e["entry"], *map(_number, (e["value"], e["difference"], e["ranks"][0]))] for e in of["entries"]]
        head = ("entry", of["metric"], f"to {of['baseline']}", "chance of rank 1")
        found.append(
            {"title": title, "spec": specs.league(title, rows), "data": {"rows": rows}, "said": _first_last(rows)}
        )
        found[-1]["table"] = table(title, head, cells)
        chances = [
            {"entry": plain(entry["entry"]), "rank": rank, "chance": float(chance)}
            for entry in of["entries"]
            for rank, chance in enumerate(entry["ranks"], 1)
        ]
        first = max(of["entries"], key=lambda entry: entry["ranks"][0], default=None)
        said = first and f"most likely first: {first['entry']}, with chance {first['ranks'][0]:.3g}"
        title = plain(f"{world}: chance of each rank")
        spec = specs.ranks(title, len(of["entries"]))
        found.append({"title": title, "spec": spec, "data": {"rows": chances}, "said": plain(said or "no entry")})
    return found


def _first_last(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "no entry has an interval"
    return "; ".join(f"{r['entry']} {r['difference']:+.3g} [{r['low']:.3g}, {r['high']:.3g}]" for r in rows)


def _plan(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    plans = told.get("plans", {"": told})
    found = []
    for value, of in plans.items():
        beside = f", {told['beside']} {value}" if "beside" in told else ""
        pairs = list(zip(of["evaluated"]["values"], of["evaluated"]["margins"], strict=True))
        some = [
            {"value": float(v), "margin": float(m)} for v, m in pairs[:: max(1, len(pairs) // 1000)] if abs(m) < 1e300
        ]
        answer = {name: float(of[name]) for name in ("value", "low", "high")}
        said = (
            f"{of['side']} {answer['value']:.3g}, {of['confidence']:.0%} interval {answer['low']:.3g} to "
            f"{answer['high']:.3g}"
        )
        title = plain(f"plan: {of['keep']}{beside}")
        field = plain(told.get("field", "value of the field"))
        data = {"rows": some, "answer": [answer]}
        found.append({"title": title, "spec": specs.plan(title, field), "data": data, "said": plain(said)})
        found[-1]["table"] = table(title, ("answer", "low", "high"), [list(map(_number, answer.values()))], [said])
    return found


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
