# contaminated.py: 80 % of real digits replaced by a model's own, by other real ones, or filtered by a detector
from functools import partial

from generators import VAE
from generators.nets.mlp import MLP
from simulator import Chain, Dataset, Sweep
from simulator.probes import Downstream
from simulator.recipe import Contaminate, Detector, DropSuspects, Select, Then

arms = Contaminate(0.8), Contaminate(0.8, by="real"), Then(Contaminate(0.8), DropSuspects(Detector(known=0.2)))
chain = Chain(
    source=Dataset.digits(),
    generator=VAE(steps=500, temperature=0.5),  # or Archive(Dataset("DIR")): a stored set
    recipe=Select(arms, 0),
    probes={"downstream": Downstream(partial(MLP, hidden=(64,)))},
    real=400,
    rows=400,
    fresh=400,
)
sweep = Sweep(chain, "recipe.index", {"generated": 0, "other real": 1, "filtered": 2})
generations, replicates = 2, 5
