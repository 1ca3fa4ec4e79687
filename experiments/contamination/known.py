"""What contamination was measured to cost: the rows of `hataya_contamination` in the table of published figures.

Read from the table as `genloss reproduce` last wrote it; a curve is used where it has every ratio of the paper.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.contamination.findings import IMAGENET, ROWS
from simulator.recipe.contamination import RATIOS

TABLE = Path(__file__).parents[1] / "figures" / "reproductions.md"
_LINE = re.compile(r"\| ([^|:]+): excess harm at (\d+) %[^|]*\|[^|]*\|[^|]*\| (-?[\d.]+) ± ([\d.e-]+)")


@dataclass(frozen=True)
class Curve:
    """Points of accuracy lost beyond those lost with other real rows, by the share of rows that is generated."""

    name: str
    rows: int  # of the set that it was measured on
    ratios: tuple[float, ...]  # from 0 to 1
    points: tuple[float, ...]
    errors: tuple[float, ...]  # standard errors; 0 at ratio 0

    def at(self, share: float) -> tuple[float, float]:
        """Points lost at a share and their standard error, on straight lines between the ratios."""
        return float(np.interp(share, self.ratios, self.points)), float(np.interp(share, self.ratios, self.errors))

    def worth(self, share: float) -> float:
        """Points that one percent of fresh real rows wins back at a share: the slope below it, over 100."""
        i = max(1, int(np.searchsorted(self.ratios, share)))
        return (self.points[i] - self.points[i - 1]) / (100 * (self.ratios[i] - self.ratios[i - 1]))

    def least(self, share: float, z: float) -> float | None:
        """The least share of rows that pays where fresh real ones take the place of generated ones: what it wins is
        above z standard errors of the two points.  None where not even all of `share` is."""
        lost, error = self.at(share)
        for fresh in np.linspace(0, share, 1001)[1:]:
            left, beside = self.at(share - fresh)
            if lost - left > z * np.hypot(error, beside):
                return float(fresh)
        return None


def curves() -> list[Curve]:
    """Ours that have every ratio, and the published one of ImageNet."""
    found: dict[str, dict[float, tuple[float, float]]] = {}
    for name, percent, points, error in _LINE.findall(TABLE.read_text(encoding="utf-8")):
        found.setdefault(name.strip(), {0.0: (0.0, 0.0)})[int(percent) / 100] = float(points), float(error)
    whole = {name: [of[ratio] for ratio in RATIOS] for name, of in found.items() if of.keys() == set(RATIOS)}
    ours = [Curve(name, ROWS, RATIOS, *zip(*values, strict=True)) for name, values in whole.items()]
    lost = tuple(round(b - a, 1) for a, b in zip(IMAGENET["generated"], IMAGENET["other real"], strict=True))
    read = (0.0, *(0.4,) * (len(RATIOS) - 1))  # two readings of a plot, each to 0.3
    return [*ours, Curve("ImageNet, Stable Diffusion (published, digitised)", 1_281_167, RATIOS, lost, read)]
