"""Charts in the grammar of Vega-Lite, without data: names are never part of a chart but where they are data.

Every colour that is not a line's is the theme's (assets/charts.js); "lines" is the scale of lines by number.
"""

from __future__ import annotations

from statistics import median
from typing import Any

Spec = dict[str, Any]

DASHES = ([1, 0], [7, 3], [2, 2], [9, 3, 2, 3])
GENERATIONS: Spec = {
    "field": "generation",
    "type": "quantitative",
    "title": "generation",
    "scale": {"nice": False},
    "axis": {"tickMinStep": 1, "format": "d", "grid": False},
}


def _value(field: str, **more: Any) -> Spec:
    return {"field": field, "type": "quantitative", **more}


def _line(scale: Spec | None = None) -> Spec:
    """Colour by line, whose legend is the page's own."""
    return {"field": "line", "type": "nominal", "scale": scale or {}, "legend": None}


def curve(lines: list[dict[str, Any]], alone: bool = False) -> Spec:
    """Means over generations in bands; theory dashed, the value of real rows dotted, onsets of collapse as marks.

    A layer of what a measure has not is left out by the page, which knows it by its name.  `alone`: one generation.
    """
    numbers = list(range(len(lines)))
    dashes = {"domain": numbers, "range": [DASHES[line["dash"]] for line in lines]}
    color = _line({"domain": numbers})
    mean = _value("mean", title=None, scale={"zero": False})
    return {
        "data": {"name": "rows"},
        "width": "container",
        "height": 190,
        "encoding": {"x": GENERATIONS, "color": color},
        "layer": [
            {
                "name": "band",
                "mark": {"type": "area", "opacity": 0.16, "clip": True},
                "encoding": {"y": _value("low", title=None), "y2": {"field": "high"}},
            },
            {
                "mark": {"type": "line", "strokeWidth": 1.8, "point": alone},
                "encoding": {"y": mean, "strokeDash": {**_line(dashes), "legend": None}},
            },
            {
                "name": "theory",
                "mark": {"type": "line", "strokeWidth": 2.6, "strokeDash": [3, 4]},
                "encoding": {"y": _value("theory")},
            },
            {
                "name": "levels",
                "data": {"name": "levels"},
                "mark": {"type": "rule", "strokeDash": [1, 3], "strokeWidth": 1.6},
                "encoding": {"x": None, "color": None, "y": _value("value")},
            },
            {
                "name": "onsets",
                "data": {"name": "onsets"},
                "mark": {"type": "point", "shape": "triangle-down", "filled": True, "yOffset": -8},
                "encoding": {"y": _value("mean"), "size": _value("size", scale=None, legend=None)},
            },
        ],
    }


def diet(parts: list[str]) -> Spec:
    """Shares of mass by birth, stacked; the first part is of real rows."""
    return {
        "data": {"name": "rows"},
        "width": "container",
        "height": 150,
        "mark": {"type": "area", "line": False},
        "encoding": {
            "x": GENERATIONS,
            "y": _value("share", stack="zero", title=None, scale={"domain": [0, 1], "clamp": True}),
            "order": _value("part"),
            "color": {
                "field": "part",
                "type": "ordinal",
                "scale": {"domain": list(range(len(parts)))},
                "legend": None,
            },
        },
    }


def points() -> Spec:
    """What a line's model says (coloured) over the truth (grey)."""
    x, y = (
        {**_value(name, title=None, scale={"zero": False, "nice": False}), "axis": {"grid": False}} for name in "xy"
    )
    return {
        "width": "container",
        "height": 220,
        "layer": [
            {
                "data": {"name": "truth"},
                "mark": {"type": "point", "filled": True, "size": 14, "opacity": 0.35, "clip": True},
                "encoding": {"x": x, "y": y},
            },
            {
                "data": {"name": "rows"},
                "mark": {"type": "point", "filled": True, "size": 12, "opacity": 0.8, "clip": True},
                "encoding": {"x": x, "y": y, "color": _line()},
            },
        ],
    }


