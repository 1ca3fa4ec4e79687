"""One generation as one pure function: eat, learn, speak, be measured, be remembered."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import jax.numpy as jnp

from simulator import abilities
from simulator.abilities import Checked, Merging, Shaped, WithParents, completes
from simulator.checks import returned
from simulator.checks.fields import Count, Whole, check_tree
from simulator.numerics.chance import fold_in
from simulator.numerics.schedule import settled
from simulator.pool import NONE, REAL, SYNTHETIC, Pool, Rows, Shared, aged, count, gathered, roots, table_in, with_table
from simulator.recipe import contract
from simulator.recipe.contract import Reach
from simulator.recipe.likely import check_scores, scores
from simulator.recipe.mixing import Accumulate
from simulator.ring import Ring
from simulator.sources.given import Given, said
from simulator.sources.split import guard, served, split_of
from simulator.types import (
    Array,
    Generator,
    GenlossError,
    Key,
    Params,
    Probe,
    Recipe,
    Record,
    Source,
    State,
    View,
)

_STREAM = 2**32 - 1  # folded into the root key to open the chain's stream of real rows; generations fold in 0, 1, ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Chain:
    """A whole collapse experiment: where rows come from, who learns, what it eats, how it is measured.

    Generation 0 is fitted on real rows only.  The chain is compared by identity, so one object is compiled once.
    """

    source: Source
    generator: Generator
    recipe: Recipe = Accumulate()
    probes: Mapping[str, Probe] = field(default_factory=dict)
    real: Count = 1000  # real rows at generation 0
    rows: Count = 1000  # synthetic rows each generation writes
    fresh: Whole = 0  # new real rows per generation
    held_out: Whole = 1000  # held-out real rows that probes compare with, at most; 0 where none reads any
    start: Literal["scratch", "previous", "base"] = "scratch"  # each fit begins at new, the last, or the first weights
    given: Given | None = None  # what of each row is given to a generation before it speaks, such as labels

    def __post_init__(self) -> None:
        check_tree(self)
        for name in self.probes:
            if name in ("t", "fit") or "." in name:
                raise GenlossError(
                    f"A probe cannot be called '{name}': t and fit are taken, and dots name what is in one."
                )
        if 0 < self.held_out < self.classes:
            raise GenlossError(
                f"`held_out` is {self.held_out}; give at least one row for each of {self.classes} classes."
            )
        if self.follows is not None and not isinstance(self.generator, WithParents):
            raise GenlossError(
                f"{type(self.generator).__name__} does not say which rows its own come from; leave out the probe that "
                "follows them, or give the generator `parents`."
            )
        if self.given is not None and not completes(self.model):
            raise GenlossError(
                f"{type(self.generator).__name__} cannot be given part of its rows; leave `given` of the chain out."
            )
        if contract.wants_scores(self.recipe):
            check_scores(self.generator)
        self._check_supply(1)
        contract.check(self.recipe, self)

    def _check_supply(self, generations: int) -> None:
        if isinstance(self.source, Checked):
            self.source.check(self.real + self.fresh * (generations - 1))

    # What the configuration implies.

    @property
    def classes(self) -> int:
        """Classes that the source names; 0 where it names none."""
        split = split_of(self.source)
        return 0 if split is None else len(split.classes)

    @functools.cached_property
    def model(self) -> Generator:
        """The generator, its shapes taken from the source's rows where it leaves them open."""
        if not isinstance(self.generator, Shaped):
            return self.generator
        with jax.ensure_compile_time_eval():
            return self.generator.shaped(self.reference if self.held_out else self._example())

    def _example(self) -> Rows:
        """Held-out rows among which are all classes: one of each, or 1,000 where the source does not say how many."""
        rows = self.source.draw(jax.random.key(0), self.classes or 1, held_out=True)
        if self.classes or not (isinstance(rows, dict) and "label" in rows):
            return rows
        return self.source.draw(jax.random.key(0), 1000, held_out=True)

    @functools.cached_property
    def reference(self) -> Rows:
        """Held-out real rows, leaves [<= held_out, ...]: one yardstick for all chains and generations; None for 0."""
        if not self.held_out:
            return None
        split = split_of(self.source)
        n = self.held_out if split is None else min(self.held_out, count(split.test))
        with jax.ensure_compile_time_eval():
            return self.source.draw(jax.random.fold_in(jax.random.key(0), _STREAM), n, held_out=True)

    @property
    def follows(self) -> int | None:
        """For how many data sets back the ancestors of rows are kept; None where no probe asks."""
        return abilities.follows(self.probes)

    @functools.cached_property
    def prepared(self) -> dict[Any, Any]:
        """What each of the probes' students learned, the same for all chains and generations, as the reference is."""
        with jax.ensure_compile_time_eval():
            key = jax.random.fold_in(jax.random.key(0), _STREAM - 1)
            return abilities.taught(self.probes, key, self.source)

    @functools.cached_property
    def reach(self) -> Reach:
        """What the recipe says of itself."""
        return contract.reach(self.recipe, self)

    @functools.cached_property
    def merging(self) -> Merging | None:
        """The generator, where it keeps all data sets of the past as one: cohorts that the recipe weighs alike."""
        model = self.model
        if isinstance(model, Merging) and model.merge and self.reach.weighs_alike and not self.fresh:
            return model
        return None

    @functools.cached_property
    def ring(self) -> Ring:
        """Which slots of the pool are whose."""
        reach = 1 if self.merging else self.reach.horizon
        return Ring(self.real, self.rows, self.fresh, self.reach.forgets_real, reach)

    # The loop.

    def init(self, key: Key, generations: int, params: Params | None = None) -> State:
        """The state before the first fit, with room in the pool for what `generations` fits can use.

        `params` are those that the chain starts with, where these have been made.
        """
        if generations < 1:
            raise GenlossError(f"A chain needs at least 1 generation; it was given {generations}.")
        self._check_supply(generations)
        capacity = self.ring.capacity(generations)
        stream, rows = self.opened(key, self.real, capacity)
        params = self.new(params_key(stream)) if params is None else params
        self._check_rows(rows, params)
        pool = Pool.of(rows, capacity, self.follows)
        return State(jnp.int32(0), params, pool, stream)

    def opened(self, key: Key, n: int, capacity: int) -> tuple[Key, Rows | Shared]:
        """The stream of real rows that a root key opens, and its first n.

        Where the rows are `Shared`, there is room beside them for what a pool of such a capacity can hold of others.
        """
        stream = stream_key(key)
        rows = jax.tree.map(_strong, served(self.source, stream, n))
        if isinstance(rows, Shared):
            slots = self.ring.own_slots(capacity)
            rows = rows.replace(own=jax.tree.map(lambda a: jnp.zeros((slots, *a.shape[1:]), a.dtype), rows.table))
        return stream, rows

    def new(self, key: Key) -> Params:
        """New parameters."""
        return jax.tree.map(_strong, self.model.init(key))

    def _check_rows(self, rows: Rows | Shared, params: Params) -> None:
        written = jax.eval_shape(lambda p: self.speaker(0).sample(jax.random.key(0), p, self.real), params)
        shape = functools.partial(jax.tree.map, lambda a: (a.shape, a.dtype))
        if shape(written) != shape(served := jax.eval_shape(lambda: gathered(rows))):
            raise GenlossError(
                f"The source serves rows {_describe(served)} and the generator writes {_describe(written)}; "
                "they must agree in names, shapes and types."
            )

    def step(self, key: Key, state: State, fresh: Rows | Shared | None = None) -> tuple[State, Record]:
        """One generation.  `key` is `fold_in(root, t)`; `fresh` is `serve(state.key, t)`, fetched here if not given."""
        state, diet = self.eat(key, state, self.fetch(state.key, state.t) if fresh is None else fresh)
        params, info = self.learn(key, state, diet)
        synthetic = self.speak(key, state.t, params, self.told(key, state.key, diet))
        ancestors = self.trace(key, state.t, params, diet, synthetic)
        record = with_info(self.measure(key, state.t, params, diet, synthetic, ancestors), info)
        # One chain's blocks are then written once nothing reads the old ones, in place and not in a copy.
        read = (diet.weight.sum(), jax.tree.leaves(synthetic)[0])
        state = state.replace(t=after(state.t, jax.lax.stop_gradient(read)))
        return self.remember(state, params, synthetic, ancestors), record

    def serve(self, stream: Key, t: Array) -> Rows | None:
        """The fresh real rows of generation t, leaves [fresh, ...]; there are none at generation 0."""
        return gathered(self.fetch(stream, t))

    def fetch(self, stream: Key, t: Array) -> Rows | Shared | None:
        """What `serve` serves, held as the pool holds it."""
        if not self.fresh:
            return None
        skip = self.real + jnp.maximum(t - 1, 0) * self.fresh
        return served(self.source, stream, self.fresh, skip=skip)

    def take_in(self, state: State, fresh: Rows | Shared | None) -> State:
        """The state with this generation's fresh rows in its block."""
        if fresh is None:
            return state
        start = self.ring.new(state.t, state.pool.capacity)
        ancestors = None
        if self.follows is not None:
            i = jnp.arange(self.fresh)
            ancestors = roots(self.real + (state.t - 1) * self.fresh + i, self.rows + i, self.follows)
        pool = state.pool if isinstance(fresh, Shared) else state.pool.replace(rows=state.pool.rows)
        placed = pool.place(start, fresh, REAL, state.t, ancestors)
        chosen = lambda new, old: new if new is old else jnp.where(state.t > 0, new, old)  # noqa: E731
        return state.replace(pool=jax.tree.map(chosen, placed, pool))

    def eat(self, key: Key, state: State, fresh: Rows | Shared | None) -> tuple[State, Pool]:
        """Takes in fresh rows and weighs everything kept: the state, and the diet."""
        state = self.take_in(state, fresh)
        guard(self.source, state.pool.held, state.pool.real)
        return state, self.weigh(key, state)

    def weigh(self, key: Key, state: State) -> Pool:
        """The diet: everything kept, as the recipe weighs it.

        Where the recipe eats few of the rows kept, the diet holds those alone.
        """
        copies = jnp.where(state.pool.synthetic, state.t, 1) if self.merging else jnp.ones(state.pool.capacity)
        shown = state.pool.weighed(copies)
        if self.reach.wants_scores:  # at fit 0 there is no last model, and real rows only
            found = scores(self.model, key_for(key, "scores"), state.params, shown.rows)  # [capacity]
            shown = shown.replace(scores=jnp.where((state.t > 0) & shown.filled, found, 0.0))
        with returned.asked(f"The recipe {returned.named(self.recipe)}"):
            weight = self.recipe(key_for(key, "eat"), state.t, shown)
        if weight is shown.weight and not self.merging:  # all that is kept, as it was placed: no table to write
            diet = shown.replace(weight=state.pool.weight)
        else:
            diet = shown.weighed(returned.weights(self.recipe, weight, shown))
        most = self.reach.most
        full = self.ring.capacity(sys.maxsize)  # whatever the generations to come, on which no diet may depend
        return diet if most is None or 2 * most > full else diet.compact(most)

    def learn(self, key: Key, state: State, diet: Pool) -> tuple[Params, Mapping[str, Array]]:
        """What the generator makes of a diet, and what its fit says of itself."""
        who = type(self.model).__name__
        with returned.asked(f"`fit` of {who}"):
            return returned.fitted(who, self.model.fit(key_for(key, "fit"), self.first(key, state), diet))

    def first(self, key: Key, state: State) -> Params:
        """The parameters a fit begins at."""
        if self.start == "previous":
            return state.params
        return self.model.init(params_key(state.key) if self.start == "base" else key_for(key, "init"))

    def told(self, key: Key, stream: Key, diet: Pool) -> Rows | None:
        """What of each row is given before a generation speaks, leaves [rows, ...]; None where nothing is."""
        if self.given is None:
            return None
        real = served(self.source, stream, self.real)
        if (table := table_in(diet)) is not None:  # that of the program, of which there is one
            real = with_table(real, table)
        return self.given(key_for(key, "given"), self.rows, diet, gathered(real))

    def speaker(self, t: Array | int) -> Generator:
        """The generator as it speaks in generation t: each schedule of its numbers at its value there."""
        return settled(self.model, t)

    def speak(self, key: Key, t: Array, params: Params, given: Rows | None = None) -> Rows:
        return said(self.speaker(t), key_for(key, "sample"), params, self.rows, given)

    def trace(self, key: Key, t: Array, params: Params, diet: Pool, synthetic: Rows) -> Array | None:
        """The lines of descent of what was said, [rows, 1 + follows]: a row, its parent, and those before."""
        if diet.ancestors is None:
            return None
        model = self.speaker(t)
        assert isinstance(model, WithParents)
        own, fit, sample = (key_for(key, part) for part in ("trace", "fit", "sample"))
        parent = model.parents(own, params, diet, synthetic, fit, sample)  # [rows]
        lines = aged(diet.ancestors[parent], diet.age(t + 1)[parent])  # [rows, 1 + follows]
        return jnp.where(parent[:, None] == NONE, NONE, lines).at[:, 1].set(jnp.arange(self.rows))

    def measure(
        self, key: Key, t: Array, params: Params, diet: Pool, synthetic: Rows, ancestors: Array | None = None
    ) -> Record:
        """What the probes say, and the mass of the diet."""
        view = View(t, params, diet, synthetic, self.reference, self.speaker(t), ancestors, self.prepared)
        key = key_for(key, "measure")
        found: dict[str, Any] = {"fit": {"mass": diet.weight.sum()}}
        for i, (name, probe) in enumerate(self.probes.items()):
            with returned.asked(f"The probe '{name}'", params):
                answer = probe(fold_in(key, i), view)
            found[name] = returned.metrics(f"The probe '{name}'", answer)
        return Record(t, found)

    def remember(self, state: State, params: Params, synthetic: Rows, ancestors: Array | None = None) -> State:
        """The state after a generation has spoken."""
        if self.merging:
            start = self.ring.synthetic(state.t + 1, state.pool.capacity)
            old = jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, start, self.rows), state.pool.rows)
            both = self.merging.merged(old, synthetic, 1 / (state.t + 1.0))
            synthetic = jax.tree.map(lambda a, b: jnp.where(state.t > 0, a, b), both, synthetic)
        return self.keep(state, params, synthetic, ancestors)

    def keep(self, state: State, params: Params, synthetic: Rows, ancestors: Array | None = None) -> State:
        """The state with these rows in the block of the next data set."""
        start = self.ring.synthetic(state.t + 1, state.pool.capacity)
        slot = self.ring.own(state.t + 1, state.pool.capacity)
        pool = state.pool.place(start, synthetic, SYNTHETIC, state.t, ancestors, slot)
        return State(state.t + 1, params, pool, state.key)


