"""Tables for papers: means over replicates with their intervals, and the law beside them where there is one."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from simulator.analysis.compare import mean
from simulator.report.figures import HEADLINES
from simulator.report.names import in_page, in_tex, plain
from simulator.report.paper import Line

REAL = "real rows"


def means(lines: Sequence[Line], metrics: Sequence[str], generations: Sequence[int], level: float = 0.95) -> Any:
    """A data frame of metric, generation, line, run, setting, replicates, mean, low, high, theory, real.

    `low` and `high` end the mean's interval at the level, by Student's t over replicates, NaN of one; `theory` is the
    law's value, and `real` what the probe says of real rows, NaN where there is none.
    """
    import pandas

    found = []
    for metric in metrics:
        for line in lines:
            values = line.run.values(line.setting, metric)  # [replicates, generations]
            for t in generations:
                middle, low, high = map(float, mean(values[t].to_numpy(), level))
                law = None if line.law is None else line.law.at(metric, t)
                found.append(
                    {
                        "metric": metric,
                        "generation": t,
                        "line": line.label,
                        "run": line.run.name,
                        "setting": line.setting,
                        "replicates": len(values),
                        "mean": middle,
                        "low": low,
                        "high": high,
                        "theory": math.nan if law is None else law,
                        "real": line.ceiling.get(metric, math.nan),
                    }
                )
    return pandas.DataFrame(found)


def note(found: Any, done: int, level: float = 0.95) -> str:
    """What the numbers of `means` are, a sentence; `done` is the last generation that was to choose from."""
    counts = sorted({*found["replicates"]})
    chosen = ", ".join(map(str, dict.fromkeys(found["generation"])))
    which = f"at generation{'s' * (',' in chosen)} {chosen} of 0 to {done}"
    if counts == [1]:
        return f"Values of one replicate, which has no interval, {which}."
    many = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    return f"Means over {many} replicates ± half of their {100 * level:g} % interval by Student's t, {which}."


def markdown(found: Any, said: str) -> str:
    """The table of `means` for Markdown, and `said` below it."""
    columns, names = _columns(found)
    heads = [_in_markdown(f"{_title(metric)}{below and ', '}{below}") for metric, below in columns]
    rows = [[_in_markdown(name[1]), *(cells.get(name, "") for cells in columns.values())] for name in names]
    lines = [["", *heads], ["---", *["---:"] * len(columns)], *rows]
    return "\n".join([*(f"| {' | '.join(line)} |" for line in lines), "", plain(said)])


def latex(found: Any, said: str) -> str:
    """The table of `means` for LaTeX with booktabs, and `said` in a comment above it."""
    columns, names = _columns(found)
    spans = Counter(metric for metric, _ in columns)
    over = [
        rf"\multicolumn{{{n}}}{{c}}{{{name}}}" if n > 1 else name
        for name, n in ((in_tex(_title(metric)), n) for metric, n in spans.items())
    ]
    heads = [["", *over], ["", *(in_tex(below) for _, below in columns)]][: 1 + any(below for _, below in columns)]
    rows = [[in_tex(name[1]), *(_in_formula(cells.get(name, "")) for cells in columns.values())] for name in names]
    top, below = ([rf"{' & '.join(line)} \\" for line in lines] for lines in (heads, rows))
    begin = rf"\begin{{tabular}}{{l{'r' * len(columns)}}}"
    return "\n".join(
        [f"% {plain(said)}", begin, r"\toprule", *top, r"\midrule", *below, r"\bottomrule", r"\end{tabular}"]
    )


def rounded(middle: float, half: float = math.nan) -> str:
    """A mean and half of its interval to two digits of the latter: "0.518 ± 0.024", "(1.20 ± 0.03)e-06".

    Without an interval to three digits.
    """
    if not math.isfinite(middle):
        return str(middle)
    largest = max(abs(middle), half if math.isfinite(half) else 0)
    power = math.floor(math.log10(largest)) if largest else 0
    power = power if power < -3 or power > 5 else 0
    middle, half = middle / 10.0**power, half / 10.0**power
    if math.isfinite(half) and half > 0:
        digits = max(0, 1 - math.floor(math.log10(float(f"{half:.1e}"))))
        text = f"{middle:.{digits}f} ± {half:.{digits}f}"
        return f"({text})e{power:+03d}" if power else text
    digits = max(0, 2 - math.floor(math.log10(abs(middle)))) if middle else 0
    text = f"{middle:.{min(digits, 9)}f}" + (" ± 0" if half == 0 else "")
    return f"({text})e{power:+03d}" if power and half == 0 else f"{text}e{power:+03d}" if power else text


_Name = tuple[bool, str]  # of a line of the table: whether it is of real rows, and what it is called


def _columns(found: Any) -> tuple[dict[tuple[str, str], dict[_Name, str]], list[_Name]]:
    """(columns: metric, and what of it, -> cells by the name of their line; the names in order)."""
    several = found["generation"].nunique() > 1
    columns: dict[tuple[str, str], dict[_Name, str]] = {}
    for (metric, t), part in found.groupby(["metric", "generation"], sort=False):
        rows = part.to_dict("records")
        cells = {(False, row["line"]): rounded(row["mean"], row["high"] - row["mean"]) for row in rows}
        reals = {row["run"]: row["real"] for row in rows if math.isfinite(row["real"])}
        alike = len({*reals.values()}) == 1
        cells |= {(True, REAL if alike else f"{run}: {REAL}"): rounded(value) for run, value in reals.items()}
        columns[metric, f"generation {t}" if several else ""] = cells
        if laws := {(False, row["line"]): rounded(row["theory"]) for row in rows if math.isfinite(row["theory"])}:
            columns[metric, f"theory, {t}" if several else "theory"] = laws
    return columns, sorted(
        dict.fromkeys(name for cells in columns.values() for name in cells), key=lambda name: name[0]
    )


def _title(metric: str) -> str:
    return HEADLINES.get(metric) or metric


def _in_markdown(name: str) -> str:
    return in_page(name).replace("\\", "\\\\").replace("|", "\\|")


def _in_formula(cell: str) -> str:
    digits, e, power = cell.replace("±", r"\pm").partition("e")
    return f"${digits}" + (rf" \cdot 10^{{{int(power)}}}$" if e else "$") if cell else ""
