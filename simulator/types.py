"""The words of the house: protocols, the state that is carried, the record that is kept, and the errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from flax import struct

from simulator.errors import GenlossError as GenlossError
from simulator.errors import RunFailed as RunFailed
from simulator.pool import Pool, Rows

Array = jax.Array
Key = jax.Array
Params = Any
Metrics = Mapping[str, Any]


@runtime_checkable
class Generator(Protocol):
    """A model: a frozen dataclass of hyper-parameters; everything learned is in `params`.

    Its one obligation is to honour `pool.weight`: weight 2 is the row twice, weight 0 its absence.
    Optional members: `log_prob(params, rows) -> [n]`; `shaped(rows) -> Generator`, the same generator with its
    shapes taken from example rows; `begin`, `advance`, `finish` (see `generators/train.py`), which let `run` drive a
    long fit from the host; `portions(n) -> int` and `portion(key, params, n, i)`, the rows of `sample(key, params, n)`
    in pieces of one length, those beyond n in the last one to be thrown away, which let it drive a long sample;
    `parents(key, params, pool, rows, fit, sample) -> [n] int32`, the slot of the pool whose row each row was made from
    (-1: none), drawn given all of them.  `fit` and `sample` are the keys that these two were given, so that what they
    drew can be drawn again.  `simulator.abilities` declares each of them.
    """

    def init(self, key: Key) -> Params: ...

    def fit(self, key: Key, params: Params, pool: Pool) -> tuple[Params, dict[str, Array]]: ...

    def sample(self, key: Key, params: Params, n: int) -> Rows: ...


@runtime_checkable
class Source(Protocol):
    """Where real rows come from.

    `draw(key, n)` serves n rows of the endless (or finite, shuffled) stream that `key` opens.  A source that feeds a
    chain with `fresh > 0` also takes `skip`: how many rows of that stream were served before.  Held-out rows are
    disjoint from every stream.  Optional: `size`, the number of rows a stream holds, and `check(n)`, which raises if
    a stream cannot serve n.
    """

    def draw(self, key: Key, n: int, held_out: bool = False) -> Rows: ...


Recipe = Annotated[Callable[[Key, Array, Pool], Array], "a recipe, such as Replace() or Mix(real=0.1, size=n)"]
"""`(key, t, pool) -> weight [capacity]`.  Shown weight 1 on everything kept.

Optional members: `check(chain)` raises `GenlossError` when the chain cannot satisfy it; `horizon(chain)` is the number
of past generations it can still give weight to (None: all) and `forgets_real` says that generation 0's real rows fall
under it too, which together bound the memory of the pool; `step(name)` is what a share that counts rows moves by.
"""


class View(NamedTuple):
    """What a probe sees of generation t."""

    t: Array  # [] int32
    params: Params  # the fitted generator
    diet: Pool  # what it was fitted on: `weight` is the recipe's
    synthetic: Rows  # leaves [rows, ...]: what it says
    reference: Rows  # leaves [held_out, ...]: held-out real rows, the same for every chain and generation
    generator: Generator
    ancestors: Array | None = None  # [rows, 1 + follows] int32: lines of descent of what it says, where followed
    prepared: Mapping[Any, Any] = {}  # what probes and their feature spaces learned before generation 0, by themselves

    def embed(self, features: Callable[..., Array], rows: Rows) -> Array:
        """Rows in a feature space, [n, d] float32; NaN for rows that are not finite, whatever the space makes."""
        return embedded(features, self.prepared, rows)


def embedded(features: Callable[..., Array], prepared: Mapping[Any, Any], rows: Rows) -> Array:
    """Rows in a feature space that may be among the prepared ones; NaN for rows that are not finite.

    (A comparison inside of it, a rectifier's say, would make a number of what is none.)
    """
    found = features(rows, prepared[features]) if features in prepared else features(rows)
    found = jnp.asarray(found, jnp.float32)  # [n, d]
    for leaf in jax.tree.leaves(rows):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            whole = jnp.isfinite(leaf).all(tuple(range(1, leaf.ndim)))  # [n]
            found = jnp.where(whole[:, None], found, jnp.nan)
    return found


Probe = Annotated[Callable[[Key, View], Any], "a probe, such as Moments() or a function (key, view) -> array"]
"""`(key, view) -> array | dict of arrays`; runs inside the compiled step, and under `vmap` over chains.

Optional members: `no_ceiling`, the parts of its result ("": all of it) that mean nothing with real rows in place of
samples, such as what reads the fitted parameters; `follows`, for how many data sets back it wants the ancestors of rows
kept (`simulator.pool.roots`); `prepare(key, source) -> pytree`, called once per run before generation 0 and stored with
it, of the probe or of any of its fields (a feature space): its result is `view.prepared[self]`.  Equal ones are
prepared once.
"""


class State(struct.PyTreeNode):
    """What a chain carries from one generation to the next."""

    t: Array  # [] int32: number of fits done
    params: Params  # the last fitted generator
    pool: Pool  # everything kept
    key: Key  # opens this chain's stream of real rows, and its `start="base"` parameters


class Record(struct.PyTreeNode):
    """What is measured of one generation, or, with a leading axis, of many: `record["diversity"]["variance"]`.

    Nested results may also be asked for by their dotted name, `record["diversity.variance"]`.
    """

    t: Array  # [] int32: 0 is the fit on real rows
    metrics: dict[str, Any]  # probe name -> array or dict of arrays, float32; "fit" holds the fit's own report

    def __getitem__(self, name: str) -> Any:
        if name == "t":
            return self.t
        found: Any = self.metrics
        for part in [name] if name in self.metrics else name.split("."):
            found = found[part]
        return found

    def __contains__(self, name: str) -> bool:
        try:
            self[name]
        except (KeyError, TypeError, IndexError):
            return False
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(self.metrics)

    def keys(self):
        return self.metrics.keys()

    def flat(self) -> dict[str, Array]:
        """Dotted name -> array, in the order of the probes."""
        return dict(_flatten(self.metrics))


def _flatten(tree: Any, prefix: str = "") -> Iterator[tuple[str, Array]]:
    if isinstance(tree, Mapping):
        for name, branch in tree.items():
            yield from _flatten(branch, f"{prefix}.{name}" if prefix else name)
    else:
        yield prefix, tree
