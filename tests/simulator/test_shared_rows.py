"""Real rows of a table are held once for all chains: pools know where each lies, and nobody can tell."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from equality import same
from numbered import FRESH, REAL, WRITTEN, Apart, Numbers, Steps, chain, summed

from simulator import Chain, Pool, Progress, Sweep, ensemble, run, simulate
from simulator.numerics.chance import fold_in
from simulator.pool import Shared, gathered, joined, take, with_table, with_those
from simulator.recipe import Accumulate, Decay, Mix, Replace, Select, Subsample, Then, Window
from simulator.running import ahead, memory
from simulator.running.drive import Drive
from simulator.sources.given import Prompts

KEY = jax.random.key(5)
WAYS: dict[str, dict[str, Any]] = {
    "accumulate": {"recipe": Accumulate(), "fresh": FRESH},
    "window": {"recipe": Window(2), "fresh": FRESH},
    "replace": {"recipe": Replace(), "fresh": FRESH},
    "nothing fresh": {"recipe": Accumulate()},
    "over again": {"recipe": Accumulate(), "fresh": 25, "source": Numbers(reuse=True)},
}


@pytest.mark.parametrize("fields", WAYS.values(), ids=WAYS)
def test_every_slot_of_every_diet_holds_the_row_that_was_put_there(fields: dict[str, Any]):
    """Real rows are the stream's, generation after generation; the others what was said; empty slots are zeros."""
    made = chain(**fields)
    found = {name: np.asarray(leaf) for name, leaf in simulate(made, KEY, 5)["seen"].items()}
    stream = jax.random.permutation(jax.random.fold_in(KEY, 2**32 - 1), 70)
    x = np.tile(Numbers().split.train["x"][stream], (3, 1))  # [210, 2]
    for t in range(5):
        born = {(0, 0): x[:REAL]} | {(1, b): found["said"][b] for b in range(t)}
        born |= {(0, b): x[REAL + (b - 1) * made.fresh :][: made.fresh] for b in range(1, t + 1) if made.fresh}
        slots = [*zip(found["origin"][t].tolist(), found["birth"][t].tolist(), strict=True)]
        assert {slot for slot, weight in zip(slots, found["weight"][t], strict=True) if weight} <= {*born}
        for kind in {*slots}:
            there = found["x"][t][[slot == kind for slot in slots]]
            if kind in born and kind != (0, 0):
                assert np.array_equal(there, born[kind])
            elif kind[1] == 0:  # the first real rows, of which a ring may have overwritten some
                assert np.array_equal(there, born[kind][len(born[kind]) - len(there) :])
            else:
                assert not there.any()
        assert np.array_equal(found["label"][t], found["x"][t][:, 0] % 3)
        assert np.array_equal(found["some"][t], found["x"][t][[3, 0, -1 if len(slots) < 32 else 31]])


APART: dict[str, dict[str, Any]] = {
    "replace": {"recipe": Replace(), "fresh": FRESH},
    "few": {"recipe": Then(Accumulate(), Subsample(12)), "fresh": FRESH},
    "steps": {
        "recipe": Then(Accumulate(), Subsample(12)),
        "fresh": FRESH,
        "generator": Steps(steps=6, chunk=2, batch=4),
    },
}


@pytest.mark.quick("replace", "steps")
@pytest.mark.parametrize("fields", APART.values(), ids=APART)
def test_records_are_those_of_chains_that_hold_their_rows_themselves(fields: dict[str, Any], tmp_path: Path):
    """To the bit, where what is made of rows is exact: side by side, stored, stopped and gone on with."""
    fields = {"probes": {"summed": summed}} | fields
    shared, apart = chain(**fields), chain(**fields, source=Apart())
    assert isinstance(shared.init(KEY, 2).pool.held, Shared) and not isinstance(apart.init(KEY, 2).pool.held, Shared)
    expected = run(apart, KEY, 4, replicates=3)
    with pytest.raises(KeyboardInterrupt):
        run(shared, KEY, 4, tmp_path, replicates=3, report=stop)
    assert same(run(shared, KEY, 4, tmp_path, replicates=3), expected)


def stop(progress: Progress) -> None:
    if progress.done == 2:
        raise KeyboardInterrupt


def test_sweeps_and_ensembles_are_those_of_chains_that_hold_their_rows_themselves():
    recipe = Select((Replace(), Accumulate(), Mix(real=0.5, size=16)), 0)
    shared, apart = (chain(recipe=recipe, probes={"summed": summed}, source=s) for s in (Numbers(), Apart()))
    sweeps = [Sweep(made, "recipe.index", {"a": 0, "b": 1, "c": 2}) for made in (shared, apart)]
    assert same(*(run(sweep, KEY, 3, replicates=2) for sweep in sweeps))
    keys = jax.random.split(KEY, 2)
    assert same(*(ensemble(sweep.make, jnp.arange(3), keys, 3) for sweep in sweeps))


