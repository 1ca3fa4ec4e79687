"""`genloss heal`: a model of a run, cured in weight space and measured again."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.command import shared
from experiments.command.command import Command
from experiments.command.loading import trusted
from experiments.command.numbers import near, place, whole

CURES = ("neon", "negate", "average")


def arguments(sub: argparse.ArgumentParser) -> None:
    shared.run_folder(sub)
    shared.trust(sub)
    sub.add_argument("--by", choices=CURES, default="neon", help="the cure (default: neon)")
    sub.add_argument(
        "--w",
        type=_numbers,
        default=[0.1],
        metavar="W[,W...]",
        help="how strong (default: 0.1); of several one is chosen",
    )
    sub.add_argument(
        "--choose", metavar="M", help="by which measure: the nearest to that of real rows, in half of the replicates"
    )
    sub.add_argument("--generation", type=whole(1), metavar="K", help="which to heal (default: the last)")
    sub.add_argument("--metric", nargs="+", action="extend", metavar="M", help="measures told (default: the headlines)")
    sub.add_argument("--to", type=place, metavar="DIR", help="write the healed parameters and the table there")
    sub.add_argument("--json", action="store_true", help="as data")


def _numbers(text: str) -> list[float]:
    try:
        found = [float(word) for word in text.split(",")]
    except ValueError:
        found = [math.nan]
    if not all(map(math.isfinite, found)) or len(set(found)) < len(found) or min(found) < 0:
        raise argparse.ArgumentTypeError(
            f"takes different numbers of at least 0 with commas between, not '{text[:40]}'"
        )
    return found


def heal(options: argparse.Namespace) -> int:
    from generators import heal as cures
    from simulator import GenlossError, Store
    from simulator.report import figures
    from simulator.running.again import Again
    from simulator.running.spec import unknown

    store = Store(options.run)
    about, records, ceiling = store.about(), store.records(), store.ceiling()
    subject = store.chain(trusted(about, options.trust, options.code))
    chain = getattr(subject, "chain", subject)
    last, replicates = max(store.steps(), default=0), sorted(set(records["replicate"]))
    k = last if options.generation is None else options.generation
    if not 1 <= k <= last:
        raise GenlossError(f"{store.path} has no generation {k} that a cure could help; it has 0 to {last}.")
    if options.choose not in (None, *ceiling):
        raise GenlossError(unknown(options.choose, sorted(ceiling), "Real rows have no measure"))
    if len(options.w) > 1 and (options.choose is None or len(replicates) < 2):
        raise GenlossError("Several --w take --choose M and two replicates or more: half choose, the others tell.")
    if options.to and Path(options.to).exists():
        raise GenlossError(f"{options.to} is there already; choose another place for --to.")
    cures.check(chain)
    again = Again(store, subject, k)
    generations = [again.params(t) for t in range(k + 1)]
    models = {w: cures.healed(chain, options.by, w, generations) for w in options.w}
    measured = {w: again.measured(params) for w, params in models.items()}
    known = list(dict.fromkeys(measured[options.w[0]]["metric"]))
    metrics = list(dict.fromkeys(options.metric or figures.shown(known)))
    for metric in metrics:
        if metric not in known:
            raise GenlossError(unknown(metric, known, "A healed model has no measure"))
    half = (len(replicates) + 1) // 2
    choosing, telling = (replicates[:half], replicates[half:]) if len(options.w) > 1 else ([], replicates)
    strengths = {
        setting: _nearest(measured, setting, str(options.choose), ceiling, choosing) if choosing else options.w[0]
        for setting in dict.fromkeys(records["setting"])
    }
    rows = _rows(records, measured, strengths, telling, ceiling, metrics, k)
    told = {"by": options.by, "generation": k, "choose": options.choose, "choosing": choosing, "telling": telling}
    if options.to:
        _write(Path(options.to), about["signature"], again.drive.sweep is not None, models, strengths, told, rows)
    if options.json:
        print(json.dumps(told | {"values": rows}, indent=1))
    else:
        _print(told, rows)
        if options.to:
            print(f"parameters: {near(Path(options.to).absolute())}")
    return 0


def _at(records: Any, setting: str, metric: str, replicates: Sequence[int], t: int | None = None) -> Any:
    """[replicates]: a measure of those chains, at a generation where there are several."""
    chosen = records[(records["setting"] == setting) & (records["metric"] == metric)]
    chosen = chosen if t is None else chosen[chosen["generation"] == t]
    return chosen.set_index("replicate")["value"].reindex(replicates).to_numpy()


def _nearest(
    measured: Mapping[float, Any], setting: str, metric: str, ceiling: Mapping[str, float], replicates: Sequence[int]
) -> float:
    """The strength whose mean is nearest to that of real rows; one that is not finite is the last choice."""

    def away(w: float) -> float:
        gap = abs(_at(measured[w], setting, metric, replicates).mean() - ceiling[metric])
        return gap if math.isfinite(gap) else math.inf

    return min(measured, key=away)


def _rows(
    records: Any,
    measured: Mapping[float, Any],
    strengths: Mapping[str, float],
    replicates: Sequence[int],
    ceiling: Mapping[str, float],
    metrics: Sequence[str],
    k: int,
) -> list[dict[str, Any]]:
    """Of each metric and setting: means at generation 0, K, and healed, its gain over either with a 95 % interval,
    paired by replicate; the control's at K, and that of real rows."""
    import numpy as np

    from simulator.analysis.collapse import control
    from simulator.analysis.compare import difference

    against, rows = control(records), []
    for metric in metrics:
        for setting, w in strengths.items():
            first, last = (_at(records, setting, metric, replicates, t) for t in (0, k))  # [replicates]
            found = _at(measured[w], setting, metric, replicates)  # [replicates]
            real_only = None if against is None else _at(records, against, metric, replicates, k).mean()
            values = {"first": first.mean(), "last": last.mean(), "healed": found.mean()}
            values |= {"control": real_only, "real": ceiling.get(metric)}
            with np.errstate(invalid="ignore"):  # what is not finite has no gain
                gains = {"over_first": difference(found, first, True), "over_last": difference(found, last, True)}
            told = {name: _finite(value) for name, value in values.items()}
            told |= {name: {n: _finite(v) for n, v in gain._asdict().items()} for name, gain in gains.items()}
            rows.append({"metric": metric, "setting": setting, "w": w, **told})
    return rows


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None  # JSON has no NaN


