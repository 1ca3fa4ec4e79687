"""Where a run lives: one mesh of devices with the axes "chain" and "batch", in one process or in several.

Chains lie side by side on "chain": each device runs the same program on chains of its own, and none speaks to another.
A minibatch is cut along "batch": each device takes the gradient of its rows, and the sum over devices is what all of
them step by.  Everything else (the pool, the parameters of one chain, what is measured) is whole on every device of
"batch".  Random numbers depend on keys alone, so the numbers of a run do not depend on its mesh, but for rounding:

* "chain": nothing is summed over devices.  A device computes as many chains side by side as it has, and for another
  number of them, or in another program, the compiler may take terms in another order (1e-7); on the same mesh all bits
  are the same, in one process or in several.
* "batch": the sum over rows is taken in parts, so steps differ in their last bits (1e-7), and training amplifies that
  as it does any rounding.  Between processes another routine takes the sum (gloo, on CPU), again with other last bits.

A run that was stopped and goes on with the mesh and the processes it had equals the uninterrupted one to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from simulator.types import Array, GenlossError

WHOLE = PartitionSpec()  # the same on every device


def devices(chain: int = 1, batch: int = 1) -> Mesh:
    """The first chain · batch devices, those of one chain next to each other."""
    if chain < 1 or batch < 1:
        raise GenlossError(f"A mesh of {chain} x {batch} devices has none; give at least 1 for each axis.")
    there = jax.devices()
    if chain * batch > len(there):
        raise GenlossError(
            f"A mesh of {chain} x {batch} needs {chain * batch} devices and there are {len(there)}; make it smaller."
        )
    if jax.process_count() > 1 and chain * batch < len(there):
        raise GenlossError(
            f"Several processes share a mesh of all their {len(there)} devices, and {chain} x {batch} are "
            f"{chain * batch}; make it larger."
        )
    return Mesh(
        np.array(there[: chain * batch]).reshape(chain, batch),
        ("chain", "batch"),
        axis_types=(AxisType.Auto, AxisType.Auto),
    )


@dataclass(frozen=True)
class Layout:
    """How the chains of a run lie on a mesh: the axis of replicates along "chain", or else that of settings."""

    mesh: Mesh
    values: PartitionSpec  # of the settings' values, [settings]
    keys: PartitionSpec  # of the replicates' keys, [replicates]
    states: PartitionSpec  # of states and records, [(settings,) (replicates,) ...]

    @classmethod
    def of(cls, mesh: Mesh, settings: int | None, replicates: int | None) -> Layout:
        n, along = mesh.shape["chain"], PartitionSpec("chain")
        if replicates is not None and replicates % n == 0:
            return cls(mesh, WHOLE, along, along if settings is None else PartitionSpec(None, "chain"))
        if settings is not None and settings % n == 0:
            return cls(mesh, along, WHOLE, along)
        if n == 1:
            return cls(mesh, WHOLE, WHOLE, WHOLE)
        have = " x ".join(str(size) for size in (settings, replicates) if size is not None) or "1"
        raise GenlossError(
            f"{n} devices cannot share {have} chains evenly; make the number of replicates a multiple of {n}, "
            "or the axis 'chain' of the mesh smaller."
        )

    def jit(
        self,
        piece: Callable[..., Any],
        axes: Sequence[int | None],
        donated: Sequence[int] = (),
        options: dict[str, Any] | None = None,
    ) -> Callable[..., Any]:
        """A piece `(values, keys, *arguments)` of many chains, compiled so that each device does it for its own.

        `axes` says of each further argument whether it has the axes of states (0) or is the same for all (None);
        `options` are the compiler's.
        """
        layouts = (self.values, self.keys, *(WHOLE if axis is None else self.states for axis in axes))
        # Manual along "chain", where every device is alone; along "batch" the compiler divides what `spread` cuts.
        local = jax.shard_map(
            piece,
            mesh=self.mesh,
            in_specs=layouts,
            out_specs=self.states,
            axis_names={"chain"},
            check_vma=False,  # nothing is summed over "chain"
        )
        results = NamedSharding(self.mesh, self.states)
        compiled = jax.jit(local, out_shardings=results, donate_argnums=donated, compiler_options=options)
        return lambda *arguments: compiled(*map(self.placed, layouts, arguments))

    def placed(self, layout: PartitionSpec, tree: Any) -> Any:
        """Leaves on the mesh; those that are there stay as they are."""
        sharding = NamedSharding(self.mesh, layout)

        def put(leaf: Array) -> Array:
            if isinstance(leaf, jax.Array) and leaf.sharding.device_set == sharding.device_set:
                return leaf
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                return jax.random.wrap_key_data(put(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
            host = np.asarray(leaf)
            return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

        return jax.tree.map(put, tree)


def spread(rows: Any) -> Any:
    """A minibatch, leaves [batch, ...], cut along "batch" where a mesh with that axis is computed on."""
    mesh = jax.sharding.get_abstract_mesh()
    n = mesh.shape.get("batch", 1)
    if n == 1:
        return rows
    size = jax.tree.leaves(rows)[0].shape[0]
    if size % n:
        raise GenlossError(f"{n} devices cannot share a batch of {size} rows evenly; make it a multiple of {n}.")
    return jax.lax.with_sharding_constraint(rows, PartitionSpec("batch"))
