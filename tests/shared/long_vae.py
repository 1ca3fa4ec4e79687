"""The sweep of `tiny_vae` with long fits, for tests that stop within one and go on."""

import tiny_vae

from simulator import Sweep
from simulator.running import spec

chain = spec.override(tiny_vae.chain, {"generator.steps": 2000, "generator.chunk": 20})
sweep = Sweep(chain, tiny_vae.sweep.path, tiny_vae.sweep.values)
generations = 3
replicates = 2
