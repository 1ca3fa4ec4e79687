"""What is measured of a generation.  A probe is any `(key, view) -> array | dict`; these are frozen dataclasses."""

from simulator.probes.diet import Diet
from simulator.probes.diversity import Diversity
from simulator.probes.downstream import Downstream
from simulator.probes.fidelity import Fidelity

__all__ = ["Diet", "Diversity", "Downstream", "Fidelity"]
