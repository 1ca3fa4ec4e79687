"""What each definition of collapse says of each setting of a run, from its records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from simulator.analysis.collapse import control
from simulator.analysis.definitions import DEFINITIONS, Arm, Bounds, slopes, slower, when
from simulator.analysis.measures import Reading, looked_at, named
from simulator.running.store import Store
from simulator.types import GenlossError

BEGUN = "generation 0"  # the reference where no setting is one
ALARM, CONFIDENCE = 0.05, 0.95  # unless another is asked for


class Verdict(NamedTuple):
    """What one definition says of one setting."""

    definition: str
    setting: str
    holds: bool | None  # None: it cannot be told from this data
    why: str  # a sentence: how sure it is, or what is missing
    against: str  # the reference: a setting, or "generation 0"
    metric: str | None = None  # what was looked at
    last: float | None = None  # its mean over chains at the last generation; of a scaling law the exponent
    reference: float | None = None  # the same of the reference
    onset: int | None = None  # where it holds: from which generation on the mean over chains is beyond the bound
    low: int | None = None  # the onset's confidence interval (`simulator.analysis.definitions.when`)
    high: int | None = None


def of_run(
    store: Store, others: Sequence[Store] = (), own: Mapping[str, tuple[str, str]] | None = None
) -> list[Verdict]:
    """`verdicts` of a stored run; `others` are runs that differ in their number of rows alone.  Builds no chain."""
    by_rows: dict[int, Any] = {}
    for each in (store, *others):
        real = each.about()["run"]["chain"].get("real")
        if not isinstance(real, int) or real in by_rows:
            raise GenlossError(
                f"{each.path} has {real} real rows, as another of these runs; give runs that differ in rows."
            )
        by_rows[real] = each.records()
    probes = named(store.about()["run"]["chain"].get("probes"))
    return verdicts(next(iter(by_rows.values())), probes, own, by_rows)


def verdicts(
    records: Any,
    probes: Mapping[str, str],
    own: Mapping[str, tuple[str, str]] | None = None,
    by_rows: Mapping[int, Any] | None = None,
    bounds: Bounds = Bounds(),
    alarm: float = ALARM,
    confidence: float = CONFIDENCE,
) -> list[Verdict]:
    """Each definition of each setting but the reference, of a run's tidy records.

    The reference is the setting that ate real rows alone, `collapse.control`, or generation 0 of the same chains.
    `probes` and `own` say what was measured, as in `measures.looked_at`.  `by_rows` are records of runs that differ in
    their number of rows alone, by that number: without them nothing is known of a scaling law.  `alarm` bounds the
    chance that any verdict is wrong: each is given at alarm / their number.  `confidence` is that of each onset's
    interval.  Raises `GenlossError` where records have gaps, or runs differ in settings, replicates or generations.
    """
    for name, share in (("rate of false alarms", alarm), ("confidence", confidence)):
        if not 0 < share < 1:
            raise GenlossError(f"The {name} is {share} and must lie between 0 and 1.")
    reference = control(records)
    settings = [str(s) for s in dict.fromkeys(records["setting"]) if s != reference]
    found = looked_at(records, probes, own)
    arms: dict[str, dict[str, Arm] | str] = {}  # definition -> setting -> what it is asked of, or why there is nothing
    for definition, (kind, ask) in DEFINITIONS.items():
        reading = found[kind]
        if isinstance(reading, str):
            arms[definition] = reading
        elif ask is slower:
            arms[definition] = _slopes(by_rows or {}, reading, reference)
        else:
            arms[definition] = _arms(reading.table(records), reading, reference)
    asked = len(settings) * sum(not isinstance(of, str) for of in arms.values())
    said = []
    for definition, of in arms.items():
        reading, against = found[DEFINITIONS[definition][0]], reference or BEGUN
        for setting in settings:
            if isinstance(of, str) or isinstance(reading, str):
                said.append(Verdict(definition, setting, None, str(of), against))
                continue
            said.append(_verdict(definition, setting, against, reading, of[setting], bounds, alarm / asked, confidence))
    return said


def _verdict(
    definition: str, setting: str, against: str, of: Reading, arm: Arm, bounds: Bounds, alarm: float, confidence: float
) -> Verdict:
    ask = DEFINITIONS[definition][1]
    finding, (last, reference) = ask(arm, bounds, alarm), (float(a[:, -1].mean()) for a in arm[:2])
    if ask is not slower:
        last, reference = of.back(last), of.back(reference)
    onset = low = high = None
    if finding.holds and finding.bound is not None:
        onset, low, high = when(arm, finding.bound, confidence)
    return Verdict(
        definition, setting, finding.holds, finding.why, against, of.metric, last, reference, onset, low, high
    )


def _arms(tables: Mapping[str, np.ndarray], reading: Reading, reference: str | None) -> dict[str, Arm] | str:
    """A measure of each setting, with the reference's."""
    values = next(iter(tables.values()))
    if len(values) < 2:
        return "One replicate says nothing of chance; run two or more."
    if values.shape[1] < 2:
        return "Generation 0 alone has eaten nothing that was said; run more generations."
    against = {
        name: tables[reference] if reference else np.broadcast_to(a[:, :1], a.shape) for name, a in tables.items()
    }
    return {name: Arm(a, against[name], reference is None, reading.logarithmic) for name, a in tables.items()}


def _slopes(by_rows: Mapping[int, Any], reading: Reading, reference: str | None) -> dict[str, Arm] | str:
    """The exponent of the scaling law of each setting, with the reference's."""
    if len(by_rows) < 2:
        return "It wants runs of two or more numbers of rows."
    if reading.logarithmic:
        return f"{reading.metric} is known up to a constant, and the law is of a risk that is 0 at best."
    tables = {n: reading.table(records) for n, records in by_rows.items()}
    shapes = [{name: a.shape for name, a in of.items()} for of in tables.values()]
    if any(shape != shapes[0] for shape in shapes) or any(control(r) != reference for r in by_rows.values()):
        raise GenlossError(
            "The runs are of different settings, replicates or generations; give runs that differ in rows."
        )
    if not all((a > 0).all() for of in tables.values() for a in of.values()):
        return f"{reading.metric} is not above 0 in every chain, so that it has no logarithm."
    found = {name: slopes({n: of[name] for n, of in tables.items()}) for name in shapes[0]}
    return _arms(found, reading._replace(reading="nats"), reference)
