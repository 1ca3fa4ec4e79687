"""When a collapse is seen: the first generation at which a measure has left that of the control."""

from __future__ import annotations

from typing import Any

import numpy as np

from simulator.types import GenlossError


def control(records: Any) -> str | None:
    """The setting of a run's tidy records that ate real rows alone, by the probe `Diet`; None where there is none."""
    eaten = records[records["metric"].eq("diet.real")].groupby("setting", sort=False)["value"].min()
    real = eaten[eaten > 1 - 1e-6]  # shares of mass are sums in float32
    return None if real.empty else str(real.index[0])


def reach(replicates: int, alarm: float = 0.05) -> float:
    """How many standard errors apart two means of R chains each must be: the quantile 1 - alarm/2 of Student's law with
    2(R - 1) degrees of freedom, those of the chains of one generation alone.
    """
    from scipy.special import stdtrit

    if not 0 < alarm < 1:
        raise GenlossError(f"The rate of false alarms is {alarm} and must lie between 0 and 1.")
    return float(stdtrit(2 * (replicates - 1), 1 - alarm / 2))


def apart(values: np.ndarray, control: np.ndarray, alarm: float = 0.05) -> np.ndarray:
    """Where the means over chains of values and control, both [..., replicates, generations], differ: bool [...,
    generations].

    Means of R chains are apart where they differ by more than `reach` · s (2/R)^½.  s² is the mean of both sides'
    variances at that generation, or the control's over all generations where that is larger: chains that happen to be
    alike alarm nobody, and a measure that never varies says nothing of chance.
    """
    replicates = control.shape[-2]
    if replicates < 2 or values.shape != control.shape:
        raise GenlossError(
            f"The onset needs two or more replicates of both; these are {values.shape} and {control.shape}."
        )
    alone = control.var(-2, ddof=1)  # [..., generations]
    square = np.maximum((values.var(-2, ddof=1) + alone) / 2, alone.mean(-1, keepdims=True))  # [..., generations]
    far = reach(replicates, alarm) * np.sqrt(2 * square / replicates)  # [..., generations]
    of_values, of_control = ((a != a[..., :1, :]).any(-2) for a in (values, control))  # [..., generations]: not all one
    varied = of_values | of_control.any(-1, keepdims=True)
    return varied & (np.abs(values.mean(-2) - control.mean(-2)) > far)


def onset(values: np.ndarray, control: np.ndarray, alarm: float = 0.05) -> int | None:
    """The first generation from which on values [replicates, generations] stay `apart` from control, of the same shape.

    None where the last generation is not apart, so chains of one normal law are called apart with probability `alarm`
    at most, however their generations depend on each other; and a true onset is named too early no more often than
    that.  Two chains a side have two degrees of freedom, so that `reach` is 4.3 at 0.05 and 31.6 at 0.001; four have
    six, 2.4 and 6.0.  Needs two replicates.
    """
    found = apart(values, control, alarm)  # [generations]
    if not found[-1]:
        return None
    together = np.flatnonzero(~found)  # generations
    return int(together[-1]) + 1 if together.size else 0


def onsets(records: Any, metrics: list[str], alarm: float = 0.05) -> Any:
    """`onset` of each metric in each setting against the control: a data frame [metric, setting]; empty without one.

    `alarm` is the probability that any of them is false: each is called at alarm / their number (Bonferroni), which
    holds however metrics and settings depend on each other.  Metrics with a value that is not finite are left out.
    """
    import pandas

    against = control(records)
    if against is None or records["replicate"].nunique() < 2:
        return pandas.DataFrame()
    compared: dict[str, dict[str, np.ndarray]] = {}  # metric -> setting -> [replicates, generations]
    for metric in metrics:
        of = {
            str(setting): rows.pivot(index="replicate", columns="generation", values="value").to_numpy()
            for setting, rows in records[records["metric"] == metric].groupby("setting", sort=False)
        }
        if all(np.isfinite(values).all() for values in of.values()):
            compared[metric] = of
    each = alarm / max(1, sum(len(of) - 1 for of in compared.values()))
    found = {
        metric: {setting: onset(values, of[against], each) for setting, values in of.items() if setting != against}
        for metric, of in compared.items()
    }
    return pandas.DataFrame.from_dict(found, orient="index", dtype="Int64")
