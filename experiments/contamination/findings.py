"""What the contamination experiments put into the table of published figures: harm, marks of the paper, their errors.

Apart from the experiments, which need their data sets to be there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.command.reproductions import Claim, Finding
from simulator.analysis.harm import excess, worst, worths
from simulator.recipe.contamination import RATIOS

# ResNet-50 on ImageNet, top-1 in percent at RATIOS, digitised from the first author's plot (± 0.3).
IMAGENET = {"generated": (75.6, 74.7, 72.8, 65.3, 15.5), "other real": (75.6, 75.3, 74.1, 68.4, 61.4)}
ROWS = 2000  # real rows of a set
MOST = (0.8, 1.0)  # ratios where the cliff is
NOTE = (
    "Seeds differ in real rows, in which of them are replaced and by what, and in the judge's first weights and "
    "minibatches. They share one fitted generator, the stored set of what it says, and the held-out rows, whose chance "
    "is in no error here. A value without an error is of one set of 2,000 rows."
)


@dataclass(frozen=True)
class Case:
    """A data set and a generator: what its rows are worth, and how much of real rows they cover."""

    data: str
    generator: str
    classes: tuple[str, ...]
    arms: dict[str, dict[str, np.ndarray]]  # of `judged`
    cover: dict[str, np.ndarray]  # of `fidelity`

    @property
    def name(self) -> str:
        return f"{self.data}, {self.generator}"

    @property
    def low(self) -> bool:
        return self.cover["coverage"][-1] < 0.5

    @property
    def full(self) -> bool:
        return self.cover["coverage"][-1] > 0.9


def harm(name: str, arms: dict[str, Any], ratios: tuple[float, ...], published: bool = False) -> list[Finding]:
    """Of the last of the ratios that were measured."""
    points = 100 * (arms["other real"]["accuracy"] - arms["generated"]["accuracy"])[-len(ratios) :]  # [ratios, seeds]
    generated, control = (dict(zip(RATIOS, IMAGENET[arm], strict=True)) for arm in ("generated", "other real"))
    theirs = [f" (on ImageNet {control[r] - generated[r]:.1f})" if published else "" for r in ratios]
    return [
        Finding.of_mean(f"{name}: excess harm at {100 * r:.0f} %, points{said}", samples)
        for r, said, samples in zip(ratios, theirs, points, strict=True)
    ]


def findings_of(case: Case) -> list[Finding | Claim]:
    """Harm at each ratio and of the worst class, what real rows are worth, and the marks of the paper."""
    generated, control = case.arms["generated"], case.arms["other real"]
    recall = case.cover["recall"]
    rows: list[Finding | Claim] = [
        Finding(f"{case.name}: {what} of its rows", float(case.cover[what][-1]))
        for what in (("precision", "recall", "coverage") if case.low else ("coverage",))
    ]
    if case.low:
        rows.append(Finding(f"{case.name}: recall with none replaced", float(recall[0])))
    rows += harm(case.name, case.arms, RATIOS[1:] if case.low else MOST, case.low)
    within = excess(control["accuracy"], generated["accuracy"])  # [ratios]
    if case.low:
        picked, most = worst(100 * control["class"][-1], 100 * generated["class"][-1])
        name = case.classes[picked]
        what = f"{case.name}: the same of the worst class, {name} (picked by this: 95 % of all {len(case.classes)})"
        rows.append(Finding(what, float(most.mean), interval=(float(most.low), float(most.high))))
        worth = worths(RATIOS, 100 * generated["accuracy"])  # [ratios - 1, seeds]
        for i, percent in ((-1, "first"), (0, "last")):
            what = f"{case.name}: points each of the {percent} 20 % of real rows is worth"
            rows.append(Finding.of_mean(what, worth[i]))
        mean = 100 * generated["accuracy"].mean(1)  # [ratios]
        marks = {
            "accuracy falls with every ratio": bool((np.diff(mean) < 0).all()),
            "generated at or below other real at every ratio": bool((within.mean >= 0).all()),
            "it falls further from 80 to 100 % than from 0 to 80 %": bool(mean[3] - mean[4] > mean[0] - mean[3]),
            "recall falls with every ratio": bool((np.diff(recall) < 0).all()),
        }
        rows += [Claim(f"{case.name}: {what}", holds, published=True) for what, holds in marks.items()]
    if case.full:
        low, high = within.low[1:], within.high[1:]  # at ratio 0 all arms are one
        what = f"{case.name}: harm of 0 is in each of {len(low)} intervals of 95 %"
        rows.append(Claim(what, bool(((low <= 0) & (high >= 0)).all()), theory=True))
    return rows
