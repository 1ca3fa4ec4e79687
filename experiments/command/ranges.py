"""A field of a chain that is searched, and where, from the words of a command line."""

from __future__ import annotations

import math
from typing import Any


class Range:
    """A field that is searched, and where."""

    def __init__(self, path: str, low: float, high: float, step: float | None, values: list[float] | None) -> None:
        self.path, self.low, self.high, self.step, self.values = path, low, high, step, values

    @classmethod
    def read(cls, chain: Any, text: str) -> Range:
        """FIELD, FIELD=LOW..HIGH or FIELD=V1,V2,...; a field alone has the range of its declaration."""
        from simulator import GenlossError
        from simulator.checks.fields import allowed
        from simulator.numerics.schedule import Schedule
        from simulator.recipe import contract
        from simulator.running.spec import child, leaves, unknown

        path, _, given = text.partition("=")
        fields = {leaf.path: leaf.value for leaf in leaves(chain)}
        if path not in fields:
            raise GenlossError(unknown(path, list(fields), "The chain has no field"))
        value, owner = fields[path], chain
        if isinstance(value, bool | str | tuple) or not isinstance(value, int | float | Schedule):
            raise GenlossError(f"--over {path}: the field holds {value!r}, and what is searched is a number.")
        *above, name = path.split(".")
        for part in above:
            owner = child(owner, part)
        step = 1.0 if isinstance(value, int) else contract.step(owner, name)
        if not given:
            declared = allowed(owner, name)
            if declared is None or not (math.isfinite(declared.low) and math.isfinite(declared.high)):
                raise GenlossError(f"--over {path}: the field has no two ends; give them: --over {path}=LOW..HIGH.")
            return cls(path, declared.low, declared.high, step, None)
        try:
            values = [float(word) for word in given.replace("..", ",").split(",")]
            if not all(map(math.isfinite, values)) or (isinstance(value, int) and any(v % 1 for v in values)):
                raise ValueError
            if ".." in given:
                low, high = values
                return cls(path, low, high, step, None)
        except ValueError:
            what = "whole numbers" if isinstance(value, int) else "numbers"
            raise GenlossError(f"--over {path} takes two {what}, LOW..HIGH; it was given '{given}'.") from None
        return cls(path, min(values), max(values), step, sorted(set(values)))

    def some(self, n: int) -> list[float]:
        """The values that were named, or n of the range."""
        if self.values is not None:
            return self.values
        span = [self.low + (self.high - self.low) * i / (n - 1) for i in range(n)]
        return span if self.step is None else sorted({round(v / self.step) * self.step for v in span})
