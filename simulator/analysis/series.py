"""A measure's tidy records as arrays, of a run or of another tool, checked."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from simulator.running.spec import unknown
from simulator.types import GenlossError

COLUMNS = ("setting", "replicate", "generation", "metric", "value")


class Series(NamedTuple):
    """One setting's values."""

    begin: int  # the number of the first generation
    values: np.ndarray  # [replicates, generations]


def measured(records: Any, of: str) -> list[str]:
    """The measures in records, which have the five columns; `of` is what they are called."""
    missing = [column for column in COLUMNS if column not in records.columns]
    if missing:
        raise GenlossError(
            f"{of} has no column '{missing[0]}'; records have the columns {', '.join(COLUMNS)}, a row a value."
        )
    if records.empty:
        raise GenlossError(f"{of} has no records; run at least one generation.")
    return [str(metric) for metric in dict.fromkeys(records["metric"])]


def series(records: Any, metric: str, of: str) -> dict[str, Series]:
    """Each setting's values of a measure, as far as they go.

    Raises `GenlossError` where there is no such measure, where a generation is missing, given twice or no whole number,
    and where a value is no finite number.
    """
    import pandas

    known = measured(records, of)
    if metric not in known:
        raise GenlossError(unknown(metric, known, f"{of} has no measure"))
    chosen = records[records["metric"].astype(str) == metric]
    numbers: Any = pandas.to_numeric
    at, value = (numbers(chosen[name], errors="coerce").to_numpy(np.float64) for name in ("generation", "value"))
    whole = np.isfinite(at) & (np.mod(at, 1) == 0)
    if not whole.all():
        wrong = chosen["generation"].iloc[int(np.argmin(whole))]
        raise GenlossError(f"{of} has a generation '{wrong}' of '{metric}'; generations are whole numbers.")
    chosen = chosen.assign(generation=at.astype(int), value=value)
    return {str(setting): _of_setting(rows, metric, str(setting)) for setting, rows in _settings(chosen, of)}


def _settings(rows: Any, of: str) -> Any:
    if rows[["setting", "replicate"]].isna().any(axis=None):
        raise GenlossError(f"{of} has a row without a setting or a replicate; name each, such as 'chain' and 0.")
    return rows.groupby("setting", sort=False)


def _of_setting(rows: Any, metric: str, setting: str) -> Series:
    where = f"of '{metric}' in setting '{setting}'"
    if (twice := rows.duplicated(["replicate", "generation"])).any():
        row = rows[twice].iloc[0]
        raise GenlossError(
            f"Replicate {row['replicate']} {where} has generation {row['generation']} twice; give each value once."
        )
    begin, end = int(rows["generation"].min()), int(rows["generation"].max())
    for replicate, own in rows.groupby("replicate", sort=True):
        there = set(own["generation"])
        gone = next((t for t in range(begin, end + 1) if t not in there), None)
        if gone is not None:
            raise GenlossError(
                f"Replicate {replicate} {where} has no generation {gone}, of {begin} to {end}; a forecast wants every "
                "one, of every replicate."
            )
    bad = ~np.isfinite(rows["value"])
    if bad.any():
        row = rows[bad].iloc[0]
        raise GenlossError(
            f"Replicate {row['replicate']} {where} has no finite value at generation {row['generation']}; leave that "
            "replicate out, or all generations from there on."
        )
    wide = rows.pivot(index="replicate", columns="generation", values="value")
    return Series(begin, wide.to_numpy(np.float64))
