"""When a collapse is seen: the first generation at which a measure has left that of the control."""

from __future__ import annotations

from typing import Any

import numpy as np


def control(records: Any) -> str | None:
    """The setting of a run's tidy records that ate real rows alone, by the probe `Diet`; None where there is none."""
    eaten = records[records["metric"].eq("diet.real")].groupby("setting", sort=False)["value"].min()
    real = eaten[eaten > 1 - 1e-6]
    return None if real.empty else str(real.index[0])


def onset(values: np.ndarray, control: np.ndarray, sigmas: float = 4.0) -> int | None:
    """The first generation from which on values [replicates, generations] stay apart from control, of the same shape.

    A chain of the control is stationary after generation 0, so all its values tell the standard deviation s of one
    chain, pooled around the mean of each generation.  With R chains a side, means are apart where they differ by more
    than sigmas · s · (2/R)^½.  None where the last generation is not apart.  Needs two replicates.
    """
    replicates, generations = control.shape
    if replicates < 2 or values.shape != control.shape:
        raise ValueError(
            f"The onset needs two or more replicates of both; these are {values.shape} and {control.shape}."
        )
    spread = np.sqrt(np.square(control - control.mean(0)).sum() / ((replicates - 1) * generations))
    apart = np.abs(values.mean(0) - control.mean(0)) > sigmas * spread * np.sqrt(2 / replicates)  # [generations]
    if not apart[-1]:
        return None
    together = np.flatnonzero(~apart)  # generations
    return int(together[-1]) + 1 if together.size else 0


def onsets(records: Any, metrics: list[str], sigmas: float = 4.0) -> Any:
    """`onset` of each metric in each setting against the control: a data frame [metric, setting]; empty without one."""
    import pandas

    against = control(records)
    if against is None or records["replicate"].nunique() < 2:
        return pandas.DataFrame()
    found: dict[str, dict[str, int | None]] = {}
    for metric in metrics:
        of = {
            str(setting): rows.pivot(index="replicate", columns="generation", values="value").to_numpy()
            for setting, rows in records[records["metric"] == metric].groupby("setting", sort=False)
        }
        if all(np.isfinite(values).all() for values in of.values()):
            found[metric] = {s: onset(values, of[against], sigmas) for s, values in of.items() if s != against}
    return pandas.DataFrame.from_dict(found, orient="index", dtype="Int64")
