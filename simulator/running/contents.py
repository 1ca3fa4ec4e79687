"""What chain.json, ceiling.json and bundle.json hold.  Imported where one is read: a run by itself needs no msgspec."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, TypedDict

import msgspec

Count = Annotated[int, msgspec.Meta(ge=1, lt=2**31)]
Whole = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]


class Swept(TypedDict):
    path: str
    values: Annotated[dict[str, Any], msgspec.Meta(min_length=1)]


class Identity(TypedDict):
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
    processor: NotRequired[str]
    generations: NotRequired[Count]  # that the pool had room for
    mesh: NotRequired[list[Count] | None]  # chains side by side, parts of a minibatch, processes


class Fork(TypedDict):
    """The run that the first generations, up to this one, are of, and the recipe it had."""

    of: str
    generation: Whole
    recipe: NotRequired[Any]
    fork: NotRequired[Fork]


class About(TypedDict):
    """chain.json."""

    experiment: str | None
    run: Identity
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


class Bundle(TypedDict):
    """bundle.json, in a bundle: the checkpoints in it, and the checksum of every file."""

    format: Literal[1]
    run: str
    checkpoints: list[Whole]
    all: bool
    needs: dict[str, Any]
    files: dict[str, Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]]
