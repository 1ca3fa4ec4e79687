"""How the pieces of a run are compiled."""

from __future__ import annotations

import os
from typing import Any

import jax

LEVEL = "xla_backend_optimization_level"


def options() -> dict[str, Any]:
    """Compiler options of a program that is called from the host; inside another one the outer's hold.

    On CPU, LLVM works at its level 2.  At level 3, XLA's own choice, it writes out longer loops, and so the rounds of
    each `jax.random` number: the programs of `digits` compile twice as long, a sampler of 863 lines seven times.  Some
    distances differ in their last digits (`experiments/LOG.md`).  A level that the variable `XLA_FLAGS` names holds,
    and so does jax's own option to do without most of the work.
    """
    named = LEVEL in os.environ.get("XLA_FLAGS", "") or jax.config.read("jax_disable_most_optimizations")
    return {LEVEL: 2} if jax.default_backend() == "cpu" and not named else {}