_KEYS = ("eat", "init", "fit", "sample", "measure", "trace", "given", "scores")


@jax.custom_batching.custom_vmap
def after(t: Array, found: Any) -> Array:
    """`t`, known only once the first number of each leaf is.  Mapped over chains it is of none, as t is."""
    first = [jnp.ravel(leaf)[0].astype(jnp.float32) for leaf in jax.tree.leaves(found)]
    return t + sum(number < -jnp.inf for number in first)  # none is


@after.def_vmap
def _of_many(size: int, mapped: Any, t: Array, found: Any) -> tuple[Array, Any]:
    del size
    if mapped[0]:
        return t, True
    return after(t, jax.tree.map(lambda leaf, many: leaf[0] if many else leaf, found, mapped[1])), False


def with_info(record: Record, info: Mapping[str, Array]) -> Record:
    """The record with what the fit said of itself."""
    said = returned.metrics("The generator's fit", info)
    if "mass" in said:
        raise GenlossError("The generator's fit says 'mass', which is that of its diet; give it another name.")
    return record.replace(metrics={**record.metrics, "fit": {**record.metrics["fit"], **said}})


def key_for(key: Key, what: str) -> Key:
    """The key of one part of a generation, from the generation's key."""
    return fold_in(key, _KEYS.index(what))


def stream_key(key: Key) -> Key:
    """The key of a chain's stream of real rows, from its root key."""
    return fold_in(key, _STREAM)


def params_key(stream: Key) -> Key:
    """The key of the parameters that a chain starts with, from that of its stream."""
    return fold_in(stream, _STREAM)


def _strong(leaf: Any) -> Array:
    """The same array without a weak type, which would make the second step another trace than the first."""
    leaf = jnp.asarray(leaf)
    return leaf if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else jax.lax.convert_element_type(leaf, leaf.dtype)


def _describe(rows: Rows) -> str:
    return str(jax.tree.map(lambda a: f"{a.dtype}{list(a.shape[1:])}", rows)).replace("'", "")
