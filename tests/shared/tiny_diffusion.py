"""A sweep of a small diffusion transformer, for tests that write it for diffusers."""

from generators.diffusion import Diffusion
from generators.nets.dit import DiT
from simulator import Chain, Dataset, Sweep
from simulator.recipe import Accumulate, Replace, Select

chain = Chain(
    source=Dataset.digits(),
    generator=Diffusion(
        network=DiT(patch_size=4, num_attention_heads=2, attention_head_dim=8, num_layers=1),
        steps=4,
        chunk=2,
        batch=16,
        sample_steps=3,
    ),
    recipe=Select((Replace(), Accumulate()), 0),
    real=40,
    rows=40,
    held_out=40,
)
sweep = Sweep(chain, "recipe.index", {"replace": 0, "accumulate": 1})
generations = 2
replicates = 2
