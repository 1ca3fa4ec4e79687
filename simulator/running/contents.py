"""What chain.json and ceiling.json hold.  Imported where one is read: a run without a folder needs no msgspec."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired, TypedDict

import msgspec

Count = Annotated[int, msgspec.Meta(ge=1, lt=2**31)]
Whole = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]


class Swept(TypedDict):
    path: str
    values: Annotated[dict[str, Any], msgspec.Meta(min_length=1)]


class Run(TypedDict):
    """What makes a run this run and no other; `chain` and `key` as `simulator.running.spec` encodes them."""

    chain: dict[str, Any]
    key: dict[str, Any]
    sweep: Swept | None
    replicates: Count | None
    every: Count


class Stretch(TypedDict):
    """What computed the generations from `first` on."""

    first: Whole
    versions: dict[str, str]
    device: str


class Fork(TypedDict):
    """The run that the first generations, up to this one, are of."""

    of: str
    generation: Whole
    fork: NotRequired[Fork]


class About(TypedDict):
    """chain.json."""

    experiment: str | None
    run: Run
    signature: str
    generations: Count
    versions: dict[str, str]
    device: str
    stretches: NotRequired[list[Stretch]]
    fork: NotRequired[Fork]


class Ceiling(TypedDict):
    """ceiling.json: means of what probes say of real rows, and deviations over replicates; null where not finite."""

    run: str
    digest: str
    metrics: dict[str, float | None]
    deviations: NotRequired[dict[str, float | None]]
