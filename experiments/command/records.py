"""`genloss records`: the records of runs in one file, for pandas, polars, DuckDB or R."""

from __future__ import annotations

import argparse

from experiments.command import shared
from experiments.command.command import Command
from experiments.command.loading import stored_runs
from experiments.command.numbers import near, place

KINDS = (".parquet", ".csv")
MOST = 6  # fields that are named


def arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("runs", type=place, nargs="+", metavar="RUN", help="runs' folders")
    sub.add_argument("--to", type=place, metavar="FILE", help="the file to write, .parquet or .csv")


def records(options: argparse.Namespace) -> int:
    from simulator import disk
    from simulator.analysis.joined import dumped, joined
    from simulator.analysis.series import COLUMNS
    from simulator.report.names import plain

    file = shared.new_file(options.to, "--to", KINDS)
    table = joined(stored_runs(options.runs))
    data = dumped(table) if file.suffix.lower() == ".parquet" else table.to_csv(index=False).encode()
    disk.write(file.parent, file.name, data)
    fields = [name for name in table.columns if name not in ("run", *COLUMNS)]
    more = f" and {len(fields) - MOST} more" if len(fields) > MOST else ""
    apart = f", beside {', '.join(fields[:MOST])}{more}" if fields else ""
    print(plain(f"{near(file)}: {len(table):,} values of {len(options.runs)} runs{apart}"))
    return 0


command = Command("the records of runs in one file, with the fields they differ in as columns", arguments, records)
