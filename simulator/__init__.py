"""The loop: pools, recipes, chains, and how they are driven, stored and measured.  Knows no particular model."""

from simulator.chain import Chain
from simulator.drive import Progress, ensemble, run, simulate
from simulator.pool import Pool
from simulator.schedule import Schedule, schedule
from simulator.source import Dataset, Text, Truth
from simulator.store import Store
from simulator.sweep import Sweep
from simulator.types import Generator, GenlossError, Probe, Recipe, Record, RunFailed, Source, State, View

__all__ = [
    "Chain",
    "Dataset",
    "Generator",
    "GenlossError",
    "Pool",
    "Probe",
    "Progress",
    "Recipe",
    "Record",
    "RunFailed",
    "Schedule",
    "Source",
    "State",
    "Store",
    "Sweep",
    "Text",
    "Truth",
    "View",
    "ensemble",
    "run",
    "schedule",
    "simulate",
]