def densities() -> Spec:
    """The same of single numbers: kernel estimates of their density."""

    def layer(name: str, mark: Spec, **more: Spec) -> Spec:
        y = _value("density", title="density", axis={"grid": False, "tickCount": 3})
        return {"data": {"name": name}, "mark": {"clip": True, **mark}, "encoding": {"x": _value("x"), "y": y, **more}}

    estimate = {"density": "x", "groupby": ["line"], "as": ["x", "density"], "steps": 120}
    return {
        "width": "container",
        "height": 160,
        "layer": [
            {**layer("truth", {"type": "area", "opacity": 0.3}), "transform": [{**estimate, "groupby": []}]},
            {**layer("rows", {"type": "line", "strokeWidth": 2}, color=_line()), "transform": [estimate]},
        ],
    }


def league(title: str, rows: list[dict[str, Any]]) -> Spec:
    """What entries gain over the baseline, with intervals, in their order.

    The axis is linear up to the median size of a difference and logarithmic beyond where one is 20 times as large.
    """
    sizes = [abs(row["difference"]) for row in rows if row["difference"]]
    wide = bool(sizes) and max(sizes) > 20 * median(sizes)
    scale = {"type": "symlog", "constant": median(sizes)} if wide else {"type": "linear"}
    entry = {"field": "entry", "type": "nominal", "sort": None, "title": None, "axis": {"labelLimit": 170}}
    color = {"field": "sure", "type": "nominal", "scale": {}, "title": None, "legend": {"orient": "bottom"}}
    x = {"title": "difference to the baseline, 95 % interval", "scale": scale, "axis": {"tickCount": 4, "format": "~g"}}
    interval = {"x": _value("low", **x), "x2": {"field": "high"}}
    return {
        "title": title,
        "data": {"name": "rows"},
        "width": "container",
        "height": 20 * max(1, len(rows)),
        "encoding": {"y": entry, "color": color},
        "layer": [
            {"mark": {"type": "rule", "strokeWidth": 2.4}, "encoding": interval},
            {"mark": {"type": "point", "filled": True, "size": 45}, "encoding": {"x": _value("difference", **x)}},
            {"data": {"values": [{}]}, "mark": "rule", "encoding": {"x": {"datum": 0}, "y": None, "color": None}},
        ],
    }


def ranks(title: str, entries: int) -> Spec:
    """The chance of each rank of each entry, in their order: the darker the likelier."""
    entry = {"field": "entry", "type": "nominal", "sort": None, "title": None, "axis": {"labelLimit": 170}}
    rank = {"field": "rank", "type": "ordinal", "title": "rank", "axis": {"labelAngle": 0}}
    return {
        "title": title,
        "data": {"name": "rows"},
        "width": "container",
        "height": 20 * max(1, entries),
        "mark": {"type": "rect"},
        "encoding": {
            "y": entry,
            "x": rank,
            "opacity": {**_value("chance"), "scale": {"domain": [0, 1], "range": [0, 1]}, "legend": None},
        },
    }


def plan(title: str, field: str) -> Spec:
    """What chains keep above the bound at each value of a field, and where they cross it."""
    x, y = _value("value", title=field, scale={"zero": False}), _value("margin", title="above the bound")
    return {
        "title": title,
        "width": "container",
        "height": 220,
        "layer": [
            {
                "data": {"name": "answer"},
                "mark": {"type": "rect", "opacity": 0.2},
                "encoding": {"x": _value("low"), "x2": {"field": "high"}},
            },
            {
                "data": {"name": "rows"},
                "mark": {"type": "point", "filled": True, "size": 12, "opacity": 0.6},
                "encoding": {"x": x, "y": y},
            },
            {"data": {"values": [{}]}, "mark": "rule", "encoding": {"y": {"datum": 0}}},
            {
                "data": {"name": "answer"},
                "mark": {"type": "rule", "strokeWidth": 2},
                "encoding": {"x": _value("value")},
            },
        ],
    }