def _print(told: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    from rich.console import Console
    from rich.text import Text

    from experiments.command.tables import Column, show
    from simulator.report.figures import HEADLINES
    from simulator.report.names import plain

    number = lambda value: "" if value is None else f"{value:.3g}"  # noqa: E731

    def gain(found: Mapping[str, float | None]) -> str:
        mean, high = found["mean"], found["high"]
        return "" if mean is None else f"{mean:+.3g}" + (f" ± {high - mean:.2g}" if high is not None else "")

    columns = {
        Column("measure"): [HEADLINES.get(row["metric"], row["metric"]) for row in rows],
        Column("setting"): [row["setting"] for row in rows],
        Column("w", right=True): [f"{row['w']:g}" for row in rows],
        Column("at 0", right=True): [number(row["first"]) for row in rows],
        Column(f"at {told['generation']}", right=True): [number(row["last"]) for row in rows],
        Column("healed", right=True): [number(row["healed"]) or "nan" for row in rows],
        Column("over 0", right=True): [gain(row["over_first"]) for row in rows],
        Column(f"over {told['generation']}", right=True): [gain(row["over_last"]) for row in rows],
        Column("control", right=True): [number(row["control"]) for row in rows],
        Column("real", right=True): [number(row["real"]) for row in rows],
    }
    several = len({row["setting"] for row in rows}) > 1
    kept = {c: cells for c, cells in columns.items() if any(cells) and (several or c.name != "setting")}
    lines = [[plain(cell) for cell in line] for line in zip(*kept.values(), strict=True)]
    before = None
    for line in lines:  # a measure is named once
        before, line[0] = line[0], "" if line[0] == before else line[0]
    show(list(kept), lines)
    n = len(told["telling"])
    said = f"{told['by']} of generation {told['generation']}; means of {n} replicate{'s' * (n > 1)}"
    said += "; ± is half of the 95 % interval of a difference, paired by replicate." if n > 1 else "."
    if told["choosing"]:
        others = ", ".join(map(str, told["choosing"]))
        said += f"  w was chosen by {told['choose']}, nearest to that of real rows, in the replicates {others}."
    console = Console()
    console.print(Text(plain(said)), style="dim", soft_wrap=not console.is_terminal, highlight=False)


def _write(
    place: Path,
    run: str,
    swept: bool,
    models: Mapping[float, Any],
    strengths: Mapping[str, float],
    told: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
) -> None:
    """params.npz, whose leaves are those of a checkpoint, each setting healed by its own w; and heal.json."""
    import numpy as np

    from simulator import disk
    from simulator.running import files

    leaves = {w: files.numbered(params) for w, params in models.items()}
    chosen = list(strengths.values())
    made = leaves[chosen[0]]
    if swept:  # leaves [settings, ...]
        made = {name: np.stack([leaves[w][name][i] for i, w in enumerate(chosen)]) for name in made}
    with disk.new_folder(place) as folder:
        disk.write(folder, "params.npz", files.dump_arrays(run, made))
        disk.write(
            folder, "heal.json", json.dumps({"run": run, **told, "w": strengths, "values": rows}, indent=1).encode()
        )


command = Command("cure a model in weight space: from the weights of several generations", arguments, heal)
