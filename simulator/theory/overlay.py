"""Which law a chain obeys: curves to draw over its recorded metrics, and a sentence for each that says whose they are.

Known are the probes of `simulator/probes/parameters.py`, and the variance of samples, on the exact models.  What a
recipe does is taken from the weights it gives (simulator/theory/workflow.py), so a recipe of one's own has its law too,
and one that eats the latest data set only is known as *replace* whatever it is called.  A curve is exact at every
number of rows unless its sentence says "averaged", "approximate" or "in the limit".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from simulator.chain import Chain
from simulator.running.sweep import Sweep
from simulator.theory.facts import Facts
from simulator.theory.gaussian import Values
from simulator.theory.known import laws
from simulator.types import GenlossError


@dataclass(frozen=True, eq=False)
class Overlay:
    """The laws of one chain: mean values of metrics, named as in `Record.flat()`, and what is behind each."""

    curves: dict[str, Values]  # metric -> [generations], the expectation at every fit
    why: dict[str, str]  # metric, or probe without a law -> one sentence: the law and its paper, or why there is none

    def at(self, metric: str, generation: int) -> float | None:
        """The law's value at one generation; None where there is none, or its curve is shorter."""
        curve = self.curves.get(metric, ())
        return float(curve[generation]) if generation < len(curve) else None


def overlay(chain: Chain, generations: int) -> Overlay:
    """The laws that a chain obeys, for its first `generations` fits; a metric without one has a sentence only."""
    curves, why = {}, {}
    facts = Facts(chain, generations)
    for name, probe in chain.probes.items():
        for part, found in laws(facts, probe).items():
            metric = f"{name}.{part}" if part else name
            try:
                curve, why[metric] = found(facts, probe)
                curves[metric] = np.broadcast_to(np.asarray(curve, np.float64), generations).copy()
            except GenlossError as error:
                why[metric] = str(error)
    return Overlay(curves, why)


def overlays(subject: Chain | Sweep, generations: int) -> dict[str, Overlay]:
    """`overlay` of every setting of a sweep, by name; of a single chain under "chain", as its records call it."""
    if not isinstance(subject, Sweep):
        return {"chain": overlay(subject, generations)}
    return {name: overlay(subject.make(value), generations) for name, value in subject.values.items()}


def sentences(found: Mapping[str, Overlay]) -> list[str]:
    """One line for each thing that is to be said of the overlays of a run: metrics, settings, sentence."""
    said: dict[tuple[str, str], list[str]] = {}  # (settings that share it, sentence) -> metrics
    for metric in dict.fromkeys(metric for one in found.values() for metric in one.why):
        by_sentence: dict[str, list[str]] = {}
        for setting, one in found.items():
            if metric in one.why:
                by_sentence.setdefault(one.why[metric], []).append(setting)
        for sentence, settings in by_sentence.items():
            of = f" ({'; '.join(settings)})" if len(settings) < len(found) else ""
            said.setdefault((of, sentence), []).append(metric)
    return [f"{', '.join(metrics)}{of}: {sentence}" for (of, sentence), metrics in said.items()]