def test_a_chain_more_costs_what_it_wrote_and_places_and_no_program_makes_a_copy_of_its_real_rows():
    real, width = 1000, 500
    row = 4 * width + 4
    made = chain(
        source=Numbers(real, width),
        generator=Steps(steps=2, chunk=1, batch=4, width=width),
        probes={},
        real=real,
        held_out=0,
    )
    programs = []
    for replicates in (2, 4):
        drive = Drive(made, KEY, 2, replicates)
        state = drive.start()
        assert memory.bytes_of(state.pool) == replicates * (16 * (real + 2 * WRITTEN) + 2 * WRITTEN * row)
        calls = ahead.calls(drive, jax.eval_shape(lambda state=state: state))
        programs.append([piece.func.lower(*piece.args, *arguments).compile() for piece, arguments in calls])
    assert memory.bytes_of(drive.table) == real * row
    for two, four in zip(*programs, strict=True):
        assert memory.taken(four) - memory.taken(two) < 2 * real * row / 4


@dataclass(frozen=True, kw_only=True)
class Told(Steps):
    """The same, which can be told labels."""

    completes: ClassVar[bool] = True

    def sample(self, key: Any, params: Any, n: int, given: Any = None) -> Any:
        return super().sample(key, params, n) | (given or {})


def told() -> Chain:
    real, width = 1000, 500
    return chain(
        source=Numbers(2 * real, width),
        generator=Told(steps=2, chunk=1, batch=4, width=width),
        probes={},
        real=real,
        fresh=FRESH,
        held_out=0,
        given=Prompts(of="real"),
    )


def test_no_piece_of_a_run_holds_real_rows_as_constants():
    drive = Drive(told(), KEY, 2, 2)
    names = set()
    for piece, arguments in ahead.calls(drive, jax.eval_shape(lambda state: state, drive.start())):
        names.add(piece.func.__name__)
        held = piece.func.trace(*piece.args, *arguments).jaxpr.consts
        assert memory.bytes_of(held) < memory.bytes_of(drive.table) / 100, piece.func.__name__
    assert {"take_in", "begin", "told"} <= names


@pytest.mark.parametrize(
    ("recipe", "arrays"),
    [(Accumulate(), 0), (Decay(0.5), 1), (Then(Accumulate(), Subsample(12)), 4)],
    ids=["all", "reweighed", "few"],
)
def test_a_diet_takes_no_memory_for_what_it_has_of_its_pool(recipe: Any, arrays: int):
    """A program gives back new weights alone, or of few rows what is known of these; the host puts the rest beside."""
    made = chain(recipe=recipe, generator=Steps(steps=2, chunk=1, batch=4), probes={}, held_out=0)
    drive = Drive(made, KEY, 4, 3)
    state = drive.start()
    lent, _ = drive.begin(state, jnp.int32(0), state.params)
    diet = with_those(lent, state.pool)
    assert sum(leaf.size for leaf in jax.tree.leaves(lent)) == diet.weight.size * arrays
    keys = jax.vmap(lambda i: fold_in(fold_in(KEY, i), 0))(jnp.arange(3))
    assert same(diet, jax.vmap(made.weigh)(keys, state))


def test_rows_of_ones_own_put_in_their_place_are_taken_as_they_are():
    """A pool that is given rows holds those, and goes on with fresh ones; so does one that is given fresh rows."""
    made = chain(fresh=FRESH)
    step = jax.jit(made.step)
    state = step(KEY, made.init(KEY, 3))[0]
    plain = state.replace(pool=state.pool.replace(rows=state.pool.rows))
    assert isinstance(state.pool.held, Shared) and not isinstance(plain.pool.held, Shared)
    expected = step(KEY, state)[1]
    assert same(step(KEY, plain)[1], expected)
    assert same(step(KEY, state, made.serve(state.key, state.t))[1], expected)
    moved = state.pool.replace(rows=jax.tree.map(lambda a: a + 1, state.pool.rows))
    assert (moved.rows["x"] == state.pool.rows["x"] + 1).all() and (
        moved.take(jnp.arange(3))["x"] == moved.rows["x"][:3]
    ).all()


def test_a_pool_is_read_changed_and_taken_apart_alike_however_it_holds_its_rows():
    table, own = jnp.arange(20.0).reshape(10, 2), -jnp.arange(6.0).reshape(3, 2)
    place = jnp.array([9, ~2, 0, ~0, 2**31 - 1])
    rows = jnp.array([[18.0, 19.0], [-4.0, -5.0], [0.0, 1.0], [0.0, -1.0], [0.0, 0.0]])
    beside = (jnp.array([0, 1, 0, 1, 0]), jnp.array([0, 0, 1, 1, -1]), jnp.array([1.0, 0.0, 2.0, 1.0, 0.0]))
    pools = [Pool(Shared(table, own, place), *beside), Pool(rows, *beside)]
    for pool in pools:
        assert (pool.rows == rows).all() and (pool.take(jnp.array([[4, 1]])) == rows[jnp.array([[4, 1]])]).all()
        assert (pool.compact(3).rows == rows[jnp.array([0, 2, 3])]).all()
        other = dataclasses.replace(pool, weight=pool.weight + 1)
        assert (other.rows == rows).all() and (other.weight == pool.weight + 1).all()
        leaves, tree = jax.tree.flatten(pool)
        assert (jax.tree.unflatten(tree, leaves).rows == rows).all()
        assert (gathered(joined(pool.held, own - 9)) == jnp.concatenate([rows, own - 9])).all()  # not rows that it has
    stripped = with_table(pools[0], None)
    assert table.shape not in {leaf.shape for leaf in jax.tree.leaves(stripped)}
    assert (with_table(stripped, table).rows == rows).all()
    assert (take(pools[0].held, jnp.array([3])) == rows[3]).all()
