"""What is done with real rows before and beside a run: probes learn from them, and are shown them as the ceiling."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp

from simulator.abilities import Finite, Reusable
from simulator.chain import Chain
from simulator.pool import Pool, Rows, part, roots, take
from simulator.types import Array, Key


def adopt(chain: Chain, prepared: dict[Any, Any]) -> None:
    """The chain takes what was prepared before, by itself or by another with the same source and probes."""
    vars(chain)["prepared"] = prepared


def adopted(chain: Chain) -> dict[Any, Any] | None:
    """What a chain has prepared or taken; None where it has done neither yet."""
    return vars(chain).get("prepared")


def alone(chain: Chain, probe: str, prepared: dict[Any, Any]) -> Chain:
    """The chain with one of its probes alone, and what was learned for it before."""
    probes = {probe: chain.probes[probe]} if probe in chain.probes else {}
    made = dataclasses.replace(chain, probes=probes)
    adopt(made, prepared)
    return made


def perfect(chain: Chain, key: Key, capacity: int) -> tuple[Pool, Rows, Array | None]:
    """(diet, sample, its ancestors) of a perfect generator, to be measured as the ceiling: real rows.

    Sample and diet are disjoint where the source has enough rows.
    """
    n, source = chain.real + chain.rows, chain.source
    if isinstance(source, Finite) and not (isinstance(source, Reusable) and source.reuse):
        n = min(n, source.size)
    _, rows = chain.opened(key, n, capacity)
    diet = Pool.of(part(rows, jnp.arange(chain.real)), capacity, chain.follows)
    last = jnp.arange(max(0, n - chain.rows), n)
    return diet, take(rows, last), None if chain.follows is None else roots(last, last, chain.follows)
