"""What is measured of a generation.  A probe is any `(key, view) -> array | dict`; these are frozen dataclasses."""

from simulator.probes.diet import Diet
from simulator.probes.diversity import Diversity
from simulator.probes.downstream import Downstream
from simulator.probes.fidelity import Fidelity
from simulator.probes.lineage import Lineage
from simulator.probes.parameters import Categories, LogDet, Moments, Rate, Risk, Wasserstein

__all__ = [
    "Categories",
    "Diet",
    "Diversity",
    "Downstream",
    "Fidelity",
    "Lineage",
    "LogDet",
    "Moments",
    "Rate",
    "Risk",
    "Wasserstein",
]
