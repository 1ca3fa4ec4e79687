"""How the pieces of a run are compiled."""

from __future__ import annotations

from typing import Any

import jax


def options() -> dict[str, Any]:
    """Compiler options of a program that is called from the host; inside another one the outer's hold.

    On CPU, LLVM works at its level 2.  At level 3, XLA's own choice, it writes out every loop of up to 300
    instructions, and so the rounds of each `jax.random` number, after they were widened to the processor's vectors:
    programs compile twice as long (a sampler of 863 lines seven times) and run no faster.  Sums may be taken in another
    order, which shows in last digits.
    """
    return {"xla_backend_optimization_level": 2} if jax.default_backend() == "cpu" else {}
