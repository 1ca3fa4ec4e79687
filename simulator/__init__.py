"""The loop: pools, recipes, chains, and how they are driven, stored and measured.  Knows no particular model."""

from simulator.chain import Chain
from simulator.numerics.schedule import Schedule, schedule
from simulator.pool import Pool
from simulator.running.drive import Progress, run
from simulator.running.scan import ensemble, simulate
from simulator.running.store import Store
from simulator.running.sweep import Sweep
from simulator.sources.dataset import Dataset
from simulator.sources.table import Table
from simulator.sources.text import Text
from simulator.sources.truth import Truth
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
    "Table",
    "Text",
    "Truth",
    "View",
    "ensemble",
    "run",
    "schedule",
    "simulate",
]
