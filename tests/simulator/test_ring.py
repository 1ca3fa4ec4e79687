"""The ring of blocks against a plain model: a dictionary of what each slot holds."""

import itertools

import jax
import numpy as np
import pytest

from simulator.ring import Ring

SIZES = [*itertools.product((1, 3, 7), (1, 2, 5), (0, 1, 4), (False, True), (None, 1, 2, 4), (1, 2, 3, 9))]


def filled(ring: Ring, fits: int) -> dict[int, tuple[str, int, int]]:
    """What each slot holds at the last of so many fits: (kind, data set, number), written in the order of a chain."""
    capacity = ring.capacity(fits)
    slots: dict[int, tuple[str, int, int]] = {i: ("real", 0, i) for i in range(ring.real)}
    for t in range(1, fits):  # data set t: said by generation t - 1, and fresh rows of generation t
        slots |= {ring.synthetic(t, capacity) + i: ("synthetic", t, i) for i in range(ring.rows)}
        slots |= {ring.new(t, capacity) + i: ("fresh", t, i) for i in range(ring.fresh)}
    assert set(slots) <= set(range(capacity))
    return slots


@pytest.mark.parametrize("reach", [None, 1, 2, 4])
def test_every_data_set_within_reach_is_whole(reach: int | None):
    for real, rows, fresh, forgets, its, fits in SIZES:
        if its != reach:
            continue
        ring = Ring(real, rows, fresh, forgets, reach)
        slots = filled(ring, fits)
        held = set(slots.values())
        alive = range(max(0, fits - (reach or fits)), fits)
        wanted = {("synthetic", t, i) for t in alive if t > 0 for i in range(rows)}
        wanted |= {("fresh", t, i) for t in alive if t > 0 for i in range(fresh)}
        if not forgets or 0 in alive:
            wanted |= {("real", 0, i) for i in range(real)}
        assert wanted <= held, (ring, fits, wanted - held)


def test_no_more_slots_are_taken_than_what_is_alive_needs():
    for real, rows, fresh, forgets, reach, fits in SIZES:
        ring = Ring(real, rows, fresh, forgets, reach)
        alive = min(fits, reach or fits)
        largest = max(
            rows + fresh, real if forgets else 0
        )  # of a data set; without room of their own real rows are one
        assert ring.capacity(fits) == largest * alive + (0 if forgets else real)
        assert ring.blocks(ring.capacity(fits)) == alive


def test_slots_are_the_same_for_a_number_and_inside_a_program():
    ring = Ring(7, 2, 1, False, 3)
    data_sets = np.arange(1, 12)
    traced = jax.jit(jax.vmap(lambda i: (ring.synthetic(i, 16), ring.new(i, 16))))(data_sets)
    assert np.array_equal(np.stack(traced, 1), [(ring.synthetic(int(i), 16), ring.new(int(i), 16)) for i in data_sets])
