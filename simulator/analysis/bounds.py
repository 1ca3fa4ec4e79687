"""What a run is to keep: a bound on a measure, absolute or relative to a control, over the whole run or at its end."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from simulator.types import GenlossError

_GRAMMAR = re.compile(
    r"\s*(?P<metric>\S+?)\s*(?P<sense>>=|<=|≥|≤)\s*(?P<bound>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,2})?)"
    r"(?P<control>\s+of\s+control)?(?:\s+(?P<when>at the end|over the run))?\s*"
)


@dataclass(frozen=True)
class Keep:
    """`fidelity.recall >= 0.95 of control`: what the mean of a measure over chains is to keep.

    With c = the control's mean at the same generation (1 where the bound is absolute), the margin of a generation is
    m - bound·c for ">=" and bound·c - m for "<="; the bound is kept over the run where it is at least 0 at every
    generation, and at the end where it is so at the last.
    """

    metric: str  # as records name it, "diversity.variance"
    sense: Literal[">=", "<="]
    bound: float
    of_control: bool = False
    at_end: bool = False

    @classmethod
    def parse(cls, text: str) -> Keep:
        """From words: METRIC >= NUMBER [of control] [at the end | over the run]."""
        found = _GRAMMAR.fullmatch(text)
        if found is None or not math.isfinite(float(found["bound"])):
            raise GenlossError(
                f"What is to be kept is written as 'fidelity.recall >= 0.95 of control' or "
                f"'diversity.variance >= 0.5 at the end'; it was given '{text}'."
            )
        sense: Literal[">=", "<="] = ">=" if found["sense"] in (">=", "≥") else "<="
        return cls(found["metric"], sense, float(found["bound"]), bool(found["control"]), found["when"] == "at the end")

    def margins(self, values: np.ndarray, control: np.ndarray | None = None) -> np.ndarray:
        """Of each value [..., generations], paired with the control's [..., generations] where it is relative to one:
        [..., generations], or [..., 1] where the end alone counts.
        """
        level = self.bound * (control if self.of_control and control is not None else 1.0)  # [..., generations]
        found = np.asarray(values - level if self.sense == ">=" else level - values, np.float64)
        return found[..., -1:] if self.at_end else found

    def __str__(self) -> str:
        control = " of control" if self.of_control else ""
        return f"{self.metric} {self.sense} {self.bound:g}{control} {'at the end' if self.at_end else 'over the run'}"
