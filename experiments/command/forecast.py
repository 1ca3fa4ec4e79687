"""`genloss forecast`: when a measure of a run that has begun will cross a bound, or that it cannot be told."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from experiments.command import shared
from experiments.command.command import Command
from experiments.command.numbers import near, number, place, whole

KINDS = (".parquet", ".csv")


def arguments(sub: argparse.ArgumentParser) -> None:
    what = "a run's folder, or records as .parquet or .csv: setting, replicate, generation, metric, value"
    sub.add_argument("records", type=place, metavar="RUN|FILE", help=what)
    sub.add_argument("--metric", metavar="M", help="the measure (default: that of --keep, or the only one)")
    bound = sub.add_mutually_exclusive_group()
    bound.add_argument("--keep", metavar="BOUND", help="such as 'diversity.variance >= 0.5' or '... 0.9 of control'")
    bound.add_argument("--bound", type=number(), metavar="X", help="of --metric, crossed from the side it begins on")
    sub.add_argument("--control", metavar="SETTING", help="that ate real rows alone (default: what the diet says)")
    sub.add_argument("--first", type=whole(1), metavar="K", help="from so many generations (default: all there are)")
    sub.add_argument("--generations", type=whole(1), metavar="T", help="up to so many in all (default: twice as many)")
    sub.add_argument("--confidence", type=number(), default=0.8, metavar="P", help="of intervals (default: 0.8)")
    shared.figure(sub)
    sub.add_argument("--json", action="store_true", help="as data")


def forecast(options: argparse.Namespace) -> int:
    from simulator import GenlossError
    from simulator.analysis.bounds import Keep
    from simulator.analysis.forecast import forecast as of
    from simulator.analysis.series import measured, series
    from simulator.report import forecasts
    from simulator.report.names import plain

    draw = shared.drawing(options.figure)
    name, records = _read(options.records)
    keep = Keep.parse(options.keep) if options.keep else None
    metric = options.metric or (keep.metric if keep else None)
    if metric is None:
        known = measured(records, name)
        if len(known) > 1:
            raise GenlossError(f"Say which measure: --metric M; {name} has: {', '.join(known)}.")
        metric = known[0]
    if keep and metric != keep.metric:
        raise GenlossError(f"--metric is {metric} and --keep is of {keep.metric}; leave --metric out.")
    found = series(records, metric, name)
    control = _control(options.control, records, found, keep)
    told, never = {}, {}
    for setting, (begin, values) in found.items():
        if setting == control:
            continue
        known = min(options.first or values.shape[1], values.shape[1])
        if options.first and options.first > known:
            raise GenlossError(f"--first is {options.first}, and '{setting}' has {known} generations of '{metric}'.")
        last = options.generations or max(2 * known, values.shape[1])
        beside = _beside(found, control, setting, known) if keep and keep.of_control else None
        bound = keep
        if options.bound is not None:
            sense = ">=" if values[:, 0].mean() >= options.bound else "<="
            bound = Keep(metric, sense, options.bound)
        try:
            told[setting] = of(
                values[:, :known], last, bound, beside, metric=metric, begin=begin, confidence=options.confidence
            )
        except GenlossError as error:  # of this setting alone: too short, or beyond the bound already
            never[setting] = str(error)
    if not told:
        raise GenlossError(next(iter(never.values())))
    if draw:
        draw(forecasts.drawn(told, {setting: values for setting, (_, values) in found.items()}))
    if options.json:
        data = {setting: one.data() for setting, one in told.items()}
        print(json.dumps(data | {setting: {"crosses": None, "why": said} for setting, said in never.items()}, indent=1))
        return 0
    _say(told)
    for setting, said in never.items():
        print(plain(f"{setting}: {said}"))
    if options.figure:
        print(f"figure: {near(Path(options.figure).absolute())}")
    return 0


def _read(place: str) -> tuple[str, Any]:
    """(what it is called, its records)."""
    import pandas

    from simulator import GenlossError, Store
    from simulator.checks.foreign import is_file, is_folder

    if is_folder(place):
        store = Store(place)
        return store.path.name, store.records()
    path = Path(place)
    if path.suffix.lower() not in KINDS:
        raise GenlossError(
            f"A forecast reads a run's folder or records in {' or '.join(KINDS)}; it was given '{place}'."
        )
    if not is_file(place):
        raise GenlossError(f"There are no records at {place}; give a run's folder, or a file that is there.")
    try:
        read = pandas.read_parquet if path.suffix.lower() == ".parquet" else pandas.read_csv
        return path.name, read(path)
    except (OSError, ValueError, MemoryError) as error:  # what pandas and pyarrow raise are ValueErrors and OSErrors
        said = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise GenlossError(f"{place} cannot be read as {path.suffix[1:]} ({said[:200]}); write it again.") from None


def _control(named: str | None, records: Any, found: dict[str, Any], keep: Any) -> str | None:
    from simulator import GenlossError
    from simulator.analysis.collapse import control
    from simulator.running.spec import unknown

    if named is not None and named not in found:
        raise GenlossError(unknown(named, list(found), "The records have no setting"))
    if named is None and keep and keep.of_control:
        named = control(records)
        if named is None:
            raise GenlossError(
                f"'{keep}' is asked of the control, and no setting here is known to have eaten real rows alone (the "
                "probe Diet says it); name it with --control SETTING, or give an absolute bound."
            )
    if named is not None and len(found) == 1:
        raise GenlossError(f"The control '{named}' is the only setting; forecast a run that has another.")
    return named


def _beside(found: dict[str, Any], control: str | None, setting: str, known: int) -> Any:
    from simulator import GenlossError

    assert control is not None
    own, other = found[setting], found[control]
    if other.begin != own.begin or other.values.shape[1] < known:
        raise GenlossError(
            f"The control '{control}' and '{setting}' have other generations ({other.begin} to "
            f"{other.begin + other.values.shape[1] - 1}); give records of both from the first on."
        )
    return other.values[:, :known]


def _say(told: dict[str, Any]) -> None:
    from experiments.command.tables import Column, show
    from simulator.report.names import plain

    level = f"{next(iter(told.values())).confidence:.0%}"
    rows = []
    for setting, one in told.items():
        now, end = one.begin + len(one.past) - 1, one.begin + len(one.past) + len(one.low) - 1
        law, weight = next(iter(one.weights.items()), ("none", 1.0))
        rows.append([
            plain(setting), str(now), f"{one.past[-1]:.3g}", str(end), f"{one.median[-1]:.3g}",
            f"[{one.low[-1]:.3g}, {one.high[-1]:.3g}]", _when(one), f"{law} ({weight:.0%})",
        ])  # fmt: skip
    heads = ["setting", "from", "value", "at", "value", level, "crosses", "likeliest law"]
    show([Column(head, right=1 <= i <= 5) for i, head in enumerate(heads)], rows)
    for setting, one in told.items():
        if one.keep is not None:
            print(plain(f"{setting}, {one.keep}: {one.why}"))


def _when(one: Any) -> str:
    """Whether and when, in a cell."""
    if one.keep is None:
        return ""
    if one.crosses is None:
        return "cannot tell"
    if not one.crosses:
        return "no"
    low, middle, high = (f"{t:.0f}" if math.isfinite(t) else "later" for t in one.crossing)
    return f"at {middle} [{low}, {high}]"


command = Command("when a measure of a run that has begun will cross a bound", arguments, forecast)
