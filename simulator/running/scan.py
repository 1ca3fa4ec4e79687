"""All generations of a chain, or of an ensemble of chains, as one compiled program."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from simulator.chain import Chain
from simulator.numerics.chance import fold_in
from simulator.running.mesh import Layout
from simulator.types import Key, Record


def simulate(chain: Chain, key: Key, generations: int) -> Record:
    """All generations as one compiled `lax.scan`; leaves of the record are [generations, ...].

    May itself be vmapped over `key`.  The same chain object is compiled once for every number of generations.  Inside
    one program nothing can be raised: a weight that is negative, infinite or NaN shows as a `fit.mass` of NaN, an empty
    diet as one of 0, rows or a loss that are NaN as NaN in what is measured of them, where `run` would stop.
    """
    return _simulate(chain, key, generations)


def _scan(chain: Chain, key: Key, generations: int) -> Record:
    state = chain.init(key, generations)
    return jax.lax.scan(lambda s, t: chain.step(fold_in(key, t), s), state, jnp.arange(generations))[1]


_simulate = functools.partial(jax.jit, static_argnums=(0, 2))(_scan)


def ensemble(make: Callable[[Any], Chain], grid: Any, keys: Key, generations: int, mesh: Mesh | None = None) -> Record:
    """`simulate` for every value of `grid` and every key, as one program; leaves are [grid, keys, generations, ...].

    `grid` is an array or a pytree of arrays [grid, ...]; `make(value)` returns the chain at one value, which may sit
    anywhere no shape depends on.  All values see the same keys: common random numbers.  The same `make` is compiled
    once.  The devices of a mesh (`simulator.running.mesh.devices`) share the keys, or else the values.
    """
    grid = jax.tree.map(jnp.asarray, grid)
    settings = jax.tree.leaves(grid)[0].shape[0]
    for i in range(settings):
        make(jax.tree.map(lambda a, i=i: a[i], grid))  # inside the program, values are not there to be checked
    work = functools.partial(_ensemble, make, generations)
    return (work if mesh is None else Layout.of(mesh, settings, keys.shape[0]).jit(work, ()))(grid, keys)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _ensemble(make: Callable[[Any], Chain], generations: int, grid: Any, keys: Key) -> Record:
    return jax.vmap(lambda value: jax.vmap(lambda key: _scan(make(value), key, generations))(keys))(grid)


def each(make: Callable[[Any], Chain], grid: Any, keys: Key, generations: int) -> Record:
    """`simulate` for every value of `grid` with a key of its own, as one program; leaves are [grid, generations, ...].

    For curves over the grid: chains that share keys tell its values apart better, chains that do not tell the curve's
    level better.  The same `make` is compiled once for every number of values.
    """
    return _each(make, generations, jax.tree.map(jnp.asarray, grid), keys)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _each(make: Callable[[Any], Chain], generations: int, grid: Any, keys: Key) -> Record:
    return jax.vmap(lambda value, key: _scan(make(value), key, generations))(grid, keys)
