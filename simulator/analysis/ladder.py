"""Chains of several sizes: all replicates and shares of a size as one program, or of all sizes where no shape depends
on them, as in chains of cohorts.

Shares of one size have the same keys, so that they are told apart better than each is known; sizes have keys of their
own, since it is the differences of their errors that make an exponent.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from simulator.analysis.measures import KINDS, named
from simulator.chain import Chain
from simulator.running import memory
from simulator.running.prepare import alone
from simulator.running.scan import ensemble, simulate
from simulator.running.spec import unknown
from simulator.types import Array, GenlossError, Key

Make = Callable[[Any, Any], Chain]  # (size, share) -> the chain there

LEAST = 3  # sizes
FEWEST = 10  # chains at each size and share
SHOWN = 6  # generations that are kept
BYTES = 1e9  # of the pools of chains that run at once


class Price(NamedTuple):
    """What a ladder takes."""

    programs: int  # that are compiled
    chains: int
    rows: int  # drawn by all of them


class Ladder:
    """The chains `make(size, share)` of some sizes and one `ahead` times beyond them (0: none), built and checked.

    Nothing is run until `run`.  `share` must be a number that no shape depends on.  `metric` is of what falls with
    rows: by default the chain's risk (`simulator.analysis.measures`), or its only measure.  Raises `GenlossError` for
    fewer than three sizes, chains that cannot be built or supplied, and measures that do not exist.
    """

    def __init__(
        self, make: Make, sizes: Sequence[float], shares: Sequence[float], *, generations: int, replicates: int = 100,
        metric: str | None = None, ahead: float = 4.0,
    ) -> None:  # fmt: skip
        self.sizes, self.shares = tuple(sorted(set(sizes))), tuple(sorted(set(shares)))
        if len(self.sizes) < LEAST:
            given = ", ".join(map(counted, self.sizes)) or "none"
            raise GenlossError(f"A scaling law wants {LEAST} sizes or more; it was given {given}.")
        if replicates < FEWEST:
            raise GenlossError(f"An interval wants {FEWEST} replicates or more; it was given {replicates}.")
        if ahead and ahead <= 1:
            raise GenlossError(f"The check is at {ahead:g} times the largest size; give more than 1, or 0 for none.")
        self.generations, self.replicates = generations, replicates
        self.beyond = type(self.sizes[-1])(round(self.sizes[-1] * ahead)) if ahead else 0
        self.all = [*self.sizes, *([self.beyond] if ahead else [])]
        self.at = sorted({round(t) - 1 for t in np.geomspace(1, generations, SHOWN)})  # of the generations
        chains = [self._built(make, size) for size in self.all]
        for share in self.shares:
            make(self.sizes[0], share)
        self.metric = measure(chains[0], metric)
        probe, prepared = self.metric.partition(".")[0], chains[0].prepared
        self.make: Make = lambda size, share: alone(make(size, share), probe, prepared)
        self.at_once = [self._at_once(chain) for chain in chains]
        self.one = self._is_one_program()
        rows = sum(c.real + generations * c.rows + (generations - 1) * c.fresh for c in chains)
        many = len(self.shares) * replicates
        self.price = Price(1 if self.one else len(chains), many * len(chains), many * rows)

    def _built(self, make: Make, size: float) -> Chain:
        try:
            chain = make(size, self.shares[0])
            jax.eval_shape(lambda k: chain.init(k, self.generations).t, jax.random.key(0))
        except GenlossError as error:
            if size != self.beyond:
                raise
            said = str(error).rstrip(".")
            raise GenlossError(f"The check is at {counted(size)}: {said}; or ask for none, ahead=0.") from error
        return chain

    def _at_once(self, chain: Chain) -> int:
        """How many replicates of all shares have room side by side."""
        row = jax.eval_shape(lambda: chain.speaker(0).sample(jax.random.key(0), chain.model.init(jax.random.key(0)), 1))
        slots = chain.ring.capacity(self.generations)
        most = int(BYTES // (len(self.shares) * slots * (memory.bytes_of(row) + 12)))
        memory.check(chain, self.generations, len(self.shares) * min(max(1, most), self.replicates))
        return max(1, most)

    def _is_one_program(self) -> bool:
        """Whether all sizes can be, since no shape and no choice made in Python depends on them."""
        if min(self.at_once) < len(self.all) * self.replicates:
            return False
        keys = jax.random.split(jax.random.key(0), len(self.all))[:, None]
        try:
            jax.eval_shape(lambda sizes: _by_size(self.make, self.shares, 1, sizes, keys).t, jnp.array(self.all))
        except (jax.errors.JAXTypeError, TypeError, GenlossError):  # each size alone was fine
            return False
        return True

    @functools.cached_property
    def _program(self) -> Callable[[Array, Key], Any]:
        """That of all sizes."""
        return jax.jit(functools.partial(_by_size, self.make, self.shares, self.generations))

    def run(self, key: Key, report: Callable[[int, int], None] | None = None) -> np.ndarray:
        """[sizes, shares, replicates, generations] of `all` sizes and the generations `at`; float64.

        `report(done, sizes)` is called after each program.  Raises `GenlossError` where the measure is not above 0.
        """
        own = [jax.random.split(jax.random.fold_in(key, i), self.replicates) for i in range(len(self.all))]
        if self.one:
            found = self._checked(self._program(jnp.array(self.all), jnp.stack(own)), 0)
            if report:
                report(len(self.all), len(self.all))
            return found
        parts = []
        for i, keys in enumerate(own):
            parts.append(self._one_size(i, keys))
            if report:
                report(i + 1, len(self.all))
        return np.concatenate(parts)

    def _one_size(self, i: int, keys: Key) -> np.ndarray:
        """[1, shares, replicates, generations]."""
        make = functools.partial(self.make, self.all[i])
        parts = -(-self.replicates // self.at_once[i])
        each = -(-self.replicates // parts)
        keys = keys[np.arange(parts * each) % self.replicates]  # of one length: no other program for the last ones
        found = []
        for j in range(0, parts * each, each):
            record = ensemble(make, jnp.array(self.shares), keys[j : j + each], self.generations)
            found.append(self._checked(jax.tree.map(lambda a: a[None], record), i))
        return np.concatenate(found, 2)[:, :, : self.replicates]

    def _checked(self, record: Any, first: int) -> np.ndarray:
        """The measure [sizes, shares, replicates, generations] of a record of the sizes from `first` on."""
        values = np.asarray(record[self.metric], np.float64)[..., self.at]
        means = values.mean(2)  # [sizes, shares, generations]
        bad = np.argwhere(~((means > 0) & np.isfinite(means)))
        if len(bad):
            i, j, t = bad[0]
            share = f"share {self.shares[j]:g}, " if len(self.shares) > 1 else ""
            raise GenlossError(
                f"'{self.metric}' is {means[i, j, t]:.3g} in the mean over chains at {counted(self.all[first + i])} "
                f"rows, {share}generation {self.at[t]}, and a scaling law is of an error above 0; choose another "
                "measure, or leave such sizes and shares out."
            )
        if not values.std(2).any():
            raise GenlossError(f"'{self.metric}' is the same in every chain, which says nothing of chance.")
        return values


def measure(chain: Chain, metric: str | None) -> str:
    """The measure, which must be one number a generation; where none is named the chain's risk, or its only one."""
    record = jax.eval_shape(lambda k: simulate(chain, k, 1), jax.random.key(0))
    single = [name for name, leaf in record.flat().items() if leaf.shape == (1,)]
    own = [name for name in single if not name.startswith("fit.")]
    if metric is not None:
        if metric not in single:
            raise GenlossError(unknown(metric, single, "The chain has no measure of one number"))
        return metric
    for place, reading in KINDS["risk"].items():
        kind, dot, part = place.partition(".")
        for name, of in named(chain.probes).items():
            if reading == "loss" and of == kind and name + dot + part in own:
                return name + dot + part
    if len(own) == 1:
        return own[0]
    raise GenlossError(f"Say which measure falls with rows, --metric NAME; there are: {', '.join(own) or 'none'}.")


def counted(size: float) -> str:
    return f"{size:,.10g}"


def _by_size(make: Make, shares: Sequence[float], generations: int, sizes: Array, keys: Key) -> Any:
    """Record of every size, with keys of its own [sizes, replicates], leaves [sizes, shares, replicates, ...]."""
    return jax.vmap(lambda n, of: ensemble(functools.partial(make, n), jnp.array(shares), of, generations))(sizes, keys)
