"""The ring: which slots of a pool are whose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from simulator.pool import Array

Index = TypeVar("Index", int, Array)


@dataclass(frozen=True)
class Ring:
    """Blocks of slots, one for each data set within reach; the oldest is overwritten.

    Data set i is what fit i is the first to eat: the synthetic rows of generation i - 1 and the fresh rows of
    generation i, in this order in its block.  Generation 0's real rows have slots of their own in front, or, where the
    recipe forgets them as it does all others, are data set 0 of the ring.
    """

    real: int  # real rows at generation 0
    rows: int  # synthetic rows a generation
    fresh: int  # new real rows a generation
    forgets_real: bool  # whether generation 0's real rows fall out of reach
    reach: int | None  # data sets within reach; None: all

    @property
    def front(self) -> int:
        """Slots in front of the ring."""
        return 0 if self.forgets_real else self.real

    @property
    def block(self) -> int:
        """Slots of a block."""
        return max(self.rows + self.fresh, self.real - self.front)

    def capacity(self, generations: int) -> int:
        """Slots that as many fits need."""
        return self.front + self.block * (generations if self.reach is None else min(generations, self.reach))

    def blocks(self, capacity: int) -> int:
        """Data sets that so many slots have room for."""
        return (capacity - self.front) // self.block

    def synthetic(self, data_set: Index, capacity: int) -> Index:
        """First slot of a data set's synthetic rows."""
        return self.front + self._turn(data_set, capacity) * self.block

    def new(self, data_set: Index, capacity: int) -> Index:
        """First slot of a data set's fresh rows."""
        return self.synthetic(data_set, capacity) + self.rows

    def own_slots(self, capacity: int) -> int:
        """Slots of a table of all synthetic rows that a pool of this capacity can hold (`simulator.pool.Shared`)."""
        return self.blocks(capacity) * self.rows

    def own(self, data_set: Index, capacity: int) -> Index:
        """First slot of a data set's synthetic rows in such a table."""
        return self._turn(data_set, capacity) * self.rows

    def _turn(self, data_set: Index, capacity: int) -> Index:
        """Which of the blocks a data set has."""
        return (data_set - (self.front > 0)) % self.blocks(capacity)  # with real rows in front the first is data set 1
