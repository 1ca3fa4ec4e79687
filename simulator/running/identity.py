"""What makes a run this run and no other."""

from __future__ import annotations

from typing import Any

from simulator.abilities import fingerprint
from simulator.chain import Chain
from simulator.running import spec
from simulator.running.sweep import Sweep
from simulator.types import Key


def identity(chain: Chain | Sweep, key: Key, replicates: int | None = None, every: int = 1) -> dict[str, Any]:
    """A run as JSON: everything but the number of its generations."""
    source = chain.chain.source if isinstance(chain, Sweep) else chain.source
    archive = fingerprint((chain.chain if isinstance(chain, Sweep) else chain).generator)
    sweep = {"path": chain.path, "values": dict(chain.values)} if isinstance(chain, Sweep) else None
    return {
        "chain": spec.encode(chain.chain if isinstance(chain, Sweep) else chain),
        "data": fingerprint(source),
        **({} if archive is None else {"archive": archive}),
        "sweep": spec.encode(sweep),
        "key": spec.encode(key),
        "replicates": replicates,
        "every": every,
    }
