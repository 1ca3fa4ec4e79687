"""What a run measured: of each metric and setting the first and the last value, its interval, its law; and whether it
has collapsed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from experiments.command.tables import Column, show
from simulator.analysis.verdicts import Verdict
from simulator.report import collapsed
from simulator.report.figures import HEADLINES, shown
from simulator.report.names import on_terminal, plain
from simulator.theory import Overlay, sentences

ANSWERS = ("holds", "does not", "cannot be told")


def summary(
    records: Any, ceiling: Mapping[str, float], laws: Mapping[str, Overlay], metrics: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Of each metric and setting: first and last value, means over replicates; `half` the width of the 95 % interval of
    the last, by Student's t over replicates (None of one); law and value of real rows, where there are such."""
    from scipy.special import stdtrit

    metrics, last = metrics or shown(records["metric"]), int(records["generation"].max())
    chosen = records[records["metric"].isin(metrics) & records["generation"].isin([0, last])]
    found = chosen.groupby(["metric", "setting", "generation"], sort=False)["value"].agg(["mean", "sem", "count"])
    rows = []
    for metric in metrics:
        for setting in dict.fromkeys(records["setting"]):
            mean, error, count = found.reindex([(metric, setting, last)]).iloc[0]
            half = float(stdtrit(count - 1, 0.975) * error) if count > 1 else None
            law = laws[setting].at(metric, last) if setting in laws else None
            first = found.reindex([(metric, setting, 0)]).iloc[0]["mean"]
            values = {"first": float(first), "last": float(mean), "half": half, "theory": law}
            rows.append({"metric": metric, "setting": setting, **values, "real": ceiling.get(metric)})
    return rows


def print_table(
    records: Any,
    ceiling: Mapping[str, float],
    laws: Mapping[str, Overlay],
    console: Console | None = None,
    metrics: Sequence[str] | None = None,
) -> None:
    """A line for each metric and setting, as in `summary`; and a line on every law."""
    console, rows = console or Console(), summary(records, ceiling, laws, metrics)
    last, replicates = int(records["generation"].max()), records["replicate"].nunique()
    cells: dict[Column, list[str]] = {
        Column("measure"): [HEADLINES.get(row["metric"]) or str(row["metric"]) for row in rows],
        Column("setting"): [str(row["setting"]) for row in rows],
        Column("at 0", right=True): [f"{row['first']:.3g}" for row in rows],
        Column(f"at {last}", right=True): [f"{row['last']:.3g}" for row in rows],
        Column("± 95 %", right=True): ["" if row["half"] is None else f"{row['half']:.2g}" for row in rows],
        Column("theory", right=True): ["" if row["theory"] is None else f"{row['theory']:.3g}" for row in rows],
        Column("real", right=True): ["" if row["real"] is None else f"{row['real']:.3g}" for row in rows],
    }
    several = records["setting"].nunique() > 1
    kept = {c: each for c, each in cells.items() if any(each) and (several or c.name != "setting")}
    lines = [[plain(cell) for cell in row] for row in zip(*kept.values(), strict=True)]
    before = None
    for line in lines:  # a measure is named once
        before, line[0] = line[0], "" if line[0] == before else line[0]
    show(list(kept), lines, console=console)
    of = "one replicate, so without intervals" if replicates < 2 else f"means of {replicates} replicates"
    said = [f"Values at generation 0 and {last}: {of}."]
    if replicates > 1:
        said.append("± is half of their 95 % interval, by Student's t.")
    if "real" in [column.name for column in kept]:
        said.append("real: real rows against held-out real ones.")
    console.print(Text(" ".join(said)), style="dim", soft_wrap=not console.is_terminal)
    for line in sentences(laws):
        console.print(on_terminal(f"theory, {line}"), style="dim", soft_wrap=not console.is_terminal, highlight=False)


def print_verdicts(
    found: Sequence[Verdict], ceiling: Mapping[str, float], noise: Mapping[str, float], console: Console | None = None
) -> None:
    """A line for each definition of collapse that something was measured for, and on the others why not."""
    if not found:
        return
    console = console or Console()
    console.print()
    lines = collapsed.lines(found)
    told = [
        (definition, metric, ". ".join(f"{word}: {named}" for word, named in zip(ANSWERS, of, strict=True) if named))
        for definition, metric, *of in lines
    ]
    if told:
        columns = (Column("has it collapsed?", prose=True), Column("measure"), Column("answer", prose=True))
        show(columns, [[plain(cell) for cell in line] for line in told], console=console)
    for line in collapsed.sentences(found, ceiling, noise):
        console.print(on_terminal(line), style="dim", soft_wrap=not console.is_terminal, highlight=False)
